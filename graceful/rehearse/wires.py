"""The way to a replica: a TCP or Unix socket, in the clear or with TLS; each of its ends is told apart."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import ssl
from dataclasses import dataclass
from typing import Final, Protocol

HOST: Final = "127.0.0.1"

_RECEIVE_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a replica listens: a port of the loopback, or a Unix socket; with TLS or without."""

    port: int = 0
    path: str | None = None
    tls: bool = False

    @property
    def authority(self) -> str:
        """The Host header."""
        return "localhost" if self.path is not None else f"{HOST}:{self.port}"


@functools.cache
def insecure() -> ssl.SSLContext:
    """TLS without verifying certificates, as the kubelet's probes: here they are the service's own."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class Wire(Protocol):
    """One connection, open on its making."""

    async def send(self, data: bytes) -> None:
        """All of it is with the kernel on return. Raises ConnectionError."""

    async def receive(self) -> bytes:
        """What has come, at least one byte; none where the other side has ended. Raises ConnectionError."""

    def is_quiet(self) -> bool:
        """Open, and nothing has come, no end either."""

    def close(self) -> None:
        """The socket is closed, whatever was going on."""


async def open_wire(address: Address) -> Wire:
    """Connect, without sending anything yet. Raises what `open_socket` does, and ConnectionError where TLS
    cannot be agreed on.
    """
    sock = await open_socket(address)
    try:
        return await _SecureWire.over(sock) if address.tls else _PlainWire(sock)
    except BaseException:
        sock.close()
        raise


async def open_socket(address: Address) -> socket.socket:
    """A connected socket that does not block. Raises ConnectionRefusedError, or another OSError for trouble
    of our own (too many open files).
    """
    sock = socket.socket(socket.AF_INET if address.path is None else socket.AF_UNIX)
    sock.setblocking(False)  # noqa: FBT003 - its only argument
    try:
        if address.path is None:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        target = (HOST, address.port) if address.path is None else address.path
        await asyncio.get_running_loop().sock_connect(sock, target)
    except FileNotFoundError as problem:  # of a Unix socket: its server has taken it away
        sock.close()
        raise ConnectionRefusedError(*problem.args) from problem
    except BaseException:
        sock.close()
        raise
    return sock


class _PlainWire:
    """Sends and receives on the socket itself, so that the last look and the first byte are one step."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self._socket, data)

    async def receive(self) -> bytes:
        return await asyncio.get_running_loop().sock_recv(self._socket, _RECEIVE_BYTES)

    def is_quiet(self) -> bool:
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            pass
        return False

    def close(self) -> None:
        self._socket.close()


class _SecureWire:
    """TLS over asyncio's streams."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._read_ahead: asyncio.Task[bytes] | None = None

    @classmethod
    async def over(cls, sock: socket.socket) -> _SecureWire:
        try:
            return cls(*await asyncio.open_connection(sock=sock, ssl=insecure(), server_hostname=""))
        except ssl.SSLError as problem:
            raise ConnectionResetError(str(problem)) from problem

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def receive(self) -> bytes:
        ahead, self._read_ahead = self._read_ahead, None
        try:
            return await (ahead or self._reader.read(_RECEIVE_BYTES))
        except ssl.SSLError as problem:  # an end without close_notify
            raise ConnectionResetError(str(problem)) from problem

    def is_quiet(self) -> bool:
        if self._reader.at_eof() or self._writer.is_closing():
            return False
        if self._read_ahead is None:  # what comes unasked, an end of the stream too, is noticed from now on
            self._read_ahead = asyncio.ensure_future(self._reader.read(_RECEIVE_BYTES))
        return not self._read_ahead.done()

    def close(self) -> None:
        if self._read_ahead is not None:
            self._read_ahead.cancel()
        with contextlib.suppress(RuntimeError):  # the loop has been closed
            self._writer.transport.abort()
