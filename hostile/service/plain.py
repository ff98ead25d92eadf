"""The same service as its owner writes it without us: `uvicorn hostile.service.plain:app`."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from starlette.applications import Starlette

from hostile.service import resources
from hostile.service.requests import ROUTES


@contextlib.asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    """All resources, released last acquired first, whatever one of them does."""
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(contextlib.asynccontextmanager(resources.database)())
        await stack.enter_async_context(contextlib.asynccontextmanager(resources.ill)())
        stack.enter_context(contextlib.contextmanager(resources.journal)())
        await stack.enter_async_context(resources.lifespan(app))
        yield


app = Starlette(routes=ROUTES, lifespan=lifespan)
