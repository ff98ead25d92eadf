"""The ASGI wrapper between a fake server and small apps: what goes through, what is counted, what is said on
leaving.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
from collections.abc import Awaitable, Callable, Collection, Coroutine
from typing import Any, TypeVar, cast

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from graceful._types import ASGIApp, Message, Receive, Scope, Send
from graceful.asgi import AppLifespan, GracefulMiddleware, closing
from graceful.errors import AppFailedError, GracefulError
from graceful.inflight import CutOff, InFlight, Kind
from graceful.probes import Answer, Probes

T = TypeVar("T")


class FakeProbes:
    """`/ready` below any root path; counts how often the paths are asked for."""

    def __init__(self) -> None:
        self.learned: list[str] = []

    def paths(self, root_path: str) -> dict[str, str]:
        self.learned.append(root_path)
        return {"/ready": "ready", f"{root_path}/ready": "ready"}

    async def answer(self, scope: Scope, endpoint: str) -> Answer:
        return Answer.plain(503, f"{endpoint} for {scope['method']}")


class FakeHost:
    """The runtime, as far as the wrapper knows it; keeps what happened in order."""

    def __init__(self) -> None:
        self.in_flight = InFlight()
        self.fake_probes = FakeProbes()
        self.probes = cast("Probes", self.fake_probes)
        self.entry: GracefulMiddleware | None = None
        self.log: list[str] = []
        self.lifespan: AppLifespan | None = None

    async def adopt(self, entry: GracefulMiddleware, lifespan: AppLifespan | None) -> None:
        self.log.append("adopted" if lifespan else "adopted without lifespan")
        self.entry = entry
        entry.is_entry = True
        self.lifespan = lifespan
        if lifespan is not None:
            await lifespan.startup()

    async def server_left(self) -> None:
        assert self.lifespan is not None
        await self.lifespan.shutdown()
        self.log.append("left")


class Server:
    """A server's side of one request or lifespan: what it hands in, and what it was sent."""

    def __init__(self, *inbox: Message) -> None:
        self.inbox: asyncio.Queue[Message] = asyncio.Queue()
        for message in inbox:
            self.inbox.put_nowait(message)
        self.sent: list[Message] = []

    async def receive(self) -> Message:
        return await self.inbox.get()

    async def send(self, message: Message) -> None:
        self.sent.append(message)

    @property
    def types(self) -> list[str]:
        return [message["type"].rpartition("http.")[2] for message in self.sent]


def http(path: str = "/", method: str = "GET", **more: Any) -> Scope:
    return {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "path": path,
        "root_path": "",
        "headers": [],
        **more,
    }


WEBSOCKET: Scope = {"type": "websocket", "path": "/chat", "headers": []}
START = {"type": "http.response.start", "status": 200, "headers": [(b"x-app", b"1")]}
BODY = {"type": "http.response.body", "body": b"hello"}


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    await send(dict(START))
    await send(dict(BODY))


def entry_of(app: ASGIApp = hello) -> tuple[GracefulMiddleware, FakeHost]:
    """A wrapper that is its runtime's entry already."""
    host = FakeHost()
    entry = GracefulMiddleware(app, runtime=host)
    host.entry, entry.is_entry = entry, True
    return entry, host


async def ask(app: ASGIApp, scope: Scope) -> Server:
    server = Server()
    await app(scope, server.receive, server.send)
    return server


def test_a_request_goes_through_unchanged() -> None:
    seen: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)
        assert await receive() == {"type": "http.request"}
        assert host.in_flight.count()[Kind.HTTP] == 1
        await hello(scope, receive, send)

    entry, host = entry_of(app)

    async def main() -> None:
        scope, server = http(), Server({"type": "http.request"})
        await entry(scope, server.receive, server.send)
        assert seen[0] is scope
        assert server.sent == [START, BODY]

    asyncio.run(main())
    assert (host.in_flight.http, len(host.in_flight), host.in_flight.ended) == (1, 0, {})


def test_a_websocket_is_counted_as_one() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert host.in_flight.count()[Kind.WEBSOCKET] == 1
        await send({"type": "websocket.accept"})

    entry, host = entry_of(app)
    server = asyncio.run(ask(entry, WEBSOCKET))
    assert server.sent == [{"type": "websocket.accept"}]
    assert (host.in_flight.websocket, host.in_flight.http, len(host.in_flight)) == (1, 0, 0)


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_a_probe_is_answered_and_does_not_count(method: str) -> None:
    entry, host = entry_of()
    host.in_flight.leave(0.0)
    server = asyncio.run(ask(entry, http("/ready", method)))
    body = f"ready for {method}".encode()
    assert server.sent == [
        {
            "type": "http.response.start",
            "status": 503,
            "headers": [
                (b"content-type", b"text/plain; charset=utf-8"),
                (b"content-length", str(len(body)).encode()),
                (b"cache-control", b"no-store"),
                (b"connection", b"close"),
            ],
        },
        {"type": "http.response.body", "body": b"" if method == "HEAD" else body},
    ]
    assert (host.in_flight.http, host.in_flight.arrivals) == (0, 0)


def test_paths_are_learned_once_for_a_root_path() -> None:
    entry, host = entry_of()
    root = "/api"

    async def main() -> None:
        for _ in range(3):
            assert (await ask(entry, http("/api/ready", root_path=root))).sent[0]["status"] == 503
            assert (await ask(entry, http("/other", root_path=root))).sent[0]["status"] == 200
        assert host.fake_probes.learned == ["/api"]
        assert (await ask(entry, http("/api/ready"))).sent[0]["status"] == 200
        assert host.fake_probes.learned == ["/api", ""]
        entry.learn_paths_again()
        await ask(entry, http("/"))
        assert host.fake_probes.learned == ["/api", "", ""]

    asyncio.run(main())


def test_a_server_that_sets_no_root_path() -> None:
    """It is optional in ASGI: absent is the same as empty."""
    entry, host = entry_of()
    scope = http("/ready")
    del scope["root_path"]
    assert asyncio.run(ask(entry, scope)).sent[0]["status"] == 503
    assert asyncio.run(ask(entry, scope)).sent[0]["status"] == 503
    assert host.fake_probes.learned == [""], "once, not for each request"


def test_learned_paths() -> None:
    entry, _ = entry_of()
    entry.learn_paths_again()
    assert not entry.probe_paths, "nothing has been learned yet"
    entry.learn_paths("/api")
    assert {"/ready", "/api/ready"} <= entry.probe_paths.keys()
    assert "/readyy" not in entry.probe_paths


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([], [(b"connection", b"close")]),
        ([(b"x-app", b"1")], [(b"x-app", b"1"), (b"connection", b"close")]),
        (
            [(b"Connection", b"keep-alive"), (b"x-app", b"1"), (b"connection", b"x")],
            [(b"x-app", b"1"), (b"connection", b"close")],
        ),
        ([(b"connection", b"close")], [(b"connection", b"close")]),
    ],
)
@pytest.mark.parametrize("version", ["1.0", "1.1", None])
def test_the_client_is_told_to_go(headers: Any, expected: Any, version: str | None) -> None:
    scope = http()
    del scope["http_version"]
    if version is not None:
        scope["http_version"] = version
    message = {"type": "http.response.start", "status": 201, "headers": headers, "trailers": True}
    before = list(headers)
    assert closing(scope, message) == {**message, "headers": expected}
    assert headers == before, "the app's own message is left as it is"


@pytest.mark.parametrize("version", ["2", "2.0", "3"])
def test_no_connection_header_beyond_http_1(version: str) -> None:
    message = {"type": "http.response.start", "status": 200, "headers": [(b"x-app", b"1")]}
    assert closing(http(http_version=version), message) is message


def test_after_the_signal_each_response_says_so() -> None:
    entry, host = entry_of()

    async def main() -> tuple[Server, Server, Server]:
        before = await ask(entry, http())
        host.in_flight.leave(host.in_flight.clock())
        return before, await ask(entry, http()), await ask(entry, http(http_version="2"))

    before, http_1, http_2 = asyncio.run(main())
    assert before.sent[0]["headers"] == [(b"x-app", b"1")]
    assert http_1.sent[0]["headers"] == [(b"x-app", b"1"), (b"connection", b"close")]
    assert http_2.sent[0]["headers"] == [(b"x-app", b"1")]
    assert http_1.sent[1:] == before.sent[1:]
    assert (host.in_flight.arrivals, host.in_flight.ended) == (2, {Kind.HTTP: 2})
    assert host.in_flight.last_arrival is not None
    assert 0 <= host.in_flight.last_arrival < 60


def test_a_request_that_began_before_the_signal_says_it_too() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        host.in_flight.leave(0.0)
        await hello(scope, receive, send)

    entry, host = entry_of(app)
    server = asyncio.run(ask(entry, http()))
    assert server.sent[0]["headers"] == [(b"x-app", b"1"), (b"connection", b"close")]
    assert (host.in_flight.arrivals, host.in_flight.ended) == (0, {Kind.HTTP: 1})


def test_an_app_that_raises_is_no_longer_in_flight() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise ZeroDivisionError

    entry, host = entry_of(app)
    with pytest.raises(ZeroDivisionError):
        asyncio.run(ask(entry, http()))
    assert len(host.in_flight) == 0


def test_an_app_that_is_a_plain_function_and_raises_at_once() -> None:
    def app(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        raise ZeroDivisionError

    entry, host = entry_of(app)
    with pytest.raises(ZeroDivisionError):
        asyncio.run(ask(entry, http()))
    assert len(host.in_flight) == 0


# Cut off.


async def cut_off(app: ASGIApp, scope: Scope) -> tuple[Server, CutOff, bool]:
    """What the server was sent of a request that was cut off, its entry, and whether the server's task was
    cancelled.
    """
    entry, host = entry_of(app)
    host.in_flight.leave(host.in_flight.clock())
    server = Server()
    request = asyncio.ensure_future(entry(scope, server.receive, server.send))
    await asyncio.sleep(0)

    async def nothing(scopes: Collection[Scope]) -> Collection[Scope]:
        """This server has no connections."""
        return ()

    (cut,) = await host.in_flight.cut_off(nothing, within=0.5)
    await asyncio.wait({request})
    assert len(host.in_flight) == 0
    return server, cut, request.cancelled()


async def waiting(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()


async def half_sent(scope: Scope, receive: Receive, send: Send) -> None:
    await send(dict(START))
    await send({**BODY, "more_body": True})
    await receive()


def test_cut_off_before_the_response_has_begun() -> None:
    server, cut, cancelled = asyncio.run(cut_off(waiting, http("/slow")))
    assert server.sent == [
        {
            "type": "http.response.start",
            "status": 503,
            "headers": [
                (b"content-type", b"text/plain; charset=utf-8"),
                (b"content-length", b"24"),
                (b"cache-control", b"no-store"),
                (b"connection", b"close"),
            ],
        },
        {"type": "http.response.body", "body": b"service is shutting down"},
    ]
    assert not cancelled, "the server's own task ends well"
    assert (cut.name, cut.ended) == ("GET /slow", True)
    assert "in " in str(cut.standing_at)


def test_cut_off_over_http_2() -> None:
    server, _, _ = asyncio.run(cut_off(waiting, http(http_version="2")))
    assert b"connection" not in dict(server.sent[0]["headers"])
    assert server.sent[0]["status"] == 503


def test_of_a_503_to_head_the_body_stays_behind() -> None:
    server, _, _ = asyncio.run(cut_off(waiting, http(method="HEAD")))
    assert [message.get("body") for message in server.sent] == [None, b""]


def test_cut_off_after_the_response_has_begun() -> None:
    """Nothing more is sent: a clean last chunk would pass half a body off as whole."""
    server, cut, cancelled = asyncio.run(cut_off(half_sent, http("/stream")))
    assert server.types == ["response.start", "response.body"]
    assert server.sent[1]["more_body"] is True
    assert not cancelled
    assert cut.ended


def test_a_websocket_that_is_cut_off() -> None:
    server, cut, _ = asyncio.run(cut_off(waiting, WEBSOCKET))
    assert (server.sent, cut.kind, cut.ended) == ([], Kind.WEBSOCKET, True)


def test_cancelled_by_somebody_else_is_handed_on() -> None:
    entry, host = entry_of(waiting)

    async def main() -> bool:
        server = Server()
        request = asyncio.ensure_future(entry(http(), server.receive, server.send))
        await asyncio.sleep(0)
        request.cancel()
        await asyncio.wait({request})
        assert server.sent == []
        return request.cancelled()

    assert asyncio.run(main())
    assert len(host.in_flight) == 0


# Twice wrapped.


def test_twice_wrapped_is_once() -> None:
    host = FakeHost()
    app = GracefulMiddleware(GracefulMiddleware(hello, runtime=host), runtime=host)
    host.entry, app.is_entry = app, True
    host.in_flight.leave(0.0)
    server = asyncio.run(ask(app, http()))
    assert server.sent[0]["headers"] == [(b"x-app", b"1"), (b"connection", b"close")]
    assert (host.in_flight.http, host.in_flight.arrivals, host.in_flight.ended) == (1, 1, {Kind.HTTP: 1})
    asyncio.run(ask(app, WEBSOCKET))
    assert host.in_flight.websocket == 1


def test_wrapped_and_middleware_have_one_run() -> None:
    """Starlette builds its middleware at the first call, the lifespan's, which has come through the outer
    one.
    """

    async def index(request: Request) -> PlainTextResponse:
        return PlainTextResponse(f"{request.app.state.host.in_flight.count()[Kind.HTTP]} in flight")

    host = FakeHost()
    starlette = Starlette(routes=[Route("/", index)])
    starlette.state.host = host
    starlette.add_middleware(GracefulMiddleware, runtime=host)
    app = GracefulMiddleware(starlette, runtime=host)

    async def main() -> Server:
        lifespan = Server({"type": "lifespan.startup"}, {"type": "lifespan.shutdown"})
        await app({"type": "lifespan", "state": {}}, lifespan.receive, lifespan.send)
        assert [message["type"] for message in lifespan.sent] == [
            "lifespan.startup.complete",
            "lifespan.shutdown.complete",
        ]
        return await ask(app, http())

    assert asyncio.run(main()).sent[1]["body"] == b"1 in flight"
    assert host.log == ["adopted", "left"]
    assert host.in_flight.http == 1


def test_middleware_alone_is_the_entry() -> None:
    host = FakeHost()
    starlette = Starlette(routes=[Route("/", lambda request: PlainTextResponse("hello"))])
    starlette.add_middleware(GracefulMiddleware, runtime=host)

    async def main() -> tuple[Server, Server]:
        lifespan = Server({"type": "lifespan.startup"}, {"type": "lifespan.shutdown"})
        await starlette({"type": "lifespan", "state": {}}, lifespan.receive, lifespan.send)
        return await ask(starlette, http("/ready")), await ask(starlette, http())

    probe, page = asyncio.run(main())
    assert (probe.sent[0]["status"], page.sent[0]["status"]) == (503, 200)
    assert host.in_flight.http == 1


# Lifespan.


async def live(app: ASGIApp, scope: Scope | None = None, *, leave: bool = True) -> tuple[Server, FakeHost]:
    host = FakeHost()
    server = Server({"type": "lifespan.startup"}, *[{"type": "lifespan.shutdown"}] * leave)
    wrapped = GracefulMiddleware(app, runtime=host)
    with contextlib.nullcontext() if leave else pytest.raises(AppFailedError):
        await wrapped({"type": "lifespan", **(scope or {})}, server.receive, server.send)
    return server, host


COMPLETE = [{"type": "lifespan.startup.complete"}, {"type": "lifespan.shutdown.complete"}]


def test_the_lifespan_is_handed_on_with_its_state() -> None:
    log: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "lifespan"
        assert scope["asgi"] == {"version": "3.0", "spec_version": "2.0"}
        assert await receive() == {"type": "lifespan.startup"}
        scope["state"]["pool"] = "the pool"
        await send({"type": "lifespan.startup.complete"})
        assert await receive() == {"type": "lifespan.shutdown"}
        log.append("app ended")
        await send({"type": "lifespan.shutdown.complete"})

    state: dict[str, str] = {}
    server, host = asyncio.run(live(app, {"state": state}))
    assert server.sent == COMPLETE
    assert state == {"pool": "the pool"}
    assert (log, host.log) == (["app ended"], ["adopted", "left"])


def test_a_server_without_state_gives_the_app_none() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert "state" not in scope
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})

    assert asyncio.run(live(app))[0].sent == COMPLETE


async def ignores_scopes(scope: Scope, receive: Receive, send: Send) -> None:
    """The hello world that never looks at the scope's type."""
    await send(dict(START))
    await send(dict(BODY))


async def asserts_http(scope: Scope, receive: Receive, send: Send) -> None:
    assert scope["type"] == "http"


async def returns(scope: Scope, receive: Receive, send: Send) -> None:
    return


async def raises_after_receive(scope: Scope, receive: Receive, send: Send) -> None:
    message = await receive()
    raise KeyError(message["body"])


@pytest.mark.parametrize("app", [ignores_scopes, asserts_http, returns, raises_after_receive])
def test_an_app_without_lifespan_is_fine(app: ASGIApp, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "graceful")
    server, host = asyncio.run(live(app))
    assert server.sent == COMPLETE
    assert host.log == ["adopted", "left"]
    assert [record.levelname for record in caplog.records if record.name == "graceful"] == ["DEBUG"]


def test_startup_failed_is_handed_on_with_the_apps_words() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    server, host = asyncio.run(live(app, leave=False))
    assert server.sent == [{"type": "lifespan.startup.failed", "message": "no database"}]
    assert host.log == ["adopted"]


def test_startup_failed_without_a_reason_says_so() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed"})

    server, _ = asyncio.run(live(app, leave=False))
    assert server.sent[0]["message"] == "the app's lifespan startup failed and gave no reason"


def test_an_inner_wrapper_hands_the_lifespan_on() -> None:
    host = FakeHost()
    app = GracefulMiddleware(asserts_http, runtime=host)
    host.entry = GracefulMiddleware(app, runtime=host)
    with pytest.raises(AssertionError):
        asyncio.run(ask(app, {"type": "lifespan"}))
    assert host.log == []


def test_a_server_without_lifespan_is_adopted_at_the_first_request() -> None:
    host = FakeHost()
    app = GracefulMiddleware(hello, runtime=host)
    for scope in (http(), http(), WEBSOCKET, http("/ready")):
        asyncio.run(ask(app, scope))
    assert host.log == ["adopted without lifespan"]
    assert (host.in_flight.http, host.in_flight.websocket) == (2, 1)


def test_a_websocket_may_be_the_first() -> None:
    host = FakeHost()
    asyncio.run(ask(GracefulMiddleware(hello, runtime=host), WEBSOCKET))
    assert (host.log, host.in_flight.websocket) == (["adopted without lifespan"], 1)


# AppLifespan, on its own.


def drive(scene: Callable[[AppLifespan], Coroutine[Any, Any, T]], app: ASGIApp, mode: Any = "auto") -> T:
    async def main() -> T:
        return await asyncio.wait_for(scene(AppLifespan(app, None, mode)), 30)

    return asyncio.run(main())


async def up(lifespan: AppLifespan) -> None:
    await lifespan.startup()


async def up_and_down(lifespan: AppLifespan) -> None:
    await lifespan.startup()
    await lifespan.shutdown()
    await lifespan.shutdown()


def test_off_asks_nobody() -> None:
    drive(up_and_down, asserts_http, "off")


@pytest.mark.parametrize(
    ("app", "problem"),
    [(asserts_http, AssertionError), (raises_after_receive, KeyError), (ignores_scopes, GracefulError)],
)
def test_on_raises_what_the_app_raised(app: ASGIApp, problem: type[Exception]) -> None:
    with pytest.raises(problem):
        drive(up, app, "on")


def test_on_takes_an_app_that_returns() -> None:
    drive(up_and_down, returns, "on")


def test_what_starlette_says_when_its_lifespan_raises(caplog: pytest.LogCaptureFixture) -> None:
    """It sends startup.failed, then raises as well: the second is no news, and nobody has to retrieve it."""

    class Broken:
        def __init__(self, app: Any) -> None:
            pass

        async def __aenter__(self) -> None:
            message = "no database"
            raise OSError(message)

        async def __aexit__(self, *exc_info: object) -> None:
            pass

    async def scene(lifespan: AppLifespan) -> None:
        with pytest.raises(AppFailedError, match="OSError: no database"):
            await lifespan.startup()
        await lifespan.shutdown()

    drive(scene, Starlette(lifespan=Broken))
    gc.collect()
    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []


def lifespan_app(*, at_shutdown: Message | Exception | None) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        if at_shutdown is None:
            return
        await receive()
        if isinstance(at_shutdown, Exception):
            raise at_shutdown
        await send(at_shutdown)

    return app


def test_shutdown_failed_and_raised() -> None:
    failed = lifespan_app(at_shutdown={"type": "lifespan.shutdown.failed", "message": "queue not empty"})
    with pytest.raises(AppFailedError, match=r"^queue not empty$"):
        drive(up_and_down, failed)
    with pytest.raises(ZeroDivisionError):
        drive(up_and_down, lifespan_app(at_shutdown=ZeroDivisionError()))


def test_an_app_that_has_returned_early_has_ended() -> None:
    drive(up_and_down, lifespan_app(at_shutdown=None))


def test_shutdown_of_what_has_not_started() -> None:
    async def scene(lifespan: AppLifespan) -> None:
        await lifespan.shutdown()

    drive(scene, asserts_http)


def test_an_interrupted_startup_has_ended_when_shutdown_returns() -> None:
    """What it acquired may need our resources to be given back: those are released after it."""
    log: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        try:
            await receive()
        finally:
            await asyncio.sleep(0)
            log.append("app cleaned up")

    async def scene(lifespan: AppLifespan) -> None:
        starting = asyncio.ensure_future(lifespan.startup())
        for _ in range(3):
            await asyncio.sleep(0)
        starting.cancel()
        await asyncio.wait({starting})
        assert log == []
        await lifespan.shutdown()
        log.append("shut down")

    drive(scene, app)
    assert log == ["app cleaned up", "shut down"]


@pytest.mark.parametrize(
    "message",
    ["lifespan.startup.complete", "lifespan.startup.begun", "lifespan.nap.complete", "http.response.start"],
)
def test_messages_without_a_meaning(message: str) -> None:
    refused: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        try:
            await send({"type": message})
        except GracefulError as problem:
            refused.append(str(problem))
        await receive()
        await send({"type": "lifespan.shutdown.complete"})

    drive(up_and_down, app)
    assert refused == [f"the app sent {message!r} in its lifespan, where that has no meaning"]
