"""Addresses, names, IPv6, Unix sockets and TLS."""

from __future__ import annotations

import contextlib
import queue
import socket
import ssl
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from graceful.cli.probe_answer import SHOWN
from tests.probe.server import OK, PATIENT, Peer, Run, Serve, http, unix_listener


def test_a_closed_port(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert run(PATIENT, f"http://127.0.0.1:{port}/ready") == (1, "connection refused\n")
    assert run(PATIENT, f"tcp://127.0.0.1:{port}") == (1, "connection refused\n")


def test_a_connection_that_is_never_accepted(full: socket.socket, run: Run) -> None:
    address = f"127.0.0.1:{full.getsockname()[1]}"
    why = f"timed out after 0.2 s while connecting to {address}\n"
    assert run("--timeout=0.2", f"http://{address}/") == (1, why)
    assert run("--timeout=0.2", f"tcp://{address}") == (1, why)


def test_tcp_asks_for_nothing(serve: Serve, run: Run) -> None:
    received: queue.SimpleQueue[str] = queue.SimpleQueue()
    server = serve(lambda peer: received.put(peer.hear()))
    assert run(PATIENT, f"tcp://127.0.0.1:{server.port}") == (0, "")
    assert received.get(timeout=10) == ""


def test_a_name_is_looked_up_and_each_address_tried(serve: Serve, run: Run) -> None:
    assert run(PATIENT, serve(OK).url(host="localhost")) == (0, "")  # which is ::1 first, where there is one


def found(*ports: int) -> list[tuple[Any, ...]]:
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)) for port in ports]


def test_a_dead_address_does_not_use_up_the_time_of_the_next(
    serve: Serve, full: socket.socket, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    addresses = found(full.getsockname()[1], serve(OK).port)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_more: addresses)
    assert run("--timeout=1", "http://two-addresses.test/") == (0, "")


def test_a_resolver_that_hangs(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()

    def hang(*_args: Any, flags: int = 0, **_more: Any) -> list[tuple[Any, ...]]:
        if flags & socket.AI_NUMERICHOST:
            raise socket.gaierror
        answered.wait(30)
        return found(1)

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    try:
        why = "timed out after 0.2 s while looking up slow.test\n"
        assert run("--timeout=0.2", "http://slow.test/") == (1, why)
    finally:
        answered.set()
        for thread in threading.enumerate():
            if thread.name == "graceful-probe-look-up":
                thread.join(10)


def test_an_unknown_name(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_args: Any, **_more: Any) -> list[tuple[Any, ...]]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    why = "name or service not known while looking up b\u00fccher.test\n".replace(
        "b\u00fccher", "xn--bcher-kva"
    )
    assert run(PATIENT, "http://b\u00fccher.test/") == (1, why)


def test_ipv6(serve: Serve, run: Run) -> None:
    if not has_ipv6():
        pytest.skip("this machine has no ::1")
    server = serve(OK, listener=socket.create_server(("::1", 0), family=socket.AF_INET6))
    assert run(PATIENT, server.url(host="[::1]")) == (0, "")
    assert f"Host: [::1]:{server.port}\r\n" in server.heard[0]
    assert run(PATIENT, f"tcp://[::1]:{server.port}") == (0, "")
    code, steps = run(PATIENT, "-v", server.url(host="[::1%25lo]"))
    assert code == 0 or "::1%lo" in steps  # a zone is taken as such; not every system takes one for ::1


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


def test_unix_sockets(serve: Serve, run: Run, short_path: Path) -> None:
    path = short_path / "app.sock"
    server = serve(OK, listener=unix_listener(path))
    encoded = str(path).replace("/", "%2F")
    assert run(PATIENT, f"http+unix://{encoded}/ready?verbose") == (0, "")
    assert run(PATIENT, f"http+unix://{encoded}") == (0, "")
    assert run(PATIENT, "--unix-socket", str(path), "http://example.test/x") == (0, "")
    assert run(PATIENT, "--unix-socket", str(path), "http://example.test:8000/x") == (0, "")
    heads = [heard.partition("\r\nUser-Agent")[0] for heard in server.heard]
    assert heads == [
        "GET /ready?verbose HTTP/1.1\r\nHost: localhost",
        "GET / HTTP/1.1\r\nHost: localhost",
        "GET /x HTTP/1.1\r\nHost: example.test",
        "GET /x HTTP/1.1\r\nHost: example.test:8000",
    ]
    assert run(PATIENT, f"unix://{path}") == (0, "")


def test_a_unix_socket_that_is_not_there(run: Run, short_path: Path) -> None:
    path = short_path / "Gone.sock"
    why = f"no such file or directory while connecting to {path}\n"
    assert run(PATIENT, f"unix://{path}") == (1, why)
    assert run(PATIENT, "--unix-socket", str(path), "http://localhost/") == (1, why)


def test_a_unix_socket_that_nobody_listens_on(run: Run, short_path: Path) -> None:
    path = short_path / "stale.sock"
    unix_listener(path).close()
    assert run(PATIENT, f"unix://{path}") == (1, "connection refused\n")


def test_a_unix_socket_whose_path_is_too_long(run: Run) -> None:
    path = f"/{'x' * 200}"
    assert run(PATIENT, f"unix://{path}") == (
        1,
        f"af_unix path too long while connecting to {path}"[:SHOWN] + "\u2026\n",
    )


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a full backlog refuses")
def test_a_unix_socket_whose_backlog_is_full(run: Run, short_path: Path) -> None:
    path = short_path / "full.sock"
    with contextlib.ExitStack() as stack:
        stack.enter_context(unix_listener(path, backlog=0))
        for _ in range(3):
            queued = stack.enter_context(socket.socket(socket.AF_UNIX))
            queued.setblocking(False)  # noqa: FBT003 - the socket's own signature
            queued.connect_ex(str(path))
        why = f"the backlog is full while connecting to {path}: nobody accepts\n"
        assert run(PATIENT, f"unix://{path}") == (1, why)


def test_a_platform_without_unix_sockets(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "AF_UNIX")
    code, why = run("unix:///run/app.sock")
    assert code == 2
    assert "Python has no Unix sockets here" in why


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_certificates_are_not_verified(
    serve: Serve, run: Run, self_signed: ssl.SSLContext, host: str
) -> None:
    server = serve(OK, context=self_signed)
    assert run(PATIENT, server.url(scheme="https", host=host)) == (0, "")
    server.answer(http("503 No", b"lame duck"))
    assert run(PATIENT, server.url(scheme="https", host=host)) == (1, "503 lame duck\n")


def test_tls_over_a_unix_socket(
    serve: Serve, run: Run, self_signed: ssl.SSLContext, short_path: Path
) -> None:
    path = short_path / "tls.sock"
    serve(OK, listener=unix_listener(path), context=self_signed)
    assert run(PATIENT, f"https+unix://{str(path).replace('/', '%2F')}/ready") == (0, "")


def test_tls_asked_of_a_server_without(serve: Serve, run: Run) -> None:
    server = serve(lambda peer: peer.say(b"HTTP/1.1 400 Bad Request\r\n\r\n"))
    code, why = run(PATIENT, server.url(scheme="https"))
    assert code == 1
    assert why == f"TLS: wrong version number while shaking hands with 127.0.0.1:{server.port}\n"


def test_a_handshake_that_stalls(serve: Serve, run: Run) -> None:
    server = serve(Peer.linger)
    why = f"timed out after 0.2 s while shaking hands with 127.0.0.1:{server.port}\n"
    assert run("--timeout=0.2", server.url(scheme="https")) == (1, why)


def test_a_server_with_tls_asked_without(serve: Serve, run: Run, self_signed: ssl.SSLContext) -> None:
    code, why = run(PATIENT, serve(OK, context=self_signed).url())
    assert code == 1
    assert why.count("\n") == 1
