"""A service without HTTP: a consumer that stops fetching when it is told, and finishes what it has in hand.

    python examples/08_worker.py
    curl "http://localhost:9000/ready?verbose"

Press Ctrl-C while a message is being worked on: no further one is fetched, that one is finished, then the
queue is closed. The endpoints are on the admin port, which answers however busy the consumer is.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncIterator

from graceful import Runtime

runtime = Runtime(admin_port=int(os.environ.get("PORT", "9000")))


class Queue:
    """Stands for a broker: a message each tenth of a second, which takes half a second to work on."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)

    async def get(self) -> int:
        """The next message."""
        await asyncio.sleep(0.1)
        return next(self._numbers)

    async def close(self) -> None:
        """Say goodbye."""
        print("the queue is closed", flush=True)


@runtime.resource
async def queue() -> AsyncIterator[Queue]:
    opened = Queue()
    yield opened
    await opened.close()


async def work_on(message: int) -> None:
    async with runtime.job("message"):
        print(f"message {message}", flush=True)
        await asyncio.sleep(0.5)
        print(f"message {message} is done", flush=True)


async def main() -> None:
    while not runtime.stopping.is_set():
        await work_on(await queue.value.get())


if __name__ == "__main__":
    runtime.run_worker(main)
