"""Checks: what passes and fails, in time, once however many ask; on asyncio's loop and on uvloop."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import contextvars
import functools
import logging
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from graceful.checks import CheckResult, Checks
from graceful.errors import SettingsError
from tests.both_loops import BOTH_LOOPS, Run, runs_on
from tests.jumping_loop import JumpingLoop, jump


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(params=BOTH_LOOPS)
def run(request: pytest.FixtureRequest) -> Run:
    return runs_on(request.param)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def checks(clock: Clock) -> Checks:
    return Checks(clock)


def readiness(checks: Checks) -> Callable[[], Any]:
    return lambda: checks.run("readiness")


class Answers:
    """A check that gives one answer after the other, returned or raised, and counts how often it is asked."""

    def __init__(self, *answers: Any) -> None:
        self._answers = iter(answers)
        self.asked = 0
        self.threads: list[int] = []

    def sync(self) -> Any:
        self.asked += 1
        self.threads.append(threading.get_ident())
        answer = next(self._answers, None)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    async def later(self) -> Any:
        await asyncio.sleep(0)
        return self.sync()


class Gate:
    """A check that blocks its thread until the test opens it."""

    def __init__(self) -> None:
        self.asked = 0
        self.begun = threading.Event()
        self.ended = threading.Event()
        self._open = threading.Event()

    def __call__(self) -> None:
        self.asked += 1
        self.begun.set()
        self._open.wait()
        self.ended.set()

    def open(self) -> None:
        self._open.set()


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open()


# Passing and failing.

VERDICTS = [
    (True, None),
    (None, None),
    (False, "it returned False"),
    (OSError("refused"), "OSError: refused"),
    (ValueError(), "ValueError"),
    (SystemExit(1), "SystemExit: 1"),
    (KeyboardInterrupt(), "KeyboardInterrupt"),
    (asyncio.CancelledError(), "CancelledError"),
    ("fine", "it returned 'fine'; expected True, False or None"),
    (1, "it returned 1; expected True, False or None"),
    ([1] * 50, "it returned [1, 1, 1, 1, 1, 1, ...]; expected True, False or None"),
]


@pytest.mark.parametrize("form", ["sync", "later"])
@pytest.mark.parametrize(("answer", "error"), VERDICTS, ids=repr)
def test_what_passes_and_what_fails(
    run: Run, checks: Checks, form: str, answer: Any, error: str | None
) -> None:
    answers = Answers(answer)
    checks.add(getattr(answers, form), probe="readiness", name="it")
    [result] = run(readiness(checks))
    assert (result.name, result.ok, result.error) == ("it", error is None, error)
    assert (answers.threads == [threading.get_ident()]) is (form == "later"), (
        "a sync check is not on the loop"
    )


def test_what_a_sync_check_returns_may_be_awaitable(run: Run, checks: Checks) -> None:
    answers = Answers(False)  # noqa: FBT003 - an answer

    def later() -> Awaitable[Any]:
        return answers.later()

    class Object:
        async def __call__(self) -> None:
            await answers.later()

    checks.add(lambda: answers.later(), probe="readiness", name="lambda")  # noqa: PLW0108
    checks.add(later, probe="readiness")
    checks.add(Object(), probe="readiness")
    checks.add(functools.partial(later), probe="readiness", name="partial")
    results = run(readiness(checks))
    assert [result.name for result in results] == ["lambda", "later", "Object", "partial"]
    assert sum(result.ok for result in results) == 3
    assert answers.asked == 4


def test_all_of_a_probe_run_at_the_same_time_but_those_excluded(run: Run, checks: Checks) -> None:
    async def main() -> None:
        both = asyncio.Barrier(2)

        async def first() -> None:
            await both.wait()

        async def second() -> bool:
            await both.wait()
            return False

        async def never() -> None:
            pytest.fail("excluded, or of another probe")

        checks.add(first, probe="readiness", timeout=10)
        checks.add(never, probe="readiness")
        checks.add(second, probe="readiness", timeout=10)
        checks.add(never, probe="liveness")
        results = await checks.run("readiness", exclude=["never", "unknown"])
        assert [(result.name, result.ok) for result in results] == [("first", True), ("second", False)]

    run(main)
    assert checks.names("readiness") == ("first", "never", "second")
    assert checks.names("liveness") == ("never",)
    assert [result.name for result in checks.results("readiness")] == ["first", "second"], "what is known"
    assert checks.results("liveness") == ()


def test_no_checks_at_all(run: Run, checks: Checks) -> None:
    assert run(readiness(checks)) == ()


variable = contextvars.ContextVar("variable", default="none")


def test_a_check_runs_in_the_context_of_its_declaration(run: Run, checks: Checks) -> None:
    seen: list[str] = []

    def declare() -> None:
        variable.set("declared")
        checks.add(lambda: seen.append(variable.get()), probe="readiness", name="sync", cache=0)
        checks.add(later, probe="readiness", cache=0)

    async def later() -> None:
        seen.append(variable.get())
        variable.set("of this run only")

    async def main() -> None:
        variable.set("of the request that asks")
        await checks.run("readiness")
        await checks.run("readiness")

    contextvars.copy_context().run(declare)
    run(main)
    assert seen == ["declared"] * 4


# Cache, single flight, threshold.


def test_a_result_is_cached(run: Run, checks: Checks, clock: Clock) -> None:
    answers = Answers()
    checks.add(answers.later, probe="readiness", cache=2)

    async def main() -> None:
        [first] = await checks.run("readiness")
        clock.now += 1.9
        assert await checks.run("readiness") == (first,)
        assert answers.asked == 1
        clock.now += 0.1
        await checks.run("readiness")
        assert answers.asked == 2

    run(main)


def test_a_cache_of_nothing(run: Run, checks: Checks) -> None:
    answers = Answers()
    checks.add(answers.later, probe="readiness", cache=0)
    run(readiness(checks))
    run(readiness(checks))
    assert answers.asked == 2


def test_a_thousand_probes_cause_one_run(run: Run, checks: Checks) -> None:
    async def main() -> None:
        answers, go = Answers(), asyncio.Event()

        async def check() -> Any:
            await go.wait()
            return await answers.later()

        checks.add(check, probe="readiness", timeout=20)
        probers = [asyncio.create_task(checks.run("readiness")) for _ in range(1000)]
        await asyncio.sleep(0)
        go.set()
        results = await asyncio.gather(*probers)
        assert answers.asked == 1
        assert {result for [result] in results} == {results[0][0]}

    run(main)


def test_a_prober_that_goes_away_cancels_nothing_for_the_others(run: Run, checks: Checks) -> None:
    async def main() -> None:
        begun, go = asyncio.Event(), asyncio.Event()

        async def check() -> None:
            begun.set()
            await go.wait()

        checks.add(check, probe="readiness", timeout=20)
        first, second = (asyncio.create_task(checks.run("readiness")) for _ in range(2))
        await begun.wait()
        first.cancel()
        await asyncio.wait({first})
        assert first.cancelled()
        go.set()
        [result] = await second
        assert result.ok

    run(main)


def test_a_run_that_all_probers_have_left_is_still_of_use(run: Run, checks: Checks) -> None:
    async def main() -> None:
        begun, go, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def check() -> None:
            begun.set()
            await go.wait()
            ended.set()

        checks.add(check, probe="readiness", timeout=20)
        prober = asyncio.create_task(checks.run("readiness"))
        await begun.wait()
        prober.cancel()
        go.set()
        await ended.wait()
        begun.clear()
        [result] = await checks.run("readiness")
        assert result.ok
        assert not begun.is_set(), "it has not been run again"

    run(main)


def test_a_check_counts_as_failing_after_failures_in_a_row(run: Run, checks: Checks, clock: Clock) -> None:
    answers = Answers(False, False, None, False, OSError("down"), False, False, True, False)  # noqa: FBT003
    checks.add(answers.later, probe="readiness", failure_threshold=3, name="it")
    seen = []
    for _ in range(9):
        [result] = run(readiness(checks))
        seen.append((result.ok, result.error))
        clock.now += 1
    assert seen == [
        (False, "it returned False"),
        (False, "it returned False"),
        (True, None),
        (True, "it returned False"),
        (True, "OSError: down"),
        (False, "it returned False"),
        (False, "it returned False"),
        (True, None),
        (True, "it returned False"),
    ]


def test_a_liveness_check_is_forgiven_from_the_start(run: Run, checks: Checks) -> None:
    checks.add(lambda: False, probe="liveness", failure_threshold=2, cache=0, name="it")
    assert [run(lambda: checks.run("liveness"))[0].ok for _ in range(2)] == [True, False]


def test_the_log_tells_each_change_once(
    run: Run, checks: Checks, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="graceful")
    down = OSError("down")
    answers = Answers(None, down, down, down, False, None, None)  # noqa: FBT003
    checks.add(answers.later, probe="readiness", failure_threshold=2, name="it")
    for _ in range(7):
        run(readiness(checks))
        clock.now += 1
    told = [record for record in caplog.records if record.name == "graceful"]
    assert [(record.levelname, record.getMessage(), bool(record.exc_info)) for record in told] == [
        ("DEBUG", "check it failed: OSError: down", False),
        ("WARNING", "check it failed: OSError: down", True),
        ("DEBUG", "check it failed: OSError: down", False),
        ("DEBUG", "check it failed: it returned False", False),
        ("INFO", "check it passes again", False),
    ]


# Time.


async def for_ever() -> None:
    await asyncio.Event().wait()


def test_a_check_that_hangs_fails_in_time() -> None:
    async def main(loop: JumpingLoop) -> None:
        checks = Checks(loop.time)
        checks.add(for_ever, probe="readiness", timeout=3, name="hangs")
        checks.add(Answers().later, probe="readiness", name="answers")
        hangs, answers = await checks.run("readiness")
        assert answers.ok
        assert loop.time() == 3
        assert (hangs.ok, hangs.seconds) == (False, 3)
        assert hangs.error is not None
        assert hangs.error.startswith("timed out after 3 s, at tests/test_checks.py:")
        assert hangs.error.endswith(" in for_ever")
        assert not checks.results("readiness")[0].ok
        await checks.run("readiness")
        assert loop.time() == 3, "cached"
        await asyncio.sleep(1)
        await checks.run("readiness")
        assert loop.time() == 7, "it accepted its cancellation, so it is asked again"

    jump(main)


def test_a_check_that_ignores_its_cancellation_is_not_asked_again_meanwhile() -> None:
    async def main(loop: JumpingLoop) -> None:
        checks = Checks(loop.time)
        end, ended = asyncio.Event(), asyncio.Event()
        asked: list[float] = []

        async def stubborn() -> None:
            asked.append(loop.time())
            while not end.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await end.wait()
            ended.set()

        checks.add(stubborn, probe="readiness", timeout=3, cache=0)
        await checks.run("readiness")
        [result] = await checks.run("readiness")
        assert (result.ok, result.seconds, result.error) == (False, 0, "an earlier run still hangs")
        end.set()
        await ended.wait()
        await asyncio.sleep(0)
        [result] = await checks.run("readiness")
        assert result.ok
        assert asked == [0, 3]

    jump(main)


def test_a_thread_that_hangs_stays_the_only_one(run: Run, checks: Checks, gate: Gate) -> None:
    checks.add(gate, probe="readiness", timeout=0.3, cache=0, name="it")
    [first] = run(readiness(checks))
    assert not first.ok
    assert first.error is not None
    assert first.error.startswith("timed out after 0.3 s, at tests/test_checks.py:")
    assert first.error.endswith(" in __call__")
    [again] = run(readiness(checks))  # on another loop
    assert (again.ok, again.error) == (False, "an earlier run still hangs")
    assert gate.asked == 1
    thread = next(thread for thread in threading.enumerate() if thread.name == "graceful-check-it")
    assert thread.daemon
    gate.open()
    thread.join(timeout=10)
    assert not thread.is_alive(), "the thread ends when it comes back"
    [result] = run(readiness(checks))
    assert result.ok
    assert gate.asked == 2


def test_a_sync_check_does_not_block_the_loop(run: Run, checks: Checks, gate: Gate) -> None:
    checks.add(gate, probe="readiness", timeout=20)

    async def main() -> tuple[CheckResult, ...]:
        prober = asyncio.create_task(checks.run("readiness"))
        assert await asyncio.to_thread(gate.begun.wait, 10)
        assert not prober.done()
        gate.open()
        return await prober

    [result] = run(main)
    assert result.ok


# Loops come and go.


def test_a_loop_that_is_gone_has_left_nothing_behind(run: Run, checks: Checks) -> None:
    begun = threading.Event()

    async def hangs_once() -> None:
        if not begun.is_set():
            begun.set()
            await asyncio.Event().wait()

    checks.add(hangs_once, probe="readiness", cache=0)

    async def leave_early() -> None:
        prober = asyncio.create_task(checks.run("readiness"))
        await asyncio.to_thread(begun.wait, 10)
        prober.cancel()  # and the run goes on until the loop is closed

    run(leave_early)
    [result] = run(readiness(checks))
    assert result.ok


def test_a_task_of_a_loop_that_was_never_wound_up(checks: Checks) -> None:
    asked: list[int] = []

    async def hangs_once() -> None:
        asked.append(1)
        while len(asked) == 1:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()

    checks.add(hangs_once, probe="readiness", cache=0, timeout=0.01)
    gone = asyncio.new_event_loop()
    [result] = gone.run_until_complete(checks.run("readiness"))
    assert not result.ok
    try:
        [result] = asyncio.run(checks.run("readiness"))
        assert result.ok
    finally:
        asked.append(1)
        for task in asyncio.all_tasks(gone):
            task.cancel()
            gone.run_until_complete(asyncio.wait({task}))
        gone.close()


def test_somebody_who_cancels_all_tasks(run: Run, checks: Checks) -> None:
    async def main() -> None:
        begun = asyncio.Event()

        async def hangs_once() -> None:
            if not begun.is_set():
                begun.set()
                await asyncio.Event().wait()

        checks.add(hangs_once, probe="readiness", timeout=20)
        prober = asyncio.create_task(checks.run("readiness"))
        await begun.wait()
        for task in asyncio.all_tasks():
            if task.get_name().startswith("graceful check"):
                task.cancel()
        [result] = await prober
        assert result == CheckResult(name="hangs_once", ok=False, seconds=0.0, error="it was cancelled")
        assert checks.results("readiness") == (), "which says nothing of the check"
        [result] = await checks.run("readiness")
        assert result.ok

    run(main)


# Declarations.


def takes_arguments(url: str) -> None:
    raise AssertionError(url)


async def fine() -> None:
    pass


NAME = "name of a readiness check"


@pytest.mark.parametrize(
    ("function", "options", "message"),
    [
        (5, {}, "check int: found 5; expected a function, async or not"),
        (fine, {"timeout": 0}, "timeout of check fine: found 0; expected a number above 0"),
        (fine, {"timeout": float("nan")}, "timeout of check fine: found nan; expected a number above 0"),
        (fine, {"timeout": "1"}, "timeout of check fine: found '1'; expected a number above 0"),
        (fine, {"cache": -1}, "cache of check fine: found -1; expected a number, 0 or more"),
        (fine, {"cache": float("inf")}, "cache of check fine: found inf; expected a number, 0 or more"),
        (
            fine,
            {"failure_threshold": 0},
            "failure_threshold of check fine: found 0; expected a number, 1 or more",
        ),
        (
            fine,
            {"name": "a/b"},
            f"{NAME}: found 'a/b'; expected text without a slash: it becomes a part of the path",
        ),
        (
            fine,
            {"name": ""},
            f"{NAME}: found ''; expected text without a slash: it becomes a part of the path",
        ),
        (
            fine,
            {"name": "taken"},
            f"{NAME}: found 'taken'; another one has it; give one of them a name of its own",
        ),
    ],
)
def test_what_cannot_be_declared(
    checks: Checks, function: Any, options: dict[str, Any], message: str
) -> None:
    checks.add(fine, probe="readiness", name="taken")
    checks.add(fine, probe="liveness")
    with pytest.raises(SettingsError) as raised:
        checks.add(function, probe="readiness", **options)
    assert str(raised.value) == message
    assert checks.names("readiness") == ("taken",)


def test_a_check_that_takes_arguments(checks: Checks) -> None:
    with pytest.raises(SettingsError, match="missing a required argument: 'url'; bind"):
        checks.add(takes_arguments, probe="readiness")  # type: ignore[arg-type]


# Two loops: the app's own, and that of a thread which asks for it.


class Home:
    """A loop on a thread of its own, which the test can block."""

    def __init__(self, loop_factory: Callable[[], asyncio.AbstractEventLoop]) -> None:
        self.loop = loop_factory()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()
        self._free = threading.Event()

    def block(self) -> None:
        """The loop stands still on return, until `free`."""
        begun = threading.Event()

        def stand_still() -> None:
            begun.set()
            self._free.wait(20)

        self.loop.call_soon_threadsafe(stand_still)
        assert begun.wait(20)

    def free(self) -> None:
        self._free.set()

    def ask(self, checks: Checks) -> concurrent.futures.Future[tuple[CheckResult, ...]]:
        return asyncio.run_coroutine_threadsafe(checks.run("readiness"), self.loop)

    def turned(self) -> None:
        """Whatever the loop has been given has run on return."""
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0), self.loop).result(20)

    def close(self) -> None:
        self.free()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(20)
        self.loop.close()


@pytest.fixture(params=BOTH_LOOPS)
def home(request: pytest.FixtureRequest, checks: Checks) -> Iterator[Home]:
    home = Home(request.param)
    checks.home = home.loop
    yield home
    home.close()


def test_what_is_async_runs_at_home_whoever_asks(home: Home, run: Run, checks: Checks) -> None:
    loops: dict[str, asyncio.AbstractEventLoop] = {}
    threads: dict[str, int | None] = {}

    async def note(name: str) -> None:
        loops[name] = asyncio.get_running_loop()
        await asyncio.sleep(0)

    async def later() -> None:
        await note("later")

    def plain() -> None:
        threads["plain"] = threading.get_ident()

    checks.add(later, probe="readiness")
    checks.add(lambda: note("lambda"), probe="readiness", name="lambda")
    checks.add(plain, probe="readiness")
    assert [result.error for result in run(readiness(checks))] == [None] * 3
    assert loops == {"later": home.loop, "lambda": home.loop}
    assert threads["plain"] not in {threading.get_ident(), home.thread.ident}


@pytest.mark.parametrize(("answer", "error"), VERDICTS, ids=repr)
def test_what_passes_and_what_fails_at_home(
    home: Home, run: Run, checks: Checks, answer: Any, error: str | None
) -> None:
    checks.add(Answers(answer).later, probe="readiness", name="it")
    [result] = run(readiness(checks))
    assert (result.ok, result.error) == (error is None, error)
    home.turned()


def test_a_home_that_is_blocked_fails_its_checks_in_their_time(home: Home, run: Run, checks: Checks) -> None:
    answers, aside = Answers(), Answers()
    checks.add(answers.later, probe="readiness", name="later", timeout=0.05, cache=0)
    checks.add(aside.sync, probe="readiness", name="sync", cache=0)
    home.block()
    later, sync = run(readiness(checks))
    assert (later.ok, later.error) == (False, "timed out after 0.05 s, before the event loop has got to it")
    assert sync.ok
    later, _ = run(readiness(checks))
    assert later.error == "an earlier run still hangs", "or they would pile up behind the loop"
    home.free()
    home.turned()
    assert answers.asked == 0, "nobody waited for it any more"
    later, _ = run(readiness(checks))
    assert later.ok
    assert answers.asked == 1


def test_what_hangs_at_home_is_cancelled_there(home: Home, run: Run, checks: Checks) -> None:
    cancelled = threading.Event()

    async def hangs() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    checks.add(hangs, probe="readiness", timeout=0.05)
    [result] = run(readiness(checks))
    assert result.error is not None
    assert result.error.startswith("timed out after 0.05 s, at tests/test_checks.py:")
    assert cancelled.wait(20)


@pytest.mark.parametrize("closed", [True, False], ids=["closed", "none"])
def test_without_a_home_that_runs_a_check_fails_or_runs_here(run: Run, checks: Checks, closed: bool) -> None:  # noqa: FBT001 - a parameter
    answers = Answers()
    checks.add(answers.later, probe="readiness", name="it")
    if closed:
        checks.home = asyncio.new_event_loop()
        checks.home.close()
    [result] = run(readiness(checks))
    assert result.ok is not closed
    assert answers.asked == (0 if closed else 1)


def test_two_loops_that_ask_at_once_share_one_run(home: Home, run: Run, checks: Checks) -> None:
    gate = Gate()
    asked = threading.Event()
    checks.add(gate, probe="readiness", name="it", timeout=20)

    async def main() -> None:
        mine = asyncio.ensure_future(checks.run("readiness"))
        await asyncio.to_thread(gate.begun.wait, 20)
        theirs = home.ask(checks)
        home.loop.call_soon_threadsafe(asked.set)
        await asyncio.to_thread(asked.wait, 20)
        gate.open()
        assert [result.ok for result in await mine] == [True]
        assert [result.ok for result in await asyncio.wrap_future(theirs)] == [True]

    run(main)
    assert gate.asked == 1


def test_who_shares_the_run_of_a_blocked_loop_waits_no_longer_than_the_check_may_take(
    home: Home, run: Run, checks: Checks
) -> None:
    checks.add(lambda: None, probe="readiness", name="it", timeout=0.05)
    begun = threading.Event()

    async def begin() -> None:
        flight = asyncio.ensure_future(checks.run("readiness"))
        await asyncio.sleep(0)
        begun.set()
        home._free.wait(20)  # the loop, and with it the run, stands still
        await flight

    task = asyncio.run_coroutine_threadsafe(begin(), home.loop)
    assert begun.wait(20)
    [result] = run(readiness(checks))
    assert (result.ok, result.error) == (False, "timed out after 0.05 s, before the event loop has got to it")
    home.free()
    task.result(20)
