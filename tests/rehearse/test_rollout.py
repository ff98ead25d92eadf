"""Whole rehearsals with real processes, from the command, from a test's fixture, and from Python."""

from __future__ import annotations

import asyncio
import errno
import functools
import json
import re
import subprocess
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import pytest
import trustme

from graceful.cli.rehearse import main
from graceful.errors import GracefulError
from graceful.pytest_plugin import rehearse  # noqa: F401 - the fixture
from graceful.rehearse import pidns
from graceful.rehearse.asserting import rehearsed, service_of
from graceful.rehearse.model import (
    Cause,
    Event,
    Happening,
    Hold,
    HoldKind,
    HttpGet,
    Judgement,
    Outcome,
    Plan,
    Probe,
    RequestSpec,
    RestartPolicy,
    Service,
)
from graceful.rehearse.rollout import Rollout
from graceful.rehearse.wires import Address
from tests.rehearse import held_app

HERE = Path(__file__).parent
OURS = "held_app:app"
UVICORN = f"{sys.executable} -m uvicorn held_app:app --port {{port}} --no-access-log"
NOT_INSTALLED = 'graceful rehearse: h11 is not installed; pip install "graceful-runtime[rehearse]"\n'
SHORT = (
    *("--quiet", "--restarts", "1", "--removal-lag", "0.5", "--settle", "0.3", "--rate", "40"),
    *("--max-lateness", "60"),  # a machine that others use too makes the load late
)


# For the same reason.
patiently: Final = functools.partial(rehearsed, max_lateness=60.0)


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the services are found."""
    monkeypatch.chdir(HERE)
    monkeypatch.setenv("PYTHONPATH", str(HERE))


POD = f"""\
kind: Pod
metadata: {{name: web}}
spec:
  terminationGracePeriodSeconds: 9
  initContainers: [{{name: before, command: ["true"]}}]
  containers:
    - name: web
      image: example/web:1
      command: ["{sys.executable}", -m, graceful, run, "held_app:app", --port, "8000"]
      env: [{{name: GRACEFUL_LAME_DUCK, value: "1"}}, {{name: SECRET, value: "not for a log"}}]
      ports: [{{containerPort: 8000}}]
      startupProbe: {{tcpSocket: {{port: 8000}}, periodSeconds: 1, failureThreshold: 30}}
      readinessProbe: {{httpGet: {{path: /ready, port: 8000}}, periodSeconds: 1}}
      livenessProbe: {{exec: {{command: [test, -e, /proc]}}, initialDelaySeconds: 5}}
      lifecycle: {{preStop: {{sleep: {{seconds: 1}}}}}}
"""


# The fixture, and Python.


def test_nothing_is_lost_of_an_app_under_graceful_run(rehearse: Any) -> None:  # noqa: F811 - the fixture
    found = rehearse(OURS, restarts=1, rate=40.0, max_lateness=60.0)
    found.assert_nothing_lost()
    (death,) = found.rehearsal.deaths
    assert (death.code, death.killed) == (0, None)
    assert "SIGTERM: ended after" in death.output
    told = [event.what for event in found.rehearsal.events if event.replica == death.replica]
    whats = [Happening.READY, Happening.LISTED, Happening.TAKEN_AWAY, Happening.SIGNALLED, Happening.UNLISTED]
    assert [what for what in told if what in whats] == whats
    assert {entry.kept for entry in found.rehearsal.entries} == {True, False}


def test_an_event_loop_that_runs_already_does_not_matter() -> None:
    """As in a test that is a coroutine."""

    async def test() -> None:
        patiently(OURS, restarts=1, rate=20.0).assert_nothing_lost()
        with pytest.raises(GracefulError, match="no-such cannot be started"):
            rehearsed(["no-such", "{port}"])

    asyncio.run(test())


def test_a_rehearsal_in_a_running_loop_that_is_interrupted_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, ended = threading.Event(), []

    async def endless(_: Rollout) -> Any:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    def interrupt(_: Future[Any]) -> Any:
        assert begun.wait(60)
        raise KeyboardInterrupt

    class Interrupted(ThreadPoolExecutor):
        """Whoever waits for what it does presses Ctrl-C."""

        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
            future = super().submit(fn, *args, **kwargs)
            monkeypatch.setattr(future, "result", functools.partial(interrupt, future))
            return future

    async def test() -> None:
        with pytest.raises(KeyboardInterrupt):
            rehearsed(OURS)

    monkeypatch.setattr(Rollout, "run", endless)
    monkeypatch.setattr("graceful.rehearse.asserting.ThreadPoolExecutor", Interrupted)
    asyncio.run(test())
    assert ended


def test_an_app_is_found_where_the_test_has_found_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pytest's own `pythonpath` is known to nobody else."""
    (tmp_path / "shop_of_mine.py").write_text("from held_app import app as site\n")
    monkeypatch.syspath_prepend(tmp_path)
    patiently("shop_of_mine:site", restarts=0).assert_nothing_lost()


def test_what_is_lost_is_told_with_its_timeline() -> None:
    found = patiently(UVICORN, restarts=1, removal_lag=1.0, rate=40.0)
    assert found.rehearsal.lost
    assert {entry.outcome for entry in found.rehearsal.lost} <= {
        Outcome.REFUSED,
        Outcome.RESET,
        Outcome.RESET_KEPT,
    }
    assert all(entry.after_signal is not None and entry.after_signal >= 0 for entry in found.rehearsal.lost)
    (death,) = found.rehearsal.deaths
    assert death.listener_closed is not None
    assert death.unlisted is not None
    with pytest.raises(AssertionError, match="listener closes too early") as failure:
        found.assert_nothing_lost()
    assert "endpoint removed" in str(failure.value)


def test_all_kinds_of_requests_and_what_is_held_open() -> None:
    requests = (
        RequestSpec(path="/"),
        RequestSpec(method="POST", path="/echo", body_bytes=100_000, pause=0.05, expected=b"100000"),
        RequestSpec(path="/", expected=b"something else"),
        RequestSpec(path="/error"),
    )
    holds = (Hold(kind=HoldKind.EVENTS, path="/events"), Hold(kind=HoldKind.WEBSOCKET, path="/chat", count=2))
    found = patiently(OURS, replicas=1, restarts=1, rate=40.0, requests=requests, holds=holds)
    by_kind: dict[str, set[Outcome]] = {}
    for entry in found.rehearsal.entries:
        by_kind.setdefault(entry.kind, set()).add(entry.outcome)
    assert by_kind["POST /echo"] == {Outcome.ANSWERED}
    assert by_kind["GET /"] == {Outcome.ANSWERED, Outcome.WRONG}
    assert by_kind["GET /error"] == {Outcome.SERVER_ERROR}
    assert by_kind["websocket /chat"] == {Outcome.ENDED_WELL}
    assert by_kind["events /events"] <= {Outcome.ENDED_WELL, Outcome.TRUNCATED}


def test_over_tls(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(tmp_path / "pem")
    command = f"{UVICORN} --ssl-keyfile {tmp_path / 'pem'} --ssl-certfile {tmp_path / 'pem'}"
    holds = (Hold(kind=HoldKind.STREAM, path="/events"), Hold(kind=HoldKind.WEBSOCKET, path="/chat"))
    found = patiently(
        command, restarts=1, rate=20.0, tls=True, holds=holds, grace_period=1.0, removal_lag=0.5
    )
    outcomes = {entry.outcome for entry in found.rehearsal.entries}
    assert Outcome.ANSWERED in outcomes
    assert outcomes & {Outcome.REFUSED, Outcome.RESET, Outcome.RESET_KEPT, Outcome.TRUNCATED}


def test_what_is_held_open_and_refused() -> None:
    """No WebSocket is to be had there, and events are not kept open."""
    holds = (Hold(kind=HoldKind.WEBSOCKET, path="/"), Hold(kind=HoldKind.EVENTS, path="/"))
    service = Service(name="web", command=("dash", "-c", f"exec {UVICORN} --ws none"))
    found = patiently(service, replicas=1, restarts=1, rate=20.0, holds=holds, removal_lag=0.5)
    by_kind: dict[str, set[Outcome]] = {}
    for entry in found.rehearsal.entries:
        by_kind.setdefault(entry.kind, set()).add(entry.outcome)
    assert Outcome.ENDED_WELL in by_kind["events /"]
    assert by_kind["websocket /"] & {Outcome.WRONG, Outcome.REFUSED}
    assert Outcome.ENDED_WELL not in by_kind["websocket /"]


def test_a_unix_socket_and_a_death_without_a_successor() -> None:
    command = [sys.executable, "-m", "uvicorn", "held_app:app", "--uds", "{socket}", "--no-access-log"]
    service = Service(name="web", command=tuple(command), unix_socket=True)
    found = patiently(service, replicas=2, once=True, rate=40.0, removal_lag=0.0)
    assert len(found.rehearsal.deaths) == 1
    assert not [event for event in found.rehearsal.events if event.replica == "web-3"]
    assert {entry.outcome for entry in found.rehearsal.entries} >= {Outcome.ANSWERED}


def test_who_watches_can_ask_where_a_replica_listens() -> None:
    addresses: dict[str, Address] = {}

    def hear(event: Event) -> None:
        addresses[event.replica] = rollout.address_of(event.replica)

    rollout = Rollout(Plan(service=service_of(OURS), restarts=0, settle=0.0), hear)
    asyncio.run(rollout.run())
    assert set(addresses) == {"held_app-1", "held_app-2"}
    assert addresses["held_app-1"].port != addresses["held_app-2"].port


FLAPPING = """
import http.server, os, signal, sys, threading
answers = iter([])
leaving = False
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        status = next(answers, 200) if self.path == "/ready" else 200
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()
        if leaving and self.path == "/ready" and status == 200:
            threading.Timer(1.5, os._exit, (0,)).start()
    def log_message(self, *_):
        pass
def leave(*_):
    global answers, leaving
    answers, leaving = iter([503]), True
signal.signal(signal.SIGTERM, leave)
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Answer).serve_forever()
"""


def test_a_replica_that_leaves_is_not_listed_again_though_it_says_that_it_is_ready() -> None:
    service = Service(
        name="web",
        command=(sys.executable, "-c", FLAPPING, "{port}"),
        readiness=Probe(action=HttpGet(path="/ready"), period=0.1, failure_threshold=1),
    )
    found = patiently(service, restarts=1, rate=20.0, removal_lag=1.0)
    (death,) = found.rehearsal.deaths
    assert (death.code, death.killed) == (0, None)
    told = [event.what for event in found.rehearsal.events if event.replica == death.replica]
    after = told[told.index(Happening.SIGNALLED) :]
    assert after.index(Happening.NOT_READY) < after.index(Happening.READY) < after.index(Happening.UNLISTED)
    assert Happening.LISTED not in after


@pytest.mark.skipif(pidns.why_not() is not None, reason=str(pidns.why_not()))
def test_a_shell_as_pid_1_shows_itself() -> None:
    command = ("dash", "-c", f"{UVICORN}; true")
    found = patiently(
        Service(name="web", command=command, pid1=True, grace_period=1.0), restarts=1, rate=20.0
    )
    (death,) = found.rehearsal.deaths
    assert death.killed is not None
    assert death.code == -9
    assert found.verdict.diagnoses[0].cause == "the signal did not arrive"


@pytest.mark.skipif(pidns.why_not() is not None, reason=str(pidns.why_not()))
def test_the_exec_form_as_pid_1() -> None:
    found = patiently(OURS, restarts=1, rate=20.0, pid1=True)
    found.assert_nothing_lost()


@pytest.mark.parametrize("policy", [RestartPolicy.NEVER, RestartPolicy.ALWAYS])
def test_a_service_that_cannot_start(policy: RestartPolicy) -> None:
    """It is started once again, if at all: who has misspelled a module does not want to wait for a minute."""
    command = (sys.executable, "-c", "raise SystemExit('no module is called {port}')")
    found = patiently(Service(name="web", command=command, restart_policy=policy))
    assert (found.verdict.judgement, found.verdict.exit_code) == (Judgement.NO_VERDICT, 2)
    assert found.verdict.diagnoses[0].cause is Cause.CRASHES
    assert "its last line: no module is called " in found.verdict.diagnoses[0].way_out
    starts = [event for event in found.rehearsal.events if event.what is Happening.RESTARTED]
    assert len(starts) == (2 if policy is RestartPolicy.ALWAYS else 0)
    assert found.rehearsal.entries == ()


def test_a_command_that_is_not_there() -> None:
    with pytest.raises(GracefulError, match="/no/such/thing cannot be started: No such file or directory"):
        rehearsed("/no/such/thing {port}")


def test_an_option_that_there_is_not() -> None:
    with pytest.raises(TypeError, match="rehearse\\(\\) has no option 'restart'; there are "):
        rehearsed(OURS, restart=3)


def test_how_a_target_is_started() -> None:
    assert service_of(held_app.app).command[4].endswith("held_app:app")
    assert service_of(["serve", "{port}"]).command == ("serve", "{port}")
    assert service_of("python3 -m uvicorn a:b --port {port}").name == "uvicorn"
    assert service_of("a:b").name == "a"
    with pytest.raises(GracefulError, match="which no module has as a global"):
        service_of(object())


# The command.


def test_the_command_says_what_happened_and_writes_what_is_asked_for(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    page, junit = tmp_path / "page.html", tmp_path / "junit.xml"
    arguments = [*SHORT, "--html", str(page), "--junit", str(junit), "--against", UVICORN, OURS]
    assert main(arguments) == 0
    told = capsys.readouterr()
    assert "PASSED: nothing of" in told.out
    assert "Side by side" in told.out
    assert f"the page is in {page}" in told.err
    assert page.read_text().startswith("<!doctype html>")
    assert junit.read_text().count("<testsuite ") == 2


def test_the_command_for_machines_and_its_progress(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [*SHORT[1:], "--json", "--request", "GET / *3", "--", *UVICORN.split()]
    assert main(arguments) == 1
    told = capsys.readouterr()
    (found,) = json.loads(told.out)["rehearsals"]
    assert found["judgement"] == "failed"
    assert found["lost"] > 0
    assert "taken away" in told.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "found no service; expected MODULE:APP, -- COMMAND …, or --from FILE"),
        (("--", "serve"), "found 'serve'; expected MODULE:APP, or a command with {port} in it"),
        (("shop.app",), "found 'shop.app'; expected MODULE:APP, or"),
        (("--unix-socket", "--", "serve", "{port}"), "expected {socket} in it, since --unix-socket was"),
        (("--tls", "a:b"), "--tls: found 'a:b', which is started without; expected a command that speaks"),
        (("--", "serve", "{socket}"), "expected {port} in it, or --unix-socket with {socket}"),
        (("--signal", "TREM", "a:b"), "--signal: found 'TREM'; expected a signal's name, as SIGTERM"),
        (("--rate", "0", "a:b"), "argument --rate: found '0'; expected a number of at least 0.1"),
        (("--rate", "nan", "a:b"), "argument --rate: found 'nan'; expected a number of at least 0.1"),
        (("--replicas", "many", "a:b"), "found 'many'; expected a whole number from 1 to 50"),
        (("--request", "nonsense", "a:b"), "found 'nonsense'; expected 'METHOD /path'"),
        (("--requests", "/no/such", "a:b"), "/no/such: No such file or directory"),
        (("--hold", "socket:/", "a:b"), "found 'socket:/'; expected stream:/path"),
        (("--from", "/no/such.yaml"), "/no/such.yaml"),
        (("--", "/no/such", "{port}"), "/no/such cannot be started: No such file or directory"),
        (("--", "no-such", "{port}"), "found no program 'no-such' on PATH; expected a command that runs"),
        (("--against", "no-such {port}", "a:b"), "found no program 'no-such' on PATH"),
        (("--name", "web", "a:b"), "--name: found no --from"),
        (("--against", "'{port}", "a:b"), "expected a command as for a shell (No closing quotation)"),
    ],
)
def test_what_cannot_be_meant(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str
) -> None:
    assert main([*SHORT[:1], *arguments]) == 2
    (line,) = [
        line for line in capsys.readouterr().err.splitlines() if line.startswith("graceful rehearse: ")
    ]
    assert said in line


def test_what_would_be_run_is_said_first_and_a_dry_run_is_all_of_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    manifest = tmp_path / "pod.yaml"
    manifest.write_text(POD)
    assert main(["--dry-run", "--from", str(manifest), "--against", UVICORN]) == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[:9] == [
        "Pod web, container web, as it is run here:",
        "  first        true",
        f"  command      {sys.executable} -m graceful run held_app:app --port {{port}}",
        "  environment  GRACEFUL_LAME_DUCK, SECRET",
        "  replicas     1",
        "  startup      a connection to its port every 1 s, timeout 1 s, 30 failures in a row",
        "  readiness    GET /ready every 1 s, timeout 1 s, 3 failures in a row",
        "  liveness     test -e /proc every 10 s, timeout 1 s, first after 5 s, 3 failures in a row",
        "  end          preStop sleep 1 s, SIGTERM, SIGKILL 9 s after the decision",
    ]
    assert "uvicorn held_app:app" in said.out
    assert "note: " in said.out
    assert said.err == ""


def test_no_more_replicas_than_a_machine_bears(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "compose.yaml"
    file.write_text("services: {web: {command: serve, scale: 99999}}\n")
    assert main(["--from", str(file)]) == 2
    assert "found 99999 replicas; expected 50 at most" in capsys.readouterr().err
    assert main(["--dry-run", "--replicas", "3", "--from", str(file)]) == 0


def test_a_replica_that_dies_alone_is_judged_by_what_came_while_it_was_listed() -> None:
    found = patiently(OURS, replicas=1, once=True, rate=40.0)
    found.assert_nothing_lost()
    assert len(found.rehearsal.deaths) == 1


def test_a_load_that_cannot_be_sent(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def none_left(*_: Any) -> Any:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("graceful.rehearse.client.open_wire", none_left)
    assert main([*SHORT, "--", *UVICORN.split()]) == 2
    assert capsys.readouterr().err == (
        "graceful rehearse: the load cannot be sent: Too many open files; lower --rate, or raise the limit "
        "(ulimit -n)\n"
    )


def test_what_was_started_ends_with_the_command(tmp_path: Path) -> None:
    """A SIGTERM in the middle, as a job that is cancelled gets it."""
    command = [sys.executable, "-m", "graceful", "rehearse", "--settle", "60", "--", *UVICORN.split()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        told = []
        for line in process.stderr:
            told.append(line)
            if line.endswith("listed\n"):
                break
        process.terminate()
        rest = process.stderr.read()
        assert process.wait(30) == 143
    assert rest.endswith("graceful rehearse: terminated; all that was started has been ended\n")
    pids = [int(found) for found in re.findall(r"pid (\d+)", "".join(told))]
    assert pids
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "examples:" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "out", "err"),
    [
        (("a:b",), 2, "", NOT_INSTALLED),
        (("--", "serve", "{port}", "-h"), 2, "", NOT_INSTALLED),
        (("--help",), 0, "usage: graceful rehearse [options]", ""),
    ],
)  # fmt: skip
def test_without_the_extra(tmp_path: Path, arguments: tuple[str, ...], code: int, out: str, err: str) -> None:
    (tmp_path / "h11.py").write_text("raise ModuleNotFoundError('none', name='h11')")
    start = "import sys; sys.argv[0] = 'graceful'; from graceful.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", start, "rehearse", *arguments],
        env={"PYTHONPATH": f"{tmp_path}:{':'.join(sys.path)}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code
    assert done.stdout.startswith(out)
    assert done.stderr.startswith(err)
    assert bool(done.stdout) != bool(done.stderr)


def test_from_a_procfile(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    procfile = tmp_path / "Procfile"
    procfile.write_text(f"web: {sys.executable} -m graceful run held_app:app --port $PORT --lame-duck 0.8\n")
    assert main([*SHORT, "--grace-period", "10", "--readiness", "/ready", "--from", str(procfile)]) == 0, (
        capsys.readouterr()
    )
