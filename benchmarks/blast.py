"""The hello-world app, asked as fast as it answers, for the sake of what that costs the server."""

from __future__ import annotations

import selectors
import socket
from types import TracebackType
from typing import Final, Self, cast

from benchmarks.figures import MeasurementError
from graceful.rehearse.wires import HOST

_REQUEST: Final = b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\nuser-agent: benchmarks\r\naccept: */*\r\n\r\n"
_OK: Final = b"HTTP/1.1 200 "
_END: Final = b"\r\n\r\nhello world\n"
_RECEIVE_BYTES: Final = 4096
_SILENCE_SECONDS: Final = 10.0


class Blast:
    """So many kept connections to one port. As a context manager they are closed afterwards."""

    def __init__(self, port: int, *, connections: int) -> None:
        self._selector = selectors.DefaultSelector()
        self._sockets = [socket.create_connection((HOST, port)) for _ in range(connections)]
        for sock in self._sockets:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._selector.register(sock, selectors.EVENT_READ)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, where: TracebackType | None
    ) -> None:
        self._selector.close()
        for sock in self._sockets:
            sock.close()

    def ask(self, requests: int) -> None:
        """All `requests` are answered on return. No connection sends its next before it has an answer."""
        to_send = to_come = requests
        received = dict.fromkeys(self._sockets, b"")
        for sock in self._sockets[:requests]:
            sock.sendall(_REQUEST)
            to_send -= 1
        while to_come:
            ready = self._selector.select(_SILENCE_SECONDS)
            if not ready:
                message = f"no answer within {_SILENCE_SECONDS:g} s, {to_come} were still to come"
                raise MeasurementError(message)
            for key, _ in ready:
                sock = cast("socket.socket", key.fileobj)
                answer = received[sock] + sock.recv(_RECEIVE_BYTES)
                received[sock] = b"" if _whole(answer) else answer
                if not received[sock]:
                    to_come -= 1
                    if to_send:
                        sock.sendall(_REQUEST)
                        to_send -= 1


def _whole(answer: bytes) -> bool:
    """Raises MeasurementError where it is not, and will not be, the right one."""
    if not answer.startswith(_OK[: len(answer)]) or not answer:
        message = f"found {answer[:80]!r} in place of the answer of the hello-world app"
        raise MeasurementError(message)
    return answer.endswith(_END)
