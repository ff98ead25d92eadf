"""A client on a raw socket, as a case describes it: what it sends, and what it saw in the end."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import struct
from typing import Final

from graceful.rehearse.wires import HOST
from hostile.cases import Client, Seen

_RECEIVE_BYTES: Final = 65536
_LITTLE_ROOM: Final = 4096  # bytes of the receive buffer, for those who stop reading
_NO_LINGER: Final = struct.pack("ii", 1, 0)  # close() then sends a reset
_BEGINS_WITHIN_SECONDS: Final = 30.0
_UNAVAILABLE: Final = b"HTTP/1.1 503"
_SWITCHING: Final = b"HTTP/1.1 101"
_CLOSE_FRAME: Final = b"\x88"


class Peer:
    """One client and its connection."""

    def __init__(self, client: Client, port: int) -> None:
        self._client = client
        self._port = port
        self._received = bytearray()
        self._reset = False
        self._ended = False
        self._socket = socket.socket()
        self._socket.setblocking(False)  # noqa: FBT003 - its only argument
        if client.stops_reading:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _LITTLE_ROOM)

    async def begin(self) -> None:
        """Connected, and what is to be sent and read before the signal has been. Raises TimeoutError."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(_BEGINS_WITHIN_SECONDS):
            await loop.sock_connect(self._socket, (HOST, self._port))
            await loop.sock_sendall(self._socket, self._client.sends)
            while self._client.reads not in self._received and not self._ended:
                await self._read()

    async def read(self, count: int) -> None:
        """So many bytes have come on return, or the end."""
        while len(self._received) < count and not self._ended:
            await self._read()

    def leave(self) -> None:
        """Where it is to leave before the signal, it has, with a reset."""
        if self._client.leaves:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            self._socket.close()

    async def go_on(self) -> None:
        """What it does after the signal, to the end of the connection; cancelled when all is over."""
        if self._client.leaves:
            return
        if self._client.later:
            await asyncio.sleep(self._client.later_at)
            with contextlib.suppress(ConnectionError):
                await asyncio.get_running_loop().sock_sendall(self._socket, self._client.later)
        if not self._client.stops_reading:
            await self._read_to_the_end()

    async def see(self, *, within: float) -> Seen:
        """What it saw, once the process has ended. The connection is closed on return."""
        if self._client.leaves:
            return Seen.GONE
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._read_to_the_end()
        self._socket.close()
        return _judged(bytes(self._received), ended=self._ended, reset=self._reset)

    async def _read_to_the_end(self) -> None:
        while not self._ended:
            await self._read()

    async def _read(self) -> None:
        try:
            received = await asyncio.get_running_loop().sock_recv(self._socket, _RECEIVE_BYTES)
        except ConnectionError:
            received, self._reset = b"", True
        self._received += received
        self._ended = not received

    def close(self) -> None:
        """The socket is closed."""
        self._socket.close()


def _judged(received: bytes, *, ended: bool, reset: bool) -> Seen:
    """What a client makes of all that it has received."""
    head, blank, body = received.partition(b"\r\n\r\n")
    if not received:
        return Seen.CLOSED if ended else Seen.WAITING
    if head.startswith(_SWITCHING) and body.startswith(_CLOSE_FRAME):
        return Seen.CLOSE_FRAME
    if not blank or head.startswith(_SWITCHING) or not _is_whole(head, body, ended=ended and not reset):
        return Seen.CUT if ended else Seen.WAITING
    return Seen.UNAVAILABLE if head.startswith(_UNAVAILABLE) else Seen.WHOLE


def _is_whole(head: bytes, body: bytes, *, ended: bool) -> bool:
    """Whether the message is complete (RFC 9112, section 6.3)."""
    if re.search(rb"(?im)^transfer-encoding:.*chunked", head):
        return body.endswith(b"0\r\n\r\n")
    length = re.search(rb"(?im)^content-length: *(\d+)", head)
    return ended if length is None else len(body) >= int(length[1])
