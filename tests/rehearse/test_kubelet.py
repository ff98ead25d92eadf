"""One replica's life, event by event, on a clock that jumps."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
from typing import Any

import pytest

from graceful.rehearse.commands import Ended
from graceful.rehearse.model import (
    Death,
    Event,
    Exec,
    Happening,
    HttpGet,
    Probe,
    ProbeName,
    RestartPolicy,
    Service,
    TcpSocket,
)
from graceful.rehearse.probing import Result
from tests.jumping_loop import jump
from tests.rehearse.life import BROKEN, OK, REFUSED, FakeProcess, Life, after, now, play, probes

HTTP = Probe(action=HttpGet())


def service(**more: Any) -> Service:
    return Service(name="web", command=("serve",), **more)


def starts(it: Life) -> list[float]:
    return [event.at for event in it.events if event.what in {Happening.STARTED, Happening.RESTARTED}]


# Readiness.


def test_a_deletion_from_beginning_to_end() -> None:
    def life() -> Life:
        return Life(
            service(readiness=HTTP, pre_stop=5.0, stop_signal="SIGINT"),
            process=lambda _: FakeProcess(leaves=7.0),
            answer=lambda at, _: OK if at < 30 else BROKEN,
        )

    it, death = play(life, after(21))

    assert it.said() == [
        "0 created",
        "0 process started (pid 42)",
        "0 readiness ok: 200",
        "0 ready",
        "10 readiness ok: 200",
        "20 readiness ok: 200",
        "21 taken away",
        "21 preStop began (sleep 5 s)",
        "26 preStop ended",
        "26 signal sent (SIGINT)",
        "30 readiness failed: 500",
        "33 process ended 0",
        "33 not ready (the process has ended)",
    ]
    assert it.processes[0].signals == [(26, "SIGINT")]
    assert death == Death(
        replica="web-1",
        taken_away=21,
        signalled=26,
        unlisted=None,
        not_ready=33,
        listener_closed=None,
        killed=None,
        ended=33,
        code=0,
    )


def test_a_readiness_that_flips_is_told_each_time_and_needs_its_thresholds() -> None:
    probe = Probe(action=HttpGet(), period=1, success_threshold=3, failure_threshold=2)
    results = "+++-+--++-+++"

    def life() -> Life:
        return Life(service(readiness=probe), answer=lambda at, _: OK if results[int(at)] == "+" else BROKEN)

    it, _ = play(life, after(12.5))
    flips = [
        (event.at, event.what)
        for event in it.events
        if event.what in {Happening.READY, Happening.NOT_READY} and event.at < 12.5
    ]
    assert flips == [(2, Happening.READY), (6, Happening.NOT_READY), (12, Happening.READY)]


def test_without_a_readiness_probe_it_is_ready_when_it_accepts_connections() -> None:
    asked: list[Any] = []

    def answer(at: float, action: Any) -> Result:
        asked.append(action)
        return OK if at >= 1.2 else REFUSED

    it, death = play(lambda: Life(service(), answer=answer), after(5))
    assert it.said()[2:4] == ["1.2 ready (it accepts connections)", "5 taken away"]
    assert set(asked) == {TcpSocket()}
    assert death is not None
    assert death.not_ready == death.ended == 5


def test_a_probe_that_is_refused_after_the_decision_tells_when_the_listener_closed() -> None:
    probe = Probe(action=HttpGet(), period=1)

    def life() -> Life:
        return Life(
            service(readiness=probe),
            process=lambda _: FakeProcess(leaves=5.0),
            answer=lambda at, _: OK if 2 <= at < 11 else REFUSED,
        )

    it, death = play(life, after(10))
    assert [each for each in it.said() if "listener" in each] == ["11 listener closed (refused a probe)"]
    assert death is not None
    assert (death.listener_closed, death.not_ready, death.ended) == (11, 13, 15)


def test_a_listener_that_closed_in_a_restart_is_not_one_that_closed_in_the_death() -> None:
    liveness = Probe(action=HttpGet(path="/live"), period=1, failure_threshold=1)

    def answer(at: float, action: HttpGet) -> Result:
        if action.path == "/live":
            return BROKEN if at == 5 else OK
        return REFUSED if 6 <= at < 10 else OK

    def life() -> Life:
        each = service(liveness=liveness, readiness=Probe(action=HttpGet(), period=1))
        return Life(each, process=lambda _: FakeProcess(leaves=3.0), answer=answer)

    it, death = play(life, after(20))
    assert [each for each in it.said() if "listener" in each] == ["6 listener closed (refused a probe)"]
    assert death is not None
    assert (death.listener_closed, death.ended) == (None, 23)


def test_who_waits_for_readiness_hears_of_it_or_that_it_will_not_be() -> None:
    async def ready(it: Life) -> None:
        assert await it.kubelet.became_ready()
        assert now() == 10
        assert it.kubelet.is_ready
        await it.kubelet.terminate()

    play(lambda: Life(service(readiness=HTTP), answer=lambda at, _: OK if at else BROKEN), ready)

    async def gone(it: Life) -> None:
        assert not await it.kubelet.became_ready()
        assert now() == 3

    never = service(readiness=HTTP, restart_policy=RestartPolicy.NEVER)
    play(lambda: Life(never, process=lambda _: FakeProcess(lives=3), answer=lambda *_: BROKEN), gone)

    async def hopeless(it: Life) -> None:
        assert not await it.kubelet.became_ready()
        assert now() == 6
        await it.kubelet.terminate()

    crashing = service(readiness=HTTP)
    play(lambda: Life(crashing, process=lambda _: FakeProcess(lives=3), answer=lambda *_: BROKEN), hopeless)


# Startup and liveness.


def test_startup_holds_the_other_two_back() -> None:
    startup = Probe(action=Exec(command=("started",)), period=4, failure_threshold=10)
    liveness = Probe(action=HttpGet(path="/healthz"), period=10, initial_delay=20)
    readiness = Probe(action=HttpGet(path="/ready"), period=10, initial_delay=5)

    def answer(at: float, action: Any) -> Result:
        return OK if not isinstance(action, Exec) or at >= 10 else BROKEN

    it, _ = play(
        lambda: Life(service(startup=startup, liveness=liveness, readiness=readiness), answer=answer),
        after(35),
    )
    assert probes(it, ProbeName.STARTUP) == [(0, False), (4, False), (8, False), (12, True)]
    assert probes(it, ProbeName.LIVENESS) == [(20, True), (30, True)]
    assert probes(it, ProbeName.READINESS) == [(12, True), (22, True), (32, True)]


def test_liveness_ends_the_process_and_it_is_started_again_and_not_ready_at_once() -> None:
    liveness = Probe(action=HttpGet(path="/healthz"), period=5, failure_threshold=2)
    readiness = Probe(action=HttpGet(path="/ready"), period=5, initial_delay=3)

    def answer(at: float, action: Any) -> Result:
        return BROKEN if action.path == "/healthz" and 10 <= at < 16 else OK

    def life() -> Life:
        each = service(liveness=liveness, readiness=readiness, pre_stop=1.0)
        return Life(each, process=lambda _: FakeProcess(leaves=2.0), answer=answer)

    it, _ = play(life, after(25))
    assert it.said(Happening.PROBED)[: -it.said(Happening.PROBED)[::-1].index("25 taken away")] == [
        "0 created",
        "0 process started (pid 42)",
        "3 ready",
        "15 preStop began (sleep 1 s)",
        "16 preStop ended",
        "16 signal sent (SIGTERM: the liveness probe has failed)",
        "18 process ended 0",
        "18 not ready (the process has ended)",
        "18 started again (pid 42)",
        "21 ready",
        "25 taken away",
    ]
    assert it.kubelet.restarts == 1
    assert [at for at, _ in probes(it, ProbeName.LIVENESS)] == [0, 5, 10, 15, 18, 23]


@pytest.mark.parametrize(("own", "killed"), [(None, 30 + 45), (3.0, 30 + 3)])
def test_a_process_that_liveness_ends_has_the_probes_grace_period_or_the_services(
    own: float | None, killed: float
) -> None:
    liveness = Probe(action=HttpGet(), initial_delay=10, grace_period=own)

    def life() -> Life:
        stubborn = service(liveness=liveness, grace_period=45.0)
        return Life(stubborn, process=lambda _: FakeProcess(leaves=None), answer=lambda *_: BROKEN)

    it, _ = play(life, after(100))
    assert f"{killed:g} SIGKILL sent" in it.said()
    assert f"{killed:g} process ended -9" in it.said()


def test_a_startup_that_never_succeeds_ends_in_restarts_and_the_others_are_never_asked() -> None:
    startup = Probe(action=HttpGet(), period=2, failure_threshold=3)

    def life() -> Life:
        return Life(service(startup=startup, liveness=HTTP, readiness=HTTP), answer=lambda *_: BROKEN)

    it, death = play(life, after(20))
    assert starts(it) == [0, 4, 4 + 4 + 10]
    assert "4 signal sent (SIGTERM: the startup probe has failed)" in it.said()
    assert {event.probe for event in it.events} == {None, ProbeName.STARTUP}
    assert death is not None
    assert death.not_ready is None


def test_liveness_and_startup_stop_while_terminating() -> None:
    probe = Probe(action=HttpGet(), period=1)

    def life() -> Life:
        answers = {"/live": lambda at: at < 5, "/ready": lambda at: at < 5}
        return Life(
            service(
                liveness=dataclasses.replace(probe, action=HttpGet(path="/live")),
                readiness=dataclasses.replace(probe, action=HttpGet(path="/ready")),
            ),
            process=lambda _: FakeProcess(leaves=20.0),
            answer=lambda at, action: OK if answers[action.path](at) else BROKEN,
        )

    it, death = play(life, after(4.5))
    assert probes(it, ProbeName.LIVENESS)[-1] == (4, True)
    assert probes(it, ProbeName.READINESS)[-1] == (24, False)
    assert len(starts(it)) == 1
    assert death is not None
    assert (death.not_ready, death.ended) == (7, 24.5)

    startup = Probe(action=HttpGet(), period=1, failure_threshold=10)
    it, death = play(
        lambda: Life(
            service(startup=startup), process=lambda _: FakeProcess(leaves=20.0), answer=lambda *_: BROKEN
        ),
        after(4.5),
    )
    assert probes(it, ProbeName.STARTUP)[-1] == (4, False)


def test_a_deletion_in_the_middle_of_a_kill_by_liveness_has_a_grace_period_of_its_own() -> None:
    liveness = Probe(action=HttpGet(), failure_threshold=1, initial_delay=10)

    def life() -> Life:
        return Life(
            service(liveness=liveness, readiness=HTTP),
            process=lambda _: FakeProcess(leaves=None),
            answer=lambda *_: BROKEN,
        )

    it, death = play(life, after(20))
    assert it.processes[0].signals == [(10, "SIGTERM"), (20, "SIGTERM")]
    assert death is not None
    assert (death.signalled, death.killed, death.code) == (20, 50, -9)
    assert len(starts(it)) == 1


# Restarts.


def test_crashes_are_restarted_at_once_then_after_ten_seconds_doubled_to_five_minutes() -> None:
    it, death = play(lambda: Life(service(), process=lambda _: FakeProcess(lives=1, code=3)), after(1500))
    begun = starts(it)
    assert [later - earlier - 1 for earlier, later in itertools.pairwise(begun)] == [
        0, 10, 20, 40, 80, 160, 300, 300, 300,
    ]  # fmt: skip
    assert it.kubelet.restarts == 9
    assert death is not None
    assert (death.signalled, death.code, death.ended) == (None, 3, begun[-1] + 1)


def test_ten_minutes_without_trouble_and_the_past_is_forgotten() -> None:
    lives = [1, 1, 1, 600, 1, 1]
    it, _ = play(
        lambda: Life(service(), process=lambda which: FakeProcess(lives=[*lives, 9000][which], code=1)),
        after(2000),
    )
    begun = starts(it)
    pauses = [later - earlier - lived for earlier, later, lived in zip(begun, begun[1:], lives, strict=False)]
    assert pauses == [0, 10, 20, 0, 10, 20]


@pytest.mark.parametrize(
    ("policy", "code", "again"),
    [
        (RestartPolicy.ALWAYS, 0, True),
        (RestartPolicy.ALWAYS, 1, True),
        (RestartPolicy.ON_FAILURE, 0, False),
        (RestartPolicy.ON_FAILURE, 1, True),
        (RestartPolicy.NEVER, 0, False),
        (RestartPolicy.NEVER, 1, False),
    ],
)
def test_the_policy_says_whether_it_is_started_again(policy: RestartPolicy, code: int, again: bool) -> None:  # noqa: FBT001 - a column of the table
    def process(which: int) -> FakeProcess:
        return FakeProcess(lives=None if which else 2, code=code)

    it, _ = play(lambda: Life(service(restart_policy=policy), process=process), after(5))
    assert len(starts(it)) == 1 + again


@pytest.mark.parametrize(
    ("policy", "again"), [(RestartPolicy.ON_FAILURE, True), (RestartPolicy.NEVER, False)]
)
def test_a_kill_by_liveness_is_a_failure_whatever_the_exit_code(policy: RestartPolicy, again: bool) -> None:  # noqa: FBT001 - a column of the table
    liveness = Probe(action=HttpGet(), failure_threshold=1)

    def life() -> Life:
        return Life(
            service(liveness=liveness, restart_policy=policy), answer=lambda at, _: OK if at else BROKEN
        )

    it, _ = play(life, after(5))
    assert len(starts(it)) == 1 + again


# Init commands.


def test_init_commands_come_one_after_the_other_before_the_start() -> None:
    def command(arguments: tuple[str, ...]) -> tuple[float, Ended]:
        return (3.0 if arguments[0] == "migrate" else 1.0), Ended(code=0, line="")

    init = (("migrate", "up"), ("warm", "8000"))
    it, _ = play(lambda: Life(service(init_commands=init), command=command), after(6))
    assert it.said()[:4] == [
        "0 created",
        "3 init command ended 0 (migrate up)",
        "4 init command ended 0 (warm 8000)",
        "4 process started (pid 42)",
    ]


def test_a_failing_init_command_is_tried_again_and_holds_the_start_back() -> None:
    def life() -> Life:
        codes = iter([1, 1, 1, 0])
        return Life(
            service(init_commands=(("migrate",),)),
            command=lambda _: (2.0, Ended(code=next(codes), line="no database")),
        )

    it, _ = play(life, after(60))
    assert it.said()[1:6] == [
        "2 init command ended 1 (migrate: no database)",
        "4 init command ended 1 (migrate: no database)",
        "16 init command ended 1 (migrate: no database)",
        "38 init command ended 0 (migrate: no database)",
        "38 process started (pid 42)",
    ]


def test_with_the_policy_never_a_failing_init_command_is_the_end() -> None:
    async def then(it: Life) -> Death:
        assert not await it.kubelet.became_ready()
        return await it.kubelet.terminate()

    never = service(init_commands=(("migrate",),), restart_policy=RestartPolicy.NEVER)
    it, death = play(lambda: Life(never, command=lambda _: (2.0, Ended(code=1, line=""))), then)
    assert it.said() == ["0 created", "2 init command ended 1 (migrate)", "2 taken away"]
    assert death is not None
    assert (death.signalled, death.ended, death.code) == (None, None, None)
    assert it.kubelet.process is None


@pytest.mark.parametrize("at", [1.0, 5.0])  # while it runs, and while it waits to be tried again
def test_a_deletion_cuts_init_short(at: float) -> None:
    def life() -> Life:
        return Life(service(init_commands=(("migrate",),)), command=lambda _: (2.0, Ended(code=1, line="")))

    it, death = play(life, after(at))
    assert it.said()[-1] == f"{at:g} taken away"
    assert starts(it) == []
    assert death is not None
    assert death.ended is None


# The end.


def test_sigkill_comes_when_the_grace_period_is_over() -> None:
    it, death = play(
        lambda: Life(service(grace_period=8.0, pre_stop=3.0), process=lambda _: FakeProcess(leaves=None)),
        after(1),
    )
    assert it.said()[-5:] == [
        "4 preStop ended",
        "4 signal sent (SIGTERM)",
        "9 SIGKILL sent",
        "9 process ended -9",
        "9 not ready (the process has ended)",
    ]
    assert death is not None
    assert (death.killed, death.code) == (9, -9)


@pytest.mark.parametrize(
    ("pre_stop", "ended", "detail"),
    [
        (4.0, 5, ""),
        (60.0, 6, "cut short"),
        (("sleep", "60"), 6, "cut short"),
        (("sleep", "4"), 5, "exit code 0"),
    ],
)
def test_after_pre_stop_at_least_two_seconds_are_left(pre_stop: Any, ended: float, detail: str) -> None:
    def life() -> Life:
        return Life(
            service(grace_period=5.0, pre_stop=pre_stop),
            process=lambda _: FakeProcess(leaves=None),
            command=lambda arguments: (float(arguments[1]), Ended(code=0, line="")),
        )

    it, death = play(life, after(1))
    (end,) = [event for event in it.events if event.what is Happening.PRE_STOP_ENDED]
    assert (end.at, end.detail, end.ok) == (ended, detail, detail != "cut short")
    assert death is not None
    assert (death.signalled, death.killed) == (ended, ended + 2)


def test_pre_stop_ends_with_the_process() -> None:
    it, death = play(
        lambda: Life(service(pre_stop=20.0), process=lambda _: FakeProcess(lives=4.0, code=5)), after(1)
    )
    assert it.said()[-3:] == [
        "4 process ended 5",
        "4 not ready (the process has ended)",
        "4 preStop ended (cut short)",
    ]
    assert death is not None
    assert (death.signalled, death.ended, death.code) == (None, 4, 5)


def test_without_a_grace_period_there_is_no_hook_and_the_kill_is_at_once() -> None:
    _, death = play(
        lambda: Life(service(grace_period=0.0, pre_stop=5.0), process=lambda _: FakeProcess(leaves=None)),
        after(1),
    )
    assert death is not None
    assert (death.signalled, death.killed) == (1, 1)


@pytest.mark.parametrize("at", [1.5, 5.0])  # running for the second time, and waiting for the third
def test_a_deletion_ends_the_restarts(at: float) -> None:
    it, death = play(lambda: Life(service(), process=lambda _: FakeProcess(lives=1.0, code=1)), after(at))
    assert starts(it) == [0, 1]
    assert death is not None
    assert death.ended == (1.5 if at == 1.5 else 2)


def test_the_death_waits_for_the_removal_and_says_when_it_was() -> None:
    async def removed() -> float:
        await asyncio.sleep(9)
        return now()

    async def then(it: Life) -> Death:
        await asyncio.sleep(1)
        death = await it.kubelet.terminate(removed())
        assert now() == 10
        return death

    _, death = play(lambda: Life(service()), then)
    assert death is not None
    assert (death.unlisted, death.ended) == (10, 1)


def test_a_deletion_waits_for_a_start_that_is_under_way() -> None:
    async def main(_: Any) -> list[str]:
        it = Life(service(), process=lambda _: FakeProcess(leaves=1.0))
        begin = it.kubelet._start

        async def slow() -> Any:
            await asyncio.sleep(3)
            return await begin()

        it.kubelet._start = slow
        running = asyncio.ensure_future(it.kubelet.run())
        await asyncio.sleep(1)
        await it.kubelet.terminate()
        await running
        return it.said()

    assert jump(main) == [
        "0 created",
        "1 taken away",
        "3 process started (pid 42)",
        "3 signal sent (SIGTERM)",
        "3 ready (it accepts connections)",
        "4 process ended 0",
        "4 not ready (the process has ended)",
    ]


def test_a_life_that_is_cancelled_leaves_no_process() -> None:
    async def then(it: Life) -> None:
        await asyncio.sleep(2)

    it, _ = play(
        lambda: Life(service(readiness=HTTP), process=lambda _: FakeProcess(leaves=None)), then, cancel=True
    )
    assert it.said()[-2:] == ["2 process ended -9", "2 not ready (the process has ended)"]


def test_a_command_that_cannot_be_started_is_the_callers_trouble() -> None:
    async def main(_: Any) -> None:
        it = Life(service())

        async def missing() -> Any:
            raise FileNotFoundError(2, "No such file or directory", "serve")

        it.kubelet._start = missing
        with pytest.raises(FileNotFoundError):
            await it.kubelet.run()
        assert not await it.kubelet.became_ready()

    jump(main)


def test_an_observer_that_fails_ends_the_life_and_the_process() -> None:
    async def main(_: Any) -> None:
        it = Life(service(readiness=HTTP), process=lambda _: FakeProcess(leaves=None))

        def fail(event: Event) -> None:
            if event.probe is not None:
                message = "no more room"
                raise RuntimeError(message)

        it.kubelet._tell = fail
        with pytest.raises(ExceptionGroup) as caught:
            await it.kubelet.run()
        assert caught.group_contains(RuntimeError, match="no more room")
        assert it.processes[0].code == -9

    jump(main)
