"""A FastAPI app that stays a FastAPI: `add_middleware` does what `runtime.wrap` does.

    pip install fastapi
    graceful run --app-dir examples 02_fastapi:app

Its own lifespan starts after our resources and ends before them. http://localhost:8000/ shows the phase;
/healthz and /ready are there without a route, and not in the OpenAPI document. After Ctrl-C the log shows
each phase, and at the end a report.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from graceful import GracefulMiddleware, Runtime


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    print("the app has started", flush=True)
    yield
    print("the app has ended", flush=True)


runtime = Runtime()
app = FastAPI(lifespan=lifespan)
app.add_middleware(GracefulMiddleware, runtime=runtime)


@app.get("/")
async def home() -> dict[str, str]:
    return {"phase": runtime.phase}


@app.get("/items/{item_id}")
async def item(item_id: int) -> dict[str, int]:
    return {"item": item_id}
