"""Waits that a second event may end."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def happened(event: asyncio.Event, *, within: float) -> bool:
    """Whether `event` was set before `within` seconds had passed."""
    try:
        async with asyncio.timeout(max(0.0, within)):
            await event.wait()
    except TimeoutError:
        return event.is_set()
    return True


async def unless(
    event: asyncio.Event, work: Coroutine[Any, Any, T], *, within: float | None = None
) -> T | None:
    """The result of `work`; None where `event` was set first, or `within` seconds had passed. On return, and
    where this is cancelled, `work` has ended, by its cancellation if need be.
    """
    working = asyncio.ensure_future(work)
    waiting = asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait({working, waiting}, timeout=within, return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        working.cancel()
        waiting.cancel()
        await asyncio.gather(working, waiting, return_exceptions=True)
