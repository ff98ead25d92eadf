"""The end of a process that we own: the loop wound up, threads joined, atexit callbacks run, streams flushed,
and out, all in bounded time.

The interpreter is not torn down: that takes longer than everything else together, joins threads without
bound, and sometimes crashes in the daemon threads of C extensions. `exit="full"` is for those who need it.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final, Literal, NoReturn, TypeVar

from graceful import signals
from graceful.bystanders import MOST_NAMED
from graceful.inflight import escaped
from graceful.reports import ExitCode
from graceful.stacks import Moment, standing_at, thread_stands_at

T = TypeVar("T")
Exit = Literal["fast", "full"]
LoopFactory = Callable[[], asyncio.AbstractEventLoop]

logger = logging.getLogger("graceful")

# What tasks, generators, threads and callbacks get at least, even when the budget is used up: enough for
# those that only need to be woken.
_LEAST_SECONDS: Final = 0.05
_UNHURRIED_SECONDS: Final = 5.0
# What threads leave of the time for what comes after them: a quarter, at most so many seconds.
_FOR_CALLBACKS_SECONDS: Final = 0.5


class Ending:
    """Collects what had to be left behind on the way out, within one deadline, in seconds of the monotonic
    clock.
    """

    def __init__(self) -> None:
        self.deadline: float | None = None
        self.left_behind: list[str] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self.asked_to_exit: SystemExit | None = None
        self.on_exit: Callable[[str], object] = lambda _: None
        self.call_handlers: Callable[[], object] = lambda: None

    def _remaining(self) -> float:
        if self.deadline is None:  # no signal has come: the service has ended by itself, or did not start
            self.deadline = time.monotonic() + _UNHURRIED_SECONDS
        return max(_LEAST_SECONDS, self.deadline - time.monotonic())

    def run(self, main: Coroutine[Any, Any, T], loop_factory: LoopFactory | None) -> T:
        """The result of `main`, run on a loop of its own. What is still on the loop then has been cancelled,
        in bounded time.
        """
        runner = asyncio.Runner(loop_factory=loop_factory)
        self._loop = runner.get_loop()
        try:
            return self._run_on(self._loop, main)
        finally:
            runner.run(self._wind_up())  # not close(): that waits without bound

    def _run_on(self, loop: asyncio.AbstractEventLoop, main: Coroutine[Any, Any, T]) -> T:
        """A SystemExit in any task falls through the loop (asyncio's rule). It asks for the end, and gets one
        in order.
        """
        task = loop.create_task(main, name="graceful")
        while True:
            try:
                return loop.run_until_complete(task)
            except (SystemExit, KeyboardInterrupt) as problem:
                if task.done():
                    raise
                if isinstance(problem, SystemExit):
                    self.asked_to_exit = problem
                self.on_exit(type(problem).__name__)

    async def _wind_up(self) -> None:
        """Asyncio's own cleanup, bounded: tasks are cancelled, asynchronous generators closed."""
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        if tasks:
            _, pending = await asyncio.wait(tasks, timeout=self._remaining())
            now = Moment()
            for number, task in enumerate(pending):
                where = standing_at(task, now) if number < MOST_NAMED else None
                self._leave(f"task {task.get_name()} at {where or 'an unknown place'}", number)
        try:
            await asyncio.wait_for(asyncio.get_running_loop().shutdown_asyncgens(), self._remaining())
        except TimeoutError:
            self._leave("an asynchronous generator that does not close")

    def end_process(
        self,
        code: int,
        *,
        exit: Exit,  # noqa: A002 - the word users write
        exit_by_signal: bool,
    ) -> NoReturn:
        """Leave with `code`, or with 75 where a thread, a signal handler or an atexit callback had to be left
        behind.
        """
        code = self.code_after(code)
        self._bounded("a signal handler that was there before ours", self.call_handlers, code)
        if exit == "full":
            if self._loop is not None:
                self._loop.close()
            raise SystemExit(int(self.code_after(code)))
        code = self.code_after(code)
        self._bounded("an atexit callback", _run_atexit, code)
        code = self.code_after(code)
        self._bounded("flushing the standard streams", _flush, code)
        if code == ExitCode.OK and exit_by_signal:
            signals.die_of(signals.TERMINATE[0])
        os._exit(code)

    def code_after(self, code: int) -> int:
        """That of the run; else, if that is 0, what the app asked for with SystemExit, or 75 where something
        was left.
        """
        if code == ExitCode.OK and self.asked_to_exit is not None and self.asked_to_exit.code is not None:
            asked = self.asked_to_exit.code
            code = asked if isinstance(asked, int) else ExitCode.FAILED
        return ExitCode.CUT_OFF if code == ExitCode.OK and self.left_behind else code

    def join_threads(self) -> None:
        """Executors are told to end (what `threading` does at exit), then every non-daemon thread is joined
        as far as the time goes: atexit callbacks need some of it too.
        """
        callbacks = list(reversed(getattr(threading, "_threading_atexits", ())))
        for callback in callbacks:
            with contextlib.suppress(RuntimeError):  # no thread can be started: executors' are left behind
                threading.Thread(target=callback, daemon=True, name="graceful-executors").start()
        remaining = self._remaining()
        until = time.monotonic() + remaining - min(_FOR_CALLBACKS_SECONDS, remaining / 4)  # for all together
        left = []
        for thread in threading.enumerate():
            if thread.daemon or thread in {threading.main_thread(), threading.current_thread()}:
                continue
            thread.join(timeout=max(0.0, until - time.monotonic()))
            if thread.is_alive():
                left.append(thread)
        now = Moment()
        for number, thread in enumerate(left):
            self._leave(f"thread {thread.name} at {thread_stands_at(thread, now)}", number)

    def _bounded(self, what: str, work: Callable[[], object], code: int) -> None:
        """Run `work` on this thread; should it not come back, another ends the process, with 75 for 0. Where
        no thread can be started any more that is the watchdog, with 70.
        """

        def last_words() -> None:
            self._leave(what)
            _flush()

        def give_up() -> None:
            # On a thread of its own: a pipe that nobody reads, standard error's too, may be what hangs.
            speaker = threading.Thread(target=last_words, daemon=True)
            with contextlib.suppress(RuntimeError):  # as below
                speaker.start()
                speaker.join(timeout=_LEAST_SECONDS)
            os._exit(self.code_after(code))

        timer = threading.Timer(self._remaining(), give_up)
        timer.daemon = True
        with contextlib.suppress(RuntimeError):  # out of memory, or of the threads that a container may have
            timer.start()
        work()
        timer.cancel()

    def _leave(self, what: str, number: int = 0) -> None:
        """`what` is left behind; `number` others of its kind were before it."""
        what = escaped(what)
        self.left_behind.append(what)
        if number < MOST_NAMED:
            logger.warning("left behind at exit: %s", what)
        elif number == MOST_NAMED:
            logger.warning("left behind at exit: more like the last; the report says how many")


def _run_atexit() -> None:
    atexit._run_exitfuncs()  # noqa: SLF001 - the only way to run them without tearing the interpreter down


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # closed, or a broken pipe: there is nobody left to tell
            stream.flush()
