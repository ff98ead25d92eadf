"""Who steers a run: signals that have been noted, and requests of the app, become the lifecycle's `begin` and
`hurry`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Final

from graceful import signals
from graceful.budget import Budget
from graceful.lifecycle import Lifecycle
from graceful.watchdog import Watchdog

logger = logging.getLogger("graceful")

_INTERRUPTS_TO_HURRY: Final = 2


class Steering:
    """The hand on one run, on its loop. Signals are its business only once it has been told to listen to a
    watch.

    `needs_no_lame_duck` is asked, of each signal that begins the shutdown, whether no router has to be given
    time.
    """

    def __init__(
        self, lifecycle: Lifecycle, *, needs_no_lame_duck: Callable[[int], bool], owned: bool
    ) -> None:
        self._lifecycle = lifecycle
        self._needs_no_lame_duck = needs_no_lame_duck
        self._owned = owned
        self._loop = asyncio.get_running_loop()
        self._watch: signals.SignalWatch | None = None
        self._watchdog: Watchdog | None = None
        self._seen = 0
        self._interrupts = 0
        self._requested: str | None = None

    @property
    def loop_is_gone(self) -> bool:
        """Whether the loop of the run has been closed, so that it can go on no more."""
        return self._loop.is_closed()

    @property
    def signalled(self) -> bool:
        """Whether a signal has come: only then does the process of a foreign server end with the run."""
        return self._watch is not None and bool(self._watch.noted)

    @property
    def asked_to_leave(self) -> bool:
        """Whether a signal has come, or the app has asked: true at once, from any thread, although the loop
        may be blocked, and the main thread in C code, so that no handler of Python's runs.
        """
        heard = self._watch is not None and bool(self._watch.heard)
        return self.signalled or heard or self._requested is not None

    def listen_to(self, watch: signals.SignalWatch, watchdog: Watchdog | None) -> None:
        """From now on the signals that `watch` notes steer the run, also those that it has noted already."""
        self._watch, self._watchdog = watch, watchdog
        watch.subscribe(self.wake)
        self.look()  # before anything is started: the wake is heard a turn of the loop later

    def request(self, reason: str) -> None:
        """Begin the shutdown for `reason`; from any thread."""
        self._requested = reason
        self.wake()

    def wake(self) -> None:
        """Have the loop look. From any thread, and in signal handlers: it does no more than that."""
        with contextlib.suppress(RuntimeError):  # the loop has been closed: the run is over
            self._loop.call_soon_threadsafe(self.look)

    def look(self) -> None:
        """On the loop: act on the signals that have been noted since the last look, and on what was
        requested.
        """
        arrivals = self._watch.noted[self._seen :] if self._watch is not None else []
        self._seen += len(arrivals)
        for arrival in arrivals:
            self._lifecycle.signals += 1
            if arrival.signum in signals.QUIT:  # the watchdog's: it exits at once
                continue
            self._interrupts += arrival.signum in signals.INTERRUPT
            lame_duck = not self._needs_no_lame_duck(arrival.signum)
            self._lifecycle.begin(signals.name_of(arrival.signum), at=arrival.at, lame_duck=lame_duck)
        if self._interrupts >= _INTERRUPTS_TO_HURRY:
            self._lifecycle.hurry()
        if self._requested is not None:
            self._lifecycle.begin(self._requested)

    def begun(self, budget: Budget) -> None:
        """The shutdown has begun: the watchdog is armed, where the process is to end with it."""
        if self._watchdog is not None and (self._owned or self.signalled):
            self._watchdog.arm(budget.last_moments)

    def keep_sigterm(self) -> None:
        """If a library has taken SIGTERM for itself, take it back, once, and name it. SIGINT and SIGQUIT are
        let go. The watchdog sees to it that it hears of them.
        """
        if self._watchdog is not None:
            self._watchdog.keep_watch()
        for signum in signals.TERMINATE if self._watch is not None else ():
            taker = None if self._watch is None else self._watch.put_back(signum)
            if taker is not None:
                taken = f"{signals.name_of(signum)} was taken by {taker}, so that there would be no drain"
                logger.warning("%s; ours is put back, and the other is called after the lame duck", taken)

    def let_go(self) -> None:
        """The run is over: signals are as they were found, and the watchdog no longer ends a process that
        goes on.

        A signal that came when the run had ended for another reason is delivered again, to whoever has the
        signals now.
        """
        watch = self._watch
        if watch is None:
            return
        if not self._owned and not self.signalled and self._watchdog is not None:
            self._watchdog.stop()
        unseen = [] if self._lifecycle.signals else watch.noted[self._seen :]
        watch.unsubscribe(self.wake)
        watch.restore()
        self._watch = None
        for arrival in unseen:
            signals.raise_again(arrival.signum)
