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

    def verdict(self, text: str, *, good: bool) -> None:
        """The last word."""
        self._line("\n" + self._dyed(textwrap.fill(text, WIDTH), _GREEN if good else _RED))

    def _line(self, text: str) -> None:
        print(text, flush=True)

    def _dyed(self, text: str, colour: str) -> str:
        return f"\033[{colour}m{text}\033[0m" if self._colours and text else text
