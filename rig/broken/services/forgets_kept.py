"""An asyncio server written by hand: not ready, then no new connections, then time for what is in flight. All
as it should be, but those whose connections are kept were never told to leave, and come until the end.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import Final

_GOES_ON_SECONDS: Final = 0.8
_DRAIN_SECONDS: Final = 0.8
_ANSWER_SECONDS: Final = 0.2

stopping = asyncio.Event()


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One request after the other, for as long as the client likes."""
    while head := await reader.readuntil(b"\r\n\r\n"):
        status = b"200 OK"
        if not head.startswith(b"GET /ready "):
            await asyncio.sleep(_ANSWER_SECONDS)
        elif stopping.is_set():
            status = b"503 Service Unavailable"
        writer.write(b"HTTP/1.1 " + status + b"\r\ncontent-length: 0\r\n\r\n")


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One connection."""
    try:
        await answer(reader, writer)
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def main() -> None:
    """Serve until SIGTERM, and some time longer."""
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    server = await asyncio.start_server(serve, "127.0.0.1", int(sys.argv[1]))
    await stopping.wait()
    await asyncio.sleep(_GOES_ON_SECONDS)
    server.close()
    await asyncio.sleep(_DRAIN_SECONDS)


asyncio.run(main())
