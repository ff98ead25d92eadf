"""What `import graceful` costs beside what it depends on, and a service imports anyway."""

from __future__ import annotations

import functools
import statistics
import subprocess
import sys
from collections.abc import Iterator
from typing import Final

from benchmarks.figures import Figure, MeasurementError, span
from benchmarks.rounds import interleaved
from rig.replica import ROOT

_ROUNDS: Final = 20
_BAR: Final = 1.3
_THEIRS: Final = "import uvicorn, starlette, prometheus_client"
_OURS: Final = ("import graceful", "from graceful import Runtime")
_TIMEOUT_SECONDS: Final = 30.0
# What it takes to run a service, and how many modules of the rehearsal, or of its extra alone, came with it.
_RUN: Final = "import graceful.cli.run, graceful.runtime, graceful.servers.owned"
_EXTRA: Final = ("graceful.rehearse", "graceful.cli.rehearse", "yaml", "websockets")


def measure(*, quick: bool) -> Iterator[Figure]:
    """The interpreter's own start is not counted."""
    rounds = 3 if quick else _ROUNDS
    statements = (_THEIRS, *_OURS)
    measures = [functools.partial(_seconds, statement) for statement in statements]
    interleaved(1, measures)  # compiles what has not been compiled yet
    theirs, *ours = interleaved(rounds, measures)
    for statement, seconds in zip(_OURS, ours, strict=True):
        medians = statistics.median(seconds) / statistics.median(theirs)
        yield Figure(
            name=f"`{statement}`, against its dependencies",
            measured=min(seconds) / min(theirs),
            bar=_BAR,
            unit="x",
            spread=f"{span(seconds, scale=1e3)} to {span(theirs, scale=1e3)} ms; of medians {medians:.3g}",
            detail={"graceful_seconds": seconds, "others_seconds": theirs},
        )
    count = f"import sys; print(sum(name.startswith({_EXTRA!r}) for name in sys.modules))"
    yield Figure(
        name="modules of the extra `rehearse` that `graceful run` imports",
        measured=_printed(f"{_RUN}\n{count}", _RUN),
        bar=0.0,
        spread="of " + ", ".join(_EXTRA),
    )


def _seconds(statement: str) -> float:
    program = f"import time; began = time.perf_counter()\n{statement}\nprint(time.perf_counter() - began)"
    return _printed(program, statement)


def _printed(program: str, statement: str) -> float:
    command = [sys.executable, "-c", program]
    try:
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=_TIMEOUT_SECONDS
        )
    except subprocess.CalledProcessError as problem:
        message = f"`{statement}` failed: {problem.stderr}"
        raise MeasurementError(message) from problem
    return float(done.stdout)
