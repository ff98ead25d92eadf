"""What others have written, made fit for a line of ours."""

from __future__ import annotations

from typing import Final

_SHOWN: Final = 120  # characters: enough to recognise it


def one_line(text: str) -> str:
    """The first line of `text` that is not blank, the end of a long one left out, as `escaped` has it."""
    line = next(filter(None, (each.strip() for each in text.splitlines())), "")
    return escaped(line if len(line) <= _SHOWN else f"{line[:_SHOWN]}…")


def escaped(text: str) -> str:
    """`text` in one line; what cannot be printed is escaped, so that nothing in it can begin a line or move a
    terminal's cursor.
    """
    flat = " ".join(text.split())
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in flat)
