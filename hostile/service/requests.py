"""What can be asked of the service: two healthy requests, and everything that nobody should write."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import Final

from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from hostile.service import native
from hostile.service.ledger import note

SLOW: Final = b"slow"
FAST: Final = b"fast"
LARGE: Final = 100_000_000

_PIECE: Final = b"0123456789abcdef" * 64
_PAUSE_SECONDS: Final = 0.05

_background: Final[set[asyncio.Task[None]]] = set()


# Healthy.


async def fast(_: Request) -> Response:
    return PlainTextResponse(FAST)


async def slow(request: Request) -> Response:
    note("at slow")
    await asyncio.sleep(float(request.query_params["seconds"]))
    return PlainTextResponse(SLOW)


# Work that does not end.


async def endless_pieces(name: str) -> AsyncIterator[bytes]:
    while True:
        yield _PIECE
        note(f"at {name}")
        await asyncio.sleep(_PAUSE_SECONDS)


async def endless_stream(_: Request) -> Response:
    return StreamingResponse(endless_pieces("endless_stream"))


async def flood_pieces() -> AsyncIterator[bytes]:
    """As fast as the client takes it; the service waits where it does not."""
    note("at flood")
    while True:
        yield _PIECE


async def flood(_: Request) -> Response:
    return StreamingResponse(flood_pieces())


async def endless_events() -> AsyncIterator[bytes]:
    while True:
        yield b"data: tick\n\n"
        note("at events")
        await asyncio.sleep(_PAUSE_SECONDS)


async def events(_: Request) -> Response:
    return StreamingResponse(endless_events(), media_type="text/event-stream")


async def sleeps(_: Request) -> Response:
    note("at sleeps")
    await asyncio.Event().wait()
    return PlainTextResponse("never")


async def swallows(_: Request) -> Response:
    note("at swallows")
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            note("swallowed a cancellation")


async def download(_: Request) -> Response:
    """It says how long it is, and never gets there."""
    headers = {"content-length": str(LARGE)}
    return StreamingResponse(endless_pieces("download"), headers=headers)


async def large(_: Request) -> Response:
    note("at large")
    return Response(bytes(LARGE))


async def upload(request: Request) -> Response:
    note("at upload")
    try:
        return PlainTextResponse(str(len(await request.body())))
    except ClientDisconnect:
        note("upload was given up")
        raise


async def socket(websocket: WebSocket) -> None:
    await websocket.accept()
    note("at socket")
    async for _ in websocket.iter_text():
        pass


# Threads.


def sync_sleeps(_: Request) -> Response:
    note("at sync_sleeps")
    threading.Event().wait()
    return PlainTextResponse("never")


def thread_that_stays() -> None:
    note("at thread")
    threading.Event().wait()


async def thread(_: Request) -> Response:
    threading.Thread(target=thread_that_stays, name="stays").start()
    return PlainTextResponse("started")


def job_that_stays() -> None:
    note("at executor")
    threading.Event().wait()


async def executor(_: Request) -> Response:
    asyncio.get_running_loop().run_in_executor(None, job_that_stays)
    return PlainTextResponse("started")


# The loop stands still. Each begins when the whole body has come, so that the harness chooses the moment.


def blocks_in_sleep() -> None:
    time.sleep(3600)


def blocks_in_lock() -> None:
    lock = threading.Lock()
    with lock:
        lock.acquire()


def blocks_without_gil() -> None:
    native.wait_without_gil()


def blocks_with_gil() -> None:
    native.wait_with_gil()


# The process ends, or tries to.


def exits_hard() -> None:
    os._exit(3)


def crashes() -> None:
    native.crash()


def exits_in_task() -> None:
    async def leave() -> None:
        sys.exit(7)

    task = asyncio.get_running_loop().create_task(leave())
    _background.add(task)


_AT_ONCE: Final[tuple[Callable[[], None], ...]] = (
    blocks_in_sleep,
    blocks_in_lock,
    blocks_without_gil,
    blocks_with_gil,
    exits_hard,
    crashes,
    exits_in_task,
)


def _when_the_body_has_come(act: Callable[[], None]) -> Route:
    async def endpoint(request: Request) -> Response:
        note(f"before {act.__name__}")
        await request.body()
        note(f"at {act.__name__}")
        act()
        return PlainTextResponse("done")

    return Route(f"/{act.__name__}", endpoint, methods=["POST"])


# Children.


def child_that_stays() -> None:
    threading.Event().wait()


def watch(child: multiprocessing.process.BaseProcess) -> None:
    child.join()
    note(f"child ended with {child.exitcode}")


async def forked(_: Request) -> Response:
    """A child by fork, as multiprocessing makes it: it inherits all that this process has."""
    child = multiprocessing.get_context("fork").Process(target=child_that_stays)
    child.start()
    threading.Thread(target=watch, args=(child,), daemon=True).start()
    note(f"child {child.pid}")
    return PlainTextResponse("started")


async def spawned(_: Request) -> Response:
    child = subprocess.Popen(["sleep", "3600"])  # noqa: ASYNC220, S607 - that is what is hostile here
    note(f"child {child.pid}")
    return PlainTextResponse("started")


ROUTES: Final = (
    *(Route(f"/{each.__name__}", each) for each in (fast, slow, endless_stream, events, sleeps, swallows)),
    *(Route(f"/{each.__name__}", each) for each in (flood, download, large, sync_sleeps, thread, executor)),
    *(Route(f"/{each.__name__}", each) for each in (forked, spawned)),
    Route("/upload", upload, methods=["POST"]),
    WebSocketRoute("/socket", socket),
    *(_when_the_body_has_come(act) for act in _AT_ONCE),
)
