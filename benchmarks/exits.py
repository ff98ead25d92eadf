"""How long a process lives on when it has nothing left to do: after the signal if it is idle, else after its
last response.
"""

from __future__ import annotations

import asyncio
import functools
import random
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Final

from benchmarks.figures import Figure, MeasurementError, span
from benchmarks.flight import answered, sleep, until_in_flight
from benchmarks.rounds import interleaved
from graceful.rehearse.client import Connection
from graceful.rehearse.model import Outcome, Service
from graceful.rehearse.wires import Address
from rig.replica import Replica, graceful_run, uvicorn

_ROUNDS: Final = 20
_APP: Final = "benchmarks.apps.slow:app"
_IDLE_BAR: Final = 0.1
_AFTER_RESPONSE_BAR: Final = 0.2
_EXIT_WITHIN_SECONDS: Final = 10.0
_REQUEST_SECONDS: Final = 0.5

# A server that ticks ten times a second meets the signal somewhere between two ticks.
_TICK_SECONDS: Final = 0.1


def measure(*, quick: bool) -> Iterator[Figure]:
    """Lame duck 0, as uvicorn has none."""
    rounds = 3 if quick else _ROUNDS
    yield _ratio("SIGTERM to exit when idle, against uvicorn", _idle, rounds, _IDLE_BAR)
    yield _ratio("last response to exit, against uvicorn", _after_last_response, rounds, _AFTER_RESPONSE_BAR)


def _ratio(name: str, seconds: Callable[[Service], float], rounds: int, bar: float) -> Figure:
    services = (graceful_run(_APP), uvicorn(_APP))
    ours, theirs = interleaved(rounds, [functools.partial(seconds, service) for service in services])
    return Figure(
        name=name,
        measured=statistics.median(ours) / statistics.median(theirs),
        bar=bar,
        unit="x",
        spread=f"{span(ours, scale=1e3)} to {span(theirs, scale=1e3)} ms, {rounds} rounds",
        detail={"graceful_seconds": ours, "uvicorn_seconds": theirs},
    )


def _idle(service: Service) -> float:
    with Replica(service) as replica:
        replica.wait_until_ready()
        time.sleep(random.uniform(_TICK_SECONDS, 2 * _TICK_SECONDS))  # noqa: S311 - see above
        signalled = replica.terminate()
        return replica.exit.result(_EXIT_WITHIN_SECONDS).at - signalled


def _after_last_response(service: Service) -> float:
    with Replica(service) as replica:
        replica.wait_until_ready()
        last = asyncio.run(_last_response(replica))
        return replica.exit.result(_EXIT_WITHIN_SECONDS).at - last


async def _last_response(replica: Replica) -> float:
    """A request is in flight, the signal comes; returns when the last byte of its answer has come, on the
    monotonic clock.
    """
    connection = Connection(Address(port=replica.port))
    asking = asyncio.create_task(answered(connection, sleep(_REQUEST_SECONDS), within=_EXIT_WITHIN_SECONDS))
    await until_in_flight(replica.port, 1)
    replica.terminate()
    result, at = await asking
    if result.outcome is not Outcome.ANSWERED:
        message = f"{replica.service.name}: the request in flight was not answered: {result}"
        raise MeasurementError(message)
    return at
