from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from graceful import dumps, signals
from graceful.dumps import StackDump, stderr_descriptor

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="real-time signals")


def test_all_threads_are_dumped_and_the_signal_is_as_it_was_found() -> None:
    """In a child, since standard error is its own; the user's timer and signals of faulthandler's are his."""
    program = """
import faulthandler, os, signal, threading
from graceful.dumps import StackDump

faulthandler.register(signal.SIGRTMAX, all_threads=False)
faulthandler.dump_traceback_later(60)
threading.Thread(target=threading.Event().wait, name="stuck", daemon=True).start()
dump = StackDump()
dump.register()
taken = dump.signum
dump.register()
assert (dump.signum, taken) == (signal.SIGRTMAX - 1, signal.SIGRTMAX - 1)
signal.raise_signal(taken)
dump.unregister()
dump.unregister()
assert dump.signum is None
faulthandler.cancel_dump_traceback_later()
os.kill(os.getpid(), taken)  # which ends a process that has no handler for it
"""
    child = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert child.returncode == -(signal.SIGRTMAX - 1), child.stderr
    assert child.stderr.count("most recent call first") == 2


def test_where_it_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    dump = StackDump()
    with monkeypatch.context() as patch:
        patch.setattr(signals, "spare_signal", lambda caught: None)
        dump.register()
    with monkeypatch.context() as patch:
        patch.setattr(dumps, "stderr_descriptor", lambda: None)
        dump.register()
    with monkeypatch.context() as patch:
        patch.delattr("faulthandler.register")
        dump.register()
    assert dump.signum is None


def test_procfs_may_be_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graceful.processes.ProcessTable.read", lambda self, pid: None)
    dump = StackDump()
    dump.register()
    assert dump.signum == signal.SIGRTMAX
    dump.unregister()


def test_standard_error(monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as stream:
        monkeypatch.setattr("sys.__stderr__", stream)
        assert stderr_descriptor() == write
    assert stderr_descriptor() is None
    monkeypatch.setattr("sys.__stderr__", None)
    assert stderr_descriptor() is None


def test_spare_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    assert signals.spare_signal({signal.SIGRTMAX}) == signal.SIGRTMAX - 1
    assert signals.spare_signal(range(signal.SIGRTMIN, signal.SIGRTMAX + 1)) is None
    handler = signal.signal(signal.SIGRTMAX, lambda *_: None)
    assert signals.spare_signal(()) == signal.SIGRTMAX - 1
    signal.signal(signal.SIGRTMAX, handler)
    monkeypatch.delattr("_signal.SIGRTMAX")
    assert signals.spare_signal(()) is None


def test_a_system_that_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError

    monkeypatch.setattr("faulthandler.register", refuse)
    dump = StackDump()
    dump.register()
    assert dump.signum is None
