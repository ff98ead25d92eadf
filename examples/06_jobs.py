"""Work that is no request: jobs and tasks are in flight too, and a loop without an end hears of the end.

    graceful run --app-dir examples 06_jobs:app
    curl -X POST http://localhost:8000/orders

Press Ctrl-C within two seconds of the order: the response has long gone out, but the drain waits until the
order is packed. The ticker would never end by itself; it stops as soon as the shutdown begins. The report
counts both.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from graceful import Runtime

runtime = Runtime()


async def tick() -> None:
    async with runtime.job("ticker"):
        leaving = asyncio.ensure_future(runtime.shutdown_requested())
        while not leaving.done():
            print("tick", flush=True)
            await asyncio.wait({leaving}, timeout=60)
        print("the ticker has stopped", flush=True)


@runtime.resource
async def ticker() -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(tick())
    yield task
    await task


async def pack() -> None:
    await asyncio.sleep(2)
    print("the order is packed", flush=True)


async def order(_request: Request) -> PlainTextResponse:
    runtime.create_task(pack(), name="pack")
    return PlainTextResponse("it will be packed\n", status_code=202)


app = runtime.wrap(Starlette(routes=[Route("/orders", order, methods=["POST"])]))
