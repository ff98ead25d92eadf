"""An ordinary Starlette app that knows nothing of its end. What is broken lies in how it is deployed, or in
one of its handlers.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from typing import Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

_PIECES: Final = 10


def _seconds(request: Request) -> float:
    return float(request.query_params.get("seconds", "0"))


async def _ok(_: Request) -> Response:
    return PlainTextResponse("ok")


async def _report(request: Request) -> Response:
    """Waits for a database, say."""
    await asyncio.sleep(_seconds(request))
    return PlainTextResponse("the report")


async def _download(request: Request) -> Response:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(_PIECES):
            await asyncio.sleep(_seconds(request) / _PIECES)
            yield bytes(1000)

    return StreamingResponse(pieces(), media_type="application/octet-stream")


async def _events(_: Request) -> Response:
    async def events() -> AsyncIterator[str]:
        while True:
            yield "data: news\n\n"
            await asyncio.sleep(0.1)

    return StreamingResponse(events(), media_type="text/event-stream")


async def _pdf(request: Request) -> Response:
    """Renders it right here, and the event loop stands still meanwhile."""
    time.sleep(_seconds(request))  # noqa: ASYNC251 - that is what is wrong with it
    return PlainTextResponse("%PDF")


async def _import(_: Request) -> Response:
    """Needs more memory than there is: the kernel ends the process as it does then."""
    os.kill(os.getpid(), signal.SIGKILL)
    return PlainTextResponse("never")


app = Starlette(
    routes=[
        Route("/", _ok),
        Route("/ready", _ok),
        Route("/healthz", _ok),
        Route("/report", _report),
        Route("/download", _download),
        Route("/events", _events),
        Route("/pdf", _pdf),
        Route("/import", _import),
    ]
)
