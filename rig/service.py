"""The service under test: a plain Starlette app that knows nothing of its end.

Its answers are quick, slow, streamed, or receipts for uploads.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator
from typing import Final

from starlette.applications import Starlette
from starlette.requests import Request as Incoming
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

CHUNK: Final = b"0123456789abcdef" * 64
CHUNKS: Final = 8


async def _ready(_: Incoming) -> Response:
    return PlainTextResponse("ok")


async def _fast(_: Incoming) -> Response:
    return PlainTextResponse("fast")


async def _slow(incoming: Incoming) -> Response:
    await asyncio.sleep(float(incoming.query_params["seconds"]))
    return PlainTextResponse("slow")


async def _stream(incoming: Incoming) -> Response:
    pause = float(incoming.query_params["seconds"]) / CHUNKS

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(CHUNKS):
            await asyncio.sleep(pause)
            yield CHUNK

    return StreamingResponse(chunks(), media_type="application/octet-stream")


async def _upload(incoming: Incoming) -> Response:
    return PlainTextResponse(receipt(await incoming.body()))


def receipt(body: bytes) -> bytes:
    """What the answer to an upload says: proof that all of it has arrived."""
    return b"%d bytes, checksum %08x" % (len(body), zlib.crc32(body))


app = Starlette(
    routes=[
        Route("/ready", _ready),
        Route("/fast", _fast),
        Route("/slow", _slow),
        Route("/stream", _stream),
        Route("/upload", _upload, methods=["POST"]),
    ]
)
