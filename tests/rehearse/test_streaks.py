"""When a probe is taken, what a row of results means, and how long a restart waits."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from graceful.rehearse.backoff import BackOff
from graceful.rehearse.model import HttpGet, Probe
from graceful.rehearse.streaks import Streak, Ticker
from graceful.rehearse.waiting import happened, unless
from tests.jumping_loop import jump


@pytest.mark.parametrize(
    ("results", "believed"),
    [
        ("+", "-"),
        ("++", "-+"),
        ("+++", "-++"),
        ("---", "--+"),
        ("+--+--", "------"),
        ("--++---", "---+--+"),
    ],
)
def test_a_streak_is_believed_from_its_threshold_on(results: str, believed: str) -> None:
    streak = Streak(Probe(action=HttpGet(), success_threshold=2, failure_threshold=3))
    assert "".join("+" if streak.add(ok=each == "+") else "-" for each in results) == believed


@pytest.mark.parametrize(
    ("first", "takes", "ticks"),
    [
        (10.0, [0, 0, 0], [10, 15, 20]),
        (0.0, [0, 0, 0], [2, 7, 12]),  # it is over already: now
        (10.0, [1, 4.9, 5], [10, 15, 20, 25]),
        (10.0, [7, 0, 0], [10, 17, 20, 25]),  # late: at once, then in step again
        (10.0, [23, 0, 0], [10, 33, 35, 40]),  # those that were missed are not made up for
    ],
)
def test_ticks(first: float, takes: list[float], ticks: list[float]) -> None:
    async def main(loop: Any) -> list[float]:
        await asyncio.sleep(2)
        ticker = Ticker(first, 5.0)
        seen = []
        for seconds in takes:
            await ticker.tick()
            seen.append(loop.time())
            await asyncio.sleep(seconds)
        await ticker.tick()
        return [*seen, loop.time()][: len(ticks)]

    assert jump(main) == ticks


def test_the_back_off_of_crashes() -> None:
    back_off = BackOff()
    assert [back_off.delay(ran=1) for _ in range(8)] == [0, 10, 20, 40, 80, 160, 300, 300]
    assert [back_off.delay(ran=599), back_off.delay(ran=600), back_off.delay(ran=1)] == [300, 0, 10]


def test_an_event_happens_or_does_not() -> None:
    async def main(loop: Any) -> None:
        event = asyncio.Event()
        loop.call_later(3, event.set)
        assert not await happened(event, within=2)
        assert await happened(event, within=2)
        assert loop.time() == 3
        assert await happened(event, within=0)
        assert await happened(event, within=-1)

    jump(main)


def test_work_goes_on_unless() -> None:
    async def main(loop: Any) -> None:
        event = asyncio.Event()
        ended = []

        async def work(seconds: float) -> str:
            try:
                await asyncio.sleep(seconds)
            finally:
                ended.append(loop.time())
            return "done"

        assert await unless(event, work(2)) == "done"
        assert await unless(event, work(9), within=3) is None
        loop.call_later(1, event.set)
        assert await unless(event, work(9)) is None
        assert ended == [2, 5, 6]

        async def broken() -> None:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await unless(asyncio.Event(), broken())

    jump(main)
