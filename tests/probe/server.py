"""Servers on the loopback that play a script, well behaved or not."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from pathlib import Path

PATIENT = "--timeout=30"  # for what must fail by itself, at once: a timeout would be another line


class Peer:
    """The server's side of one connection."""

    def __init__(self, connection: socket.socket, closing: threading.Event) -> None:
        self.connection = connection
        self.closing = closing

    def hear(self) -> str:
        heard = b""
        while b"\r\n\r\n" not in heard and (received := self.connection.recv(65536)):
            heard += received
        return heard.decode()

    def say(self, text: bytes) -> None:
        self.connection.sendall(text)

    def linger(self) -> None:
        """Keep the connection open, silent, until the test has ended."""
        self.closing.wait(30)

    def trickle(self, text: bytes) -> None:
        """One byte every 20 ms: each well within any timeout of a single read."""
        for byte in text:
            if self.closing.wait(0.02):
                return
            self.say(bytes([byte]))

    def reset(self) -> None:
        """Close with RST instead of FIN."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


Script = Callable[[Peer], None]


class Server:
    """Plays `script` to everyone who connects, and keeps the requests that it heard."""

    def __init__(
        self, listener: socket.socket, script: Script, context: ssl.SSLContext | None = None
    ) -> None:
        self.listener = listener
        self.script = script
        self.context = context
        self.heard: list[str] = []
        self.closing = threading.Event()
        self.threads = [threading.Thread(target=self._accept)]
        self.threads[0].start()

    @property
    def port(self) -> int:
        port: int = self.listener.getsockname()[1]
        return port

    def url(self, path: str = "/ready", *, scheme: str = "http", host: str = "127.0.0.1") -> str:
        return f"{scheme}://{host}:{self.port}{path}"

    def _accept(self) -> None:
        while not self.closing.is_set():
            connection, _ = self.listener.accept()
            self.threads.append(threading.Thread(target=self._serve, args=[connection]))
            self.threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:  # a client that goes away is half of these tests
            if self.context is not None:
                connection = self.context.wrap_socket(connection, server_side=True)
            with connection:
                self.script(Peer(connection, self.closing))

    def close(self) -> None:
        self.closing.set()
        with socket.socket(self.listener.family) as wake:
            wake.connect(self.listener.getsockname())
        for thread in self.threads:
            thread.join(10)
        self.listener.close()

    def answer(self, *answers: bytes) -> None:
        """From now on: hear a request, say the next answer (the last one again and again), close."""
        left = list(answers)

        def script(peer: Peer) -> None:
            self.heard.append(peer.hear())
            peer.say(left.pop(0) if len(left) > 1 else left[0])

        self.script = script


Serve = Callable[..., Server]
Run = Callable[..., tuple[int, str]]


def http(status: str, body: bytes = b"", *headers: str, framed: bool = True) -> bytes:
    fields = [*headers, f"Content-Length: {len(body)}"] if framed else [*headers]
    return "\r\n".join([f"HTTP/1.1 {status}", *fields, "", ""]).encode() + body


OK = http("200 OK", b"ok\n", "Content-Type: text/plain")


def moved(location: str, status: str = "302 Found") -> bytes:
    return http(status, b"", f"Location: {location}")


def unix_listener(path: Path, backlog: int = 5) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(backlog)
    return listener
