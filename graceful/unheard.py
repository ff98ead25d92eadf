"""Logs that nobody reads: a full pipe, or a terminal that is held, must not hold up the end.

A handler's write blocks its thread, most often the event loop's, for as long as the reader does not read.
From the signal on a record that would block is dropped and counted instead.
"""

from __future__ import annotations

import logging
import select
from collections.abc import Iterator
from typing import Any, Final

_WRITABLE: Final = 0  # milliseconds: look, don't wait


class UnheardLogs:
    """Filters on the handlers that write to a stream, between `begin` and `end`."""

    def __init__(self) -> None:
        self._guarded: list[tuple[logging.Handler, _Guard]] = []

    def begin(self) -> None:
        """From now on none of the handlers that are there waits for its reader. A record longer than what the
        kernel promises to take, 4 KiB, may still do so.
        """
        if not hasattr(select, "poll"):
            return
        for handler in _stream_handlers():
            guard = _Guard(handler)
            handler.addFilter(guard)
            self._guarded.append((handler, guard))

    def end(self) -> None:
        """The handlers are as they were found."""
        for handler, guard in self._guarded:
            handler.removeFilter(guard)
        self._guarded.clear()

    @property
    def dropped(self) -> int:
        """How many records were dropped, since `begin`."""
        return sum(guard.dropped for _, guard in self._guarded)


class _Guard(logging.Filter):
    """Lets a record pass where its handler's stream takes it at once."""

    def __init__(self, handler: logging.StreamHandler[Any]) -> None:
        super().__init__()
        self._handler = handler
        self.dropped = 0

    def filter(self, record: logging.LogRecord) -> bool:  # noqa: ARG002 - whichever it is
        """See logging.Filter."""
        try:
            descriptor = self._handler.stream.fileno()
        except (AttributeError, OSError, ValueError):  # no file, or closed: it cannot block
            return True
        poll = select.poll()
        poll.register(descriptor, select.POLLOUT)
        if poll.poll(_WRITABLE):
            return True
        self.dropped += 1
        return False


def _stream_handlers() -> Iterator[logging.StreamHandler[Any]]:
    loggers = [logging.getLogger(), *logging.getLogger().manager.loggerDict.values()]
    seen: set[logging.Handler] = set()
    for logger in loggers:
        for handler in getattr(logger, "handlers", ()):  # a placeholder has none
            if isinstance(handler, logging.StreamHandler) and handler not in seen:
                seen.add(handler)
                yield handler
