"""Numbers, names and foreign text as every report shows them."""

from __future__ import annotations

import pytest

from graceful.rehearse import phrasing


@pytest.mark.parametrize(
    ("found", "shown"),
    [
        ("plain\ntwo lines", "plain\ntwo lines"),
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]0;a title\x07text", "text"),
        ("bell\x07 null\x00", "bell\N{REPLACEMENT CHARACTER} null\N{REPLACEMENT CHARACTER}"),
        ("\udcff", "\N{REPLACEMENT CHARACTER}"),
        ("user\u202etxt.exe", "user\N{REPLACEMENT CHARACTER}txt.exe"),
        ("dos\r\nlines", "dos\nlines"),
        ("over\rwritten", "over\N{REPLACEMENT CHARACTER}written"),
    ],
)
def test_nothing_foreign_moves_a_cursor_or_breaks_a_file(found: str, shown: str) -> None:
    assert phrasing.printable(found) == shown


def test_one_line_is_one_line_of_its_length() -> None:
    assert phrasing.flat(" a\n\tb ") == "a b"
    assert phrasing.flat("x" * 300, 10) == "x" * 9 + "…"


@pytest.mark.parametrize(("value", "shown"), [(0.0, "0.0"), (-0.04, "0.0"), (2.0, "+2.0"), (-0.5, "-0.5")])
def test_seconds_around_an_instant(value: float, shown: str) -> None:
    assert phrasing.signed(value) == shown


@pytest.mark.parametrize(
    ("needed", "asked"), [(2.3, "2.3"), (2.3000000001, "2.3"), (2.301, "2.4"), (30.0, "30")]
)
def test_what_is_asked_for_is_never_less_than_what_is_needed(needed: float, asked: str) -> None:
    assert phrasing.at_least(needed) == asked


def test_whole_seconds_are_at_least_one() -> None:
    assert [phrasing.whole(value) for value in (0.0, 0.2, 2.0, 2.1)] == ["1", "1", "2", "3"]


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (None, "still running"),
        (3, "exit code 3"),
        (-15, "ended by SIGTERM"),
        (-200, "ended by signal 200"),
    ],
)
def test_how_a_process_ended(code: int | None, said: str) -> None:
    assert phrasing.ending(code) == said


def test_counts_and_lists() -> None:
    assert phrasing.counted(1, "process", "processes") == "1 process"
    assert phrasing.counted(1204, "process", "processes") == "1,204 processes"
    assert phrasing.listing(["a"]) == "a"
    assert phrasing.listing(["a", "b", "c"]) == "a, b and c"
