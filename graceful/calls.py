"""Calls into the user's code that may block, hang or raise anything: on the loop, on a daemon thread, or on
the loop of another thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import inspect
import threading
from collections.abc import Awaitable, Callable, Coroutine
from queue import SimpleQueue
from typing import Any, Final, TypeVar

from graceful.stacks import standing_at, thread_stands_at

T = TypeVar("T")

_LONGEST_TEXT: Final = 200


class Lane:
    """One daemon thread that runs what it is given, one after the other, in a copy of its maker's context.

    A daemon, so that what hangs in it can be left behind. Who is cancelled while waiting for an answer
    leaves the thread at it; the answer is then dropped.
    """

    def __init__(self, name: str) -> None:
        self.idle = True
        self._given: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=context.run, args=(self._run,), name=name, daemon=True)
        self._thread.start()

    async def call(self, function: Callable[[], T]) -> T:
        """What `function` returned or raised on the thread."""
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[Callable[[], T]] = loop.create_future()

        def run() -> None:
            answer = _answer_of(function)
            self.idle = True
            with contextlib.suppress(RuntimeError):  # the loop has been closed: nobody waits any more
                loop.call_soon_threadsafe(_tell, answered, answer)

        self.idle = False
        self._given.put(run)
        return (await answered)()

    def end(self) -> None:
        """The thread ends when it has run what it has been given. May be called twice."""
        self._given.put(None)

    def stands_at(self) -> str:
        """The line that the thread is at."""
        return thread_stands_at(self._thread)

    def _run(self) -> None:
        while (run := self._given.get()) is not None:
            run()
            del run  # what it has returned belongs to others, and is not kept until something else is given


def _answer_of(function: Callable[[], T]) -> Callable[[], T]:
    """A function that returns or raises what `function` does, which has been called."""
    try:
        value = function()
    except BaseException as raised:  # noqa: BLE001 - raised again where the answer is waited for
        problem = raised

        def fail() -> T:
            raise problem

        return fail
    return lambda: value


def _tell(answered: asyncio.Future[T], answer: T) -> None:
    if not answered.done():  # cancelled
        answered.set_result(answer)


class Errand:
    """A coroutine that the loop of another thread runs, and that is waited for here.

    `goes_on` until it has really ended there, which a loop that is blocked may put off for as long as it
    likes: who is cancelled while waiting has it cancelled there, and does not wait for that.
    """

    def __init__(self, work: Coroutine[Any, Any, T], there: asyncio.AbstractEventLoop) -> None:
        self.goes_on = False
        self.begun = False
        self._work = work
        self._there = there
        self._task: asyncio.Task[Callable[[], T]] | None = None
        self._given_up = False

    @property
    def loop_is_gone(self) -> bool:
        """Whether the other loop has been closed, so that nothing goes on there."""
        return self._there.is_closed()

    async def result(self) -> Any:
        """What the coroutine comes to. Raises RuntimeError where the other loop has been closed."""
        here = asyncio.get_running_loop()
        answered: asyncio.Future[Callable[[], Any]] = here.create_future()

        def end(task: asyncio.Task[Callable[[], Any]]) -> None:
            self.goes_on = False
            answer = task.result if task.cancelled() else task.result()
            with contextlib.suppress(RuntimeError):  # the loop here has been closed: nobody waits any more
                here.call_soon_threadsafe(_tell, answered, answer)

        try:
            self._there.call_soon_threadsafe(self._begin, end)
        except RuntimeError:
            self._work.close()
            raise
        self.goes_on = True
        try:
            return (await answered)()
        except asyncio.CancelledError:
            self._given_up = True
            with contextlib.suppress(RuntimeError):  # that loop has been closed meanwhile
                self._there.call_soon_threadsafe(self._cancel)
            raise

    def _begin(self, end: Callable[[asyncio.Task[Any]], None]) -> None:
        if self._given_up:
            self.goes_on = False
            self._work.close()
            return
        self.begun = True
        self._task = self._there.create_task(_awaited(self._work), name="graceful errand")
        self._task.add_done_callback(end)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()


async def _awaited(work: Coroutine[Any, Any, T]) -> Callable[[], T]:
    """As `_answer_of`: a SystemExit is told, and does not fall through somebody else's loop."""
    try:
        value = await work
    except BaseException as raised:  # noqa: BLE001 - raised again where the answer is waited for
        problem = raised

        def fail() -> T:
            raise problem

        return fail
    return lambda: value


class Call:
    """Calls the user's functions for one purpose: on the loop, or all of them on one thread where they may
    block.
    """

    def __init__(self, name: str, *, on_thread: bool) -> None:
        self.on_thread = on_thread
        self._name = name
        self._lane: Lane | None = None
        self._awaited: object = None

    async def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """What `function` returns; it is not awaited. The thread, where there is one, starts with the first
        call.
        """
        if not self.on_thread:
            return function(*args)
        if self._lane is None:
            self._lane = Lane(f"graceful-{self._name}")
        return await self._lane.call(functools.partial(function, *args))

    async def result_of(self, function: Callable[..., Any], *args: Any) -> Any:
        """What `function` returns; should that be awaitable, what it comes to, awaited on the loop."""
        made = await self.call(function, *args)
        return await self.wait_for(made) if inspect.isawaitable(made) else made

    async def wait_for(self, awaitable: Awaitable[Any], *, standing: object = None) -> Any:
        """What `awaitable` comes to. `stands_at` looks into it meanwhile, or into `standing`."""
        self._awaited = awaitable if standing is None else standing
        return await awaitable

    def to_loop(self) -> None:
        """From now on calls are made on the loop: what was returned is for a loop, not for a thread."""
        self.end()
        self.on_thread = False
        self._lane = None

    def end(self) -> None:
        """No call follows: the thread ends, at once or when what hangs in it comes back."""
        if self._lane is not None:
            self._lane.end()

    @property
    def thread_is_busy(self) -> bool:
        """Whether a call has not come back from its thread."""
        return self._lane is not None and not self._lane.idle

    def stands_at(self) -> str | None:
        """The user's line at which the call that goes on stands, as `app.py:12 in slow`; None where none
        can be seen.
        """
        if self._lane is not None and not self._lane.idle:
            return self._lane.stands_at()
        return standing_at(self._awaited)


def name_of(target: object) -> str:
    """What people call a function, a class or an object: `connect`, `Pool`; that of the function within a
    partial.
    """
    while isinstance(target, functools.partial):
        target = target.func
    return getattr(target, "__name__", None) or type(target).__name__


def missing_arguments(function: Callable[..., Any]) -> str | None:
    """Why `function` cannot be called without arguments, in Python's words; None where it can, or nobody
    knows.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # written in C without a signature
        return None
    try:
        signature.bind()
    except TypeError as problem:
        return str(problem)
    return None


def text_of(problem: BaseException) -> str:
    """`ConnectionError: refused`, as `one_line` has it."""
    try:
        text = f"{type(problem).__name__}: {problem}"
    except Exception:  # noqa: BLE001 - the text is the user's code as well, and here its failures end
        text = f"{type(problem).__name__}, whose text could not be had"
    return one_line(text.removesuffix(": "))


def one_line(text: str) -> str:
    """`text` on one line of at most 200 characters, without any that a terminal would obey."""
    text = "".join(letter if letter.isprintable() else " " for letter in text)
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST_TEXT else text[: _LONGEST_TEXT - 3] + "..."
