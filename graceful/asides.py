"""Log records of a thread that must not be kept waiting: another one hands them to the log.

Who logs waits for the handler's lock, which a blocked thread may hold, and for a pipe that nobody reads.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from queue import SimpleQueue
from typing import Final

logger = logging.getLogger("graceful")

_MOST_WAITING: Final = 100


class Asides:
    """A daemon thread, from the first record on. What does not fit into its queue is lost."""

    def __init__(self) -> None:
        self._waiting: SimpleQueue[tuple[int, str, BaseException | None]] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def say(self, level: int, text: str, raised: BaseException | None = None) -> None:
        """`text` will be logged, with the traceback of what was raised. Does not wait; from any thread."""
        if not logger.isEnabledFor(level) or self._waiting.qsize() >= _MOST_WAITING:
            return
        self._waiting.put((level, text, raised))
        with self._lock:
            if self._thread is None or not self._thread.is_alive():  # the first time, and in a forked child
                self._thread = threading.Thread(target=self._run, name="graceful-log", daemon=True)
                with contextlib.suppress(RuntimeError):  # with the next record, perhaps
                    self._thread.start()

    def _run(self) -> None:
        while True:
            level, text, raised = self._waiting.get()
            logger.log(level, "%s", text, exc_info=raised)
            del raised  # its traceback holds the frames of others


ASIDES: Final = Asides()
