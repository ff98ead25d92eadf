"""Who else is there: tasks, threads and child processes of the app's that are neither in flight nor a
resource.

They are asked for when a phase runs out of time or the watchdog acts; nothing is kept before.
"""

from __future__ import annotations

import asyncio
import os
import sysconfig
import threading
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from types import CodeType
from typing import Any, Final, TypeVar

from graceful.calls import one_line
from graceful.processes import Process, ProcessTable
from graceful.stacks import Moment, frames_of, is_users, standing_at, thread_stands_at

T = TypeVar("T")

MOST_NAMED: Final = 20
"""Of each kind: more would hide the rest of a report."""

_OURS: Final = str(Path(__file__).parent)
_PYTHONS: Final = sysconfig.get_path("stdlib")
_SERVERS: Final = f"{os.sep}site-packages{os.sep}uvicorn{os.sep}"
# Threads that end by themselves when nobody gives them work: those of executors.
_WORKERS: Final = (f"concurrent{os.sep}futures", f"anyio{os.sep}_backends")
_PYTHONS_OWN: Final = "multiprocessing.resource_tracker"  # it ends with the process


def bystanders(loop: asyncio.AbstractEventLoop, *, besides: Collection[asyncio.Task[Any]] = ()) -> list[str]:
    """Tasks of `loop` other than `besides`, threads and child processes, none of them ours or the server's:
    one line for each, as `thread mailer, at app.py:12 in run`; 20 of each kind, then how many more there are.
    From any thread.
    """
    now = Moment()
    return [
        *_first(
            _tasks(loop, besides), lambda task: f"task {_named(task.get_name(), standing_at(task, now))}"
        ),
        *_first(_threads(now), lambda thread: f"thread {_named(thread.name, thread_stands_at(thread, now))}"),
        *_first(_children(), lambda child: f"child process {child.pid} ({child.command_line or 'ended'})"),
    ]


def _first(found: Sequence[T], describe: Callable[[T], str]) -> list[str]:
    lines = [describe(each) for each in found[:MOST_NAMED]]
    more = len(found) - len(lines)
    return [*lines, f"and {more} more like the last"] if more else lines


def _named(name: str, place: str | None) -> str:
    return f"{one_line(name)}, at {place}" if place else one_line(name)


def _tasks(
    loop: asyncio.AbstractEventLoop, besides: Collection[asyncio.Task[Any]]
) -> list[asyncio.Task[Any]]:
    try:
        tasks = asyncio.all_tasks(loop)
    except RuntimeError:  # asked on another thread, they came and went faster than they could be counted
        return []
    return sorted((task for task in tasks - set(besides) if _is_apps(task)), key=asyncio.Task.get_name)


def _is_apps(task: asyncio.Task[Any]) -> bool:
    """Whether a task runs the app's code or that of a library of its. The likes of `Event.wait` are run by
    somebody who is named.
    """
    code = getattr(task.get_coro(), "cr_code", None)
    path = code.co_filename if isinstance(code, CodeType) else ""
    installed = "-packages" in path  # beside Python's own
    return (
        not path.startswith(_OURS) and _SERVERS not in path and (installed or not path.startswith(_PYTHONS))
    )


def _threads(now: Moment) -> list[threading.Thread]:
    others = (thread for thread in threading.enumerate() if thread is not threading.main_thread())
    return [thread for thread in others if not thread.name.startswith("graceful-") and _is_busy(thread, now)]


def _is_busy(thread: threading.Thread, now: Moment) -> bool:
    frames = frames_of(thread, now)
    works_for_others = any(place in frame.f_code.co_filename for frame in frames for place in _WORKERS)
    return any(map(is_users, frames)) or not (thread.daemon or works_for_others)


def _children() -> list[Process]:
    table = ProcessTable()
    children = table.started_by(os.getpid()) if table.is_readable else []
    return [each for each in children if not any(_PYTHONS_OWN in word for word in each.command)]
