"""A measured figure, its bar, and the table of all."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from graceful.rehearse.model import Outcome


class MeasurementError(Exception):
    """A figure could not be measured; the message says why."""


class Mark(StrEnum):
    """How a figure stands to its bar."""

    OK = "ok"
    MISSED = "MISSED"
    UNSURE = "unsure"
    NO_BAR = "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One line of the table. `bar` is the most that `measured` may be, in the same `unit`; None: it is here
    for comparison.

    `spread` says in words how sure the figure is; `sound` is false if it is not to be trusted at all. `notes`
    are printed below the table; `detail` holds what `--json` shows besides.
    """

    name: str
    measured: float
    spread: str
    bar: float | None = None
    unit: str = ""
    sound: bool = True
    notes: Sequence[str] = ()
    detail: Mapping[str, Any] = field(default_factory=dict)

    @property
    def mark(self) -> Mark:
        """Whether the bar is reached; unsure where the machine was too busy to tell."""
        if self.bar is None:
            return Mark.NO_BAR
        if not self.sound:
            return Mark.UNSURE
        return Mark.OK if self.measured <= self.bar else Mark.MISSED

    def as_dict(self) -> dict[str, Any]:
        """The figure in plain types, fit for `json.dumps`."""
        return {
            "figure": self.name,
            "measured": self.measured,
            "unit": self.unit,
            "bar": self.bar,
            "mark": self.mark,
            "spread": self.spread,
            "notes": list(self.notes),
            "detail": dict(self.detail),
        }


_HEADINGS: Final = ("figure", "measured", "bar", "", "spread")


def table(figures: Iterable[Figure]) -> str:
    """All figures as text, one a line."""
    rows = [_HEADINGS] + [
        (
            figure.name,
            _amount(figure.measured, figure.unit),
            "-" if figure.bar is None else f"<= {_amount(figure.bar, figure.unit)}",
            str(figure.mark),
            figure.spread,
        )
        for figure in figures
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    padded = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in rows]
    return "\n".join("  ".join(cells).rstrip() for cells in padded)


def _amount(value: float, unit: str) -> str:
    return f"{value:.4g} {unit}".rstrip()


def span(values: Sequence[float], *, scale: float = 1.0) -> str:
    """Median and range, as `12.1 (10.9-14.0)`, each times `scale`."""
    low, middle, high = (scale * value for value in (min(values), statistics.median(values), max(values)))
    return f"{middle:.3g} ({low:.3g}-{high:.3g})"


def shares(outcomes: Mapping[Outcome, int]) -> str:
    """As `answered 98, reset 2`."""
    return ", ".join(f"{outcome} {count}" for outcome, count in outcomes.items())
