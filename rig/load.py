"""An open loop of requests: they are sent when they are due, whatever became of those before, and each is
written down.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from rig.client import Connection, EndedError, Outcome, Request

_ANSWER_WITHIN_SECONDS: Final = 10.0


class Endpoints:
    """The ports that new connections go to, as kube-proxy's rules: those that are there already flow on."""

    def __init__(self, ports: Iterable[int] = ()) -> None:
        self.listed = list(ports)

    def add(self, port: int) -> None:
        """New connections go there too."""
        self.listed.append(port)

    def remove(self, port: int) -> None:
        """No new connection goes there."""
        self.listed.remove(port)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One request: when it was due, sent and over, in seconds of the loop's clock, to which port, and what
    became of it.
    """

    kind: str
    port: int
    kept: bool
    due: float
    sent: float
    ended: float
    outcome: Outcome
    detail: str = ""

    @property
    def lost(self) -> bool:
        """It was not answered whole and right."""
        return self.outcome is not Outcome.ANSWERED

    @property
    def late(self) -> float:
        """By how many seconds we sent it too late: our own fault, not the server's."""
        return self.sent - self.due


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """All requests that are over, in the order in which they ended."""

    entries: list[Entry] = field(default_factory=list)

    @property
    def lost(self) -> list[Entry]:
        """Those that were not answered whole and right."""
        return [entry for entry in self.entries if entry.lost]

    def outcomes(self) -> Counter[Outcome]:
        """How many requests met which outcome."""
        return Counter(entry.outcome for entry in self.entries)

    def lateness(self, share: float) -> float:
        """By how many seconds the punctual `share` (0 to 1) of the requests was late at most."""
        late = sorted(entry.late for entry in self.entries)
        return late[min(len(late) - 1, int(len(late) * share))] if late else 0.0


class Load:
    """Sends `rate` requests a second, every second one on one of `kept` connections, the others on a
    connection of their own.

    `choose` makes the next request. The same `seed` gives the same requests on the same kinds of connections.
    """

    def __init__(
        self,
        endpoints: Endpoints,
        choose: Callable[[random.Random], Request],
        *,
        rate: float,
        kept: int,
        seed: int = 1,
    ) -> None:
        self.ledger = Ledger()
        self._endpoints = endpoints
        self._choose = choose
        self._rate = rate
        self._requests = random.Random(seed)  # noqa: S311 - load, not secrets
        # Another one, since how often it is asked depends on the servers.
        self._routes = random.Random(seed)  # noqa: S311
        self._idle = [self.connection() for _ in range(kept)]

    async def run(self, stop: asyncio.Event) -> Ledger:
        """Send until `stop` is set; on return all that were sent are over and all connections are closed."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with asyncio.TaskGroup() as sending:
            number = 0
            while not stop.is_set():
                due = began + number / self._rate
                request, kept = self._choose(self._requests), number % 2 == 0
                number += 1
                if loop.time() < due:  # if not, we are late, and those that are due go out at once
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout_at(due):
                            await stop.wait()
                            break
                sending.create_task(self._send(request, kept=kept, due=due))
        for connection in self._idle:
            connection.close()
        return self.ledger

    def connection(self, port: int | None = None) -> Connection:
        """A new connection to `port`, or to one of those listed."""
        return Connection(self._routes.choice(self._endpoints.listed) if port is None else port)

    async def ask(self, connection: Connection, request: Request, *, kept: bool, due: float) -> Connection:
        """Send `request` now and write down what became of it.

        Returns the connection that it went by: another one if this had ended.
        """
        loop = asyncio.get_running_loop()
        sent = loop.time()
        try:
            verdict = await connection.ask(request, timeout=_ANSWER_WITHIN_SECONDS)
        except EndedError:
            connection = self.connection()
            verdict = await connection.ask(request, timeout=_ANSWER_WITHIN_SECONDS)
        self.ledger.entries.append(
            Entry(
                kind=request.kind,
                port=connection.port,
                kept=kept,
                due=due,
                sent=sent,
                ended=loop.time(),
                outcome=verdict.outcome,
                detail=verdict.detail,
            )
        )
        return connection

    async def _send(self, request: Request, *, kept: bool, due: float) -> None:
        if kept and self._idle:
            connection = self._idle.pop(self._routes.randrange(len(self._idle)))
        else:  # one more where all kept ones are busy
            connection = self.connection()
        connection = await self.ask(connection, request, kept=kept, due=due)
        if kept:
            self._idle.append(connection)
        else:
            connection.close()
