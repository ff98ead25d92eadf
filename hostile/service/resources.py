"""What the service has to give back: three resources, the middle one of which may be ill, and the app's own
lifespan. Each writes its acquisition and its release to the ledger.

Acquired in this order, so released in the other: `lifespan`, then `journal`, then the ill one, then
`database`.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import sys
import time
from collections.abc import AsyncIterator, Iterator
from typing import Final

from hostile.service.ledger import TRAITS, note

_NO_CORE: Final = (0, 0)

resource.setrlimit(resource.RLIMIT_CORE, _NO_CORE)  # a crash that is meant leaves nothing behind


async def database() -> AsyncIterator[None]:
    """Healthy, and asynchronous: it needs a loop that turns."""
    note("acquired database")
    yield
    await asyncio.sleep(0)
    note("released database")


async def ill() -> AsyncIterator[None]:
    """Its release does what the service was told at its start."""
    note("acquired ill")
    yield
    await _act("resource")
    note("released ill")


def journal() -> Iterator[None]:
    """Healthy, and synchronous."""
    note("acquired journal")
    yield
    note("released journal")


@contextlib.asynccontextmanager
async def lifespan(_: object) -> AsyncIterator[None]:
    """The app's own."""
    note("acquired lifespan")
    yield
    await _act("lifespan")
    note("released lifespan")


async def _act(where: str) -> None:
    """What `where` is to suffer, if anything."""
    if f"{where}-hangs" in TRAITS:
        await asyncio.Event().wait()
    if f"{where}-blocks" in TRAITS:
        time.sleep(3600)  # noqa: ASYNC251 - that is what is hostile here
    if f"{where}-exits" in TRAITS:
        sys.exit(7)
    if f"{where}-raises" in TRAITS:
        message = f"no way to release {where}"
        raise RuntimeError(message)
