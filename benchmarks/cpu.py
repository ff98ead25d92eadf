"""CPU time that a server spends on a request."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from benchmarks.blast import Blast
from benchmarks.figures import Figure, MeasurementError, span
from benchmarks.rounds import interleaved
from graceful.rehearse.model import Service
from rig.replica import Replica, graceful_run, uvicorn

_ROUNDS: Final = 12
_BAR: Final = 1.02
_MOST_SPREAD: Final = 0.03  # uvicorn differs from itself by 1 to 3 % on a quiet machine
_TURNS: Final = 40
_REQUESTS: Final = 500
_WARM_UP: Final = 2_000
# So many that the server never waits: one that does pays for waking up, as often as chance will have it.
_CONNECTIONS: Final = 64
_APP: Final = "benchmarks.apps.hello:app"


def measure(*, quick: bool) -> Iterator[Figure]:
    """Against uvicorn in pairs, less by how much uvicorn deviates from itself in the same rounds."""
    options = _loop_and_parser()
    services = (uvicorn(_APP, *options), graceful_run(_APP, *options), uvicorn(_APP, *options))
    rounds = [_round(services) for _ in range(3 if quick else _ROUNDS)]
    ratios, itself = ([_ratio(turns[which], turns[0]) for turns in rounds] for which in (1, 2))
    theirs, ours, _ = ([statistics.median(turns[which]) for turns in rounds] for which in range(3))
    ratio, spread = statistics.median(ratios), statistics.median(abs(value - 1.0) for value in itself)
    yield Figure(
        name="CPU time per request, against uvicorn, less the spread",
        measured=ratio - spread,
        bar=_BAR,
        unit="x",
        sound=spread <= _MOST_SPREAD,
        spread=f"{ratio:.4f} less {spread:.4f}, {len(ratios)} pairs",
        notes=[
            f"graceful run to uvicorn {span(ratios)}, uvicorn to uvicorn {span(itself)}",
            f"{span(ours, scale=1e6)} to {span(theirs, scale=1e6)} microseconds, {' '.join(options)}",
        ],
        detail={"ratios": ratios, "itself": itself, "graceful_seconds": ours, "uvicorn_seconds": theirs},
    )


def _loop_and_parser() -> tuple[str, ...]:
    loop = "uvloop" if importlib.util.find_spec("uvloop") else "asyncio"
    parser = "httptools" if importlib.util.find_spec("httptools") else "h11"
    return ("--loop", loop, "--http", parser)


def _round(services: Sequence[Service]) -> list[list[float]]:
    """What one request costs each of these, started afresh, in many turns that are short beside the machine's
    moods.
    """
    with contextlib.ExitStack() as stack:
        measures = []
        for service in services:
            replica = stack.enter_context(Replica(service))
            replica.wait_until_ready()
            blast = stack.enter_context(Blast(replica.port, connections=_CONNECTIONS))
            blast.ask(_WARM_UP)
            measures.append(functools.partial(_seconds, replica.pid, blast))
        return interleaved(_TURNS, measures)


def _ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Turn by turn, as neighbours in time have met the same noise."""
    return statistics.median(own / other for own, other in zip(ours, theirs, strict=True))


def _seconds(pid: int, blast: Blast) -> float:
    before = _cpu_seconds(pid)
    blast.ask(_REQUESTS)
    return (_cpu_seconds(pid) - before) / _REQUESTS


def _cpu_seconds(pid: int) -> float:
    """User and system time of all threads, from the scheduler's own account, which counts nanoseconds.

    /proc/PID/stat counts ticks of 10 ms.
    """
    threads = Path(f"/proc/{pid}/task")
    if not threads.is_dir():
        message = "the CPU time of another process is read from Linux's /proc/PID/task, which is not here"
        raise MeasurementError(message)
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads.iterdir()) / 1e9
