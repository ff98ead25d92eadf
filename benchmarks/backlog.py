"""Connections that wait in the listener's queue, behind a loop that stands still, when the signal comes."""

from __future__ import annotations

import asyncio
import importlib.util
from collections import Counter
from collections.abc import Iterator
from typing import Final

from benchmarks.apps.slow import BLOCKED
from benchmarks.figures import Figure, MeasurementError, shares
from graceful.rehearse.client import Connection
from graceful.rehearse.model import Outcome, RequestSpec, Service
from graceful.rehearse.wires import HOST, Address
from rig.replica import Replica, graceful_run, uvicorn

_CONNECTIONS: Final = 100
_BLOCKED_SECONDS: Final = 1.0
_WITHIN_SECONDS: Final = 10.0
_APP: Final = "benchmarks.apps.slow:app"
_REQUEST: Final = RequestSpec(expected=b"ok")


def measure(*, quick: bool) -> Iterator[Figure]:
    """Lame duck 0: the listener closes as soon as the loop turns again."""
    rounds = 1 if quick else 3
    for loop in ("asyncio", "uvloop"):
        if importlib.util.find_spec(loop) is None:
            continue
        candidates = ((graceful_run(_APP, "--loop", loop), 0.0), (uvicorn(_APP, "--loop", loop), None))
        for service, bar in candidates:
            outcomes: Counter[Outcome] = Counter()
            for _ in range(rounds):
                outcomes += asyncio.run(_outcomes(service))
            yield Figure(
                name=f"unanswered of {_CONNECTIONS} queued, {loop}: {service.name}",
                measured=(outcomes.total() - outcomes[Outcome.ANSWERED]) / rounds,
                bar=bar,
                spread=f"{shares(outcomes)} in {rounds} rounds",
                detail={"outcomes": outcomes},
            )


async def _outcomes(service: Service) -> Counter[Outcome]:
    now = asyncio.get_running_loop().time
    with Replica(service) as replica:
        await asyncio.to_thread(replica.wait_until_ready)
        reader, writer = await asyncio.open_connection(HOST, replica.port)
        writer.write(f"GET /block?{_BLOCKED_SECONDS} HTTP/1.1\r\nhost: {HOST}\r\n\r\n".encode())
        await reader.readuntil(BLOCKED)
        blocked_at = now()
        connections = [Connection(Address(port=replica.port)) for _ in range(_CONNECTIONS)]
        for connection in connections:
            await connection.open()
        asks = (connection.ask(_REQUEST, within=_WITHIN_SECONDS) for connection in connections)
        asking = [asyncio.create_task(ask) for ask in asks]
        await asyncio.sleep(0)  # each sends its request: a socket that is connected takes so little at once
        if replica.terminate() - blocked_at > _BLOCKED_SECONDS / 2:
            message = "the machine is too busy: the loop may have turned again before the signal came"
            raise MeasurementError(message)
        results = await asyncio.gather(*asking)
        writer.close()
        await asyncio.wrap_future(replica.exit)
        return Counter(result.outcome for result in results)
