"""What is logged aside: in order, on another thread, without anybody waiting."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator

import pytest

from graceful.asides import Asides


class Blocked(logging.Handler):
    """A log that takes nothing until it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []
        self.threads: set[str] = set()
        self.go = threading.Event()
        self.last = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.go.wait(20)
        self.records.append(record)
        self.threads.add(threading.current_thread().name)
        if record.getMessage() == "last":
            self.last.set()


@pytest.fixture
def log() -> Iterator[Blocked]:
    logger, log = logging.getLogger("graceful"), Blocked()
    level = logger.level
    logger.addHandler(log)
    logger.setLevel(logging.INFO)
    yield log
    log.go.set()
    logger.removeHandler(log)
    logger.setLevel(level)


def test_nobody_waits_for_a_log_that_is_blocked(log: Blocked) -> None:
    asides = Asides()
    asides.say(logging.DEBUG, "nobody wants to know")
    problem = ValueError("why")
    asides.say(logging.WARNING, "first 100 %", problem)
    asides.say(logging.INFO, "last")
    log.go.set()
    assert log.last.wait(20)
    assert [record.getMessage() for record in log.records] == ["first 100 %", "last"]
    assert log.records[0].exc_info is not None
    assert log.records[0].exc_info[1] is problem
    assert log.threads == {"graceful-log"}


def test_what_does_not_fit_is_lost(log: Blocked) -> None:
    asides = Asides()
    for number in range(300):
        asides.say(logging.INFO, str(number))
    assert asides._waiting.qsize() <= 100
