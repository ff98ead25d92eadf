"""Checks: the user's word on whether the service is ready or alive. Each runs once at a time, in its time,
however many ask.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import logging
import math
import reprlib
import threading
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, get_args

from graceful.acquisition import belongs_on_loop
from graceful.asides import ASIDES
from graceful.calls import Call, Errand, missing_arguments, name_of, one_line, text_of
from graceful.errors import SettingsError

Probe: TypeAlias = Literal["readiness", "liveness"]
Check: TypeAlias = Callable[[], bool | None] | Callable[[], Awaitable[bool | None]]
Clock: TypeAlias = Callable[[], float]

PROBES: Final[tuple[Probe, ...]] = get_args(Probe)

logger = logging.getLogger("graceful")


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """What a check said when it was last run, and the seconds that it took.

    `error` is one line, for the log and the report, not for clients: why the last run failed, even where
    the check still counts as passing because of its threshold; None where it passed.
    """

    name: str
    ok: bool
    seconds: float
    error: str | None


class Checks:
    """All checks of one runtime, by probe. They outlive its runs, and the loops of those.

    `home` is the loop that the app's resources belong to: async checks run there, whichever loop asks. If it
    is blocked they fail when their time is up, since that is measured by the loop that asks. None: they run
    where they are asked for.
    """

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self.home: asyncio.AbstractEventLoop | None = None
        self._checks: dict[Probe, dict[str, _Check]] = {probe: {} for probe in PROBES}

    def add(  # noqa: PLR0913 - one for each option of the decorator
        self,
        function: Check,
        *,
        probe: Probe,
        name: str | None = None,
        timeout: float = 1.0,
        cache: float = 1.0,
        failure_threshold: int = 1,
    ) -> None:
        """`function` decides over `probe` from now on.

        It fails after `timeout` seconds, and counts as failing after `failure_threshold` failures in a row;
        for readiness after the first, as long as it has never passed: what has not answered yet is not ready.
        A result holds for `cache` seconds. Raises SettingsError for a value that cannot be meant, and for a
        name that is taken.
        """
        name = name_of(function) if name is None else name
        _require_function(name, function)
        field = f"name of a {probe} check"
        if not name or "/" in name or not name.isprintable():
            raise SettingsError(field, name, "expected text without a slash: it becomes a part of the path")
        if name in self._checks[probe]:
            raise SettingsError(field, name, "another one has it; give one of them a name of its own")
        terms = _Terms(
            timeout=_number(f"timeout of check {name}", timeout, least=0, or_equal=False),
            cache=_number(f"cache of check {name}", cache, least=0),
            failure_threshold=_number(f"failure_threshold of check {name}", failure_threshold, least=1),
        )
        self._checks[probe][name] = _Check(
            name, function, terms, self._clock, must_pass_first=probe == "readiness"
        )

    def names(self, probe: Probe) -> tuple[str, ...]:
        """The checks of `probe`, in the order in which they were added."""
        return tuple(self._checks[probe])

    def results(self, probe: Probe) -> tuple[CheckResult, ...]:
        """What is known without running anything; nothing of a check that has not been run. From any
        thread.
        """
        known = [check.last for check in tuple(self._checks[probe].values())]
        return tuple(result for result in known if result is not None)

    async def run(self, probe: Probe, *, exclude: Collection[str] = ()) -> tuple[CheckResult, ...]:
        """The results of all checks of `probe` but those excluded, in their order: cached ones, or those of
        a run.

        The checks run at the same time. Whoever comes while one runs waits for that run, on whichever loop;
        and who is cancelled while waiting cancels nobody else's. Raises nothing but that.
        """
        checks = [check for name, check in tuple(self._checks[probe].items()) if name not in exclude]
        elsewhere = None if self.home in {None, asyncio.get_running_loop()} else self.home
        flights = [check.ask(elsewhere) for check in checks]
        pending = [flight for flight in flights if isinstance(flight, asyncio.Task)]
        if pending:
            await asyncio.wait(pending)
        return tuple(check.landed(flight) for check, flight in zip(checks, flights, strict=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Terms:
    timeout: float
    cache: float
    failure_threshold: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Verdict:
    """Why a run failed, and what it raised, if it did; no error if it passed."""

    error: str | None = None
    raised: BaseException | None = None


class _Run:
    """One run of a check, in a task of the running loop, and on a thread of its own unless the check is
    async: that runs on the loop `elsewhere`, where there is one.
    """

    def __init__(
        self, name: str, function: Check, *, on_thread: bool, elsewhere: asyncio.AbstractEventLoop | None
    ) -> None:
        self._call = Call(f"check-{name}", on_thread=on_thread)
        self._function = function
        self._elsewhere = elsewhere
        self._errand: Errand | None = None
        self._loop = asyncio.get_running_loop()
        self._task = self._loop.create_task(self._ask(), name=f"graceful check {name}")

    async def verdict(self, within: float) -> _Verdict:
        """The verdict, `within` so many seconds. The run has ended then, or has been told to."""
        try:
            await asyncio.wait({self._task}, timeout=within)
            if self._task.done():
                return self._task.result()
            return _Verdict(error=f"timed out after {within:g} s{self._where()}")
        finally:
            self._task.cancel()

    @property
    def hangs(self) -> bool:
        """Whether a thread, or a task of the running loop, still goes on. A task of a loop that is gone
        does not.
        """
        task_hangs = not self._task.done() and self._loop is asyncio.get_running_loop()
        away = self._errand is not None and self._errand.goes_on and not self._errand.loop_is_gone
        return task_hangs or away or self._call.thread_is_busy

    def _where(self) -> str:
        if self._errand is not None and self._errand.goes_on and not self._errand.begun:
            return ", before the event loop has got to it"
        where = self._call.stands_at()
        return f", at {where}" if where else ""

    async def _answer(self) -> Any:
        """What the check returns. What is async about it belongs to the loop `elsewhere`."""
        if not self._call.on_thread:
            return await self._run_elsewhere(self._call.result_of(self._function))
        made = await self._call.call(self._function)
        return await self._run_elsewhere(self._call.wait_for(made)) if inspect.isawaitable(made) else made

    async def _run_elsewhere(self, work: Coroutine[Any, Any, Any]) -> Any:
        if self._elsewhere is None:
            return await work
        self._errand = Errand(work, self._elsewhere)
        return await self._errand.result()

    async def _ask(self) -> _Verdict:
        try:
            answer = await self._answer()
        except BaseException as raised:  # noqa: BLE001 - SystemExit would fall through the loop; it is a failure too
            return _Verdict(error=text_of(raised), raised=raised)
        finally:
            self._call.end()
        if answer is None or answer is True:
            return _Verdict()
        if answer is False:
            return _Verdict(error="it returned False")
        return _Verdict(error=one_line(f"it returned {reprlib.repr(answer)}; expected True, False or None"))


class _Check:
    """One check, what is known of it, and the run that goes on."""

    def __init__(
        self, name: str, function: Check, terms: _Terms, clock: Clock, *, must_pass_first: bool
    ) -> None:
        self.name = name
        self.last: CheckResult | None = None
        self._function = function
        self._on_thread = not belongs_on_loop(function)
        self._terms = terms
        self._clock = clock
        self._context = contextvars.copy_context()  # not that of whoever happens to ask
        self._landed_at = -math.inf
        self._failures = 0
        self._forgives = not must_pass_first
        self._flight: asyncio.Task[CheckResult] | None = None
        self._given_up: _Run | None = None
        self._lock = threading.Lock()

    def ask(self, elsewhere: asyncio.AbstractEventLoop | None) -> CheckResult | asyncio.Task[CheckResult]:
        """The cached result; or else the run that goes on, on this loop or another, begun now if there is
        none.
        """
        last = self.last
        if last is not None and self._clock() - self._landed_at < self._terms.cache:
            return last
        loop = asyncio.get_running_loop()
        with self._lock:  # two loops may ask at once
            flight = self._flight
            if flight is None or flight.done() or not flight.get_loop().is_running():
                context, name = self._context.copy(), f"graceful check {self.name}"
                self._flight = flight = loop.create_task(self._fly(elsewhere), name=name, context=context)
        return flight if flight.get_loop() is loop else loop.create_task(self._join(flight))

    async def _join(self, flight: asyncio.Task[CheckResult]) -> CheckResult:
        """The result of a run that another loop has begun, which may be blocked: it has the time of the
        check.
        """
        loop, landed = asyncio.get_running_loop(), asyncio.Event()

        def tell(_: object) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has been closed: nobody waits any more
                loop.call_soon_threadsafe(landed.set)

        try:
            with contextlib.suppress(RuntimeError):  # that loop has been closed meanwhile
                flight.get_loop().call_soon_threadsafe(flight.add_done_callback, tell)
            async with asyncio.timeout(self._terms.timeout):
                await landed.wait()
        except TimeoutError:
            seconds = self._terms.timeout
            error = f"timed out after {seconds:g} s, before the event loop has got to it"
            return CheckResult(name=self.name, ok=False, seconds=seconds, error=error)
        return self.landed(flight)

    def landed(self, flight: CheckResult | asyncio.Task[CheckResult]) -> CheckResult:
        """The result of what `ask` returned, which is done."""
        if isinstance(flight, CheckResult):
            return flight
        if flight.cancelled():  # by somebody who cancels all tasks
            return CheckResult(name=self.name, ok=False, seconds=0.0, error="it was cancelled")
        return flight.result()

    async def _fly(self, elsewhere: asyncio.AbstractEventLoop | None) -> CheckResult:
        began = self._clock()
        verdict = await self._verdict(elsewhere)
        now = self._clock()
        with self._lock:
            before = self.last
            self._failures = 0 if verdict.error is None else self._failures + 1
            self._forgives = self._forgives or verdict.error is None
            ok = verdict.error is None or (self._forgives and self._failures < self._terms.failure_threshold)
            self.last = result = CheckResult(name=self.name, ok=ok, seconds=now - began, error=verdict.error)
            self._landed_at = now
        # Another loop than the app's is there to answer whatever happens: it must not wait for the log.
        say = _say if elsewhere is None else ASIDES.say
        self._tell(verdict, say, changed=ok is not (before is None or before.ok))
        return result

    async def _verdict(self, elsewhere: asyncio.AbstractEventLoop | None) -> _Verdict:
        if self._given_up is not None and self._given_up.hangs:
            return _Verdict(error="an earlier run still hangs")
        run = _Run(self.name, self._function, on_thread=self._on_thread, elsewhere=elsewhere)
        try:
            return await run.verdict(self._terms.timeout)
        finally:
            self._given_up = run

    def _tell(self, verdict: _Verdict, say: Callable[..., object], *, changed: bool) -> None:
        """One line for each change, with the traceback of what was raised; what a threshold forgives, for
        debugging.
        """
        if verdict.error is not None:
            level = logging.WARNING if changed else logging.DEBUG
            raised = verdict.raised if changed else None
            say(level, f"check {self.name} failed: {verdict.error}", raised)
        elif changed:
            say(logging.INFO, f"check {self.name} passes again", None)


def _say(level: int, text: str, raised: BaseException | None) -> None:
    logger.log(level, "%s", text, exc_info=raised)


def _require_function(name: str, function: Any) -> None:
    of = f"check {name}"
    if not callable(function):
        raise SettingsError(of, function, "expected a function, async or not")
    missing = missing_arguments(function)
    if missing is not None:
        way_out = f"it is called without arguments, and {missing}; bind them with functools.partial"
        raise SettingsError(of, function, way_out)


def _number(field: str, found: Any, *, least: float, or_equal: bool = True) -> float:
    fits = isinstance(found, int | float) and (least < found < math.inf or (or_equal and found == least))
    if not fits:
        raise SettingsError(
            field,
            found,
            f"expected a number, {least:g} or more" if or_equal else f"expected a number above {least:g}",
        )
    return float(found)
