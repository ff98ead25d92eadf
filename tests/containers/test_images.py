"""`make images`: what became of a request, what it comes to, what is said where nothing can be tried."""

from __future__ import annotations

import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from demo.images import table
from demo.images.client import Answer, NotReadyError, ask, wait_for
from demo.images.engine import Engine, find
from demo.images.trial import PlaceError, Row, Terms, Verdict
from demo.paper import WIDTH, Paper
from graceful.rehearse import pidns
from graceful.rehearse.running import free_port
from rig.replica import ROOT

PATIENCE = 20.0
SERVES = "graceful run app:app --host 0.0.0.0"
PYTHON = ("/venv/bin/python", *f"/venv/bin/{SERVES}".split())


def row(**seen: Any) -> Row:
    defaults = {"name": "exec", "pid1": PYTHON, "handler_ran": True, "answer": Answer.ANSWERED}
    return Row(**{**defaults, "seconds": 1.04, "code": 0, **seen})


# What became of a request.


def served(serve: Callable[[socket.socket], None]) -> tuple[Answer, str]:
    """The answer of a server that does `serve` with its only connection, once a request has come."""

    def accept(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65_536)
            serve(connection)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=accept, args=(listener,), daemon=True)
        thread.start()
        answer = ask(listener.getsockname()[1], "/", timeout=PATIENCE)
        thread.join(PATIENCE)
    return answer


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@pytest.mark.parametrize(
    ("serve", "answer"),
    [
        (lambda connection: connection.sendall(b"HTTP/1.1 200 OK\r\n\r\nhi"), (Answer.ANSWERED, "hi")),
        (lambda connection: connection.sendall(b"HTTP/1.1 503 No\r\n\r\nno"), (Answer.OTHER, "no")),
        (lambda connection: None, (Answer.EMPTY, "")),
        (reset, (Answer.RESET, "")),
        (
            lambda connection: connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhi"),
            (Answer.TRUNCATED, ""),
        ),
    ],
    ids=["200", "503", "empty", "reset", "truncated"],
)
def test_what_a_request_got(serve: Callable[[socket.socket], None], answer: tuple[Answer, str]) -> None:
    assert served(serve) == answer


def test_nobody_there_is_refused() -> None:
    assert ask(free_port(), "/", timeout=PATIENCE) == (Answer.REFUSED, "")


def test_nobody_who_answers_is_a_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert ask(listener.getsockname()[1], "/", timeout=0.05) == (Answer.TIMEOUT, "")


def test_waiting_ends_where_there_is_no_hope() -> None:
    with pytest.raises(NotReadyError, match="it has ended"):
        wait_for(free_port(), "/", "ok", within=PATIENCE, hopeless=lambda: "it has ended")
    with pytest.raises(NotReadyError, match="did not say 'ok' within 0 s, but refused"):
        wait_for(free_port(), "/", "ok", within=0)


# What it comes to.


@pytest.mark.parametrize(
    ("seen", "verdict"),
    [
        ({}, Verdict.CLEAN),
        ({"code": 75}, Verdict.CUT_OFF),
        ({"answer": Answer.RESET}, Verdict.CUT_OFF),
        ({"code": 137}, Verdict.CUT_OFF),
        ({"handler_ran": False, "code": 137}, Verdict.KILLED),
        ({"handler_ran": False, "code": 143, "answer": Answer.EMPTY}, Verdict.LOST),
        ({"handler_ran": False}, Verdict.ODD),
    ],
)
def test_a_verdict_is_clean_only_where_all_went_well(seen: dict[str, Any], verdict: Verdict) -> None:
    assert row(**seen).verdict is verdict


def test_the_table_fits_its_paper_and_shouts_what_is_bad() -> None:
    rows = [
        row(),
        row(
            name="shell-sh",
            pid1=("/bin/sh", "-c", "graceful run …"),
            handler_ran=False,
            seconds=100,
            code=137,
        ),
        row(name="entrypoint-exec-and-more", answer=Answer.EMPTY, code=143, handler_ran=False),
    ]
    head, *shown = table.lines(rows)
    assert head == "image           PID 1                  handler request     secs code verdict"
    assert shown[0] == "exec            python graceful run ap ran     200          1.0    0 clean"
    assert shown[1] == "shell-sh        sh -c graceful run …   NO      200         100.0  137 KILLED"
    assert shown[2].endswith("NO      empty reply  1.0  143 LOST")
    assert max(map(len, [head, *shown])) + 2 <= WIDTH


def test_each_kind_of_end_is_explained_once(capsys: pytest.CaptureFixture[str]) -> None:
    killed = {"handler_ran": False, "code": 137}
    rows = [row(), row(name="cd", **killed), row(name="tee", **killed)]
    table.tell(Paper(), rows, {"tini": "there is none"}, Terms(grace=7, request=1), 22_449_335)
    text = " ".join(capsys.readouterr().out.split())
    assert "killed: cd, tee. SIGTERM went to PID 1, which is a shell" in text
    assert "After 7 seconds the engine killed" in text
    assert "clean: exec. The signal arrived" in text
    assert "tini was left out: there is none." in text
    assert "22.4 MB larger than its base" in text
    assert "lost:" not in text


def test_the_lame_duck_is_the_platforms_unless_it_is_said() -> None:
    assert Terms(grace=10, request=3).environment == {"GRACEFUL_GRACE_PERIOD": "10"}
    assert Terms(grace=3, request=1, lame_duck=0).environment == {
        "GRACEFUL_GRACE_PERIOD": "3",
        "GRACEFUL_LAME_DUCK": "0",
    }


# Engines.


def command(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_a_client_without_an_engine_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command(tmp_path, "docker", "echo 'Cannot connect to the Docker daemon' >&2; exit 1")
    monkeypatch.setenv("PATH", f"{tmp_path}")
    assert find() is None
    command(tmp_path, "podman", "echo 4.3.1")
    found = find()
    assert found is not None
    assert (found.name, found.version) == ("podman", "4.3.1")


def test_an_engines_last_words_are_the_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command(tmp_path, "docker", "echo first >&2; echo last >&2; exit 125")
    monkeypatch.setenv("PATH", f"{tmp_path}")
    with pytest.raises(PlaceError, match=r"^docker run: last$"):
        Engine("docker").call("run")


def test_an_engine_that_does_not_come_back_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command(tmp_path, "docker", f"exec {sys.executable} -c 'import signal; signal.pause()'")
    monkeypatch.setenv("PATH", f"{tmp_path}")
    with pytest.raises(PlaceError, match=r"docker info: not done within 0.1 s"):
        Engine("docker").call("info", seconds=0.1)


# The command.


def images(*options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "demo.images", *options],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        check=False,
        text=True,
        timeout=100,
    )


def test_without_an_engine_it_says_so_and_skips_only_if_asked(tmp_path: Path) -> None:
    asked = images("--engine", "docker", PATH=str(tmp_path))
    assert (asked.returncode, asked.stdout) == (1, "")
    assert asked.stderr == "make images: no docker answers here\n"
    assert images("--engine", "docker", "--skip", PATH=str(tmp_path)).returncode == 0


@pytest.mark.parametrize(
    "words", [("--grace", "-1"), ("--grace", "soon"), ("--only", "exe"), ("--lame", "1")]
)
def test_wrong_usage_is_refused(words: tuple[str, ...]) -> None:
    assert images(*words).returncode == 2


@pytest.mark.skipif(pidns.why_not() is not None, reason=str(pidns.why_not()))
def test_the_same_commands_as_pid_1_of_namespaces() -> None:
    names = ["shell-sh", "exec", "entrypoint", "cd", "init-shell"]
    only = [word for name in names for word in ("--only", name)]
    done = images(
        "--engine", "namespaces", *only, *["--grace", "2", "--request", "1", "--lame-duck", "0", "--json"]
    )
    assert done.returncode == 0, done.stderr
    assert "PID namespaces" in done.stderr
    found = json.loads(done.stdout)
    verdicts = {each["name"]: each["verdict"] for each in found["images"]}
    expected = dict.fromkeys(["shell-sh", "entrypoint", "cd"], "killed") | {"exec": "clean"}
    if shutil.which("dash") is None:  # then it is whatever shell this machine has
        del expected["shell-sh"], expected["cd"]
    if not found["left_out"]:
        expected["init-shell"] = "lost"
    assert {name: verdicts[name] for name in expected} == expected
    assert set(found["left_out"]) <= {"init-shell"}, "where no init is installed"
