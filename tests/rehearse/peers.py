"""Servers that do with each connection what a script says, and what a client's tests ask of them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

from graceful.rehearse.model import RequestSpec
from graceful.rehearse.wires import HOST, Address

WITHIN = 30.0
BODY = b"hello"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"
GET = RequestSpec(expected=BODY)


class Peer:
    """The server's side of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def hear(self) -> bytes:
        """One request, of those that have no body."""
        return await self.reader.readuntil(b"\r\n\r\n")

    async def say(self, text: bytes) -> None:
        self.writer.write(text)
        await self.writer.drain()

    async def gone(self) -> None:
        """The client has closed."""
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(65536):
                pass

    def end(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        linger = struct.pack("ii", 1, 0)
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.writer.transport.abort()


Script = Callable[[Peer], Awaitable[None]]


@contextlib.asynccontextmanager
async def served(script: Script) -> AsyncIterator[Address]:
    """A server that does with every connection what `script` says; where it listens."""
    serving: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if task := asyncio.current_task():
            serving.add(task)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await script(Peer(reader, writer))
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, HOST, 0)
    async with server:
        yield Address(port=server.sockets[0].getsockname()[1])
        server.close()
        await asyncio.gather(*serving)


def run(test: Coroutine[Any, Any, Any]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(WITHIN):
            await test

    asyncio.run(bounded())
