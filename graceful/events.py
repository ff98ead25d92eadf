"""What observers are told: frozen events, handed on in order, isolated from each other."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from graceful.phases import Phase

logger = logging.getLogger("graceful")


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseChange:
    """The run has entered `phase`. Times are seconds of the monotonic clock."""

    phase: Phase
    previous: Phase | None
    at: float
    reason: str | None
    in_flight: int


Observer: TypeAlias = Callable[[PhaseChange], object]


class Observers:
    """Those who asked to be told of each phase, in the order in which they asked."""

    def __init__(self) -> None:
        self._observers: list[Observer] = []

    def add(self, observer: Observer) -> None:
        """`observer` is called, on the loop's thread, after each change of phase from now on."""
        self._observers.append(observer)

    def tell(self, change: PhaseChange) -> None:
        """Call each observer; one that raises is logged with its traceback and stops neither the others nor
        the run.
        """
        for observer in self._observers:
            try:
                observer(change)
            except BaseException:  # an exit or a cancellation of an observer's is not the run's
                name = getattr(observer, "__qualname__", repr(observer))
                logger.exception(
                    "observer %s raised when told of phase %s; the run goes on", name, change.phase
                )
