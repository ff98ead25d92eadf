"""C code that never comes back, with the GIL and without it. No compiler is needed: libc has some.

A mutex that is locked twice by the same thread is the one wait of libc's that no signal interrupts and that
costs nothing.
"""

from __future__ import annotations

import ctypes
from typing import Final

_ROOM_FOR_A_MUTEX: Final = 128  # bytes; the largest of the platforms' own has 64


def wait_without_gil() -> None:
    """The thread that calls it is gone for good; other threads of Python go on."""
    _lock_twice(ctypes.CDLL(None))


def wait_with_gil() -> None:
    """From now on no thread of this interpreter runs a line of Python any more."""
    _lock_twice(ctypes.PyDLL(None))


def crash() -> None:
    """A segmentation fault."""
    ctypes.string_at(0)


def _lock_twice(library: ctypes.CDLL) -> None:
    mutex = ctypes.create_string_buffer(_ROOM_FOR_A_MUTEX)
    library.pthread_mutex_init(mutex, None)
    library.pthread_mutex_lock(mutex)
    library.pthread_mutex_lock(mutex)
