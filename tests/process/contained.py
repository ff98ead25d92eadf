"""The app that is served behind a PID 1: what happens to it, it tells the test over a socket, which no
redirection of a shell's takes away.

One task is in flight for as long as it serves, and takes a moment to end: whoever says `work done` was told
of the signal and had the time to drain.
"""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Any

from graceful import PhaseChange, Runtime

WORK_SECONDS = 0.2

runtime = Runtime(lame_duck=0)
news = socket.socket(socket.AF_UNIX)
news.connect(os.environ["NEWS"].replace("@", "\0"))


def say(text: str) -> None:
    news.sendall(f"{text}\n".encode())


@runtime.on_phase
def told(change: PhaseChange) -> None:
    say(change.phase)


async def work() -> None:
    await runtime.shutdown_requested()
    await asyncio.sleep(WORK_SECONDS)
    say("work done")


@runtime.resource
async def something_in_flight() -> None:
    runtime.create_task(work(), name="work")


async def bare(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})


app = runtime.wrap(bare)
