"""The C library's timer, in children, since it ends the process."""

from __future__ import annotations

import ctypes
import errno
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest

from graceful import exit_timer
from graceful.exit_timer import ExitTimer

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux's timers")

HOLD_THE_GIL = """
import ctypes
from graceful.dumps import StackDump
from graceful.exit_timer import ExitTimer

def hold_the_gil():
    mutex = ctypes.create_string_buffer(64)
    ctypes.PyDLL(None).pthread_mutex_lock(mutex)
    ctypes.PyDLL(None).pthread_mutex_lock(mutex)

dump = StackDump()
dump.register()
timer = ExitTimer(70, dump.signum)
"""


def run(program: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", HOLD_THE_GIL + program]
    return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)


def test_it_ends_the_process_although_c_code_holds_the_gil() -> None:
    child = run("timer.set(dumps=0.05, ends=0.3)\nhold_the_gil()")
    assert child.returncode == 70, child.stderr
    assert "in hold_the_gil" in child.stderr


def test_what_has_passed_is_now() -> None:
    assert run("timer.set(dumps=-5.0, ends=-4.0)\nhold_the_gil()").returncode == 70


def test_it_can_be_set_again_and_is_gone_when_it_is_closed() -> None:
    program = """
import threading
timer.set(dumps=0.05, ends=0.1)
timer.set(dumps=60.0, ends=60.0)
threading.Event().wait(0.3)
timer.set(dumps=0.1, ends=0.1)
timer.close()
timer.close()
timer.set(dumps=0.05, ends=0.05)
threading.Event().wait(0.3)
"""
    child = run(program)
    assert (child.returncode, child.stderr) == (0, "")


def test_without_a_dump() -> None:
    assert run("ExitTimer(71, None).set(dumps=0.0, ends=0.0)\nhold_the_gil()").returncode == 71


def test_timers_of_this_process_are_deleted() -> None:
    def timers() -> int:
        with open("/proc/self/timers") as lines:  # noqa: PTH123 - of this very process
            return sum(line.startswith("ID:") for line in lines)

    before = timers()
    timer = ExitTimer(70, signal.SIGRTMAX)
    assert timers() == before + 2
    timer.close()
    assert timers() == before


def test_other_systems(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    with pytest.raises(OSError, match="darwin has no timer_create"):
        ExitTimer(70, None)


def test_a_system_that_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []

    def create(clock: int, notification: object, timer: object) -> int:
        made.append(timer)
        ctypes.set_errno(errno.EPERM)
        return len(made) - 1

    deleted: list[object] = []
    library = SimpleNamespace(
        _exit=ctypes.PyDLL(None)._exit, timer_create=create, timer_delete=deleted.append
    )
    monkeypatch.setattr(exit_timer, "_library", lambda: library)
    with pytest.raises(PermissionError, match="timer_create"):
        ExitTimer(70, signal.SIGRTMAX)
    assert len(deleted) == 1


def test_an_older_glibc_has_the_timers_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str | None] = []

    def library(name: str | None, *, use_errno: bool) -> object:
        asked.append(name)
        functions = {} if name is None else dict.fromkeys(("timer_create", "timer_settime", "timer_delete"))
        return SimpleNamespace(**functions, _exit=None)

    monkeypatch.setattr(ctypes, "PyDLL", library)
    exit_timer._library()
    assert asked == [None, "librt.so.1"]
