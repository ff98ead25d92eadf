"""What is held open beside the load: streams, event streams and WebSockets, each watched until it ends."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Final

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from graceful.rehearse.client import Connection, Result
from graceful.rehearse.endpoints import Endpoints
from graceful.rehearse.model import Entry, Hold, HoldKind, Outcome, RequestSpec
from graceful.rehearse.wires import Address, insecure, open_socket

_CLOSED_WELL: Final = frozenset({1000, 1001, 1012})  # RFC 6455, 7.4.1, and IANA's "service restart"
_AGAIN_SECONDS: Final = 0.1


class Holds:
    """Keeps what `holds` says open until it is cancelled; each end is an entry."""

    def __init__(
        self, holds: tuple[Hold, ...], endpoints: Endpoints, note: Callable[[Entry], object], *, seed: int
    ) -> None:
        self._holds = holds
        self._endpoints = endpoints
        self._note = note
        self._routes = random.Random(seed)  # noqa: S311 - load, not secrets

    async def run(self) -> None:
        """Never returns by itself. What is open when it is cancelled is closed, and is no entry."""
        async with asyncio.TaskGroup() as holding:
            for hold in self._holds:
                for _ in range(hold.count):
                    holding.create_task(self._keep_open(hold))

    async def _keep_open(self, hold: Hold) -> None:
        loop = asyncio.get_running_loop()
        while True:
            chosen = self._endpoints.choose(self._routes)
            if chosen is not None:
                replica, address = chosen
                began = loop.time()
                result = await self._hold(hold, address)
                self._note(
                    Entry(
                        kind=f"{hold.kind} {hold.path}",
                        replica=replica,
                        kept=True,
                        due=began,
                        sent=began,
                        ended=loop.time(),
                        outcome=result.outcome,
                        detail=result.detail,
                    )
                )
            await asyncio.sleep(_AGAIN_SECONDS)  # a client waits before it connects again

    async def _hold(self, hold: Hold, address: Address) -> Result:
        if hold.kind is HoldKind.WEBSOCKET:
            return await _websocket(hold.path, address)
        headers = (("accept", "text/event-stream"),) if hold.kind is HoldKind.EVENTS else ()
        return await Connection(address).follow(RequestSpec(path=hold.path, headers=headers))


async def _websocket(path: str, address: Address) -> Result:
    """What became of a WebSocket that only listens."""
    url = f"{'wss' if address.tls else 'ws'}://{address.authority}{path}"
    try:
        sock = await open_socket(address)
        async with connect(url, sock=sock, ssl=insecure() if address.tls else None, proxy=None) as socket:
            async for _ in socket:
                pass
            code = socket.close_code
    except ConnectionRefusedError:
        return Result(outcome=Outcome.REFUSED)
    except InvalidHandshake as problem:
        return Result(outcome=Outcome.WRONG, detail=f"no WebSocket: {problem}")
    except ConnectionClosed as problem:
        code = None if problem.rcvd is None else problem.rcvd.code
    except TimeoutError:
        return Result(outcome=Outcome.TIMEOUT, detail="no WebSocket within 10 s")
    except OSError as problem:
        return Result(outcome=Outcome.RESET, detail=type(problem).__name__)
    if code in _CLOSED_WELL:
        return Result(outcome=Outcome.ENDED_WELL, detail=f"closed with {code}")
    return Result(
        outcome=Outcome.TRUNCATED,
        detail="ended without a close frame" if code is None else f"closed with {code}",
    )
