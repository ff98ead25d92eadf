"""The admin port: the endpoints answered by a thread with an event loop of its own, so that they are answered
whatever the app's loop does.

The HTTP is uvicorn's: its h11 connection, which every installation of uvicorn has, behind a listener of ours.
Not the whole of `uvicorn.Server`: that one ticks ten times a second, takes signals, and logs.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import threading
import weakref
from collections.abc import Callable
from typing import Final

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from graceful._types import Receive, Scope, Send
from graceful.asgi import respond
from graceful.asides import ASIDES
from graceful.errors import ListenError
from graceful.probes import Answer, Probes

logger = logging.getLogger("graceful")

_BACKLOG: Final = 128
_LONGEST_SECONDS: Final = 60.0  # of a connection: no client holds one for ever, half a request in its hand
_START_SECONDS: Final = 5.0
_CLOSE_SECONDS: Final = 1.0

# What a client does wrong is not said: who writes to the log can be made to wait by it.
_SILENT: Final = logging.Logger("graceful.admin", logging.CRITICAL + 1)  # noqa: LOG001 - out of the tree, so that no configuration makes it speak


class _Connection(H11Protocol):
    """uvicorn's connection, silent and bounded."""

    def __init__(self, config: uvicorn.Config, state: ServerState, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(config=config, server_state=state, app_state={}, _loop=loop)
        self.logger = self.access_logger = _SILENT
        self.access_log = False
        self._bound: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """See asyncio.Protocol."""
        self._bound = self.loop.call_later(_LONGEST_SECONDS, transport.abort)
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        if self._bound is not None:
            self._bound.cancel()
        super().connection_lost(exc)


class AdminPort:
    """A listener and the thread behind it. Opened and closed from any other thread.

    It ends with the process at the latest: its thread is a daemon. A forked child does not have it.
    """

    def __init__(self) -> None:
        self._probes: Probes | None = None
        self._asked: tuple[str, int] | None = None
        self._listener: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing = asyncio.Event()

    @property
    def is_open(self) -> bool:
        """Whether it listens and answers."""
        return self._listener is not None

    def open(self, host: str, port: int, probes: Probes) -> bool:
        """It answers with `probes` on return. Whether it has begun to listen: nothing else changes where it
        is open at this address already.

        Raises ListenError where the address cannot be had.
        """
        self._probes = probes
        if self.is_open and self._asked == (host, port):
            return False
        self.close()
        listener = _listening(host, port)
        self._start(listener)
        self._asked = host, port
        logger.info("probes are answered on http://%s:%d", _shown(host), listener.getsockname()[1])
        return True

    def close(self) -> None:
        """Nobody listens on return, and the thread has ended, or ends with what it is at. May be called
        twice.
        """
        listener, self._listener = self._listener, None
        if listener is None or self._loop is None or self._thread is None:
            return
        with contextlib.suppress(RuntimeError):  # its loop has been closed
            self._loop.call_soon_threadsafe(self._closing.set)
        self._thread.join(_CLOSE_SECONDS)
        listener.close()

    def repeat(self, look: Callable[[], bool], every: float) -> None:
        """`look` is called on the thread now and then after each `every` seconds, as long as it returns True
        and the port is open.
        """
        loop = self._loop
        if loop is None:
            return

        def again() -> None:
            if look():
                loop.call_later(every, again)

        loop.call_soon_threadsafe(again)

    def forget(self) -> None:
        """In a forked child, where the thread is not: the listener is closed there, and goes on here."""
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()

    def _start(self, listener: socket.socket) -> None:
        config = uvicorn.Config(
            self._app,
            interface="asgi3",
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            proxy_headers=False,
            server_header=False,
            date_header=False,
        )
        config.load()
        begun = threading.Event()
        self._listener, self._closing = listener, asyncio.Event()
        self._thread = threading.Thread(
            target=self._run, args=(listener, config, begun), name="graceful-admin", daemon=True
        )
        self._thread.start()
        begun.wait(_START_SECONDS)
        _open.add(self)

    def _run(self, listener: socket.socket, config: uvicorn.Config, begun: threading.Event) -> None:
        # asyncio's own loop, whatever the policy says: the app's may be in C, and is not needed here.
        with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
            runner.run(self._serve(listener, config, begun))

    async def _serve(self, listener: socket.socket, config: uvicorn.Config, begun: threading.Event) -> None:
        self._loop = loop = asyncio.get_running_loop()
        state = ServerState()
        server = await loop.create_server(lambda: _Connection(config, state, loop), sock=listener)
        begun.set()
        await self._closing.wait()
        server.close()
        for connection in list(state.connections):
            connection.transport.abort()

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI
        await respond(await self._answer(scope), scope, send)

    async def _answer(self, scope: Scope) -> Answer:
        probes = self._probes
        endpoint = None if probes is None else probes.paths("").get(scope["path"])
        if probes is None or endpoint is None:
            return Answer.plain(404, "not found")
        try:
            return await probes.answer(scope, endpoint)
        except Exception as problem:  # noqa: BLE001 - a collector of the app's may raise anything
            ASIDES.say(logging.ERROR, f"the admin port could not answer /{endpoint}", problem)
            return Answer.plain(500, "internal server error")


_open: Final[weakref.WeakSet[AdminPort]] = weakref.WeakSet()


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except (OSError, UnicodeError) as problem:  # a name that cannot be one is a UnicodeError
        number = getattr(problem, "errno", None) or 0
        reason = os.strerror(number) if number > 0 else str(problem)
        way_out = "stop what holds it, or choose another with --admin-port, GRACEFUL_ADMIN_PORT or admin_port"
        message = f"cannot listen on {_shown(host)}:{port}, the admin port: {reason}; {way_out}"
        raise ListenError(message) from problem
    listener.setblocking(False)  # noqa: FBT003 - the socket module's own way
    return listener


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _forget_in_child() -> None:
    for port in list(_open):
        port.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)
