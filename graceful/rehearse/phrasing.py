"""How numbers, names and what a service said are put into words, alike in every report."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Final

from graceful.signals import name_of

# CSI and OSC sequences (ECMA-48, 5.4 and 5.6): colours, cursor movements, window titles.
_ESCAPES: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
# What neither XML nor a terminal may be given: controls, lone surrogates, directions that reorder a line.
_FORBIDDEN: Final = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff\u202a-\u202e\u2066-\u2069\u2028\u2029]"
)
_BREAKS: Final = re.compile(r"[\t\n]+")


def printable(text: str) -> str:
    """`text` without colours and without what could move a cursor, break XML or hide what it says. Its lines
    stay.
    """
    return _FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", _ESCAPES.sub("", text.replace("\r\n", "\n")))


def flat(text: str, most: int = 200) -> str:
    """`text`, printable, on one line, of at most `most` characters."""
    line = _BREAKS.sub(" ", printable(text)).strip()
    return line if len(line) <= most else line[: most - 1] + "…"


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """`1 request`, `1,204 requests`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def listing(words: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def seconds(value: float) -> str:
    """`2.0 s`; never `-0.0 s`."""
    return f"{round(value, 1) + 0.0:.1f} s"


def signed(value: float) -> str:
    """`+2.0`, `-0.5` or `0.0`: seconds before and after an instant."""
    rounded = round(value, 1)
    return f"{rounded:+.1f}" if rounded else "0.0"


def at_least(value: float) -> str:
    """Seconds to ask for where `value` was needed: rounded up to a tenth, as `2.3`, or `30`."""
    return f"{math.ceil(round(value * 10, 6)) / 10:g}"


def whole(value: float) -> str:
    """The same in whole seconds, for fields that take no fraction."""
    return str(max(1, math.ceil(round(value, 6))))


def hook(pre_stop: float | tuple[str, ...]) -> str:
    """What it does, a sleep or a command: `2 s`, `sleep 2`."""
    return " ".join(pre_stop) if isinstance(pre_stop, tuple) else f"{pre_stop:g} s"


def ending(code: int | None) -> str:
    """How a process ended, for people: `exit code 1`, `ended by SIGTERM`."""
    if code is None:
        return "still running"
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"ended by {name_of(-code)}"
    except ValueError:
        return f"ended by signal {-code}"
