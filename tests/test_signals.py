"""The one module that knows `signal`: in this process, with signals that it sends itself, and in children
that fork.
"""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest

from graceful import signals
from graceful.errors import RuntimeInUseError
from graceful.signals import Handler, SignalWatch

TERM, INT, QUIT = signal.SIGTERM, signal.SIGINT, signal.SIGQUIT


class Server:
    """What a library looks for behind the handler."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, FrameType | None]] = []

    def handle_exit(self, signum: int, frame: FrameType | None) -> None:
        self.calls.append((signum, frame))


class Ticks:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


@pytest.fixture
def watch() -> Iterator[SignalWatch]:
    """A watch that is not installed; whatever a test did, the process has its handlers back."""
    before = {signum: signal.getsignal(signum) for signum in signals.OWNED}
    watch = SignalWatch(Ticks())
    yield watch
    watch.restore()
    for signum, handler in before.items():
        signal.signal(signum, handler)
    assert signals._installed is None


@pytest.fixture
def server(watch: SignalWatch) -> Server:
    """A server whose handler is in place."""
    server = Server()
    signal.signal(TERM, server.handle_exit)
    return server


def test_what_is_noted_and_in_which_order(watch: SignalWatch) -> None:
    watch.install(*signals.OWNED)
    for signum in (TERM, INT, QUIT, TERM):
        signal.raise_signal(signum)
    noted = [(arrival.signum, arrival.at) for arrival in watch.noted]
    assert noted == [(TERM, 101), (INT, 102), (QUIT, 103), (TERM, 104)]


def test_the_found_handler_does_not_run_by_itself(watch: SignalWatch, server: Server) -> None:
    watch.install(TERM)
    signal.raise_signal(TERM)
    assert server.calls == []
    watch.call_found(TERM)
    assert server.calls == [(TERM, None)]


@pytest.mark.parametrize("found", [signal.SIG_DFL, signal.SIG_IGN])
def test_default_and_ignored_are_not_called(watch: SignalWatch, found: Any) -> None:
    signal.signal(TERM, found)
    watch.install(TERM)
    watch.call_found(TERM)
    watch.call_found(INT)  # not installed
    assert watch.noted == []
    watch.restore()
    assert signal.getsignal(TERM) is found


def test_restore_puts_back_what_was_found_and_forgets(watch: SignalWatch, server: Server) -> None:
    watch.install(TERM, INT)
    interrupt = watch._handlers[INT].found
    watch.subscribe(lambda: None)
    watch.owner = server
    signal.raise_signal(TERM)
    watch.restore()
    assert signal.getsignal(TERM) == server.handle_exit
    assert signal.getsignal(INT) is interrupt
    assert (watch.noted, watch.owner, watch._wakes) == ([], None, ())
    watch.restore()
    signal.raise_signal(TERM)
    assert [signum for signum, _ in server.calls] == [TERM]
    assert watch.noted == []


def test_install_twice_keeps_what_was_found_first(watch: SignalWatch, server: Server) -> None:
    watch.install(TERM)
    watch.install(TERM, INT)
    watch.restore()
    assert signal.getsignal(TERM) == server.handle_exit


def test_restore_leaves_the_handler_of_somebody_else(watch: SignalWatch, server: Server) -> None:
    watch.install(TERM, INT)
    later = Server().handle_exit
    signal.signal(TERM, later)
    watch.restore()
    assert signal.getsignal(TERM) == later
    assert not isinstance(signal.getsignal(INT), Handler)


def test_a_handler_of_c_code_becomes_the_default(watch: SignalWatch, monkeypatch: pytest.MonkeyPatch) -> None:
    """getsignal() says None there, and signal() would not take it."""
    with monkeypatch.context() as patched:
        patched.setattr("graceful.signals.signal.getsignal", lambda signum: None)
        watch.install(TERM)
        assert watch._handlers[TERM].found is None
    watch.restore()
    assert signal.getsignal(TERM) is signal.SIG_DFL


def test_self_is_that_of_the_handler_found(watch: SignalWatch, server: Server) -> None:
    watch.install(TERM)
    handler: Any = signal.getsignal(TERM)
    assert isinstance(handler, Handler)
    assert handler.__self__ is server
    owner = object()
    watch.speak_for(owner)
    assert handler.__self__ is owner


def test_self_is_missing_where_there_is_none(watch: SignalWatch) -> None:
    def plain(signum: int, frame: FrameType | None) -> None:
        """A handler that belongs to nobody."""

    signal.signal(TERM, plain)
    watch.install(TERM)
    handler = signal.getsignal(TERM)
    assert not hasattr(handler, "__self__")
    assert getattr(handler, "__self__", "nobody") == "nobody"


def test_each_subscriber_is_woken_for_each_signal(watch: SignalWatch) -> None:
    watch.install(TERM)
    woken: list[str] = []

    def first() -> None:
        woken.append("first")

    def second() -> None:
        woken.append("second")

    watch.subscribe(first)
    watch.subscribe(second)
    signal.raise_signal(TERM)
    assert woken == ["first", "second"]
    watch.unsubscribe(first)
    signal.raise_signal(TERM)
    assert woken == ["first", "second", "second"]
    watch.unsubscribe(first)
    watch.unsubscribe(second)
    signal.raise_signal(TERM)
    assert len(woken) == 3
    assert len(watch.noted) == 3


def test_who_subscribes_late_is_woken_at_once(watch: SignalWatch) -> None:
    watch.install(TERM)
    signal.raise_signal(TERM)
    woken: list[int] = []
    watch.subscribe(lambda: woken.append(len(watch.noted)))
    assert woken == [1]


def every_line_of(function: Callable[[], object], interrupt: Callable[[], object]) -> Iterator[int]:
    """Run `function` once for each of its lines, with `interrupt` called right before that line; yields the
    line's number after each run.
    """
    at = 0
    while True:
        lines = 0
        fired = False

        def trace(frame: FrameType, event: str, arg: object, at: int = at) -> Any:
            nonlocal lines, fired
            if event == "line":
                if lines == at and not fired:
                    fired = True
                    interrupt()
                lines += 1
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            function()
        finally:
            sys.settrace(before)
        if not fired:
            return
        yield at
        at += 1


def test_nothing_is_lost_however_a_signal_falls(watch: SignalWatch) -> None:
    """The signal comes before each line of `subscribe` in turn: the reader has always heard of it, and reads
    it once.
    """
    seen: list[int] = []
    read = 0

    def look() -> None:
        nonlocal read
        fresh = watch.noted[read:]
        read += len(fresh)
        seen.extend(arrival.signum for arrival in fresh)

    watch.install(TERM)
    tried = 0
    for _ in every_line_of(lambda: watch.subscribe(look), lambda: signal.raise_signal(TERM)):
        tried += 1
        assert seen == [TERM] * tried
        watch.unsubscribe(look)
    assert tried >= 2


def test_other_signals_are_noted_while_the_displaced_handler_runs(watch: SignalWatch) -> None:
    def taker(signum: int, frame: FrameType | None) -> None:
        signal.raise_signal(INT)
        signal.raise_signal(TERM)  # as one that chains to ours does

    watch.install(TERM, INT)
    signal.signal(TERM, taker)
    assert watch.put_back(TERM) is not None
    watch.call_displaced(TERM)
    assert [arrival.signum for arrival in watch.noted] == [INT]


def test_a_signal_that_the_taker_got_in_the_moment_of_its_displacement_is_not_given_to_it_again(
    watch: SignalWatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[int] = []
    c_half = importlib.import_module("_signal")
    put = c_half.signal

    def taker(signum: int, frame: FrameType | None) -> None:
        called.append(signum)
        ours(signum, frame)

    def raise_before(signum: int, handler: Any) -> object:
        signal.raise_signal(signum)
        return put(signum, handler)

    watch.install(TERM)
    ours: Any = signal.getsignal(TERM)
    signal.signal(TERM, taker)
    with monkeypatch.context() as patched:
        patched.setattr(c_half, "signal", raise_before)
        assert watch.put_back(TERM) is not None
    watch.call_displaced(TERM)
    assert called == [TERM]
    assert [arrival.signum for arrival in watch.noted] == [TERM]


def test_handlers_that_were_found_are_called_for_what_has_come(watch: SignalWatch) -> None:
    called: list[int] = []
    signal.signal(TERM, lambda signum, _: called.append(signum))
    signal.signal(INT, signal.default_int_handler)
    watch.install(TERM, INT, signal.SIGHUP)
    watch.call_those_found()
    assert called == []
    for each in (TERM, TERM, INT, signal.SIGHUP):
        watch.hear(each)
    watch.call_those_found()
    assert called == [TERM]


def test_a_burst_is_noted_whole(watch: SignalWatch) -> None:
    watch.install(TERM)
    for _ in range(200):
        os.kill(os.getpid(), TERM)
        signal.getsignal(TERM)  # the interpreter runs handlers between two instructions
    assert [arrival.signum for arrival in watch.noted] == [TERM] * 200


def test_what_another_thread_has_heard_tells_when_the_signal_came(watch: SignalWatch) -> None:
    """The handler runs when the main thread comes back from C code."""
    watch.install(TERM, INT)
    watch.hear(TERM)  # at 101
    assert (watch.first((TERM,)), watch.count((TERM,)), watch.noted) == (101, 1, [])
    signal.raise_signal(TERM)  # at 102
    signal.raise_signal(TERM)
    watch.hear(TERM)
    watch.hear(TERM)
    assert [arrival.at for arrival in watch.noted] == [101, 103]
    assert (watch.first((TERM, INT)), watch.count((TERM,)), watch.count((INT,))) == (101, 3, 0)
    signal.raise_signal(INT)
    assert watch.first((INT,)) == watch.noted[-1].at == 106
    watch.restore()
    assert (watch.heard, watch.first((TERM,))) == ([], None)


def test_a_signal_of_somebody_else_is_not_heard(watch: SignalWatch, server: Server) -> None:
    watch.hear(TERM)
    watch.install(TERM)
    signal.signal(TERM, server.handle_exit)
    watch.hear(TERM)
    watch.hear(INT)
    assert watch.heard == []


def test_claim_of_one_that_nobody_has_installed(watch: SignalWatch) -> None:
    owner = object()
    claimed = signals.claim(owner)
    assert claimed.owner is owner
    assert signals._installed is None
    assert signals.claim(object()) is not claimed, "a claim alone takes no signals"


def test_the_early_watch_is_handed_over_with_what_it_has_noted(watch: SignalWatch) -> None:
    watch.install(TERM)
    signal.raise_signal(TERM)
    owner = object()
    assert signals.claim(owner) is watch
    assert len(watch.noted) == 1
    assert signals.claim(owner) is watch, "the same owner may ask again"


def test_a_second_owner_is_refused(watch: SignalWatch) -> None:
    owner = object()
    watch.install(TERM)
    signals.claim(owner)
    with pytest.raises(
        RuntimeInUseError, match="another Runtime has the signals of this process; run one Runtime"
    ):
        signals.claim(object())
    assert watch.owner is owner
    watch.restore()
    assert signals.claim(object()) is not watch


def test_restoring_an_older_watch_leaves_the_word_to_the_newer(watch: SignalWatch) -> None:
    newer = SignalWatch()
    watch.install(TERM)
    newer.install(INT)
    watch.restore()
    assert signals._installed is newer
    newer.restore()


def test_only_the_main_thread_may_install(watch: SignalWatch) -> None:
    found: list[object] = []

    def elsewhere() -> None:
        found.append(signals.in_main_thread())
        try:
            watch.install(TERM)
        except ValueError as problem:
            found.append(type(problem))

    before = signal.getsignal(TERM)
    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert found == [False, ValueError]
    assert signals.in_main_thread()
    assert signals.found_handler(TERM) == before
    assert signals._installed is None


def test_names() -> None:
    assert (signals.name_of(15), signals.name_of(2)) == ("SIGTERM", "SIGINT")
    assert signals._by_name("SIGTERM", "SIGNONE") == (15,)
    assert signals.OWNED == (TERM, INT, QUIT)


def in_a_child(code: str) -> subprocess.CompletedProcess[str]:
    """Forking is not for a process with threads, as that of the tests may be: a fresh one does it."""
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )


FORK = """
import os, signal, sys, threading
from graceful.signals import SignalWatch, Handler, _installed
import graceful.signals as signals

watch = SignalWatch()
watch.install(signal.SIGTERM)
reader, writer = os.pipe()
os.set_blocking(writer, False)
signal.set_wakeup_fd(writer)

def fork():
    child = os.fork()
    if child == 0:
        print(signal.getsignal(signal.SIGTERM), signal.set_wakeup_fd(-1), signals._installed, flush=True)
        os.kill(os.getpid(), signal.SIGTERM)
        os._exit(99)
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), len(watch.noted), flush=True)

FORK_HERE
os.set_blocking(reader, False)
try:
    print("the parent was woken", os.read(reader, 1))
except BlockingIOError:
    print("the parent was not woken")
signal.raise_signal(signal.SIGTERM)
print(len(watch.noted), isinstance(signal.getsignal(signal.SIGTERM), Handler))
"""


@pytest.mark.parametrize("how", ["fork()", "t = threading.Thread(target=fork); t.start(); t.join()"])
def test_a_forked_child_inherits_nothing(how: str) -> None:
    done = in_a_child("import warnings; warnings.simplefilter('ignore')\n" + FORK.replace("FORK_HERE", how))
    assert done.stdout.splitlines() == ["0 -1 None", "-15 0", "the parent was not woken", "1 True"], (
        done.stderr
    )
    assert done.returncode == 0


def test_a_forked_child_without_a_watch_is_left_alone() -> None:
    code = (
        "import os, signal, graceful.signals\n"
        "r, w = os.pipe(); os.set_blocking(w, False); signal.set_wakeup_fd(w)\n"
        "if (child := os.fork()) == 0: os._exit(7 if signal.set_wakeup_fd(-1) == w else 8)\n"
        "raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    assert in_a_child(code).returncode == 7


def test_die_of() -> None:
    code = "from graceful import signals; signals.die_of(15); print('alive')"
    done = in_a_child(code)
    assert (done.returncode, done.stdout) == (-15, "")
