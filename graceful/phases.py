"""The phases of one run and the only table of legal moves between them."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from graceful.errors import PhaseError


class Phase(StrEnum):
    """Where a run stands. The values are what metrics, JSON bodies and reports show."""

    STARTING = "starting"
    SERVING = "serving"
    LAME_DUCK = "lame_duck"
    DRAINING = "draining"
    RELEASING = "releasing"
    STOPPED = "stopped"

    @property
    def words(self) -> str:
        """The phase as people read it: `lame duck`, not `lame_duck`."""
        return self.value.replace("_", " ")


# A phase of no length is entered all the same, so that every run that has served passes every one of them.
# STARTING -> RELEASING is the startup that failed or was interrupted. A new run begins with a new machine.
MOVES: Final = MappingProxyType(
    {
        Phase.STARTING: frozenset({Phase.SERVING, Phase.RELEASING}),
        Phase.SERVING: frozenset({Phase.LAME_DUCK}),
        Phase.LAME_DUCK: frozenset({Phase.DRAINING}),
        Phase.DRAINING: frozenset({Phase.RELEASING}),
        Phase.RELEASING: frozenset({Phase.STOPPED}),
        Phase.STOPPED: frozenset[Phase](),
    }
)


class PhaseMachine:
    """The current phase of one run, and when each was entered."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.current = Phase.STARTING
        self.entered: dict[Phase, float] = {Phase.STARTING: clock()}

    def move(self, to: Phase) -> Phase:
        """Enter `to` and return the phase that was left; raises PhaseError, and changes nothing, if the table
        forbids it.
        """
        left = self.current
        if to not in MOVES[left]:
            allowed = ", ".join(sorted(MOVES[left])) or "none: a new run begins with a new machine"
            message = f"phase {left} cannot move to {to}; it can move to {allowed}"
            raise PhaseError(message)
        self.current = to
        self.entered[to] = self._clock()
        return left

    def seconds(self) -> dict[Phase, float]:
        """How long each phase that was entered has lasted; the current one until now, `stopped` none."""
        ordered = list(self.entered.items())
        ends = [at for _, at in ordered[1:]] + [self._clock()]
        return {
            phase: end - at
            for (phase, at), end in zip(ordered, ends, strict=True)
            if phase is not Phase.STOPPED
        }
