from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from graceful.processes import Process, ProcessTable, shown
from tests.fake_proc import TERM, FakeProc


@pytest.fixture
def proc(tmp_path: Path) -> FakeProc:
    return FakeProc(tmp_path)


def read(proc: FakeProc, pid: int) -> Process:
    found = proc.table.read(pid)
    assert found is not None
    return found


def test_what_the_kernel_writes(proc: FakeProc) -> None:
    proc.add(7, "/bin/sh", "-c", "x", parent=1, caught=[TERM, 64], ignored=[1], inside=(7, 3), group=2)
    found = read(proc, 7)
    assert (found.parent, found.group, found.inside) == (1, 2, (7, 3))
    assert (found.caught, found.ignored, found.blocked) == ({TERM, 64}, {1}, frozenset())
    assert (found.program, found.command_line) == ("sh", "/bin/sh -c x")
    assert not found.is_zombie


@pytest.mark.parametrize("state", ["Z (zombie)", "X (dead)"])
def test_a_zombie_has_no_command(proc: FakeProc, state: str) -> None:
    found = read(proc, proc.add(7, state=state))
    assert (found.is_zombie, found.command, found.program, found.command_line) == (True, (), "", "?")


def test_blocked_is_what_no_thread_takes(proc: FakeProc) -> None:
    proc.add(7, "x", blocked=[TERM, 2], threads={7: [TERM, 2], 8: [2]})
    assert read(proc, 7).blocked == {2}


def test_blocked_where_the_threads_cannot_be_seen(proc: FakeProc) -> None:
    proc.add(7, "x", blocked=[TERM])
    for each in proc.root.joinpath("7/task/7").iterdir():
        each.unlink()
    proc.root.joinpath("7/task/7").rmdir()
    proc.root.joinpath("7/task").rmdir()
    assert read(proc, 7).blocked == {TERM}
    assert proc.table.waits_for_signals(7) is None


@pytest.mark.parametrize("field", ["PPid", "State", "SigCgt", "SigIgn", "SigBlk"])
def test_a_procfs_that_says_less(proc: FakeProc, field: str) -> None:
    proc.add(7, "x")
    proc.without(7, field)
    assert proc.table.read(7) is None


def test_fields_that_old_kernels_do_not_have(proc: FakeProc) -> None:
    proc.add(7, "x", group=3)
    proc.without(7, "NSpid")
    proc.without(7, "NSpgid")
    assert (read(proc, 7).inside, read(proc, 7).group) == ((7,), 0)


@pytest.mark.parametrize("text", ["State:\tS\nPPid:\tone\n", "", "\0\xff", "PPid:\t\n" * 99])
def test_nonsense_is_no_process(proc: FakeProc, text: str) -> None:
    proc.add(7, "x")
    proc.write(7, "status", text)
    assert proc.table.read(7) is None


def test_gone_and_hidden(proc: FakeProc) -> None:
    proc.add(7, "x")
    proc.hide(7)
    assert proc.table.read(7) is None
    assert proc.table.read(8) is None
    assert [each.pid for each in proc.table.everyone()] == []
    assert (proc.table.cgroup(7), proc.table.environment(7), proc.table.children(7)) == (None, None, [])


def test_everyone_in_order(proc: FakeProc) -> None:
    for pid in (10, 9, 100):
        proc.add(pid, "x")
    proc.root.joinpath("version").write_text("Linux")
    assert [each.pid for each in proc.table.everyone()] == [9, 10, 100]


def test_ancestors(proc: FakeProc) -> None:
    proc.add(1, "sh")
    proc.add(7, "x", parent=1)
    proc.add(8, "y", parent=7)
    chain, whole = proc.table.with_ancestors(read(proc, 8))
    assert ([each.pid for each in chain], whole) == ([1, 7, 8], True)
    proc.hide(7)
    chain, whole = proc.table.with_ancestors(read(proc, 8))
    assert ([each.pid for each in chain], whole) == ([8], False)


def test_ancestors_in_a_circle_end(proc: FakeProc) -> None:
    """Read one after the other, ids may have been given away again in between."""
    proc.add(7, "x", parent=8)
    proc.add(8, "y", parent=7)
    chain, whole = proc.table.with_ancestors(read(proc, 8))
    assert ([each.pid for each in chain], whole) == ([7, 8], False)


def test_environment_and_cgroup(proc: FakeProc) -> None:
    proc.add(7, "x", environ={"A": "b=c", "EMPTY": ""}, cgroup="0::/system.slice/web.service")
    proc.write(7, "environ", "A=b=c\0EMPTY=\0nothing\0")
    assert proc.table.environment(7) == {"A": "b=c", "EMPTY": ""}
    assert proc.table.cgroup(7) == "0::/system.slice/web.service\n"


def test_children(proc: FakeProc) -> None:
    proc.add(1, "tini", children=[7, 9])
    assert proc.table.children(1) == [7, 9]


@pytest.mark.parametrize(
    ("places", "waits"),
    [
        (["do_wait"], False),
        (["do_sigtimedwait.isra.0"], True),
        (["futex_wait_queue", "do_sigtimedwait"], True),
        (["0"], None),
        (["", "do_wait"], None),
        (["0", "do_sigtimedwait"], True),
    ],
)
def test_waits_for_signals(proc: FakeProc, places: list[str], *, waits: bool | None) -> None:
    proc.add(7, "x", place=None)
    for thread, place in enumerate(places, start=7):
        proc.write(7, f"task/{thread}/wchan", place)
    assert proc.table.waits_for_signals(7) is waits


@pytest.mark.parametrize(
    ("opened", "is_terminal"), [("/dev/pts/3", True), ("/dev/tty1", True), ("pipe:[1]", False)]
)
def test_terminal(proc: FakeProc, opened: str, *, is_terminal: bool) -> None:
    proc.add(7, "x")
    proc.root.joinpath("7/fd").mkdir()
    proc.root.joinpath("7/fd/2").symlink_to(opened)
    assert proc.table.has_terminal(7) is is_terminal
    assert proc.table.has_terminal(8) is False


def test_files_of_the_process(proc: FakeProc) -> None:
    proc.add(7, "x")
    proc.write(7, "root/entry.sh", "exec x")
    proc.write(7, "cwd/entry.sh", "x")
    os.mkfifo(proc.root / "7/cwd/pipe")
    assert proc.table.has_file(7, "/entry.sh")
    assert not proc.table.has_file(7, "/.dockerenv")
    assert proc.table.script(7, "/entry.sh") == "exec x"
    assert proc.table.script(7, "entry.sh") == "x"
    assert proc.table.script(7, "pipe") is None
    assert proc.table.script(7, "nowhere") is None


def test_readable_only_if_it_is_ours(proc: FakeProc, tmp_path: Path) -> None:
    assert proc.table.is_readable
    proc.add(os.getpid(), "python")
    assert proc.table.is_readable
    proc.add(os.getpid(), "python", inside=(os.getpid(), 1))
    assert not proc.table.is_readable
    proc.root.joinpath("self").unlink()
    assert not proc.table.is_readable
    assert not proc.table.is_machines
    proc.root.joinpath("self").symlink_to("1")
    assert not proc.table.is_readable


def test_whose_namespace(proc: FakeProc, tmp_path: Path) -> None:
    assert not proc.table.is_machines
    other = tmp_path / "machine"
    assert FakeProc(other, machine=True).table.is_machines


def test_long_and_hostile_command_lines(proc: FakeProc) -> None:
    found = read(proc, proc.add(7, "sh", "-c", "a\nb\x1b[31m\x85\u2028" + "x" * 4096))
    assert len(found.command_line) == 160
    assert found.command_line.isprintable()
    assert found.command_line.startswith("sh -c 'a b [31m")
    assert found.command_line.endswith("x…")
    undecodable = read(proc, proc.add(8, "x", "\udcff"))
    assert undecodable.command == ("x", "\udcff")
    assert undecodable.command_line == "x ' '"


def test_quotes_that_can_be_read(proc: FakeProc) -> None:
    found = read(proc, proc.add(7, "sh", "-c", "trap 'x' TERM; y", "a b", "", "it's $HOME"))
    assert found.command_line == """sh -c "trap 'x' TERM; y" 'a b' '' 'it'"'"'s $HOME'"""


def test_shown() -> None:
    assert shown("abc", 3) == "abc"
    assert shown("abcd", 3) == "ab…"
    assert shown("a\tb") == "a b"


def test_login_shells_and_folders(proc: FakeProc) -> None:
    assert read(proc, proc.add(7, "-bash")).program == "bash"
    assert read(proc, proc.add(8, "/usr/local/bin/python3.13")).program == "python3.13"


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="there is no procfs here")
def test_this_process() -> None:
    table = ProcessTable()
    found = table.read(os.getpid())
    assert table.is_readable
    assert found is not None
    assert found.parent == os.getppid()
    assert signal.SIGINT in found.caught
    assert table.environment(os.getpid()) is not None
    assert os.getpid() in [each.pid for each in table.everyone()]
