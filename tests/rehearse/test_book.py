"""The timeline of a readiness probe as the book has it: the service listens from second 7 on, and from 24 on
it answers 500 and stays.
"""

from __future__ import annotations

import asyncio

from graceful.rehearse.model import Happening, HttpGet, Probe, Service
from graceful.rehearse.probing import Result
from tests.rehearse.life import BROKEN, OK, REFUSED, Life, now, play

READINESS = Probe(
    action=HttpGet(), initial_delay=10, period=5, timeout=1, success_threshold=2, failure_threshold=3
)
SERVICE = Service(name="web", command=("serve",), readiness=READINESS)


def answer(at: float, _: object = None) -> Result:
    if at < 7:
        return REFUSED
    return OK if at < 24 else BROKEN


async def ask_again_and_again(it: Life) -> list[tuple[float, str]]:
    """A tester of the service's address, every 4 seconds or so: where no endpoint is ready nobody answers."""
    seen = []
    await asyncio.sleep(2.6)
    while now() < 60:
        seen.append((round(now(), 1), answer(now()).detail if it.kubelet.is_ready else "timed out"))
        await asyncio.sleep(4.1)
    return seen


def test_each_event_in_its_second() -> None:
    asked: list[tuple[float, str]] = []

    async def then(it: Life) -> None:
        asked.extend(await ask_again_and_again(it))
        await it.kubelet.terminate()

    it, _ = play(lambda: Life(SERVICE, answer=answer), then)

    until_it_is_out = [line for line, event in zip(it.said(), it.events, strict=True) if event.at <= 36]
    assert until_it_is_out == [
        "0 created",
        "0 process started (pid 42)",
        "10 readiness ok: 200",
        "15 readiness ok: 200",
        "15 ready",
        "20 readiness ok: 200",
        "25 readiness failed: 500",
        "30 readiness failed: 500",
        "35 readiness failed: 500",
        "35 not ready",
    ]
    assert Happening.READY not in {event.what for event in it.events if event.at > 35}
    assert asked[:8] == [
        (2.6, "timed out"),
        (6.7, "timed out"),
        (10.8, "timed out"),
        (14.9, "timed out"),
        (19.0, "200"),
        (23.1, "200"),
        (27.2, "500"),
        (31.3, "500"),
    ]
    assert {outcome for at, outcome in asked if at >= 35} == {"timed out"}
