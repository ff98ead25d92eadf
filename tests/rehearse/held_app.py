"""An app with what can be held open: a stream, events, a WebSocket that echoes nothing."""

from __future__ import annotations

import asyncio
from typing import Any


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        return
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] == "websocket.receive":
            pass
        return
    if scope["path"] == "/error":
        await answer(send, 500, b"sorry")
    elif scope["path"] == "/echo":
        size = 0
        while True:
            message = await receive()
            size += len(message.get("body", b""))
            if not message.get("more_body"):
                break
        await answer(send, 200, b"%d" % size)
    elif scope["path"] == "/events":
        await send(start(200, (b"content-type", b"text/event-stream")))
        await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
        await asyncio.get_running_loop().create_future()
    else:
        await answer(send, 200, b"hello")


async def answer(send: Any, status: int, body: bytes) -> None:
    await send(start(status, (b"content-length", b"%d" % len(body))))
    await send({"type": "http.response.body", "body": body})


def start(status: int, header: tuple[bytes, bytes]) -> Any:
    return {"type": "http.response.start", "status": status, "headers": [header]}
