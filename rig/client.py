"""An HTTP/1.1 client on raw sockets that tells apart the ways in which a request can be lost, and never tries
one again.

It keeps to what RFC 9112 (section 9) asks of a client: a connection is used again only where the last answer
was whole and did not say `connection: close`, and where no end of it has been seen since. Whatever goes wrong
beyond that is a loss.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import h11

HOST: Final = "127.0.0.1"

_RECEIVE_BYTES: Final = 64 * 1024
_FIRST_SERVER_ERROR: Final = 500


class Outcome(StrEnum):
    """What became of a request."""

    ANSWERED = "answered"
    REFUSED = "refused"
    RESET = "reset"
    RESET_KEPT = "reset on a kept connection"
    TRUNCATED = "truncated"
    TIMEOUT = "timeout"
    SERVER_ERROR = "5xx"
    WRONG = "wrong answer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is sent, and the body of the right answer. `pause` is the time in seconds between the halves of
    `body`.
    """

    kind: str
    target: str
    expected: bytes
    method: str = "GET"
    body: bytes = b""
    pause: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """An outcome, and in a few words what was seen where it is a loss."""

    outcome: Outcome
    detail: str = ""


class EndedError(Exception):
    """A kept connection has ended before anything was sent on it: the request is for another one."""


class Connection:
    """A connection to one port, opened by its first request and kept for as long as HTTP allows."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.heard_at = 0.0  # when the server was last heard, on the loop's clock
        self._socket: socket.socket | None = None
        self._http = h11.Connection(our_role=h11.CLIENT)
        self._spent = False
        self._answers = 0
        self._begun = False  # of the present answer at least one byte has come
        self._ended = False  # the server has sent its end

    async def open(self) -> socket.socket:
        """Connect, without sending anything yet. Raises ConnectionRefusedError."""
        self._socket = sock = socket.socket()
        sock.setblocking(False)  # noqa: FBT003 - its only argument
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(sock, (HOST, self.port))
        return sock

    async def ask(self, request: Request, *, timeout: float) -> Verdict:  # noqa: ASYNC109 - it is an outcome
        """Send `request` and judge its answer, within `timeout` seconds. Whatever the server does is in the
        verdict.

        On return the connection is closed where it may not be used again. Raises EndedError where that was so
        already, and OSError for trouble of our own, such as too many open files.
        """
        verdict = await self._judge(request, timeout)
        if verdict.outcome in {Outcome.ANSWERED, Outcome.SERVER_ERROR, Outcome.WRONG} and self._may_go_on():
            self._http.start_next_cycle()
            self._answers += 1
        else:
            self.close()
        return verdict

    def usable(self) -> bool:
        """It is open, and the server has neither ended it nor said anything unasked. Otherwise it is closed
        on return.
        """
        if self._socket is not None:
            try:
                self._socket.recv(1, socket.MSG_PEEK)
            except BlockingIOError:
                return True
            except ConnectionError:
                pass
        self.close()
        return False

    def close(self) -> None:
        """The socket is closed, whatever was going on."""
        self._spent = True
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    async def _judge(self, request: Request, seconds: float) -> Verdict:
        self._begun = False
        try:
            async with asyncio.timeout(seconds):
                status, body = await self._exchange(request)
        except ConnectionRefusedError:
            return Verdict(outcome=Outcome.REFUSED)
        except TimeoutError:
            return Verdict(outcome=Outcome.TIMEOUT, detail=f"no whole answer within {seconds:g} s")
        except ConnectionError as problem:
            return self._broken(type(problem).__name__)
        except h11.RemoteProtocolError as problem:
            if self._ended:
                return self._broken("end of file")
            return Verdict(outcome=Outcome.WRONG, detail=f"no HTTP: {problem}")
        return _judged(request, status, body)

    def _broken(self, detail: str) -> Verdict:
        if self._begun:
            return Verdict(outcome=Outcome.TRUNCATED, detail=detail)
        return Verdict(outcome=Outcome.RESET_KEPT if self._answers else Outcome.RESET, detail=detail)

    def _may_go_on(self) -> bool:
        return self._http.our_state is h11.DONE and self._http.their_state is h11.DONE and not self._ended

    async def _exchange(self, request: Request) -> tuple[int, bytes]:
        if self._spent:
            raise EndedError
        sock = self._socket or await self.open()
        first, rest = self._spelled(request)
        # The last thing before it is sent, as it may end at any moment.
        if self._answers and not self.usable():
            raise EndedError
        with contextlib.suppress(ConnectionError):  # a server may answer and close before it has read all
            await self._send(sock, first)
            if rest:
                await asyncio.sleep(request.pause)
                await self._send(sock, rest)
        return await self._receive(sock)

    def _spelled(self, request: Request) -> tuple[bytes, bytes]:
        """The request as bytes, up to half of its body, and the rest."""
        headers = [("host", f"{HOST}:{self.port}"), ("content-length", str(len(request.body)))]
        head = self._http.send(h11.Request(method=request.method, target=request.target, headers=headers))
        half = len(request.body) // 2
        first = self._http.send(h11.Data(data=request.body[:half]))
        rest = self._http.send(h11.Data(data=request.body[half:]))
        self._http.send(h11.EndOfMessage())
        return (head or b"") + (first or b""), rest or b""

    async def _send(self, sock: socket.socket, text: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(sock, text)

    async def _receive(self, sock: socket.socket) -> tuple[int, bytes]:
        loop = asyncio.get_running_loop()
        status, body = 0, bytearray()
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                received = await loop.sock_recv(sock, _RECEIVE_BYTES)
                self._begun = self._begun or bool(received)
                self._ended = not received
                self.heard_at = loop.time()
                self._http.receive_data(received)
            elif isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                return status, bytes(body)
            elif isinstance(event, h11.ConnectionClosed):
                message = "ended before its answer"
                raise ConnectionResetError(message)


def _judged(request: Request, status: int, body: bytes) -> Verdict:
    if status >= _FIRST_SERVER_ERROR:
        return Verdict(outcome=Outcome.SERVER_ERROR, detail=str(status))
    if body != request.expected:
        detail = f"status {status}, {len(body)} bytes, not what was asked for"
        return Verdict(outcome=Outcome.WRONG, detail=detail)
    return Verdict(outcome=Outcome.ANSWERED)
