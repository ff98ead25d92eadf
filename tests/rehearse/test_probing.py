"""Probes of real servers and by real commands."""

from __future__ import annotations

import asyncio
import errno
import os
import select
import socket
import ssl
import sys
from pathlib import Path
from typing import Any

import pytest

from graceful.rehearse.model import Exec, HttpGet, TcpSocket
from graceful.rehearse.probing import Result, act
from tests.probe.server import OK, Peer, Serve, Server, http, moved, unix_listener

PLAIN = "Content-Type: text/plain"
CHUNKED = "Transfer-Encoding: chunked"
HALF = "peer closed connection without sending complete message body (received 4 bytes, expected 8)"
ENVIRONMENT = {"PATH": os.environ["PATH"]}


def take(action: Any, *, timeout: float = 30.0, environment: Any = ENVIRONMENT, **more: Any) -> Result:
    """In a loop of its own, within a time that is not meant to run out."""
    return asyncio.run(act(action, timeout=timeout, environment=environment, **{"port": 1, **more}))


def get(server: Server, path: str = "/ready", **more: Any) -> Result:
    return take(HttpGet(path=path, **more), port=server.port)


def ok(detail: str) -> Result:
    return Result(ok=True, detail=detail)


def bad(detail: str, *, refused: bool = False) -> Result:
    return Result(ok=False, detail=detail, refused=refused)


# httpGet


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (OK, ok("200 ok")),
        (http("204 No Content", framed=False), ok("204")),
        (http("304 Not Modified"), ok("304")),
        (moved("", "302 Found"), ok("302")),
        (http("399 Odd"), ok("399")),
        (http("400 Bad Request"), bad("400")),
        (http("503 Service Unavailable", b"\n lame duck\nand more", PLAIN), bad("503 lame duck")),
        (http("500 Oh", b"<html>", "Content-Type: text/html"), bad("500")),
        (http("500 Oh", b"x\x1b[2J" + b"y" * 200), bad("500 x\\x1b[2J" + "y" * 115 + "…")),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, ok("200 ok")),
        (b"HTTP/1.0 200 OK\r\n\r\nto the end", ok("200 to the end")),
        (http("200 OK", b"5\r\nhello\r\n0\r\n\r\n", CHUNKED, framed=False), ok("200 hello")),
        (http("200 OK", b"half", "Content-Length: 8", framed=False), bad(f"no HTTP: {HALF}")),
        (b"", bad("closed without an answer")),
        (b"SSH-2.0-OpenSSH\r\n", bad("no HTTP: SSH-2.0-OpenSSH")),
        (moved("http://elsewhere.test/login"), ok("302")),
        (moved("http://[/"), bad("302 to http://[/: no URL")),
        (moved("http://127.0.0.1:x/"), bad("302 to http://127.0.0.1:x/: no URL")),
    ],
)  # fmt: skip
def test_an_answer(serve: Serve, answer: bytes, found: Result) -> None:
    assert get(serve(answer)) == found


def test_what_is_asked(serve: Serve) -> None:
    server = serve(OK)
    headers = (("X-Port", "{port}"), ("Host", "example.org"))
    assert get(server, "ready here?port={port}&x=ä", headers=headers).ok
    assert server.heard[0].lower() == (
        f"get /ready%20here?port={server.port}&x=%c3%a4 http/1.1\r\n"
        "host: example.org\r\nuser-agent: kube-probe/graceful\r\naccept: */*\r\nconnection: close\r\n"
        f"x-port: {server.port}\r\n\r\n"
    )


def test_a_header_that_cannot_be_sent_is_a_failure(serve: Serve) -> None:
    assert not get(serve(OK), headers=(("X", "a\nb"),)).ok


def test_redirects_are_followed_on_the_same_host(serve: Serve) -> None:
    second = serve(OK)
    first = serve(b"")
    first.answer(moved("/again"), moved(second.url("/there")))
    assert get(first) == ok("200 ok")
    assert [heard.splitlines()[0] for heard in first.heard + second.heard] == [
        "GET /ready HTTP/1.1",
        "GET /again HTTP/1.1",
        "GET /there HTTP/1.1",
    ]


def test_redirects_come_to_an_end(serve: Serve) -> None:
    server = serve(moved("/again"))
    assert get(server) == bad(f"stopped after 10 redirects, the last one to {server.url('/again')}")
    assert len(server.heard) == 10


def test_no_more_of_a_body_is_read_than_the_kubelet_does(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.hear()
        peer.say(http("200 OK", b"x" * 20_000, "Content-Length: 1000000", framed=False))
        peer.linger()

    assert get(serve(script)).ok


def test_a_listener_that_closes_while_it_is_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    async def reset(*_: Any, **__: Any) -> Any:
        raise ConnectionResetError(errno.ECONNRESET, "Connect call failed ('127.0.0.1', 1)")

    monkeypatch.setattr(asyncio, "open_connection", reset)
    assert take(TcpSocket()) == bad("connection reset by peer")


def test_no_proxy(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert get(serve(OK)) == ok("200 ok")


def test_certificates_are_not_verified(serve: Serve, self_signed: ssl.SSLContext) -> None:
    server = serve(OK, context=self_signed)
    assert get(server, scheme="HTTPS") == ok("200 ok")
    assert take(HttpGet(), port=server.port, tls=True) == ok("200 ok")


def test_tls_is_the_replicas_and_another_port_has_its_own_scheme(
    serve: Serve, self_signed: ssl.SSLContext
) -> None:
    admin, replica = serve(OK), serve(OK, context=self_signed)
    assert take(HttpGet(port=admin.port), port=replica.port, tls=True) == ok("200 ok")


def test_no_tls_where_tls_is_expected(serve: Serve) -> None:
    server = serve(lambda peer: peer.say(b"HTTP/1.1 400 Bad Request\r\n\r\n"))
    found = get(server, scheme="https")
    assert (found.ok, found.detail.startswith("TLS: ")) == (False, True)


def test_a_unix_socket(serve: Serve, short_path: Path, self_signed: ssl.SSLContext) -> None:
    plain, secret = short_path / "plain", short_path / "secret"
    server = serve(OK, listener=unix_listener(plain))
    serve(OK, listener=unix_listener(secret), context=self_signed)
    assert take(HttpGet(), unix_socket=str(plain)) == ok("200 ok")
    assert "host: 127.0.0.1:1\r\n" in server.heard[0].lower()
    assert take(TcpSocket(), unix_socket=str(plain)) == ok("connected")
    assert take(HttpGet(), unix_socket=str(secret), tls=True) == ok("200 ok")
    assert take(HttpGet(), unix_socket=str(short_path / "none")) == bad("connection refused", refused=True)


def test_a_probe_runs_out_of_time(serve: Serve, full: socket.socket) -> None:
    late = bad("timed out after 0.3 s")
    assert take(HttpGet(), port=serve(Peer.linger).port, timeout=0.3) == late
    assert take(HttpGet(), port=serve(lambda peer: peer.trickle(OK * 9)).port, timeout=0.3) == late
    assert take(TcpSocket(), port=full.getsockname()[1], timeout=0.3) == late


def test_a_reset(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.hear()
        peer.reset()

    assert get(serve(script)) == bad("connection reset by peer")


# tcpSocket


def test_a_connection_is_all_that_a_tcp_probe_wants(serve: Serve) -> None:
    server = serve(Peer.linger)
    assert take(TcpSocket(), port=server.port) == ok("connected")
    assert take(TcpSocket(port=server.port), port=1) == ok("connected")


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    refused = bad("connection refused", refused=True)
    assert take(TcpSocket(), port=port) == refused
    assert take(HttpGet(), port=port) == refused


# exec


@pytest.mark.parametrize(
    ("command", "found"),
    [
        (("true",), ok("exit code 0")),
        (("sh", "-c", "echo fine; echo and more"), ok("exit code 0: fine")),
        (("sh", "-c", "echo no database at {port} >&2; exit 3"), bad("exit code 3: no database at 1")),
        (("sh", "-c", "kill -9 $$"), bad("exit code -9")),
        (("nowhere-to-be-found",), bad("exit code 127: nowhere-to-be-found: No such file or directory")),
        (("/",), bad("exit code 126: /: Permission denied")),
        (("sh", "-c", "yes | head -c 1000000; exit 0"), ok("exit code 0: y")),
        (("cat",), ok("exit code 0")),  # standard input is empty
    ],
)
def test_a_command(command: tuple[str, ...], found: Result) -> None:
    assert take(Exec(command=command)) == found


def test_a_command_has_the_environment_and_the_folder_that_are_given(tmp_path: Path) -> None:
    show = "import os; print(os.getcwd(), os.environ.get('MORE'), len(os.environ) < 5)"
    command = Exec(command=(sys.executable, "-c", show))
    environment = {"MORE": "or less"}
    assert take(command, environment=environment, folder=str(tmp_path)) == ok(
        f"exit code 0: {tmp_path} or less True"
    )


def test_a_command_that_takes_too_long_is_killed_with_all_that_it_started(tmp_path: Path) -> None:
    fifo = tmp_path / "held"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    script = f"exec 3>{fifo}; echo held >&3; sleep 60 & sleep 60"
    assert take(Exec(command=("sh", "-c", script)), timeout=1.0) == bad("timed out after 1 s")
    poll = select.poll()
    poll.register(reader, 0)
    assert poll.poll(30_000)  # the end of it: nobody holds the other end any more
    assert os.read(reader, 100) == b"held\n"
    os.close(reader)


def test_what_a_command_leaves_behind_is_not_waited_for(tmp_path: Path) -> None:
    go = tmp_path / "go"
    os.mkfifo(go)
    assert take(Exec(command=("sh", "-c", f"(cat {go}) & echo left"))) == ok("exit code 0: left")
    go.write_text("now it may end")
