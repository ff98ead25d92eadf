"""Who holds a resource for one run: a task, where it is asynchronous, else a thread. Entered and left by the same one, in the context of
the startup.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Final, Protocol

from graceful.errors import ResourceError

# How long a task that was cancelled because its time was up may take to accept that.
_CANCEL_SECONDS: Final = 0.1
_MISUSED: Final = {
    "generator didn't stop": "it yields more than once; yield the value once, and release after it",
    "generator didn't yield": "it never yields; yield the value once, and release after it",
}


class Holder(Protocol):
    """Holds one resource. `problem` is what went wrong last."""

    problem: BaseException | None

    async def enter(self) -> Any:
        """The value, once it has been acquired. Raises what the acquisition raised."""

    async def give_up(self, seconds: float) -> bool:
        """An acquisition that is under way is cancelled; whether it has ended within `seconds`."""

    async def leave(self, seconds: float) -> bool:
        """Give it back; whether that has ended within `seconds`, well or with a `problem`."""


class TaskHolder:
    """One task: enters, waits, leaves."""

    def __init__(self, target: Any, name: str) -> None:
        self._target = target
        self._name = name
        self._task: asyncio.Task[None] | None = None
        self.problem: BaseException | None = None

    async def enter(self) -> Any:
        """See Holder."""
        loop = asyncio.get_running_loop()
        self._entered: asyncio.Future[Any] = loop.create_future()
        self._leave = asyncio.Event()
        self._task = loop.create_task(self._hold(), name=f"resource {self._name}")
        await asyncio.wait({self._entered, self._task}, return_when=asyncio.FIRST_COMPLETED)
        if self._entered.done():
            return self._entered.result()
        raise self.problem or ResourceError(self._name, "its acquisition was cancelled")

    async def _hold(self) -> None:
        # SystemExit and KeyboardInterrupt must not leave a task: asyncio would end the loop with them.
        try:
            async with _entered(self._target) as value:
                self._entered.set_result(value)
                await self._leave.wait()
        except BaseException as problem:  # noqa: BLE001
            self.problem = _explained(problem, self._name)

    async def give_up(self, seconds: float) -> bool:
        """See Holder."""
        return self._task is None or await _cancelled(self._task, seconds)

    async def leave(self, seconds: float) -> bool:
        """See Holder."""
        if self._task is None:
            return True
        self._leave.set()
        done, _ = await asyncio.wait({self._task}, timeout=seconds)
        if not done:
            await _cancelled(self._task, _CANCEL_SECONDS)
        return bool(done)


class ThreadHolder:
    """One daemon thread: enters, waits, leaves. What turns out to be asynchronous it hands over to a task."""

    def __init__(self, target: Any, name: str) -> None:
        self._target = target
        self._name = name
        self._leave = threading.Event()
        self._other: TaskHolder | None = None
        self.problem: BaseException | None = None

    async def enter(self) -> Any:
        """See Holder."""
        self._loop = asyncio.get_running_loop()
        self._entered: asyncio.Future[Any] = self._loop.create_future()
        self._ended = asyncio.Event()
        context = contextvars.copy_context()
        threading.Thread(
            target=context.run, args=(self._hold,), name=f"resource {self._name}", daemon=True
        ).start()
        value = await self._entered
        if isinstance(value, _Asynchronous):
            self._other = TaskHolder(value.made, self._name)
            return await self._other.enter()
        return value

    def _hold(self) -> None:
        try:
            made = self._target() if _is_to_be_called(self._target) else self._target
            if _is_asynchronous(made):
                self._tell(self._set, _Asynchronous(made))
                return
            with _held(made) as value:
                self._tell(self._set, value)
                self._leave.wait()
        except BaseException as problem:  # noqa: BLE001 - a thread has nobody above it
            self.problem = _explained(problem, self._name)
            self._tell(self._fail)
        finally:
            self._tell(lambda: self._ended.set())

    def _tell(self, function: Callable[..., object], *arguments: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has been closed: this was left behind
            self._loop.call_soon_threadsafe(function, *arguments)

    def _set(self, value: object) -> None:
        if not self._entered.done():
            self._entered.set_result(value)

    def _fail(self) -> None:
        if not self._entered.done() and self.problem is not None:
            self._entered.set_exception(self.problem)

    async def give_up(self, seconds: float) -> bool:
        """See Holder."""
        if self._other is not None:
            return await self._other.give_up(seconds)
        return await self.leave(seconds)

    async def leave(self, seconds: float) -> bool:
        """See Holder."""
        if self._other is not None:
            ended = await self._other.leave(seconds)
            self.problem = self._other.problem
            return ended
        self._leave.set()
        try:
            async with asyncio.timeout(seconds):
                await self._ended.wait()
        except TimeoutError:
            return False
        return True


class Callback:
    """Holds nothing: leaving is calling. A coroutine function is called in a task, another function on a thread."""

    def __init__(self, callback: Callable[[], object], name: str) -> None:
        self._callback = callback
        self._holder: Holder = (
            TaskHolder(self._asynchronously, name)
            if inspect.iscoroutinefunction(callback)
            else ThreadHolder(contextlib.contextmanager(self._synchronously), name)
        )
        self._context = contextvars.copy_context()
        self.problem: BaseException | None = None

    @contextlib.asynccontextmanager
    async def _asynchronously(self) -> AsyncIterator[None]:
        yield
        result: Any = self._callback()
        await result

    def _synchronously(self) -> Iterator[None]:
        yield
        self._callback()

    async def enter(self) -> None:
        """Nothing is acquired."""

    async def give_up(self, seconds: float) -> bool:  # noqa: ARG002 - see Holder
        """Nothing is under way."""
        return True

    async def leave(self, seconds: float) -> bool:
        """See Holder."""
        await self._holder.enter()
        ended = await self._holder.leave(seconds)
        self.problem = self._holder.problem
        return ended


class _Asynchronous:
    """What a plain function has made must be entered on the loop."""

    def __init__(self, made: object) -> None:
        self.made = made


def _is_to_be_called(target: Any) -> bool:
    """A function or a class; not a context manager, although contextlib's can be called as well."""
    if inspect.isclass(target):
        return True
    return callable(target) and not hasattr(target, "__aenter__") and not hasattr(target, "__enter__")


def _is_asynchronous(made: Any) -> bool:
    return hasattr(made, "__aenter__") or (hasattr(made, "aclose") and not hasattr(made, "__enter__"))


@contextlib.asynccontextmanager
async def _entered(target: Any) -> AsyncIterator[Any]:
    """The value of an asynchronous target, released on leaving."""
    if inspect.isasyncgenfunction(target):
        target = contextlib.asynccontextmanager(target)
    made = target() if _is_to_be_called(target) else target
    if inspect.isawaitable(made):
        made = await made
    if hasattr(made, "__aenter__"):
        async with made as value:
            yield value
    elif hasattr(made, "__enter__"):
        with made as value:
            yield value
    else:
        try:
            yield made
        finally:
            close = getattr(made, "aclose", None) or getattr(made, "close", None)
            result = close() if callable(close) else None
            if inspect.isawaitable(result):
                await result


@contextlib.contextmanager
def _held(made: Any) -> Iterator[Any]:
    """The value of what a plain target has made, released on leaving."""
    if inspect.isgenerator(made):
        made = contextlib.contextmanager(lambda: made)()
    if hasattr(made, "__enter__"):
        with made as value:
            yield value
        return
    try:
        yield made
    finally:
        close = getattr(made, "close", None)
        if callable(close):
            close()


def _explained(problem: BaseException, name: str) -> BaseException:
    """contextlib's words for a generator that is none of a resource, in ours."""
    misuse = _MISUSED.get(str(problem)) if isinstance(problem, RuntimeError) else None
    return problem if misuse is None else ResourceError(name, misuse)


async def _cancelled(task: asyncio.Task[None], seconds: float) -> bool:
    """Cancel `task`; whether it has ended within `seconds`."""
    task.cancel()
    done, _ = await asyncio.wait({task}, timeout=seconds)
    return bool(done)
