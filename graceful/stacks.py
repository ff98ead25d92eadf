"""Where a coroutine stands: the innermost line of code that it waits at, and the task that drives it."""

from __future__ import annotations

import asyncio
import sys
import sysconfig
import threading
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final

# Where Python and pip put code; "<" begins the names of what has no file, such as frozen modules.
_NOT_THE_USERS: Final = (*{sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")}, "<")


def _chain(awaitable: Any) -> Iterator[Any]:
    """`awaitable` and what each link awaits in turn, as far as Python can see (not into extensions). Bounded,
    should a chain be circular.
    """
    for _ in range(200):
        if awaitable is None:
            return
        yield awaitable
        for attribute in ("cr_await", "gi_yieldfrom", "ag_await"):
            if hasattr(awaitable, attribute):
                awaitable = getattr(awaitable, attribute)
                break
        else:
            return


def _frame(link: Any) -> FrameType | None:
    for attribute in ("cr_frame", "gi_frame", "ag_frame"):
        frame = getattr(link, attribute, None)
        if isinstance(frame, FrameType):
            return frame
    return None


def place(code: CodeType, line: int | None) -> str:
    """`app.py:12 in slow`, with the last two parts of the file's path."""
    short = "/".join(Path(code.co_filename).parts[-2:])
    return f"{short}:{line} in {code.co_name}"


def standing_at(awaitable: Any) -> str | None:
    """The user's line that a suspended coroutine waits at, as `app.py:12 in slow`; None where none can be
    seen.
    """
    frames = [frame for frame in map(_frame, _chain(awaitable)) if frame is not None]
    return _told(frames[::-1]) if frames else None


def thread_stands_at(thread: threading.Thread) -> str:
    """The user's line that a thread is at, as `app.py:12 in slow`."""
    frame = sys._current_frames().get(thread.ident or 0)  # noqa: SLF001 - documented, for debugging
    return (
        _told([found for found, _ in traceback.walk_stack(frame)])
        if frame is not None
        else "an unknown place"
    )


def _told(frames: Sequence[FrameType]) -> str:
    """Of frames, innermost first, the first that is neither the standard library's nor an installed
    package's: that is the line which the user can change. Where there is none, the innermost.
    """
    users = (frame for frame in frames if not frame.f_code.co_filename.startswith(_NOT_THE_USERS))
    frame = next(users, frames[0])
    return place(frame.f_code, frame.f_lineno)


def tasks_driving(awaitables: set[int]) -> dict[int, asyncio.Task[Any]]:
    """For each of the awaitables, given by id(), the task of the running loop that awaits it, directly or
    through others.
    """
    driving: dict[int, asyncio.Task[Any]] = {}
    for task in asyncio.all_tasks():
        for link in _chain(task.get_coro()):
            if id(link) in awaitables:
                driving[id(link)] = task
    return driving
