"""A release within its deadline, whatever hangs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from graceful.errors import ResourceError
from graceful.resources import ResourceDeclarer, Resources, resource_from
from tests.both_loops import Run
from tests.jumping_loop import JumpingLoop
from tests.resources.scene import (
    AsyncManager,
    Blocked,
    book,
    hanging,
    in_jumps,
    logged,
    release,
    seconds,
    up_and_down,
)


def test_those_that_hang_get_equal_shares_of_what_remains() -> None:
    async def main(loop: JumpingLoop, resources: Resources, resource: ResourceDeclarer) -> None:
        for number in range(3):
            resource(hanging, name=str(number))
        await resources.acquire()
        outcomes = await resources.release(loop.time() + 9, loop.time)
        # Of each share a tenth of a second is for accepting the cancellation; unused, it goes to the others.
        assert seconds(outcomes) == [
            ("2", "timed out", 2.9),
            ("1", "timed out", 2.95),
            ("0", "timed out", 3.05),
        ]
        assert loop.time() == pytest.approx(8.9)

    in_jumps(main)


def test_unused_time_is_passed_on_and_a_timeout_of_its_own_holds() -> None:
    async def slow() -> AsyncIterator[None]:
        yield
        await asyncio.sleep(8)

    async def main(loop: JumpingLoop, resources: Resources, resource: ResourceDeclarer) -> None:
        resource(slow)
        resource(hanging, timeout=1)
        resource(AsyncManager)
        await resources.acquire()
        outcomes = await resources.release(loop.time() + 10, loop.time)
        assert seconds(outcomes) == [
            ("AsyncManager", "released", 0),
            ("hanging", "timed out", 1),
            ("slow", "released", 8),
        ]

    in_jumps(main)


def test_a_long_timeout_of_its_own_leaves_something_to_the_others() -> None:
    async def short() -> AsyncIterator[None]:
        yield
        await asyncio.sleep(0.04)

    async def main(loop: JumpingLoop, resources: Resources, resource: ResourceDeclarer) -> None:
        resource(short)
        resource(short, name="other")
        resource(hanging, timeout=100)
        await resources.acquire()
        outcomes = await resources.release(loop.time() + 3, loop.time)
        assert seconds(outcomes) == [
            ("hanging", "timed out", 2.8),
            ("other", "released", 0.04),
            ("short", "released", 0.04),
        ]

    in_jumps(main)


def test_a_release_that_begins_too_late_still_tries() -> None:
    async def short() -> AsyncIterator[None]:
        yield
        await asyncio.sleep(0.04)

    async def main(loop: JumpingLoop, resources: Resources, resource: ResourceDeclarer) -> None:
        resource(short)
        resource(hanging)
        await resources.acquire()
        outcomes = await resources.release(loop.time() - 5, loop.time)
        assert seconds(outcomes) == [("hanging", "timed out", 0.045), ("short", "released", 0.04)]

    in_jumps(main)


def test_a_release_that_ignores_its_cancellation_is_left_behind(caplog: pytest.LogCaptureFixture) -> None:
    async def main(loop: JumpingLoop, resources: Resources, resource: ResourceDeclarer) -> None:
        end = asyncio.Event()

        @resource
        async def obstinate() -> AsyncIterator[int]:
            yield 1
            while not end.is_set():
                try:
                    await end.wait()
                except asyncio.CancelledError:
                    book.write("cancelled")

        await resources.acquire()
        [outcome] = await resources.release(loop.time() + 2, loop.time)
        assert book.lines == ["cancelled"]
        assert outcome.outcome == "timed out"
        assert outcome.seconds == pytest.approx(2)
        assert outcome.error is not None
        assert outcome.error.startswith("at resources/test_time.py:")
        assert outcome.error.endswith(" in obstinate; it does not accept its cancellation")
        with pytest.raises(ResourceError):
            assert obstinate.value
        assert [record.getMessage() for record in logged(caplog)] == [
            f"the release of obstinate timed out after 2.0 s, {outcome.error}"
        ]
        end.set()

    in_jumps(main)


def test_where_the_function_of_a_context_manager_hangs() -> None:
    async def main(loop: JumpingLoop, resources: Resources, resource: ResourceDeclarer) -> None:
        resource(asynccontextmanager(hanging))
        await resources.acquire()
        [outcome] = await resources.release(loop.time() + 2, loop.time)
        assert outcome.error is not None
        assert outcome.error.startswith("at resources/scene.py:")
        assert outcome.error.endswith(" in hanging")

    in_jumps(main)


def test_what_a_cancelled_release_raises_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def main(loop: JumpingLoop, resources: Resources, resource: ResourceDeclarer) -> None:
        @resource
        async def failing() -> AsyncIterator[None]:
            yield
            try:
                await asyncio.Event().wait()
            finally:
                message = "on top of it"
                raise OSError(message)

        await resources.acquire()
        [outcome] = await resources.release(loop.time() + 2, loop.time)
        assert outcome.outcome == "timed out"
        assert "OSError: on top of it" in caplog.text

    in_jumps(main)


def test_a_thread_that_blocks_for_ever_is_left_behind(
    run: Run, resources: Resources, resource: ResourceDeclarer, blocked: Blocked
) -> None:
    resource(AsyncManager)

    @resource(timeout=0.3)
    def stuck() -> Iterator[None]:
        yield
        blocked()

    [outcome, *others] = run(up_and_down(resources))
    assert (outcome.name, outcome.outcome) == ("stuck", "timed out")
    assert outcome.error is not None
    assert outcome.error.startswith("at ")
    assert outcome.error.endswith(" in __call__")
    assert others[0].outcome == "released"
    assert blocked.thread is not None
    assert blocked.thread.daemon
    assert blocked.thread.name == "graceful-resource-stuck"


def test_no_thread_is_left_of_what_was_released(run: Run, resources: Resources) -> None:
    before = threading.active_count()
    threads: list[threading.Thread] = []
    resources.add(resource_from(lambda: threads.append(threading.current_thread()), name="it"))
    resources.on_release(lambda: threads.append(threading.current_thread()))
    run(up_and_down(resources))
    for thread in threads:
        thread.join(timeout=10)
    assert len(threads) == 2
    assert threading.active_count() <= before


def test_a_release_that_is_cancelled_cancels_what_is_left(
    run: Run, resources: Resources, resource: ResourceDeclarer, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        releasing_hung = asyncio.Event()
        all_left = asyncio.Event()

        @resource
        async def waits() -> AsyncIterator[None]:
            yield
            all_left.set()

        resources.on_release(lambda: book.write("never called"), name="callback")

        @resource
        async def hung() -> AsyncIterator[None]:
            yield
            releasing_hung.set()
            await asyncio.Event().wait()

        await resources.acquire()
        task = asyncio.create_task(release(resources))
        await releasing_hung.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(resources) == 3, "as between runs"
        await all_left.wait()

    run(main)
    assert book.lines == []
    assert logged(caplog)[0].getMessage() == "the release was cancelled; not released: hung, callback, waits"
