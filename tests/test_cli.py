"""The command: usage, what it lists, what it hands on, and one line for what cannot be meant."""

from __future__ import annotations

import importlib.metadata
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from uvicorn.main import main as uvicorn_command

from graceful import cli, settings
from graceful.cli import run as run_command
from graceful.runtime import Runtime
from graceful.servers import launch

Outcome = tuple[int, str, str]


@pytest.fixture
def graceful(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """The command with these arguments, in this process: its code, standard output and standard error."""

    def call(*arguments: str) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["graceful", *arguments])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        out, err = capsys.readouterr()
        assert isinstance(caught.value.code, int)
        return caught.value.code, out, err

    return call


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(("GRACEFUL_", "UVICORN_", "KUBERNETES_")) or name in {"PORT", "WEB_CONCURRENCY"}:
            monkeypatch.delenv(name)


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What `graceful run` hands to the launch, which ends at once with 0."""
    found: dict[str, Any] = {}

    def run(choose: Any, app: str, options: dict[str, Any], **more: Any) -> None:
        found.update(choose=choose, app=app, options=options, **more)
        raise SystemExit(0)

    monkeypatch.setattr(launch, "run", run)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return found


@pytest.mark.parametrize("argument", ["--help", "-h", "help"])
def test_help(graceful: Callable[..., Outcome], argument: str) -> None:
    code, out, err = graceful(argument)
    assert (code, err) == (0, "")
    assert out == (
        "Usage: graceful COMMAND [ARGS]...\n"
        "\n"
        "  Graceful shutdown for Python services.\n"
        "\n"
        "Commands:\n"
        "  run MODULE:APP  Serve an ASGI app on uvicorn, and end it well.\n"
        "  probe URL       Ask a health endpoint: an exec probe for images without curl.\n"
        "  rehearse        Run a service through its death before production does.\n"
        "  doctor          Will SIGTERM reach the service, and if not, who keeps it?\n"
        "\n"
        "  graceful COMMAND --help says more, with examples.\n"
        "  graceful --version says which this is.\n"
    )


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ((), "graceful: a command is missing; the commands are run, probe, doctor and rehearse"),
        (
            ("serve",),
            "graceful: there is no command 'serve'; the commands are run, probe, doctor and rehearse",
        ),
        (
            ("serve\nx", "y"),
            "graceful: there is no command 'serve\\nx'; the commands are run, probe, doctor and rehearse",
        ),
    ],
)
def test_a_command_that_is_not_there(
    graceful: Callable[..., Outcome], arguments: tuple[str, ...], line: str
) -> None:
    assert graceful(*arguments) == (2, "", f"{line}\n\n{cli.USAGE}")


def test_version(graceful: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda name: f"1.2.3 of {name}")
    assert graceful("--version") == (0, "graceful 1.2.3 of graceful-runtime\n", "")


def test_probe_is_handed_its_arguments(graceful: Callable[..., Outcome]) -> None:
    code, out, _ = graceful("probe", "--help")
    assert code == 0
    assert "graceful probe" in out


def test_python_m(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["graceful", "--help"])
    with pytest.raises(SystemExit):
        runpy.run_module("graceful", run_name="__main__")
    assert capsys.readouterr().out == cli.USAGE


def test_run_help_lists_our_options_and_uvicorns(graceful: Callable[..., Outcome]) -> None:
    code, out, err = graceful("run", "--help")
    assert (code, err) == (0, "")
    assert out.startswith("Usage: graceful run [OPTIONS] MODULE:APP\n")
    listed = set(re.findall(r"--[a-z][a-z0-9-]+", out.partition("Options:")[2]))
    ours = {each.option for each in settings.FIELDS}
    uvicorns = {
        option
        for parameter in uvicorn_command.params
        if parameter.name not in run_command._LEFT_OUT
        for option in parameter.opts
        if option.startswith("--")
    }
    assert ours <= listed
    assert uvicorns <= listed
    assert {"--port", "--host", "--uds", "--fd", "--factory", "--app-dir", "--limit-concurrency"} <= listed
    assert not {"--workers", "--reload", "--timeout-graceful-shutdown", "--version"} & listed
    assert "[default: PORT, then 8000]" in re.sub(r"\s+", " ", out)
    assert "[env: GRACEFUL_LAME_DUCK]" in re.sub(r"\s+", " ", out)
    assert "graceful run app:create_app --factory --port 9000" in out
    assert "75 something was cut off" in out


def test_what_is_left_out_of_uvicorns_options_is_what_uvicorn_has() -> None:
    """A name that is spelled wrong would leave nothing out. Old versions lack some."""
    known = {parameter.name for parameter in uvicorn_command.params}
    assert run_command._LEFT_OUT - known <= {"timeout_worker_healthcheck"}


def test_options_are_handed_on(graceful: Callable[..., Outcome], launched: dict[str, Any]) -> None:
    arguments = (
        "--host",
        "0.0.0.0",  # noqa: S104 - nothing is bound here
        "--header",
        "x-a:1:2",
        "--http",
        "h11",
        "--no-access-log",
        "--root-path",
        "/api",
    )
    assert graceful("run", "shop:app", "--port", "9000", *arguments)[0] == 0
    options = launched["options"]
    assert (launched["app"], launched["exit"]) == ("shop:app", "fast")
    assert {
        name: options[name] for name in ("host", "port", "http", "access_log", "root_path", "headers")
    } == {
        "host": "0.0.0.0",  # noqa: S104
        "port": 9000,
        "http": "h11",
        "access_log": False,
        "root_path": "/api",
        "headers": [("x-a", "1:2")],
    }
    assert not {each.name for each in settings.FIELDS} & set(options), "ours are no options of uvicorn's"
    assert "app_dir" not in options
    assert options["log_config"]["version"] == 1
    launch.configure(lambda: None, {**options, "log_config": None})  # type: ignore[arg-type, misc]


def test_the_app_may_come_from_the_environment(
    graceful: Callable[..., Outcome], launched: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UVICORN_APP", "shop:app")
    monkeypatch.setenv("UVICORN_PORT", "9001")
    monkeypatch.setenv("UVICORN_HOST", "::1")
    monkeypatch.setenv("UVICORN_LAME_DUCK", "uvicorn has no such option")
    assert graceful("run")[0] == 0
    assert (launched["app"], launched["options"]["port"], launched["options"]["host"]) == (
        "shop:app",
        9001,
        "::1",
    )


@pytest.mark.parametrize(
    ("environment", "arguments", "port"),
    [
        ({}, (), 8000),
        ({"PORT": "8080"}, (), 8080),
        ({"PORT": "0"}, (), 0),
        ({"PORT": "8080"}, ("--port", "9000"), 9000),
        ({"PORT": "nonsense"}, ("--port", "9000"), 9000),
        ({"PORT": "8080", "UVICORN_PORT": "9001"}, (), 9001),
    ],
)
def test_port(  # noqa: PLR0913, PLR0917 - three fixtures
    graceful: Callable[..., Outcome],
    launched: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    arguments: tuple[str, ...],
    port: int,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert graceful("run", "shop:app", *arguments)[0] == 0
    assert launched["options"]["port"] == port


@pytest.mark.parametrize("port", ["abc", "-1", "65536", "80.0", "²"])
def test_a_port_that_cannot_be_meant(
    graceful: Callable[..., Outcome],
    launched: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    port: str,
) -> None:
    monkeypatch.setenv("PORT", port)
    code, out, err = graceful("run", "shop:app")
    assert (code, out) == (2, "")
    assert err.splitlines()[-1] == f"graceful: PORT: found {port!r}; expected a number from 0 to 65535"
    assert launched == {}


def test_app_dir_comes_first_in_the_path(
    graceful: Callable[..., Outcome], launched: dict[str, Any], tmp_path: Path
) -> None:
    graceful("run", "shop:app", "--app-dir", str(tmp_path))
    assert sys.path[0] == str(tmp_path)
    graceful("run", "shop:app")
    assert sys.path[0] == ""


def test_options_overrule_the_code(graceful: Callable[..., Outcome], launched: dict[str, Any]) -> None:
    runtime = Runtime(lame_duck=1, drain_timeout=2)
    graceful("run", "shop:app", "--lame-duck", "3", "--verbose-probes", "on")
    assert launched["choose"](runtime.wrap(lambda scope, receive, send: None)) is runtime  # type: ignore[arg-type,return-value]
    found = runtime.settings
    assert (found.lame_duck, found.drain_timeout, found.verbose_probes) == (3, 2, True)
    assert found.sources["lame_duck"] == "option --lame-duck"


@pytest.mark.parametrize(
    ("options", "platform", "lines"),
    [
        ({"host": "127.0.0.1"}, "unknown", []),
        ({"host": "0.0.0.0"}, "kubernetes", []),  # noqa: S104
        ({"host": "127.0.0.1", "uds": "/run/app.sock"}, "container", []),
        ({"host": "127.0.0.1", "fd": 0}, "container", []),
        (
            {"host": "localhost"},
            "kubernetes",
            ["listening on localhost inside a container: nobody outside will reach it; use --host 0.0.0.0"],
        ),
    ],
)
def test_an_address_that_nobody_reaches(
    caplog: pytest.LogCaptureFixture, options: dict[str, Any], platform: str, lines: list[str]
) -> None:
    run_command._warn_of(options, platform)
    assert caplog.messages == lines


@pytest.mark.parametrize(
    ("environment", "lines"),
    [
        ({"WEB_CONCURRENCY": "1"}, []),
        ({"WEB_CONCURRENCY": ""}, []),
        ({"WEB_CONCURRENCY": "4"}, ["4"]),
        ({"UVICORN_WORKERS": "2"}, ["2"]),
    ],
)
def test_more_than_one_process(
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    lines: list[str],
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    run_command._warn_of({"host": "::"}, "unknown")
    said = "WEB_CONCURRENCY or UVICORN_WORKERS is {}, but `graceful run` is one process; run more replicas"
    assert caplog.messages == [said.format(line) for line in lines]


def command(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """The whole command in a process of its own, with nothing of a platform in its environment."""
    path = os.pathsep.join(filter(None, [os.path.abspath(os.curdir), os.environ.get("PYTHONPATH", "")]))  # noqa: PTH100
    return subprocess.run(
        [sys.executable, "-m", "graceful", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=cwd,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": path, **environment},
    )


APP = "async def app(scope, receive, send): pass\n"


@pytest.mark.parametrize(
    ("arguments", "environment", "line"),
    [
        (("--lame-duck", "abc"), {}, "lame_duck"),
        (("--grace-period", "-1"), {}, "grace_period"),
        (("--ready-path", "ready"), {}, "ready_path"),
        (("--lame-duck", "40", "--grace-period", "30"), {}, "lame_duck"),
        ((), {"GRACEFUL_DRAIN_TIMEOUT": "nan"}, "drain_timeout"),
        ((), {"GRACEFUL_EXIT_BY_SIGNAL": "perhaps"}, "exit_by_signal"),
        ((), {"PORT": "http"}, "PORT"),
    ],
)
def test_wrong_settings_are_one_line_and_code_2(
    arguments: tuple[str, ...], environment: dict[str, str], line: str, tmp_path: Path
) -> None:
    (tmp_path / "shop.py").write_text(APP)
    done = (
        command("run", "shop:app", "--port", "0", *arguments, cwd=tmp_path, **environment)
        if line != "PORT"
        else command("run", "shop:app", cwd=tmp_path, **environment)
    )
    assert done.returncode == 2, done.stderr
    assert re.fullmatch(rf"graceful: {line}: found .*; .*\n", done.stderr), done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("shop:app", "--nonsense"),
        ("shop:app", "--port", "http"),
        ("shop:app", "--port", "70000"),
        ("shop:app", "--workers", "2"),
    ],
)
def test_wrong_usage_is_code_2(graceful: Callable[..., Outcome], arguments: tuple[str, ...]) -> None:
    code, out, err = graceful("run", *arguments)
    assert (code, out) == (2, "")
    assert err.splitlines()[0] == "Usage: graceful run [OPTIONS] MODULE:APP"
    assert err.splitlines()[-1].startswith("Error: ")


def test_an_app_that_is_not_there_is_code_1(tmp_path: Path) -> None:
    done = command("run", "nowhere:app", "--port", "0", cwd=tmp_path)
    assert done.returncode == 1
    assert "nowhere" in done.stderr
    assert "Traceback" not in done.stderr
