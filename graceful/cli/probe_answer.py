"""An HTTP/1.x answer, read under one deadline and within bounds from a server that may do its worst."""

from __future__ import annotations

import socket
import time

from graceful.errors import GracefulError

TYPE_CHECKING = False  # `typing` itself takes milliseconds to import
if TYPE_CHECKING:
    from typing import Final

HEAD_LIMIT: Final = 64 * 1024  # bytes of status lines and headers; chunk sizes and trailers count too
BODY_LIMIT: Final = 10 * 1024  # bytes of the body, as the kubelet's
SHOWN: Final = 200  # characters that are repeated of what a server said

_INTERIM: Final = frozenset({100, 102, 103})
_BODILESS: Final = frozenset({204, 304})
_HEXADECIMAL: Final = "0123456789abcdefABCDEF"


class UnhealthyError(GracefulError):
    """The answer, or that there was none, means: not healthy. The text says why, in one line."""


def printable(text: str) -> str:
    """The beginning of `text`; whatever could begin a line or move a terminal's cursor is escaped."""
    shown = text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in shown)


class Deadline:
    """The end of all waiting, `seconds` from now. `doing` is what is waited for, what a timeout cuts off."""

    __slots__ = ("_began", "doing", "seconds")

    def __init__(self, seconds: float) -> None:
        self._began = time.monotonic()
        self.seconds = seconds
        self.doing = ""

    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._began

    def remaining(self) -> float:
        """Seconds left, more than 0. Raises TimeoutError when there are none."""
        left = self.seconds - self.elapsed()
        if left <= 0:
            raise TimeoutError
        return left


class Reader:
    """The bytes of an answer as they come. Every wait ends with the deadline, so a trickle gains nothing."""

    def __init__(self, connection: socket.socket, deadline: Deadline) -> None:
        self._connection = connection
        self._deadline = deadline
        self._buffer = bytearray()
        self._head_left = HEAD_LIMIT

    def begins_with(self, prefix: bytes) -> bool:
        """Whether the next bytes are `prefix`. Waits for no more of them than it takes to tell."""
        while len(self._buffer) < len(prefix) and prefix.startswith(self._buffer) and self._fill():
            pass
        return self._buffer.startswith(prefix)

    def seen(self) -> str:
        """What has come and was not taken yet."""
        return self._buffer.decode("latin-1")

    def line(self) -> str:
        """The next line without its end. Raises UnhealthyError if it is cut off, or the head too long."""
        while (end := self._buffer.find(b"\n")) < 0 and len(self._buffer) < self._head_left:
            if not self._fill():
                message = "the connection was closed in the middle of the answer"
                raise UnhealthyError(message)
        if not 0 <= end < self._head_left:
            message = f"the answer's head is longer than {HEAD_LIMIT} bytes"
            raise UnhealthyError(message)
        self._head_left -= end + 1
        return self._take(end + 1).decode("latin-1").rstrip("\r\n")

    def exactly(self, size: int) -> bytes:
        """The next `size` bytes. Raises UnhealthyError if they are cut off."""
        while (missing := size - len(self._buffer)) > 0:
            if not self._fill():
                message = f"the connection was closed in the middle of the body: {missing} bytes are missing"
                raise UnhealthyError(message)
        return self._take(size)

    def rest(self, limit: int) -> bytes:
        """All until the connection ends, at most `limit` bytes."""
        while len(self._buffer) < limit and self._fill():
            pass
        return self._take(limit)

    def _fill(self) -> bool:
        self._connection.settimeout(self._deadline.remaining())
        received = self._connection.recv(HEAD_LIMIT)
        self._buffer += received
        return bool(received)

    def _take(self, size: int) -> bytes:
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken


class Answer:
    """The head of an answer. Nothing changes it once it is read."""

    __slots__ = ("headers", "reason", "status")

    def __init__(self, *, status: int, reason: str, headers: dict[str, str]) -> None:
        self.status = status
        self.reason = reason
        self.headers = headers  # by name, in lower case

    @classmethod
    def read(cls, reader: Reader) -> Answer:
        """The next head, interim ones left out. Raises UnhealthyError if it is not HTTP/1.x, or cut off."""
        answer = cls._read_one(reader)
        while answer.status in _INTERIM:  # the limit of the head is one for all of them
            answer = cls._read_one(reader)
        return answer

    @classmethod
    def _read_one(cls, reader: Reader) -> Answer:
        if not reader.begins_with(b"HTTP/1."):
            found = reader.seen()
            message = "the connection was closed without an answer"
            if found:
                message = f"found '{printable(found)}', expected an answer of HTTP/1.1"
            raise UnhealthyError(message)
        line = reader.line()
        status, _, reason = line.partition(" ")[2].partition(" ")
        if len(status) != len("200") or not status.isdecimal():
            message = f"found the status line '{printable(line)}', expected a status of three digits"
            raise UnhealthyError(message)
        headers = {}
        while field := reader.line():
            name, _, value = field.partition(":")
            headers[name.lower()] = value.strip()
        return cls(status=int(status), reason=reason.strip(), headers=headers)

    @property
    def is_healthy(self) -> bool:
        """What the kubelet takes for healthy."""
        return 200 <= self.status < 400  # noqa: PLR2004 - the kubelet's bounds, in the notation of HTTP

    @property
    def is_redirect(self) -> bool:
        """Whether it says: elsewhere."""
        return 300 <= self.status < 400  # noqa: PLR2004 - as above

    def read_body(self, reader: Reader) -> bytes:
        """The body, or the beginning of a long one. Raises UnhealthyError if it is cut off."""
        if self.status in _BODILESS:
            return b""
        if self.headers.get("transfer-encoding", "").lower().endswith("chunked"):
            return _read_chunks(reader)
        length = self.headers.get("content-length")
        if length is None:
            return reader.rest(BODY_LIMIT)
        if not length.isdecimal() or len(length) > len(str(2**63)):
            message = f"found the Content-Length '{printable(length)}', expected a number of bytes"
            raise UnhealthyError(message)
        return reader.exactly(min(int(length), BODY_LIMIT))

    def summary(self, body: bytes) -> str:
        """`503 lame duck`: the status and the telling line of a plain text, else the reason phrase."""
        is_plain = self.headers.get("content-type", "text/plain").lower().startswith("text/plain")
        lines = body.decode("utf-8", "replace").strip().splitlines() if is_plain else []
        failed = [
            line for line in lines if line.startswith("[-]")
        ]  # a verbose answer names what failed anywhere
        first = (failed or lines or [self.reason])[0]
        return printable(f"{self.status} {first.strip()}".strip())


def _read_chunks(reader: Reader) -> bytes:
    body = b""
    while len(body) < BODY_LIMIT:
        size = reader.line().partition(";")[0].strip()
        if not size or size.strip(_HEXADECIMAL):
            message = f"found the chunk size '{printable(size)}', expected a hexadecimal number"
            raise UnhealthyError(message)
        wanted = min(int(size, 16), BODY_LIMIT - len(body))
        if wanted == 0:
            while reader.line():
                pass  # trailers
            return body
        body += reader.exactly(wanted)
        if len(body) < BODY_LIMIT:
            reader.line()  # the end of the chunk
    return body
