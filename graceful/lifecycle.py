"""One run, from startup to `stopped`: the sequence of a shutdown. The only module that moves the phase.

t0                t0 + lame_duck           all ended or out of time       released
|---- lame duck ----|-------- drain -----------|------- release -------|...exit...
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from graceful._types import Scope
from graceful.budget import Budget
from graceful.bystanders import bystanders
from graceful.calls import text_of
from graceful.errors import AppFailedError, GracefulError, StartupInterrupted
from graceful.events import Observers, PhaseChange
from graceful.inflight import CutOff, InFlight
from graceful.phases import Phase, PhaseMachine
from graceful.processes import ProcessTable
from graceful.refusals import resets_sent
from graceful.reports import ExitCode, Outcome, Report, counted
from graceful.resources import ReleaseOutcome, Resources
from graceful.settings import Settings
from graceful.stacks import standing_at

logger = logging.getLogger("graceful")
report_logger = logging.getLogger("graceful.report")


class Server(Protocol):
    """Whoever accepts the connections of this run."""

    async def drain(self) -> None:
        """Accept no more, close what is idle, and return when what has begun has ended; cancelled when the
        time is up.
        """

    def leave(self) -> None:
        """The signal has come: each response from now on tells its client that the connection closes."""

    async def break_off(self, scopes: Collection[Scope]) -> Collection[Scope]:
        """Abort the connections of those requests whose response has begun; the others are left to answer
        503. Returns further ones that had to be broken off: the app had ended, but its client did not read
        on.
        """

    async def abandon(self, scopes: Collection[Scope]) -> None:
        """Those requests do not accept their cancellation: their clients have been answered 503, or have seen
        their connection abort, on return.
        """


class App(Protocol):
    """The user's app, as far as its lifespan goes."""

    async def startup(self) -> None:
        """The app has started on return; raises what it failed with."""

    async def shutdown(self) -> None:
        """The app has ended on return; raises what it failed with. Does nothing where it has not started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a run is put together from; it outlives the run."""

    settings: Settings
    resources: Resources
    in_flight: InFlight
    observers: Observers
    on_begun: Callable[[Budget], object] = lambda _: None
    clock: Callable[[], float] = time.monotonic


class Lifecycle:
    """One run. Lives on one event loop; `begin` is the only thing that others may call, on that loop.

    `owned` is whether the server, and so the exit code, is ours; `audible` whether what happens is logged for
    people (info and above) or for debugging only, as under a test client.
    """

    def __init__(self, parts: Parts, app: App, server: Server, *, owned: bool, audible: bool) -> None:
        self._parts = parts
        self._clock = parts.clock
        self._app = app
        self._server = server
        self._owned = owned
        self._loop = asyncio.get_running_loop()
        self._level = logging.INFO if audible else logging.DEBUG
        self._alarm = logging.ERROR if audible else logging.DEBUG
        self.phases = PhaseMachine(parts.clock)
        self.reason: str | None = None
        self.budget: Budget | None = None
        self.signals = 0
        self.begun = asyncio.Event()
        self.finished = asyncio.Event()
        self.report: Report | None = None
        self._hurry = asyncio.Event()
        self._lame_duck_over = asyncio.Event()
        self._said = False
        self._failure: str | None = None
        self._cut_off: tuple[CutOff, ...] = ()
        self._refused: int | None = None
        self._in_the_way: tuple[str, ...] = ()
        self._released: tuple[ReleaseOutcome, ...] = ()
        self._ending: asyncio.Task[None] | None = None

    # The sequence.

    async def start(self) -> None:
        """`starting`: our resources, then the app's lifespan; both have started on return.

        Raises StartupInterrupted when `begin` comes first, else what failed; what had been acquired has been
        released then, and the run has stopped.
        """
        try:
            await self._unless_begun(self._parts.resources.acquire)
            await self._unless_begun(self._app.startup)
        except BaseException as problem:
            await self.fail(problem)
            raise

    async def fail(self, problem: BaseException) -> None:
        """The startup failed, or was interrupted. What was acquired has been released on return, and the run
        has stopped.
        """
        if isinstance(problem, AppFailedError):
            logger.log(self._alarm, "the app's startup failed: %s", problem)
        elif not isinstance(problem, GracefulError):  # the user's code: its traceback is what helps
            logger.log(self._alarm, "startup failed", exc_info=problem)
        if isinstance(problem, StartupInterrupted):
            logger.log(self._level, "%s: startup is interrupted, nothing more is started", self.reason)
        else:
            self._failure = _in_one_line(problem)
        await self._give_back()

    def serve(self) -> None:
        """`serving`, from a startup that has succeeded, or at once where the server knows no lifespan."""
        self._enter(Phase.SERVING)
        if self.begun.is_set():
            self._spawn_ending()

    def begin(self, reason: str, *, at: float | None = None, lame_duck: bool = True) -> None:
        """The shutdown has been asked for, at `at`. The first call begins the timeline; later ones change
        nothing.
        """
        if self.reason is not None:
            return
        at = self._clock() if at is None else at
        self.reason = reason
        self.budget = Budget.of(self._parts.settings, began=at, lame_duck=lame_duck)
        try:
            self._server.leave()
        except Exception:  # it looks into uvicorn; the timeline begins whatever it finds there
            logger.exception("responses could not be told of the shutdown; it begins all the same")
        self._parts.in_flight.leave(at)
        self._parts.on_begun(self.budget)
        self.begun.set()
        if self.phases.current is Phase.SERVING:
            self._spawn_ending()

    def note_failure(self, what: str) -> None:
        """The run has failed, by `what`, in one line; the first one stands. The shutdown does not begin."""
        self._failure = self._failure or what

    def hurry(self) -> None:
        """What is in flight is cancelled now instead of waited for; then the release."""
        self._hurry.set()

    def end_lame_duck(self) -> None:
        """The lame duck ends now: the server has left by itself, so that nobody is served any more."""
        self._lame_duck_over.set()

    async def stopped(self) -> None:
        """The run has stopped on return. Whoever is cancelled meanwhile hears of it then: some scopes cancel
        again and again, some apps all tasks. The budget bounds the wait.
        """
        cancelled: asyncio.CancelledError | None = None
        while not self.finished.is_set():
            try:
                await self.finished.wait()
            except asyncio.CancelledError as problem:
                cancelled = problem
        if cancelled is not None:
            raise cancelled

    async def _end(self) -> None:
        """The last seconds of a run that has served."""
        try:
            await self._keep_serving()
            await self._let_finish()
        except Exception:
            logger.exception("the shutdown failed on its way; what was acquired is released all the same")
            self._failure = self._failure or "the shutdown failed on its way, see the log"
        finally:
            if self.phases.current is Phase.LAME_DUCK:  # cancelled there, as by an asyncio.run that is left
                self._enter(Phase.DRAINING)
            await self._give_back()

    async def _keep_serving(self) -> None:
        self._enter(Phase.LAME_DUCK)
        await self._hurried(self._lame_duck_over.wait(), self._deadlines.lame_duck_ends)

    async def _let_finish(self) -> None:
        self._enter(Phase.DRAINING)
        until = self._deadlines.drain_deadline(self._clock())
        in_flight = self._parts.in_flight
        resets = resets_sent()
        drained = await self._hurried(self._drain_server(), until)
        if drained:
            await self._hurried(in_flight.empty(until), until)
        self._note_refused(resets)
        if not drained or len(in_flight):
            self._in_the_way = tuple(self.bystanders())
            self._cut_off = await in_flight.cut_off(self._server.break_off, within=self._deadlines.way_out)
            if in_flight.requests:
                await self._server.abandon([scope for scope, _, _ in in_flight.requests.values()])

    def _note_refused(self, resets_before: int | None) -> None:
        """Who came while nobody listened: known where the network is the service's own, as in a container."""
        is_own = self._parts.settings.platform.own_network and not ProcessTable().is_machines
        resets = resets_sent() if is_own else None
        if resets is not None and resets_before is not None:
            self._refused = max(0, resets - resets_before)

    def bystanders(self) -> list[str]:
        """Who else is there, besides what is in flight, in words. From any thread."""
        tasks = self._parts.in_flight.tasks(self._loop)
        return bystanders(self._loop, besides=tasks)

    async def _drain_server(self) -> None:
        try:
            await self._server.drain()
        except Exception:
            logger.exception("the server's drain failed; what is in flight may still finish")
            self._failure = "the server's drain failed, see the log"

    async def _give_back(self) -> None:
        self._enter(Phase.RELEASING)
        until = self._deadlines.release_ends
        self._released = await self._undisturbed("app lifespan", self._end_app(until))
        self._released += await self._undisturbed(
            "release", self._parts.resources.release(until, self._clock)
        )
        self._enter(Phase.STOPPED)
        self._write_report()
        self.finished.set()

    # Its parts.

    async def _undisturbed(
        self, name: str, step: Coroutine[Any, Any, tuple[ReleaseOutcome, ...]]
    ) -> tuple[ReleaseOutcome, ...]:
        """The outcomes of `step`, which is bounded, or one that says how it failed. Whoever cancels all
        tasks, as some apps do in their shutdown, does not keep us from waiting for it.
        """
        working = asyncio.ensure_future(step)
        while not working.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait({working})
        problem = asyncio.CancelledError() if working.cancelled() else working.exception()
        if problem is None:
            return working.result()
        logger.error("%s failed", name, exc_info=problem)
        return (ReleaseOutcome(name=name, seconds=0.0, outcome="failed", error=_in_one_line(problem)),)

    @property
    def _deadlines(self) -> Budget:
        if self.budget is None:  # a startup that failed by itself: the release has its whole time
            self.budget = Budget.of(self._parts.settings, began=self._clock(), lame_duck=False)
        return self.budget

    async def _unless_begun(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do `work`, unless the shutdown has begun, and wait for it no longer than until it begins: then it
        is cancelled and StartupInterrupted raised.
        """
        if self.begun.is_set():
            raise StartupInterrupted(self.reason or "shutdown")
        working = asyncio.ensure_future(work())
        begun = asyncio.ensure_future(self.begun.wait())
        try:
            await asyncio.wait({working, begun}, return_when=asyncio.FIRST_COMPLETED)
            if begun.done() and not working.done():
                working.cancel()
                await asyncio.wait({working}, timeout=max(0.0, self._deadlines.drain_ends - self._clock()))
        except asyncio.CancelledError:
            working.cancel()
            raise
        finally:
            begun.cancel()
        if self.begun.is_set():
            if working.done() and not working.cancelled():
                working.exception()  # retrieved: the interruption is the news
            raise StartupInterrupted(self.reason or "shutdown")
        await working

    async def _hurried(self, work: Awaitable[Any], until: float) -> bool:
        """Wait for `work` until `until`, or until somebody hurries. Whether it has ended by itself; if not,
        it is cancelled.
        """
        working = asyncio.ensure_future(work)
        hurry = asyncio.ensure_future(self._hurry.wait())
        try:
            await asyncio.wait(
                {working, hurry}, timeout=max(0.0, until - self._clock()), return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            hurry.cancel()
            if not working.done():
                working.cancel()
        if working.done():
            await working
            return True
        return False

    async def _end_app(self, until: float) -> tuple[ReleaseOutcome, ...]:
        """The app's own lifespan ends first, in its share of the time; nothing is reported of one that ends
        well.
        """
        began = self._clock()
        share = max(0.0, until - began) / (1 + len(self._parts.resources))
        ending = asyncio.ensure_future(self._app.shutdown())
        await asyncio.wait({ending}, timeout=share)
        seconds = self._clock() - began
        if not ending.done():
            stood = f"at {standing_at(ending) or 'an unknown place'}"
            ending.cancel()
            text = "the app's lifespan shutdown has not ended in %.1f s, %s; it is left behind"
            logger.error(text, seconds, stood)
            return (ReleaseOutcome(name="app lifespan", seconds=seconds, outcome="timed out", error=stood),)
        problem = asyncio.CancelledError() if ending.cancelled() else ending.exception()
        if problem is None:
            return ()
        raised = None if isinstance(problem, GracefulError) else problem  # else the text is the traceback
        logger.error("the app's lifespan shutdown failed: %s", problem, exc_info=raised)
        error = _in_one_line(problem)
        return (ReleaseOutcome(name="app lifespan", seconds=seconds, outcome="failed", error=error),)

    def _spawn_ending(self) -> None:
        self._ending = asyncio.get_running_loop().create_task(self._end(), name="graceful shutdown")

    def _enter(self, phase: Phase) -> None:
        previous = self.phases.move(phase)
        self._parts.in_flight.begun(previous)
        in_flight = len(self._parts.in_flight)
        said = self._announcement(phase, in_flight)
        if said:
            logger.log(self._level, said)
        self._parts.observers.tell(
            PhaseChange(
                phase=phase,
                previous=previous,
                at=self.phases.entered[phase],
                reason=self.reason,
                in_flight=in_flight,
            )
        )

    def _announcement(self, phase: Phase, in_flight: int) -> str | None:
        now, budget = self._clock(), self._deadlines if self.reason else None
        if budget is None:
            return None
        if phase is Phase.LAME_DUCK:
            seconds = budget.lame_duck_ends - now
            still = (
                f"lame duck for {seconds:.1f} s: still serving, not ready" if seconds > 0 else "no lame duck"
            )
            return f"{self.reason}: {still}"
        if phase is Phase.DRAINING:
            return f"Draining: {in_flight} in flight, at most {budget.drain_deadline(now) - now:.1f} s"
        if phase is Phase.RELEASING and len(self._parts.resources):
            resources = counted(len(self._parts.resources), "resource")
            return f"Releasing: {resources}, at most {max(0.0, budget.release_ends - now):.1f} s"
        return None

    def _outcome(self) -> Outcome:
        if self._failure is not None:
            return Outcome.FAILED
        if self._hurry.is_set():
            return Outcome.INTERRUPTED
        if self._cut_off or any(entry.outcome != "released" for entry in self._released):
            return Outcome.NOT_CLEAN
        return Outcome.CLEAN

    def _exit_code(self, outcome: Outcome) -> ExitCode:
        dies_of_it = self._parts.settings.exit_by_signal and self.reason == "SIGTERM"
        return ExitCode.TERMINATED if dies_of_it and outcome is Outcome.CLEAN else outcome.exit_code

    def _had_lame_duck(self) -> bool:
        """Whether there was one of any length: only then can it have been too short."""
        served = Phase.LAME_DUCK in self.phases.entered
        return served and self._deadlines.lame_duck_ends > self._deadlines.began

    def _severity(self, report: Report) -> int:
        if report.clean or self._alarm < logging.WARNING:
            return self._level
        return logging.WARNING if report.outcome is Outcome.CLEAN else self._alarm

    def _write_report(self) -> None:
        in_flight, settings = self._parts.in_flight, self._parts.settings
        outcome = self._outcome()
        self.report = Report(
            reason=self.reason or "startup",
            outcome=outcome,
            exit_code=self._exit_code(outcome) if self._owned else None,
            phases=self.phases.seconds(),
            signals=self.signals,
            ended=dict(in_flight.ended),
            cut_off=self._cut_off,
            resources=self._released,
            arrivals=in_flight.arrivals,
            last_arrival=in_flight.last_arrival,
            lame_duck=settings.lame_duck if self._had_lame_duck() else 0.0,
            refused=self._refused,
            in_the_way=self._in_the_way,
            failure=self._failure,
        )

    def say_report(self, left_behind: Sequence[str] = (), *, exit_code: int | None = None) -> None:
        """Log the report, once, when nothing more will be known: `left_behind` is what the end of the process
        did not wait for.
        """
        if self.report is None or self._said:
            return
        self._said = True
        if left_behind:
            self.report = self.report.with_left_behind(left_behind)
        if exit_code is not None and self.report.exit_code == ExitCode.OK:
            self.report = replace(self.report, exit_code=exit_code)
        report_logger.log(self._severity(self.report), self.report.as_text(), extra={"report": self.report})


def _in_one_line(problem: BaseException) -> str:
    """What failed: of a traceback, which frameworks give as the reason, the line that names the error."""
    if isinstance(problem, GracefulError):
        return (str(problem).strip().splitlines() or ["it gave no reason"])[-1]
    notes = "".join(f" ({note})" for note in getattr(problem, "__notes__", ()))
    return " ".join(f"{text_of(problem)}{notes}".split())
