"""Whether a signal gets past the shells to a service, on a procfs that is made up."""

from __future__ import annotations

from pathlib import Path

import pytest

from graceful.rehearse.keepers import Way, shell_in_front, way_of
from tests.fake_proc import TERM, FakeProc


@pytest.fixture
def proc(tmp_path: Path) -> FakeProc:
    return FakeProc(tmp_path / "proc")


def test_a_shell_as_pid_1_has_the_kernel_drop_it(proc: FakeProc) -> None:
    pid = proc.add(4711, "/bin/sh", "start.sh", inside=(4711, 1))

    assert way_of(TERM, pid, proc.table) == Way(
        arrives=False,
        keeper="sh, which has no handler for it (the kernel drops such a signal to PID 1)",
    )


def test_any_other_shell_ends_by_it(proc: FakeProc) -> None:
    way = way_of(TERM, proc.add(7, "dash", "start.sh"), proc.table)

    assert way == Way(arrives=False, keeper="dash, which ends by it, and hands it on to nobody")


def test_a_shell_that_ignores_it(proc: FakeProc) -> None:
    way = way_of(TERM, proc.add(7, "bash", "start.sh", ignored=[TERM]), proc.table)

    assert (way.arrives, way.keeper) == (False, "bash, which ignores it")


def test_a_trap_may_do_anything(proc: FakeProc) -> None:
    assert way_of(TERM, proc.add(7, "sh", "start.sh", caught=[TERM]), proc.table) == Way()


def test_a_shell_that_said_exec_is_no_shell_any_more(proc: FakeProc) -> None:
    assert way_of(TERM, proc.add(7, "python", "app.py"), proc.table) == Way(arrives=True)


def test_of_a_process_that_is_gone_nothing_is_known(proc: FakeProc) -> None:
    proc.add(7, "sh", state="Z (zombie)")

    assert way_of(TERM, 7, proc.table) == way_of(TERM, 8, proc.table) == Way()


@pytest.mark.parametrize(
    ("command", "shell"),
    [
        (("sh", "-c", "python app.py"), "sh"),
        (("/bin/bash", "-c", "cd /app && python app.py"), "bash"),
        (("busybox", "sh", "-c", "python app.py; true"), "busybox"),
        (("sh", "-c", "exec python app.py"), None),
        (("sh", "-c", "cd /app && exec python app.py"), None),
        (("sh", "-c", "exec python app.py | tee log"), "sh"),
        (("sh", "-c", "exec python app.py && true"), "sh"),
        (("sh", "start.sh"), "sh"),
        (("fish", "-c", "python app.py; true"), "fish"),
        (("./entrypoint.sh", "python"), "entrypoint.sh"),
        (("python", "app.py"), None),
        ((), None),
    ],
)
def test_the_shell_in_front(command: tuple[str, ...], shell: str | None) -> None:
    assert shell_in_front(command) == shell
