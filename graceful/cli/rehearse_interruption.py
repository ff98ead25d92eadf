"""A rehearsal that can be broken off at any moment, and leaves nothing behind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

from graceful import signals

T = TypeVar("T")

_ENDINGS: Final = ("SIGINT", "SIGTERM", "SIGHUP")


class InterruptedBySignalError(Exception):
    """It was broken off by `signal`; all that was started has ended."""

    def __init__(self, signal: str) -> None:
        super().__init__(signal)
        self.signal = signal


def run(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """The result of what `work` makes, in a loop of its own. The first Ctrl-C, SIGTERM or SIGHUP cancels it,
    and raises InterruptedBySignalError; one that is ignored (nohup) does not.

    Those that come after it change nothing: what was started is being killed by then, and who broke that off
    would leave it behind.
    """
    watch = signals.SignalWatch()
    if signals.in_main_thread():
        numbers = [signals.number_of(name) for name in _ENDINGS]
        watch.install(*(each for each in numbers if signals.found_handler(each) != signals.IGNORED))
    try:
        return asyncio.run(_cancelled_by(watch, work))
    except asyncio.CancelledError:
        if not watch.noted:
            raise
        raise InterruptedBySignalError(signals.name_of(watch.noted[0].signum)) from None
    finally:
        watch.restore()


async def _cancelled_by(watch: signals.SignalWatch, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(work())
    wakes = 0

    def cancel() -> None:
        nonlocal wakes
        wakes += 1
        if wakes == 1:
            loop.call_soon_threadsafe(task.cancel)

    watch.subscribe(cancel)
    try:
        return await task
    finally:
        watch.unsubscribe(cancel)
