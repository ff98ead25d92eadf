"""One replica's life on a clock that jumps: processes and answers are made up, the kubelet is real."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from graceful.rehearse.commands import Ended
from graceful.rehearse.kubelet import Kubelet
from graceful.rehearse.model import Death, Event, Happening, ProbeName, Service
from graceful.rehearse.probing import Result
from tests.jumping_loop import jump

OK = Result(ok=True, detail="200")
BROKEN = Result(ok=False, detail="500")
REFUSED = Result(ok=False, detail="connection refused", refused=True)

Answer = Callable[[float, Any], Result]


def now() -> float:
    return asyncio.get_running_loop().time()


class FakeProcess:
    """Ends by itself after `lives` seconds, or `leaves` seconds after a signal: None, never."""

    pid = 42

    def __init__(self, *, lives: float | None = None, leaves: float | None = 0.0, code: int = 0) -> None:
        self.leaves = leaves
        self.code = code
        self.signals: list[tuple[float, str]] = []
        self._ended = asyncio.Event()
        if lives is not None:
            asyncio.get_running_loop().call_later(lives, self._end, code)

    def signal(self, name: str) -> None:
        self.signals.append((now(), name))
        if self.leaves is not None:
            asyncio.get_running_loop().call_later(self.leaves, self._end, self.code)

    def kill(self) -> None:
        self._end(-9)

    async def wait(self) -> int:
        await self._ended.wait()
        return self.code

    def _end(self, code: int) -> None:
        if not self._ended.is_set():
            self.code = code
            self._ended.set()


class Life:
    """What happens to a replica of `service`.

    `process` makes each process, told which one it is (from 0); `answer` says what is found at an instant;
    `command` how init commands and hooks end, and after how many seconds.
    """

    def __init__(
        self,
        service: Service,
        *,
        process: Callable[[int], FakeProcess] = lambda _: FakeProcess(),
        answer: Answer = lambda _at, _action: OK,
        command: Callable[[tuple[str, ...]], tuple[float, Ended]] | None = None,
    ) -> None:
        self.events: list[Event] = []
        self.processes: list[FakeProcess] = []
        self._make = process
        self._answer = answer
        self._command = command
        self.kubelet = Kubelet(
            service,
            "web-1",
            port=8000,
            start=self._start,
            tell=self.events.append,
            environment={},
            act=self._act,
            run_command=self._run_command,
        )

    async def _start(self) -> FakeProcess:
        self.processes.append(self._make(len(self.processes)))
        return self.processes[-1]

    async def _act(self, action: Any, **_: Any) -> Result:
        return self._answer(now(), action)

    async def _run_command(self, command: tuple[str, ...], **_: Any) -> Ended:
        assert self._command is not None
        seconds, ended = self._command(command)
        await asyncio.sleep(seconds)
        return ended

    def said(self, *leave_out: Happening) -> list[str]:
        """The events, one line each, without those to `leave_out`."""
        return [line(event) for event in self.events if event.what not in leave_out]


def line(event: Event) -> str:
    """`25 readiness failed: 500`, `36 process ended 137`, ..."""
    if event.probe is not None:
        return f"{event.at:g} {event.probe} {'ok' if event.ok else 'failed'}: {event.detail}"
    words = [f"{event.at:g}", str(event.what)]
    words += [str(event.code)] if event.code is not None else []
    words += [f"({event.detail})"] if event.detail else []
    return " ".join(words)


def play(
    life: Callable[[], Life], then: Callable[[Life], Awaitable[Death | None]], *, cancel: bool = False
) -> tuple[Life, Death | None]:
    """Lead the life while `then` goes on; what that returns, and the life that was led.

    It has ended on return; with `cancel`, by the cancellation of `run`.
    """

    async def main(_loop: Any) -> tuple[Life, Death | None]:
        it = life()
        running = asyncio.ensure_future(it.kubelet.run())
        death = await then(it)
        if cancel:
            running.cancel()
        await asyncio.gather(running, return_exceptions=cancel)
        return it, death

    return jump(main)


def after(seconds: float) -> Callable[[Life], Coroutine[Any, Any, Death | None]]:
    """It is taken away after so many seconds."""

    async def then(it: Life) -> Death | None:
        await asyncio.sleep(seconds)
        return await it.kubelet.terminate()

    return then


def probes(it: Life, name: ProbeName) -> list[tuple[float, bool | None]]:
    return [(event.at, event.ok) for event in it.events if event.probe is name]
