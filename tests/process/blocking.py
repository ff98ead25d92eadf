"""Ways to stand in the way of a shutdown: the app of the watchdog's tests. Each says when it begins."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import re
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import served  # type: ignore[import-not-found]  # beside this file, where the service finds it

runtime = served.runtime

_FOREVER = 3600.0


def locked_in_c(library: Any) -> None:
    """Locks a mutex twice; a signal does not interrupt that, as it would sleep(3)."""
    mutex = ctypes.create_string_buffer(64)
    library.pthread_mutex_lock(mutex)
    library.pthread_mutex_lock(mutex)


def in_lock() -> None:
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def in_regex() -> None:
    re.match(r"(a+)+b", "a" * 60)


WAYS: dict[str, Callable[[], object]] = {
    "sleep": lambda: time.sleep(_FOREVER),
    "lock": in_lock,
    "released": lambda: locked_in_c(ctypes.CDLL(None)),
    "held": lambda: locked_in_c(ctypes.PyDLL(None)),
    "regex": in_regex,
    "segfault": lambda: ctypes.string_at(0),
    "exit": lambda: os._exit(7),
}


def on_guard() -> bool:
    """Two threads see no signal: the C library's for its timers, and the sentinel."""
    deaf = 0
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):  # it has ended meanwhile
            blocked = (task / "status").read_text().partition("SigBlk:")[2].split()[0]
            deaf += bool(int(blocked, 16) >> (signal.SIGTERM - 1) & 1)
    return deaf == 2


async def sentinel_is_posted() -> None:
    """The watchdog's thread makes it as the service starts; a test may be faster."""
    async with asyncio.timeout(10):
        while not on_guard():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)


async def app(scope: Any, receive: Any, send: Any) -> None:
    way = scope.get("path", "").strip("/").removeprefix("later/")
    if scope["type"] != "http" or way not in WAYS:
        await served.bare(scope, receive, send)
        return
    await sentinel_is_posted()
    if "/later/" in scope["path"]:
        served.say("waiting")
        await runtime.shutdown_requested()
        await asyncio.sleep(0.2)
    served.say(f"blocking in {way}")
    WAYS[way]()


wrapped = runtime.wrap(app)
