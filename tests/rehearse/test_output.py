"""A rehearsal's output where there is nobody to read it, no room for it, or no letters."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from graceful.cli.rehearse import main
from tests.rehearse.test_rollout import HERE, OURS, SHORT, UVICORN

LOUD = SHORT[1:]  # with its progress
PATIENCE = 60
COMMAND = (sys.executable, "-m", "graceful", "rehearse")
LOSING = ("--", *UVICORN.split())
FULL = Path("/dev/full")


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the services are found. What is written is buffered, as where nobody asks for the contrary."""
    monkeypatch.chdir(HERE)
    monkeypatch.setenv("PYTHONPATH", f"{HERE}:{':'.join(sys.path)}")
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)


def played(line: str, *arguments: str, environment: dict[str, str] | None = None) -> tuple[int, str, str]:
    """Exit code, output and errors of a shell's line in which "$@" is the command."""
    done = subprocess.run(
        ["sh", "-c", line, "sh", *COMMAND, *arguments],
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        encoding="latin-1",
        timeout=PATIENCE,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("where", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_streams_that_are_closed_change_no_verdict(where: str) -> None:
    code, out, err = played(f'"$@" {where}', *LOUD, *LOSING)
    assert code == 1
    assert "Traceback" not in out + err
    assert ("lost" in out) is (where == "2>&-")


def test_whose_progress_nobody_reads_goes_on() -> None:
    """The reader of its errors has gone before it begins."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    try:
        done = subprocess.run(
            [*COMMAND, *LOUD, OURS],
            stdout=subprocess.PIPE,
            stderr=write_end,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    finally:
        os.close(write_end)
    assert done.returncode == 0
    assert "PASSED: nothing of" in done.stdout


def test_a_reader_that_has_gone_changes_no_verdict() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    try:
        done = subprocess.run(
            [*COMMAND, *SHORT, OURS],
            stdout=write_end,
            stderr=subprocess.PIPE,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    finally:
        os.close(write_end)
    assert (done.returncode, done.stderr) == (0, "")


def test_letters_that_the_terminal_has_not_are_escaped() -> None:
    code, out, err = played('"$@"', *SHORT, *LOSING, environment={"PYTHONIOENCODING": "ascii"})
    assert (code, err) == (1, "")
    assert r"\u2026" in out


def test_json_is_utf_8_wherever_it_goes() -> None:
    done = subprocess.run(
        [*COMMAND, *SHORT, "--json", OURS],
        env={**os.environ, "PYTHONIOENCODING": "latin-1"},
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    (found,) = json.loads(done.stdout.decode("utf-8"))["rehearsals"]
    assert found["judgement"] == "passed"


@pytest.mark.skipif(not FULL.exists(), reason="/dev/full is Linux's")
def test_what_cannot_be_written_is_said_and_keeps_nothing_else_from_being_written(tmp_path: Path) -> None:
    junit = tmp_path / "junit.xml"
    files = ("--junit", str(junit), "--html", str(FULL))
    code, _, err = played(f'"$@" > {FULL}', *SHORT, *files, OURS)
    assert code == 2
    assert err.splitlines() == [
        "graceful rehearse: standard output: No space left on device",
        "graceful rehearse: --html: /dev/full: No space left on device",
    ]
    assert "<testsuite " in junit.read_text()


@pytest.mark.parametrize(
    ("path", "found"), [("", "a folder"), ("no/such.html", "no folder '{}/no'"), ("kept", "which may not be")]
)
def test_a_place_that_cannot_be_written_to_is_found_before_anything_is_started(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, found: str
) -> None:
    (tmp_path / "kept").touch()
    if path == "kept":  # to root nothing is forbidden
        monkeypatch.setattr("graceful.cli.rehearse_output.os.access", lambda *_: False)
    assert main([*LOUD, "--html", str(tmp_path / path), OURS]) == 2
    told = capsys.readouterr()
    assert told.err.count("\n") == 1
    assert told.err.startswith("graceful rehearse: --html: found ")
    assert found.format(tmp_path) in told.err


# Broken off.


@contextlib.contextmanager
def rehearsing(*arguments: str, until: str) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """A rehearsal that has said `until`, and what it has said so far."""
    command = [*COMMAND, "--settle", "60", *arguments, *LOSING]
    found = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # ignored under nohup, and a child inherits that
    try:
        started = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
    finally:
        signal.signal(signal.SIGHUP, found)
    with started as process:
        assert process.stderr is not None
        told = []
        for line in process.stderr:
            told.append(line)
            if until in line:
                break
        yield process, told


@pytest.mark.parametrize(
    ("first", "codes"), [(signal.SIGINT, {130, -2}), (signal.SIGTERM, {143, -15}), (signal.SIGHUP, {143, -1})]
)
def test_whoever_insists_leaves_nothing_behind_either(first: signal.Signals, codes: set[int]) -> None:
    """Ctrl-C again and again, at once. The last may come when all is over but the process, and end it."""
    with rehearsing(until="created") as (process, told):
        for _ in range(50):
            process.send_signal(first)
        assert process.stderr is not None
        rest = process.stderr.read()
        assert process.wait(PATIENCE) in codes
    said = "".join(told) + rest
    assert "Traceback" not in said
    pids = [int(found) for found in re.findall(r"pid (\d+)", said)]
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
