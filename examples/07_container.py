"""A service for an image: /slow takes as long as it is asked to, / says how many such answers are in work.

    graceful run --app-dir examples 07_container:app
    curl "http://localhost:8000/slow?seconds=3"

Dockerfile.exec and Dockerfile.shell-sh, at the top of the repository, serve it: stop the container while the
slow answer is in work, and see which of them lets it end. `make images` does it for you.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from graceful import Runtime

runtime = Runtime()


@runtime.resource
def desk() -> Iterator[set[Request]]:
    in_work: set[Request] = set()
    yield in_work
    print("the desk is cleared, with", len(in_work), "answers in work", flush=True)


async def home(_request: Request) -> PlainTextResponse:
    return PlainTextResponse(f"{len(desk.value)} in work\n")


async def slow(request: Request) -> PlainTextResponse:
    desk.value.add(request)
    try:
        await asyncio.sleep(float(request.query_params.get("seconds", "1")))
    finally:
        desk.value.discard(request)
    return PlainTextResponse("worth waiting for\n")


app = runtime.wrap(Starlette(routes=[Route("/", home), Route("/slow", slow)]))
