"""The demo shows the command that it runs, reads its counts, and ends with the path of the page."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from demo import __main__ as demo
from graceful.cli.rehearse_options import parser
from graceful.rehearse.figures import Judged
from graceful.rehearse.judging import judge
from graceful.rehearse.story import tell_side_by_side
from tests.rehearse.made import Manners, made

GOOD, BAD = (Judged(rehearsal=each, verdict=judge(each)) for each in (made(), made(Manners(closes=0.0))))
TOLD = tell_side_by_side([GOOD, BAD]) + "\n"
LOST = len(BAD.rehearsal.lost)


def play(monkeypatch: pytest.MonkeyPatch, folder: Path, told: str, code: int) -> int:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(demo, "_told", lambda _command: (told, code))
    return demo.main()


def test_what_is_shown_is_what_is_run() -> None:
    pieces = demo.rehearsal()
    shown = demo.spelled(pieces)
    words = [word for piece in pieces for word in piece]
    assert shlex.split(shown.replace("\\\n", "")) == words
    options = parser().parse_args(words[2:])
    assert (options.target, options.html) == (["rig.service:app"], str(demo.PAGE))
    assert options.against.startswith(f"{Path(words[0]).parent / 'uvicorn'} rig.service:app ")


def test_it_concludes_with_both_counts_and_ends_with_the_page(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert LOST
    assert play(monkeypatch, tmp_path, TOLD, 0) == 0
    lines = capsys.readouterr().out.splitlines()
    sent, other = (len(each.rehearsal.entries) for each in (GOOD, BAD))
    assert f"Lost: 0 of {sent:,} under graceful run, {LOST} of {other:,} under uvicorn." in lines
    assert lines[-1] == str(demo.PAGE)
    assert demo.PAGE.parent.is_dir()


@pytest.mark.parametrize("code", [1, 2])
def test_it_fails_where_the_rehearsal_does(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], code: int
) -> None:
    assert play(monkeypatch, tmp_path, TOLD, code) == code
    assert "But the verdict over graceful run is not what it should be" in capsys.readouterr().out


def test_it_says_where_nothing_could_be_rehearsed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert play(monkeypatch, tmp_path, "", 2) == 2
    assert "nothing could be rehearsed" in capsys.readouterr().err
