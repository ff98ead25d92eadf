"""One signal, one timeline: the contract of a service that gets a real one, under `graceful run` and under
uvicorn's own command.
"""

from __future__ import annotations

import json
import re
import signal
import threading

import pytest

from tests.process.service import WHOLE_TIMELINE, Client, Launch, Service, refused

pytestmark = pytest.mark.contract

ENGINES = [("asyncio", "h11"), ("asyncio", "httptools"), ("uvloop", "h11"), ("uvloop", "httptools")]
LAME_DUCK = "1.5"


class Start:
    """Starts the wrapped app, by `graceful run` or by `uvicorn`, whose own exit code is the signal."""

    def __init__(self, launch: Launch, how: str) -> None:
        self._launch = launch
        self.owned = how == "owned"

    def __call__(self, *options: str) -> Service:
        return (self._launch.owned if self.owned else self._launch.adopted)("served:wrapped", *options)


@pytest.fixture(params=["owned", "adopted"])
def start(request: pytest.FixtureRequest, launch: Launch) -> Start:
    return Start(launch, request.param)


def ended_well(service: Service, start: Start) -> None:
    assert service.exit_code() == (0 if start.owned else -signal.SIGTERM), service.output
    assert service.phases == WHOLE_TIMELINE, service.output
    order = ["lifespan shutdown", "released database"]
    assert re.findall("lifespan shutdown|released database", service.output) == order, service.output
    assert "Traceback" not in service.output


@pytest.mark.parametrize(("loop", "http"), ENGINES)
def test_from_signal_to_exit(start: Start, loop: str, http: str) -> None:
    service = start("--lame-duck", LAME_DUCK, "--loop", loop, "--http", http)
    port = service.port()
    with Client(port) as idle, Client(port) as kept, Client(port) as held, Client(port) as streamed:
        assert not idle.get().says_close
        kept.get()
        held.send("/hold", method="POST", body_to_come=4)
        streamed.send("/stream", method="POST", body_to_come=4)
        service.wait_for("^holding")
        service.wait_for("^streaming")
        service.terminate()
        service.wait_for("^phase lame_duck")

        told = kept.get()
        assert (told.body, told.says_close) == (b"hello", True)
        assert kept.closed()
        with Client(port) as fresh:
            assert fresh.get("/ready").status == 503
        with Client(port) as fresh:
            ready = fresh.get("/ready")
            assert (ready.body, ready.status) == (b"lame duck", 503)
        with Client(port) as fresh:
            assert fresh.get("/healthz").body == b"ok"

        service.wait_for("^phase draining")
        assert idle.closed()
        held.send_body(b"rest")
        streamed.send_body(b"rest")
        whole = held.receive()
        assert (whole.status, whole.body, whole.whole, whole.says_close) == (200, b"held rest", True, True)
        assert streamed.receive().whole
    ended_well(service, start)
    assert refused(port)


def test_idle(start: Start) -> None:
    service = start("--lame-duck", "0")
    port = service.port()
    service.terminate()
    ended_well(service, start)
    assert refused(port)


def test_a_response_that_is_longer_than_the_socket_takes_ends_whole(launch: Launch) -> None:
    launch.write(
        "long",
        "from served import *\n"
        "async def app(scope, receive, send):\n"
        "    if scope['type'] == 'lifespan': return await bare(scope, receive, send)\n"
        "    say('asked')\n"
        "    await answer(send, b'x' * 20_000_000)\n"
        "wrapped = runtime.wrap(app)\n",
    )
    service = launch.owned("long:wrapped", "--lame-duck", "0")
    with Client(service.port()) as client:
        client.send()
        service.wait_for("^asked")
        service.terminate()
        service.wait_for("^phase draining")
        response = client.receive()
    assert response.whole
    assert len(response.body) == 20_000_000
    assert service.exit_code() == 0


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_under_load(start: Start, loop: str) -> None:
    """Clients that open their next connection when they are told to close lose nothing in lame duck."""
    service = start("--lame-duck", "3", "--loop", loop)
    port = service.port()
    signalled = threading.Event()
    warm = threading.Barrier(5, timeout=20)
    answers: list[list[tuple[int, bool, bool]]] = [[] for _ in range(4)]

    def send(mine: list[tuple[int, bool, bool]]) -> None:
        client = Client(port)
        after = 0
        while after < 50:
            if len(mine) == 50:
                warm.wait()
            after += signalled.is_set()
            response = client.get()
            mine.append((response.status, response.whole, response.says_close))
            if response.says_close:
                client.socket.close()
                client = Client(port)
        client.socket.close()

    threads = [threading.Thread(target=send, args=(mine,)) for mine in answers]
    for thread in threads:
        thread.start()
    warm.wait()
    service.terminate()
    service.wait_for("^phase lame_duck")
    signalled.set()
    for thread in threads:
        thread.join(20)
    ended_well(service, start)
    for mine in answers:
        assert {(status, whole) for status, whole, _ in mine} == {(200, True)}
        assert all(said for _, _, said in mine[-49:])
        assert not mine[0][2]


def test_twice_is_once(start: Start) -> None:
    service = start("--lame-duck", "2")
    service.port()
    service.terminate()
    service.wait_for("^phase lame_duck")
    service.terminate()
    ended_well(service, start)


def test_two_hundred_in_a_second_are_one(start: Start) -> None:
    service = start("--lame-duck", "1.5")
    with Client(service.port()) as held:
        held.send("/hold", method="POST", body_to_come=4)
        service.wait_for("^holding")
        pace = threading.Event()
        for _ in range(200):
            service.terminate()
            pace.wait(0.005)
        service.wait_for("^phase draining")
        held.send_body(b"rest")
        assert held.receive().body == b"held rest"
    ended_well(service, start)


def test_the_report_counts_the_signals(launch: Launch) -> None:
    service = launch.owned("served:wrapped", "--lame-duck", "2")
    with Client(service.port()) as kept:
        kept.get()
        service.terminate()
        service.wait_for("^phase lame_duck")
        kept.get()
        service.terminate()
        assert service.exit_code() == 0
    report = json.loads(service.wait_for("^report (.*)$")[1])
    assert (report["reason"], report["signals"], report["arrivals"]) == ("SIGTERM", 2, 1)
    assert report["phases"]["lame_duck"] > 0.5  # it is counted from the signal on
    assert report["phases"]["draining"] < 20
    assert [(entry["name"], entry["outcome"]) for entry in report["resources"]] == [("database", "released")]


def test_an_older_request_is_told_to_close_too(start: Start) -> None:
    """uvicorn renews its headers each second: the request here is older, and has an old list of them."""
    service = start("--lame-duck", "2")
    with Client(service.port()) as held:
        held.send("/hold", method="POST", body_to_come=4)
        service.wait_for("^holding")
        threading.Event().wait(1.3)
        service.terminate()
        service.wait_for("^phase lame_duck")
        held.send_body(b"rest")
        response = held.receive()
        assert (response.body, response.says_close) == (b"held rest", True)
    ended_well(service, start)


@pytest.mark.parametrize("ws", ["auto", "wsproto"])
def test_a_websocket_opened_in_lame_duck_succeeds(start: Start, ws: str) -> None:
    service = start("--lame-duck", LAME_DUCK, "--ws", ws)
    port = service.port()
    service.terminate()
    service.wait_for("^phase lame_duck")
    with Client(port) as client:
        handshake = client.get(
            headers={
                "connection": "Upgrade",
                "upgrade": "websocket",
                "sec-websocket-version": "13",
                "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
            },
        )
        assert handshake.status == 101
        assert handshake.headers["connection"].lower() == "upgrade"
        assert handshake.headers["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        client.send_body(b"\x81\x82\0\0\0\0hi")  # a text frame, masked with zeros
        assert client.take(4) == b"\x81\x02hi"
    ended_well(service, start)


def test_uvicorns_own_handler_runs_when_the_lame_duck_is_over(start: Start, launch: Launch) -> None:
    """Libraries replace it or look through it: they learn of the shutdown then, not before."""
    launch.write(
        "sitecustomize",
        "import os, uvicorn\n"
        "found = uvicorn.Server.handle_exit\n"
        "def handle_exit(self, sig, frame):\n"
        "    os.write(1, b'handle_exit\\n')\n"
        "    return found(self, sig, frame)\n"
        "uvicorn.Server.handle_exit = handle_exit\n",
    )
    service = start("--lame-duck", "0.5")
    service.port()
    service.terminate()
    ended_well(service, start)
    news = re.findall(r"^handle_exit|^phase \w+ should_exit=\w+", service.output, re.MULTILINE)
    assert news[1:4] == [
        "phase lame_duck should_exit=False",
        "phase draining should_exit=False",
        "handle_exit",
    ]
    assert news[4] == "phase releasing should_exit=True"
    assert news.count("handle_exit") == 1


def test_request_shutdown_runs_the_same_timeline(launch: Launch) -> None:
    service = launch.owned("served:wrapped", "--lame-duck", "0.5")
    with Client(service.port()) as client:
        assert client.get("/leave").body == b"leaving"
        service.wait_for(r"had enough: lame duck for 0\.\d s")
    assert service.exit_code() == 0
    assert service.phases == WHOLE_TIMELINE


def test_request_shutdown_under_uvicorns_own_command(launch: Launch) -> None:
    service = launch.adopted("served:wrapped", "--lame-duck", "0.5")
    with Client(service.port()) as client:
        assert client.get("/leave").body == b"leaving"
    service.exit_code()  # uvicorn's own: see its signal handling
    assert service.phases == WHOLE_TIMELINE


def test_limit_max_requests_has_no_lame_duck(launch: Launch) -> None:
    service = launch.owned("served:wrapped", "--lame-duck", "5", "--limit-max-requests", "2")
    port = service.port()
    for _ in range(2):
        with Client(port) as client:
            assert client.get().status == 200
    assert service.exit_code() == 0
    assert "no lame duck" in service.output
    assert service.phases == WHOLE_TIMELINE
