"""The app that most of these tests serve: what it does and is told, it writes to standard output, line by
line, at once.

A test decides when a request ends: by sending the rest of its body, or a line to standard input for what
blocks.
"""

from __future__ import annotations

import asyncio
import atexit
import json
import os
import signal
from collections.abc import AsyncIterator
from typing import Any

from graceful import PhaseChange, Runtime

runtime = Runtime()


def say(text: str) -> None:
    os.write(1, f"{text}\n".encode())


def wait_for_line() -> None:
    """Block the thread until the test says so."""
    while os.read(0, 1) != b"\n":
        pass


@runtime.on_phase
def told(change: PhaseChange) -> None:
    # Libraries such as sse-starlette find the server this way.
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    say(f"phase {change.phase} should_exit={getattr(server, 'should_exit', None)}")


@runtime.resource
async def database() -> AsyncIterator[str]:
    say("acquired database")
    yield "the database"
    say("released database")


@atexit.register
def at_exit() -> None:
    if runtime.report is not None:
        say("report " + json.dumps(runtime.report.as_dict()))
    say("atexit")


async def bare(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
    elif scope["type"] == "websocket":
        await echo(receive, send)
    else:
        await PATHS.get(scope["path"], hello)(receive, send)


async def lifespan(receive: Any, send: Any) -> None:
    await receive()
    say("lifespan startup")
    await send({"type": "lifespan.startup.complete"})
    await receive()
    say("lifespan shutdown")
    await send({"type": "lifespan.shutdown.complete"})


async def echo(receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})


async def answer(send: Any, body: bytes) -> None:
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def whole_body(receive: Any) -> bytes:
    body = b""
    while (message := await receive())["type"] == "http.request":
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    return body


async def hello(receive: Any, send: Any) -> None:
    await answer(send, b"hello")


async def hold(receive: Any, send: Any) -> None:
    """Answered when the body has come."""
    say(f"holding in {os.getpid()}")
    await answer(send, b"held " + await whole_body(receive))


async def stream(receive: Any, send: Any) -> None:
    """Begun at once, ended when the body has come."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"first ", "more_body": True})
    say("streaming")
    body = await whole_body(receive)
    await send({"type": "http.response.body", "body": body})


async def block(receive: Any, send: Any) -> None:
    """The loop stands still until a line comes."""
    say("blocking")
    wait_for_line()
    await answer(send, b"unblocked")


async def boom(receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"half", "more_body": True})
    message = "in the middle"
    raise RuntimeError(message)


async def leave(receive: Any, send: Any) -> None:
    runtime.request_shutdown("had enough")
    await answer(send, b"leaving")


async def fork(receive: Any, send: Any) -> None:
    """A child says what it has inherited, and is terminated."""
    child = os.fork()
    if child == 0:
        handler = signal.getsignal(signal.SIGTERM)
        say(f"child has {handler!r} and wakeup fd {signal.set_wakeup_fd(-1)}")
        os.kill(os.getpid(), signal.SIGTERM)
        os._exit(99)
    _, status = os.waitpid(child, 0)  # noqa: ASYNC222 - it ends by itself, at once
    await answer(send, str(os.waitstatus_to_exitcode(status)).encode())


async def never(receive: Any, send: Any) -> None:
    """Waits for what never comes, and does not accept its cancellation either."""
    say("never")
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            say("cancellation swallowed")


PATHS = {
    "/hold": hold,
    "/stream": stream,
    "/block": block,
    "/boom": boom,
    "/leave": leave,
    "/fork": fork,
    "/never": never,
}

wrapped = runtime.wrap(bare)
