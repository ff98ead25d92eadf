"""An app that a function makes, with a runtime of its own: nothing happens when the module is imported.

    graceful run --app-dir examples 05_factory:create_app --factory
    uvicorn --app-dir examples 05_factory:create_app --factory

In a test each call makes an app that starts and ends by itself, with its resources:

    with TestClient(create_app()) as client:
        assert client.get("/").text == "hello"
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from graceful import GracefulMiddleware, Runtime


def create_app() -> GracefulMiddleware:
    runtime = Runtime(lame_duck=1)

    @runtime.resource
    async def greeting() -> AsyncIterator[str]:
        yield "hello"
        print("the greeting is given back", flush=True)

    async def home(_request: Request) -> PlainTextResponse:
        return PlainTextResponse(greeting.value)

    return runtime.wrap(Starlette(routes=[Route("/", home)]))
