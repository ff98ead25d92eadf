"""An HTTP/1.1 client that tells apart the ways in which a request can be lost, and never tries one again.

It keeps to what RFC 9112 (section 9) asks of a client: a connection is used again only where the last answer
was whole and did not say `connection: close`, and where no end of it has been seen since. Whatever goes wrong
beyond that is a loss.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Final

import h11

from graceful.rehearse.model import Outcome, RequestSpec
from graceful.rehearse.wires import Address, Wire, open_wire

_FIRST_CLIENT_ERROR: Final = 400
_FIRST_SERVER_ERROR: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """An outcome, and in a few words what was seen where it is a loss."""

    outcome: Outcome
    detail: str = ""


class EndedError(Exception):
    """A kept connection has ended before anything was sent on it: the request is for another one."""


class Connection:
    """A connection to one address, opened by its first request, if not before, and kept for as long as HTTP
    allows.
    """

    def __init__(self, address: Address) -> None:
        self.address = address
        self._wire: Wire | None = None
        self._http = h11.Connection(our_role=h11.CLIENT)
        self._spent = False
        self._answers = 0
        self._begun = False  # of the present answer at least one byte has come
        self._ended = False  # the server has sent its end

    async def open(self) -> Wire:
        """Connect, unless that is done, without sending anything. Raises what `open_wire` does."""
        if self._wire is None:
            self._wire = await open_wire(self.address)
        return self._wire

    async def ask(self, request: RequestSpec, *, within: float) -> Result:
        """Send `request` and judge its answer, within so many seconds. Whatever the server does is in the
        result.

        On return the connection is closed where it may not be used again. Raises EndedError where that was so
        already, and OSError for trouble of our own, such as too many open files.
        """
        result = await self._judge(request, within)
        if result.outcome in {Outcome.ANSWERED, Outcome.SERVER_ERROR, Outcome.WRONG} and self._may_go_on():
            self._http.start_next_cycle()
            self._answers += 1
        else:
            self.close()
        return result

    async def follow(self, request: RequestSpec) -> Result:
        """Send `request` and read its answer for as long as it goes on; it is closed on return."""
        self._begun = False
        try:
            return await self._seen(self._exchange(request, keep=False), request, held=True)
        finally:
            self.close()

    def close(self) -> None:
        """The socket is closed, whatever was going on."""
        self._spent = True
        if self._wire is not None:
            self._wire.close()
            self._wire = None

    async def _judge(self, request: RequestSpec, seconds: float) -> Result:
        self._begun = False
        try:
            async with asyncio.timeout(seconds):
                return await self._seen(self._exchange(request), request)
        except TimeoutError:
            return Result(outcome=Outcome.TIMEOUT, detail=f"no whole answer within {seconds:g} s")

    async def _seen(
        self, exchange: Coroutine[Any, Any, tuple[int, bytes]], request: RequestSpec, *, held: bool = False
    ) -> Result:
        try:
            status, body = await exchange
        except ConnectionRefusedError:
            return Result(outcome=Outcome.REFUSED)
        except ConnectionError as problem:
            return self._broken(type(problem).__name__)
        except h11.RemoteProtocolError as problem:
            if self._ended:
                return self._broken("end of file")
            return Result(outcome=Outcome.WRONG, detail=f"no HTTP: {problem}")
        return _judged(request, status, body, held=held)

    def _broken(self, detail: str) -> Result:
        if self._begun:
            return Result(outcome=Outcome.TRUNCATED, detail=detail)
        return Result(outcome=Outcome.RESET_KEPT if self._answers else Outcome.RESET, detail=detail)

    def _may_go_on(self) -> bool:
        return self._http.our_state is h11.DONE and self._http.their_state is h11.DONE and not self._ended

    async def _exchange(self, request: RequestSpec, *, keep: bool = True) -> tuple[int, bytes]:
        if self._spent:
            raise EndedError
        wire = await self.open()
        first, rest = self._spelled(request)
        # The last thing before it is sent, as it may end at any moment.
        if self._answers and not wire.is_quiet():
            self.close()
            raise EndedError
        with contextlib.suppress(ConnectionError):  # a server may answer and close before it has read all
            await wire.send(first)
            if rest:
                await asyncio.sleep(request.pause)
                await wire.send(rest)
        return await self._receive(wire, keep=keep and request.expected is not None)

    def _spelled(self, request: RequestSpec) -> tuple[bytes, bytes]:
        """The request as bytes, up to half of its body, and the rest."""
        body = bytes(request.body_bytes)
        headers = [("host", self.address.authority), *request.headers]
        if body or request.method not in {"GET", "HEAD", "OPTIONS", "DELETE"}:
            headers.append(("content-length", str(len(body))))
        head = self._http.send(h11.Request(method=request.method, target=request.path, headers=headers))
        half = len(body) // 2
        first = self._http.send(h11.Data(data=body[:half]))
        rest = self._http.send(h11.Data(data=body[half:]))
        self._http.send(h11.EndOfMessage())
        return (head or b"") + (first or b""), rest or b""

    async def _receive(self, wire: Wire, *, keep: bool) -> tuple[int, bytes]:
        status, body = 0, bytearray()
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                if self._begun:  # what has come already is received without a wait, and might never cease
                    await asyncio.sleep(0)
                received = await wire.receive()
                self._begun = self._begun or bool(received)
                self._ended = not received
                self._http.receive_data(received)
            elif isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                if keep:
                    body += event.data
            elif isinstance(event, h11.EndOfMessage):
                return status, bytes(body)
            elif isinstance(event, h11.ConnectionClosed):
                message = "ended before its answer"
                raise ConnectionResetError(message)
            elif event is h11.PAUSED:  # what follows is another protocol's
                message = "the connection was given to another protocol"
                raise h11.RemoteProtocolError(message)


def _judged(request: RequestSpec, status: int, body: bytes, *, held: bool) -> Result:
    if status >= _FIRST_SERVER_ERROR:
        return Result(outcome=Outcome.SERVER_ERROR, detail=str(status))
    if request.expected is not None and body != request.expected:
        detail = f"status {status}, {len(body)} bytes, not what was asked for"
        return Result(outcome=Outcome.WRONG, detail=detail)
    detail = f"status {status}" if status >= _FIRST_CLIENT_ERROR else ""
    return Result(outcome=Outcome.ENDED_WELL if held else Outcome.ANSWERED, detail=detail)
