"""A thread that calls functions of the C library's, one after the other, and runs no Python at all.

Made of `makecontext(3)`: a context is a function with its arguments and the context that follows it. A thread
that begins in the first one goes through them all, and neither has nor needs the GIL. Only where glibc runs
on the machines of which it is known that a context's arguments may be as long as pointers.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from graceful import signals

_CONTEXT_BYTES: Final = {"x86_64": 1024, "aarch64": 4608}  # a `ucontext_t` has 968, or 4,560
_STACK_BYTES: Final = 65_536
_FRAME_BYTES: Final = 512  # what makecontext puts on top of a stack: arguments, and where to go on

_READ_AND_WRITE: Final = 0x3  # Linux's <bits/mman.h>
_PRIVATE_AND_ANONYMOUS: Final = 0x22
_FAILED: Final = ctypes.c_void_p(-1).value


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A function of the C library's; its arguments are integers and addresses."""

    function: str
    arguments: tuple[int, ...]


class _Context(ctypes.Structure):
    """The beginning of `ucontext_t`, with `stack_t` in it."""

    _fields_ = (
        ("flags", ctypes.c_ulong),
        ("next", ctypes.c_void_p),
        ("stack", ctypes.c_void_p),
        ("stack_flags", ctypes.c_int),
        ("stack_bytes", ctypes.c_size_t),
    )


class Memory:
    """So many bytes of zeros, at `address`, a multiple of a page. Not Python's: it is there, while the
    interpreter is taken down, for a thread that still reads it.
    """

    def __init__(self, size: int) -> None:
        self._libc = libc()
        self._size = size
        found = self._libc.mmap(None, size, _READ_AND_WRITE, _PRIVATE_AND_ANONYMOUS, -1, 0)
        if found in {None, _FAILED}:
            number = ctypes.get_errno()
            message = f"mmap: {os.strerror(number)}"
            raise OSError(number, message)
        self.address: int = found

    def close(self) -> None:
        """It is given back, nobody may read it any more."""
        self._libc.munmap(ctypes.c_void_p(self.address), ctypes.c_size_t(self._size))


class CThread:
    """Makes `calls` in their order. None of them sees a signal: all are blocked there.

    Raises OSError or AttributeError where that cannot be done.
    """

    def __init__(self, calls: Sequence[Call]) -> None:
        self._libc = libc()
        calls = (*calls, Call(function="pthread_exit", arguments=(0,)))
        self._context_bytes = _CONTEXT_BYTES[os.uname().machine]
        contexts = len(calls) * self._context_bytes
        self._memory = Memory(contexts + _STACK_BYTES + len(calls) * _FRAME_BYTES)
        self._stack = self._memory.address + contexts
        self._first = ctypes.c_void_p(self._memory.address)
        self._contexts = [self._context(number, call) for number, call in enumerate(calls)]
        for (context, *_), (following, *_) in itertools.pairwise(self._contexts):
            _Context.from_address(context.value or 0).next = following.value
        self._thread: ctypes.c_ulong | None = None

    @property
    def runs(self) -> bool:
        """Whether it was started, and not joined since."""
        return self._thread is not None

    def start(self) -> None:
        """It is on its way; again, once it was joined. Raises OSError."""
        for context in self._contexts:  # a context is used up when it has run
            self._libc.makecontext(*context)
        thread, begin = ctypes.c_ulong(), ctypes.cast(self._libc.setcontext, ctypes.c_void_p)
        refused = signals.without_signals(  # before it begins
            lambda: self._libc.pthread_create(ctypes.byref(thread), None, begin, self._first)
        )
        if refused:
            message = f"pthread_create: {os.strerror(refused)}"
            raise OSError(refused, message)
        self._thread = thread

    def join(self, *, within: float) -> bool:
        """Whether it has made its calls, at most so many seconds from now; also where it was not started. The
        GIL is held meanwhile: what the calls wait for must be there.
        """
        if self._thread is not None:
            # `struct timespec`, by the wall clock: on the monotonic one glibc joins from 2.31 on only.
            until = (ctypes.c_long * 2)(int(time.time() + within), 0)
            if self._libc.pthread_timedjoin_np(self._thread, None, until):
                return False
            self._thread = None
        return True

    def close(self) -> None:
        """Once it was joined, nothing is left of it."""
        self._memory.close()

    def _context(self, number: int, call: Call) -> tuple[Any, ...]:
        """What `makecontext` is called with. Each context has a frame of its own on top of the same stack,
        the later ones above: what runs overwrites only the frames of those that are done.
        """
        address = self._memory.address + number * self._context_bytes
        # Who begins in a context gets the mask of the thread that made it.
        signals.without_signals(lambda: self._libc.getcontext(ctypes.c_void_p(address)))
        context = _Context.from_address(address)
        context.stack = self._stack
        context.stack_bytes = _STACK_BYTES + (number + 1) * _FRAME_BYTES
        function = ctypes.cast(getattr(self._libc, call.function), ctypes.c_void_p)
        arguments = [ctypes.c_long(argument) for argument in call.arguments]
        return ctypes.c_void_p(address), function, len(arguments), *arguments


def libc() -> ctypes.PyDLL:
    """The C library. Called with the GIL held: but for a join, none of the calls waits for anything. Raises
    OSError or AttributeError where it cannot run such a thread.
    """
    if sys.platform != "linux" or os.uname().machine not in _CONTEXT_BYTES:
        message = f"not known on {sys.platform}, {os.uname().machine}"
        raise OSError(message)
    ctypes.CDLL("libgcc_s.so.1")  # pthread_exit loads it, and ends the process where it is missing
    library = ctypes.PyDLL(None, use_errno=True)
    library.mmap.restype = ctypes.c_void_p
    library.mmap.argtypes = (
        *(ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long),
    )
    for name in ("getcontext", "makecontext", "setcontext", "pthread_timedjoin_np"):  # musl has none
        getattr(library, name)
    return library
