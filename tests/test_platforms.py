"""What the environment says of the platform, and what each platform allows."""

from __future__ import annotations

import os

import pytest

from graceful.platforms import PROFILES, detect, here

SIGNS = [
    ("KUBERNETES_SERVICE_HOST", "kubernetes"),
    ("ECS_CONTAINER_METADATA_URI_V4", "ecs"),
    ("K_SERVICE", "cloud run"),
    ("FLY_APP_NAME", "fly.io"),
    ("DYNO", "heroku"),
    ("NOMAD_ALLOC_ID", "nomad"),
]
DAEMONS = [("INVOCATION_ID", "systemd"), ("NOTIFY_SOCKET", "systemd")]
MARKS = ["/.dockerenv", "/run/.containerenv"]


def nowhere(_path: str) -> bool:
    return False


def everywhere(_path: str) -> bool:
    return True


@pytest.mark.parametrize(("variable", "name"), SIGNS + DAEMONS)
def test_a_variable_is_a_sign(variable: str, name: str) -> None:
    assert detect({variable: "x"}, exists=nowhere, isatty=False).name == name


@pytest.mark.parametrize("variable", [variable for variable, _ in SIGNS + DAEMONS])
def test_an_empty_variable_is_no_sign(variable: str) -> None:
    assert detect({variable: ""}, exists=nowhere, isatty=False).name == "unknown"


@pytest.mark.parametrize("mark", MARKS)
def test_a_file_is_the_sign_of_a_container(mark: str) -> None:
    assert detect({}, exists=lambda path: path == mark, isatty=False).name == "container"


def test_nothing_is_unknown() -> None:
    assert detect({}, exists=nowhere, isatty=False).name == "unknown"


def test_the_first_sign_wins() -> None:
    order = [variable for variable, _ in SIGNS + DAEMONS]
    found = [
        detect(dict.fromkeys(order[start:], "x"), exists=everywhere, isatty=False).name
        for start in range(len(order) + 1)
    ]
    assert found == [*(name for _, name in SIGNS + DAEMONS), "container"]


def test_a_terminal_outranks_systemd_and_containers() -> None:
    environ = {"INVOCATION_ID": "x", "NOTIFY_SOCKET": "x"}
    assert detect(environ, exists=everywhere, isatty=True).name == "terminal"


@pytest.mark.parametrize(("variable", "name"), SIGNS)
def test_a_terminal_does_not_outrank_an_orchestrator(variable: str, name: str) -> None:
    assert detect({variable: "x"}, exists=everywhere, isatty=True).name == name


@pytest.mark.parametrize(
    ("name", "grace_period", "lame_duck", "stop_signal"),
    [
        ("kubernetes", 30, 5, "SIGTERM"),
        ("ecs", 30, 0, "SIGTERM"),
        ("cloud run", 10, 0, "SIGTERM"),
        ("fly.io", 5, 1, "SIGINT"),
        ("heroku", 30, 3, "SIGTERM"),
        ("nomad", 5, 1, "SIGINT"),
        ("systemd", 90, 0, "SIGTERM"),
        ("container", 10, 2, "SIGTERM"),
        ("terminal", 30, 0, "SIGINT"),
        ("unknown", 30, 0, "SIGTERM"),
    ],
)
def test_profiles(name: str, grace_period: float, lame_duck: float, stop_signal: str) -> None:
    platform = PROFILES[name]
    assert (platform.name, platform.grace_period, platform.lame_duck) == (name, grace_period, lame_duck)
    assert platform.stop_signal == stop_signal


def test_only_kubernetes_has_a_termination_log() -> None:
    logs = {name: platform.termination_log for name, platform in PROFILES.items() if platform.termination_log}
    assert logs == {"kubernetes": "/dev/termination-log"}


@pytest.mark.parametrize("terminal", [0, 1, 2])
def test_here_any_standard_stream_may_be_the_terminal(terminal: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "isatty", lambda stream: stream == terminal)
    assert here({}).name == "terminal"


def test_here_looks_for_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "isatty", lambda _stream: False)
    monkeypatch.setattr(os.path, "exists", everywhere)
    assert here({}).name == "container"
