"""An open loop of requests: they are sent when they are due, whatever became of those before, and each is
written down.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from dataclasses import dataclass

from graceful.errors import GracefulError
from graceful.rehearse.client import Connection, EndedError, Result
from graceful.rehearse.endpoints import Endpoints
from graceful.rehearse.model import Entry, LoadPlan, Outcome, RequestSpec

NOBODY = "no endpoint"
"""The replica of a request that no endpoint was listed for."""


class LoadError(GracefulError):
    """The load cannot be sent, for a reason of this machine's: too many open files, no port left."""

    def __init__(self, problem: OSError) -> None:
        why = problem.strerror or str(problem)
        super().__init__(f"the load cannot be sent: {why}; lower --rate, or raise the limit (ulimit -n)")
        self.problem = problem


@dataclass(slots=True)
class _Kept:
    """A connection, and the replica that it leads to."""

    replica: str
    connection: Connection


class Load:
    """Sends `plan.rate` requests a second, every second one on one of `plan.kept` connections, the others on
    a connection of their own.

    The same seed gives the same requests on the same kinds of connections. No request is sent twice: one
    whose kept connection has ended before it was sent goes by another, as RFC 9112, 9.3.1 lets a client do.
    """

    def __init__(self, plan: LoadPlan, endpoints: Endpoints) -> None:
        self.entries: list[Entry] = []
        self._plan = plan
        self._endpoints = endpoints
        self._requests = random.Random(plan.seed)  # noqa: S311 - load, not secrets
        # Another one, since how often it is asked depends on the servers.
        self._routes = random.Random(plan.seed)  # noqa: S311 - as above
        self._idle: list[_Kept] = []

    async def run(self, stop: asyncio.Event) -> None:
        """Send until `stop` is set; on return all that were sent are over and all connections are closed.
        Raises LoadError, alone or in a group.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with asyncio.TaskGroup() as sending:
            number = 0
            while not stop.is_set():
                due = began + number / self._plan.rate
                request, kept = self._choose(), number % 2 == 0
                number += 1
                if loop.time() < due:  # if not, we are late, and those that are due go out at once
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout_at(due):
                            await stop.wait()
                            break
                else:
                    await asyncio.sleep(0)  # even then those that are under way have their turn
                sending.create_task(self._send(request, stop, kept=kept, due=due))
        for each in self._idle:
            each.connection.close()

    def _choose(self) -> RequestSpec:
        requests = self._plan.requests
        return self._requests.choices(requests, [each.weight for each in requests])[0]

    async def _send(self, request: RequestSpec, stop: asyncio.Event, *, kept: bool, due: float) -> None:
        via = self._idle.pop(self._routes.randrange(len(self._idle))) if kept and self._idle else self._open()
        sent = asyncio.get_running_loop().time()
        result = Result(outcome=Outcome.REFUSED, detail="no endpoint is listed")
        if via is not None:
            try:
                result = await self._ask(via, request)
            except EndedError:
                via = self._open()
                if via is not None:
                    result = await self._ask(via, request)
        if via is None and stop.is_set():  # that nobody is listed any more is the end, and no loss
            return
        self.entries.append(
            Entry(
                kind=request.kind,
                replica=NOBODY if via is None else via.replica,
                kept=kept,
                due=due,
                sent=sent,
                ended=asyncio.get_running_loop().time(),
                outcome=result.outcome,
                detail=result.detail,
            )
        )
        if via is not None and kept and len(self._idle) < self._plan.kept:
            self._idle.append(via)
        elif via is not None:
            via.connection.close()

    async def _ask(self, via: _Kept, request: RequestSpec) -> Result:
        try:
            return await via.connection.ask(request, within=self._plan.timeout)
        except OSError as problem:
            raise LoadError(problem) from problem

    def _open(self) -> _Kept | None:
        chosen = self._endpoints.choose(self._routes)
        return None if chosen is None else _Kept(chosen[0], Connection(chosen[1]))


def lateness(entries: list[Entry], share: float = 0.99) -> float:
    """By how many seconds the punctual `share` (0 to 1) of the requests was late at most."""
    late = sorted(entry.late for entry in entries)
    return late[min(len(late) - 1, int(len(late) * share))] if late else 0.0
