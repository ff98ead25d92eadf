"""The watch over a loop: what counts as a stall, what is said of it, what is shown; by a clock that jumps."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from graceful.stalls import LoopWatch
from tests.both_loops import BOTH_LOOPS, runs_on


class Scene:
    """A watch that is looked at by hand; the loop turns when the test awaits."""

    def __init__(self) -> None:
        self.now = 100.0
        self.over = False
        self.said: list[tuple[int, str]] = []
        self.watch = LoopWatch(
            is_over=lambda: self.over,
            aside=lambda level, text: self.said.append((level, text)),
            clock=lambda: self.now,
        )

    def look(self, *, after: float = 1.0) -> bool:
        self.now += after
        return self.watch.look()


async def turn() -> None:
    """What another thread has given to the loop runs."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)


def on_a_loop(test: Callable[[Scene], Coroutine[Any, Any, None]]) -> None:
    for parameter in BOTH_LOOPS:

        async def main() -> None:
            await test(Scene())

        runs_on(parameter.values[0])(main)  # type: ignore[arg-type]


def test_a_loop_that_turns_stands_still_for_no_time() -> None:
    async def test(scene: Scene) -> None:
        for _ in range(5):
            assert scene.look()
            await turn()
            assert (scene.watch.seconds, scene.watch.shown) == (0.0, 0.0)
        assert scene.said == []

    on_a_loop(test)


def test_a_stall_is_said_once_with_its_stack(caplog: pytest.LogCaptureFixture) -> None:
    async def test(scene: Scene) -> None:
        caplog.clear()
        scene.look()
        scene.now += 0.7
        assert (scene.watch.seconds, scene.watch.shown) == (pytest.approx(0.7), 0.0)
        for _ in range(3):
            scene.look(after=0.9)
        assert scene.watch.seconds == scene.watch.shown == pytest.approx(3.4)
        [(level, text)] = scene.said
        assert level == logging.WARNING
        first, *lines = text.splitlines()
        assert first.startswith("the event loop has stood still for 1.6 s, at ")
        assert first.endswith("; what blocks belongs on a thread (asyncio.to_thread)")
        assert any("in look: return self.watch.look()" in line for line in lines)
        assert all(line.startswith("    ") for line in lines)
        assert not any("in on_a_loop" in line for line in lines), "what runs the loop blocks nothing"
        await turn()
        assert scene.watch.seconds == 0.0
        assert [record.message for record in caplog.records if record.name == "graceful"] == [
            "the event loop turns again, after 3.4 s"
        ]

    on_a_loop(test)


def test_the_last_stall_is_shown_for_a_minute() -> None:
    async def test(scene: Scene) -> None:
        scene.look()
        scene.now += 2.5
        await turn()
        scene.now += 59
        assert scene.watch.shown == 2.5
        scene.now += 2
        assert scene.watch.shown == 0.0

    on_a_loop(test)


def test_time_in_which_nobody_ran_does_not_count(caplog: pytest.LogCaptureFixture) -> None:
    """The process was stopped, or C code held the GIL: the watch has not been looked at either."""

    async def test(scene: Scene) -> None:
        caplog.clear()
        scene.look()
        scene.look(after=30.0)
        assert scene.watch.seconds == pytest.approx(1.0)
        [(_, text)] = scene.said
        assert "stood still for 1.0 s" in text
        await turn()
        scene.said.clear()
        scene.look()
        scene.now += 30.0
        await turn()
        assert scene.said == []
        assert scene.watch.shown == 30.0, "the loop did stand still"
        assert "stood still for 30.0 s; nobody saw where" in caplog.text

    on_a_loop(test)


def test_it_ends_with_the_run() -> None:
    async def test(scene: Scene) -> None:
        scene.look()
        scene.over = True
        scene.now += 5
        assert scene.watch.seconds == 0.0
        assert not scene.watch.look()
        await turn()
        assert scene.watch.shown == 0.0

    on_a_loop(test)


def test_it_ends_with_the_loop() -> None:
    async def main() -> Scene:
        return Scene()

    scene = asyncio.run(main())
    assert not scene.look()
    assert scene.watch.seconds == 0.0


def test_a_thread_that_is_gone_stands_at_an_unknown_place() -> None:
    scenes: list[Scene] = []

    async def main() -> None:
        scenes.append(Scene())
        scenes[0].look()

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    thread.join()
    scenes[0].watch._question.answered = False  # type: ignore[union-attr]
    scenes[0].look(after=1.5)
    [(_, text)] = scenes[0].said
    assert text.splitlines() == [text]
    assert "at an unknown place" in text
