"""Where work stands: the line that waits, through every kind of awaitable, and the task behind it."""

from __future__ import annotations

import asyncio
import inspect
import types
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from pathlib import Path
from typing import Any

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
    code = compile("pass", "/srv/deep/down/shop/app.py", "exec")
    assert place(code, 12) == "shop/app.py:12 in <module>"
    assert place(compile("pass", "app.py", "exec"), None) == "app.py:None in <module>"


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
