"""The loop that the tests of the timeline run on: its clock jumps, in order."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from tests.jumping_loop import JumpingLoop, jump


def test_time_passes_without_waiting() -> None:
    async def main(loop: JumpingLoop) -> list[tuple[float, str]]:
        log: list[tuple[float, str]] = []

        async def note(after: float, what: str) -> None:
            await asyncio.sleep(after)
            log.append((loop.time(), what))

        await asyncio.gather(note(3600.0, "late"), note(0.5, "early"), note(0.0, "at once"))
        return log

    began = time.monotonic()
    assert jump(main) == [(0.0, "at once"), (0.5, "early"), (3600.0, "late")]
    assert time.monotonic() - began < 60


def test_a_thread_may_wake_the_loop() -> None:
    async def main(loop: JumpingLoop) -> float:
        woken = asyncio.Event()
        threading.Thread(target=lambda: loop.call_soon_threadsafe(woken.set)).start()
        await woken.wait()
        return loop.time()

    assert jump(main) == 0.0


def test_what_would_hang_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.jumping_loop._BOUND", 0.01)

    async def main(loop: JumpingLoop) -> None:
        await asyncio.Event().wait()

    with pytest.raises(AssertionError, match="deadlock"):
        jump(main)
