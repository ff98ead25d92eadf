"""The sentinel's keeper. Where it runs is another interpreter, of which a fake stands here that runs the same
program on the same thread; `tests/process/test_watchdog.py` has the real one.
"""

from __future__ import annotations

import atexit
import importlib
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from graceful import sentinel
from graceful.budget import LastMoments
from graceful.sentinel import Orders, Sentinel

BOUND = 10.0
NEVER = LastMoments(acts=1e9, leaves=1e9, dumps=1e9, ends=1e9)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it is Linux's")


class Interpreters:
    """What of CPython's module is used, under both of its names."""

    def __init__(self) -> None:
        self.alive: list[int] = []
        self.made = 0
        self.changed = threading.Condition()

    def create(self) -> int:
        with self.changed:
            self.made += 1
            self.alive.append(self.made)
            self.changed.notify_all()
        return self.made

    def destroy(self, interpreter: int) -> None:
        with self.changed:
            self.alive.remove(interpreter)
            self.changed.notify_all()

    def run_string(self, interpreter: int, program: str) -> None:
        exec(program, {})  # noqa: S102 - what the other interpreter does with it

    def exec(self, interpreter: int, program: str) -> object:
        try:
            self.run_string(interpreter, program)
        except ValueError as problem:
            return SimpleNamespace(formatted=str(problem))
        return None

    def wait_until(self, *, alive: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.alive) == alive, BOUND)


@pytest.fixture
def interpreters(monkeypatch: pytest.MonkeyPatch) -> Interpreters:
    interpreters = Interpreters()
    monkeypatch.setattr(sentinel, "_interpreters", lambda: interpreters)
    return interpreters


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    inbox, outbox = socket.socketpair()
    with inbox, outbox:
        yield inbox, outbox


@pytest.fixture
def posted(pair: tuple[socket.socket, socket.socket]) -> Iterator[Sentinel]:
    """One that is not started; its orders are never to be carried out."""
    orders = Orders(
        begins=(signal.SIGTERM,),
        moments=NEVER,
        code=70,
        words="{}",
        stderr=None,
        dump_signal=None,
        dump_thread=0,
        log_path=None,
        log_flags=0,
    )
    posted = Sentinel(os.dup(pair[0].fileno()), orders)
    yield posted
    posted.stop()


def wait_until_on_guard(posted: Sentinel) -> None:
    posted._here.settimeout(BOUND)
    assert posted.on_guard, posted.problem
    posted._here.settimeout(0.0)


def test_it_comes_and_goes(posted: Sentinel, interpreters: Interpreters) -> None:
    assert sentinel.posted() is None
    posted.start()
    assert sentinel.posted() is posted
    wait_until_on_guard(posted)
    posted.stop()
    assert (sentinel.posted(), interpreters.alive, posted.problem) == (None, [], None)
    posted.stop()
    posted.tell(NEVER, dump=True)
    posted.resume()
    assert interpreters.made == 1


def test_it_looks_at_signals_and_takes_orders(
    posted: Sentinel, interpreters: Interpreters, pair: tuple[socket.socket, socket.socket]
) -> None:
    posted.start()
    wait_until_on_guard(posted)
    pair[1].send(bytes([signal.SIGHUP]))
    pair[1].send(bytes([signal.SIGTERM]))
    posted.tell(NEVER, dump=True)
    posted.tell(None, dump=True)
    posted.pause()
    assert (interpreters.alive, posted.problem) == ([], None)
    assert pair[0].recv(8) == bytes([signal.SIGHUP, signal.SIGTERM]), "it takes nothing"


def test_it_is_gone_while_the_process_forks(posted: Sentinel, interpreters: Interpreters) -> None:
    posted.start()
    posted.tell(NEVER, dump=False)
    wait_until_on_guard(posted)
    sentinel._before_fork()
    assert (interpreters.alive, posted.on_guard) == ([], False)
    sentinel._after_fork_in_parent()
    wait_until_on_guard(posted)
    assert len(interpreters.alive) == 1
    sentinel._after_fork_in_child()
    assert sentinel.posted() is None
    sentinel._before_fork()
    sentinel._after_fork_in_parent()
    assert interpreters.made == 2


def test_a_problem_of_the_interpreter_harms_nobody(
    posted: Sentinel,
    interpreters: Interpreters,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)

    def fail(interpreter: int, program: str) -> None:
        message = "no such module: select"
        raise ValueError(message)

    monkeypatch.setattr(interpreters, "run_string", fail)
    for version in ((3, 12), (3, 13)):
        monkeypatch.setattr(sys, "version_info", version)
        posted.start()
        posted.pause()
        assert "no such module: select" in str(posted.problem)
        assert interpreters.alive == []
        assert caplog.records.pop().levelname == "DEBUG"


def test_the_module_has_another_name_in_each_version(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(importlib, "import_module", asked.append)
    for version in ((3, 12), (3, 13)):
        monkeypatch.setattr(sys, "version_info", version)
        sentinel._interpreters()
    assert asked == ["_xxsubinterpreters", "_interpreters"]


def test_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 12, 1))
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    assert sentinel.is_possible() is None
    monkeypatch.setitem(sys.modules, "torch", sentinel)
    assert sentinel.is_possible() == "torch is loaded, and relies on PyGILState_Check()"
    monkeypatch.setattr("sys._is_gil_enabled", lambda: False, raising=False)
    assert sentinel.is_possible() == "there is no GIL"
    monkeypatch.setattr(sys, "version_info", (3, 11, 9))
    assert sentinel.is_possible() == "it takes CPython 3.12 or later on Linux"


def test_a_process_that_is_left_as_it_is_does_not_take_it_down(
    posted: Sentinel, interpreters: Interpreters, monkeypatch: pytest.MonkeyPatch
) -> None:
    undone: list[object] = []
    monkeypatch.setattr(atexit, "unregister", undone.append)
    sentinel.stay()
    assert undone == []
    posted.start()
    sentinel.stay()
    assert undone == [posted.stop]
