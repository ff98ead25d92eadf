"""The sentinel and the thread of C calls under it, in children, since it ends the process."""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from graceful import c_calls
from graceful.c_calls import Call, CThread, Memory

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.libc_ver()[0] != "glibc", reason="glibc's contexts"
)

BEGIN = """
import ctypes, os, signal, socket, subprocess, sys, threading
from graceful.dumps import StackDump
from graceful.sentinel import Sentinel

inbox, outbox = socket.socketpair()
outbox.setblocking(False)
for signum in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
    signal.signal(signum, lambda *_: None)
signal.set_wakeup_fd(outbox.fileno())
dump = StackDump()
dump.register()
ends = inbox.fileno(), outbox.fileno()
sentinel = Sentinel(*ends, [signal.SIGTERM, signal.SIGINT], code=70, dump_signal=dump.signum)
sentinel.watch(dumps=0.1, ends=0.3)

def hold_the_gil(*signums):
    # Sent by another process, which waits until this one waits: C code has the GIL by then. Each is sent when
    # the one before is not pending any more: the kernel makes one of two that are.
    state = (
        "until grep -q 'State:.S' /proc/$0/task/$0/status; do :; done; "
        "for signum; do kill -$signum $0; until grep -q 'ShdPnd:.0*$' /proc/$0/status; do :; done; done; "
        "sleep 1; kill -9 $0"
    )
    subprocess.Popen(["sh", "-c", state, str(os.getpid()), *(str(int(each)) for each in signums)])
    mutex = ctypes.create_string_buffer(128)
    ctypes.PyDLL(None).pthread_mutex_lock(mutex)
    ctypes.PyDLL(None).pthread_mutex_lock(mutex)
"""


def run(program: str) -> subprocess.CompletedProcess[str]:
    """Its killer may outlive it and has its streams: only what is written is waited for."""
    command = [sys.executable, "-c", BEGIN + program]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def test_a_signal_while_c_code_holds_the_gil_ends_the_process() -> None:
    child = run("hold_the_gil(signal.SIGTERM)")
    assert child.returncode == 70, child.stderr
    assert "in hold_the_gil" in child.stderr


def test_a_change_of_user_leaves_it_at_its_post() -> None:
    """The C library interrupts every thread for it, with a signal of its own."""
    child = run("os.setuid(os.getuid())\nhold_the_gil(signal.SIGTERM)")
    assert child.returncode == 70, child.stderr


def test_other_signals_do_not() -> None:
    assert run("hold_the_gil(signal.SIGUSR1)").returncode == -signal.SIGKILL


@pytest.mark.parametrize("before", [1, 2, 15])
def test_others_that_come_before_it_hide_nothing(before: int) -> None:
    """Each is delivered, and nobody reads it: of a child that has ended, of a profiler's timer."""
    others = ([signal.SIGUSR1, signal.SIGUSR2] * before)[:before]
    child = run(f"hold_the_gil(*{[int(each) for each in others]}, signal.SIGTERM)")
    assert child.returncode == 70, child.stderr
    assert "in hold_the_gil" in child.stderr


def test_the_first_counts() -> None:
    """What comes after it neither calls off nor puts off the end."""
    program = """
sentinel.leave()
inbox.recv(4096)
sentinel.watch(dumps=0.1, ends=0.8)  # it is killed after a second
hold_the_gil(signal.SIGTERM, signal.SIGUSR1, signal.SIGTERM, signal.SIGUSR2)
"""
    child = run(program)
    assert child.returncode == 70, child.stderr


def test_one_whose_descriptors_were_closed_holds_up_nobody() -> None:
    """As by a program that makes itself a daemon."""
    program = """
def waits(thread):
    return "State:\\tS" in open(f"/proc/self/task/{thread}/status").read()

while sum(map(waits, os.listdir("/proc/self/task"))) < 2:  # it, and the C library's own for the timers
    pass
kept = outbox.dup()
inbox.close()
outbox.close()
print(sentinel.leave())
sentinel.close()
"""
    child = run(program)
    assert (child.returncode, child.stdout, child.stderr) == (0, "False\n", "")


def test_who_is_relieved_ends_nothing_and_may_be_posted_again() -> None:
    program = """
def once(signum):
    signal.raise_signal(signum)
    came = sentinel.renew()
    assert came.strip(b"\\0") == bytes([signum]), came
    sentinel.relieve()

for _ in range(100):
    for signum in (signal.SIGTERM, signal.SIGUSR1):
        sentinel.watch(dumps=0.1, ends=0.3)
        sentinel.watch(dumps=0.0, ends=0.0)
        once(signum)
threading.Event().wait(0.5)
sentinel.watch(dumps=0.1, ends=0.3)
hold_the_gil(signal.SIGTERM)
"""
    child = run(program)
    assert child.returncode == 70, child.stderr


def test_nothing_is_left_of_it() -> None:
    program = """
def have():
    maps = open("/proc/self/maps").read().count("\\n")
    return len(os.listdir("/proc/self/fd")), open("/proc/self/timers").read().count("ID:")

sentinel.leave()
inbox.recv(4096)
sentinel.close()
before = have()
for _ in range(50):
    another = Sentinel(*ends, [signal.SIGTERM], code=70, dump_signal=None)
    another.watch(dumps=60, ends=60)
    another.leave()
    inbox.recv(4096)
    another.close()
print(have() == before, before[1])
"""
    child = run(program)
    assert child.stdout == "True 0\n", child.stderr


def test_one_that_is_on_guard_cannot_be_closed() -> None:
    child = run("sentinel.close()\nhold_the_gil(signal.SIGTERM)")
    assert child.returncode == 70, child.stderr


def test_an_interpreter_that_is_taken_down_does_not_mind_it() -> None:
    child = run("print('ends')")
    assert (child.returncode, child.stdout, child.stderr) == (0, "ends\n", "")


def test_a_child_has_none() -> None:
    program = """
child = os.fork()
if not child:
    os._exit(len(os.listdir("/proc/self/task")))
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert run(program).stdout == "1\n"


def test_calls_are_made_in_their_order_and_see_no_signal() -> None:
    """Each call of a pipe needs what the one before it has written."""
    first, second = os.pipe(), os.pipe()
    memory = Memory(4096)
    calls = [
        Call(function="write", arguments=(second[1], memory.address, 1)),
        Call(function="read", arguments=(first[0], memory.address, 1)),
        Call(function="write", arguments=(second[1], memory.address, 1)),
    ]
    thread = CThread(calls)
    for before, sent in ((b"\0", b"a"), (b"a", b"b")):
        thread.start()
        assert thread.runs
        assert os.read(second[0], 1) == before
        threads = Path("/proc/self/task").iterdir()
        assert any(blocked_of(each) & every_signal() == every_signal() for each in threads)
        os.write(first[1], sent)
        assert thread.join(within=60)
        assert not thread.runs
        assert os.read(second[0], 1) == sent
    assert thread.join(within=60)
    thread.close()
    memory.close()
    for descriptor in (*first, *second):
        os.close(descriptor)


def blocked_of(task: Path) -> int:
    status = (task / "status").read_text().splitlines()
    return next(int(line.split()[1], 16) for line in status if line.startswith("SigBlk"))


def every_signal() -> int:
    """But those that cannot be blocked."""
    return sum(1 << (each - 1) for each in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})


@pytest.mark.parametrize(("system", "machine"), [("darwin", "x86_64"), ("linux", "armv7l")])
def test_where_it_is_not_known(monkeypatch: pytest.MonkeyPatch, system: str, machine: str) -> None:
    monkeypatch.setattr("sys.platform", system)
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(machine=machine))
    with pytest.raises(OSError, match=f"not known on {system}, {machine}"):
        c_calls.libc()


def test_a_system_that_gives_no_memory_and_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OSError, match="mmap: Cannot allocate memory"):
        Memory(1 << 60)
    thread = CThread([])
    refusing = SimpleNamespace(
        makecontext=lambda *_: None, pthread_create=lambda *_: 11, setcontext=ctypes.PyDLL(None).setcontext
    )
    monkeypatch.setattr(thread, "_libc", refusing)
    with pytest.raises(BlockingIOError, match="pthread_create: Resource temporarily unavailable"):
        thread.start()
    assert not thread.runs
