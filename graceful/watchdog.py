"""The watchdog: it ends the process when nothing else does, and at once when the user says so.

It is started before anything can hang and sleeps until a signal comes, so it costs nothing before. It needs
neither the event loop nor the main thread, and has two stages: a thread, which says who is in the way, and a
timer of the C library's, for when C code does not let any thread of Python's run. If it did not before the
signal either, a sentinel sets the timer.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Final

from graceful import signals
from graceful.budget import Budget, LastMoments
from graceful.dumps import StackDump, stderr_descriptor
from graceful.reports import ExitCode
from graceful.settings import Settings
from graceful.termination_log import TerminationLog, termination_log
from graceful.wakeup import Wakeup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from graceful.exit_timer import ExitTimer
    from graceful.sentinel import Sentinel

logger = logging.getLogger("graceful")

_BEGIN: Final = signals.TERMINATE + signals.INTERRUPT
_INTERRUPTS_TO_EXIT: Final = 3
_LAST_WORDS_SECONDS: Final = 0.5
_JOIN_SECONDS: Final = 1.0

_AHEAD: Final = (
    "{}: the shutdown did not finish: the process was ended by the watchdog while C code held the GIL, or "
    "was killed, crashed, or left by itself\n"
)


class Watchdog:
    """Ends the process with 70 at its deadline, with 130 at the third SIGINT, with 131 at a SIGQUIT (the last
    two only where `owned`).

    `in_the_way` and `in_short` are asked for its last words, the latter for the termination log: it has no
    paths in it.
    """

    def __init__(
        self,
        watch: signals.SignalWatch,
        *,
        owned: bool,
        clock: Callable[[], float] = time.monotonic,
        leave: Callable[[int], object] = os._exit,
    ) -> None:
        self._watch = watch
        self._owned = owned
        self._clock = clock
        self._leave = leave
        self._moments: LastMoments | None = None
        self._at: LastMoments | None = None
        self._written_ahead = False
        self._stopped = False
        self._wakeup: Wakeup | None = None
        self._thread: threading.Thread | None = None
        self._seen: dict[int, tuple[float, int]] = {}
        self._dump = StackDump()
        self._timer: ExitTimer | None = None
        self._sentinel: Sentinel | None = None
        self.in_the_way: Callable[[], str] = str
        self.in_short: Callable[[], str] = str
        self.termination_log: TerminationLog | None = None

    def start(self, settings: Settings) -> None:
        """Watch from now on: the first SIGTERM or SIGINT arms the deadline, which the settings' grace period
        and margin tell. Called again: other settings. Main thread only.
        """
        self._moments = Budget.of(settings, began=0.0).last_moments
        self.termination_log = termination_log(settings)
        if self._wakeup is None:
            self._wakeup = Wakeup()
            self._thread = threading.Thread(
                target=self._run, args=(self._wakeup,), name="graceful-watchdog", daemon=True
            )
            self._thread.start()
            self._watch.subscribe(self._noticed)
        else:
            self._wakeup.wake()
        self._wakeup.take()

    def keep_watch(self) -> None:
        """The app has started, and event loops have taken what they take: from now on nothing goes unnoticed.
        Called again from time to time; main thread only.
        """
        if self._wakeup is None:
            return
        self._wakeup.take()

    def arm(self, at: LastMoments) -> None:
        """End the process at these instants of the clock, unless it is stopped before. The first stand."""
        if self._at is None:
            self._at = at
        if self._wakeup is not None:
            self._wakeup.wake()

    def stop(self) -> None:
        """Nothing is ended any more, nothing is left of it; the thread has ended on return, or ends with its
        next breath.
        """
        self._stopped = True
        wakeup = self._wakeup
        if wakeup is None:
            return
        self._watch.unsubscribe(self._noticed)
        with contextlib.suppress(ValueError):  # not the main thread: nobody can take it away from there
            wakeup.give_back()
        self._wakeup = None
        wakeup.wake()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(_JOIN_SECONDS)
            if not self._thread.is_alive():  # else it still reads from it, and closes it itself
                wakeup.close()

    def _noticed(self) -> None:
        """A signal handler of Python's has run. It arms the timer itself: C code that runs handlers, but lets
        no other thread run, as a regular expression does, may go on after it.
        """
        self._set_deadline()
        if self._wakeup is not None:
            self._wakeup.wake()

    def _set_deadline(self) -> None:
        """By the first signal; called again, it changes nothing."""
        first = self._watch.first(_BEGIN)
        if first is not None and self._at is None and self._moments is not None:
            self._at = self._moments.after(first)
        at = self._at
        if at is not None and self._timer is not None and not self._stopped:
            now = self._clock()
            self._timer.set(dumps=at.dumps - now, ends=at.ends - now)

    # The first stage: a thread.

    def _run(self, wakeup: Wakeup) -> None:
        if sys.version_info < (3, 12):
            # Traced, by coverage or a debugger, a thread of CPython 3.11 makes no step while a signal waits
            # for the main thread, which may wait for this one to hand it on.
            sys.settrace(None)
        try:
            self._load_second_stage(wakeup)
            while not self._stopped:
                self._hear(wakeup)
        finally:
            if self._sentinel is not None:
                self._sentinel.leave()
            for each in (self._timer, self._sentinel):
                if each is not None:
                    each.close()
            self._dump.unregister()
            if self._wakeup is None:
                wakeup.close()

    def _hear(self, wakeup: Wakeup) -> None:
        """One signal, one wake, or the deadline. At each instant one of the two stages is on guard."""
        self._post_sentinel()
        something_came = wakeup.wait(None if self._at is None else self._at.acts - self._clock())
        if something_came:
            for signum in wakeup.read(self._taken_by_sentinel()):
                self._watch.hear(signum)
        self._look()
        if something_came and self._sentinel is not None:
            self._sentinel.relieve()

    def _look(self) -> None:
        """Read the signals that have come, and act on those that need no loop."""
        for signum in _BEGIN + signals.QUIT:
            came = self._watch.first((signum,))
            if came is not None:  # kept: in an adopted server the watch forgets them before the process ends
                self._seen[signum] = came, self._watch.count((signum,))
        if self._stopped:
            return
        self._look_at_the_clock()
        if self._owned and self._watch.count(signals.QUIT):
            self._end(ExitCode.QUIT, "SIGQUIT: exits at once")
        if self._owned and self._watch.count(signals.INTERRUPT) >= _INTERRUPTS_TO_EXIT:
            self._end(ExitCode.INTERRUPTED, "third SIGINT: exits at once")

    def _look_at_the_clock(self) -> None:
        self._set_deadline()
        if self._at is not None and not self._written_ahead:
            self._write_ahead()
        if self._at is not None and self._clock() >= self._at.acts:
            self._end(ExitCode.WATCHDOG, "the watchdog ends the process: its time is up and SIGKILL is near")

    def _end(self, code: int, why: str) -> None:
        """Say who is in the way and leave. On threads of their own: standard error may be full, the file's
        disk may hang, and who is asked may hold a lock.
        """
        until = self._clock() + _LAST_WORDS_SECONDS
        if code == ExitCode.WATCHDOG and self._at is not None:
            until = min(until, self._at.leaves)
        text = f"{self._came()}{why} (exit code {code})"
        speakers = [
            threading.Thread(target=speak, args=(text,), daemon=True) for speak in (self._say, self._write)
        ]
        try:
            for speaker in speakers:
                speaker.start()
            for speaker in speakers:
                speaker.join(timeout=max(0.0, until - self._clock()))
        finally:  # also where no thread can be started any more
            self._leave(code)

    def _came(self) -> str:
        """Which signals came, and when: `SIGTERM came 5.6 s ago (3 times); `."""
        said = []
        for signum, (first, count) in self._seen.items():
            times = f" ({count} times)" if count > 1 else ""
            said.append(f"{signals.name_of(signum)} came {self._clock() - first:.1f} s ago{times}")
        return f"{', '.join(said)}; " if said else ""

    def _write_ahead(self) -> None:
        """What the termination log holds if nobody comes to write more."""
        self._written_ahead = True
        if self.termination_log is not None:
            came = ", ".join(map(signals.name_of, self._seen)) or "shutdown"
            self.termination_log.write(_AHEAD.format(came), within=0.0)

    def _say(self, text: str) -> None:
        stderr = stderr_descriptor()
        if stderr is None:
            return
        with contextlib.suppress(OSError):  # there is nobody to read it
            _write_all(stderr, f"CRITICAL: graceful: {text}\n")
            _write_all(stderr, _asked(self.in_the_way))

    def _write(self, text: str) -> None:
        if self.termination_log is not None:
            self.termination_log.write(f"{text}\n{_asked(self.in_short)}", within=_LAST_WORDS_SECONDS)

    # The second stage: C.

    def _load_second_stage(self, wakeup: Wakeup) -> None:
        """On the watchdog's thread: nobody waits for ctypes to be imported."""
        self._dump.register()
        try:
            from graceful.exit_timer import ExitTimer  # noqa: PLC0415 - ctypes may not be there

            self._timer = ExitTimer(ExitCode.WATCHDOG, self._dump.signum)
        except (ImportError, OSError, AttributeError) as problem:
            logger.debug("no timer ends the process while C code holds the GIL: %s", problem)
            return
        try:
            from graceful.sentinel import Sentinel  # noqa: PLC0415 - see above

            self._sentinel = Sentinel(
                *wakeup.ends, _BEGIN, code=ExitCode.WATCHDOG, dump_signal=self._dump.signum
            )
        except (OSError, AttributeError) as problem:
            logger.debug("C code that holds the GIL when the signal comes is not noticed: %s", problem)

    def _post_sentinel(self) -> None:
        """Until the deadline is set it is in nobody else's hands while no Python runs."""
        if self._sentinel is None or self._at is not None or self._moments is None or self._stopped:
            return
        with contextlib.suppress(OSError):  # no thread to be had: with the next wake, perhaps
            self._sentinel.watch(dumps=self._moments.dumps, ends=self._moments.ends)

    def _taken_by_sentinel(self) -> bytes | None:
        """What has come, where it was on guard and is so again, or is not needed any more."""
        if self._sentinel is None:
            return None
        if self._at is None:
            return self._sentinel.renew()
        self._sentinel.leave()
        return None


def _asked(who: Callable[[], str]) -> str:
    try:
        return who()
    except Exception as problem:  # noqa: BLE001 - it looks into a service that is broken; these are the last words
        return f"  who is in the way cannot be said: {type(problem).__name__}\n"


def _write_all(descriptor: int, text: str) -> None:
    rest = text.encode("utf-8", "backslashreplace")
    while rest:
        rest = rest[os.write(descriptor, rest) :]
