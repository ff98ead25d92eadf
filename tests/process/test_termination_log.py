"""What a container leaves behind for `kubectl describe pod`, from real processes."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.process.service import BOUND, Client, Launch

SHORT = ("--lame-duck", "0", "--grace-period", "6")
TIMES = ("--grace-period", "3", "--exit-margin", "2")
ON_KUBERNETES = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}


@pytest.fixture
def log(launch: Launch) -> Path:
    return launch.cwd / "log"


def wait_until_written(log: Path) -> None:
    """It is written beside the shutdown, which does not wait for it."""
    until = time.monotonic() + BOUND
    while time.monotonic() < until and not (log.exists() and log.read_text()):
        os.sched_yield()


def test_a_clean_end(launch: Launch, log: Path) -> None:
    """In place, over a longer text: the file of a pod is a mount."""
    log.write_text("x" * 5000)
    inode = log.stat().st_ino
    service = launch.owned("served:wrapped", *SHORT, "--termination-log", str(log))
    with Client(service.port()) as client:
        assert client.get("/secret").status == 200
        assert log.read_text() == "x" * 5000, "until the signal it is as it was found"
        service.terminate()
        assert service.exit_code() == 0, service.output
    lines = log.read_text().splitlines()
    assert lines[0].startswith("SIGTERM: ended after ")
    assert lines[0].endswith(" s, clean (exit code 0)")
    assert lines[1:] == ["in flight: 0 ended in time; cut off: none", "resources released: database"]
    assert log.stat().st_ino == inode


def test_what_was_cut_off_is_counted_without_its_path(launch: Launch, log: Path) -> None:
    options = (*SHORT, "--drain-timeout", "0.2", "--termination-log", str(log))
    service = launch.owned("served:wrapped", *options)
    with Client(service.port()) as held:
        held.send("/hold", method="POST", body_to_come=4)
        service.wait_for("^holding")
        service.terminate()
        assert service.exit_code() == 75, service.output
    assert "not clean (exit code 75)\nin flight: 0 ended in time; cut off: 1 http\n" in log.read_text()
    assert "/hold" not in log.read_text()


def test_it_is_there_from_the_beginning_of_the_shutdown(launch: Launch, log: Path) -> None:
    service = launch.owned("served:wrapped", *SHORT, "--termination-log", str(log))
    with Client(service.port()) as held:
        held.send("/hold", method="POST", body_to_come=4)
        service.wait_for("^holding")
        service.terminate()
        wait_until_written(log)
        service.signal(signal.SIGKILL)
        assert service.exit_code() == -signal.SIGKILL
    assert log.read_text().startswith("SIGTERM: the shutdown did not finish: ")


def test_a_start_that_failed(launch: Launch, log: Path) -> None:
    launch.write(
        "failing", "from served import *\n@runtime.resource\ndef broker():\n    raise OSError('/secret')\n"
    )
    service = launch.owned("failing:wrapped", *SHORT, "--termination-log", str(log))
    assert service.exit_code() == 1, service.output
    assert "startup: ended after " in log.read_text()
    assert "failed: the log says why" in log.read_text()
    assert "secret" not in log.read_text()


def test_imports_that_never_end(launch: Launch, log: Path) -> None:
    """The watchdog writes it, although the app's runtime is not known yet."""
    launch.write("endless", "import os, threading\nos.write(1, b'importing\\n')\nthreading.Event().wait()\n")
    service = launch.owned("endless:app", *TIMES, "--termination-log", str(log))
    service.wait_for("^importing")
    service.terminate()
    assert service.exit_code() == 70, service.output
    assert log.read_text().startswith("SIGTERM came ")


def test_an_adopted_server_writes_it_too(launch: Launch, log: Path) -> None:
    environment = {"GRACEFUL_TERMINATION_LOG": str(log), "GRACEFUL_LAME_DUCK": "0"}
    service = launch.adopted("served:wrapped", environment=environment)
    service.port()
    service.terminate()
    assert service.exit_code() == -signal.SIGTERM, service.output
    assert "s, clean\nin flight: 0 ended in time" in log.read_text()


@pytest.mark.parametrize("place", ["missing/log", "", "fifo"])
def test_what_cannot_be_written_is_one_line_and_holds_up_nothing(launch: Launch, place: str) -> None:
    os.mkfifo(launch.cwd / "fifo")
    service = launch.owned("served:wrapped", *SHORT, "--termination-log", str(launch.cwd / place))
    service.port()
    service.terminate()
    assert service.exit_code() == 0, service.output
    service.wait_for("WARNING: .*the termination log .* cannot be written: ")


@pytest.mark.skipif(Path("/dev/termination-log").exists(), reason="here is a pod")
@pytest.mark.parametrize("environment", [ON_KUBERNETES, {}], ids=["a pod's without the file", "elsewhere"])
def test_no_file_is_made_that_nobody_asked_for(launch: Launch, environment: dict[str, str]) -> None:
    before = sorted(launch.cwd.iterdir())
    service = launch.owned("served:wrapped", *SHORT, environment=environment)
    service.port()
    service.terminate()
    assert service.exit_code() == 0, service.output
    assert "termination log" not in service.output
    assert not Path("/dev/termination-log").exists()
    assert [path for path in sorted(launch.cwd.iterdir()) if path.name != "__pycache__"] == before
