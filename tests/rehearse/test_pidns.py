"""PID namespaces: an engine's statuses, signals as after a fresh start, nothing left."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from graceful.rehearse import pidns
from graceful.rehearse.pidns import PidNamespace, PidNamespaceError

PATIENCE = 20.0
LIBC_S_OWN = 0b11 << 31  # signals 32 and 33, which posix_spawn leaves ignored and nobody can set

pytestmark = pytest.mark.skipif(pidns.why_not() is not None, reason=str(pidns.why_not()))

# `read` without a command of its own: nothing but the shell is there to take a signal.
WAITS = 'echo ready; read -r line < "$0"'


@pytest.fixture
def silence(tmp_path: Path) -> str:
    """A pipe that nobody writes to."""
    path = tmp_path / "silence"
    os.mkfifo(path)
    return str(path)


def started(*command: str) -> PidNamespace:
    """Its first line has been written, which is `ready`."""
    namespace = PidNamespace(command, stdout=subprocess.PIPE)
    assert namespace.stdout is not None
    assert namespace.stdout.readline() == b"ready\n"
    return namespace


def handling(code: int) -> tuple[str, ...]:
    source = (
        "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(%d)); "
        "print('ready', flush=True); signal.pause()"
    )
    return sys.executable, "-I", "-c", source % code


def test_a_process_that_handles_the_signal_ends_with_its_own_status() -> None:
    with started(*handling(7)) as namespace:
        ended = namespace.stop(PATIENCE)
    assert (ended.status, ended.killed) == (7, False)
    assert ended.seconds < PATIENCE


def test_the_kernel_drops_what_pid_1_does_not_handle(silence: str) -> None:
    with started("sh", "-c", WAITS, silence) as namespace:
        ended = namespace.stop(0.2)
    assert (ended.status, ended.killed) == (137, True)
    assert ended.seconds >= 0.2


def test_it_can_be_stopped_by_another_signal_and_twice() -> None:
    with started("sh", "-c", "trap 'exit 3' QUIT; echo ready; while :; do sleep 1; done") as namespace:
        assert namespace.stop(PATIENCE, signal=signal.SIGQUIT).status == 3
        again = namespace.stop(PATIENCE)
    assert (again.status, again.seconds, again.killed) == (3, 0.0, False)


def test_wait_tells_the_status_of_what_ends_by_itself() -> None:
    with PidNamespace(["sh", "-c", "exit 5"]) as namespace:
        assert namespace.wait(PATIENCE) == 5


def test_what_is_run_beside_it_sees_the_namespace_and_has_no_parent(silence: str) -> None:
    with started("sh", "-c", WAITS, silence) as namespace:
        inside = namespace.run(
            ["sh", "-c", "cat /proc/1/cmdline; grep PPid: /proc/$$/status; echo err >&2; exit 4"]
        )
        names = namespace.run(["sh", "-c", "echo /proc/[0-9]*"]).stdout.split()
    assert inside.returncode == 4
    assert inside.stdout.replace(b"\0", b" ") == f"sh -c {WAITS} {silence} PPid:\t0\n".encode()
    assert inside.stderr == b"err\n"
    assert len(names) <= 2


def test_what_is_run_beside_it_may_be_killed_or_take_too_long(silence: str) -> None:
    with started("sh", "-c", WAITS, silence) as namespace:
        assert namespace.run(["sh", "-c", "kill -KILL $$"]).returncode == 137
        with pytest.raises(subprocess.TimeoutExpired):
            namespace.run(["sh", "-c", "read -r line < " + silence], timeout=0.2)
        assert namespace.wait(0) is None


@pytest.fixture
def odd_signals() -> Iterator[None]:
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGQUIT, signal.SIGHUP)}
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    yield
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("odd_signals")
def test_no_signal_is_ignored_or_blocked_whatever_the_parent_does() -> None:
    with PidNamespace(["cat", "/proc/self/status"], stdout=subprocess.PIPE) as namespace:
        assert namespace.stdout is not None
        status = namespace.stdout.read().decode()
        inside = namespace.wait(PATIENCE)
    masks = {
        line.split(":\t")[0]: int(line.split()[1], 16)
        for line in status.splitlines()
        if "Sig" in line[:3] and "/" not in line
    }
    assert inside == 0
    assert masks["SigBlk"] == 0
    assert masks["SigIgn"] & ~LIBC_S_OWN == 0


def test_nothing_is_left_when_the_block_is_left(silence: str) -> None:
    with started("sh", "-c", f"(read -r line < {silence}) & {WAITS}", silence) as namespace:
        pidfd = os.pidfd_open(namespace.pid)
    namespace.close()
    assert select.select([pidfd], [], [], 0)[0] == [pidfd], "it has ended"
    os.close(pidfd)


def test_it_ends_with_whoever_started_it() -> None:
    source = (
        "import os, sys; from graceful.rehearse.pidns import PidNamespace\n"
        "namespace = PidNamespace(['sleep', '600'], stdout=2)\n"
        "print(namespace.pid, flush=True); sys.stdin.read(1); os.kill(os.getpid(), 9)"
    )
    root = Path(pidns.__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", source], cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as starter:
        assert starter.stdin is not None
        assert starter.stdout is not None
        pidfd = os.pidfd_open(int(starter.stdout.readline()))
        starter.stdin.write(b"\n")
    assert select.select([pidfd], [], [], PATIENCE)[0] == [pidfd]
    os.close(pidfd)


def test_a_command_that_there_is_not_is_refused_by_name() -> None:
    with pytest.raises(PidNamespaceError, match="no-such-command: No such file"):
        PidNamespace(["no-such-command"])


def test_directory_and_environment_are_those_given(tmp_path: Path) -> None:
    environment = {"PATH": os.defpath, "WORD": "given"}
    with PidNamespace(
        ["sh", "-c", 'pwd; echo "$WORD"; env | wc -l'], cwd=tmp_path, env=environment, stdout=subprocess.PIPE
    ) as namespace:
        assert namespace.stdout is not None
        shown = namespace.stdout.read().decode().split()
    assert shown[:2] == [str(tmp_path), "given"]
    assert int(shown[2]) <= 4, "PATH, WORD, and what a shell sets itself: PWD, perhaps OLDPWD or _"


@pytest.mark.parametrize(
    ("number", "setting", "expected"),
    [
        (1, "kernel/unprivileged_userns_clone", "(kernel.unprivileged_userns_clone is 0)"),
        (28, "user/max_user_namespaces", "(user.max_user_namespaces is 0)"),
    ],
)
def test_a_refusal_names_the_setting_that_forbids_it(
    number: int, setting: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "proc/sys" / setting
    path.parent.mkdir(parents=True)
    path.write_text("0\n")
    monkeypatch.setattr(
        pidns, "Path", lambda *parts: tmp_path.joinpath(*(part.lstrip("/") for part in parts))
    )
    problem = PidNamespaceError("unshare: refused")
    problem.__cause__ = OSError(number, "refused")
    assert pidns._who_refuses(problem).strip() == expected


def test_a_covered_proc_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pidns, "_SYSCTLS", {})
    problem = PidNamespaceError("mount: Operation not permitted")
    problem.__cause__ = PermissionError(1, "Operation not permitted")
    assert pidns._who_refuses(problem) == " (parts of /proc are covered here, as in a container)"
