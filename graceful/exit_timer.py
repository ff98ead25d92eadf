"""A timer of the C library's that ends the process, also while C code holds the GIL.

`timer_create(2)` with a thread of the library's own that calls `_exit(2)`: no Python is run at the end, so
that nothing in Python can hold it up. Not on macOS and Windows, which have no such timer.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from typing import Final

_CLOCK_MONOTONIC: Final = 1  # Linux's <linux/time.h>
_SIGEV_THREAD: Final = 2  # and <asm-generic/siginfo.h>
_SIGEV_THREAD_ID: Final = 4


class _Whom(ctypes.Union):
    """The last member of `struct sigevent`: a thread's id, or a function and its thread's attributes."""

    _fields_ = (("thread", ctypes.c_int), ("function", ctypes.c_void_p * 2))


class _Notification(ctypes.Structure):
    """`struct sigevent`, which is 64 bytes."""

    _fields_ = (
        # `union sigval`, as a pointer: the function takes it in a register, as it would an int.
        ("value", ctypes.c_void_p),
        ("signum", ctypes.c_int),
        ("how", ctypes.c_int),
        ("whom", _Whom),
        ("_rest", ctypes.c_char * 32),
    )


class Seconds(ctypes.Structure):
    """`struct timespec`."""

    _fields_ = (("whole", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class Times(ctypes.Structure):
    """`struct itimerspec`; zeros switch a timer off."""

    _fields_ = (("interval", Seconds), ("first", Seconds))


class ExitTimer:
    """Two timers, switched off until they are set; `dump_signal`, if any, is sent by the other one.

    It is sent to the thread that makes this, which has to wait for the end: were it the main thread's, a call
    in C that it may be in would be interrupted and might come back.

    Raises OSError or AttributeError where the system has no such timers.
    """

    def __init__(self, code: int, dump_signal: int | None) -> None:
        if sys.platform != "linux":
            message = f"{sys.platform} has no timer_create() that calls a function"
            raise OSError(message)
        self._libc = _library()
        self._dumps = self._ends = None
        leave = ctypes.cast(self._libc._exit, ctypes.c_void_p).value  # noqa: SLF001 - C's name for it
        whom = _Whom(function=(leave, None))
        self._ends = self._make(_Notification(value=code, how=_SIGEV_THREAD, whom=whom))
        if dump_signal is not None:
            whom = _Whom(thread=threading.get_native_id())
            self._dumps = self._make(_Notification(signum=dump_signal, how=_SIGEV_THREAD_ID, whom=whom))

    def set(self, *, dumps: float, ends: float) -> None:
        """End the process `ends` seconds from now, and have the stacks dumped `dumps` seconds from now. Two
        system calls and no more: a signal handler may do it.
        """
        self._set(self._ends, ends)
        self._set(self._dumps, dumps)

    def switch_off(self) -> None:
        """Nothing is ended until it is set again."""
        for timer in (self._ends, self._dumps):
            if timer is not None:
                self._libc.timer_settime(timer, 0, ctypes.byref(Times()), None)

    @property
    def identifiers(self) -> tuple[int | None, int | None]:
        """The C library's `timer_t` of the one that ends the process, and of the one that dumps, if any."""
        ends, dumps = (None if timer is None else timer.value or 0 for timer in (self._ends, self._dumps))
        return ends, dumps

    def close(self) -> None:
        """Nothing is ended any more. Called again, it changes nothing."""
        timers, self._dumps, self._ends = (self._dumps, self._ends), None, None
        for timer in timers:
            if timer is not None:
                self._libc.timer_delete(timer)

    def _make(self, notification: _Notification) -> ctypes.c_void_p:
        timer = ctypes.c_void_p()
        if self._libc.timer_create(_CLOCK_MONOTONIC, ctypes.byref(notification), ctypes.byref(timer)):
            number = ctypes.get_errno()
            self.close()
            message = f"timer_create: {os.strerror(number)}"
            raise OSError(number, message)
        return timer

    def _set(self, timer: ctypes.c_void_p | None, seconds: float) -> None:
        if timer is not None:
            self._libc.timer_settime(timer, 0, ctypes.byref(times(seconds)), None)


def times(seconds: float) -> Times:
    """Once, so many seconds from now; at once where they have passed."""
    nanoseconds = max(1, int(seconds * 1e9))  # a timer of 0 s would be switched off
    whole, part = divmod(nanoseconds, 1_000_000_000)
    return Times(first=Seconds(whole=whole, nanoseconds=part))


def _library() -> ctypes.PyDLL:
    """The C library, or glibc's of before 2.34 that had the timers apart. Called with the GIL held: none of
    the calls waits for anything.
    """
    library = ctypes.PyDLL(None, use_errno=True)
    if not hasattr(library, "timer_create"):
        library = ctypes.PyDLL("librt.so.1", use_errno=True)
    for name in ("timer_create", "timer_settime", "timer_delete", "_exit"):
        getattr(library, name)
    return library
