"""The sentinel: it sets the exit timer when a signal comes while C code has held the GIL since before.

Then no line of Python is run in any thread, but the C half of Python's signal handling still writes the
signal's number to the wakeup descriptor. A thread of the C library's waits at the other end of it, looks up
in a table what that number means, and sets the timers accordingly; all in calls of the library, since it
cannot decide anything: what the table says of any other number is to set nothing.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Collection
from typing import Final

from graceful.c_calls import Call, CThread, Memory
from graceful.exit_timer import ExitTimer, Times, times

_PEEK: Final = 2  # Linux's MSG_PEEK
_ENTRY_BYTES: Final = 256  # the number of a signal is the second byte of an entry's address
_TABLE_BYTES: Final = 65_536  # so the table begins where the two lower bytes are zero
_BYTE_OF_THE_NUMBER: Final = 1 if sys.byteorder == "little" else 6


class _Piece(ctypes.Structure):
    """`struct iovec`."""

    _fields_ = (("address", ctypes.c_size_t), ("size", ctypes.c_size_t))


class _Entry(ctypes.Structure):
    """What is set when a signal comes; zeros set nothing."""

    _fields_ = (("ends", Times), ("dumps", Times))


class _Desk(ctypes.Structure):
    """What the calls read and write beside the table."""

    _fields_ = (("found", _Piece), ("entry", _Entry))


class Sentinel:
    """Has the process end with `code`, and its stacks dumped by `dump_signal`, if the first byte that comes
    to `inbox`, a socket that blocks, is one of `signums`; it takes nothing from it.

    Of several that nobody has read it looks at the first only. The thread that makes it gets the dump signal,
    see ExitTimer. Raises OSError or AttributeError where it cannot be had.
    """

    def __init__(self, inbox: int, signums: Collection[int], *, code: int, dump_signal: int | None) -> None:
        self._signums = frozenset(signums)
        self._timer = ExitTimer(code, dump_signal)
        self._memory = Memory(2 * _TABLE_BYTES)
        self._table = -(-self._memory.address // _TABLE_BYTES) * _TABLE_BYTES
        # Behind the entry of number 0, which no signal has.
        self._desk = _Desk.from_address(self._table + ctypes.sizeof(_Entry))
        self._pipe = os.pipe()
        self._thread = CThread(self._calls(inbox))

    def watch(self, *, dumps: float, ends: float) -> None:
        """It is on guard for the next byte, and counts these seconds from its coming. Nothing happens where
        it is on guard. Raises OSError where no thread can be started.
        """
        if self._thread.runs:
            return
        for signum in self._signums:
            entry = _Entry.from_address(self._table + signum * _ENTRY_BYTES)
            entry.dumps, entry.ends = times(dumps), times(ends)
        self._desk.found = _Piece(address=self._table, size=ctypes.sizeof(_Entry))
        self._thread.start()

    def relieve(self) -> None:
        """Python runs and has seen what came: nothing is ended by the sentinel. It has left its post, for
        which a byte must have come that is still unread.
        """
        self._thread.join()
        self._timer.switch_off()

    def close(self) -> None:
        """Nothing is left of it; but where it is on guard it stays, and keeps what it needs."""
        if self._thread.runs:
            return
        self._timer.close()
        self._thread.close()
        self._memory.close()
        for descriptor in self._pipe:
            os.close(descriptor)

    def _calls(self, inbox: int) -> tuple[Call, ...]:
        desk = ctypes.addressof(self._desk)
        found, entry = desk + _Desk.found.offset, desk + _Desk.entry.offset
        out, into = self._pipe
        timers = zip(self._timer.identifiers, (_Entry.ends.offset, _Entry.dumps.offset), strict=True)
        return (
            # The signal's number makes of the address of entry 0 that of its own entry,
            Call(function="recv", arguments=(inbox, found + _BYTE_OF_THE_NUMBER, 1, _PEEK)),
            # and a pipe copies from an address that is found in memory.
            Call(function="writev", arguments=(into, found, 1)),
            Call(function="read", arguments=(out, entry, ctypes.sizeof(_Entry))),
            *(
                Call(function="timer_settime", arguments=(timer, 0, entry + offset, 0))
                for timer, offset in timers
                if timer is not None
            ),
        )
