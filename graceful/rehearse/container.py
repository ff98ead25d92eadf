"""One process of a replica, from its start to its end."""

from __future__ import annotations

import asyncio
from typing import Protocol


class Process(Protocol):
    """A process that has been started."""

    @property
    def pid(self) -> int:
        """Its id."""

    def signal(self, name: str) -> None:
        """Send `SIGTERM`, or whichever; nothing happens where it has ended."""

    def kill(self) -> None:
        """End it, and all that it has started, by SIGKILL; nothing happens where it has ended."""

    async def wait(self) -> int:
        """Its exit code when it has ended, negative by that signal. May be called by several, and again."""


class Container:
    """One process of the replica, from its start to its end, and how it came to that."""

    def __init__(self, process: Process, began: float) -> None:
        self.process = process
        self.began = began
        self.started = asyncio.Event()  # its startup probe has succeeded, if it has one
        self.ended = asyncio.Event()
        self.ended_at = began
        self.code: int | None = None
        self.signalled: float | None = None
        self.killed: float | None = None
        self.listener_closed: float | None = None
        self.was_ready = False
        self.stopping = False
        self.failed = False  # a probe of it
        self.restarting: asyncio.Task[None] | None = None

    def stop_restarting(self) -> None:
        """Liveness and startup are not asked any more, and a kill that they have begun is left to others."""
        if self.restarting is not None:
            self.restarting.cancel()
