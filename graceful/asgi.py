"""The ASGI wrapper: probes are answered here, requests are counted here, and leaving is said here.

What stands on a request's path is kept to the least: see `GracefulMiddleware.__call__`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, MutableMapping
from time import monotonic
from typing import Any, Final, Literal, Protocol

from graceful._types import ASGIApp, Message, Receive, Scope, Send
from graceful.errors import AppFailedError, GracefulError, StartupInterrupted
from graceful.inflight import InFlight
from graceful.probes import Answer, Probes

logger = logging.getLogger("graceful")

LifespanMode = Literal["auto", "on", "off"]

CLOSE: Final = (b"connection", b"close")
UNAVAILABLE: Final = Answer.plain(503, "service is shutting down")
_UNLEARNED: Final = object()  # not None: a server need not set a root path


class Host(Protocol):
    """What the wrapper needs of the runtime."""

    in_flight: InFlight
    probes: Probes
    entry: GracefulMiddleware | None

    async def adopt(self, entry: GracefulMiddleware, lifespan: AppLifespan | None) -> None:
        """Begin a run under a server that somebody else has started, with `entry` as its front door. It
        serves on return.
        """

    async def server_left(self) -> None:
        """The server has sent `lifespan.shutdown`; the run has stopped on return."""


def closing(scope: Scope, message: Message) -> Message:
    """`http.response.start` with `connection: close`, so that the client opens its next connection elsewhere;
    any other message as it is.

    HTTP/1.x only: in HTTP/2 and later the header is forbidden (RFC 9113, section 8.2.2).
    """
    is_http_1 = str(scope.get("http_version", "1.1")).startswith("1")
    if message["type"] != "http.response.start" or not is_http_1:
        return message
    headers = [
        (name, value) for name, value in message.get("headers", ()) if bytes(name).lower() != b"connection"
    ]
    return {**message, "headers": [*headers, CLOSE]}


async def respond(answer: Answer, scope: Scope, send: Send) -> None:
    """Send a whole response; of one to HEAD the body stays behind."""
    await send({"type": "http.response.start", "status": answer.status, "headers": list(answer.headers)})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else answer.body})


class GracefulMiddleware:
    """An ASGI app around another: what `Runtime.wrap` returns, and what `add_middleware` takes.

    The outermost wrapper of a runtime is its entry; one that finds another entry before it passes everything
    on, so that an app wrapped twice is wrapped once.
    """

    def __init__(self, app: ASGIApp, runtime: Host) -> None:
        self.app = app
        self.runtime = runtime
        self.is_entry = False
        self._in_flight = runtime.in_flight
        self._root_path: object = _UNLEARNED
        self.probe_paths: dict[str, str] = {}

    async def __call__(  # noqa: C901 - on every request's path: a function less is time saved
        self, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Answer a probe, or count the request as in flight for as long as the app works on it."""
        in_flight = self._in_flight
        if self.is_entry and scope["type"] == "http":
            try:
                if scope["root_path"] is not self._root_path:
                    self.learn_paths(scope["root_path"])
            except KeyError:  # optional in ASGI; to test for it would cost each request more
                if self._root_path != "":
                    self.learn_paths("")
            if scope["path"] in self.probe_paths:
                await self._answer(scope, send)
                return
            in_flight.http += 1
        elif await self._seen_to(scope, receive, send):
            return
        begun = False

        # A plain function that returns the server's own awaitable: a coroutine less for each message. It may
        # not name itself: such a circle would be the garbage collector's work, for each request.
        def tell(message: Message) -> Awaitable[None]:
            nonlocal begun
            if in_flight.left_at is not None:
                if begun and id(scope) in in_flight.cutting:  # not to be ended as if it were whole
                    raise asyncio.CancelledError
                message = closing(scope, message)
            begun = True
            return send(message)

        work = self.app(scope, receive, tell)
        in_flight.requests[tell] = scope, (began := monotonic()), work
        if in_flight.left_at is not None:
            in_flight.arrived_late(began)
        try:
            await work
        except asyncio.CancelledError:
            if id(scope) not in in_flight.cutting:
                raise
            await self._farewell(scope, send, begun=begun)
        finally:
            del in_flight.requests[tell]
            if in_flight.left_at is not None:
                in_flight.request_ended(scope)

    async def _answer(self, scope: Scope, send: Send) -> None:
        """Answer a probe."""
        answer = await self.runtime.probes.answer(scope, self.probe_paths[scope["path"]])
        leaves = self._in_flight.left_at is not None
        await respond(answer, scope, (lambda message: send(closing(scope, message))) if leaves else send)

    def learn_paths(self, root_path: object) -> None:
        """`probe_paths` are those under `root_path` on return. Kept for one, by identity: a server hands the
        same string to each request.
        """
        self._root_path = root_path
        self.probe_paths = self.runtime.probes.paths(str(root_path or ""))

    def learn_paths_again(self) -> None:
        """Settings or checks have changed: so may have the paths."""
        if self._root_path is not _UNLEARNED:
            self.learn_paths(self._root_path)

    async def _seen_to(self, scope: Scope, receive: Receive, send: Send) -> bool:
        """Everything but an HTTP request at the entry. False for one that is still to be worked on there."""
        runtime = self.runtime
        if scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
            return True
        if runtime.entry is None:  # a server without lifespan: it serves from the first request on
            await runtime.adopt(self, None)
            if self.is_entry:
                await self(scope, receive, send)
                return True
        if self.is_entry and scope["type"] == "websocket":
            self._in_flight.websocket += 1
            return False
        await self.app(scope, receive, send)
        return True

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stand between the server's lifespan and the app's: our resources first, then the app; the other way
        round at the end.
        """
        if self.runtime.entry is not None and self.runtime.entry is not self:
            await self.app(scope, receive, send)
            return
        await receive()
        try:
            await self.runtime.adopt(self, AppLifespan(self.app, scope.get("state"), "auto"))
        except Exception as problem:
            await send({"type": "lifespan.startup.failed", "message": str(problem)})
            if not isinstance(problem, StartupInterrupted):
                raise  # as Starlette does: a test client hears of it in no other way, and would wait for ever
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.runtime.server_left()
        await send({"type": "lifespan.shutdown.complete"})

    async def _farewell(self, scope: Scope, send: Send, *, begun: bool) -> None:
        """A request that was cut off: 503 where nothing has been sent; else nothing more, so that the server
        breaks the connection off.
        """
        if scope["type"] == "http" and not begun:
            await respond(UNAVAILABLE, scope, lambda message: send(closing(scope, message)))


class AppLifespan:
    """Drives the lifespan of an app (https://asgi.readthedocs.io/en/latest/specs/lifespan.html). `auto`: an
    app without one is fine.
    """

    def __init__(self, app: ASGIApp, state: MutableMapping[str, Any] | None, mode: LifespanMode) -> None:
        self._app = app
        self._state = state
        self._mode = mode
        self._task: asyncio.Task[None] | None = None
        self._inbox: asyncio.Queue[Message] = asyncio.Queue()
        self._started: asyncio.Future[None] | None = None
        self._stopped: asyncio.Future[None] | None = None

    async def startup(self) -> None:
        """The app has started on return, or has no lifespan. Raises AppFailedError with the app's own words,
        or what it raised if `on`.
        """
        if self._mode == "off":
            return
        loop = asyncio.get_running_loop()
        self._started, self._stopped = loop.create_future(), loop.create_future()
        self._task = loop.create_task(self._run(), name="app lifespan")
        # Retrieved: what went wrong is told by what it sent.
        self._task.add_done_callback(lambda task: task.cancelled() or task.exception())
        self._inbox.put_nowait({"type": "lifespan.startup"})
        await asyncio.wait({self._started, self._task}, return_when=asyncio.FIRST_COMPLETED)
        if self._started.done():
            self._started.result()
            return
        problem = self._task.exception()
        self._task = None
        if problem is not None and self._mode == "on":
            raise problem
        logger.debug("the app has no lifespan (%r)", problem)

    async def shutdown(self) -> None:
        """The app has ended on return; nothing happens if it had not started. Raises AppFailedError, or what
        the app raised.
        """
        task, stopped = self._task, self._stopped
        if task is None or stopped is None or self._started is None or not self._started.done():
            if task is not None:  # interrupted on its way: what it has begun is cleaned up first
                task.cancel()
                await asyncio.wait({task})
            return
        self._task = None
        if self._started.exception() is not None:
            return
        self._inbox.put_nowait({"type": "lifespan.shutdown"})
        await asyncio.wait({stopped, task}, return_when=asyncio.FIRST_COMPLETED)
        if stopped.done():
            stopped.result()
        elif not task.cancelled() and (problem := task.exception()) is not None:
            raise problem

    async def _run(self) -> None:
        scope: Scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}}
        if self._state is not None:
            scope["state"] = self._state
        await self._app(scope, self._inbox.get, self._send)

    async def _send(self, message: Message) -> None:
        stage, _, outcome = message["type"].removeprefix("lifespan.").partition(".")
        future = {"startup": self._started, "shutdown": self._stopped}.get(stage)
        if future is None or future.done() or outcome not in {"complete", "failed"}:
            problem = f"the app sent {message['type']!r} in its lifespan, where that has no meaning"
            raise GracefulError(problem)
        if outcome == "failed":
            future.set_exception(
                AppFailedError(
                    message.get("message") or f"the app's lifespan {stage} failed and gave no reason"
                )
            )
        else:
            future.set_result(None)
