"""Odd ones as PID 1: whatever stands there, nothing wrong is said. Adopted servers, other users, a hidden
/proc, many processes.
"""

from __future__ import annotations

import functools
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import pytest

from graceful.rehearse import pidns
from tests.process.pid1 import GRACEFUL, SERVICE, UVICORN, WARNING, Contained, Outcome
from tests.process.service import HERE, environment_of_a_service

pytestmark = pytest.mark.skipif(pidns.why_not() is not None, reason=str(pidns.why_not()))

AT_ONCE: Final = 5
COMMAND: Final = shlex.join(SERVICE)
ARRIVES, LOST, UNKNOWN = "will arrive", "will not arrive", "cannot tell"

_SUPERVISOR: Final = """\
import signal, subprocess, sys, threading
def wait():
    signal.sigwait([signal.SIGTERM])
    child.terminate()
def ignore(*_):
    pass
how, command = sys.argv[1], sys.argv[2:]
if how == "masked":
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
if how == "ignored":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen(command)
if how == "tells":
    signal.signal(signal.SIGTERM, lambda *_: child.terminate())
if how == "keeps":
    signal.signal(signal.SIGTERM, ignore)
if how == "waits":
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    threading.Thread(target=wait).start()
child.wait()
"""


def supervised(how: str) -> list[str]:
    return [sys.executable, "-c", _SUPERVISOR, how, *SERVICE]


def becomes(line: str) -> list[str]:
    """Python does `line`, and becomes the service."""
    return [sys.executable, "-c", f"import os, signal; {line}; os.execv({SERVICE[0]!r}, {list(SERVICE)!r})"]


ODD: Final[Sequence[tuple[Sequence[str], str]]] = (
    # UNKNOWN where nobody could know.
    (["sh", "-c", f"({COMMAND} &); exec sleep 1000"], LOST),
    (["tini", "--", "sh", "-c", f"({COMMAND} &); exec sleep 1000"], UNKNOWN),
    (["sh", "-c", f"({COMMAND} &); exec tini -- sleep 1000"], UNKNOWN),
    (["sh", "-c", f"trap '' TERM; exec tini -- {COMMAND}"], ARRIVES),
    (["dumb-init", "sh", "-c", f"(setsid {COMMAND} &); exec sleep 1000"], UNKNOWN),
    (["dumb-init", "sh", "-c", f"trap 'exit 0' TERM; {COMMAND} & wait; true"], UNKNOWN),
    (["dumb-init", "--rewrite", "15:10", "--", *SERVICE], UNKNOWN),
    (supervised("runs"), LOST),
    (supervised("tells"), UNKNOWN),
    (supervised("keeps"), UNKNOWN),
    (supervised("waits"), UNKNOWN),
    (supervised("masked"), UNKNOWN),
    (supervised("ignored"), LOST),
    (becomes("signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])"), ARRIVES),
    (becomes("signal.signal(signal.SIGTERM, signal.SIG_IGN)"), ARRIVES),
    (["env", "A=b", "nice", "nohup", *SERVICE], ARRIVES),
    (["setpriv", "--no-new-privs", *SERVICE], ARRIVES),
    (["setsid", "--wait", *SERVICE], LOST),
    (["xargs", "--arg-file=/dev/null", *SERVICE], LOST),
    (["timeout", "100", *SERVICE], ARRIVES),
    (["timeout", "100", "dash", "-c", f"{COMMAND}; true"], LOST),
    (["timeout", "100", "dash", "-c", f"trap : TERM; {COMMAND}; true"], ARRIVES),
    (["timeout", "--foreground", "100", "dash", "-c", f"trap : TERM; {COMMAND}; true"], LOST),
    (["script", "--quiet", "--return", "--command", COMMAND, "out.typescript"], UNKNOWN),
    (["unshare", "--pid", "--fork", *SERVICE], UNKNOWN),
    (["make", "--eval", f"run:; {COMMAND}; true", "run"], UNKNOWN),
    (["dash", "-c", f"dash -c {shlex.quote(f'{COMMAND}; true')}; true"], LOST),
    (["dash", "-c", f"exec dash -c {shlex.quote(f'exec {COMMAND}')}"], ARRIVES),
    (["dash", "-c", f"echo {shlex.quote(COMMAND)} > script; exec dash < script"], LOST),
    (["dash", "-c", f"trap '' TERM; {COMMAND}; true"], LOST),
    (
        ["dash", "-c", f"trap 'kill $!' TERM; {COMMAND} & while kill -0 $!; do sleep 0.1; done"],
        UNKNOWN,
    ),
    (["bash", "-i", "-c", f"{COMMAND}; true"], LOST),
    (["bash", "-euo", "pipefail", "-c", f"{COMMAND} | tee out.log"], LOST),
    (["bash", "-c", f"trap 'kill -TERM -1; sleep 1' EXIT; {COMMAND}; true"], UNKNOWN),
    (["bash", "-c", f"{COMMAND} & sleep 1; trap 'kill $!' TERM; wait; wait"], UNKNOWN),
    (["bash", "-c", f"trap 'kill $COPROC_PID' TERM; coproc {COMMAND}; wait; wait"], UNKNOWN),
)


def judge(command: Sequence[str], parent: Path, *, services: int = 1) -> Outcome:
    with Contained(command, parent, services=services) as contained:
        return contained.judged()


def test_odd_ones(tmp_path: Path) -> None:
    cases = [(list(command), expected) for command, expected in ODD if shutil.which(command[0])]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        outcomes = list(pool.map(functools.partial(judge, parent=tmp_path), [each for each, _ in cases]))
    print(*outcomes, sep="\n")  # noqa: T201 - pytest shows it with a failure, and with -rA
    assert [str(each) for each in outcomes if each.is_wrong] == []
    found = [(list(each.command), each.answer) for each in outcomes]
    assert found == cases


GUNICORN: Final = (
    *(sys.executable, "-m", "gunicorn", "contained:app", "--bind", "127.0.0.1:0", "--workers", "2"),
    *("--worker-class", "uvicorn_worker.UvicornWorker"),
)


@pytest.mark.parametrize(
    ("server", "services"), [(UVICORN, 1), ((*UVICORN, "--workers", "2"), 2), (GUNICORN, 2)]
)
def test_adopted_servers(tmp_path: Path, server: Sequence[str], services: int) -> None:
    if server is GUNICORN:
        pytest.importorskip("gunicorn", reason="gunicorn is not installed")
        pytest.importorskip("uvicorn_worker", reason="uvicorn-worker is not installed")
    outcome = judge(server, tmp_path, services=services)
    assert (outcome.answer, outcome.arrived, outcome.warnings) == (ARRIVES, True, []), outcome.output
    outcome = judge(["dash", "-c", f"{shlex.join(server)}; true"], tmp_path, services=services)
    assert (outcome.answer, outcome.arrived) == (LOST, False), outcome.output
    assert len(outcome.warnings) == services, outcome.output
    for warning in outcome.warnings:
        assert f"{WARNING}: PID 1, `dash -c " in warning
        assert "Write the exec form: CMD [" in warning
    outcome = judge(["tini", "--", *server] if shutil.which("tini") else server, tmp_path, services=services)
    assert (outcome.answer, outcome.arrived, outcome.warnings) == (ARRIVES, True, []), outcome.output


def test_the_adopted_server_of_a_dyno(tmp_path: Path) -> None:
    """Heroku signals all of them."""
    command = ["dash", "-c", f"{shlex.join(UVICORN)}; true"]
    with Contained(command, tmp_path, environment={"DYNO": "web.1"}) as contained:
        outcome = contained.judged()
    assert (outcome.answer, outcome.warnings) == (UNKNOWN, [])


NOBODY: Final = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")


@pytest.fixture
def as_root(tmp_path: Path) -> Iterator[None]:
    """Root, and a user who is nobody, and who can run all of this too."""
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        pytest.skip("only root becomes somebody else (setpriv), and mounts /proc anew")
    tried = [*NOBODY, sys.executable, "-c", "import graceful.cli, uvicorn"]
    environ = environment_of_a_service(HERE, {})
    if subprocess.run(tried, cwd="/", env=environ, capture_output=True, check=False).returncode != 0:
        pytest.skip(f"nobody may not read {HERE}, or what {sys.executable} imports")
    tmp_path.chmod(0o777)
    yield
    tmp_path.chmod(0o700)


@pytest.mark.usefixtures("as_root")
def test_somebody_elses_environment(tmp_path: Path) -> None:
    with Contained(SERVICE, tmp_path) as contained:
        asked = contained.namespace.run([*NOBODY, *GRACEFUL, "doctor"])
    assert asked.returncode == 0, asked.stderr
    assert b"budget:    its environment cannot be read: ask as its own user, or as root\n" in asked.stdout


@pytest.mark.usefixtures("as_root")
@pytest.mark.parametrize("hidepid", ["1", "2"])
def test_hidden_processes(tmp_path: Path, hidepid: str) -> None:
    """The service is nobody's, who cannot see the shell that root started."""
    inner = f"{shlex.join(NOBODY)} {COMMAND}; true"
    command = ["dash", "-c", f"mount -o remount,hidepid={hidepid} /proc && chmod 777 . && {inner}"]
    with Contained(command, tmp_path) as contained:
        asked = contained.namespace.run([*NOBODY, *GRACEFUL, "doctor"])
        assert asked.returncode == 3, asked.stderr
        assert b"cannot be seen from here\n" in asked.stdout
        assert contained.doctor().returncode == 1
        assert WARNING not in contained.output
    with Contained(SERVICE, tmp_path) as contained:
        assert contained.namespace.run(["mount", "-o", f"remount,hidepid={hidepid}", "/proc"]).returncode == 0
        asked = contained.namespace.run([*NOBODY, *GRACEFUL, "doctor", "--pid", "1"])
        assert (asked.returncode, asked.stdout) == (3, b"")
        assert b"other users' processes are hidden" in asked.stderr


@pytest.mark.usefixtures("as_root")
def test_the_proc_of_another_namespace(tmp_path: Path) -> None:
    inner = f"dash -c {shlex.quote(f'{COMMAND}; true')}"
    command = ["unshare", "--pid", "--fork", "dash", "-c", f"{inner}; true"]
    with Contained(command, tmp_path) as contained:
        assert WARNING not in contained.output


def test_many_processes(tmp_path: Path) -> None:
    sleepers = "i=0; while [ $i -lt 500 ]; do sleep 1000 & i=$((i+1)); done"
    outcome = judge(["dash", "-c", f"{sleepers}; {COMMAND}; true"], tmp_path)
    assert (outcome.answer, len(outcome.warnings)) == (LOST, 1)
    assert outcome.doctor["processes"][0]["pid"] == 502


_CHANGES: Final = """\
import os, signal, socket
news = socket.socket(socket.AF_UNIX)
news.connect(os.environ["NEWS"].replace("@", "\\0"))
def change(*_):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    news.sendall(b"changed\\n")
signal.signal(signal.SIGTERM, change)
signal.signal(signal.SIGUSR1, change)
news.sendall(b"serving\\n")
while True:
    signal.pause()
"""


def test_handlers_that_change_after_the_start(tmp_path: Path) -> None:
    """The doctor looks at what is there now."""
    with Contained([sys.executable, "-c", _CHANGES], tmp_path) as contained:
        assert contained.doctor().returncode == 0
        contained.namespace.run(["kill", "-USR1", "1"])
        contained.wait_for("changed")
        found = json.loads(contained.doctor("--json").stdout)
    (process,) = found["processes"]
    assert (found["answer"], process["way"][-1]["fate"]) == (LOST, "ignored")
    assert "SIGTERM" in process["signals"]["ignored"]
