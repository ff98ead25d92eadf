"""Connections that nobody has accepted yet when the listener closes, and those that slip in while it does."""

from __future__ import annotations

import contextlib
import threading

import pytest

from tests.process.service import WHOLE_TIMELINE, Client, Launch

pytestmark = pytest.mark.contract


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_hundred_behind_a_blocked_loop_are_answered(launch: Launch, loop: str) -> None:
    service = launch.owned("served:wrapped", "--lame-duck", "0", "--loop", loop)
    port = service.port()
    with contextlib.ExitStack() as connections:
        blocked = connections.enter_context(Client(port))
        blocked.send("/block")
        service.wait_for("^blocking")
        queued = [connections.enter_context(Client(port)) for _ in range(100)]
        for client in queued:
            client.send()
        service.terminate()
        service.tell()
        assert blocked.receive().body == b"unblocked"
        answers = [client.receive() for client in queued]
        assert {(answer.status, answer.body, answer.whole, answer.says_close) for answer in answers} == {
            (200, b"hello", True, True)
        }
        assert all(client.closed() for client in queued)
    assert service.exit_code() == 0
    assert service.phases == WHOLE_TIMELINE


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_those_that_ask_nothing_are_closed(launch: Launch, loop: str) -> None:
    """Accepted in the turn in which the listener closes, they are in nobody's list yet."""
    service = launch.owned("served:wrapped", "--lame-duck", "0", "--loop", loop)
    port = service.port()
    with contextlib.ExitStack() as connections:
        blocked = connections.enter_context(Client(port))
        blocked.send("/block")
        service.wait_for("^blocking")
        queued = [connections.enter_context(Client(port)) for _ in range(50)]
        service.terminate()
        service.tell()
        assert all(client.closed() for client in queued)
    assert service.exit_code() == 0


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_those_that_slip_in_are_answered_or_never_taken(launch: Launch, loop: str) -> None:
    service = launch.owned("served:wrapped", "--lame-duck", "0", "--loop", loop)
    port = service.port()
    begun = threading.Barrier(5, timeout=20)
    broken: list[str] = []

    def connect() -> None:
        for count in range(100_000):
            if count == 20:
                begun.wait()
            try:
                with Client(port) as client:
                    response = client.get()
                    if not response.whole or response.status != 200:
                        broken.append(repr(response))
            except ConnectionRefusedError:
                return
            except ConnectionError:
                continue  # the gap between the last accept and the close, which the kernel leaves open
        broken.append("never refused")

    threads = [threading.Thread(target=connect) for _ in range(4)]
    for thread in threads:
        thread.start()
    begun.wait()
    service.terminate()
    assert service.exit_code() == 0
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    assert broken == []


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_half_a_request_does_not_hold_up_the_exit(launch: Launch, loop: str) -> None:
    service = launch.owned("served:wrapped", "--lame-duck", "0.3", "--loop", loop)
    with Client(service.port()) as client:
        client.get()
        client.send_body(b"GET / HTT")
        service.terminate()
        assert service.exit_code() == 0
        assert client.closed()
