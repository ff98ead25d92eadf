"""An app that takes its time: `/sleep?1.0` lets the event loop go on for a second, `/block?1.0` stops it and
says so first.

`/sleeping` says how many requests sleep at the moment, so that a client need not guess when to send the
signal.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

BLOCKED: Final = b"the loop stands still"
UNBLOCKED: Final = b", and turns again"

_sleeping = 0


async def app(scope: Any, _receive: Any, send: Any) -> None:
    """ASGI 3, without lifespan."""
    global _sleeping  # noqa: PLW0603 - one number, in one process
    if scope["type"] != "http":
        raise NotImplementedError
    seconds = float(scope["query_string"] or 0)
    match scope["path"]:
        case "/sleep":
            _sleeping += 1
            await asyncio.sleep(seconds)
            _sleeping -= 1
            await _answer(send, b"slept")
        case "/block":
            await _start(send, length=len(BLOCKED) + len(UNBLOCKED))
            await send({"type": "http.response.body", "body": BLOCKED, "more_body": True})
            time.sleep(seconds)  # noqa: ASYNC251 - on purpose
            await send({"type": "http.response.body", "body": UNBLOCKED})
        case "/sleeping":
            await _answer(send, b"%d" % _sleeping)
        case _:
            await _answer(send, b"ok")


async def _answer(send: Any, body: bytes) -> None:
    await _start(send, length=len(body))
    await send({"type": "http.response.body", "body": body})


async def _start(send: Any, *, length: int) -> None:
    headers = [(b"content-length", b"%d" % length)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
