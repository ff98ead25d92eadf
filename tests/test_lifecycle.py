"""One run from startup to `stopped`, on a clock that jumps: whole ordered logs of what happened when."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Coroutine
from typing import Any, cast

import pytest

from graceful._types import Scope
from graceful.calls import text_of
from graceful.errors import PhaseError, StartupInterrupted
from graceful.events import Observers, PhaseChange
from graceful.inflight import InFlight, Job
from graceful.lifecycle import Lifecycle, Parts
from graceful.phases import Phase
from graceful.platforms import PROFILES
from graceful.processes import ProcessTable
from graceful.reports import ExitCode, Outcome, Report
from graceful.resources import ReleaseOutcome
from graceful.settings import resolve
from tests.jumping_loop import JumpingLoop, jump

Log = list[tuple[float, str]]
DIED = "it died"


class FakeResources:
    """A database and a queue: each takes its seconds to come and to go."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.comes = {"database": 0.0, "queue": 0.0}
        self.goes = {"database": 0.0, "queue": 0.0}
        self.failing: str | None = None
        self.outcome: Any = "released"
        self.acquired: list[str] = []

    def __len__(self) -> int:
        return len(self.comes)

    async def acquire(self) -> None:
        for name, seconds in self.comes.items():
            await asyncio.sleep(seconds)
            if name == self.failing:
                raise OSError(DIED)
            self.acquired.append(name)
            self.scene.note(f"acquired {name}")

    async def release(self, deadline: float, clock: Callable[[], float]) -> tuple[ReleaseOutcome, ...]:
        assert clock == self.scene.loop.time
        self.scene.note(f"release may last until {deadline:g}")
        outcomes = []
        while self.acquired:
            name = self.acquired.pop()
            await asyncio.sleep(self.goes[name])
            self.scene.note(f"released {name}")
            outcomes.append(
                ReleaseOutcome(name=name, seconds=self.goes[name], outcome=self.outcome, error=None)
            )
        return tuple(outcomes)


class FakeApp:
    """The user's app: its lifespan takes its seconds, or fails."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.starts: float = 0.0
        self.ends: float = 0.0
        self.start_problem: BaseException | None = None
        self.end_problem: BaseException | None = None

    async def startup(self) -> None:
        try:
            await asyncio.sleep(self.starts)
        except asyncio.CancelledError:
            self.scene.note("app startup cancelled")
            raise
        if self.start_problem is not None:
            raise self.start_problem
        self.scene.note("app started")

    async def shutdown(self) -> None:
        try:
            await asyncio.sleep(self.ends)
        except asyncio.CancelledError:
            self.scene.note("app shutdown cancelled")
            raise
        if self.end_problem is not None:
            raise self.end_problem
        self.scene.note("app ended")


class FakeServer:
    """Whoever accepts connections; its drain takes its seconds after the last in flight, or fails."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.lingers = 0.0
        self.problem: Exception | None = None
        self.leave_problem: Exception | None = None

    async def drain(self) -> None:
        self.scene.note("listener closed")
        if self.problem is not None:
            raise self.problem
        try:
            await asyncio.sleep(self.lingers)
        except asyncio.CancelledError:
            self.scene.note("drain cancelled")
            raise

    def leave(self) -> None:
        """Has no connections."""
        if self.leave_problem is not None:
            raise self.leave_problem

    async def break_off(self, scopes: Collection[Scope]) -> Collection[Scope]:
        self.scene.note(f"break off {len(scopes)}")
        return ()

    async def abandon(self, scopes: Collection[Scope]) -> None:
        self.scene.note(f"abandon {len(scopes)}")


class Scene:
    """A lifecycle between fakes, on a loop whose time jumps; `log` has what happened, with its time."""

    def __init__(
        self,
        loop: JumpingLoop,
        *,
        owned: bool = True,
        audible: bool = True,
        platform: str = "kubernetes",
        **arguments: object,
    ) -> None:
        self.loop = loop
        self.log: Log = []
        self.changes: list[PhaseChange] = []
        self.resources = FakeResources(self)
        self.app = FakeApp(self)
        self.server = FakeServer(self)
        self.in_flight = InFlight(loop.time)
        self.observers = Observers()
        self.observers.add(self.told)
        self.settings = resolve(arguments, environ={}, platform=PROFILES[platform])
        parts = Parts(
            settings=self.settings,
            resources=cast("Any", self.resources),
            in_flight=self.in_flight,
            observers=self.observers,
            clock=loop.time,
        )
        self.lifecycle = Lifecycle(parts, self.app, self.server, owned=owned, audible=audible)

    def note(self, what: str) -> None:
        self.log.append((self.loop.time(), what))

    def told(self, change: PhaseChange) -> None:
        self.note(str(change.phase))
        self.changes.append(change)
        assert change.at == self.loop.time()
        assert self.lifecycle.phases.current is change.phase

    async def serve(self) -> None:
        await self.lifecycle.start()
        self.lifecycle.serve()

    async def end(self) -> Report:
        await asyncio.wait_for(self.lifecycle.finished.wait(), 1000)
        self.lifecycle.say_report()
        assert self.lifecycle.report is not None
        return self.lifecycle.report

    def work(self, seconds: float, name: str = "job") -> asyncio.Task[None]:
        async def run() -> None:
            try:
                async with Job(self.in_flight, name):
                    await asyncio.sleep(seconds)
                self.note(f"{name} ended")
            except asyncio.CancelledError:
                self.note(f"{name} cancelled")

        return asyncio.ensure_future(run())


def play(story: Callable[[Scene], Coroutine[Any, Any, Any]], **arguments: Any) -> Scene:
    """The scene after `story` has been told in it, within Kubernetes' 30 s = 5 + 18 + 5 + 2."""

    async def main(loop: JumpingLoop) -> Scene:
        scene = Scene(loop, **arguments)
        await story(scene)
        return scene

    return jump(main)


STARTED = [(0, "acquired database"), (0, "acquired queue"), (0, "app started"), (0, "serving")]


def released_at(when: float, until: float) -> Log:
    return [
        (when, "releasing"),
        (when, "app ended"),
        (when, f"release may last until {until:g}"),
        (when, "released queue"),
        (when, "released database"),
        (when, "stopped"),
    ]


def test_one_sigterm_when_idle() -> None:
    async def story(scene: Scene) -> None:
        await scene.serve()
        await asyncio.sleep(100)
        scene.lifecycle.begin("SIGTERM")
        await scene.end()

    scene = play(story)
    assert scene.log == [
        *STARTED,
        (100, "lame_duck"),
        (105, "draining"),
        (105, "listener closed"),
        *released_at(105, 127.5),
    ]
    report = scene.lifecycle.report
    assert report is not None
    assert (report.reason, report.outcome, report.exit_code) == ("SIGTERM", Outcome.CLEAN, ExitCode.OK)
    assert report.phases == {
        Phase.STARTING: 0,
        Phase.SERVING: 100,
        Phase.LAME_DUCK: 5,
        Phase.DRAINING: 0,
        Phase.RELEASING: 0,
    }
    assert [entry.name for entry in report.resources] == ["queue", "database"]
    assert [(str(change.previous), change.reason, change.in_flight) for change in scene.changes] == [
        ("starting", None, 0),
        ("serving", "SIGTERM", 0),
        ("lame_duck", "SIGTERM", 0),
        ("draining", "SIGTERM", 0),
        ("releasing", "SIGTERM", 0),
    ]


def test_the_drain_ends_in_the_moment_the_last_one_ends() -> None:
    async def story(scene: Scene) -> None:
        await scene.serve()
        scene.work(3, "during the lame duck")
        scene.work(11.25, "last")
        scene.work(7, "first")
        scene.lifecycle.begin("SIGTERM")
        await scene.end()

    scene = play(story)
    assert scene.log == [
        *STARTED,
        (0, "lame_duck"),
        (3, "during the lame duck ended"),
        (5, "draining"),
        (5, "listener closed"),
        (7, "first ended"),
        (11.25, "last ended"),
        *released_at(11.25, 27.5),
    ]
    assert scene.lifecycle.report is not None
    assert scene.lifecycle.report.clean
    assert scene.lifecycle.report.ended == {"job": 3}


def test_the_server_is_waited_for_as_well() -> None:
    async def story(scene: Scene) -> None:
        scene.server.lingers = 4
        await scene.serve()
        scene.lifecycle.begin("SIGTERM")
        await scene.end()

    scene = play(story)
    assert scene.log[-6:] == released_at(9, 27.5)


def test_out_of_time_is_cut_off() -> None:
    async def story(scene: Scene) -> None:
        await scene.serve()
        scene.work(1000, "endless")
        scene.work(2, "short")
        scene.lifecycle.begin("SIGTERM")
        await scene.end()

    scene = play(story)
    assert scene.log == [
        *STARTED,
        (0, "lame_duck"),
        (2, "short ended"),
        (5, "draining"),
        (5, "listener closed"),
        (22, "break off 0"),
        (22, "endless cancelled"),
        *released_at(22, 27.5),
    ]
    report = scene.lifecycle.report
    assert report is not None
    assert (report.outcome, report.exit_code) == (Outcome.NOT_CLEAN, ExitCode.CUT_OFF)
    assert [(entry.name, entry.seconds, entry.ended) for entry in report.cut_off] == [("endless", 22, True)]
    assert {kind: count for kind, count in report.ended.items() if count} == {"job": 1}


def test_a_server_that_does_not_drain_is_cut_off_too() -> None:
    async def story(scene: Scene) -> None:
        scene.server.lingers = 1000
        await scene.serve()
        scene.lifecycle.begin("SIGTERM")
        await scene.end()

    scene = play(story)
    assert (22, "break off 0") in scene.log
    assert (22, "drain cancelled") in scene.log
    assert scene.log[-6:] == released_at(22, 27.5)


@pytest.mark.parametrize(
    ("arguments", "cut_off_at"),
    [
        ({"drain_timeout": 4}, 9.0),
        ({"lame_duck": 1}, 22.0),
        ({"release_timeout": 8}, 19.0),
        ({"pre_stop": 6}, 16.0),
    ],
)
def test_the_settings_are_the_timeline(arguments: dict[str, Any], cut_off_at: float) -> None:
    async def story(scene: Scene) -> None:
        await scene.serve()
        scene.work(1000)
        scene.lifecycle.begin("SIGTERM")
        await scene.end()

    scene = play(story, **arguments)
    assert (cut_off_at, "job cancelled") in scene.log


def test_a_signal_counts_from_its_coming_not_from_its_being_read() -> None:
    async def story(scene: Scene) -> None:
        await scene.serve()
        scene.work(1000)
        await asyncio.sleep(4)  # the loop stood still from 1 to 4
        scene.lifecycle.begin("SIGTERM", at=1.0)
        await scene.end()

    scene = play(story)
    assert [when for when, what in scene.log if what in {"lame_duck", "draining", "releasing"}] == [4, 6, 23]
    assert scene.in_flight.left_at == 1.0


def test_a_loop_that_stood_still_for_the_whole_lame_duck() -> None:
    async def story(scene: Scene) -> None:
        await scene.serve()
        await asyncio.sleep(50)
        scene.lifecycle.begin("SIGTERM", at=10.0)
        await scene.end()

    scene = play(story)
    assert [what for _, what in scene.log[4:7]] == ["lame_duck", "draining", "listener closed"]
    assert scene.log[-6:] == released_at(50, 37.5)


def test_the_release_gets_everything_up_to_its_end() -> None:
    async def story(scene: Scene) -> None:
        scene.app.ends = 1
        scene.resources.goes = {"database": 20.0, "queue": 0.5}
        await scene.serve()
        scene.lifecycle.begin("SIGTERM")
        await scene.end()

    scene = play(story)
    assert scene.log[-6:] == [
        (5, "releasing"),
        (6, "app ended"),
        (6, "release may last until 27.5"),
        (6.5, "released queue"),
        (26.5, "released database"),
        (26.5, "stopped"),
    ]


def test_phases_of_no_length_are_entered_all_the_same() -> None:
    async def story(scene: Scene) -> None:
        await scene.serve()
        scene.lifecycle.begin("SIGINT", lame_duck=False)
        await scene.end()

    scene = play(story, drain_timeout=0)
    assert scene.log == [
        *STARTED,
        (0, "lame_duck"),
        (0, "draining"),
        (0, "listener closed"),
        *released_at(0, 27.5),
    ]
    assert scene.lifecycle.report is not None
    assert scene.lifecycle.report.clean


def test_without_lame_duck_a_late_arrival_is_no_warning() -> None:
    """There was no lame duck that could have been too short."""

    async def story(scene: Scene) -> None:
        await scene.serve()
        scene.work(10)
        scene.lifecycle.begin("limit_max_requests", lame_duck=False)
        scene.loop.call_later(4.9, lambda: scene.in_flight.arrived_late(scene.loop.time()))
        await scene.end()

    report = play(story).lifecycle.report
    assert report is not None
    assert (report.arrivals, report.last_arrival) == (1, 4.9)
    assert report.lame_duck == 0
    assert report.enough_lame_duck is None


def test_the_lame_duck_in_the_report_is_the_one_there_was() -> None:
    async def story(scene: Scene) -> None:
        await scene.serve()
        scene.lifecycle.begin("SIGTERM")
        scene.loop.call_later(4.5, lambda: scene.in_flight.arrived_late(scene.loop.time()))
        await scene.end()

    report = play(story).lifecycle.report
    assert report is not None
    assert (report.lame_duck, report.enough_lame_duck) == (5, 6)


def test_the_lame_duck_ends_when_the_server_has_left() -> None:
    async def story(scene: Scene) -> None:
        await scene.serve()
        scene.lifecycle.begin("SIGTERM")
        scene.loop.call_later(2, scene.lifecycle.end_lame_duck)
        await scene.end()

    scene = play(story)
    assert [when for when, what in scene.log if what == "draining"] == [2]


def test_a_second_begin_changes_nothing() -> None:
    async def story(scene: Scene) -> None:
        await scene.serve()
        scene.lifecycle.begin("SIGTERM")
        for seconds in (1, 6, 20):
            scene.loop.call_later(seconds, lambda: scene.lifecycle.begin("SIGINT", at=99.0, lame_duck=False))
        scene.work(8)
        await scene.end()
        scene.lifecycle.begin("SIGTERM")

    scene = play(story)
    assert scene.log == [
        *STARTED,
        (0, "lame_duck"),
        (5, "draining"),
        (5, "listener closed"),
        (8, "job ended"),
        *released_at(8, 27.5),
    ]
    assert scene.lifecycle.reason == "SIGTERM"


@pytest.mark.parametrize(("when", "phases"), [(2.0, [0, 2, 2]), (7.0, [0, 5, 7])])
@pytest.mark.parametrize("lingers", [0.0, 1000.0])
def test_hurry(when: float, phases: list[float], lingers: float) -> None:
    async def story(scene: Scene) -> None:
        scene.server.lingers = lingers
        await scene.serve()
        scene.work(1000)
        scene.lifecycle.begin("SIGINT")
        scene.loop.call_later(when, scene.lifecycle.hurry)
        await scene.end()

    scene = play(story)
    entered = ("lame_duck", "draining", "releasing")
    assert [at for at, what in scene.log if what in entered] == phases
    assert (when, "listener closed") in scene.log or when > 5
    assert (when, "job cancelled") in scene.log
    report = scene.lifecycle.report
    assert report is not None
    assert (report.outcome, report.exit_code) == (Outcome.INTERRUPTED, ExitCode.INTERRUPTED)
    assert [what for _, what in scene.log[-4:]] == [
        "release may last until 27.5",
        "released queue",
        "released database",
        "stopped",
    ]


# Startup.


def test_a_startup_that_fails_half_way_gives_back_what_it_had() -> None:
    async def story(scene: Scene) -> None:
        scene.resources.failing = "queue"
        scene.resources.comes["queue"] = 1.0
        with pytest.raises(OSError, match=DIED):
            await scene.lifecycle.start()

    scene = play(story)
    assert scene.log == [
        (0, "acquired database"),
        (1, "releasing"),
        (1, "app ended"),
        (1, "release may last until 28.5"),
        (1, "released database"),
        (1, "stopped"),
    ]
    report = scene.lifecycle.report
    assert report is not None
    assert (report.outcome, report.exit_code) == (Outcome.FAILED, ExitCode.FAILED)
    assert str(report.failure).endswith("OSError: it died")
    assert report.phases == {Phase.STARTING: 1, Phase.RELEASING: 0}
    assert report.lame_duck == 0
    assert scene.lifecycle.finished.is_set()


def test_an_app_that_fails_to_start() -> None:
    async def story(scene: Scene) -> None:
        scene.app.start_problem = ValueError("no\nconfiguration")
        with pytest.raises(ValueError, match="no\nconfiguration"):
            await scene.lifecycle.start()

    scene = play(story)
    assert [what for _, what in scene.log] == [
        "acquired database",
        "acquired queue",
        "releasing",
        "app ended",
        "release may last until 27.5",
        "released queue",
        "released database",
        "stopped",
    ]
    assert scene.lifecycle.report is not None
    assert "\n" not in str(scene.lifecycle.report.failure)


def test_the_failure_is_logged_with_the_users_traceback(caplog: pytest.LogCaptureFixture) -> None:
    async def story(scene: Scene) -> None:
        scene.app.start_problem = ValueError("no configuration")
        with pytest.raises(ValueError, match="no configuration"):
            await scene.lifecycle.start()

    play(story)
    (record,) = [record for record in caplog.records if record.exc_info]
    assert record.name == "graceful"
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], ValueError)


def test_a_startup_that_is_interrupted() -> None:
    async def story(scene: Scene) -> None:
        scene.resources.comes["queue"] = 10.0
        scene.loop.call_later(4, scene.lifecycle.begin, "SIGTERM")
        with pytest.raises(StartupInterrupted, match=r"^startup was interrupted by SIGTERM$"):
            await scene.lifecycle.start()

    scene = play(story)
    assert scene.log == [
        (0, "acquired database"),
        (4, "releasing"),
        (4, "app ended"),
        (4, "release may last until 31.5"),
        (4, "released database"),
        (4, "stopped"),
    ]
    report = scene.lifecycle.report
    assert report is not None
    assert (report.reason, report.outcome, report.exit_code) == ("SIGTERM", Outcome.CLEAN, ExitCode.OK)


def test_interrupted_while_the_app_starts() -> None:
    async def story(scene: Scene) -> None:
        scene.app.starts = 10.0
        scene.loop.call_later(4, scene.lifecycle.begin, "SIGTERM")
        with pytest.raises(StartupInterrupted):
            await scene.lifecycle.start()

    assert play(story).log == [
        (0, "acquired database"),
        (0, "acquired queue"),
        (4, "app startup cancelled"),
        *released_at(4, 31.5),
    ]


def test_interrupted_before_it_began_nothing_is_started() -> None:
    async def story(scene: Scene) -> None:
        scene.lifecycle.begin("SIGTERM")
        with pytest.raises(StartupInterrupted):
            await scene.lifecycle.start()

    assert play(story).log == [
        (0, "releasing"),
        (0, "app ended"),
        (0, "release may last until 27.5"),
        (0, "stopped"),
    ]


def test_interrupted_while_the_startup_fails_is_interrupted() -> None:
    async def story(scene: Scene) -> None:
        async def stubborn() -> None:
            try:
                await asyncio.sleep(1000)
            except asyncio.CancelledError:
                raise OSError(DIED) from None

        scene.app.startup = stubborn  # type: ignore[method-assign]
        scene.loop.call_later(4, scene.lifecycle.begin, "SIGTERM")
        with pytest.raises(StartupInterrupted):
            await scene.lifecycle.start()

    assert play(story).log[-6:] == released_at(4, 31.5)


def test_a_startup_that_swallows_its_cancellation_has_no_more_time_than_the_drain() -> None:
    async def story(scene: Scene) -> None:
        async def stubborn() -> None:
            for _ in range(3):
                try:
                    await asyncio.sleep(1000)
                except asyncio.CancelledError:
                    scene.note("swallowed")

        scene.app.startup = stubborn  # type: ignore[method-assign]
        scene.loop.call_later(4, scene.lifecycle.begin, "SIGTERM")
        with pytest.raises(StartupInterrupted):
            await scene.lifecycle.start()

    log = play(story).log
    assert log[2] == (4, "swallowed")
    assert log[3:9] == released_at(26, 31.5)


def test_begun_between_startup_and_serving() -> None:
    async def story(scene: Scene) -> None:
        await scene.lifecycle.start()
        scene.lifecycle.begin("SIGTERM")
        await asyncio.sleep(1)
        scene.lifecycle.serve()
        await scene.end()

    scene = play(story)
    assert [
        (when, what) for when, what in scene.log if what in {"serving", "lame_duck", "draining", "stopped"}
    ] == [
        (1, "serving"),
        (1, "lame_duck"),
        (5, "draining"),
        (5, "stopped"),
    ]


def test_who_awaits_the_startup_is_cancelled() -> None:
    async def story(scene: Scene) -> None:
        scene.app.starts = 1000
        starting = asyncio.ensure_future(scene.lifecycle.start())
        await asyncio.sleep(3)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting

    scene = play(story)
    assert sorted(what for when, what in scene.log if when == 3) == sorted(
        [
            "app startup cancelled",
            "releasing",
            "app ended",
            "release may last until 30.5",
            "released queue",
            "released database",
            "stopped",
        ]
    )


def test_failing_after_the_startup() -> None:
    """The listener could not be had."""

    async def story(scene: Scene) -> None:
        await scene.lifecycle.start()
        await scene.lifecycle.fail(OSError("port in use"))

    scene = play(story)
    assert scene.log[3:] == released_at(0, 27.5)
    assert scene.lifecycle.report is not None
    assert scene.lifecycle.report.exit_code == ExitCode.FAILED
    assert "port in use" in str(scene.lifecycle.report.failure)


# What goes wrong on the way.


def test_an_app_whose_lifespan_hangs_has_its_share() -> None:
    async def story(scene: Scene) -> None:
        scene.app.ends = 1000
        await scene.serve()
        scene.lifecycle.begin("SIGTERM")
        await scene.end()

    scene = play(story)
    assert [(when, what) for when, what in scene.log if when > 5] == [
        (12.5, "app shutdown cancelled"),
        (12.5, "release may last until 27.5"),
        (12.5, "released queue"),
        (12.5, "released database"),
        (12.5, "stopped"),
    ]
    report = scene.lifecycle.report
    assert report is not None
    assert [(entry.name, entry.outcome) for entry in report.resources] == [
        ("app lifespan", "timed out"),
        ("queue", "released"),
        ("database", "released"),
    ]
    assert report.exit_code == ExitCode.CUT_OFF


@pytest.mark.parametrize("problem", [OSError(DIED), asyncio.CancelledError()])
def test_an_app_whose_lifespan_fails_at_the_end(problem: BaseException) -> None:
    async def story(scene: Scene) -> None:
        scene.app.end_problem = problem
        await scene.serve()
        scene.lifecycle.begin("SIGTERM")
        await scene.end()

    scene = play(story)
    report = scene.lifecycle.report
    assert report is not None
    assert [(entry.name, entry.outcome) for entry in report.resources] == [
        ("app lifespan", "failed"),
        ("queue", "released"),
        ("database", "released"),
    ]
    assert report.resources[0].error == text_of(problem)
    assert report.exit_code == ExitCode.CUT_OFF


def test_an_app_that_cancels_all_tasks_in_its_shutdown_skips_no_release() -> None:
    async def story(scene: Scene) -> None:
        scene.app.ends = 1
        await scene.serve()
        scene.lifecycle.begin("SIGTERM", lame_duck=False)
        await asyncio.sleep(0.5)
        assert scene.lifecycle._ending is not None
        scene.lifecycle._ending.cancel()
        await scene.end()

    scene = play(story)
    told = [what for _, what in scene.log if what.startswith("released") or what == "stopped"]
    assert told == ["released queue", "released database", "stopped"]


def test_a_resource_that_fails_is_in_the_exit_code() -> None:
    async def story(scene: Scene) -> None:
        scene.resources.outcome = "failed"
        await scene.serve()
        scene.lifecycle.begin("SIGTERM")
        await scene.end()

    report = play(story).lifecycle.report
    assert report is not None
    assert (report.outcome, report.exit_code) == (Outcome.NOT_CLEAN, ExitCode.CUT_OFF)


def test_a_server_that_cannot_tell_its_clients_is_shut_down_all_the_same(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def story(scene: Scene) -> None:
        scene.server.leave_problem = AttributeError("cycle")
        await scene.serve()
        scene.lifecycle.begin("SIGTERM", lame_duck=False)
        await scene.end()

    assert (0, "stopped") in play(story).log
    assert "responses could not be told of the shutdown; it begins all the same" in caplog.messages


def test_a_server_whose_drain_fails_releases_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    async def story(scene: Scene) -> None:
        scene.server.problem = OSError(DIED)
        await scene.serve()
        scene.lifecycle.begin("SIGTERM")
        await scene.end()

    scene = play(story)
    assert scene.log[-6:] == released_at(5, 27.5)
    assert scene.lifecycle.report is not None
    assert scene.lifecycle.report.exit_code == ExitCode.FAILED
    assert any(record.exc_info and record.levelname == "ERROR" for record in caplog.records)


def test_a_shutdown_that_is_cancelled_releases_all_the_same() -> None:
    """As by an asyncio.run that is left, which cancels every task of its loop."""

    async def story(scene: Scene) -> None:
        await scene.serve()
        scene.lifecycle.begin("SIGTERM")
        await asyncio.sleep(2)
        assert scene.lifecycle._ending is not None
        scene.lifecycle._ending.cancel()
        await scene.end()

    scene = play(story)
    assert [what for _, what in scene.log[-7:]] == [
        "draining",
        "releasing",
        "app ended",
        "release may last until 27.5",
        "released queue",
        "released database",
        "stopped",
    ]


def test_observers_that_raise_stop_nobody(caplog: pytest.LogCaptureFixture) -> None:
    async def story(scene: Scene) -> None:
        def broken(change: PhaseChange) -> None:
            raise ZeroDivisionError

        scene.observers.add(broken)
        scene.observers.add(lambda change: scene.note(f"also told of {change.phase}"))
        await scene.serve()
        scene.lifecycle.begin("SIGTERM")
        await scene.end()

    scene = play(story)
    phases = ["serving", "lame_duck", "draining", "releasing", "stopped"]
    assert [what for _, what in scene.log if what in phases] == phases
    assert [what for _, what in scene.log if what.startswith("also")] == [
        f"also told of {phase}" for phase in phases
    ]
    failures = [record.getMessage() for record in caplog.records if record.exc_info]
    assert len(failures) == 5
    assert failures[0].startswith("observer ")
    assert "broken raised when told of phase serving; the run goes on" in failures[0]
    assert scene.lifecycle.report is not None
    assert scene.lifecycle.report.clean


def test_serving_twice_is_refused() -> None:
    async def story(scene: Scene) -> None:
        await scene.serve()
        with pytest.raises(PhaseError):
            scene.lifecycle.serve()

    assert play(story).log == STARTED


# What is said.


def messages(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.name.startswith("graceful") and record.levelno == level
    ]


@pytest.mark.parametrize(("audible", "level"), [(True, logging.INFO), (False, logging.DEBUG)])
def test_what_is_said_on_the_way(audible: bool, level: int, caplog: pytest.LogCaptureFixture) -> None:  # noqa: FBT001
    caplog.set_level(logging.DEBUG, "graceful")

    async def story(scene: Scene) -> None:
        await scene.serve()
        scene.work(7)
        scene.lifecycle.begin("SIGTERM")
        await scene.end()

    scene = play(story, audible=audible)
    assert scene.lifecycle.report is not None
    assert messages(caplog, level) == [
        "SIGTERM: lame duck for 5.0 s: still serving, not ready",
        "Draining: 1 in flight, at most 17.0 s",
        "Releasing: 2 resources, at most 20.5 s",
        scene.lifecycle.report.as_text(),
    ]
    (record,) = [record for record in caplog.records if record.name == "graceful.report"]
    assert cast("Any", record).report is scene.lifecycle.report
    assert {record.levelno for record in caplog.records if record.name.startswith("graceful")} == {level}


@pytest.mark.parametrize("audible", [True, False])
def test_a_run_that_was_not_clean_is_said_louder(audible: bool, caplog: pytest.LogCaptureFixture) -> None:  # noqa: FBT001
    caplog.set_level(logging.DEBUG, "graceful")

    async def story(scene: Scene) -> None:
        await scene.serve()
        scene.work(1000)
        scene.lifecycle.begin("SIGTERM", lame_duck=False)
        await scene.end()

    play(story, audible=audible, drain_timeout=1)
    (record,) = [record for record in caplog.records if record.name == "graceful.report"]
    assert (record.levelno >= logging.WARNING) is audible
    assert "SIGTERM: no lame duck" in [record.getMessage() for record in caplog.records]


def test_an_adopted_server_has_its_own_exit_code() -> None:
    async def story(scene: Scene) -> None:
        await scene.serve()
        scene.lifecycle.begin("SIGTERM")
        await scene.end()

    report = play(story, owned=False).lifecycle.report
    assert report is not None
    assert report.exit_code is None


def test_what_began_in_which_phase() -> None:
    async def story(scene: Scene) -> None:
        await scene.serve()
        scene.in_flight.http = 3
        scene.lifecycle.begin("SIGTERM")
        await asyncio.sleep(1)
        scene.in_flight.http = 5
        scene.loop.call_at(5, lambda: None)
        await scene.end()
        found = {
            str(phase): count
            for (kind, phase), count in scene.in_flight.begun(Phase.STOPPED).items()
            if count
        }
        assert found == {"serving": 3, "lame_duck": 2}

    play(story)


@pytest.mark.parametrize(("platform", "refused"), [("kubernetes", 3), ("systemd", None)])
@pytest.mark.parametrize("counted", [True, False])
def test_who_came_when_nobody_listened(
    monkeypatch: pytest.MonkeyPatch, platform: str, refused: int | None, *, counted: bool
) -> None:
    counters = iter((7, 10))
    monkeypatch.setattr("graceful.lifecycle.resets_sent", lambda: next(counters) if counted else None)
    monkeypatch.setattr(ProcessTable, "is_machines", False)

    async def story(scene: Scene) -> None:
        await scene.serve()
        scene.lifecycle.begin("SIGTERM")
        await scene.end()

    scene = play(story, platform=platform)
    report = scene.lifecycle.report
    assert report is not None
    assert report.refused == (refused if counted else None)
