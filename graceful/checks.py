"""Checks: what decides over `/ready` and `/healthz` beside the phase. However many ask, each check runs once at a time and no longer than
its timeout.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from graceful.errors import ResourceError

Probe = Literal["readiness", "liveness"]
Check: TypeAlias = Callable[[], bool | None] | Callable[[], Awaitable[bool | None]]

logger = logging.getLogger("graceful")


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """What the last run of a check found. `ok` after its failure threshold; `error` is for logs, not for those who probe."""

    name: str
    ok: bool
    seconds: float
    error: str | None = None


class CheckFailedError(Exception):
    """A check returned what does not pass."""


class _Checked:
    """One check with what is known of it. Bound to no loop but while it runs."""

    def __init__(
        self,
        function: Check,
        name: str,
        *,
        timeout: float,
        cache: float,
        threshold: int,
        clock: Callable[[], float],
    ) -> None:
        self.name = name
        self._function = function
        self._timeout = timeout
        self._cache = cache
        self._threshold = threshold
        self._clock = clock
        self._failures = 0
        self._at: float | None = None
        self._task: asyncio.Task[CheckResult] | None = None
        self._hanging: threading.Thread | None = None
        self.result: CheckResult | None = None

    async def ask(self) -> CheckResult:
        """The cached result if it is young enough, else that of the run that goes on, or of a new one."""
        if self.result is not None and self._at is not None and self._clock() - self._at < self._cache:
            return self.result
        loop = asyncio.get_running_loop()
        if self._task is None or self._task.done() or self._task.get_loop() is not loop:
            self._task = loop.create_task(self._run(), name=f"check {self.name}")
        return await asyncio.shield(self._task)  # a prober that goes away takes nothing from the others

    async def _run(self) -> CheckResult:
        began = self._clock()
        error: str | None = None
        try:
            async with asyncio.timeout(self._timeout):
                _judge(self.name, await self._call())
        except TimeoutError as problem:
            error = str(problem) or f"no answer within {self._timeout:g} s"
        except Exception as problem:  # noqa: BLE001 - whatever a check raises, it has failed
            error = " ".join(f"{type(problem).__name__}: {problem}".split())
        self._failures = 0 if error is None else self._failures + 1
        result = CheckResult(
            name=self.name, ok=self._failures < self._threshold, seconds=self._clock() - began, error=error
        )
        self._log(result)
        self.result, self._at = result, self._clock()
        return result

    async def _call(self) -> object:
        if inspect.iscoroutinefunction(self._function):
            return await self._function()
        return await self._on_a_thread()

    async def _on_a_thread(self) -> object:
        """A plain function may block: never on the loop, and never on more than one thread at a time."""
        if self._hanging is not None and self._hanging.is_alive():
            message = "its last call has not returned yet"
            raise CheckFailedError(message)
        loop = asyncio.get_running_loop()
        returned: asyncio.Future[object] = loop.create_future()
        context = contextvars.copy_context()

        def call() -> None:
            try:
                value, problem = context.run(self._function), None
            except BaseException as raised:  # noqa: BLE001 - handed on to where it is awaited
                value, problem = None, raised
            with contextlib.suppress(RuntimeError):  # the loop has been closed meanwhile
                loop.call_soon_threadsafe(_settle, returned, value, problem)

        self._hanging = threading.Thread(target=call, name=f"check {self.name}", daemon=True)
        self._hanging.start()
        value = await returned
        return await value if inspect.isawaitable(value) else value

    def _log(self, result: CheckResult) -> None:
        """Once for each change, not for each probe."""
        before = self.result is None or self.result.ok
        if before and not result.ok:
            logger.warning("check %s fails: %s", self.name, result.error)
        elif result.ok and not before:
            logger.info("check %s passes again", self.name)


def _settle(returned: asyncio.Future[object], value: object, problem: BaseException | None) -> None:
    if returned.done():
        return
    if problem is None:
        returned.set_result(value)
    elif isinstance(problem, Exception) and not isinstance(problem, StopIteration):
        returned.set_exception(problem)
    else:  # what would end the loop, or a future refuses
        returned.set_exception(CheckFailedError(f"{type(problem).__name__}: {problem}"))


def _judge(name: str, returned: object) -> None:
    """Raise CheckFailedError for anything but True and None."""
    if returned is True or returned is None:
        return
    if returned is False:
        message = "it returned False"
        raise CheckFailedError(message)
    message = f"check {name} returned {returned!r:.80}; expected True or None if it passes, False or an exception if not"
    raise CheckFailedError(message)


class Checks:
    """All checks of a service, in the order of their declaration."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._checks: dict[Probe, dict[str, _Checked]] = {"readiness": {}, "liveness": {}}

    def add(
        self,
        function: Check,
        *,
        probe: Probe,
        name: str | None = None,
        timeout: float = 1.0,
        cache: float = 1.0,
        failure_threshold: int = 1,
    ) -> None:
        """Declare a check. It fails after `timeout` seconds, is not asked again within `cache` seconds, and counts as failing after
        `failure_threshold` failures in a row. Raises ResourceError for a name that is taken or has a slash, and for impossible numbers.
        """
        found: str = name or getattr(function, "__name__", type(function).__name__)
        if found in self._checks[probe] or "/" in found or not found:
            raise ResourceError(
                found,
                f"it cannot be the name of a {probe} check; give one that is not taken, without a slash, with name=",
            )
        if not timeout > 0 or not cache >= 0 or failure_threshold < 1:
            problem = f"found {timeout=}, {cache=}, {failure_threshold=}; expected more than 0, 0 or more, 1 or more"
            raise ResourceError(found, problem)
        self._checks[probe][found] = _Checked(
            function, found, timeout=timeout, cache=cache, threshold=failure_threshold, clock=self._clock
        )

    def names(self, probe: Probe) -> tuple[str, ...]:
        """The names of the checks of one probe."""
        return tuple(self._checks[probe])

    def results(self, probe: Probe) -> tuple[CheckResult, ...]:
        """What is known without asking."""
        return tuple(check.result for check in self._checks[probe].values() if check.result is not None)

    async def run(self, probe: Probe, *, exclude: Collection[str] = ()) -> tuple[CheckResult, ...]:
        """Ask all checks of one probe at once, but those excluded by name; as long as the slowest takes, its timeout at most."""
        asked = [check.ask() for name, check in self._checks[probe].items() if name not in exclude]
        return tuple(await asyncio.gather(*asked))
