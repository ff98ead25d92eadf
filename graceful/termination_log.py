"""Kubernetes' termination log: the file whose text is shown as the last state of a container that has ended.

https://kubernetes.io/docs/tasks/debug/debug-application/determine-reason-pod-failure/
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import stat
import threading
from typing import Final

from graceful.settings import Settings

logger = logging.getLogger("graceful")

MOST_BYTES: Final = 4096
"""Kubernetes shows no more of one container."""
_MODE: Final = 0o644


class TerminationLog:
    """One file. Writing it never raises and never holds anybody up: each text is written on a thread of its
    own, and a later text is never overwritten by an earlier one.

    A file that is not there is made only where `create`: Kubernetes mounts it, so that where the default path
    does not exist nobody would read it. `flags` are what it is opened with.
    """

    def __init__(self, path: str, *, create: bool) -> None:
        self.path = path
        self.flags = os.O_WRONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
        if create:
            self.flags |= os.O_CREAT
        self._create = create
        self._numbers = itertools.count(1)
        self._asked = 0
        self._lock = threading.Lock()

    def write(self, text: str, *, within: float) -> None:
        """The file holds `text`, cut to 4,096 bytes, on return, or it has taken longer than `within` seconds,
        or there is a line in the log.
        """
        self._asked = number = next(self._numbers)
        writer = threading.Thread(
            target=self._write, args=(number, text), name="graceful-termination-log", daemon=True
        )
        with contextlib.suppress(RuntimeError):  # no thread can be started any more
            writer.start()
            writer.join(timeout=within)

    def _write(self, number: int, text: str) -> None:
        with self._lock:
            if number < self._asked:
                return
            try:
                _overwrite(self.path, self.flags, cut(text))
            except OSError as problem:
                level = logging.WARNING if self._create else logging.DEBUG
                logger.log(level, "the termination log %s cannot be written: %s", self.path, problem.strerror)


def termination_log(settings: Settings) -> TerminationLog | None:
    """The one that the settings name; None where there is none."""
    if settings.termination_log is None:
        return None
    return TerminationLog(settings.termination_log, create="termination_log" in settings.sources)


def cut(text: str) -> bytes:
    """UTF-8, 4,096 bytes at most, no character of it cut in two."""
    whole = text.encode("utf-8", "backslashreplace")
    return whole[:MOST_BYTES].decode("utf-8", "ignore").encode()


def _overwrite(path: str, flags: int, content: bytes) -> None:
    """In place, since a mounted file cannot be replaced; and the new text is there before the rest of the old
    one is taken away, so that it is never empty. A pipe that nobody reads is an OSError, not a wait.
    """
    descriptor = os.open(path, flags, _MODE)
    try:
        os.write(descriptor, content)
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.ftruncate(descriptor, len(content))
    finally:
        os.close(descriptor)
