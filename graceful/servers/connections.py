"""uvicorn's connections: how old each is, which are idle, and how to close those without losing a request
that is on its way.
"""

from __future__ import annotations

import asyncio
import logging
import select
import socket
import struct
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

logger = logging.getLogger("graceful")

_ROUNDS: Final = 5
_NO_LINGER: Final = struct.pack("ii", 1, 0)  # close() then sends a reset


class Connections(set[Any]):
    """uvicorn's set of open connections, which knows how old each is and tells when one comes or the last one
    goes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.made_at: dict[Any, float] = {}
        self.on_made: Callable[[Any], object] | None = None
        self.on_none_left: Callable[[], object] | None = None

    def add(self, connection: Any) -> None:
        """See set; its time is noted."""
        super().add(connection)
        self.made_at[connection] = time.monotonic()
        if self.on_made is not None:
            self.on_made(connection)

    def discard(self, connection: Any) -> None:
        """See set."""
        super().discard(connection)
        self.made_at.pop(connection, None)
        if self.on_none_left is not None and not self:
            self.on_none_left()

    remove = discard


def tell(connection: Any) -> None:
    """Uvicorn's own word to a connection: an idle one closes, a busy one closes after its response."""
    try:
        connection.shutdown()
    except Exception as problem:  # noqa: BLE001 - whatever state a client got it into, it must not hold up the others
        logger.debug("a connection could not be told to close (%r); it is aborted", problem)
        connection.transport.abort()


async def tell_all(connections: Iterable[Any]) -> None:
    """Tell each of `connections`. Idle ones that have bytes waiting are read first: that is a request, not
    idleness.
    """
    untold = set(connections)
    for _ in range(_ROUNDS):  # each turn of the loop reads what is waiting
        untold = {connection for connection in untold if not _told(connection)}
        if not untold:
            return
        await asyncio.sleep(0)
    for connection in untold:
        tell(connection)


def _told(connection: Any) -> bool:
    """Tell it, unless it is idle with bytes waiting.

    A transport closes its socket on the next turn of the loop only, and a request that comes until then is
    answered with a reset. So the end of the stream is sent here, right after the look at what is waiting: the
    client then knows that nothing was read.
    """
    if connection.transport.is_closing():
        return True
    sock = connection.transport.get_extra_info("socket")
    if not is_idle(connection) or sock is None or sock.fileno() < 0:
        tell(connection)
        return True
    if _readable(sock.fileno()):
        return False
    # TLS has an end of its own to send; and a client that reads slowly has not got all of its response yet.
    if (
        connection.transport.get_extra_info("sslcontext") is None
        and not connection.transport.get_write_buffer_size()
    ):
        _send_end(sock)
    tell(connection)
    return True


def is_idle(connection: Any) -> bool:
    """Whether an HTTP/1 connection is between requests. Of others uvicorn knows best."""
    if not hasattr(connection, "cycle"):
        return False
    return connection.cycle is None or bool(connection.cycle.response_complete)


def _readable(fd: int) -> bool:
    """Whether there is something to read, in one system call."""
    if not hasattr(select, "poll"):
        return False
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(0))


def _send_end(sock: Any) -> None:
    own = _borrowed(sock)
    try:
        own.shutdown(socket.SHUT_WR)
    except OSError:
        logger.debug("a connection had ended before it could be closed")
    finally:
        own.detach()


def reset(connection: Any) -> None:
    """Abort a connection so that its client sees an error even where the end of the stream would mean the end
    of the response.
    """
    sock = connection.transport.get_extra_info("socket")
    if sock is not None and sock.fileno() >= 0:
        own = _borrowed(sock)
        try:
            own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        except OSError as problem:
            logger.debug("a connection could not be made to end with a reset: %s", problem)
        finally:
            own.detach()
    connection.transport.abort()


def _borrowed(sock: Any) -> socket.socket:
    """The socket of a transport, whose own may not be used for this. To be detached, not closed."""
    return socket.socket(sock.family, sock.type, sock.proto, fileno=sock.fileno())
