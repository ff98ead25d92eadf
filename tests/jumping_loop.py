"""An event loop whose time jumps to the next timer instead of waiting for it: half a minute of timeline runs
in milliseconds.

Only for what lives on the loop: time does not stand still for a thread, and does not pass while one works.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

T = TypeVar("T")

# Nothing is scheduled: only a thread could wake the loop. The bound makes a failure of what would be a hang.
_BOUND: Final = 10.0


class _JumpingSelector(selectors.DefaultSelector):
    """Never waits for a timer: it puts the clock forward."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            ready: list[Any] = super().select(_BOUND)
            assert ready, "deadlock: nothing is scheduled on the loop, and nobody has woken it"
            return ready
        ready = super().select(0)
        if not ready:
            self.now += max(0.0, timeout)
        return ready


class JumpingLoop(asyncio.SelectorEventLoop):
    """`time` begins at 0 and is exact: nothing takes time but what waits."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now


def jump(main: Callable[[JumpingLoop], Coroutine[Any, Any, T]]) -> T:
    """The result of `main`, called with the jumping loop that it runs on."""
    loop = JumpingLoop()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(main(loop))
