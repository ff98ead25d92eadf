"""The budget of one shutdown: when each part of the grace period ends, as instants of the clock."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from graceful.settings import Settings

# The way out: before the watchdog would have to act, a resource that hangs has been given up, the report
# written, and
# the process is gone. What is cut off at the end of the drain has as long to accept that. Seconds, and the
# largest part
# of what the signal has left.
_EXIT_SECONDS: Final = 0.5
_EXIT_PART: Final = 1 / 10


# What the watchdog's stages have of the margin: the last words, the native stacks, and the end whatever
# became of them. The rest is the kernel's, to take the process down. Parts of it, and seconds at most.
_LAST_WORDS: Final = (1 / 4, 0.5)
_DUMP: Final = (1 / 2, 0.75)
_END: Final = (3 / 4, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class LastMoments:
    """When the watchdog does what, in seconds after the signal, or as instants of the clock.

    It `acts` with its last words, and `leaves` whatever became of them. Its second stage is there in case
    that C code does not let any Python run: when the first should have left it
    `dumps` the native stacks, and `ends` the process.
    """

    acts: float
    leaves: float
    dumps: float
    ends: float

    def after(self, signal_at: float) -> LastMoments:
        """The same as instants, for a signal that came at `signal_at`."""
        return LastMoments(
            acts=signal_at + self.acts,
            leaves=signal_at + self.leaves,
            dumps=signal_at + self.dumps,
            ends=signal_at + self.ends,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Instants of the clock, in seconds: the first seven in the order of time, of which some may coincide.

    `drain_latest` is when the drain must be over whatever happened before, so that `release_timeout` is left;
    `drain_timeout` is no instant but the most seconds that the drain may take: infinite where nobody has set
    it, since it then has what remains.
    """

    began: float
    lame_duck_ends: float
    drain_ends: float
    release_ends: float
    exit_ends: float
    watchdog_acts: float
    killed_at: float
    drain_latest: float
    drain_timeout: float
    way_out: float

    @classmethod
    def of(cls, settings: Settings, *, began: float, lame_duck: bool = True) -> Budget:
        """The budget of a signal that came at `began`.

        Without `lame_duck` the drain begins at once, and has the lame duck's time too unless its own is set.
        """
        killed_at = began + settings.grace_period - settings.pre_stop
        # The settings fit; the bounds here keep the order where sums of floats differ in their last digit.
        watchdog_acts = max(began, killed_at - settings.exit_margin)
        way_out = min(_EXIT_SECONDS, (watchdog_acts - began) * _EXIT_PART)
        release_ends = max(began, watchdog_acts - way_out)
        # The drain pays for both ends of the release: `release_timeout` is kept whatever the drain does.
        drain_latest = max(began, release_ends - settings.release_timeout - way_out)
        lame_duck_ends = min(began + settings.lame_duck, drain_latest) if lame_duck else began
        drain_timeout = settings.drain_timeout if "drain_timeout" in settings.sources else math.inf
        return cls(
            began=began,
            lame_duck_ends=lame_duck_ends,
            drain_ends=min(lame_duck_ends + drain_timeout, drain_latest),
            release_ends=release_ends,
            exit_ends=(release_ends + watchdog_acts) / 2,
            watchdog_acts=watchdog_acts,
            killed_at=killed_at,
            drain_latest=drain_latest,
            drain_timeout=drain_timeout,
            way_out=way_out,
        )

    def drain_deadline(self, drain_began: float) -> float:
        """When a drain that began at `drain_began` must end; never before it began.

        What an early end of the lame duck leaves over goes to the drain; what a late one has used is not
        taken from the release.
        """
        return max(drain_began, min(drain_began + self.drain_timeout, self.drain_latest))

    @property
    def last_moments(self) -> LastMoments:
        """What the watchdog does in the margin: all of it before SIGKILL."""
        margin = self.killed_at - self.watchdog_acts
        leaves, dumps, ends = (
            self.watchdog_acts + min(margin * part, most) for part, most in (_LAST_WORDS, _DUMP, _END)
        )
        return LastMoments(acts=self.watchdog_acts, leaves=leaves, dumps=dumps, ends=ends)
