from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator

import pytest

from graceful import signals
from graceful.wakeup import Wakeup

BOUND = 10.0


def heard(wakeup: Wakeup, within: float | None = BOUND) -> bytes:
    """What it tells."""
    return wakeup.read() if wakeup.wait(within) else b""


HANGUP = signal.SIGHUP


@pytest.fixture(autouse=True)
def _as_found() -> Iterator[None]:
    handler = signal.signal(HANGUP, lambda *_: None)
    yield
    signal.signal(HANGUP, handler)
    assert signal.set_wakeup_fd(-1) == -1


@pytest.fixture
def wakeup() -> Iterator[Wakeup]:
    wakeup = Wakeup()
    yield wakeup
    wakeup.close()


def loops_own() -> tuple[socket.socket, socket.socket]:
    """A pair as event loops have it, its second end the wakeup descriptor."""
    inbox, outbox = socket.socketpair()
    inbox.settimeout(BOUND)
    outbox.settimeout(0.0)
    signal.set_wakeup_fd(outbox.fileno())
    return inbox, outbox


def test_signals_are_heard_and_wakes_are_not_signals(wakeup: Wakeup) -> None:
    wakeup.take()
    signal.raise_signal(HANGUP)
    assert heard(wakeup) == bytes([HANGUP])
    wakeup.wake()
    assert heard(wakeup, None) == b""
    assert heard(wakeup, 0.0) == b""
    assert heard(wakeup, -1.0) == b""
    wakeup.give_back()


def test_who_had_the_descriptor_hears_it_too_and_gets_it_back(wakeup: Wakeup) -> None:
    inbox, outbox = loops_own()
    wakeup.take()
    signal.raise_signal(HANGUP)
    assert heard(wakeup) == bytes([HANGUP])
    assert inbox.recv(1) == bytes([HANGUP])
    wakeup.give_back()
    assert signal.set_wakeup_fd(-1) == outbox.fileno()
    inbox.close()
    outbox.close()


def test_it_is_taken_again(wakeup: Wakeup) -> None:
    wakeup.take()
    wakeup.take()
    first, second = loops_own(), None
    wakeup.take()
    second = loops_own()
    wakeup.take()
    signal.raise_signal(HANGUP)
    assert heard(wakeup) == bytes([HANGUP])
    assert second[0].recv(1) == bytes([HANGUP])
    wakeup.give_back()
    assert signal.set_wakeup_fd(-1) == second[1].fileno()
    for each in (*first, *second):
        each.close()


def test_a_loop_that_is_gone_is_not_mistaken_for_who_has_its_number_now(wakeup: Wakeup) -> None:
    inbox, outbox = loops_own()
    wakeup.take()
    number = outbox.detach()
    inbox.close()
    client, connection = socket.socketpair()
    os.dup2(connection.fileno(), number)
    signal.raise_signal(HANGUP)
    assert heard(wakeup) == bytes([HANGUP])  # handed on to nobody: the other end is gone
    client.settimeout(0.0)
    with pytest.raises(BlockingIOError):
        client.recv(1)
    wakeup.give_back()
    assert signal.set_wakeup_fd(-1) == -1
    os.close(number)
    client.close()
    connection.close()


def test_the_number_of_a_loop_that_is_gone_may_be_nobodys(wakeup: Wakeup) -> None:
    inbox, outbox = loops_own()
    wakeup.take()
    inbox.close()
    outbox.close()
    wakeup.give_back()
    assert signal.set_wakeup_fd(-1) == -1


def test_whoever_has_taken_it_since_keeps_it(wakeup: Wakeup) -> None:
    wakeup.take()
    inbox, outbox = loops_own()
    wakeup.give_back()
    assert signal.set_wakeup_fd(-1) == outbox.fileno()
    inbox.close()
    outbox.close()


def test_a_flood_neither_blocks_nor_raises(wakeup: Wakeup) -> None:
    wakeup.take()
    for _ in range(100_000):
        wakeup.wake()
    signal.raise_signal(HANGUP)
    wakeup.give_back()
    wakeup.close()
    wakeup.wake()
    with pytest.raises(OSError, match="Bad file descriptor"):
        wakeup.read()


def test_a_child_has_no_wakeup_descriptor(wakeup: Wakeup) -> None:
    wakeup.take()
    signals._forget_in_child()
    assert signal.set_wakeup_fd(-1) == -1


def test_nothing_is_taken_on_windows(wakeup: Wakeup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "win32")
    wakeup.take()
    assert signal.set_wakeup_fd(-1) == -1
