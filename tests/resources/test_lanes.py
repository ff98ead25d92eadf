"""Threads that answer on the loop."""

from __future__ import annotations

import asyncio
import threading

import pytest

from graceful.calls import Lane
from tests.both_loops import Run
from tests.resources.scene import (
    Blocked,
    begun,
    raising,
)


def test_an_answer_that_comes_when_the_loop_is_gone_is_dropped(run: Run, blocked: Blocked) -> None:
    async def main() -> None:
        lane = Lane("a lane")
        call = asyncio.ensure_future(lane.call(blocked))
        await begun(blocked)
        lane.end()
        call.cancel()

    run(main)
    blocked.let_go()


def test_an_answer_that_nobody_waits_for_is_dropped(run: Run) -> None:
    async def main() -> None:
        lane = Lane("a lane")
        gate = threading.Event()
        call = asyncio.ensure_future(lane.call(gate.wait))
        await asyncio.sleep(0)
        assert not lane.idle
        call.cancel()
        await asyncio.wait({call})
        gate.set()
        assert await lane.call(lambda: 5) == 5, "what was asked before has been answered by now"
        assert lane.idle
        lane.end()

    run(main)


def test_what_ends_the_thread_of_others_does_not_end_a_lane(run: Run) -> None:
    async def main() -> None:
        lane = Lane("a lane")
        with pytest.raises(SystemExit):
            await lane.call(raising(SystemExit()))
        assert await lane.call(lambda: threading.current_thread().name) == "a lane"
        lane.end()

    with pytest.raises(SystemExit):  # pytest's own test that it passes through
        raise SystemExit
    run(main)
