"""When a probe is taken, and what a row of its results means."""

from __future__ import annotations

import asyncio
import math

from graceful.rehearse.model import Probe


class Streak:
    """Counts results of one kind in a row."""

    def __init__(self, probe: Probe) -> None:
        self._probe = probe
        self._ok = False
        self.length = 0

    def add(self, *, ok: bool) -> bool:
        """Whether as many in a row say the same as it takes to believe them."""
        self.length = self.length + 1 if ok == self._ok else 1
        self._ok = ok
        return self.length >= (self._probe.success_threshold if ok else self._probe.failure_threshold)


class Ticker:
    """Instants from `first` on, `period` seconds apart; `first` may have passed, then the first is now.

    After something that took too long the next is due at once, and no other is made up for, as with the
    kubelet.
    """

    def __init__(self, first: float, period: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._due = max(first, self._loop.time()) - period
        self._period = period

    async def tick(self) -> None:
        """Return when the next instant has come."""
        missed = math.floor((self._loop.time() - self._due) / self._period)
        self._due += self._period * max(1, missed)
        await asyncio.sleep(max(0.0, self._due - self._loop.time()))
