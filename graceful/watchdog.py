"""The watchdog: a thread that ends the process when nothing else does, and at once when the user says so.

It is started before anything can hang and sleeps in one lock until a signal comes, so it costs nothing
before. It needs neither the event loop nor the main thread.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Final

from graceful import signals

EXIT_WATCHDOG: Final = 70
EXIT_INTERRUPTED: Final = 130
EXIT_QUIT: Final = 131

_LOOK: Final = True
_STOP: Final = False
_INTERRUPTS_TO_EXIT: Final = 3
_LAST_WORDS_SECONDS: Final = 0.5


class Watchdog:
    """Ends the process with 70 at its deadline, with 130 at the third SIGINT, with 131 at a SIGQUIT (the last
    two only where `owned`).
    """

    def __init__(
        self, watch: signals.SignalWatch, *, owned: bool, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._watch = watch
        self._owned = owned
        self._clock = clock
        # Its put() is reentrant: the one queue that a signal handler may use.
        self._queue: SimpleQueue[bool] = SimpleQueue()
        self._deadline: float | None = None
        self._allowed: float | None = None
        self._thread: threading.Thread | None = None
        self.in_the_way: Callable[[], str] = lambda: ""

    def start(self, allowed: float) -> None:
        """Watch from now on: the first SIGTERM or SIGINT arms the deadline, `allowed` seconds after it.
        Called again: another `allowed`.
        """
        self._allowed = allowed
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="graceful-watchdog", daemon=True)
            self._thread.start()
            self._watch.subscribe(self._wake)
        self._wake()

    def arm(self, deadline: float) -> None:
        """End the process at `deadline`, in seconds of the clock, unless it is stopped before. The first
        deadline stands.
        """
        if self._deadline is None:
            self._deadline = deadline
        self._wake()

    def stop(self) -> None:
        """Nothing is ended any more; the thread has ended on return, or ends with its next breath."""
        self._watch.unsubscribe(self._wake)
        self._queue.put(_STOP)
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout=1.0)
        self._thread = None

    def _wake(self) -> None:
        self._queue.put(_LOOK)

    def _run(self) -> None:
        while True:
            timeout = None if self._deadline is None else max(0.0, self._deadline - self._clock())
            try:
                if not self._queue.get(timeout=timeout):
                    return
            except Empty:
                self._end(EXIT_WATCHDOG, "the watchdog ends the process: its time is up and SIGKILL is near")
            self._look()

    def _look(self) -> None:
        """Read the signals that have been noted, and act on those that need no loop."""
        noted = list(self._watch.noted)
        begins = [arrival.at for arrival in noted if arrival.signum in signals.TERMINATE + signals.INTERRUPT]
        if begins and self._deadline is None and self._allowed is not None:
            self._deadline = begins[0] + self._allowed
        if not self._owned:
            return
        if any(arrival.signum in signals.QUIT for arrival in noted):
            self._end(EXIT_QUIT, "SIGQUIT: exits at once")
        if sum(arrival.signum in signals.INTERRUPT for arrival in noted) >= _INTERRUPTS_TO_EXIT:
            self._end(EXIT_INTERRUPTED, "third SIGINT: exits at once")

    def _end(self, code: int, why: str) -> None:
        """Say who is in the way, on a thread of its own, since standard error may be full, and leave."""
        speaker = threading.Thread(target=self._last_words, args=(why,), daemon=True)
        try:
            speaker.start()
            speaker.join(timeout=_LAST_WORDS_SECONDS)
        finally:  # also where no thread can be started any more
            os._exit(code)

    def _last_words(self, why: str) -> None:
        if (
            sys.__stderr__ is None
        ):  # closed from the start: descriptor 2 is somebody else's, perhaps a client's
            return
        text = f"CRITICAL: graceful: {why}\n{self.in_the_way()}"
        os.write(sys.__stderr__.fileno(), text.encode("utf-8", "backslashreplace"))
