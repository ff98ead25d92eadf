"""The wakeup descriptor: another thread hears of a signal in the moment when the kernel delivers it.

A handler of Python's runs when the main thread comes back from C code; what the C handler writes to the
wakeup descriptor is there at once. There is one such descriptor in a process, and event loops use it: uvloop
sets its own at each `run_forever`, asyncio at each `add_signal_handler`. So it is taken again from time to
time, and what is read goes on to whoever had it.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import sys
import threading
from typing import Final

from graceful import signals

_LONGEST_WAIT: Final = 86_400.0
"""Seconds; poll(2) counts milliseconds in an int."""
_WAKE: Final = b"\0"  # no signal has this number; asyncio and uvloop ignore it in theirs too
_CHUNK: Final = 4096


class Wakeup:
    """A socket pair: the kernel's signals and our own wakes go in at one end, one thread reads the other."""

    def __init__(self) -> None:
        self._inbox, self._outbox = socket.socketpair()
        self._outbox.settimeout(0.0)
        self._selector = getattr(selectors, "PollSelector", selectors.SelectSelector)()
        self._selector.register(self._inbox, selectors.EVENT_READ)
        # Over the next two: the number of a closed descriptor may be that of a client's connection next.
        self._lock = threading.Lock()
        self._found = -1
        self._next: int | None = None

    def take(self) -> None:
        """Have the wakeup descriptor, again where somebody has set another since, who is handed on what
        comes. Main thread only.
        """
        if sys.platform == "win32":  # what is found there is a socket's handle, which cannot be duplicated so
            return
        ours = self._outbox.fileno()
        found = signals.set_wakeup_fd(ours)
        if found in {-1, ours}:
            return
        with self._lock, contextlib.suppress(OSError):
            self._forget_next()
            # A duplicate: once the loop has closed its own, the number may be that of a client's connection.
            self._found, self._next = found, os.dup(found)

    def give_back(self) -> None:
        """Whoever had the descriptor before us has it again, if it is still open. Main thread only."""
        found = signals.set_wakeup_fd(-1)
        with self._lock:
            if found == self._outbox.fileno():
                found = self._found if self._is_still_open() else -1
            self._forget_next()
        if found != -1:
            signals.set_wakeup_fd(found)

    def wake(self) -> None:
        """Have `wait` return. From any thread, and in signal handlers: it does no more than that."""
        with contextlib.suppress(OSError):  # full: there is enough to read; closed: nobody waits
            self._outbox.send(_WAKE)

    @property
    def ends(self) -> tuple[int, int]:
        """The descriptors of the pair: the one that `read` reads from, which blocks, and the other."""
        return self._inbox.fileno(), self._outbox.fileno()

    def wait(self, timeout: float | None) -> bool:
        """Whether there is something to read, once there is, or `timeout` seconds are over."""
        seconds = _LONGEST_WAIT if timeout is None else min(_LONGEST_WAIT, max(0.0, timeout))
        return bool(self._selector.select(seconds))

    def read(self, taken: bytes | None = None) -> bytes:
        """The numbers of the signals that have been delivered, and nothing of wakes; there must be something
        to read, unless somebody else has `taken` it. Raises OSError when the pair has been closed.
        """
        heard = (self._inbox.recv(_CHUNK) if taken is None else taken).replace(_WAKE, b"")
        if heard:
            self._hand_on(heard)
        return heard

    def close(self) -> None:
        """Nothing is heard of any more; `give_back` comes first."""
        self._inbox.close()
        self._outbox.close()

    def _hand_on(self, heard: bytes) -> None:
        with self._lock:
            if self._next is not None:
                # Full: its loop has enough to read. Broken: its loop is gone.
                with contextlib.suppress(OSError):
                    os.write(self._next, heard)

    def _is_still_open(self) -> bool:
        """Whether the number that was found still stands for what it stood for."""
        if self._next is None:
            return False
        try:
            return os.path.sameopenfile(self._found, self._next)
        except OSError:
            return False

    def _forget_next(self) -> None:
        if self._next is not None:
            os.close(self._next)
            self._next, self._found = None, -1
