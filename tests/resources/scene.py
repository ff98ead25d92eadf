"""What the tests of resources share: resources that write down what happens to them, and how to run them."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from graceful.resources import ReleaseOutcome, ResourceDeclarer, Resources
from tests.jumping_loop import JumpingLoop, jump


async def release(resources: Resources, seconds: float = 10) -> tuple[ReleaseOutcome, ...]:
    return await resources.release(time.monotonic() + seconds, time.monotonic)


def up_and_down(resources: Resources) -> Callable[[], Any]:
    async def main() -> tuple[ReleaseOutcome, ...]:
        await resources.acquire()
        return await release(resources)

    return main


def said(outcomes: tuple[ReleaseOutcome, ...]) -> list[tuple[str, str, str | None]]:
    return [(outcome.name, outcome.outcome, outcome.error) for outcome in outcomes]


def released(*names: str) -> list[tuple[str, str, str | None]]:
    return [(name, "released", None) for name in names]


def place_of_call() -> tuple[str, int]:
    """The task, or the thread where there is none, in which this is called."""
    try:
        task = asyncio.current_task()
    except RuntimeError:
        task = None
    return ("thread", threading.get_ident()) if task is None else ("task", id(task))


def logged(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """What graceful has logged; an event loop may say things of its own, that it is slow for example."""
    return [record for record in caplog.records if record.name.startswith("graceful")]


class Book:
    """What resources of every form write down: that they were entered and left, and where."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.places: list[tuple[str, int]] = []

    def write(self, line: str) -> None:
        self.lines.append(line)
        self.places.append(place_of_call())


book = Book()


class Manager:
    def __enter__(self) -> str:
        book.write("in")
        return "value"

    def __exit__(self, *exc_info: object) -> None:
        assert exc_info == (None, None, None)
        book.write("out")


class AsyncManager:
    async def __aenter__(self) -> str:
        await asyncio.sleep(0)
        book.write("in")
        return "value"

    async def __aexit__(self, *exc_info: object) -> None:
        assert exc_info == (None, None, None)
        await asyncio.sleep(0)
        book.write("out")


async def async_generator() -> AsyncIterator[str]:
    await asyncio.sleep(0)
    book.write("in")
    yield "value"
    await asyncio.sleep(0)
    book.write("out")


def generator() -> Iterator[str]:
    book.write("in")
    yield "value"
    book.write("out")


def raising(problem: BaseException) -> Callable[[], None]:
    def fail() -> None:
        raise problem

    return fail


def in_jumps(main: Callable[[JumpingLoop, Resources, ResourceDeclarer], Any]) -> Any:
    resources = Resources()
    return jump(lambda loop: main(loop, resources, ResourceDeclarer(resources)))


async def hanging() -> AsyncIterator[None]:
    yield
    await asyncio.Event().wait()


def seconds(outcomes: tuple[ReleaseOutcome, ...]) -> list[tuple[str, str, float]]:
    return [(outcome.name, outcome.outcome, round(outcome.seconds, 3)) for outcome in outcomes]


class Blocked:
    """Blocks the thread that calls it, until the test is over."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self._end = threading.Event()
        self.thread: threading.Thread | None = None

    def __call__(self) -> None:
        self.thread = threading.current_thread()
        self.begun.set()
        self._end.wait()

    def let_go(self) -> None:
        self._end.set()
        if self.thread is not None:
            self.thread.join(timeout=10)
            assert not self.thread.is_alive(), "the thread ends when it comes back"


async def begun(blocked: Blocked) -> None:
    assert await asyncio.to_thread(blocked.begun.wait, 10)
