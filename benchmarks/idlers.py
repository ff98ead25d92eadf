"""Users whose kept connections idle through a whole lame duck and are used again at its very end."""

from __future__ import annotations

import asyncio
from typing import Final

from graceful.rehearse.client import Connection, EndedError
from graceful.rehearse.model import Entry, Event, Happening, Plan, Rehearsal, RequestSpec
from graceful.rehearse.rollout import Rollout

LEAD: Final = 0.2
"""Seconds of preStop that a plan needs: in these the connections are used before they idle."""

# How long after the lame duck each is used again. The first comes at the very moment of its end.
_WAKE_AFTER_SECONDS: Final = (0.0, 0.01, 0.1, 0.2, 0.3, 0.4)
_WITHIN_SECONDS: Final = 10.0
_QUICK: Final = RequestSpec(path="/fast", expected=b"fast")


class Idlers:
    """Rehearses a plan, with a few such connections to each replica that is taken away.

    `lame_duck` is that of the service, in seconds. `entries` are their requests, before the signal and after.
    `ended` counts connections that the server had ended by the time of their use: nobody loses by that.
    """

    def __init__(self, plan: Plan, *, lame_duck: float) -> None:
        self.entries: list[Entry] = []
        self.ended = 0
        self._lame_duck = lame_duck
        self._rollout = Rollout(plan, self._hear)
        self._tasks = asyncio.TaskGroup()
        self._idle: dict[str, list[Connection]] = {}

    async def rehearse(self) -> Rehearsal:
        """What the rollout has seen; it is over on return, and all connections are closed."""
        async with self._tasks:
            return await self._rollout.run()

    def _hear(self, event: Event) -> None:
        if event.what is Happening.TAKEN_AWAY:
            address = self._rollout.address_of(event.replica)
            self._idle[event.replica] = [Connection(address) for _ in _WAKE_AFTER_SECONDS]
            for connection in self._idle[event.replica]:
                self._tasks.create_task(self._use(connection, event.replica, due=event.at))
        elif event.what is Happening.SIGNALLED:
            for connection, after in zip(self._idle.pop(event.replica), _WAKE_AFTER_SECONDS, strict=True):
                self._tasks.create_task(self._wake(connection, event, after=after))

    async def _wake(self, connection: Connection, signal: Event, *, after: float) -> None:
        due = signal.at + self._lame_duck + after
        await asyncio.sleep(due - asyncio.get_running_loop().time())
        try:
            await self._use(connection, signal.replica, due=due, signalled=signal.at)
        except EndedError:
            self.ended += 1
        finally:
            connection.close()

    async def _use(
        self, connection: Connection, replica: str, *, due: float, signalled: float | None = None
    ) -> None:
        loop = asyncio.get_running_loop()
        sent = loop.time()
        result = await connection.ask(_QUICK, within=_WITHIN_SECONDS)
        entry = Entry(
            kind=_QUICK.kind,
            replica=replica,
            kept=True,
            due=due,
            sent=sent,
            ended=loop.time(),
            outcome=result.outcome,
            detail=result.detail,
            after_signal=None if signalled is None else sent - signalled,
        )
        self.entries.append(entry)
