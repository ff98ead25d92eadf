"""Servers, and the command that asks them."""

from __future__ import annotations

import contextlib
import socket
import ssl
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from graceful.cli.probe import main
from tests.probe.server import Peer, Run, Script, Serve, Server


@pytest.fixture
def serve(short_path: Path) -> Iterator[Serve]:
    """Starts servers; all are gone after the test, and before the folder of their sockets."""
    with contextlib.ExitStack() as stack:

        def start(script: Script | bytes, *, listener: socket.socket | None = None, **more: Any) -> Server:
            listener = listener or socket.create_server(("127.0.0.1", 0))
            server = Server(listener, Peer.linger if isinstance(script, bytes) else script, **more)
            stack.callback(server.close)
            if isinstance(script, bytes):
                server.answer(script)
            return server

        yield start


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command in this process: its exit code, and what it wrote to stderr (to stdout: nothing)."""

    def run(*arguments: str) -> tuple[int, str]:
        code = main(list(arguments))
        out, err = capsys.readouterr()
        assert out == ""
        return code, err

    return run


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A directory for Unix sockets, whose paths have to be short (104 bytes on macOS)."""
    with tempfile.TemporaryDirectory(prefix="gp") as folder:
        yield Path(folder)


@pytest.fixture
def full() -> Iterator[socket.socket]:
    """A listener whose backlog is full: connecting to it neither succeeds nor fails."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(8):
            queued = stack.enter_context(socket.socket())
            queued.setblocking(False)  # noqa: FBT003 - the socket's own signature
            queued.connect_ex(listener.getsockname())
        yield listener


@pytest.fixture(scope="session")
def self_signed() -> ssl.SSLContext:
    """A certificate that nobody has a reason to trust, for another name at that."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("elsewhere.test").configure_cert(context)
    return context
