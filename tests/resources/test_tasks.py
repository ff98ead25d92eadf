"""One task for each async resource: scopes within it, cancellations, and startups that are interrupted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import anyio
import pytest

from graceful.errors import ResourceError
from graceful.resources import ReleaseOutcome, ResourceDeclarer, Resources
from tests.both_loops import Run
from tests.jumping_loop import JumpingLoop
from tests.resources.scene import (
    Blocked,
    async_generator,
    begun,
    book,
    generator,
    in_jumps,
    logged,
    release,
    released,
    said,
    up_and_down,
)


def test_scopes_and_task_groups(run: Run, resources: Resources, resource: ResourceDeclarer) -> None:
    log: list[str] = []

    @resource(timeout=5)
    async def with_anyio() -> AsyncIterator[None]:
        with anyio.CancelScope(), anyio.fail_after(60):
            async with anyio.create_task_group() as group:
                group.start_soon(anyio.sleep_forever)
                yield
                group.cancel_scope.cancel()
        log.append("anyio")

    @resource
    async def with_asyncio() -> AsyncIterator[None]:
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            task = group.create_task(asyncio.Event().wait())
            yield
            task.cancel()
        log.append("asyncio")

    @resource
    @asynccontextmanager
    async def as_manager() -> AsyncIterator[None]:
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep_forever)
            yield
            group.cancel_scope.cancel()
        log.append("manager")

    assert said(run(up_and_down(resources))) == released("as_manager", "with_asyncio", "with_anyio")
    assert log == ["manager", "asyncio", "anyio"]


@pytest.mark.parametrize("library", ["asyncio", "anyio"])
def test_a_task_group_that_fails_while_in_use(
    run: Run, resources: Resources, resource: ResourceDeclarer, library: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(when: asyncio.Event) -> None:
        await when.wait()
        message = "the consumer died"
        raise OSError(message)

    async def main() -> tuple[ReleaseOutcome, ...]:
        when, left = asyncio.Event(), asyncio.Event()

        @resource
        async def consumer() -> AsyncIterator[int]:
            try:
                if library == "asyncio":
                    async with asyncio.TaskGroup() as group:
                        group.create_task(fail(when))
                        yield 1
                else:
                    async with anyio.create_task_group() as tasks:
                        tasks.start_soon(fail, when)
                        yield 1
            finally:
                left.set()

        await resources.acquire()
        when.set()
        await left.wait()
        await asyncio.sleep(0)
        with pytest.raises(ResourceError, match="after it was released"):
            assert consumer.value
        return await release(resources)

    [(name, outcome, error)] = said(run(main))
    assert (name, outcome) == ("consumer", "failed")
    assert error is not None
    assert error.startswith("ExceptionGroup: unhandled errors in a TaskGroup")
    assert [record.getMessage() for record in logged(caplog)] == [
        "resource consumer was cancelled while in use; it is released now",
        f"the release of consumer failed: {error}",
    ]
    assert "the consumer died" in caplog.text


def test_what_is_cancelled_with_all_other_tasks_is_released(
    run: Run, resources: Resources, resource: ResourceDeclarer
) -> None:
    resource(async_generator)
    resource(generator)

    async def main() -> tuple[ReleaseOutcome, ...]:
        await resources.acquire()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            if "resource" in task.get_name():
                task.cancel()
        return await release(resources)

    assert said(run(main)) == released("generator", "async_generator")
    assert sorted(book.lines) == ["in", "in", "out", "out"]


def test_a_loop_that_ends_without_a_release_still_releases(
    run: Run, resources: Resources, resource: ResourceDeclarer
) -> None:
    resource(async_generator)
    run(resources.acquire)  # asyncio.run cancels what is left, and waits for it
    assert book.lines == ["in", "out"]


# Interruptions of the startup.


def test_an_interrupted_acquisition_is_cancelled(
    run: Run, resources: Resources, resource: ResourceDeclarer, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        connecting = asyncio.Event()

        async def slow() -> AsyncIterator[None]:
            try:
                connecting.set()
                await asyncio.Event().wait()
                yield
            finally:
                book.write("interrupted")

        resource(generator)
        resource(slow)
        resource(async_generator)
        acquiring = asyncio.create_task(resources.acquire())
        await connecting.wait()
        acquiring.cancel()
        with pytest.raises(asyncio.CancelledError):
            await acquiring
        assert len(resources) == 2
        assert said(await release(resources)) == released("generator")

    run(main)
    assert book.lines == ["in", "interrupted", "out"]
    assert logged(caplog) == []


def test_an_interrupted_acquisition_that_raises_something_else(
    run: Run, resources: Resources, resource: ResourceDeclarer, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        connecting = asyncio.Event()

        async def slow() -> AsyncIterator[None]:
            try:
                connecting.set()
                await asyncio.Event().wait()
            except asyncio.CancelledError as cancelled:
                message = "no connection"
                raise OSError(message) from cancelled
            yield

        resource(slow)
        acquiring = asyncio.create_task(resources.acquire())
        await connecting.wait()
        acquiring.cancel()
        await asyncio.wait({acquiring})
        assert await release(resources) == (), "nothing was acquired"

    run(main)
    assert [(record.levelname, record.getMessage()) for record in logged(caplog)] == [
        ("WARNING", "interrupted while it was acquired, slow raised OSError: no connection")
    ]


def test_an_interrupted_acquisition_that_succeeds_all_the_same(
    run: Run, resources: Resources, resource: ResourceDeclarer
) -> None:
    async def main() -> None:
        connecting = asyncio.Event()

        async def stubborn() -> AsyncIterator[None]:
            try:
                connecting.set()
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                book.write("in")
            yield
            await asyncio.sleep(0)
            book.write("out")

        resource(stubborn)
        acquiring = asyncio.create_task(resources.acquire())
        await connecting.wait()
        acquiring.cancel()
        await asyncio.wait({acquiring})
        assert acquiring.cancelled()
        assert said(await release(resources)) == released("stubborn")

    run(main)
    assert book.lines == ["in", "out"]


def test_an_acquisition_that_ignores_its_interruption() -> None:
    async def main(loop: JumpingLoop, resources: Resources, resource: ResourceDeclarer) -> None:
        connecting, end = asyncio.Event(), asyncio.Event()

        async def stubborn() -> AsyncIterator[None]:
            while not end.is_set():
                connecting.set()
                try:
                    await end.wait()
                except asyncio.CancelledError:
                    book.write("cancelled")
            yield

        resource(stubborn)
        acquiring = asyncio.create_task(resources.acquire())
        await connecting.wait()
        acquiring.cancel()
        await asyncio.wait({acquiring})
        [outcome] = await resources.release(loop.time() + 2, loop.time)
        assert outcome.outcome == "timed out"
        assert outcome.error is not None
        assert outcome.error.startswith("still being acquired, at resources/test_tasks.py:")
        assert book.lines == ["cancelled", "cancelled"]
        end.set()

    in_jumps(main)


@pytest.mark.parametrize("in_time", [True, False])
def test_an_interrupted_acquisition_on_a_thread(
    run: Run, resources: Resources, resource: ResourceDeclarer, blocked: Blocked, *, in_time: bool
) -> None:
    @resource
    def slow() -> Iterator[None]:
        blocked()
        book.write("in")
        yield
        book.write("out")

    resource(async_generator)

    async def main() -> tuple[ReleaseOutcome, ...]:
        acquiring = asyncio.create_task(resources.acquire())
        await begun(blocked)
        acquiring.cancel()
        await asyncio.wait({acquiring})
        assert acquiring.cancelled()
        if in_time:
            releasing = asyncio.create_task(release(resources))
            await asyncio.to_thread(blocked._end.set)
            return await releasing
        return await release(resources, 0.1)

    [outcome] = run(main)
    if in_time:
        assert (outcome.name, outcome.outcome) == ("slow", "released")
        assert book.lines == ["in", "out"]
        assert book.places[0] == book.places[1]
    else:
        assert (outcome.name, outcome.outcome) == ("slow", "timed out")
        assert outcome.error is not None
        assert outcome.error.startswith("still being acquired, at ")


def test_an_acquisition_that_is_interrupted_before_its_first_step(
    run: Run, resources: Resources, resource: ResourceDeclarer
) -> None:
    resource(async_generator)

    async def main() -> None:
        acquiring = asyncio.create_task(resources.acquire())
        asyncio.get_running_loop().call_soon(acquiring.cancel)
        await asyncio.wait({acquiring})
        assert acquiring.cancelled()
        assert await release(resources) == ()

    run(main)
    assert book.lines == []


def test_a_resource_task_that_somebody_cancels_before_its_first_step(
    run: Run, resources: Resources, resource: ResourceDeclarer
) -> None:
    resource(async_generator)

    async def main() -> None:
        acquiring = asyncio.create_task(resources.acquire())

        def cancel_all() -> None:
            [task] = [task for task in asyncio.all_tasks() if "resource" in task.get_name()]
            task.cancel()

        asyncio.get_running_loop().call_soon(cancel_all)
        with pytest.raises(ResourceError, match="raised CancelledError while it was being acquired"):
            await acquiring

    run(main)
