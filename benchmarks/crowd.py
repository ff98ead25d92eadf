"""Two thousand idle connections and five hundred requests in flight when the signal comes."""

from __future__ import annotations

import asyncio
import resource
from collections import Counter
from collections.abc import Iterator
from typing import Final

from benchmarks.figures import Figure, MeasurementError, shares
from benchmarks.flight import answered, sleep, until_in_flight
from graceful.rehearse.client import Connection
from graceful.rehearse.model import Outcome, RequestSpec, Service
from graceful.rehearse.wires import Address
from rig.replica import Exit, Replica, graceful_run, uvicorn

_IDLE: Final = 2_000
_IN_FLIGHT: Final = 500
_REQUEST_SECONDS: Final = 1.0
_AFTER_LAST_BAR: Final = 0.5
_WITHIN_SECONDS: Final = 20.0
_AT_ONCE: Final = 100
_FILES: Final = 2 * (_IDLE + _IN_FLIGHT)
_APP: Final = "benchmarks.apps.slow:app"
_HELLO: Final = RequestSpec(expected=b"ok")


def measure(*, quick: bool) -> Iterator[Figure]:
    """Lame duck 0. Also when quick: it takes three seconds a server."""
    del quick
    _allow_files()
    for service, bars in ((graceful_run(_APP), (0.0, _AFTER_LAST_BAR)), (uvicorn(_APP), (None, None))):
        outcomes, seconds, exit_ = asyncio.run(_end(service))
        yield Figure(
            name=f"unanswered of {_IN_FLIGHT} beside {_IDLE} idle: {service.name}",
            measured=outcomes.total() - outcomes[Outcome.ANSWERED],
            bar=bars[0],
            spread=shares(outcomes),
            detail={"outcomes": outcomes},
        )
        yield Figure(
            name=f"the last of these to exit: {service.name}",
            measured=seconds,
            bar=bars[1],
            unit="s",
            spread=f"exit code {exit_.code}",
        )


def _allow_files() -> None:
    """Raise this process's soft limit of open files, which the servers inherit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= _FILES:
        return
    if hard != resource.RLIM_INFINITY and hard < _FILES:
        message = f"{hard} files may be open at once, {_FILES} are needed: raise the hard limit (ulimit -Hn)"
        raise MeasurementError(message)
    resource.setrlimit(resource.RLIMIT_NOFILE, (_FILES, hard))


async def _end(service: Service) -> tuple[Counter[Outcome], float, Exit]:
    """What became of the requests in flight, the seconds from the last answer to the exit, and the exit.

    The server has only to hand its answers to the kernel: gone before we had read them all, it took no time.
    """
    with Replica(service) as replica:
        await asyncio.to_thread(replica.wait_until_ready)
        connections = await _connected(replica)
        busy = connections[:_IN_FLIGHT]
        asks = (answered(each, sleep(_REQUEST_SECONDS), within=_WITHIN_SECONDS) for each in busy)
        asking = [asyncio.create_task(ask) for ask in asks]
        await until_in_flight(replica.port, _IN_FLIGHT)
        replica.terminate()
        answers = await asyncio.gather(*asking)
        last = max(at for _, at in answers)
        async with asyncio.timeout(_WITHIN_SECONDS):
            ended = await asyncio.wrap_future(replica.exit)
        for connection in connections:
            connection.close()
        return Counter(result.outcome for result, _ in answers), max(0.0, ended.at - last), ended


async def _connected(replica: Replica) -> list[Connection]:
    """All connections, open and kept: each has had an answer."""
    connections = [Connection(Address(port=replica.port)) for _ in range(_IDLE + _IN_FLIGHT)]
    for first in range(0, len(connections), _AT_ONCE):
        some = connections[first : first + _AT_ONCE]
        results = await asyncio.gather(*(each.ask(_HELLO, within=_WITHIN_SECONDS) for each in some))
        if any(result.outcome is not Outcome.ANSWERED for result in results):
            message = f"{replica.service.name} does not answer even before the signal: {results}"
            raise MeasurementError(message)
    return connections
