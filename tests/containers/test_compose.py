"""`examples/compose.yaml`, by the schema of Compose files, an engine's own compose, and our settings."""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import Any

import pytest
import yaml

from graceful.cli import probe
from graceful.cli.probe_target import parse_target
from graceful.platforms import PROFILES
from graceful.settings import resolve
from rig.replica import ROOT

FILE = ROOT / "examples/compose.yaml"


def service() -> dict[str, Any]:
    (found,) = yaml.safe_load(FILE.read_text())["services"].values()
    assert isinstance(found, dict)
    return found


def test_it_keeps_to_the_schema() -> None:
    checked = check_jsonschema(FILE.read_text())
    assert checked.returncode == 0, checked.stdout


def test_the_schema_is_one_that_refuses() -> None:
    checked = check_jsonschema(FILE.read_text().replace("stop_grace_period", "stop_grace_time"))
    assert checked.returncode == 1
    assert "stop_grace_time" in checked.stdout


def check_jsonschema(text: str) -> subprocess.CompletedProcess[str]:
    schema = ["--builtin-schema", "vendor.compose-spec", "--default-filetype", "yaml", "-"]
    return subprocess.run(
        [sys.executable, "-m", "check_jsonschema", *schema],
        input=text,
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("name", ["docker", "podman"])
def test_the_engines_own_compose_reads_it(name: str) -> None:
    program = shutil.which(name)
    asked = program and subprocess.run([program, "compose", "version"], capture_output=True, check=False)
    if not program or not asked or asked.returncode:
        pytest.skip(f"{name} has no compose here")
    subprocess.run([program, "compose", "-f", str(FILE), "config", "--quiet"], check=True, timeout=60)


def test_the_service_knows_its_grace_period() -> None:
    settings = resolve({}, environ=service()["environment"], platform=PROFILES["container"])
    assert not settings.warnings
    assert service()["stop_grace_period"] == f"{settings.grace_period:g}s"
    assert settings.lame_duck < settings.grace_period


def test_it_builds_and_asks_what_there_is() -> None:
    build = service()["build"]
    assert (FILE.parent / build["context"] / build["dockerfile"]).resolve() == ROOT / "Dockerfile.exec"
    form, program, command, *words = service()["healthcheck"]["test"]
    assert (form, program, command) == ("CMD", "graceful", "probe")
    options = probe._parser().parse_args(words)
    parse_target(options.url, options.unix_socket)
    assert options.url.endswith(":8000/ready")
