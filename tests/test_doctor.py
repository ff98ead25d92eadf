from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from graceful.cli import doctor
from graceful.processes import ProcessTable
from tests.fake_proc import TERM, FakeProc

RUN = ("/usr/local/bin/python3.13", "/usr/local/bin/graceful", "run", "app:app")
SHOWN = "/usr/local/bin/python3.13 /usr/local/bin/graceful run app:app"
TEXT = "cd /app && graceful run app:app"
HANDLED = [2, 3, TERM]

Outcome = tuple[int, str, str]
Call = Callable[..., Outcome]


@pytest.fixture
def proc(tmp_path: Path) -> FakeProc:
    return FakeProc(tmp_path / "proc")


@pytest.fixture
def host(tmp_path: Path) -> FakeProc:
    return FakeProc(tmp_path / "proc", machine=True)


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Call:
    """The command with these arguments on the procfs of the test: its code, what it wrote to both streams."""

    def table() -> ProcessTable:
        return ProcessTable(tmp_path / "proc")

    def run(*arguments: str) -> Outcome:
        code = doctor.main(list(arguments))
        return code, *capsys.readouterr()

    monkeypatch.setattr(doctor, "ProcessTable", table)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return run


@pytest.fixture
def systemctl(tmp_path: Path) -> Callable[[str], None]:
    """Puts a `systemctl` on PATH that says this, and keeps what it was asked."""

    def install(source: str) -> None:
        path = tmp_path / "bin" / "systemctl"
        path.parent.mkdir()
        path.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\n{source}\n')
        path.chmod(0o755)

    return install


def serve(proc: FakeProc, pid: int = 1, *more: str, environ: Mapping[str, str] = {}, **facts: Any) -> None:
    proc.add(pid, *RUN, *more, caught=HANDLED, environ={"A": "b", **environ}, **facts)


def budget_of(call: Call) -> tuple[int, dict[str, Any]]:
    code, out, _ = call("--json")
    (found,) = json.loads(out)["processes"]
    return code, found["budget"]


def test_fine(proc: FakeProc, call: Call) -> None:
    serve(proc, ignored=[13], environ={"KUBERNETES_SERVICE_HOST": "10.0.0.1"})
    assert call() == (
        0,
        f"""\
SIGTERM reaches process 1: {SHOWN}

  1  {SHOWN}
       handles it

signals:   caught SIGINT SIGQUIT SIGTERM; ignored SIGPIPE; blocked none
budget:    kubernetes: 30 s grace = 5 lame duck + 18 drain + 5 release + 2 margin

PID 1:     {SHOWN}
""",
        "",
    )


def test_a_shell_in_the_way(proc: FakeProc, call: Call) -> None:
    proc.add(1, "/bin/sh", "-c", TEXT)
    serve(proc, 7, parent=1, environ={"K_SERVICE": "web"})
    assert call() == (
        1,
        f"""\
SIGTERM DOES NOT REACH process 7: {SHOWN}

  1  /bin/sh -c '{TEXT}'
     ^ has no handler for it: the kernel drops such a signal to PID 1
  7    {SHOWN}
         handles it

then:      nothing is drained, and all is killed at the end of the grace period (exit code 137)
way out:   Write: CMD cd /app && exec graceful run app:app
signals:   caught SIGINT SIGQUIT SIGTERM; ignored none; blocked none
budget:    cloud run: 10 s grace = 0 lame duck + 7.66 drain + 1.67 release + 0.67 margin

PID 1:     /bin/sh -c '{TEXT}'
""",
        "",
    )


def test_cannot_tell(proc: FakeProc, call: Call) -> None:
    proc.add(1, "supervisord", caught=[TERM])
    serve(proc, 7, parent=1)
    code, out, err = call()
    assert (code, err) == (3, "")
    assert out.startswith(f"SIGTERM may or may not reach process 7: {SHOWN}\n")
    assert "why:       process 1, supervisord, takes it; whether it passes it on cannot be seen\n" in out
    assert "way out" not in out


def test_json(proc: FakeProc, call: Call) -> None:
    proc.add(1, "/bin/sh", "-c", TEXT)
    serve(proc, 7, parent=1, blocked=[34, 64], environ={"DYNO": "", "GRACEFUL_LAME_DUCK": "3"})
    code, out, err = call("--json")
    assert (code, err) == (1, "")
    assert json.loads(out) == {
        "answer": "will not arrive",
        "pid1": ["/bin/sh", "-c", TEXT],
        "processes": [
            {
                "pid": 7,
                "command": list(RUN),
                "answer": "will not arrive",
                "why": "process 1, sh, has no handler for it: the kernel drops such a signal to PID 1",
                "instead": "Write: CMD cd /app && exec graceful run app:app",
                "kept_by": 1,
                "way": [
                    {"pid": 1, "command": ["/bin/sh", "-c", TEXT], "fate": "dropped"},
                    {"pid": 7, "command": list(RUN), "fate": "handled"},
                ],
                "signals": {
                    "caught": ["SIGINT", "SIGQUIT", "SIGTERM"],
                    "ignored": [],
                    "blocked": ["SIGRTMIN", "SIGRTMAX"],
                },
                "platform": "unknown",
                "budget": {
                    "fits": True,
                    "line": "unknown: 30 s grace = 3 lame duck + 20 drain + 5 release + 2 margin "
                    "(lame duck from GRACEFUL_LAME_DUCK)",
                    "note": None,
                },
            }
        ],
        "orphans": [],
    }


def test_signals_without_a_name(proc: FakeProc, call: Call) -> None:
    serve(proc, ignored=[32, 33, 40])
    assert "ignored 40; blocked none\n" in call()[1]


# Which processes.


def test_what_is_no_service(proc: FakeProc, call: Call) -> None:
    """We, who started us, an exec probe, what a service has started, what is not Python's."""
    serve(proc, 1)
    serve(proc, 20)  # docker exec
    proc.add(7, "python", "worker.py", parent=1)
    proc.add(30, "python", "run_doctor.py")
    proc.add(os.getpid(), "python", "graceful", "doctor", parent=30)
    proc.add(40, "nginx", parent=1)
    assert [each["pid"] for each in json.loads(call("--json")[1])["processes"]] == [1]


@pytest.mark.parametrize(
    ("commands", "found"),
    [
        ({1: ("sh", "x"), 7: ("python", "worker.py")}, [7]),
        ({1: ("python", "supervise.py"), 7: RUN}, [7]),
        ({1: ("python", "/usr/bin/supervisord"), 7: RUN, 8: ("python", "-m", "uvicorn", "x:x")}, [7, 8]),
        ({1: ("python", "supervise.py"), 7: ("python", "worker.py")}, [1]),
        ({1: ("tini",), 7: RUN, 8: ("python3", "worker.py")}, [7, 8]),
        ({1: ("python", "/usr/bin/gunicorn", "x"), 7: ("python", "/usr/bin/gunicorn", "x")}, [1]),
        ({1: ("gunicorn: master [x]",), 7: ("gunicorn: worker [x]",)}, [1]),
        ({1: ("pypy3", "x.py")}, [1]),
    ],
)
def test_which_are_services(
    proc: FakeProc, call: Call, commands: Mapping[int, tuple[str, ...]], found: list[int]
) -> None:
    for pid, command in commands.items():
        proc.add(pid, *command, parent=0 if pid == 1 else 1, caught=[TERM], environ={})
    assert [each["pid"] for each in json.loads(call("--json")[1])["processes"]] == found


def test_on_a_host_those_of_graceful_run(host: FakeProc, call: Call) -> None:
    host.add(1, "/sbin/init", caught=[TERM])
    host.add(6, "python", "/usr/bin/firewalld", parent=1)
    serve(host, 7, parent=1)
    serve(host, 8, parent=1)
    code, out, _ = call()
    assert code == 0
    assert [line for line in out.splitlines() if line.startswith("SIGTERM")] == [
        f"SIGTERM reaches process 7: {SHOWN}",
        f"SIGTERM reaches process 8: {SHOWN}",
    ]


def test_on_a_host_a_forked_child_is_no_service(host: FakeProc, call: Call) -> None:
    """It has its parent's command line, and lets SIGTERM end it, as all that the runtime forks."""
    host.add(1, "/sbin/init", caught=[TERM])
    serve(host, 7, parent=1)
    host.add(8, *RUN, parent=7, environ={})
    code, out, _ = call("--json")
    assert (code, [each["pid"] for each in json.loads(out)["processes"]]) == (0, [7])


def test_the_worst_of_several(proc: FakeProc, call: Call) -> None:
    proc.add(1, "tini", children=[7, 8])
    serve(proc, 7, parent=1)
    serve(proc, 8, parent=1)
    assert call("--pid", "7")[0] == 0
    code, out, _ = call("--json")
    assert (code, json.loads(out)["answer"]) == (3, "cannot tell")
    proc.add(7, *RUN, parent=1, environ={})
    code, out, _ = call("--json")
    assert (code, json.loads(out)["answer"]) == (1, "will not arrive")


def test_the_one_that_was_named(proc: FakeProc, call: Call) -> None:
    serve(proc, 1)
    proc.add(7, "nginx", parent=1, environ={})
    code, out, _ = call("--pid", "7")
    assert (code, out.splitlines()[0]) == (1, "SIGTERM DOES NOT REACH process 7: nginx")


# What cannot be looked at.


def test_no_such_process(proc: FakeProc, call: Call) -> None:
    serve(proc, 1)
    expected = "graceful doctor: found no process 9; expected one that runs here\n"
    assert call("--pid", "9") == (2, "", expected)


def test_no_service(proc: FakeProc, call: Call) -> None:
    proc.add(1, "nginx")
    why = "found no service here; say which process: --pid N"
    assert call() == (3, "", f"graceful doctor: cannot tell: {why}\n")
    code, out, err = call("--json")
    assert (code, json.loads(out), err) == (3, {"answer": "cannot tell", "why": why, "processes": []}, "")


def test_hidden(proc: FakeProc, call: Call) -> None:
    proc.add(1, "sh", "-c", TEXT)
    serve(proc, 7, parent=1)
    proc.hide(1)
    code, out, _ = call()
    assert code == 3
    assert "why:       process 1, the parent of 7, cannot be seen from here\n" in out
    assert out.endswith("PID 1:     cannot be seen from here\n")
    assert json.loads(call("--json")[1])["pid1"] is None
    proc.hide(7)
    hidden = (
        "other users' processes are hidden (hidepid of /proc): ask as the user of the service, or as root"
    )
    expected = "graceful doctor: cannot tell: found no process 7 here; "
    assert call("--pid", "7") == (3, "", f"{expected}{hidden}\n")
    assert call() == (3, "", f"graceful doctor: cannot tell: found no service here; {hidden}\n")


def test_another_namespaces_procfs(proc: FakeProc, call: Call) -> None:
    proc.root.joinpath("self").unlink()
    proc.root.joinpath("self").symlink_to("4711")
    assert call() == (
        3,
        "",
        "graceful doctor: cannot tell: there is no /proc of this PID namespace to read\n",
    )


def test_an_environment_of_somebody_elses(proc: FakeProc, call: Call) -> None:
    proc.add(1, *RUN, caught=[TERM])
    code, budget = budget_of(call)
    assert (code, budget["fits"]) == (0, None)
    assert budget["line"] == "its environment cannot be read: ask as its own user, or as root"


def test_hostile_command_lines(proc: FakeProc, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    proc.add(1, "sh", "-c", f"{TEXT} '\x1b[2J\n\udcff{'x' * 4096}'")
    serve(proc, 7, "\udcff\x07", parent=1)
    _, out, _ = call()
    assert all(line.isprintable() for line in out.splitlines())
    assert max(map(len, out.splitlines())) < 600
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii", write_through=True))
    assert doctor.main([]) == 1
    assert b"\\u2026" in written.getvalue()
    assert doctor.main(["--json"]) == 1


# The budget.


@pytest.mark.parametrize(
    ("environ", "note"),
    [
        ({"KUBERNETES_SERVICE_HOST": "x"}, "terminationGracePeriodSeconds: 60"),
        ({"ECS_CONTAINER_METADATA_URI_V4": "x"}, '"stopTimeout": 60'),
        ({"FLY_APP_NAME": "x"}, "kill_timeout = 60"),
        ({"NOMAD_ALLOC_ID": "x"}, 'kill_timeout = "60s"'),
    ],
)
def test_more_than_the_default_has_to_be_written(
    proc: FakeProc, call: Call, environ: dict[str, str], note: str
) -> None:
    serve(proc, environ={**environ, "GRACEFUL_GRACE_PERIOD": "60"})
    code, budget = budget_of(call)
    assert (code, budget["fits"]) == (0, True)
    assert budget["note"].endswith(f" s; the manifest must say: {note}")


def test_less_than_the_default_needs_no_note(proc: FakeProc, call: Call) -> None:
    serve(proc, environ={"KUBERNETES_SERVICE_HOST": "x", "GRACEFUL_GRACE_PERIOD": "20"})
    _, budget = budget_of(call)
    assert (budget["fits"], budget["note"]) == (True, None)


def test_in_a_container(proc: FakeProc, call: Call) -> None:
    serve(proc, environ={"GRACEFUL_GRACE_PERIOD": "30"})
    proc.write(1, "root/.dockerenv", "")
    expected = (
        "the default there is 10 s; the manifest must say: docker stop -t 30, or stop_grace_period: 30s"
    )
    assert f"           {expected}\n" in call()[1]


def test_nothing_to_be_written_where_there_is_no_manifest(proc: FakeProc, call: Call) -> None:
    serve(proc, environ={"GRACEFUL_GRACE_PERIOD": "60"})
    assert budget_of(call)[1]["note"] is None


@pytest.mark.parametrize(("variable", "name"), [("K_SERVICE", "cloud run"), ("DYNO", "heroku")])
def test_a_grace_period_that_cannot_be_had(proc: FakeProc, call: Call, variable: str, name: str) -> None:
    serve(proc, environ={variable: "x", "GRACEFUL_GRACE_PERIOD": "60"})
    code, out, _ = call()
    assert code == 1
    assert out.startswith("SIGTERM reaches process 1: ")
    allowed = {"cloud run": 10, "heroku": 30}[name]
    assert f"budget:    DOES NOT FIT: {name}: 60 s grace = " in out
    note = f"it counts on 60 s, but {name} kills it after {allowed} s: set GRACEFUL_GRACE_PERIOD={allowed}"
    assert f"           {note}\n" in out
    assert json.loads(call("--json")[1])["answer"] == "will arrive"


def test_a_value_that_cannot_be_meant(proc: FakeProc, call: Call) -> None:
    serve(proc, environ={"GRACEFUL_LAME_DUCK": "soon"})
    code, budget = budget_of(call)
    assert (code, budget["fits"]) == (1, False)
    assert budget["line"].startswith("lame_duck: found 'soon'; expected seconds as a number")


def test_a_split_that_does_not_fit(proc: FakeProc, call: Call) -> None:
    serve(proc, environ={"GRACEFUL_LAME_DUCK": "40"})
    code, budget = budget_of(call)
    assert (code, budget["fits"]) == (1, False)


def test_options_of_graceful_run(proc: FakeProc, call: Call) -> None:
    serve(proc, 1, "--grace-period", "60", "--lame-duck=7", "--exit-by-signal", "true", "--port", "80")
    line = budget_of(call)[1]["line"]
    assert line.startswith("unknown: 60 s grace = 7 lame duck + ")
    assert "grace from --grace-period" in line


def test_options_of_others(proc: FakeProc, call: Call) -> None:
    proc.add(1, "python", "app.py", "--grace-period", "60", caught=[TERM], environ={})
    assert budget_of(call)[1]["line"].startswith("unknown: 30 s grace = ")


def test_a_terminal(proc: FakeProc, call: Call) -> None:
    serve(proc)
    proc.root.joinpath("1/fd").mkdir()
    proc.root.joinpath("1/fd/0").symlink_to("/dev/pts/0")
    assert budget_of(call)[1]["line"].startswith("terminal: 30 s grace = ")


# systemd.


def unit(host: FakeProc, *more: str, name: str = "web.service", environ: Mapping[str, str] = {}) -> None:
    cgroup = f"0::/system.slice/{name}"
    host.add(1, "/sbin/init", caught=[TERM], cgroup="0::/init.scope")
    host.add(6, "sh", "-c", TEXT, parent=1, cgroup=cgroup)
    serve(host, 7, *more, parent=6, cgroup=cgroup, environ={"INVOCATION_ID": "x", **environ})


DEFAULT = "the default there is 90 s; the manifest must say: TimeoutStopSec=120"


@pytest.mark.parametrize(
    "told_grace_note",
    [
        ("1min 30s", "90", None),
        ("2min", "100", None),
        ("infinity", "1000", None),
        ("1h 500ms", "3600", None),
        ("20s", "90", "it counts on 90 s, but systemd kills it after 20 s: write TimeoutStopSec=90"),
        ("1y", "120", DEFAULT),
        ("s", "120", DEFAULT),
    ],
)
def test_systemd_is_asked(
    host: FakeProc, call: Call, systemctl: Callable[[str], None], told_grace_note: tuple[str, str, str | None]
) -> None:
    told, grace, note = told_grace_note
    systemctl(f"echo LoadState=loaded; echo KillMode=control-group; echo TimeoutStopUSec={told}")
    unit(host, environ={"GRACEFUL_GRACE_PERIOD": grace})
    code, budget = budget_of(call)
    assert (code, budget["note"]) == (1 if note and "kills" in note else 0, note)
    asked = host.root.parent.joinpath("asked").read_text()
    assert asked == "show --property=LoadState,KillMode,TimeoutStopUSec -- web.service\n"


def test_systemd_signals_only_the_first(host: FakeProc, call: Call, systemctl: Callable[[str], None]) -> None:
    systemctl("echo LoadState=loaded; echo KillMode=mixed")
    unit(host)
    code, out, _ = call()
    assert code == 1
    assert "     ^ has no handler for it, and dies of it\n" in out


@pytest.mark.parametrize(
    "says", ["echo LoadState=not-found; echo KillMode=control-group", "exit 1", "echo nothing", "kill $$"]
)
def test_systemd_does_not_know(
    host: FakeProc, call: Call, systemctl: Callable[[str], None], says: str
) -> None:
    systemctl(says)
    unit(host)
    code, out, _ = call()
    assert code == 3
    assert (
        "why:       its KillMode decides whether systemd signals all of the unit or its first process\n"
        in out
    )


def test_systemd_cannot_be_asked(host: FakeProc, call: Call) -> None:
    unit(host)
    assert call()[0] == 3


def test_a_hostile_unit_is_an_argument(host: FakeProc, call: Call, systemctl: Callable[[str], None]) -> None:
    systemctl("echo LoadState=not-found")
    unit(host, name="--now $(reboot).service")
    call()
    assert host.root.parent.joinpath("asked").read_text().endswith(" -- --now $(reboot).service\n")


# Orphans.


def test_orphans(proc: FakeProc, call: Call) -> None:
    serve(proc)
    for pid in range(10, 17):
        proc.add(pid, parent=1, state="Z (zombie)")
    proc.add(20, parent=10, state="Z (zombie)")
    code, out, _ = call()
    assert code == 0
    assert out.endswith(
        "orphans:   7 ended, and PID 1 does not reap them: 10 11 12 13 14 …\n"
        "           put an init before the exec form: docker run --init, or tini\n"
    )
    assert json.loads(call("--json")[1])["orphans"] == [10, 11, 12, 13, 14, 15, 16]


# Usage.


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--pid", "x"], "argument --pid: found 'x'; expected the id of a process, a number above 0"),
        (["--pid", "0"], "argument --pid: found '0'; expected the id of a process, a number above 0"),
        (["--pid"], "argument --pid: expected one argument"),
        (
            ["--pid", "9" * 30],
            f"argument --pid: found '{'9' * 30}'; expected the id of a process, a number above 0",
        ),
        (["--pid", "1\n2"], "argument --pid: found '1\\n2'; expected the id of a process, a number above 0"),
        (["--pi", "1"], "unrecognized arguments: --pi 1"),
        (["web"], "unrecognized arguments: web"),
    ],
)
def test_wrong_usage(proc: FakeProc, call: Call, arguments: list[str], complaint: str) -> None:
    expected = f"graceful doctor: {complaint} (see graceful doctor --help)\n"
    assert call(*arguments) == (2, "", expected)


def test_help(proc: FakeProc, call: Call) -> None:
    code, out, err = call("--help")
    assert (code, err) == (0, "")
    assert "docker exec web graceful doctor" in out
    expected = "0 SIGTERM arrives and the budget fits   1 it does not   2 wrong usage   3 cannot tell"
    assert f"exit code:\n  {expected}\n" in out
