"""How long a process that has ended waits until it is started again.

https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#restart-policy
"""

from __future__ import annotations

from typing import Final

FIRST: Final = 10.0
LONGEST: Final = 300.0
RESET_AFTER: Final = 600.0
"""Seconds without trouble after which the past is forgotten."""


class BackOff:
    """CrashLoopBackOff: the first restart is immediate, then come 10 seconds, 20, 40, ... 300."""

    def __init__(self) -> None:
        self._next = 0.0

    def delay(self, ran: float) -> float:
        """Seconds from an end to the start that follows, of what ran for `ran` seconds."""
        if ran >= RESET_AFTER:
            self._next = 0.0
        delay = self._next
        self._next = min(LONGEST, max(FIRST, 2 * delay))
        return delay
