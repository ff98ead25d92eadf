"""Where work stands: the line of the user's code at which a coroutine, a task or a thread waits, and the task
that drives a coroutine.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import functools
import gc
import linecache
import os
import sys
import sysconfig
import threading
import traceback
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Final

# Where Python and pip put code, and ours; "<" begins the names of what has no file, such as frozen modules.
_NOT_THE_USERS: Final = (
    *{sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")},
    f"{Path(__file__).parent}{os.sep}",
    "<",
)

_INTERPRETERS: Final = (
    "async_generator_asend",
    "async_generator_athrow",
    "anext_awaitable",
    "coroutine_wrapper",
)
_MOST_FOLLOWED: Final = 50
_MOST_LINES: Final = 20


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
            awaitable = _hidden_behind(awaitable)


def _hidden_behind(awaitable: Any) -> Any:
    """The generator or coroutine that one of the interpreter's own awaitables drives (`async for`, an
    explicit `__await__`), and shows to the garbage collector only.
    """
    if type(awaitable).__name__ not in _INTERPRETERS:
        return None
    driven = (each for each in gc.get_referents(awaitable) if _frame(each) is not None)
    return next(driven, None)


def _frame(link: Any) -> FrameType | None:
    for attribute in ("cr_frame", "gi_frame", "ag_frame"):
        frame = getattr(link, attribute, None)
        if isinstance(frame, FrameType):
            return frame
    return None


def place(frame: FrameType) -> str:
    """`app.py:12 in slow`, with the last two parts of the file's path."""
    short = "/".join(Path(frame.f_code.co_filename).parts[-2:])
    return f"{short}:{frame.f_lineno} in {frame.f_code.co_name}"


class Moment:
    """Where the threads stand in one moment. Whoever asks for many of them asks the interpreter once: with a
    thousand threads each answer takes long.
    """

    def __init__(self) -> None:
        self._innermost = sys._current_frames()  # noqa: SLF001 - documented, for debugging

    def frames_of(self, thread: threading.Thread) -> list[FrameType]:
        """Those of a thread, innermost first."""
        return _stack(self._innermost.get(thread.ident or 0))

    def within(self, frame: FrameType) -> list[FrameType]:
        """The frames within one that runs just now, on whatever thread, innermost first; none where it
        waits.
        """
        stack = _stack(self._running.get(frame))
        return stack[: stack.index(frame)] if frame in stack else []

    def workers(self, futures: Collection[int]) -> list[threading.Thread]:
        """The threads of executors that will set one of these futures, which are given by id()."""
        return [thread for future in futures for thread in self._workers.get(future, ())]

    @functools.cached_property
    def _running(self) -> dict[FrameType, FrameType]:
        """Each frame that runs, and the innermost of its thread."""
        stacks = {frame: _stack(frame) for frame in self._innermost.values()}
        return {frame: innermost for innermost, stack in stacks.items() for frame in stack}

    @functools.cached_property
    def _workers(self) -> dict[int, list[threading.Thread]]:
        found: dict[int, list[threading.Thread]] = {}
        for thread in threading.enumerate():
            for frame in self.frames_of(thread):
                item = frame.f_locals.get("self") if frame.f_code.co_name == "run" else None
                if item is not None and hasattr(item, "future"):
                    found.setdefault(id(item.future), []).append(thread)
        return found


def _stack(frame: FrameType | None) -> list[FrameType]:
    return [] if frame is None else [found for found, _ in traceback.walk_stack(frame)]


def standing_at(awaitable: Any, moment: Moment | None = None) -> str | None:
    """The user's line that suspended work waits at, as `app.py:12 in slow`; None where none can be seen.

    `awaitable` is a task or a coroutine. Where only a framework's lines wait, as they do for a sync endpoint
    or a streamed response, it is that of the thread or the child task that they wait for.
    """
    moment = moment or Moment()
    frames = frames_of(awaitable, moment)
    if not frames:
        return None
    return _users_line(awaitable, set(), moment) or place(frames[0])


def thread_stands_at(thread: threading.Thread, moment: Moment | None = None) -> str:
    """The user's line that a thread is at, as `app.py:12 in slow`."""
    frames = frames_of(thread, moment)
    return place(next(filter(is_users, frames), frames[0])) if frames else "an unknown place"


def lines_of(frames: Sequence[FrameType]) -> list[str]:
    """Frames, innermost first, as lines of code: `app.py:12 in slow: rows()`, in the order of the calls, from
    the user's first line on, of those the innermost 20.
    """
    calls = list(frames)[::-1]
    users = (index for index, each in enumerate(calls) if is_users(each))
    return [_line(each) for each in calls[next(users, 0) :][-_MOST_LINES:]]


def _line(frame: FrameType) -> str:
    code = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
    return place(frame) + (f": {code}" if code else "")


def frames_of(work: Any, moment: Moment | None = None) -> list[FrameType]:
    """The frames of a thread, a task or a coroutine, innermost first."""
    moment = moment or Moment()
    if isinstance(work, threading.Thread):
        return moment.frames_of(work)
    if isinstance(work, asyncio.Future):
        work = work.get_coro() if isinstance(work, asyncio.Task) else None
    frames = [frame for frame in map(_frame, _chain(work)) if frame is not None][::-1]
    return [*moment.within(frames[0]), *frames] if frames else []


def is_users(frame: FrameType) -> bool:
    """Whether a frame's code is the user's: neither the standard library's nor an installed package's."""
    return not frame.f_code.co_filename.startswith(_NOT_THE_USERS)


def _users_line(work: Any, seen: set[int], moment: Moment) -> str | None:
    """The first line from within that is neither the standard library's nor an installed package's: that is
    the line which the user can change.
    """
    if id(work) in seen or len(seen) > _MOST_FOLLOWED:
        return None
    seen.add(id(work))
    awaited = _awaited_future(work)
    for other in (*_executor_threads(awaited, moment), awaited):
        if isinstance(other, threading.Thread | asyncio.Task) and (line := _users_line(other, seen, moment)):
            return line
    for frame in frames_of(work, moment):
        if is_users(frame):
            return place(frame)
        for other in _led_to(frame):
            if line := _users_line(other, seen, moment):
                return line
    return None


def _led_to(frame: FrameType) -> Iterator[Any]:
    """The threads and tasks that a library's frame has to do with: anyio's worker thread, the children of a
    task group, what `gather` and `wait` were given.
    """
    for name, found in list(frame.f_locals.items()):
        # Other names hold other tasks, anyio's `root_task`, say; `fut` is wait_for's on Python 3.11.
        if isinstance(found, threading.Thread) or (name == "fut" and isinstance(found, asyncio.Task)):
            yield found
        group = found if isinstance(found, list | tuple | set) else getattr(found, "_tasks", ())
        if isinstance(group, list | tuple | set):
            yield from [each for each in list(group)[:_MOST_FOLLOWED] if isinstance(each, asyncio.Task)]


def _executor_threads(awaited: Any, moment: Moment) -> list[threading.Thread]:
    """The thread of an executor that works for whoever awaits this future: asyncio has chained it to the one
    that the thread will set.
    """
    sources = {id(source) for source in _sources_of(awaited)}
    return moment.workers(sources) if sources else []


def _awaited_future(work: Any) -> Any:
    """The future that suspended work waits for; None for a thread, and where there is none."""
    if isinstance(work, threading.Thread):
        return None
    coroutine = work.get_coro() if isinstance(work, asyncio.Task) else work
    links = list(_chain(coroutine))
    # What `await future` leaves in a coroutine is an iterator, which shows its future to nobody else.
    found = [each for each in gc.get_referents(*links[-1:]) if isinstance(each, asyncio.Future)]
    return found[0] if len(found) == 1 else None


def _sources_of(future: Any) -> Iterator[concurrent.futures.Future[Any]]:
    """The futures of an executor that asyncio's `wrap_future` has chained to `future`."""
    for callback in getattr(future, "_callbacks", None) or ():
        function = callback[0] if isinstance(callback, tuple) else callback
        for cell in getattr(function, "__closure__", None) or ():
            with contextlib.suppress(ValueError):  # an empty cell
                if isinstance(cell.cell_contents, concurrent.futures.Future):
                    yield cell.cell_contents


def tasks_driving(
    awaitables: set[int], loop: asyncio.AbstractEventLoop | None = None
) -> dict[int, asyncio.Task[Any]]:
    """For each of the awaitables, given by id(), the task that awaits it, directly or through others; of the
    running loop where no `loop` is given.
    """
    driving: dict[int, asyncio.Task[Any]] = {}
    for task in asyncio.all_tasks(loop):
        for link in _chain(task.get_coro()):
            if id(link) in awaitables:
                driving[id(link)] = task
    return driving
