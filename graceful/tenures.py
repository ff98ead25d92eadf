"""What one run holds and must give back: each resource in one task from its acquisition to its release."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Callable
from typing import Any, Protocol

from graceful.acquisition import Access, belongs_on_loop
from graceful.calls import Call

logger = logging.getLogger("graceful")


class Held(Protocol):
    """Something that a run has to give back, or to do, at its end."""

    name: str
    timeout: float | None
    problem: BaseException | None
    """What it raised while it was given back, or while it was acquired."""

    @property
    def acquired(self) -> bool:
        """Whether there is, or was, something to give back."""

    def leave(self) -> asyncio.Task[None]:
        """Begin to give it back. The task is done when that is over, and raises nothing."""

    def give_up(self) -> None:
        """Cancel it. It has lost its value on return, whether or not it accepts that."""

    def stands_at(self) -> str | None:
        """The user's line at which it stands."""


class Tenure:
    """One resource in one run: entered at once, and left in the same task when it is told to.

    The task runs in a copy of the context of its maker. It raises nothing, not even what would fall through
    the event loop otherwise (SystemExit, KeyboardInterrupt): what was raised is kept in `problem`.
    """

    def __init__(self, name: str, timeout: float | None, access: Access) -> None:
        self.name = name
        self.timeout = timeout
        self.acquired = False
        self.holds = False
        self.value: Any = None
        self.problem: BaseException | None = None
        self._access = access
        self._leaving = asyncio.Event()
        loop = asyncio.get_running_loop()
        self._entered: asyncio.Future[None] = loop.create_future()
        self._task = loop.create_task(
            self._live(), name=f"graceful resource {name}", context=contextvars.copy_context()
        )

    async def entered(self) -> BaseException | None:
        """On return it has been acquired; or it could not be, and the answer says why."""
        await asyncio.wait({self._task, self._entered}, return_when=asyncio.FIRST_COMPLETED)
        if self.acquired:
            return None
        # Without a problem the task was cancelled before its first step, by somebody who cancels all tasks.
        return self.problem or asyncio.CancelledError()

    def interrupt(self) -> None:
        """Nobody wants it any more. What is being acquired is cancelled; what a thread acquires cannot be:
        it is left again as soon as it is there.
        """
        self._leaving.set()
        if not self.acquired and not self._access.on_thread:
            self._task.cancel()

    def leave(self) -> asyncio.Task[None]:
        """See Held."""
        self._leaving.set()
        return self._task

    def give_up(self) -> None:
        """See Held."""
        self._drop()
        self._task.cancel()

    def stands_at(self) -> str | None:
        """See Held."""
        return self._access.stands_at()

    async def _live(self) -> None:
        try:
            self.value = await self._access.enter()
        except BaseException as problem:  # noqa: BLE001 - told by `problem`
            self.problem = problem
            return
        self.acquired = self.holds = True
        self._entered.set_result(None)
        try:
            await self._told_to_leave()
            await self._access.leave()
        except BaseException as problem:  # noqa: BLE001 - told by `problem`
            self.problem = problem
        finally:
            self._drop()

    async def _told_to_leave(self) -> None:
        """Wait; but who is cancelled meanwhile leaves. A task group within the resource cancels this task
        when one of its tasks fails, and means it; and when somebody cancels all tasks, the value must be
        given back all the same.
        """
        try:
            await self._leaving.wait()
        except asyncio.CancelledError:
            self._task.uncancel()
            if not self._leaving.is_set():
                logger.warning("resource %s was cancelled while in use; it is released now", self.name)

    def _drop(self) -> None:
        self.holds = False
        self.value = None


class LastCall:
    """One callback in one run. It runs in a copy of the context of its maker, on a thread unless it is
    async.
    """

    acquired = True

    def __init__(self, name: str, timeout: float | None, callback: Callable[[], object]) -> None:
        self.name = name
        self.timeout = timeout
        self.problem: BaseException | None = None
        self._callback = callback
        self._call = Call(f"callback-{name}", on_thread=not belongs_on_loop(callback))
        self._context = contextvars.copy_context()
        self._task: asyncio.Task[None] | None = None

    def leave(self) -> asyncio.Task[None]:
        """See Held."""
        loop = asyncio.get_running_loop()
        name = f"graceful callback {self.name}"
        self._task = loop.create_task(self._run(), name=name, context=self._context)
        return self._task

    def give_up(self) -> None:
        """See Held."""
        if self._task is not None:
            self._task.cancel()

    def stands_at(self) -> str | None:
        """See Held."""
        return self._call.stands_at()

    async def _run(self) -> None:
        try:
            await self._call.result_of(self._callback)
        except BaseException as problem:  # noqa: BLE001 - told by `problem`
            self.problem = problem
        finally:
            self._call.end()
