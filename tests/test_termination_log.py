from __future__ import annotations

import logging
import os
import threading
from pathlib import Path

import pytest

from graceful import settings, termination_log
from graceful.platforms import PROFILES
from graceful.termination_log import MOST_BYTES, TerminationLog, cut

BOUND = 10.0


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "log"


def test_a_text_replaces_a_longer_one_in_place(place: Path) -> None:
    place.write_text("what the last container has left, which is longer")
    inode = place.stat().st_ino
    log = TerminationLog(str(place), create=False)
    log.write("first", within=BOUND)
    assert place.read_text() == "first"
    log.write("then another", within=BOUND)
    assert (place.read_text(), place.stat().st_ino) == ("then another", inode)


def test_it_is_made_only_where_that_was_asked_for(place: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    TerminationLog(str(place), create=False).write("text", within=BOUND)
    assert not place.exists()
    assert [record.levelname for record in caplog.records] == ["DEBUG"]
    TerminationLog(str(place), create=True).write("text", within=BOUND)
    assert place.read_text() == "text"


def test_most_bytes_and_whole_characters() -> None:
    assert cut("é" * MOST_BYTES) == "é".encode() * (MOST_BYTES // 2)
    assert cut("a" + "é" * MOST_BYTES) == b"a" + "é".encode() * (MOST_BYTES // 2 - 1)
    assert cut("\udc80") == b"\\udc80"
    assert cut("short") == b"short"


def test_what_cannot_be_written_is_a_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path in (tmp_path, tmp_path / "missing" / "log", fifo):
        caplog.clear()
        TerminationLog(str(path), create=True).write("text", within=BOUND)
        (record,) = caplog.records
        assert record.levelname == "WARNING"
        assert str(path) in record.getMessage()


def test_a_pipe_that_is_read_gets_the_text(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with open(os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)) as reader:  # noqa: PTH123 - a descriptor
        TerminationLog(str(fifo), create=False).write("text", within=BOUND)
        assert reader.read() == "text"


def test_a_disk_that_hangs_holds_nobody_up_and_the_last_text_wins(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on, written = threading.Event(), threading.Event()
    overwrite = termination_log._overwrite

    def hanging(path: str, flags: int, content: bytes) -> None:
        goes_on.wait(BOUND)
        overwrite(path, flags, content)
        written.set()

    monkeypatch.setattr(termination_log, "_overwrite", hanging)
    log = TerminationLog(str(place), create=True)
    for text in ("first", "second", "last"):
        log.write(text, within=0.0)
    goes_on.set()
    log.write("very last", within=BOUND)
    assert written.wait(BOUND)
    assert place.read_text() == "very last"


def test_no_thread_can_be_started(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: threading.Thread) -> None:
        message = "can't start new thread"
        raise RuntimeError(message)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    TerminationLog(str(place), create=True).write("text", within=BOUND)
    assert not place.exists()


def test_which_file_the_settings_name() -> None:
    def of(platform: str, **environ: str) -> TerminationLog | None:
        found = settings.resolve({}, environ=environ, platform=PROFILES[platform])
        return termination_log.termination_log(found)

    kubernetes = of("kubernetes")
    assert kubernetes is not None
    assert (kubernetes.path, kubernetes.flags & os.O_CREAT) == ("/dev/termination-log", 0)
    assert of("container") is None
    assert of("kubernetes", GRACEFUL_TERMINATION_LOG="") is None
    named = of("unknown", GRACEFUL_TERMINATION_LOG="/run/log")
    assert named is not None
    assert (named.path, named.flags & os.O_CREAT) == ("/run/log", os.O_CREAT)
