"""What others have written, in a line of ours."""

from __future__ import annotations

import pytest

from graceful.rehearse.wording import escaped, one_line


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", ""),
        ("\n \n  first\tone \nsecond", "first one"),
        ("a\x1b[2Jb\x00", "a\\x1b[2Jb\\x00"),
        ("é ☃", "é ☃"),
        ("x" * 121, "x" * 120 + "…"),
        ("x" * 120, "x" * 120),
    ],
)
def test_one_line(text: str, line: str) -> None:
    assert one_line(text) == line


def test_escaped_keeps_all_of_it() -> None:
    assert escaped("a\nb\u2028c\x85d" + "e" * 200 + "\u202e") == "a b c d" + "e" * 200 + "\\u202e"
