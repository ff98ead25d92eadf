"""The sentinel: it sets the exit timer when a signal comes while C code has held the GIL since before.

Then no line of Python is run in any thread, but the C half of Python's signal handling still writes the
signal's number to the wakeup descriptor. A thread of the C library's waits at the other end of it, looks up
in a table what that number means, and sets the timers accordingly; all in calls of the library, since it
cannot decide anything: what the table says of any other number are times that the kernel does not accept.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Collection
from typing import Final

from graceful.c_calls import Call, CThread, Memory, libc
from graceful.exit_timer import ExitTimer, Times, times

_PEEK: Final = 2  # Linux's MSG_PEEK
_AT_ONCE: Final = 0x40  # and MSG_DONTWAIT
_SOCKET: Final = 1  # and SOL_SOCKET
_PEEK_FROM: Final = 42  # and SO_PEEK_OFF
_LOOKS: Final = 16
_MOST_BYTES: Final = 4096
_LEAVING_SECONDS: Final = 2.0
_ENTRY_BYTES: Final = 256  # the number of a signal is the second byte of an entry's address
_TABLE_BYTES: Final = 65_536  # so the table begins where the two lower bytes are zero
_BYTE_OF_THE_NUMBER: Final = 1 if sys.byteorder == "little" else 6


class _Entry(ctypes.Structure):
    """What is set when a signal comes, and the table in which the next one is looked up."""

    _fields_ = (("ends", Times), ("dumps", Times), ("table", ctypes.c_size_t))


class _Desk(ctypes.Structure):
    """What the calls read and write beside the tables: the entry that was found, whose last member is the
    first of a `struct iovec`, which says what is looked up.
    """

    _fields_ = (("entry", _Entry), ("size", ctypes.c_size_t))


class Sentinel:
    """Has the process end with `code`, and its stacks dumped by `dump_signal`, if one of `signums` is among
    the bytes that come to `inbox`, a socket that blocks. The first counts. Nobody else may take anything from
    there while it is on guard.

    Of those that nobody has read it looks at the first sixteen. To `outbox`, the other end, it writes zeros
    when it is called off. The thread that makes it gets the dump signal, see ExitTimer. Raises OSError or
    AttributeError where it cannot be had.
    """

    def __init__(
        self, inbox: int, outbox: int, signums: Collection[int], *, code: int, dump_signal: int | None
    ) -> None:
        self._libc = libc()
        self._inbox, self._outbox = inbox, outbox
        self._signums = frozenset(signums)
        self._look_from_the_first()
        self._timer = ExitTimer(code, dump_signal)
        self._memory = Memory(3 * _TABLE_BYTES)
        self._table = -(-self._memory.address // _TABLE_BYTES) * _TABLE_BYTES
        self._fill(self._table)
        self._fill(self._table + _TABLE_BYTES)  # in which it looks when it has found what it is there for
        # Behind the entry of number 0, which no signal has.
        self._desk = _Desk.from_address(self._table + ctypes.sizeof(_Entry))
        self._desk.size = ctypes.sizeof(_Entry)
        self._pipe = os.pipe()
        self._thread = CThread(self._calls(inbox) * _LOOKS)

    def watch(self, *, dumps: float, ends: float) -> None:
        """It is on guard, and counts these seconds from the coming of the signal. Nothing happens where it is
        on guard. Raises OSError where no thread can be started.
        """
        if self._thread.runs:
            return
        for signum in self._signums:
            entry = _Entry.from_address(self._table + signum * _ENTRY_BYTES)
            entry.dumps, entry.ends = times(dumps), times(ends)
            entry.table = self._table + _TABLE_BYTES
        self._look_from_the_first()
        self._begin()

    def renew(self) -> bytes | None:
        """Where it was on guard it is again, with all its looks before it, and has seen what had come, which
        is taken from the inbox and returned. None where that cannot be.

        The GIL is not let go meanwhile: nobody can take it for good while nobody is on guard.
        """
        if not (self._thread.runs and self.leave()):
            return None
        # Only now: of one who waits in `recv` the kernel does not take off what is taken behind its back.
        came = ctypes.create_string_buffer(_MOST_BYTES)
        size = self._libc.recv(self._inbox, came, ctypes.c_size_t(_MOST_BYTES), _AT_ONCE)
        with contextlib.suppress(OSError):  # no thread to be had: it can be posted later, perhaps
            self._look_from_the_first()
            self._begin()
        return came.raw[: max(0, size)]

    def relieve(self) -> None:
        """Python runs and has seen what came: nothing is ended by the sentinel."""
        self._timer.switch_off()

    def leave(self) -> bool:
        """Whether it has left its post; zeros may be unread then. It cannot where somebody has closed the
        descriptors of others.
        """
        if self._thread.runs:
            # Full: there is enough to look at.
            self._libc.send(self._outbox, bytes(_LOOKS), ctypes.c_size_t(_LOOKS), _AT_ONCE)
        return self._thread.join(within=_LEAVING_SECONDS)

    def close(self) -> None:
        """Nothing is left of it; but where it is on guard it stays, and keeps what it needs."""
        if self._thread.runs:
            return
        self._timer.close()
        self._thread.close()
        self._memory.close()
        for descriptor in self._pipe:
            os.close(descriptor)

    def _begin(self) -> None:
        self._desk.entry.table = self._table
        self._thread.start()

    def _look_from_the_first(self) -> None:
        """From now on a look sees what comes after that which the last look has seen, the first the first."""
        first = ctypes.c_int(0)
        if self._libc.setsockopt(self._inbox, _SOCKET, _PEEK_FROM, ctypes.byref(first), ctypes.sizeof(first)):
            number = ctypes.get_errno()
            message = f"SO_PEEK_OFF: {os.strerror(number)}"
            raise OSError(number, message)

    def _fill(self, table: int) -> None:
        """By this table nothing is set, whatever comes, and it remains the one."""
        refused = Times()
        refused.first.nanoseconds = -1
        for number in range(_TABLE_BYTES // _ENTRY_BYTES):
            entry = _Entry.from_address(table + number * _ENTRY_BYTES)
            entry.ends, entry.dumps, entry.table = refused, refused, table

    def _calls(self, inbox: int) -> tuple[Call, ...]:
        """One look."""
        entry = ctypes.addressof(self._desk)
        found = entry + _Entry.table.offset
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
