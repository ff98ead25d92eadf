"""A Starlette app, wrapped. The wrapper is an ASGI app itself, so any way to start the one starts the other.

Run it on a server of our own, or under uvicorn's command:

    graceful run --app-dir examples 01_wrapped_starlette:app
    uvicorn --app-dir examples 01_wrapped_starlette:app

Ask it for something slow and press Ctrl-C, or send SIGTERM, before the answer is there:

    curl http://localhost:8000/slow

The answer comes whole, then the process ends. From the signal on /ready says 503, and every response says
`connection: close`.
"""

from __future__ import annotations

import asyncio

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from graceful import Runtime


async def home(_request: Request) -> PlainTextResponse:
    return PlainTextResponse("hello\n")


async def slow(_request: Request) -> PlainTextResponse:
    await asyncio.sleep(2)
    return PlainTextResponse("worth waiting for\n")


runtime = Runtime()
app = runtime.wrap(Starlette(routes=[Route("/", home), Route("/slow", slow)]))
