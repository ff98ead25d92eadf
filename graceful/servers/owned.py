"""The uvicorn that we own: event-driven, with our signals, our lifespan and our drain.

Overrides only what uvicorn has kept as its points of extension from 0.34 on: startup, main_loop, shutdown,
capture_signals and should_exit of `uvicorn.Server`, `connections` and `tasks` of its state, `shutdown()` of a
connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import os
import socket
import time
from collections.abc import Awaitable, Callable, Collection, Generator, Sequence
from typing import Any, Final

import uvicorn
from uvicorn.protocols.http.flow_control import service_unavailable

from graceful import signals
from graceful._types import ASGIApp, Receive, Scope, Send
from graceful.asgi import CLOSE, UNAVAILABLE, GracefulMiddleware, respond
from graceful.errors import ListenError
from graceful.inflight import InFlight, TakenOver
from graceful.lifecycle import Lifecycle
from graceful.servers.connections import Connections, reset, tell, tell_all
from graceful.servers.socket_path import SocketPath

logger = logging.getLogger("graceful")

# A connection that is as young as this has its first request on the way: the client has just connected in
# order to send it.
_FIRST_REQUEST_SECONDS: Final = 0.5
# How long a connection that has said everything may take to close (a TLS client need not answer a
# close_notify).
_LINGER_SECONDS: Final = 1.0
_HANDSHAKE_SECONDS: Final = 5.0
_TICK_SECONDS: Final = 1.0
_TICKS_OF_UVICORN: Final = 10  # it ticks ten times as often, and renews the Date header at every tenth tick

# What a host, a port or a path that cannot be raises. uvicorn logs an OSError itself, and exits.
_NOT_BOUND: Final = (OSError, SystemExit, ValueError, OverflowError, IndexError)


class _Lifespan:
    """What uvicorn takes for the app's lifespan: ours, which starts the run. It ends with the run, not at
    uvicorn's word.
    """

    def __init__(self, lifecycle: Lifecycle, state: dict[str, Any]) -> None:
        self._lifecycle = lifecycle
        self._begun = False
        self.state = state
        self.should_exit = False

    async def startup(self) -> None:
        if not self._begun:
            self._begun = True
            await self._lifecycle.start()

    async def shutdown(self) -> None:
        """Nothing: see `Lifecycle`."""


def front(entry: GracefulMiddleware, in_flight: InFlight) -> ASGIApp:
    """What uvicorn calls for each request: as little as can be, for as long as nobody leaves.

    Until the signal uvicorn's own set of tasks is the registry of what is in flight, so that a request costs
    a call and a count, but no coroutine of ours; `OwnedServer.leave` takes it over.
    """
    app = entry.app

    def call(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if in_flight.left_at is None and scope["type"] == "http" and scope["path"] not in entry.probe_paths:
            in_flight.http += 1
            return app(scope, receive, send)
        return entry(scope, receive, send)

    return call


def limited(within: ASGIApp, entry: GracefulMiddleware, state: Any, limit: int) -> ASGIApp:
    """`--limit-concurrency` as uvicorn means it, but behind the probes: a full server is not a dead one."""

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        # Of the tasks one is this request's own.
        full = len(state.connections) >= limit or len(state.tasks) > limit
        if full and scope["type"] == "http" and scope["path"] not in entry.probe_paths:
            logger.warning("Exceeded concurrency limit.")
            await service_unavailable(scope, receive, send)  # type: ignore[arg-type]  # uvicorn's types are narrower
        else:
            await within(scope, receive, send)

    return call


class OwnedServer(uvicorn.Server):
    """A uvicorn server whose life is one run's."""

    lifecycle: Lifecycle

    def __init__(self, config: uvicorn.Config) -> None:
        self._should_exit = False
        self._loop: asyncio.AbstractEventLoop | None = None
        super().__init__(config)
        self.connections = Connections()
        self.server_state.connections = self.connections
        self._arriving: set[asyncio.Task[Any]] = set()
        self._let_through: set[Any] = set()  # the cycles themselves: an id may be another's later
        self._since: dict[asyncio.Task[Any], float] = {}  # when each task was first seen, to the second
        self._ticked_at = time.monotonic()
        self._socket_path = SocketPath(config.uds)

    def live(
        self,
        lifecycle: Lifecycle,
        entry: GracefulMiddleware,
        state: dict[str, Any],
        watch: signals.SignalWatch,
        *,
        each_second: Callable[[], object],
    ) -> None:
        """Serve for `lifecycle`, by `entry`; `state` is the lifespan state that requests see."""
        self.lifecycle = lifecycle
        self._entry = entry
        self._in_flight = entry.runtime.in_flight
        self._in_flight.elsewhere = self._requests
        entry.learn_paths(self.config.root_path)
        limit, self.config.limit_concurrency = self.config.limit_concurrency, None
        within = front(entry, self._in_flight)
        self.config.loaded_app = within if limit is None else limited(within, entry, self.server_state, limit)
        self._watch = watch
        self._each_second = each_second
        self.config.lifespan_class = lambda _config: _Lifespan(lifecycle, state)

    @property
    def should_exit(self) -> bool:
        """Uvicorn's flag. Set by the app, it begins the shutdown at once."""
        return self._should_exit

    @should_exit.setter
    def should_exit(self, value: bool) -> None:
        self._should_exit = value
        if value and self._loop is not None:
            self._loop.call_soon_threadsafe(self._leave)

    # What uvicorn calls.

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """The signals are ours already."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """The run serves on return. Raises ListenError where the address cannot be had, or what the startup
        failed with.
        """
        await self.lifespan.startup()
        try:
            self._socket_path.check()
            await super().startup(sockets)
            self._socket_path.remember()
        except _NOT_BOUND as problem:
            listen = ListenError(_cannot_listen(self.config, problem))
            await self.lifecycle.fail(listen)
            raise listen from problem
        except BaseException as problem:
            await self.lifecycle.fail(problem)
            raise
        self.lifecycle.serve()
        self._loop = asyncio.get_running_loop()
        if self._should_exit:
            self._leave()

    def _leave(self) -> None:
        """The server has been told to exit, or has had its requests; nobody routes traffic away for that."""
        reason = "should_exit" if self._should_exit else "limit_max_requests"
        self.lifecycle.begin(reason, lame_duck=False)

    async def main_loop(self) -> None:
        """Tick for uvicorn's sake (the Date header, `limit_max_requests`) until the run has stopped."""
        every = 1 if self.config.limit_max_requests is not None else _TICKS_OF_UVICORN
        ticks = 0
        try:
            while not self.lifecycle.finished.is_set():
                if ticks % _TICKS_OF_UVICORN == 0:
                    self._each_second()
                    now = time.monotonic()
                    self._since = {task: self._since.get(task, now) for task in self.server_state.tasks}
                    self._ticked_at = now
                if await self.on_tick(ticks):
                    self._leave()
                ticks += every
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_TICK_SECONDS * every / _TICKS_OF_UVICORN):
                        await self.lifecycle.finished.wait()
        except asyncio.CancelledError:
            self.lifecycle.begin("cancelled", lame_duck=False)
            await self.lifecycle.stopped()
            raise

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:  # noqa: ARG002 - uvicorn's
        """Everything has been done by `Lifecycle`, through `drain`; what is still open is closed."""
        await self.lifecycle.finished.wait()
        for connection in list(self.connections):
            connection.transport.abort()
        self._socket_path.remove()
        self._in_flight.elsewhere = tuple
        logging.getLogger("uvicorn.error").removeFilter(_is_no_cancellation)

    # What the lifecycle calls.

    def leave(self) -> None:
        """The signal has come: what uvicorn has in flight is in our registry now, and told to close after its
        response.
        """
        for request in self._requests():
            self._in_flight.take_over(request)
            cycle = _running(request.task)
            if _is_http_1(cycle) and not cycle.response_started:
                cycle.default_headers = [*cycle.default_headers, CLOSE]
                self._let_through.add(cycle)

    def _requests(self) -> list[TakenOver]:
        """The requests that `front` has let through: uvicorn's tasks that have begun and are not in our
        registry.
        """
        # In one step: another thread may ask, a scrape's or the watchdog's.
        requests = list(self._in_flight.requests.values())
        registered = {id(scope) for scope, _, _ in requests}
        found = []
        for task in list(self.server_state.tasks):
            scope = getattr(_running(task), "scope", None)
            if scope is None or id(scope) in registered or scope["path"] in self._entry.probe_paths:
                continue
            began = self._since.get(task, self._ticked_at)  # one that is younger than the last tick: at most
            found.append(TakenOver(task=task, scope=scope, began=began))
        return found

    async def drain(self) -> None:
        """The listener is closed and the backlog answered, idle connections are closed and the others told;
        returns when none is left.
        """
        self.handle_exit(signals.TERMINATE[0], None)  # libraries hang on it; it only sets should_exit
        self._watch.call_displaced(signals.TERMINATE[0])
        loop = asyncio.get_running_loop()
        none_left = asyncio.Event()
        self.connections.on_none_left = none_left.set
        self.connections.on_made = lambda connection: loop.call_later(
            _FIRST_REQUEST_SECONDS, self._tell_late, connection
        )
        self._close_listeners(loop)
        await self._tell_all(loop)
        while self.connections or self.server_state.tasks or self._arriving:
            if self.server_state.tasks or self._arriving:
                await asyncio.wait({*self.server_state.tasks, *self._arriving})
                continue
            none_left.clear()
            try:
                async with asyncio.timeout(_LINGER_SECONDS):
                    await none_left.wait()
            except TimeoutError:
                self._close_lingering()

    async def break_off(self, scopes: Collection[Scope]) -> Collection[Scope]:
        """Of those requests whose response has begun the connection is reset, the others get 503. So is that
        of requests that have ended, but whose client has not taken all of the response: these are returned.
        """
        held_up = []
        logging.getLogger("uvicorn.error").addFilter(_is_no_cancellation)
        cut = {id(scope) for scope in scopes}
        for connection, cycle in self._cycles():
            if id(cycle.scope) not in cut:
                if connection.transport.get_write_buffer_size():
                    held_up.append(cycle.scope)
                    reset(connection)
            elif cycle.response_started:
                cycle.flow = _BrokenOff(cycle.flow)
                reset(connection)
            elif cycle in self._let_through:  # the others get it from the wrapper
                await respond(UNAVAILABLE, cycle.scope, cycle.send)
        return held_up

    async def abandon(self, scopes: Collection[Scope]) -> None:
        """See `Server`."""
        left = {id(scope) for scope in scopes}
        for connection, cycle in self._cycles():
            if id(cycle.scope) not in left:
                continue
            if cycle.response_started:
                reset(connection)
            else:
                await respond(UNAVAILABLE, cycle.scope, cycle.send)

    # The drain's parts.

    def _cycles(self) -> list[tuple[Any, Any]]:
        """Each HTTP connection with the request that it is at. What uvicorn calls its cycle is the last that
        it has read: httptools reads on, and has those wait whose turn has not come.
        """
        running = [_running(task) for task in self.server_state.tasks]
        at = {id(cycle.transport): cycle for cycle in running if hasattr(cycle, "response_complete")}
        last = [(connection, getattr(connection, "cycle", None)) for connection in self.connections]
        return [
            (connection, at.get(id(connection.transport), cycle))
            for connection, cycle in last
            if cycle is not None
        ]

    def _close_listeners(self, loop: asyncio.AbstractEventLoop) -> None:
        """Close the listening sockets, but first take out of each backlog those who have connected already.

        A duplicate keeps the kernel's queue while the loop gives its own descriptor up. Between the last
        accept and the close of the duplicate a connection can still be lost; the kernel has no call that does
        both.
        """
        listeners = []
        for server in self.servers:
            for sock in server.sockets or ():
                with contextlib.suppress(OSError):  # out of descriptors: it is closed, backlog and all
                    listeners.append(socket.socket(fileno=os.dup(sock.fileno())))
            server.close()
        for listener in listeners:
            with listener:
                for _ in range(self.config.backlog + 1):  # bounded: under load the queue might never be empty
                    try:
                        accepted, _ = listener.accept()
                    except OSError:  # empty, or out of descriptors
                        break
                    accepted.setblocking(False)  # noqa: FBT003 - the socket module's own way
                    arriving = loop.create_task(self._arrive(loop, accepted))
                    self._arriving.add(arriving)
                    arriving.add_done_callback(self._arriving.discard)

    async def _arrive(self, loop: asyncio.AbstractEventLoop, accepted: socket.socket) -> None:
        """Hand a connection from the backlog to uvicorn's protocol, as its own listener would have."""

        def protocol() -> asyncio.Protocol:
            return self.config.http_protocol_class(  # type: ignore[call-arg]  # it may be any class
                config=self.config, server_state=self.server_state, app_state=self.lifespan.state, _loop=loop
            )

        handshake = {"ssl_handshake_timeout": _HANDSHAKE_SECONDS} if self.config.ssl else {}
        try:
            await loop.connect_accepted_socket(protocol, accepted, ssl=self.config.ssl, **handshake)
        except OSError as problem:  # a client that has gone, or does not speak TLS
            logger.debug("a connection from the backlog could not be taken over: %s", problem)
            accepted.close()

    async def _tell_all(self, loop: asyncio.AbstractEventLoop) -> None:
        """Tell each connection that the server leaves; one that is so young that its first request is on its
        way, a little later.
        """
        young_since = time.monotonic() - _FIRST_REQUEST_SECONDS
        young = {
            connection
            for connection, made_at in self.connections.made_at.items()
            if made_at > young_since and getattr(connection, "cycle", connection) is None
        }
        for connection in young:
            loop.call_later(self.connections.made_at[connection] - young_since, self._tell_late, connection)
        await tell_all(self.connections - young)

    def _tell_late(self, connection: Any) -> None:
        if connection in self.connections:
            tell(connection)

    def _close_lingering(self) -> None:
        """No request is running: what is still open has nothing left to send, or has not heard."""
        for connection in list(self.connections):
            transport = connection.transport
            if transport.is_closing():
                if transport.get_write_buffer_size() == 0:
                    transport.abort()
            else:
                tell(connection)


class _BrokenOff:
    """What uvicorn asks, before each message of a response, whether it must wait for the client.

    Of one that has vanished it takes any message at once: an app that does nothing but send would never let
    the loop turn again, its own cancellation included. So each of its messages meets the cancellation here.
    """

    def __init__(self, flow: Any) -> None:
        self._flow = flow

    def __getattr__(self, name: str) -> Any:
        return getattr(self._flow, name)

    @property
    def write_paused(self) -> bool:
        raise asyncio.CancelledError


def _running(task: asyncio.Task[Any]) -> Any:
    """The request cycle, or WebSocket, whose method a task of uvicorn's runs; None before it has begun and
    after it has ended.
    """
    coroutine = task.get_coro()
    if task.done() or not inspect.iscoroutine(coroutine):
        return None
    if inspect.getcoroutinestate(coroutine) == inspect.CORO_CREATED:
        return None
    return inspect.getcoroutinelocals(coroutine).get("self")


def _is_http_1(cycle: Any) -> bool:
    return hasattr(cycle, "default_headers") and str(cycle.scope.get("http_version")).startswith("1")


def _is_no_cancellation(record: logging.LogRecord) -> bool:
    """Let everything into the log but what uvicorn says of a request that we have cancelled: the report names
    those.
    """
    return not record.exc_info or not isinstance(record.exc_info[1], asyncio.CancelledError)


def _cannot_listen(config: uvicorn.Config, problem: BaseException) -> str:
    """One line: where, why, and what to do."""
    where = (
        f"unix socket {config.uds}"
        if config.uds
        else f"fd {config.fd}"
        if config.fd is not None
        else f"{config.host}:{config.port}"
    )
    if isinstance(problem, SystemExit) and isinstance(problem.__context__, OSError):
        problem = problem.__context__
    reason = getattr(problem, "strerror", None) or str(problem)
    return f"cannot listen on {where}: {reason}; stop what holds it, or choose another with --port or --uds"


def addresses(server: OwnedServer) -> Sequence[Any]:
    """What the server listens on, as `socket.getsockname` gives it; empty before and after."""
    return [
        sock.getsockname() for listener in getattr(server, "servers", ()) for sock in listener.sockets or ()
    ]
