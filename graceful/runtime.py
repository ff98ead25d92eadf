"""`Runtime`: what users import. It declares what a service has to give back and to check, wraps its app, and
runs it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import threading
import weakref
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypedDict, TypeVar, Unpack, overload

from graceful import settings as _settings
from graceful import signals
from graceful._types import ASGIApp
from graceful.asgi import AppLifespan, GracefulMiddleware
from graceful.budget import Budget
from graceful.checks import Check, Checks
from graceful.errors import RuntimeInUseError
from graceful.events import Observer, Observers
from graceful.inflight import InFlight, Job, escaped
from graceful.lifecycle import App, Lifecycle, Parts, Server
from graceful.metrics import PUBLISHER, Snapshot
from graceful.phases import Phase
from graceful.platforms import Platform, here
from graceful.probes import Probes
from graceful.reports import Report, counted, listed, named
from graceful.resources import ReleaseCallback, ResourceDeclarer, Resources
from graceful.servers import logs
from graceful.servers.adopted import AdoptedServer
from graceful.servers.lookout import AppAddress, Lookout
from graceful.settings import Settings
from graceful.stacks import frames_of, lines_of
from graceful.steering import Steering
from graceful.termination_log import TerminationLog, termination_log
from graceful.unheard import UnheardLogs
from graceful.watchdog import Watchdog

if TYPE_CHECKING:
    from graceful.ending import Exit

logger = logging.getLogger("graceful")

_WRITE_SECONDS: Final = 0.5  # for the termination log, at most

C = TypeVar("C", bound=Check)


class CheckOptions(TypedDict, total=False):
    """What a check can be declared with; see `Checks.add`."""

    name: str
    timeout: float
    cache: float
    failure_threshold: int


class Runtime:
    """The end of one service: declared once, run as often as it is started.

    The keyword arguments are the settings, times in seconds. They are read when a run begins, since the
    environment and the options of `graceful run` overrule them; a value that cannot be meant raises
    SettingsError then.
    """

    def __init__(  # noqa: PLR0913 - one for each setting
        self,
        *,
        grace_period: float | None = None,
        pre_stop: float | None = None,
        lame_duck: float | None = None,
        drain_timeout: float | None = None,
        release_timeout: float | None = None,
        exit_margin: float | None = None,
        healthz_path: str | None = None,
        ready_path: str | None = None,
        metrics_path: str | None = None,
        admin_port: int | None = None,
        admin_host: str | None = None,
        verbose_probes: bool | None = None,
        stall_after: float | None = None,
        termination_log: str | os.PathLike[str] | None = None,
        exit_by_signal: bool | None = None,
    ) -> None:
        self._arguments = {
            name: value for name, value in locals().items() if name != "self" and value is not None
        }
        self._options: dict[str, object] = {}
        self._settings: Settings | None = None
        self._resources = Resources()
        self._checks = Checks()
        self._observers = Observers()
        self._logs = UnheardLogs()
        self._holds: list[str] = []
        self._lifecycle: Lifecycle | None = None
        self._steering: Steering | None = None
        self._adopted: AdoptedServer | None = None
        self._requested: str | None = None
        self._platform: Platform | None = None
        self.lookout = Lookout()
        self._termination_log: TerminationLog | None = None
        self.in_flight = InFlight()
        self.entry: GracefulMiddleware | None = None
        self.probes = Probes(self, self._checks, PUBLISHER)
        self.stopping = threading.Event()
        self.resource = ResourceDeclarer(self._resources)
        _runtimes.add(self)

    # What the service has.

    def on_release(
        self, callback: ReleaseCallback, *, name: str | None = None, timeout: float | None = None
    ) -> ReleaseCallback:
        """Call `callback`, a function or coroutine function, when resources are released, last declared
        first. Returns it.
        """
        self._resources.on_release(callback, name=name, timeout=timeout)
        return callback

    @overload
    def readiness_check(self, function: C, /) -> C: ...
    @overload
    def readiness_check(self, /, **options: Unpack[CheckOptions]) -> Callable[[C], C]: ...
    def readiness_check(self, function: Check | None = None, /, **options: Unpack[CheckOptions]) -> Any:
        """Declare a check that decides over `/ready`; a decorator, with or without options: `name`,
        `timeout`, `cache`, `failure_threshold`.

        The check is an async or a plain function: True or None passes, False or an exception fails. A plain
        one runs on a thread.
        """
        return self._check("readiness", function, options)

    @overload
    def liveness_check(self, function: C, /) -> C: ...
    @overload
    def liveness_check(self, /, **options: Unpack[CheckOptions]) -> Callable[[C], C]: ...
    def liveness_check(self, function: Check | None = None, /, **options: Unpack[CheckOptions]) -> Any:
        """Declare a check that decides over `/healthz`. If it fails the orchestrator kills this process:
        check only what a restart would mend.
        """
        return self._check("liveness", function, options)

    def _check(self, probe: Any, function: Check | None, options: CheckOptions) -> Any:
        def add(function: Check) -> Check:
            self._checks.add(function, probe=probe, **options)
            if self.entry is not None:
                self.entry.learn_paths_again()
            return function

        return add if function is None else add(function)

    @contextlib.contextmanager
    def not_ready(self, reason: str) -> Iterator[None]:
        """`/ready` fails within the `with` block; `reason` is shown where probes are verbose."""
        self._holds.append(reason)
        try:
            yield
        finally:
            self._holds.remove(reason)

    # What is in flight beside requests.

    def job(self, name: str) -> Job:
        """A context manager, async or not: what runs within counts as in flight, so that the drain waits for
        it.
        """
        return Job(self.in_flight, name)

    def create_task(self, coro: Coroutine[Any, Any, Any], *, name: str | None = None) -> asyncio.Task[Any]:
        """Like `asyncio.create_task`, but the task is kept, counts as in flight, and is cancelled at the end
        of the drain.
        """
        return self.in_flight.create_task(coro, name=name)

    # What others may ask and tell.

    @property
    def settings(self) -> Settings:
        """The resolved settings; resolved now if no run has begun. Raises SettingsError."""
        if self._settings is None:
            self._settings = _settings.resolve(
                self._arguments, options=self._options, platform=self._platform
            )
        return self._settings

    @property
    def phase(self) -> Phase:
        """Where the run stands; `starting` before the first."""
        return Phase.STARTING if self._lifecycle is None else self._lifecycle.phases.current

    @property
    def report(self) -> Report | None:
        """The report of the last run that has stopped; None before."""
        return None if self._lifecycle is None else self._lifecycle.report

    @property
    def holds(self) -> Collection[str]:
        """The reasons given to `not_ready` that hold now."""
        return tuple(self._holds)

    def on_phase(self, observer: Observer) -> Observer:
        """Call `observer` with a PhaseChange after each change of phase, on the loop's thread. Returns it, so
        that it is a decorator.
        """
        self._observers.add(observer)
        return observer

    def request_shutdown(self, reason: str) -> None:
        """Begin the same timeline as a signal would, from any thread. A request that comes before the run
        begins is honoured when it does.
        """
        self._requested = self._requested or escaped(reason)
        steering = self._steering
        if steering is not None:
            steering.request(self._requested)

    async def shutdown_requested(self) -> None:
        """Return when the shutdown has begun: a signal has come, or `request_shutdown` was called."""
        if self._lifecycle is None:
            message = "shutdown_requested() was awaited before the run began; await it in a request or a task"
            raise RuntimeInUseError(message)
        await self._lifecycle.begun.wait()

    # How it runs.

    def wrap(self, app: ASGIApp) -> GracefulMiddleware:
        """`app` with probes, drain and resources, for any ASGI server's own command. An app that this runtime
        has wrapped is returned as it is.
        """
        if isinstance(app, GracefulMiddleware) and app.runtime is self:
            return app
        return GracefulMiddleware(app, runtime=self)

    def run(self, app: ASGIApp | str, *, exit: Exit = "fast", **options: Any) -> NoReturn:  # noqa: A002 - the word users know
        """Serve `app` (or `"module:app"`) on uvicorn with its options (`host`, `port`, …) until a signal,
        then end the process. Never returns.

        `exit="fast"` ends without tearing the interpreter down, but with atexit callbacks run and streams
        flushed; `"full"` raises SystemExit.
        """
        from graceful.servers.launch import run  # noqa: PLC0415 - uvicorn is imported by those who own it only

        settings = lambda: self.settings  # noqa: E731 - the same for two
        run(lambda _app: self, app, options, exit=exit, settings=settings, early=settings)

    async def serve(self, app: ASGIApp | str, **options: Any) -> Report:
        """Serve `app` on uvicorn inside the running loop; returns the report when the run has stopped. The
        process goes on.

        Signals are taken for that time in the main thread. Raises ListenError, StartupInterrupted, or what
        the startup failed with.
        """
        from graceful.servers.launch import serve  # noqa: PLC0415 - see run

        return await serve(self, app, options)

    def run_worker(self, main: Callable[[], Awaitable[object]], *, exit: Exit = "fast") -> NoReturn:  # noqa: A002 - see run
        """Run `main`, an async function without arguments, for a service without HTTP, such as a consumer of
        a queue, until a signal comes or it returns; then end the process. Never returns.

        Resources are acquired first. After the signal `main` may finish until the end of the drain, and is
        cancelled then. `exit` as for `run`.
        """
        from graceful.worker import run_worker  # noqa: PLC0415 - see run

        run_worker(self, main, exit=exit)

    # One run. What follows is for the servers in this package.

    @property
    def leaves(self) -> bool:
        """Whether the shutdown has been asked for, even if the loop has not got to it."""
        return self._steering is not None and self._steering.asked_to_leave

    @property
    def stalls(self) -> bool:
        """Whether the event loop has stood still for `stall_after`, as far as anybody watches it."""
        return self.lookout.stalls(self.settings.stall_after)

    @property
    def admin_is_open(self) -> bool:
        """Whether the endpoints are on the admin port, and so not on the app's."""
        return self.lookout.is_open

    def receives_no_requests(self) -> None:
        """Nobody has to be given time to route traffic away: no lame duck unless somebody sets one."""
        self._platform = replace(here(os.environ), lame_duck=0.0, routed=False)
        self._settings = None

    def overrule(self, options: dict[str, object]) -> None:
        """Options of `graceful run`, by the settings' names."""
        self._options = options
        self._settings = None

    def begin_run(
        self, app: App, server: Server, *, owned: bool, audible: bool, beside: AppAddress | None = None
    ) -> Lifecycle:
        """A new run on the running loop, `starting` on return. The admin port, if one is set, answers then,
        `beside` the app's; without that the endpoints stay on the app's port.

        Raises RuntimeInUseError while another goes on, SettingsError, ListenError.
        """
        self.refuse_a_second_run()
        _require_asyncio()
        self._settings = None
        settings = self.settings
        if beside is not None:
            self.lookout.open(self, self._checks, beside)
        self._checks.home = asyncio.get_running_loop()
        self.in_flight.reset()
        self.stopping.clear()
        parts = Parts(
            settings=settings,
            resources=self._resources,
            in_flight=self.in_flight,
            observers=self._observers,
            on_begun=self._begun,
        )
        self._lifecycle = Lifecycle(parts, app, server, owned=owned, audible=audible)
        lifecycle = self._lifecycle
        self.lookout.watch_loop(lambda: lifecycle.report is not None)
        self._steering = Steering(self._lifecycle, needs_no_lame_duck=self._needs_no_lame_duck, owned=owned)
        self._termination_log = termination_log(settings) if audible else None
        for line in settings.warnings:
            logger.log(logging.WARNING if audible else logging.DEBUG, line)
        logger.log(logging.INFO if audible else logging.DEBUG, settings.describe())
        PUBLISHER.serve(self._snapshot)
        PUBLISHER.keep_publishing(asyncio.get_running_loop())
        _made_current(self)
        if self._requested is not None:
            self._steering.request(self._requested)
            self._steering.look()
        return self._lifecycle

    def enter_by(self, entry: GracefulMiddleware) -> None:
        """`entry` is the outermost wrapper of this run: requests are counted there, and only there."""
        entry.learn_paths_again()
        entry.is_entry = True
        self.entry = entry

    def refuse_a_second_run(self) -> None:
        """Raise RuntimeInUseError while a run goes on: asked before anything of that run could be touched."""
        if self._goes_on():
            message = "this Runtime is running already; one Runtime has one run at a time"
            raise RuntimeInUseError(message)

    def _goes_on(self) -> bool:
        """Whether a run is under way: not one whose loop is gone, nor one that a server without lifespan
        began.
        """
        if self._lifecycle is None or self._lifecycle.report is not None:
            return False
        loop_gone = self._steering is None or self._steering.loop_is_gone
        return not loop_gone and (self._adopted is None or self._adopted.has_lifespan)

    def listen_to(self, watch: signals.SignalWatch, watchdog: Watchdog | None) -> None:
        """From now on the signals that `watch` notes drive the run, also those that it has noted already."""
        if watchdog is not None:
            watchdog.in_the_way = self.in_the_way
            watchdog.in_short = self.in_short
            watchdog.termination_log = self._termination_log
            _warn_of_a_signal_that_cannot_come()
        if self._steering is not None:
            self._steering.listen_to(watch, watchdog)

    def say_report(self, left_behind: Sequence[str] = (), *, exit_code: int | None = None) -> None:
        """Log the report of the run that has stopped, once, and write its short form to the termination log;
        see `Lifecycle.say_report`.
        """
        if self._lifecycle is None:
            return
        if self._logs.dropped:
            logger.warning("%d log records were dropped: nobody reads the log", self._logs.dropped)
        self._lifecycle.say_report(left_behind, exit_code=exit_code)
        log, self._termination_log = self._termination_log, None
        if log is not None and self.report is not None:
            log.write(self.report.in_short(), within=_WRITE_SECONDS)

    def end_run(self, *, process_ends: bool) -> None:
        """The run has stopped: signals are as they were found."""
        self.say_report()
        self._logs.end()
        PUBLISHER.stop(process_ends=process_ends)
        self.lookout.close()
        if self._steering is not None:
            self._steering.let_go()
        self._steering = None
        self._requested = None
        if self.entry is not None:
            self.entry.is_entry = False
        self.entry = None

    async def adopt(self, entry: GracefulMiddleware, lifespan: AppLifespan | None) -> None:
        """See `asgi.Host`."""
        self.refuse_a_second_run()
        adopted = AdoptedServer(has_lifespan=lifespan is not None)
        watch = adopted.take_signals(self)
        if watch is not None:
            logs.use_the_servers()
        app = lifespan or AppLifespan(entry.app, None, "off")
        try:
            beside = adopted.address
            lifecycle = self.begin_run(app, adopted, owned=False, audible=watch is not None, beside=beside)
            if beside is None and self.settings.admin_port is not None:
                logger.log(logging.DEBUG if watch is None else logging.WARNING, adopted.no_admin_port)
            self.enter_by(entry)
            self._adopted = adopted
            if watch is not None:
                watchdog = Watchdog(watch, owned=False)
                watchdog.start(self.settings)
                self.listen_to(watch, watchdog)
            if adopted.leaves:
                lifecycle.begin("should_exit", lame_duck=False)
            if lifespan is not None:
                await lifecycle.start()
        except BaseException:
            self._leave_adopted()
            if watch is not None:
                watch.restore()  # also where the run did not begin
            raise
        if lifespan is None and len(self._resources):
            logger.log(
                logging.DEBUG if watch is None else logging.WARNING,
                "the server runs the app without lifespan: no resource is acquired; switch lifespan on",
            )
        lifecycle.serve()
        self.keep_sigterm()

    async def server_left(self) -> None:
        """See `asgi.Host`."""
        lifecycle, adopted = self._lifecycle, self._adopted
        if lifecycle is None or adopted is None:
            return
        adopted.left.set()
        lifecycle.end_lame_duck()
        lifecycle.begin("lifespan.shutdown", lame_duck=False)
        try:
            await lifecycle.stopped()
        finally:
            self._leave_adopted()

    def _leave_adopted(self) -> None:
        self.end_run(process_ends=self._steering is not None and self._steering.signalled)
        self._adopted = None
        logs.flush()

    @property
    def exit_deadline(self) -> float | None:
        """When the process must have left, in seconds of the monotonic clock; None where no run has an end in
        sight.
        """
        budget = None if self._lifecycle is None else self._lifecycle.budget
        return None if budget is None else budget.exit_ends

    def keep_sigterm(self) -> None:
        """See Steering."""
        if self._steering is not None:
            self._steering.keep_sigterm()

    def in_the_way(self) -> str:
        """For the last words of a process that is ended by force: the phase, where the main thread stands,
        what is in flight, which resources are held, and who else is there. On any thread.
        """
        standing = self.in_flight.standing()
        lines = [f"  in phase {self.phase.words}; {counted(len(standing), 'piece')} of work in flight"]
        lines += [f"    main thread: {line}" for line in lines_of(frames_of(threading.main_thread()))]
        lines += named("in flight", standing)
        lines += listed("    not released: ", self._resources.held)
        if self._lifecycle is not None:
            lines += [f"    still there: {what}" for what in self._lifecycle.bystanders()]
        return "\n".join([*lines, ""])

    def in_short(self) -> str:
        """The same for the termination log: no paths, and nothing that a client sent. On any thread."""
        by_kind = [f"{count} {kind}" for kind, count in self.in_flight.count().items() if count]
        resources = self._resources.names
        lines = [f"in phase {self.phase.words}, in flight: {', '.join(by_kind) or 'none'}"]
        return "\n".join([*lines, f"resources still held: {', '.join(resources)}"] if resources else lines)

    def _begun(self, budget: Budget) -> None:
        self._logs.begin()
        self.stopping.set()
        if self._steering is not None:
            self._steering.begun(budget)

    def _needs_no_lame_duck(self, signum: int) -> bool:
        """Ctrl-C at a terminal, and a reloader, are not a router that needs time."""
        at_terminal = signum in signals.INTERRUPT and self.settings.platform.name == "terminal"
        adopted = self._adopted
        return at_terminal or (adopted is not None and (adopted.reloads or adopted.has_closed))

    def _snapshot(self) -> Snapshot:
        lifecycle = self._lifecycle
        seconds = {} if lifecycle is None else lifecycle.phases.seconds()
        return Snapshot(
            phase=self.phase,
            phase_seconds=seconds,
            in_flight=self.in_flight.count(),
            requests=self.in_flight.begun(self.phase),
            cut_off=dict(self.in_flight.cut_off_total),  # it may be read on another thread
            loop_stall=self.lookout.stall,
            last_arrival=self.in_flight.last_arrival,
            shutdown_at=self.in_flight.left_at,
            checks={
                "readiness": self._checks.results("readiness"),
                "liveness": self._checks.results("liveness"),
            },
            report=self.report,
        )


def _warn_of_a_signal_that_cannot_come() -> None:
    """Our handlers are in: say once whether whoever stops this process reaches them at all."""
    if os.getpid() == 1:
        return  # it is the one that is signalled
    from graceful.delivery import warning_here  # noqa: PLC0415 - slow to import, and most are PID 1

    warning = warning_here()
    if warning is not None:
        logger.warning(warning)


_runtimes: weakref.WeakSet[Runtime] = weakref.WeakSet()
_current: weakref.ref[Runtime] | None = None


def _made_current(runtime: Runtime) -> None:
    global _current  # noqa: PLW0603 - the process has one current runtime, as it has one set of signals
    _current = weakref.ref(runtime)


def current() -> Runtime | None:
    """The runtime whose run began last in this process, or the only one that there is; None where there is
    none.
    """
    found = None if _current is None else _current()
    if found is None and len(_runtimes) == 1:
        found = next(iter(_runtimes))
    return found


def _require_asyncio() -> None:
    """One clear error under trio, where asyncio's calls would fail one by one."""
    sniffio = sys.modules.get("sniffio")
    if sniffio is not None and sniffio.current_async_library() == "trio":
        message = (
            "graceful runs on asyncio and uvloop, not on trio; start the server with an asyncio event loop"
        )
        raise RuntimeInUseError(message)
