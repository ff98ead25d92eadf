"""Each rule of the doctor's against a procfs of ours; `tests/process/` holds it against the kernel."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from graceful import delivery
from graceful.delivery import Answer, Delivery, Fate, examine
from graceful.processes import ProcessTable
from tests.fake_proc import TERM, FakeProc

RUN = ("graceful", "run", "app:app")
TEXT = "graceful run app:app"
PYTHON = ("python", "supervise.py")


@pytest.fixture
def proc(tmp_path: Path) -> FakeProc:
    return FakeProc(tmp_path)


@pytest.fixture
def host(tmp_path: Path) -> FakeProc:
    return FakeProc(tmp_path, machine=True)


def fates(found: Delivery) -> list[Fate]:
    return [each.fate for each in found.links]


def behind(proc: FakeProc, *command: str, caught: Sequence[int] = (), place: str = "do_wait") -> Delivery:
    """A service that `command`, as PID 1, has started."""
    proc.add(1, *command, caught=caught, place=place, children=[7])
    proc.add(7, *RUN, parent=1, caught=[TERM])
    return examine(proc.table, 7)


# The service itself.


def test_a_service_as_pid_1(proc: FakeProc) -> None:
    proc.add(1, *RUN, caught=[TERM])
    found = examine(proc.table, 1)
    assert (found.answer, fates(found), found.keeper) == (Answer.ARRIVES, [Fate.HANDLED], None)
    assert (found.instead, found.warning(), found.is_certain) == (None, None, False)
    assert found.why == "all on its way pass it on, and the process handles it"


def test_pid_1_without_a_handler(proc: FakeProc) -> None:
    proc.add(1, "python", "app.py")
    found = examine(proc.table, 1)
    assert (found.answer, fates(found)) == (Answer.LOST, [Fate.DROPPED])
    assert found.warning() == (
        "SIGTERM will not reach this service: this process, `python app.py`, has no handler for it: the "
        "kernel drops such a signal to PID 1; nothing is drained, and all is killed at the end of the grace "
        "period (exit code 137). Start it with `graceful run MODULE:APP`, or wrap the app: "
        "app = Runtime().wrap(app)"
    )


@pytest.mark.parametrize(
    ("masks", "fate", "answer"),
    [
        ({"caught": [TERM]}, Fate.HANDLED, Answer.ARRIVES),
        ({"caught": [2]}, Fate.DIES, Answer.LOST),
        ({"caught": [TERM], "ignored": [TERM]}, Fate.IGNORED, Answer.LOST),
        ({"ignored": [TERM]}, Fate.IGNORED, Answer.LOST),
        ({"caught": [TERM], "blocked": [TERM]}, Fate.BLOCKED, Answer.LOST),
        ({"blocked": [TERM]}, Fate.MAY_TAKE, Answer.UNKNOWN),
    ],
)
def test_what_the_service_does(
    proc: FakeProc, masks: dict[str, list[int]], fate: Fate, answer: Answer
) -> None:
    proc.add(1, "tini", "--", "x", children=[7])
    proc.add(
        7,
        "python",
        "app.py",
        parent=1,
        caught=masks.get("caught", ()),
        ignored=masks.get("ignored", ()),
        blocked=masks.get("blocked", ()),
    )
    found = examine(proc.table, 7)
    assert (found.answer, fates(found)) == (answer, [Fate.PASSED_ON, fate])


def test_blocked_in_every_thread_or_in_one(proc: FakeProc) -> None:
    proc.add(1, *RUN, caught=[TERM], blocked=[TERM], threads={1: [TERM], 2: [TERM]})
    found = examine(proc.table, 1)
    assert (found.answer, fates(found)) == (Answer.LOST, [Fate.BLOCKED])
    assert found.instead == "A blocked signal is inherited: take the block from whoever starts it"
    proc.add(1, *RUN, caught=[TERM], blocked=[TERM], threads={1: [TERM], 2: []})
    assert examine(proc.table, 1).answer is Answer.ARRIVES


@pytest.mark.parametrize(
    ("place", "answer"),
    [("do_sigtimedwait", Answer.ARRIVES), ("0", Answer.UNKNOWN), ("ep_poll", Answer.LOST)],
)
def test_a_service_that_waits_for_signals(proc: FakeProc, place: str, answer: Answer) -> None:
    proc.add(1, "python", "app.py", place=place)
    assert examine(proc.table, 1).answer is answer


def test_an_init_is_asked_about(proc: FakeProc) -> None:
    proc.add(1, "tini", "--", "x")
    assert examine(proc.table, 1).answer is Answer.ARRIVES


def test_a_shell_is_asked_about(proc: FakeProc) -> None:
    proc.add(1, "sh", "-c", "x; y", place="0")
    assert fates(examine(proc.table, 1)) == [Fate.DROPPED]


def test_gone_zombies_and_others_procfs(proc: FakeProc) -> None:
    proc.add(7, state="Z (zombie)")
    proc.add(8, "x")
    proc.without(8, "SigCgt")
    for pid in (7, 8, 9):
        with pytest.raises(ProcessLookupError):
            examine(proc.table, pid)


# Between PID 1 and the service.


def test_a_shell_as_pid_1(proc: FakeProc) -> None:
    found = behind(proc, "/bin/sh", "-c", f"cd /app && {TEXT}", place="0")
    assert (found.answer, fates(found)) == (Answer.LOST, [Fate.DROPPED, Fate.HANDLED])
    assert found.keeper == found.links[0]
    assert found.warning() == (
        f"SIGTERM will not reach this service: PID 1, `/bin/sh -c 'cd /app && {TEXT}'`, has no handler for "
        "it: the kernel drops such a signal to PID 1; nothing is drained, and all is killed at the end of "
        f"the grace period (exit code 137). Write: CMD cd /app && exec {TEXT}"
    )


def test_an_init_before_a_shell(proc: FakeProc) -> None:
    """The trap: fast, and everything in flight is lost."""
    proc.add(1, "/sbin/docker-init", "--", "/bin/sh", "-c", TEXT, children=[6])
    proc.add(6, "/bin/sh", "-c", TEXT, parent=1)
    proc.add(7, *RUN, parent=6, caught=[TERM])
    found = examine(proc.table, 7)
    assert (found.answer, fates(found)) == (Answer.LOST, [Fate.PASSED_ON, Fate.DIES, Fate.HANDLED])
    assert found.warning() == (
        f"SIGTERM will not reach this service: PID 6, `/bin/sh -c '{TEXT}'`, has no handler for it, and dies "
        "of it; the service is killed with it, at once, and what is in flight is lost. Write the exec form: "
        'CMD ["graceful", "run", "app:app"]'
    )


@pytest.mark.parametrize(
    ("text", "fate", "answer"),
    [
        (f"trap 'echo bye' TERM; {TEXT}", Fate.HELD, Answer.LOST),
        (f"trap 'echo bye' TERM; wait-for-it.sh; {TEXT}", Fate.HELD, Answer.LOST),
        (f"trap 'kill $!' TERM; {TEXT} & wait", Fate.UNSEEN, Answer.UNKNOWN),
        (f". /lib.sh; {TEXT}", Fate.UNSEEN, Answer.UNKNOWN),
        (f"trap 'rm x' EXIT; {TEXT}", Fate.ENDS, Answer.LOST),
        (f"trap 'kill 0' EXIT; {TEXT}", Fate.UNSEEN, Answer.UNKNOWN),
    ],
)
def test_a_shell_that_catches_it(proc: FakeProc, text: str, fate: Fate, answer: Answer) -> None:
    found = behind(proc, "bash", "-c", text, caught=[TERM])
    assert (found.answer, fates(found)[0]) == (answer, fate)


def test_a_shell_that_catches_it_in_a_script(proc: FakeProc) -> None:
    assert fates(behind(proc, "sh", "/entry.sh", caught=[TERM]))[0] is Fate.UNSEEN
    proc.write(1, "root/entry.sh", "trap x TERM\n# wait\ngraceful run\n")
    assert fates(examine(proc.table, 7))[0] is Fate.HELD


def test_a_trap_may_come_later(proc: FakeProc) -> None:
    found = behind(proc, "sh", "-c", f"{TEXT} & sleep 1; trap 'kill $!' TERM; wait")
    assert (found.answer, fates(found)[0]) == (Answer.UNKNOWN, Fate.MAY_TAKE)
    assert fates(behind(proc, "sh", "-c", f"{TEXT} & wait"))[0] is Fate.DROPPED


def test_a_shell_that_ignores_it(proc: FakeProc) -> None:
    proc.add(1, "sh", "-c", f"trap '' TERM; {TEXT}", ignored=[TERM])
    proc.add(7, *RUN, parent=1, caught=[TERM])
    assert fates(examine(proc.table, 7)) == [Fate.IGNORED, Fate.HANDLED]
    proc.add(1, "strace", *RUN, ignored=[TERM])
    assert fates(examine(proc.table, 7)) == [Fate.IGNORED, Fate.HANDLED]


@pytest.mark.parametrize(
    ("command", "fate"),
    [
        (["tini", "--", *RUN], Fate.PASSED_ON),
        (["/tini-amd64", "--", *RUN], Fate.PASSED_ON),
        (["/usr/bin/tini-static", *RUN], Fate.PASSED_ON),
        (["/sbin/docker-init", "--", *RUN], Fate.PASSED_ON),
        (["/dev/init", "--", *RUN], Fate.PASSED_ON),
        (["/run/podman-init", "--", *RUN], Fate.PASSED_ON),
        (["/usr/bin/catatonit", "--", *RUN], Fate.PASSED_ON),
        (["tini", "-g", "--", *RUN], Fate.PASSED_TO_GROUP),
        (["tini", "--", *RUN, "-g"], Fate.PASSED_ON),
        (["dumb-init", *RUN], Fate.PASSED_TO_GROUP),
        (["dumb-init", "sh", "-c", TEXT], Fate.PASSED_TO_GROUP),
        (["dumb-init", "-v", "--", *RUN, "-c"], Fate.PASSED_TO_GROUP),
        (["dumb-init", "-c", *RUN], Fate.PASSED_ON),
        (["dumb-init", "--single-child", "--", *RUN], Fate.PASSED_ON),
        (["dumb-init", "--rewrite", "15:3", *RUN], Fate.UNSEEN),
        (["dumb-init", "-r15:3", *RUN], Fate.UNSEEN),
    ],
)
def test_inits(proc: FakeProc, command: list[str], fate: Fate) -> None:
    found = behind(proc, *command)
    assert (fates(found)[0]) == fate
    assert found.answer is (Answer.UNKNOWN if fate is Fate.UNSEEN else Answer.ARRIVES)


def test_tini_is_told_of_the_group_in_its_environment(proc: FakeProc) -> None:
    proc.add(1, "tini", "--", "sh", environ={"TINI_KILL_PROCESS_GROUP": "1"}, children=[6])
    proc.add(6, "sh", "-c", f"trap x TERM; {TEXT}", parent=1, caught=[TERM])
    proc.add(7, *RUN, parent=6, caught=[TERM], group=6)
    assert examine(proc.table, 7).answer is Answer.ARRIVES


@pytest.mark.parametrize(
    ("children", "group", "fate"),
    [
        ([7], 1, Fate.PASSED_ON),
        ([], 1, Fate.PASSED_ON),  # the kernel does not say
        ([7, 8], 7, Fate.PASSED_ON),
        ([7, 8], 0, Fate.PASSED_ON),
        ([6, 7], 7, Fate.PASSED_ELSEWHERE),
        ([7, 8], 1, Fate.PASSED_ELSEWHERE),  # it was there before the init, and has the group of its shell
    ],
)
def test_an_init_passes_it_to_its_own_child(
    proc: FakeProc, children: list[int], group: int, fate: Fate
) -> None:
    proc.add(1, "tini", "--", "sleep", "1000", children=children)
    proc.add(7, *RUN, parent=1, caught=[TERM], group=group)
    found = examine(proc.table, 7)
    assert fates(found) == [fate, Fate.HANDLED]
    assert found.answer is (Answer.ARRIVES if fate is Fate.PASSED_ON else Answer.UNKNOWN)


@pytest.mark.parametrize(
    ("text", "caught", "group", "answer"),
    [
        (f"trap x TERM; {TEXT}", [TERM], 6, Answer.ARRIVES),
        (f"trap x TERM; {TEXT}", [TERM], 7, Answer.LOST),
        (f"trap x TERM; {TEXT}", [TERM], 0, Answer.LOST),
        (f"trap 'exit 0' TERM; {TEXT} & wait", [TERM], 6, Answer.UNKNOWN),
        (f"{TEXT}; true", [], 6, Answer.LOST),
        (f"trap 'rm x' EXIT; {TEXT}", [TERM], 6, Answer.LOST),
    ],
)
def test_a_group_that_is_told(
    proc: FakeProc, text: str, caught: list[int], group: int, answer: Answer
) -> None:
    """It helps where the shell waits on for the service, and not where its own end is that of PID 1."""
    proc.add(1, "dumb-init", "bash", "-c", text, children=[6])
    proc.add(6, "bash", "-c", text, parent=1, caught=caught, group=6)
    proc.add(7, *RUN, parent=6, caught=[TERM], group=group)
    assert examine(proc.table, 7).answer is answer


def test_timeout(proc: FakeProc) -> None:
    assert fates(behind(proc, "timeout", "60", *RUN, caught=[TERM]))[0] is Fate.PASSED_TO_GROUP
    assert fates(behind(proc, "timeout", "--foreground", "60", *RUN, caught=[TERM]))[0] is Fate.PASSED_ON


@pytest.mark.parametrize(
    "command",
    [
        ["/usr/bin/python3", "/usr/bin/gunicorn", "app:app"],
        ["python", "-m", "gunicorn", "app:app"],
        ["gunicorn: master [app]"],
        ["gunicorn: master [/srv/app]"],
        ["/venv/bin/python", "/venv/bin/uvicorn", "app:app", "--workers", "2"],
        ["python", "-m", "uvicorn", "app:app", "--workers", "2"],
        ["granian", "app:app"],
        ["python", "/venv/bin/hypercorn", "app:app"],
    ],
)
def test_masters_of_servers(proc: FakeProc, command: list[str]) -> None:
    assert behind(proc, *command, caught=[TERM]).answer is Answer.ARRIVES
    assert fates(behind(proc, *command))[0] is Fate.DROPPED


def test_only_itself_knows_what_it_does(proc: FakeProc) -> None:
    found = behind(proc, *PYTHON, caught=[TERM])
    assert (found.answer, fates(found), found.warning()) == (
        Answer.UNKNOWN,
        [Fate.UNSEEN, Fate.HANDLED],
        None,
    )
    assert found.why == "process 1, python, takes it; whether it passes it on cannot be seen"


@pytest.mark.parametrize(
    ("place", "fate"),
    [("do_wait", Fate.DROPPED), ("do_sigtimedwait", Fate.UNSEEN), ("0", Fate.MAY_TAKE)],
)
def test_another_without_a_handler(proc: FakeProc, place: str, fate: Fate) -> None:
    assert fates(behind(proc, *PYTHON, place=place))[0] is fate


def test_a_signalfd(proc: FakeProc) -> None:
    proc.add(1, "s6-svscan", blocked=[TERM])
    proc.add(7, *RUN, parent=1, caught=[TERM])
    assert fates(examine(proc.table, 7))[0] is Fate.UNSEEN


def test_behind_somebody_unseen_only_the_service_itself_decides(proc: FakeProc) -> None:
    proc.add(1, *PYTHON, caught=[TERM])
    proc.add(6, "sh", "-c", TEXT, parent=1)
    proc.add(7, *RUN, parent=6, caught=[TERM])
    assert examine(proc.table, 7).answer is Answer.UNKNOWN
    proc.add(7, *RUN, parent=6, ignored=[TERM])
    found = examine(proc.table, 7)
    assert (found.answer, found.keeper) == (Answer.LOST, found.links[-1])


# What to write instead.


def test_shells_in_a_row(proc: FakeProc) -> None:
    proc.add(1, "sh", "-c", "sh -c x")
    proc.add(6, "sh", "-c", TEXT, parent=1)
    proc.add(7, *RUN, parent=6, caught=[TERM])
    assert examine(proc.table, 7).instead == 'Write the exec form: CMD ["graceful", "run", "app:app"]'


def test_an_entrypoint_before_a_shell_form(proc: FakeProc) -> None:
    proc.add(1, "/bin/sh", "/entry.sh", "/bin/sh", "-c", TEXT)
    proc.write(1, "root/entry.sh", '#!/bin/sh\nset -e\n"$@"\n')
    proc.add(6, "/bin/sh", "-c", TEXT, parent=1)
    proc.add(7, *RUN, parent=6, caught=[TERM])
    assert examine(proc.table, 7).instead == (
        'In /entry.sh write: exec "$@". Write the exec form: CMD ["graceful", "run", "app:app"]'
    )


def test_an_entrypoint_before_a_shell_that_is_none_in_the_way(proc: FakeProc) -> None:
    proc.add(1, "/bin/sh", "/entry.sh")
    proc.write(1, "root/entry.sh", '"$@"')
    proc.add(6, "bash", "-c", f"trap 'kill $!' TERM; {TEXT} & wait", parent=1, caught=[TERM])
    proc.add(7, *RUN, parent=6, caught=[TERM])
    assert examine(proc.table, 7).instead == 'In /entry.sh write: exec "$@"'


# Who is warned.


def test_no_warning_below_somebody_with_ways_of_its_own(proc: FakeProc) -> None:
    proc.add(1, "sh", "-c", "pytest")
    proc.add(6, "python", "-m", "pytest", parent=1)
    proc.add(7, *RUN, parent=6, caught=[TERM])
    found = examine(proc.table, 7)
    assert (found.answer, found.warning()) == (Answer.LOST, None)


@pytest.mark.parametrize("place", [1, 6])
def test_no_warning_below_a_shell_that_somebody_sits_at(proc: FakeProc, place: int) -> None:
    proc.add(1, *(["bash"] if place == 1 else ["bwrap", "bash"]))
    proc.add(6, *(["bash"] if place == 6 else ["sh", "-c", TEXT]), parent=1)
    proc.add(7, *RUN, parent=6, caught=[TERM])
    found = examine(proc.table, 7)
    assert (found.answer, found.warning()) == (Answer.LOST, None)


def test_a_warning_is_one_line(proc: FakeProc) -> None:
    found = behind(proc, "sh", "-c", f"{'x' * 4096}\n\x1b[2J{TEXT} --a '\udcff'\n{'y' * 4096}")
    warning = found.warning()
    assert warning is not None
    assert warning.isprintable()
    assert len(warning) < 1000
    assert warning.endswith(
        "Put exec before the command that starts the service: exec graceful run app:app"
    ) is (False)


def test_a_warning_here(proc: FakeProc, monkeypatch: pytest.MonkeyPatch) -> None:
    def table() -> ProcessTable:
        return proc.table

    monkeypatch.setattr(delivery, "ProcessTable", table)
    assert delivery.warning_here() is None  # a procfs that says nothing of us
    proc.add(1, "sh", "-c", TEXT)
    proc.add(os.getpid(), *RUN, parent=1, caught=[TERM])
    warning = delivery.warning_here()
    assert warning is not None
    assert warning.startswith("SIGTERM will not reach this service: PID 1, ")
    proc.root.joinpath("self").unlink()
    assert delivery.warning_here() is None


# Who is signalled.


def test_hidden_parents(proc: FakeProc) -> None:
    proc.add(1, "sh", "-c", TEXT)
    proc.add(7, *RUN, parent=1, caught=[TERM])
    proc.hide(1)
    found = examine(proc.table, 7)
    assert (found.answer, found.warning()) == (Answer.UNKNOWN, None)
    assert found.why == "process 1, the parent of 7, cannot be seen from here"


def test_docker_exec(proc: FakeProc) -> None:
    proc.add(1, *RUN, caught=[TERM])
    proc.add(20, "sh", "-c", TEXT)
    proc.add(21, *RUN, parent=20, caught=[TERM])
    found = examine(proc.table, 21)
    assert found.answer is Answer.UNKNOWN
    assert found.why == (
        "process 21 came into the container from outside (docker exec, nsenter), and the signal goes to PID 1"
    )
    assert fates(found) == [Fate.HANDLED]


def test_a_pod_that_shares_its_pid_namespace(proc: FakeProc) -> None:
    """shareProcessNamespace: PID 1 is the pause container's, each container's first has PPid 0."""
    proc.add(1, "/pause", caught=[TERM], cgroup="0::/../pause")
    proc.add(20, "sh", "-c", TEXT)
    proc.add(21, *RUN, parent=20, caught=[TERM])
    found = examine(proc.table, 21)
    assert (found.answer, fates(found)) == (Answer.LOST, [Fate.DIES, Fate.HANDLED])


@pytest.mark.parametrize("shim", ["/usr/bin/containerd-shim-runc-v2", "/usr/bin/conmon"])
def test_a_container_seen_from_its_host(host: FakeProc, shim: str) -> None:
    host.add(1, "/sbin/init", caught=[TERM])
    host.add(500, shim, parent=1, caught=[TERM])
    host.add(501, "sh", "-c", TEXT, parent=500, inside=(501, 1))
    host.add(502, *RUN, parent=501, inside=(502, 7), caught=[TERM])
    found = examine(host.table, 502)
    assert (found.answer, fates(found)) == (Answer.LOST, [Fate.DROPPED, Fate.HANDLED])
    host.add(503, *RUN, parent=500, inside=(503, 9), caught=[TERM])  # docker exec
    assert examine(host.table, 503).answer is Answer.UNKNOWN


def test_a_namespace_below_seen_from_its_host(host: FakeProc) -> None:
    host.add(1, "/sbin/init", caught=[TERM])
    host.add(500, "unshare", "--pid", "--fork", parent=1)
    host.add(501, *RUN, parent=500, inside=(501, 1), caught=[TERM])
    assert examine(host.table, 501).answer is Answer.ARRIVES


def test_a_container_in_a_container(proc: FakeProc) -> None:
    proc.add(1, "dockerd", caught=[TERM])
    proc.add(500, "containerd-shim-runc-v2", parent=1, caught=[TERM])
    proc.add(501, *RUN, parent=500, inside=(501, 1), caught=[TERM])
    assert examine(proc.table, 501).answer is Answer.ARRIVES
    proc.add(500, "unshare", "--pid", "--fork", parent=1)
    found = examine(proc.table, 501)
    assert found.answer is Answer.UNKNOWN
    assert found.why == (
        "process 501 begins a PID namespace of its own; whether it is signalled, or PID 1, cannot be seen "
        "from here"
    )


def test_a_container_that_shares_the_hosts_namespace(host: FakeProc) -> None:
    host.add(1, "/sbin/init", caught=[TERM])
    host.add(500, "/usr/bin/containerd-shim-runc-v2", parent=1, caught=[TERM])
    host.add(501, "sh", "-c", TEXT, parent=500)
    host.add(502, *RUN, parent=501, caught=[TERM])
    found = examine(host.table, 502)
    assert (found.answer, fates(found)) == (Answer.LOST, [Fate.DIES, Fate.HANDLED])


def test_on_a_host_it_is_signalled_by_its_id(host: FakeProc) -> None:
    host.add(1, "/sbin/init", caught=[TERM])
    host.add(500, "bash", parent=1, cgroup="0::/user.slice/session-1.scope")
    host.add(501, *RUN, parent=500, caught=[TERM], cgroup="0::/user.slice/session-1.scope")
    found = examine(host.table, 501)
    assert (found.answer, fates(found)) == (Answer.ARRIVES, [Fate.HANDLED])


def test_the_machines_init_ignores_nothing_special(host: FakeProc) -> None:
    """Its PID 1 is no container's, whoever asks about it."""
    host.add(1, "sh", "-c", "x")
    assert fates(examine(host.table, 1)) == [Fate.DIES]


@pytest.mark.parametrize(
    ("kill_mode", "answer"),
    [
        ("control-group", Answer.ARRIVES),
        ("mixed", Answer.LOST),
        ("process", Answer.LOST),
        (None, Answer.UNKNOWN),
    ],
)
def test_a_unit_of_systemds(host: FakeProc, kill_mode: str | None, answer: Answer) -> None:
    unit = "1:name=systemd:/\n0::/system.slice/web.service"
    host.add(1, "/sbin/init", caught=[TERM], cgroup="0::/init.scope")
    host.add(500, "sh", "-c", TEXT, parent=1, cgroup=unit)
    host.add(501, *RUN, parent=500, caught=[TERM], cgroup=unit)
    assert examine(host.table, 501, kill_mode=kill_mode).answer is answer


def test_a_unit_of_one_process(host: FakeProc) -> None:
    host.add(1, "/sbin/init", caught=[TERM], cgroup="0::/init.scope")
    host.add(501, *RUN, parent=1, caught=[TERM], cgroup="0::/system.slice/web.service")
    assert examine(host.table, 501).answer is Answer.ARRIVES


def test_a_hosts_control_group_cannot_be_seen(host: FakeProc) -> None:
    host.add(1, "/sbin/init", caught=[TERM])
    host.add(501, *RUN, parent=1, caught=[TERM], cgroup=None)
    assert examine(host.table, 501).answer is Answer.ARRIVES


def test_heroku_signals_all(proc: FakeProc) -> None:
    """Which of them ends first, and what then, is not said anywhere."""
    proc.add(1, "ps-run")
    proc.add(6, "bash", "-c", TEXT, parent=1)
    proc.add(7, *RUN, parent=6, caught=[TERM], environ={"DYNO": "web.1"})
    found = examine(proc.table, 7)
    assert (found.answer, found.warning()) == (Answer.UNKNOWN, None)
    assert found.why.startswith("Heroku signals every process of the dyno; but process 1, ps-run, ")
    proc.add(7, *RUN, parent=6, ignored=[TERM], environ={"DYNO": "web.1"})
    assert examine(proc.table, 7).answer is Answer.UNKNOWN
    proc.add(1, *RUN, ignored=[TERM], environ={"DYNO": "web.1"})
    assert examine(proc.table, 1).answer is Answer.LOST
