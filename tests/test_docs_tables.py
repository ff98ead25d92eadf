"""The tables and the sample output of the README and the pages in `docs/` are what the code has and says."""

from __future__ import annotations

import functools
import json
import re
from typing import Any

import prometheus_client
import pytest
from starlette.testclient import TestClient

import graceful
from graceful.cli import probe, run
from graceful.inflight import CutOff, Kind
from graceful.metrics import PUBLISHER, Publisher
from graceful.platforms import PROFILES
from graceful.reports import ExitCode, Outcome, Report
from graceful.resources import ReleaseOutcome
from graceful.settings import resolve
from tests.pages import (
    PAGES,
    README,
    ROOT,
    SETTINGS,
    code_in,
    of_language,
    rows,
)


def test_the_table_of_settings_is_that_of_the_code() -> None:
    shown = [[code_in(cell) for cell in row[:3]] for row in rows(ROOT / "docs/settings.md", "field")]
    assert shown == [[[each.name], [each.environment], [each.option]] for each in SETTINGS.values()]
    assert set(SETTINGS) <= set(run_options())


def run_options() -> list[str]:
    return [option.name for option in run._options() if option.name]


def test_the_readmes_table_of_settings_is_that_of_the_code() -> None:
    shown = rows(README, "setting, `Runtime(...)`")
    assert len(shown) >= 3
    for name, environment, _ in shown:
        assert [SETTINGS[each].environment for each in code_in(name)] == code_in(environment)


def test_the_defaults_shown_are_the_codes() -> None:
    defaults = {row[0].strip("`"): row[3] for row in rows(ROOT / "docs/settings.md", "field")}
    settings = resolve({}, environ={}, platform=PROFILES["unknown"])
    for name, shown in defaults.items():
        found = getattr(settings, name)
        if name in {"grace_period", "lame_duck"}:
            assert shown == "by platform"
        elif name in {"drain_timeout", "release_timeout", "exit_margin"}:
            assert shown.startswith(("what remains", "1/6", "1/15"))
        elif name == "termination_log":
            assert found is None
            assert shown == f"`{PROFILES['kubernetes'].termination_log}` on Kubernetes, none elsewhere"
        else:
            nothing = "the app's host" if name == "admin_host" else "none"
            words = {"": "empty", "False": "false", "0.0": "0", "10.0": "10", "None": nothing}
            assert shown.strip("`") == words.get(str(found), found)
    assert (settings.release_timeout, settings.exit_margin) == (5, 2)
    short = resolve({"grace_period": 15}, environ={}, platform=PROFILES["unknown"])
    assert (short.release_timeout, short.exit_margin) == (15 / 6, 15 / 15)


def test_the_table_of_platforms_is_that_of_the_code() -> None:
    shown = {row[0]: (float(row[2]), float(row[3])) for row in rows(ROOT / "docs/settings.md", "platform")}
    assert shown == {name: (each.grace_period, each.lame_duck) for name, each in PROFILES.items()}


def test_each_startup_line_shown_is_what_is_said() -> None:
    lines = [
        line.removeprefix("budget:").strip()  # as the doctor shows it
        for block in of_language("text")
        for line in block.text.splitlines()
        if " s grace = " in line
    ]
    assert len(lines) >= 2
    options, environ = {"grace_period": "90"}, {"GRACEFUL_LAME_DUCK": "20"}  # those of the page on settings
    for line in lines:
        set_by_somebody = "(" in line
        platform = PROFILES[line.partition(":")[0]]
        found = resolve(
            {},
            options=options if set_by_somebody else {},
            environ=environ if set_by_somebody else {},
            platform=platform,
        )
        assert line == found.describe()


def test_each_refusal_and_warning_shown_is_what_is_said() -> None:
    page = (ROOT / "docs/settings.md").read_text()
    with pytest.raises(graceful.SettingsError) as refusal:
        resolve({}, environ={"GRACEFUL_LAME_DUCK": "soon"}, platform=PROFILES["kubernetes"])
    assert f"\ngraceful: {refusal.value}\n" in page
    (warning,) = resolve({}, environ={"GRACEFUL_LAMEDUCK": "5"}, platform=PROFILES["kubernetes"]).warnings
    assert f"\n{warning}\n" in page


def test_the_metrics_shown_are_those_of_the_registry() -> None:
    for name in vars(Publisher):
        if isinstance(vars(Publisher)[name], functools.cached_property):
            getattr(PUBLISHER, name)
    page = ROOT / "docs/endpoints-and-metrics.md"
    shown = {}
    for row in rows(page, "metric"):
        name, labels = re.fullmatch(r"(\w+)(?:\{([\w,]+)\})?", code_in(row[0])[0]).groups()  # type: ignore[union-attr]
        shown[name] = (row[1], tuple(labels.split(",")) if labels else ())
    metrics: list[Any] = [
        each for each in prometheus_client.REGISTRY._collector_to_names if hasattr(each, "_labelnames")
    ]
    exposed = {
        each._name + ("_total" if each._type == "counter" else ""): (each._type, tuple(each._labelnames))
        for each in metrics
        if each._name.startswith("graceful_")
    }
    assert shown == exposed
    for other in PAGES:
        named = set(re.findall(r"`(graceful_[a-z_]+)", other.read_text())) - {"graceful_timeout"}
        assert named <= set(exposed), other.name


def test_the_table_of_exit_codes_is_that_of_the_code() -> None:
    shown = {(int(row[0]), code_in(row[1])[0]) for row in rows(ROOT / "docs/report.md", "code")}
    assert shown == {(int(code), code.name) for code in ExitCode}
    outcomes = code_in(
        next(row for row in rows(ROOT / "docs/report.md", "key of `as_dict()`") if "outcome" in row[0])[1]
    )
    assert outcomes == [str(outcome) for outcome in Outcome]
    in_readme = {int(code) for code in re.findall(r"\*\*(\d+)\*\*", README.read_text())}
    assert in_readme == {int(code) for code in ExitCode} - {143}


def test_the_keys_of_the_report_are_those_of_the_code() -> None:
    shown = {name for row in rows(ROOT / "docs/report.md", "key of `as_dict()`") for name in code_in(row[0])}
    assert shown == set(
        Report(reason="SIGTERM", outcome=Outcome.CLEAN, exit_code=ExitCode.OK, phases={}).as_dict()
    )


def test_the_report_shown_is_what_is_written() -> None:
    phase = graceful.Phase
    report = Report(
        reason="SIGTERM",
        outcome=Outcome.NOT_CLEAN,
        exit_code=ExitCode.CUT_OFF,
        phases={phase.LAME_DUCK: 5.0, phase.DRAINING: 2.01, phase.RELEASING: 0.3},
        ended={Kind.HTTP: 44},
        cut_off=(
            CutOff(
                kind=Kind.HTTP,
                name="GET /exports/{name}",
                seconds=9.4,
                standing_at="shop/exports.py:31 in rows",
                ended=True,
            ),
        ),
        resources=(
            ReleaseOutcome(name="journal", seconds=0.28, outcome="released", error=None),
            ReleaseOutcome(name="database", seconds=0.02, outcome="released", error=None),
        ),
        arrivals=42,
        last_arrival=1.87,
        lame_duck=5.0,
    )
    assert f"```text\n{report.as_text()}\n```" in (ROOT / "docs/report.md").read_text()


def test_the_verbose_answer_shown_is_what_is_answered() -> None:
    runtime = graceful.Runtime(verbose_probes=True)

    @runtime.readiness_check
    def database_answers() -> None:
        """Nothing to check here."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise NotImplementedError

    with TestClient(runtime.wrap(app)) as client:
        text = client.get("/ready?verbose").text
        answer = client.get("/ready", headers={"accept": "application/json"}).json()
    page = ROOT / "docs/endpoints-and-metrics.md"
    assert f"```text\n{text}```" in page.read_text()
    (block,) = (block for block in of_language("json") if block.page == page)
    shown = json.loads(block.text)
    shown["checks"]["database_answers"]["seconds"] = answer["checks"]["database_answers"]["seconds"]
    assert shown == answer


def test_the_options_of_the_probe_are_those_of_the_code() -> None:
    shown = {
        option.split()[0] for row in rows(ROOT / "docs/probe.md", "option") for option in code_in(row[0])
    }
    known = {option for action in probe._parser()._actions for option in action.option_strings}
    assert shown == known - {"-h", "--help"}
