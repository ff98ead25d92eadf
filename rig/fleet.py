"""Replicas of one service behind an endpoint list that learns late, and their rolling restart."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import Final, Self

from rig.load import Endpoints, Entry
from rig.replica import Command, Exit, Replica

_EXIT_WITHIN_SECONDS: Final = 40.0


class Moment(StrEnum):
    """What happens in a restart, for those who want to watch."""

    SIGNALLED = "signalled"
    READY = "successor ready and listed"
    REMOVED = "not listed any more"
    ENDED = "ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class Restart:
    """A restart: the port that was taken away, how many seconds its process lived after the signal, and its
    end.
    """

    port: int
    seconds: float
    exit: Exit


class Fleet:
    """`size` replicas of `command`. As an async context manager they are ready in the block and have ended
    after it.

    `observe` is told each moment of a restart, with the replica that it is about.
    """

    def __init__(
        self,
        command: Command,
        size: int,
        *,
        observe: Callable[[Moment, Replica], object] = lambda _moment, _replica: None,
    ) -> None:
        self.endpoints = Endpoints()
        self.signalled: dict[int, float] = {}
        self._command = command
        self._size = size
        self._observe = observe
        self._replicas: list[Replica] = []
        self._started: list[Replica] = []

    async def __aenter__(self) -> Self:
        try:
            self._replicas = [self._start() for _ in range(self._size)]
            await asyncio.gather(*(asyncio.to_thread(replica.wait_until_ready) for replica in self._replicas))
        except BaseException:
            self._end()
            raise
        for replica in self._replicas:
            self.endpoints.add(replica.port)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, where: TracebackType | None
    ) -> None:
        self._end()

    @property
    def oldest(self) -> Replica:
        """The replica that is restarted next."""
        return self._replicas[0]

    async def restart(self, *, removal_lag: float) -> Restart:
        """Replace the oldest replica: SIGTERM, and at the same moment the start of its successor.

        That one is listed once it is ready; the old one stays listed for `removal_lag` seconds. On return the
        old one has ended, its removal is done, and the new one is ready. An exception group with a
        TimeoutError is raised if it does not end, with a NotReadyError if the new one does not become ready.
        """
        old = self._replicas.pop(0)
        signalled = self.signalled[old.port] = old.terminate()
        self._observe(Moment.SIGNALLED, old)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._unlist(old, at=signalled + removal_lag))
            group.create_task(self._succeed())
            ended = await self._ended(old)
        return Restart(port=old.port, seconds=ended.at - signalled, exit=ended)

    def after_signal(self, entry: Entry) -> float | None:
        """How many seconds after the signal to its replica a request was sent; negative: before.

        None: that replica had no signal.
        """
        return entry.sent - self.signalled[entry.port] if entry.port in self.signalled else None

    async def _succeed(self) -> None:
        new = self._start()
        self._replicas.append(new)
        await asyncio.to_thread(new.wait_until_ready)
        self.endpoints.add(new.port)
        self._observe(Moment.READY, new)

    async def _unlist(self, old: Replica, *, at: float) -> None:
        await asyncio.sleep(at - asyncio.get_running_loop().time())
        self.endpoints.remove(old.port)
        self._observe(Moment.REMOVED, old)

    async def _ended(self, old: Replica) -> Exit:
        async with asyncio.timeout(_EXIT_WITHIN_SECONDS):
            ended = await asyncio.wrap_future(old.exit)
        self._observe(Moment.ENDED, old)
        return ended

    def _start(self) -> Replica:
        replica = Replica(self._command)
        self._started.append(replica)
        return replica

    def _end(self) -> None:
        for replica in self._started:
            replica.close()
