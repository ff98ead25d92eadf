"""A log that nobody reads does not hold up who writes it; one that is read loses nothing."""

from __future__ import annotations

import io
import logging
import os
import select
from collections.abc import Iterator
from pathlib import Path

import pytest

from graceful.unheard import UnheardLogs


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    logger = logging.getLogger("tests.unheard")
    logger.propagate = False
    yield logger
    logger.handlers.clear()


@pytest.fixture
def pipe(logger: logging.Logger) -> Iterator[tuple[int, int]]:
    """A pipe that the logger writes to, through a handler."""
    reader, writer = os.pipe()
    with open(writer, "w", buffering=1, encoding="utf-8") as stream:  # noqa: PTH123 - a descriptor
        logger.addHandler(logging.StreamHandler(stream))
        yield reader, writer
        os.set_blocking(writer, False)  # what a test that failed has left over must not block the close
    os.close(reader)


def fill(writer: int) -> None:
    """Nothing more can be written."""
    os.set_blocking(writer, False)
    try:
        while True:
            os.write(writer, b"x" * 4096)
    except BlockingIOError:
        os.set_blocking(writer, True)


def test_what_would_block_is_dropped_and_counted(logger: logging.Logger, pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    logs = UnheardLogs()
    logs.begin()
    logger.error("heard")
    assert os.read(reader, 4096) == b"heard\n"
    fill(writer)
    logger.error("not heard")
    logger.error("nor this")
    assert logs.dropped == 2
    while select.select([reader], [], [], 0)[0]:
        assert set(os.read(reader, 65536)) == {ord("x")}
    logger.error("heard again")
    assert os.read(reader, 4096) == b"heard again\n"
    assert logs.dropped == 2
    logs.end()


def test_the_handlers_are_as_they_were(logger: logging.Logger, pipe: tuple[int, int]) -> None:
    handler = logger.handlers[-1]
    logs = UnheardLogs()
    logs.begin()
    assert len(handler.filters) == 1
    logs.end()
    assert (handler.filters, logs.dropped) == ([], 0)


def test_a_handler_of_two_loggers_is_asked_once(logger: logging.Logger, pipe: tuple[int, int]) -> None:
    other = logging.getLogger("tests.unheard.other")
    other.addHandler(logger.handlers[-1])
    logs = UnheardLogs()
    logs.begin()
    assert len(logger.handlers[-1].filters) == 1
    logs.end()
    other.handlers.clear()


class Gone(logging.StreamHandler[io.TextIOWrapper]):
    """A handler whose stream is closed; logging's own would say so on standard error."""

    def __init__(self, stream: io.TextIOWrapper) -> None:
        super().__init__(stream)
        self.told: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.told.append(record.getMessage())


def test_files_and_what_is_no_file(logger: logging.Logger, tmp_path: Path) -> None:
    text = io.StringIO()
    closed = open(tmp_path / "closed", "w", encoding="utf-8")  # noqa: PTH123, SIM115 - to be closed before it is used
    file = logging.FileHandler(tmp_path / "log", encoding="utf-8")
    gone = Gone(closed)
    for handler in (logging.StreamHandler(text), file, gone):
        logger.addHandler(handler)
    logs = UnheardLogs()
    logs.begin()
    closed.close()
    logger.error("written")
    assert gone.told == ["written"]
    logs.end()
    file.close()
    assert (text.getvalue(), (tmp_path / "log").read_text(), logs.dropped) == ("written\n", "written\n", 0)


def test_where_nobody_can_look(
    logger: logging.Logger, pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(select, "poll")  # Windows
    logs = UnheardLogs()
    logs.begin()
    assert logger.handlers[-1].filters == []
