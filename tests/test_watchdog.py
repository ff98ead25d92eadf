"""The watchdog's decisions, on its thread, with a clock that a test sets and an end that does not come."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from graceful import signals, watchdog
from graceful.budget import Budget
from graceful.exit_timer import ExitTimer
from graceful.platforms import PROFILES
from graceful.settings import Settings, resolve
from graceful.signals import SignalWatch
from graceful.watchdog import Watchdog

BOUND = 10.0
TERM, INT, QUIT = signal.SIGTERM, signal.SIGINT, signal.SIGQUIT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the second stage is Linux's")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Scene:
    """A watch with our handlers in place, a watchdog that is not started, and what became of them."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = Clock()
        self.watch = SignalWatch(self.clock)
        self.codes: list[int] = []
        self.left = threading.Event()
        self.stderr = tmp_path / "stderr"
        self.log = tmp_path / "log"
        self.stream = self.stderr.open("w")
        monkeypatch.setattr(sys, "__stderr__", self.stream)
        self.timers: list[tuple[float, float]] = []
        monkeypatch.setattr(ExitTimer, "set", self._set_timer)
        self.watchdog = self.make(owned=True)

    def make(self, *, owned: bool) -> Watchdog:
        return Watchdog(self.watch, owned=owned, clock=self.clock, leave=self._leave)

    def settings(self, **arguments: object) -> Settings:
        return resolve(
            {"termination_log": str(self.log), **arguments}, environ={}, platform=PROFILES["kubernetes"]
        )

    def start(self, watchdog: Watchdog | None = None) -> None:
        self.watch.install(*signals.OWNED)
        (watchdog or self.watchdog).start(self.settings())
        self.looked(watchdog)

    def looked(self, watchdog: Watchdog | None = None) -> None:
        """The thread has come round: whatever was to be seen has been."""
        watchdog = watchdog or self.watchdog
        seen = threading.Event()
        look = watchdog._look_at_the_clock

        def look_and_tell() -> None:
            watchdog._look_at_the_clock = look  # type: ignore[method-assign]
            look()
            seen.set()

        watchdog._look_at_the_clock = look_and_tell  # type: ignore[method-assign]
        assert watchdog._wakeup is not None
        watchdog._wakeup.wake()
        assert seen.wait(BOUND) or self.left.is_set()

    def said(self) -> str:
        return self.stderr.read_text()

    def written(self) -> str:
        """What the termination log holds when all that write it have."""
        for thread in threading.enumerate():
            if thread.name == "graceful-termination-log":
                thread.join(BOUND)
        return self.log.read_text()

    def _leave(self, code: int) -> None:
        self.codes.append(code)
        self.watchdog._stopped = True  # the thread ends, and nothing else
        self.left.set()

    def _set_timer(self, *, dumps: float, ends: float) -> None:
        self.timers.append((dumps, ends))


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    handlers = {signum: signal.getsignal(signum) for signum in signals.OWNED}
    scene = Scene(tmp_path, monkeypatch)
    yield scene
    scene.watchdog.stop()
    scene.watch.restore()
    scene.stream.close()
    for signum, handler in handlers.items():
        signal.signal(signum, handler)
    assert signal.set_wakeup_fd(-1) == -1


def test_before_a_signal_it_does_nothing(scene: Scene) -> None:
    scene.start()
    scene.clock.now += 1e6
    scene.looked()
    assert (scene.codes, scene.timers, scene.log.exists()) == ([], [], False)


def test_the_first_signal_arms_both_stages_and_writes_ahead(scene: Scene) -> None:
    scene.start()
    signal.raise_signal(TERM)
    assert scene.timers[0] == (28.75, 29.0), "in the handler itself"
    scene.looked()
    scene.clock.now += 27.9
    signal.raise_signal(TERM)
    signal.raise_signal(INT)
    scene.looked()
    assert scene.timers[-1] == pytest.approx((0.85, 1.1))
    assert scene.codes == []
    assert scene.written().startswith("SIGTERM: the shutdown did not finish: ")


def test_when_its_time_is_up_it_says_who_is_in_the_way_and_leaves(scene: Scene) -> None:
    scene.watchdog.in_the_way = lambda: "  who is\n"
    scene.watchdog.in_short = lambda: "in short"
    scene.start()
    signal.raise_signal(TERM)
    signal.raise_signal(TERM)
    scene.looked()
    scene.clock.now += 28
    scene.looked()
    assert scene.codes == [70]
    words = (
        "SIGTERM came 28.0 s ago (2 times); the watchdog ends the process: its time is up and SIGKILL is "
        "near (exit code 70)\n"
    )
    assert scene.said() == f"CRITICAL: graceful: {words}  who is\n"
    assert scene.written() == f"{words}in short"


def test_a_shutdown_that_no_signal_began(scene: Scene) -> None:
    scene.start()
    scene.watchdog.arm(Budget.of(scene.settings(), began=990.0).last_moments)
    scene.watchdog.arm(Budget.of(scene.settings(), began=0.0).last_moments)
    scene.looked()
    assert scene.timers[-1] == (18.75, 19.0)
    assert scene.written().startswith("shutdown: the shutdown did not finish: ")
    scene.clock.now += 18
    scene.looked()
    assert scene.codes == [70]
    assert scene.said().startswith("CRITICAL: graceful: the watchdog ends the process: ")


@pytest.mark.parametrize(
    ("signums", "code", "said"),
    [
        ([TERM, INT, INT, INT], 130, "third SIGINT: exits at once (exit code 130)"),
        ([QUIT], 131, "SIGQUIT: exits at once (exit code 131)"),
    ],
)
def test_who_wants_it_at_once(scene: Scene, signums: list[int], code: int, said: str) -> None:
    scene.start()
    for signum in signums:
        signal.raise_signal(signum)
    assert scene.left.wait(BOUND)
    assert scene.codes == [code]
    assert said in scene.said()
    assert said in scene.written()


def test_in_an_adopted_server_only_the_deadline_counts(scene: Scene) -> None:
    scene.watchdog = scene.make(owned=False)
    scene.start()
    for signum in (INT, INT, INT, QUIT):
        signal.raise_signal(signum)
    scene.looked()
    assert scene.codes == []
    scene.watch.restore()  # what it does when the run is over, before the process is
    scene.clock.now += 28
    scene.looked()
    assert scene.codes == [70]
    assert "SIGINT came 28.0 s ago (3 times), SIGQUIT came 28.0 s ago; the watchdog" in scene.said()


def test_a_signal_that_only_the_kernel_has_told(scene: Scene) -> None:
    """The main thread is in C code: no handler of Python's runs."""
    scene.start()
    assert scene.watchdog._wakeup is not None
    scene.watchdog._wakeup._outbox.send(bytes([TERM, signal.SIGHUP]))
    scene.looked()
    assert scene.timers[-1] == (28.75, 29.0)
    assert scene.watch.noted == []


def test_somebody_elses_signal_is_left_to_him(scene: Scene) -> None:
    scene.start()
    signal.signal(TERM, lambda *_: None)
    signal.raise_signal(TERM)
    scene.looked()
    assert scene.timers == []


def test_other_settings_come_when_they_are_known(scene: Scene, tmp_path: Path) -> None:
    scene.start()
    scene.watchdog.start(scene.settings(grace_period=60, exit_margin=0))
    signal.raise_signal(TERM)
    scene.looked()
    assert scene.timers[0] == (60.0, 60.0)


def test_it_is_gone_when_it_is_stopped(scene: Scene) -> None:
    scene.start()
    scene.watchdog.stop()
    scene.watchdog.stop()
    scene.watchdog.keep_watch()
    scene.clock.now += 1e6
    signal.raise_signal(TERM)
    scene.watchdog.arm(Budget.of(scene.settings(), began=0.0).last_moments)
    assert (scene.codes, scene.timers) == ([], [])
    assert scene.watchdog._thread is not None
    scene.watchdog._thread.join(BOUND)  # on a machine that is busy it has one breath more
    assert "graceful-watchdog" not in {thread.name for thread in threading.enumerate()}


def test_a_thread_that_ends_later_leaves_nothing_either(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a machine that is busy it may still be importing what it needs."""
    go_on = threading.Event()
    monkeypatch.setattr(watchdog, "_JOIN_SECONDS", 0.0)
    monkeypatch.setattr(scene.watchdog, "_load_second_stage", lambda _: go_on.wait(BOUND))
    scene.watch.install(*signals.OWNED)
    scene.watchdog.start(scene.settings())
    wakeup, thread = scene.watchdog._wakeup, scene.watchdog._thread
    assert wakeup is not None
    assert thread is not None
    scene.watchdog.stop()
    go_on.set()
    thread.join(BOUND)
    assert wakeup.ends == (-1, -1)


def test_stopped_on_another_thread(scene: Scene) -> None:
    scene.start()
    stopping = threading.Thread(target=scene.watchdog.stop)
    stopping.start()
    stopping.join(BOUND)
    assert scene.watchdog._thread is not None
    scene.watchdog._thread.join(BOUND)
    assert "graceful-watchdog" not in {thread.name for thread in threading.enumerate()}
    signal.set_wakeup_fd(-1)


def test_who_is_asked_may_fail_and_standard_error_may_be_gone(scene: Scene) -> None:
    def fail() -> str:
        message = "dictionary changed size during iteration"
        raise RuntimeError(message)

    scene.watchdog.in_the_way = scene.watchdog.in_short = fail
    scene.start()
    signal.raise_signal(QUIT)
    assert scene.left.wait(BOUND)
    assert "who is in the way cannot be said: RuntimeError" in scene.said()


@pytest.mark.parametrize("gone", ["none", "broken"])
def test_nobody_reads_standard_error(scene: Scene, monkeypatch: pytest.MonkeyPatch, gone: str) -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as stream:
        monkeypatch.setattr(sys, "__stderr__", None if gone == "none" else stream)
        scene.start()
        signal.raise_signal(QUIT)
        assert scene.left.wait(BOUND)
    assert scene.codes == [131]


def test_words_that_hang_do_not_hold_up_the_end(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    goes_on = threading.Event()
    monkeypatch.setattr(watchdog, "_LAST_WORDS_SECONDS", 0.0)
    scene.watchdog.in_the_way = lambda: str(goes_on.wait(BOUND))
    scene.start()
    signal.raise_signal(QUIT)
    assert scene.left.wait(BOUND)
    goes_on.set()


@pytest.mark.parametrize("problem", [ImportError("no _ctypes"), OSError("EPERM"), AttributeError("musl")])
def test_without_timers_the_thread_serves_alone(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, problem: Exception
) -> None:
    def refuse(*_: object) -> None:
        raise problem

    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(ExitTimer, "__init__", refuse)
    scene.start()
    signal.raise_signal(TERM)
    scene.looked()
    assert f"no timer ends the process while C code holds the GIL: {problem}" in caplog.messages
    scene.clock.now += 28
    scene.looked()
    assert scene.codes == [70]
