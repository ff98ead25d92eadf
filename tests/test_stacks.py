"""Where work stands: the line that waits, through every kind of awaitable, and the task behind it."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
import types
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool as starlette_runs_it
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from graceful import stacks
from graceful.stacks import place, standing_at, tasks_driving

HERE = str(Path(*Path(__file__).parts[-2:]))


def line_of(function: Callable[..., Any], text: str) -> int:
    """The number of the line of `function` that holds `text`."""
    lines, first = inspect.getsourcelines(function)
    return first + next(number for number, line in enumerate(lines) if text in line)


async def inner(gate: asyncio.Event) -> None:
    await gate.wait()


async def outer(gate: asyncio.Event) -> None:
    await inner(gate)


@types.coroutine
def old_style(gate: asyncio.Event) -> Generator[Any, Any, None]:
    yield from gate.wait().__await__()


async def items(gate: asyncio.Event) -> AsyncIterator[int]:
    await gate.wait()
    yield 1


async def iterate(gate: asyncio.Event) -> None:
    async for _ in items(gate):
        pass


async def suspended(work: Callable[[asyncio.Event], Awaitable[None]]) -> str | None:
    """Where `work` stands once it waits for its gate."""
    gate = asyncio.Event()
    coro: Any = work(gate)
    task = asyncio.ensure_future(coro)
    await asyncio.sleep(0)
    found = standing_at(coro)
    gate.set()
    await task
    return found


def test_the_innermost_line() -> None:
    line = line_of(inner, "await gate.wait()")
    assert asyncio.run(suspended(outer)) == f"{HERE}:{line} in inner"


def test_of_a_coroutine_that_waits_for_a_future() -> None:
    async def main() -> str | None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def waits() -> None:
            await future

        coro = waits()
        task = asyncio.ensure_future(coro)
        await asyncio.sleep(0)
        found = standing_at(coro)
        future.set_result(None)
        await task
        return found

    line = line_of(test_of_a_coroutine_that_waits_for_a_future, "await future")
    assert asyncio.run(main()) == f"{HERE}:{line} in waits"


def test_through_generators() -> None:
    async def through(gate: asyncio.Event) -> None:
        await old_style(gate)

    line = line_of(old_style, "yield from")
    assert asyncio.run(suspended(through)) == f"{HERE}:{line} in old_style", "nobody sees beyond __await__()"
    assert asyncio.run(suspended(iterate)) is not None


def test_of_an_asynchronous_generator() -> None:
    async def main() -> str | None:
        gate = asyncio.Event()
        generator = items(gate)
        task = asyncio.ensure_future(anext(generator))
        await asyncio.sleep(0)
        found = standing_at(generator)
        gate.set()
        await task
        await generator.aclose()  # type: ignore[attr-defined]
        return found

    assert str(asyncio.run(main())).endswith(" in items")


def test_of_what_has_not_begun_has_ended_or_is_no_coroutine() -> None:
    async def main() -> tuple[str | None, str | None]:
        gate = asyncio.Event()
        coro = inner(gate)
        before = standing_at(coro)
        gate.set()
        await coro
        return before, standing_at(coro)

    line = line_of(inner, "async def inner")
    assert asyncio.run(main()) == (f"{HERE}:{line} in inner", None)
    assert standing_at(None) is None
    assert standing_at(object()) is None


def test_a_circular_chain_ends() -> None:
    class Circle:
        cr_frame = None

        @property
        def cr_await(self) -> Circle:
            return self

    assert standing_at(Circle()) is None
    assert len(list(stacks._chain(Circle()))) == 200


def test_place_has_the_last_two_parts() -> None:
    def within(path: str) -> str:
        found: dict[str, Any] = {"place": place}
        exec(compile("import sys\nfound = place(sys._getframe())", path, "exec"), found)  # noqa: S102 - a path of ours
        return str(found["found"])

    assert within("/srv/deep/down/shop/app.py") == "shop/app.py:2 in <module>"
    assert within("app.py") == "app.py:2 in <module>"


def test_the_task_that_drives() -> None:
    async def main() -> None:
        gate = asyncio.Event()
        direct, within, foreign = inner(gate), inner(gate), inner(gate)

        async def around() -> None:
            await within

        tasks = [asyncio.ensure_future(direct), asyncio.ensure_future(around())]
        await asyncio.sleep(0)
        driving = tasks_driving({id(direct), id(within), id(foreign)})
        assert driving == {id(direct): tasks[0], id(within): tasks[1]}
        assert tasks_driving(set()) == {}
        gate.set()
        await asyncio.gather(*tasks)
        foreign.close()

    asyncio.run(main())


# What only a framework's lines wait for.

LET_GO = threading.Event()


def blocking() -> None:
    LET_GO.wait(60)


async def chunks() -> AsyncIterator[bytes]:
    yield b"first"
    await asyncio.get_running_loop().create_future()


def slow_chunks() -> Iterator[bytes]:
    yield b"first"
    blocking()


async def endpoint(_request: Request) -> Response:
    await asyncio.gather(asyncio.sleep(60), asyncio.sleep(60))
    return Response()


def sync_endpoint(_request: Request) -> Response:
    blocking()
    return Response()


async def streamed(_request: Request) -> Response:
    return StreamingResponse(chunks())


async def streamed_by_a_thread(_request: Request) -> Response:
    return StreamingResponse(slow_chunks())


async def threaded(_request: Request) -> Response:
    await asyncio.get_running_loop().run_in_executor(None, blocking)
    return Response()


APP = Starlette(
    routes=[
        Route("/endpoint", endpoint),
        Route("/sync", sync_endpoint),
        Route("/streamed", streamed),
        Route("/streamed_by_a_thread", streamed_by_a_thread),
        Route("/threaded", threaded),
    ]
)


@pytest.mark.parametrize("spec_version", ["2.3", "2.4"])  # from 2.4 on Starlette streams without a task group
@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("/endpoint", "in endpoint"),
        ("/sync", "in blocking"),
        ("/streamed", "in chunks"),
        ("/streamed_by_a_thread", "in blocking"),
        ("/threaded", "in blocking"),
    ],
)
def test_the_users_line_is_found_behind_the_frameworks(path: str, line: str, spec_version: str) -> None:
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": spec_version},
        "http_version": "1.1",
        "method": "GET",
        "path": path,
        "query_string": b"",
        "headers": [],
    }

    async def main() -> str | None:
        begun = asyncio.Event()

        async def send(_message: Any) -> None:
            begun.set()

        task = asyncio.create_task(APP(scope, asyncio.Queue().get, send))
        found = None
        async with asyncio.timeout(30):
            # Nobody tells when a thread has reached its line: look until it has.
            while not str(found := standing_at(task)).endswith(line):  # noqa: ASYNC110 - see above
                await asyncio.sleep(0.001)
        LET_GO.set()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return found

    LET_GO.clear()
    assert str(asyncio.run(main())).endswith(line)


def test_the_thread_of_an_executor_is_found_by_its_future() -> None:
    async def main() -> None:
        waiting = asyncio.ensure_future(starlette_runs_it(blocking))
        chained = asyncio.get_running_loop().run_in_executor(None, blocking)
        async with asyncio.timeout(30):
            for work in (waiting, asyncio.ensure_future(awaited(chained))):
                while not str(standing_at(work)).endswith(("in blocking", "in awaited")):  # noqa: ASYNC110 - as above
                    await asyncio.sleep(0.001)
        assert [thread.name for thread in stacks._executor_threads(chained, stacks.Moment())] == ["asyncio_0"]
        LET_GO.set()
        await asyncio.wait({waiting, asyncio.ensure_future(awaited(chained))})

    async def awaited(future: Any) -> None:
        await future

    LET_GO.clear()
    asyncio.run(main())


def test_the_lines_of_a_thread() -> None:
    LET_GO.clear()
    thread = threading.Thread(target=blocking)
    thread.start()
    deadline = time.monotonic() + 30
    while not any("in blocking" in line for line in found(thread)) and time.monotonic() < deadline:
        time.sleep(0.001)
    lines = found(thread)
    LET_GO.set()
    thread.join()
    assert lines[0] == f"{HERE}:{line_of(blocking, 'LET_GO')} in blocking: LET_GO.wait(60)"
    assert [line.split()[2].removesuffix(":") for line in lines] == ["blocking", "wait", "wait"]
    assert found(thread) == []


def found(thread: threading.Thread) -> list[str]:
    return stacks.lines_of(stacks.frames_of(thread))


async def runs(begun: threading.Event) -> None:
    begun.set()
    blocking()


def test_what_runs_just_now_is_seen_from_another_thread() -> None:
    begun, tasks = threading.Event(), []

    async def main() -> None:
        tasks.append(asyncio.current_task())
        await runs(begun)

    LET_GO.clear()
    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    assert begun.wait(30)
    deadline = time.monotonic() + 30
    while not str(found := standing_at(tasks[0])).endswith("in blocking") and time.monotonic() < deadline:
        time.sleep(0.001)
    LET_GO.set()
    thread.join()
    assert str(found).endswith("in blocking")
