"""Measuring several things side by side, so that whatever else the machine does meets them all."""

from __future__ import annotations

from collections.abc import Callable, Sequence


def interleaved(rounds: int, measures: Sequence[Callable[[], float]]) -> list[list[float]]:
    """Each measure's values over `rounds` rounds. In each round they take turns to be first."""
    values: list[list[float]] = [[] for _ in measures]
    for number in range(rounds):
        for step in range(len(measures)):
            which = (number + step) % len(measures)
            values[which].append(measures[which]())
    return values
