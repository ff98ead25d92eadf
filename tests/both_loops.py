"""Run a test's coroutine on asyncio's loop and on uvloop, never longer than a bound."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final, Protocol, TypeVar

import pytest
import uvloop

T = TypeVar("T")

BOTH_LOOPS: Final = [
    pytest.param(asyncio.new_event_loop, id="asyncio"),
    pytest.param(uvloop.new_event_loop, id="uvloop"),
]
_BOUND_SECONDS: Final = 20.0


class Run(Protocol):
    """The result of a coroutine function, called on a new loop."""

    def __call__(self, main: Callable[[], Coroutine[Any, Any, T]], /) -> T: ...


def runs_on(loop_factory: Callable[[], asyncio.AbstractEventLoop]) -> Run:
    """Each call runs on a loop of its own, which is closed afterwards."""

    def run(main: Callable[[], Coroutine[Any, Any, T]], /) -> T:
        async def bounded() -> T:
            async with asyncio.timeout(_BOUND_SECONDS):
                return await main()

        with asyncio.Runner(loop_factory=loop_factory) as runner:
            return runner.run(bounded())

    return run
