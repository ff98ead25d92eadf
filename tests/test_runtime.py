"""`Runtime` as users have it, in this process: a run between a fake app and a fake server, without lame duck
where nothing is said.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import logging
import os
import signal
import sys
import threading
import time
import weakref
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest
from asgi_lifespan import LifespanManager
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

import graceful
from graceful import GracefulMiddleware, Phase, PhaseChange, Report, Runtime, RuntimeInUseError, SettingsError
from graceful import runtime as runtime_module
from graceful._types import Scope
from graceful.budget import Budget
from graceful.inflight import Kind
from graceful.lifecycle import Lifecycle
from graceful.servers.lookout import AppAddress
from graceful.signals import SignalWatch

T = TypeVar("T")
SOON = 30.0


class FakeApp:
    async def startup(self) -> None:
        """Starts at once."""

    async def shutdown(self) -> None:
        """Ends at once."""


class FakeServer:
    async def drain(self) -> None:
        """Nobody is connected."""

    def leave(self) -> None:
        """Nobody is connected."""

    async def break_off(self, scopes: Collection[Scope]) -> Collection[Scope]:
        """Nobody is connected."""
        return ()

    async def abandon(self, scopes: Collection[Scope]) -> None:
        """Nobody is connected."""


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if on no platform at all."""
    for name in os.environ:
        if name.startswith(("GRACEFUL_", "KUBERNETES_")):
            monkeypatch.delenv(name)


@pytest.fixture
def runtime() -> Runtime:
    return Runtime(grace_period=30, lame_duck=0)


def begin(runtime: Runtime) -> Lifecycle:
    return runtime.begin_run(FakeApp(), FakeServer(), owned=True, audible=False)


@contextlib.asynccontextmanager
async def served(runtime: Runtime) -> AsyncIterator[Lifecycle]:
    """A run that serves; it has been asked to end, and has, on leaving."""
    lifecycle = begin(runtime)
    await lifecycle.start()
    lifecycle.serve()
    yield lifecycle
    runtime.request_shutdown("the test is over")
    await asyncio.wait_for(lifecycle.finished.wait(), SOON)
    runtime.end_run(process_ends=False)


def within(story: Callable[[Lifecycle], Coroutine[Any, Any, T]], runtime: Runtime) -> T:
    """The result of `story`, told while the runtime serves."""

    async def main() -> T:
        async with served(runtime) as lifecycle:
            return await story(lifecycle)

    return asyncio.run(main())


def test_before_a_run(runtime: Runtime) -> None:
    assert (runtime.phase, runtime.report, runtime.stopping.is_set()) == (Phase.STARTING, None, False)
    assert runtime.settings.grace_period == 30
    assert runtime.settings.sources == {"grace_period": "argument", "lame_duck": "argument"}


def test_a_run_from_end_to_end(runtime: Runtime) -> None:
    told: list[PhaseChange] = []
    log: list[str] = []
    assert runtime.on_phase(told.append) == told.append

    @runtime.resource
    async def database() -> AsyncIterator[str]:
        log.append("acquired")
        yield "pool"
        log.append("released")

    async def story(lifecycle: Lifecycle) -> None:
        assert runtime.phase is Phase.SERVING
        assert runtime.report is None
        assert log == ["acquired"]

    within(story, runtime)
    assert log == ["acquired", "released"]
    assert runtime.phase is Phase.STOPPED
    report = runtime.report
    assert isinstance(report, Report)
    assert (report.reason, report.clean, report.exit_code) == ("the test is over", True, 0)
    assert [str(change.phase) for change in told] == [
        "serving",
        "lame_duck",
        "draining",
        "releasing",
        "stopped",
    ]


# Work in flight.


def test_a_job_of_a_task_is_waited_for(runtime: Runtime) -> None:
    async def story(lifecycle: Lifecycle) -> None:
        async with runtime.job("import"):
            assert runtime.in_flight.count()[Kind.JOB] == 1
            runtime.request_shutdown("while it works")
            await runtime.shutdown_requested()
            for _ in range(10):
                await asyncio.sleep(0)
            assert runtime.phase is Phase.DRAINING
        await asyncio.wait_for(lifecycle.finished.wait(), SOON)

    within(story, runtime)
    assert runtime.report is not None
    assert (runtime.report.clean, runtime.report.ended) == (True, {Kind.JOB: 1})


def test_a_job_of_a_thread_is_waited_for(runtime: Runtime) -> None:
    async def story(lifecycle: Lifecycle) -> None:
        begun = threading.Event()

        def work() -> None:
            with runtime.job("crunch"):
                begun.set()
                assert runtime.stopping.wait(SOON)

        thread = threading.Thread(target=work)
        thread.start()
        await asyncio.to_thread(begun.wait, SOON)
        assert runtime.in_flight.count()[Kind.JOB] == 1
        runtime.request_shutdown("while it works")
        await asyncio.wait_for(lifecycle.finished.wait(), SOON)
        thread.join()

    within(story, runtime)
    assert runtime.report is not None
    assert (runtime.report.clean, runtime.report.ended) == (True, {Kind.JOB: 1})


def test_a_task_is_kept_waited_for_and_named() -> None:
    runtime = Runtime(grace_period=30, lame_duck=0, drain_timeout=0)

    async def story(lifecycle: Lifecycle) -> None:
        gate = asyncio.Event()
        assert await runtime.create_task(asyncio.sleep(0, "done")) == "done"
        runtime.create_task(gate.wait(), name="mail")
        gc.collect()
        assert runtime.in_flight.count()[Kind.TASK] == 1

    within(story, runtime)
    assert runtime.report is not None
    assert [(entry.kind, entry.name, entry.ended) for entry in runtime.report.cut_off] == [
        ("task", "mail", True)
    ]
    assert runtime.report.exit_code == 75


# Ready or not.


def test_not_ready_holds(runtime: Runtime) -> None:
    with runtime.not_ready("migrating"), runtime.not_ready("migrating"):
        with runtime.not_ready("warming up"):
            assert runtime.holds == ("migrating", "migrating", "warming up")
        assert runtime.holds == ("migrating", "migrating")
    with contextlib.suppress(ZeroDivisionError), runtime.not_ready("migrating"):
        raise ZeroDivisionError
    assert runtime.holds == ()


def test_checks_are_decorators_with_and_without_options(runtime: Runtime) -> None:
    @runtime.readiness_check
    async def database_answers() -> bool:
        return True

    @runtime.readiness_check(timeout=2, name="queue")
    def queue_answers() -> bool:
        return True

    @runtime.liveness_check
    def loop_turns() -> bool:
        return True

    assert asyncio.run(database_answers()) is queue_answers() is loop_turns() is True
    paths = runtime.probes.paths("")
    assert set(paths) == {
        "/healthz",
        "/healthz/loop_turns",
        "/ready",
        "/ready/database_answers",
        "/ready/queue",
    }


def test_a_check_that_is_declared_late_has_its_path() -> None:
    runtime = Runtime(verbose_probes=True)
    client = TestClient(runtime.wrap(Starlette()))
    assert client.get("/ready").text == "ok"
    assert client.get("/ready/late").status_code == 404
    runtime.liveness_check(lambda: True, name="late")  # type: ignore[call-overload]
    assert client.get("/healthz/late").text == "ok"


# The shutdown, asked for in every way.


def test_request_shutdown_from_a_thread(runtime: Runtime) -> None:
    async def story(lifecycle: Lifecycle) -> None:
        assert not runtime.stopping.is_set()
        thread = threading.Thread(target=runtime.request_shutdown, args=("from a thread",))
        thread.start()
        await asyncio.wait_for(runtime.shutdown_requested(), SOON)
        thread.join()
        assert runtime.stopping.is_set()

    within(story, runtime)
    assert runtime.report is not None
    assert (runtime.report.reason, runtime.report.signals) == ("from a thread", 0)


def test_request_shutdown_before_the_run(runtime: Runtime) -> None:
    runtime.request_shutdown("too early")
    runtime.request_shutdown("again")

    async def main() -> None:
        lifecycle = begin(runtime)
        assert lifecycle.begun.is_set()
        assert runtime.stopping.is_set()
        with pytest.raises(graceful.StartupInterrupted, match="too early"):
            await lifecycle.start()
        runtime.end_run(process_ends=False)

    asyncio.run(main())
    assert runtime.report is not None
    assert [str(phase) for phase in runtime.report.phases] == ["starting", "releasing"]

    async def story(lifecycle: Lifecycle) -> Phase:
        return runtime.phase

    assert within(story, runtime) is Phase.SERVING, "it counted for one run"


def test_request_shutdown_after_the_loop_is_gone(runtime: Runtime) -> None:
    loop = asyncio.new_event_loop()

    async def main() -> None:
        begin(runtime)

    loop.run_until_complete(main())
    loop.close()
    runtime.request_shutdown("nobody is there")


def test_shutdown_requested_before_a_run_is_an_error(runtime: Runtime) -> None:
    with pytest.raises(RuntimeInUseError, match="before the run began; await it in a request or a task"):
        asyncio.run(runtime.shutdown_requested())


def test_stopping_is_set_however_the_shutdown_begins(runtime: Runtime) -> None:
    """A thread that waits for it must hear of the server's own leaving too."""

    async def story(lifecycle: Lifecycle) -> None:
        lifecycle.begin("limit_max_requests", lame_duck=False)
        assert runtime.stopping.is_set()
        assert await asyncio.wait_for(runtime.shutdown_requested(), SOON) is None  # type: ignore[func-returns-value]

    within(story, runtime)
    app = runtime.wrap(Starlette())
    with TestClient(app):
        assert not runtime.stopping.is_set(), "a new run"
    assert runtime.stopping.is_set()


def test_a_phase_observer_may_be_a_decorator(runtime: Runtime) -> None:
    phases: list[Phase] = []

    @runtime.on_phase
    def told(change: PhaseChange) -> None:
        phases.append(change.phase)
        assert runtime.phase is change.phase

    async def story(lifecycle: Lifecycle) -> None:
        assert phases == [Phase.SERVING]

    within(story, runtime)
    assert phases[-1] is Phase.STOPPED


# Signals, from a watch that is not installed.


def noted(watch: SignalWatch, *signums: int) -> None:
    for signum in signums:
        watch._note(signum)


async def turn() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def test_signals_drive_the_run(runtime: Runtime) -> None:
    async def story(lifecycle: Lifecycle) -> None:
        watch = SignalWatch()
        runtime.listen_to(watch, None)
        async with runtime.job("holds the drain"):
            noted(watch, signal.SIGTERM, signal.SIGTERM)
            await turn()
            assert runtime.phase is Phase.DRAINING
            noted(watch, *[signal.SIGTERM] * 198)
            await turn()
            assert runtime.phase is Phase.DRAINING, "two TERMs mean nothing"
        await asyncio.wait_for(lifecycle.finished.wait(), SOON)

    within(story, runtime)
    assert runtime.report is not None
    assert (runtime.report.reason, runtime.report.signals, runtime.report.exit_code) == ("SIGTERM", 200, 0)


def test_signals_that_came_before_are_honoured(runtime: Runtime) -> None:
    async def main() -> None:
        watch = SignalWatch()
        noted(watch, signal.SIGINT)
        lifecycle = begin(runtime)
        runtime.listen_to(watch, None)
        assert lifecycle.begun.is_set()
        assert lifecycle.signals == 1
        with pytest.raises(graceful.StartupInterrupted, match="SIGINT"):
            await lifecycle.start()
        runtime.end_run(process_ends=False)

    asyncio.run(main())


def test_the_second_interrupt_hurries(runtime: Runtime) -> None:
    async def story(lifecycle: Lifecycle) -> None:
        watch = SignalWatch()
        runtime.listen_to(watch, None)
        task = runtime.create_task(asyncio.Event().wait(), name="endless")
        noted(watch, signal.SIGINT)
        await turn()
        assert not task.done()
        noted(watch, signal.SIGINT)
        await asyncio.wait_for(lifecycle.finished.wait(), SOON)
        assert task.cancelled()

    within(story, runtime)
    assert runtime.report is not None
    assert (runtime.report.signals, runtime.report.exit_code) == (2, 130)


@pytest.mark.parametrize(
    ("platform", "signum", "lame_duck"),
    [
        ("terminal", signal.SIGINT, False),
        ("terminal", signal.SIGTERM, True),
        ("kubernetes", signal.SIGINT, True),
    ],
)
def test_at_a_terminal_an_interrupt_has_no_lame_duck(
    platform: str,
    signum: int,
    lame_duck: bool,  # noqa: FBT001
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from graceful.platforms import PROFILES  # noqa: PLC0415 - beside its only use

    monkeypatch.setattr("graceful.settings.here", lambda environ: PROFILES[platform])
    runtime = Runtime(lame_duck=3)

    async def main() -> None:
        lifecycle = begin(runtime)
        watch = SignalWatch()
        runtime.listen_to(watch, None)
        noted(watch, signum)
        await turn()
        assert lifecycle.budget is not None
        assert (lifecycle.budget.lame_duck_ends > lifecycle.budget.began) is lame_duck
        with pytest.raises(graceful.StartupInterrupted):
            await lifecycle.start()
        runtime.end_run(process_ends=False)

    asyncio.run(main())


# Runs, one after the other and at once.


def test_a_new_run_on_another_loop(runtime: Runtime) -> None:
    log: list[str] = []

    @runtime.resource
    async def database() -> AsyncIterator[None]:
        log.append("acquired")
        yield
        log.append("released")

    async def story(lifecycle: Lifecycle) -> None:
        assert runtime.phase is Phase.SERVING
        assert not runtime.stopping.is_set()
        assert runtime.report is None

    reports = []
    for _ in range(3):
        within(story, runtime)
        reports.append(runtime.report)
        assert runtime.stopping.is_set()
    assert log == ["acquired", "released"] * 3
    assert len({id(report) for report in reports}) == 3


def test_two_runs_at_once_are_an_error_and_the_first_goes_on(runtime: Runtime) -> None:
    async def story(lifecycle: Lifecycle) -> None:
        with pytest.raises(RuntimeInUseError, match="running already; one Runtime has one run at a time"):
            begin(runtime)
        assert runtime.phase is Phase.SERVING

    within(story, runtime)


def test_a_second_adoption_is_refused_and_the_first_goes_on(runtime: Runtime) -> None:
    first, second = runtime.wrap(Starlette()), runtime.wrap(Starlette())
    with TestClient(first) as client:
        entry = runtime.entry
        with pytest.raises(RuntimeInUseError):
            asyncio.run(runtime.adopt(second, None))
        assert runtime.entry is entry
        assert client.get("/ready").text == "ok"
        assert runtime.phase is Phase.SERVING


def test_serving_twice_at_once_leaves_the_first_alone(runtime: Runtime) -> None:
    async def main() -> tuple[Report, str]:
        served = asyncio.Event()
        runtime.on_phase(lambda change: served.set())
        first = asyncio.ensure_future(runtime.serve(Starlette(), port=0, log_config=None))
        await asyncio.wait_for(served.wait(), SOON)
        handler = signal.getsignal(signal.SIGTERM)
        with pytest.raises(RuntimeInUseError):
            await runtime.serve(Starlette(), port=0, log_config=None)
        assert signal.getsignal(signal.SIGTERM) is handler, "the signals are still the first's"
        assert runtime.entry is not None
        signal.raise_signal(signal.SIGTERM)
        return await asyncio.wait_for(first, SOON), type(handler).__name__

    before = {signum: signal.getsignal(signum) for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)}
    report, name = asyncio.run(main())
    assert (report.reason, name) == ("SIGTERM", "Handler")
    assert {signum: signal.getsignal(signum) for signum in before} == before


@pytest.mark.parametrize("sniffed", ["asyncio", "trio"])
def test_a_run_that_does_not_begin_leaves_no_handler(sniffed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = Runtime(grace_period=-1 if sniffed == "asyncio" else 30)
    monkeypatch.setitem(sys.modules, "sniffio", SimpleNamespace(current_async_library=lambda: sniffed))
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises((SettingsError, RuntimeInUseError)):
        asyncio.run(runtime.serve(Starlette(), port=0, log_config=None))
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(
    ("option", "value"),
    [("reload", True), ("workers", 2), ("timeout_graceful_shutdown", 1), ("prot", 8000)],
)
def test_an_option_that_cannot_be_honoured_is_refused(runtime: Runtime, option: str, value: object) -> None:
    with pytest.raises(SettingsError, match=f"^{option}: found {value}; "):
        asyncio.run(runtime.serve(Starlette(), **{option: value}))


def test_trio_is_one_clear_error(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sniffio", SimpleNamespace(current_async_library=lambda: "trio"))

    async def main() -> None:
        with pytest.raises(
            RuntimeInUseError, match="runs on asyncio and uvloop, not on trio; start the server with"
        ):
            begin(runtime)

    asyncio.run(main())
    assert runtime.phase is Phase.STARTING
    monkeypatch.delitem(sys.modules, "sniffio")
    runtime_module._require_asyncio()
    importlib.import_module("sniffio")


# Settings.


def test_whoever_deploys_overrules_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = Runtime(grace_period=40, lame_duck=1, drain_timeout=2)
    monkeypatch.setenv("GRACEFUL_LAME_DUCK", "0")
    monkeypatch.setenv("GRACEFUL_DRAIN_TIMEOUT", "3")
    runtime.overrule({"drain_timeout": "4", "ready_path": None})

    async def story(lifecycle: Lifecycle) -> tuple[float, float, float]:
        assert lifecycle._parts.settings is runtime.settings
        found = runtime.settings
        return found.grace_period, found.lame_duck, found.drain_timeout

    assert within(story, runtime) == (40, 0, 4)


def test_settings_are_read_when_a_run_begins(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    assert runtime.settings.drain_timeout != 7
    monkeypatch.setenv("GRACEFUL_DRAIN_TIMEOUT", "7")

    async def story(lifecycle: Lifecycle) -> float:
        return runtime.settings.drain_timeout

    assert within(story, runtime) == 7


def test_a_value_that_cannot_be_meant_stops_the_run() -> None:
    runtime = Runtime(lame_duck=-1)

    async def main() -> None:
        with pytest.raises(SettingsError, match=r"^lame_duck: found -1"):
            begin(runtime)

    asyncio.run(main())
    assert runtime.report is None
    with pytest.raises(SettingsError):
        _ = runtime.settings


def test_what_settings_warn_of_is_logged(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("GRACEFUL_LAMEDUCK", "4")
    caplog.set_level(logging.INFO, "graceful")

    async def main() -> None:
        lifecycle = runtime.begin_run(FakeApp(), FakeServer(), owned=True, audible=True)
        lifecycle.begin("over")
        with pytest.raises(graceful.StartupInterrupted):
            await lifecycle.start()
        runtime.end_run(process_ends=False)

    asyncio.run(main())
    levels = {record.levelname for record in caplog.records if "GRACEFUL_LAMEDUCK" in record.getMessage()}
    assert levels == {"WARNING"}
    assert runtime.settings.describe() in caplog.messages


def test_the_watchdogs_time(runtime: Runtime) -> None:
    assert Budget.of(runtime.settings, began=0.0).last_moments.acts == 28
    assert runtime.exit_deadline is None

    async def story(lifecycle: Lifecycle) -> None:
        signalled = time.monotonic() - 100.0  # it may not lie ahead: how late it is there, nobody knows
        lifecycle.begin("now", at=signalled)
        assert runtime.exit_deadline is not None
        assert signalled + 27 < runtime.exit_deadline < signalled + 28

    within(story, runtime)


# Which runtime.


def test_current(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime_module, "_runtimes", weakref.WeakSet())
    monkeypatch.setattr(runtime_module, "_current", lambda: None)
    assert graceful.current() is None
    only = Runtime(lame_duck=0)
    assert graceful.current() is only, "the only one there is"
    other = Runtime(lame_duck=0)
    assert graceful.current() is None, "which of the two?"

    async def story(lifecycle: Lifecycle) -> Runtime | None:
        return graceful.current()

    assert within(story, other) is other
    assert within(story, only) is only
    assert graceful.current() is only


def test_wrap(runtime: Runtime) -> None:
    app = Starlette()
    wrapped = runtime.wrap(app)
    assert isinstance(wrapped, GracefulMiddleware)
    assert wrapped.app is app
    assert runtime.wrap(wrapped) is wrapped
    assert Runtime().wrap(wrapped).app is wrapped, "another runtime is another wrapper"


# Adopted, by servers that are not known: signals are left alone, nothing is said.


@pytest.fixture
def untouched(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Nothing is logged above debug, and every signal handler stays."""
    caplog.set_level(logging.DEBUG)
    watched = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
    before = {signum: signal.getsignal(signum) for signum in watched}
    yield
    assert {signum: signal.getsignal(signum) for signum in watched} == before
    said = [record for record in caplog.get_records("call") if record.name.startswith("graceful")]
    assert said
    assert {record.levelname for record in said} == {"DEBUG"}


def service(log: list[str]) -> tuple[Runtime, GracefulMiddleware]:
    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[dict[str, str]]:
        log.append("app started")
        yield {"pool": "the pool"}
        log.append("app ended")

    async def index(request: Request) -> PlainTextResponse:
        return PlainTextResponse(request.state.pool)

    runtime = Runtime()

    @runtime.resource
    async def database() -> AsyncIterator[None]:
        log.append("acquired")
        yield
        log.append("released")

    return runtime, runtime.wrap(Starlette(routes=[Route("/", index)], lifespan=lifespan))


@pytest.mark.usefixtures("untouched")
def test_a_test_client_three_times() -> None:
    log: list[str] = []
    runtime, app = service(log)
    for _ in range(3):
        with TestClient(app) as client:
            assert client.get("/").text == "the pool"
            assert client.get("/ready").text == "ok"
        assert runtime.phase is Phase.STOPPED
        assert runtime.report is not None
        assert (runtime.report.reason, runtime.report.exit_code) == ("lifespan.shutdown", None)
        assert runtime.report.clean
        assert (runtime.entry, runtime._steering) == (None, None)
    assert log == ["acquired", "app started", "app ended", "released"] * 3


@pytest.mark.usefixtures("untouched")
def test_a_lifespan_manager_in_the_main_thread() -> None:
    log: list[str] = []
    runtime, app = service(log)

    async def main() -> None:
        async with LifespanManager(app) as manager:
            assert manager.app is not None
            assert runtime.phase is Phase.SERVING

    for _ in range(3):
        asyncio.run(main())
    assert log == ["acquired", "app started", "app ended", "released"] * 3


@pytest.mark.usefixtures("untouched")
def test_a_server_without_lifespan_serves_from_the_first_request_on() -> None:
    log: list[str] = []
    runtime, _ = service(log)
    client = TestClient(runtime.wrap(Starlette(routes=[Route("/", lambda _: PlainTextResponse("hello"))])))
    assert runtime.phase is Phase.STARTING
    assert [client.get("/").text, client.get("/ready").text] == ["hello", "ok"]
    assert (runtime.phase, log) == (Phase.SERVING, []), "no lifespan, no resources"


def test_a_startup_that_fails_under_a_test_client_leaves_nothing_behind() -> None:
    runtime = Runtime()
    log: list[str] = []

    @runtime.resource
    async def database() -> AsyncIterator[None]:
        log.append("acquired")
        yield
        log.append("released")

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        message = "no configuration"
        raise ValueError(message)
        yield

    app = runtime.wrap(Starlette(lifespan=lifespan))
    for _ in range(2):
        with pytest.raises(BaseException, match=r".*"), TestClient(app):
            pass
        assert runtime.report is not None
        assert runtime.report.failure == "ValueError: no configuration"
        assert (runtime.entry, runtime.phase) == (None, Phase.STOPPED)
    assert log == ["acquired", "released"] * 2


def test_server_left_without_a_run(runtime: Runtime) -> None:
    asyncio.run(runtime.server_left())
    assert runtime.report is None


def test_the_last_words_name_what_is_in_the_way(runtime: Runtime) -> None:
    async def story(lifecycle: Lifecycle) -> str:
        async with runtime.job("import\nforged"):
            return runtime.in_the_way()

    lines = within(story, runtime).splitlines()
    assert lines[0] == "  in phase serving; 1 piece of work in flight"
    stack = [line for line in lines if line.startswith("    main thread: ")]
    assert lines[1 : 1 + len(stack)] == stack
    assert any(" in test_the_last_words_name_what_is_in_the_way: lines = within" in line for line in stack)
    assert any(line.endswith(" in story: return runtime.in_the_way()") for line in stack)
    assert lines[1 + len(stack)].startswith("    in flight: job import\\nforged, 0.0 s old, at ")


# The admin port.


def test_a_test_client_opens_no_port(caplog: pytest.LogCaptureFixture) -> None:
    runtime = Runtime(admin_port=0)
    caplog.set_level(logging.INFO, "graceful")
    with TestClient(runtime.wrap(Starlette())) as client:
        assert client.get("/ready").text == "ok"
        assert client.get("/metrics").status_code == 404
        assert not runtime.admin_is_open
    assert caplog.messages == []


def test_a_run_with_an_admin_port_beside_it() -> None:
    runtime = Runtime(admin_port=0, stall_after=0.5)

    async def main() -> None:
        loopback = AppAddress(host="127.0.0.1", port=None)
        lifecycle = runtime.begin_run(FakeApp(), FakeServer(), owned=True, audible=False, beside=loopback)
        assert runtime.admin_is_open
        assert not runtime.leaves
        await lifecycle.start()
        lifecycle.serve()
        runtime.request_shutdown("over")
        assert runtime.leaves, "before the loop has got to it"
        assert runtime.phase is Phase.SERVING
        await asyncio.wait_for(lifecycle.finished.wait(), SOON)
        assert not runtime.stalls
        runtime.end_run(process_ends=False)

    asyncio.run(main())
    assert not runtime.admin_is_open


def test_a_worker_has_no_lame_duck_unless_somebody_sets_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    for runtime, seconds in ((Runtime(), 0.0), (Runtime(lame_duck=3), 3.0)):
        runtime.receives_no_requests()
        assert runtime.settings.lame_duck == seconds
        assert runtime.settings.platform.name == "kubernetes"


def test_in_short_there_are_counts_and_names_only(runtime: Runtime) -> None:
    @runtime.resource
    async def database() -> AsyncIterator[None]:
        yield

    async def story(lifecycle: Lifecycle) -> tuple[str, str]:
        idle = runtime.in_short()
        async with runtime.job("import"), runtime.job("export"):
            return idle, runtime.in_short()

    assert within(story, runtime) == (
        "in phase serving, in flight: none\nresources still held: database",
        "in phase serving, in flight: 2 job\nresources still held: database",
    )
    assert runtime.in_short() == "in phase stopped, in flight: none"


@pytest.mark.parametrize("audible", [True, False])
def test_the_termination_log_gets_the_report_of_a_run_that_people_hear_of(
    tmp_path: Path, *, audible: bool
) -> None:
    """A test client on a pod of Kubernetes is none."""
    log = tmp_path / "log"
    runtime = Runtime(termination_log=log, lame_duck=0)

    async def main() -> None:
        lifecycle = runtime.begin_run(FakeApp(), FakeServer(), owned=True, audible=audible)
        await lifecycle.start()
        lifecycle.serve()
        lifecycle.begin("SIGTERM")
        await asyncio.wait_for(lifecycle.finished.wait(), SOON)
        runtime.end_run(process_ends=False)

    asyncio.run(main())
    assert log.exists() is audible
    if audible:
        assert runtime.report is not None
        assert log.read_text() == runtime.report.in_short()
        log.unlink()
        runtime.say_report()
        assert not log.exists(), "once"
