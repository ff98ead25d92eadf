"""What the demo writes on: at most 80 columns of ASCII, with colours only on a terminal and not where
NO_COLOR is set.
"""

from __future__ import annotations

import os
import sys
import textwrap
from typing import Final

WIDTH: Final = 80

_BOLD: Final = "1"
_RED: Final = "31"
_GREEN: Final = "32"
_YELLOW: Final = "33"
_PER_MARK: Final = 2


class Paper:
    """Prints at once, line by line."""

    def __init__(self) -> None:
        self._colours = (
            sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        )

    def heading(self, text: str) -> None:
        """A line that begins something new."""
        self._line(f"\n{self._dyed(text, _BOLD)}\n{'-' * len(text)}")

    def prose(self, *paragraphs: str) -> None:
        """Text to read, filled to the width."""
        self._line("\n\n".join(textwrap.fill(" ".join(text.split()), WIDTH) for text in paragraphs))

    def quote(self, text: str) -> None:
        """Lines of others, as they are."""
        self._line("\n".join(f"  {line}" for line in text.strip().splitlines()))

    def event(self, seconds: float, text: str) -> None:
        """Something that happened, `seconds` after the signal."""
        lines = textwrap.wrap(text, WIDTH - 12)
        self._line(f"{_time(seconds)}  * {self._dyed(lines[0], _YELLOW)}")
        for line in lines[1:]:
            self._line(f"{'':12}{self._dyed(line, _YELLOW)}")

    def count(self, seconds: float, answered: int, lost: int) -> None:
        """What became of the requests that were over in the half second up to `seconds` after the signal."""
        good, bad = "#" * _marks(answered), "x" * _marks(lost)
        text = f"{answered:3} answered" + (f", {lost:3} LOST" if lost else "")
        self._line(f"{_time(seconds)}    {text:24}{self._dyed(good, _GREEN)}{self._dyed(bad, _RED)}")

    def row(self, what: str, first: str, second: str) -> None:
        """A line of the table that sets two runs side by side."""
        self._line(f"  {what:36} {first:>20} {second:>20}")

    def verdict(self, text: str, *, good: bool) -> None:
        """The last word."""
        self._line("\n" + self._dyed(textwrap.fill(text, WIDTH), _GREEN if good else _RED))

    def _line(self, text: str) -> None:
        print(text, flush=True)

    def _dyed(self, text: str, colour: str) -> str:
        return f"\033[{colour}m{text}\033[0m" if self._colours and text else text


def _time(seconds: float) -> str:
    return f"{seconds:+6.1f} s" if round(seconds, 1) else "   0.0 s"


def _marks(requests: int) -> int:
    return -(-requests // _PER_MARK)
