"""Resolved settings: defaults, the split of the grace period, conflicts, the line said at startup."""

from __future__ import annotations

import dataclasses
import itertools
import math
import pickle
from collections.abc import Mapping

import pytest

from graceful.errors import SettingsError
from graceful.platforms import PROFILES
from graceful.settings import FIELDS, LEAST_DRAIN, Settings, resolve

PARTS = ("pre_stop", "lame_duck", "drain_timeout", "release_timeout", "exit_margin")


def settle(arguments: Mapping[str, object], *, on: str = "kubernetes") -> Settings:
    return resolve(arguments, environ={}, platform=PROFILES[on])


def parts(settings: Settings) -> dict[str, float]:
    return {name: getattr(settings, name) for name in PARTS}


def test_every_field_is_one_of_the_settings() -> None:
    names = [each.name for each in dataclasses.fields(Settings)]
    assert names == [*(each.name for each in FIELDS), "platform", "sources", "warnings"]


def test_defaults_on_kubernetes() -> None:
    assert settle({}) == Settings(
        grace_period=30.0,
        pre_stop=0.0,
        lame_duck=5.0,
        drain_timeout=18.0,
        release_timeout=5.0,
        exit_margin=2.0,
        healthz_path="/healthz",
        ready_path="/ready",
        metrics_path="",
        admin_port=None,
        admin_host=None,
        verbose_probes=False,
        stall_after=10.0,
        termination_log="/dev/termination-log",
        exit_by_signal=False,
        platform=PROFILES["kubernetes"],
        sources={},
        warnings=(),
    )


def test_settings_are_values() -> None:
    settings = settle({"lame_duck": 1})
    assert pickle.loads(pickle.dumps(settings)) == settings  # noqa: S301 - our own
    assert hash(settings) == hash(settle({"lame_duck": 1}))
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.lame_duck = 2  # type: ignore[misc]


def test_the_admin_port_has_all_three_and_details() -> None:
    settings = settle({"admin_port": "9000", "admin_host": "::1"})
    assert (settings.admin_port, settings.admin_host) == (9000, "::1")
    assert (settings.metrics_path, settings.verbose_probes, settings.warnings) == ("/metrics", True, ())


def test_what_is_set_overrules_what_the_admin_port_implies() -> None:
    settings = settle({"admin_port": 9000, "metrics_path": "", "verbose_probes": False})
    assert (settings.metrics_path, settings.verbose_probes) == ("", False)
    settings = settle({"metrics_path": "/m", "verbose_probes": "on"})
    assert (settings.metrics_path, settings.verbose_probes) == ("/m", True)


def test_empty_is_off() -> None:
    code = {"admin_port": 9000, "admin_host": "::1", "ready_path": "/r", "termination_log": "/x"}
    empty = {"GRACEFUL_" + name.upper(): "" for name in code}
    settings = resolve(code, environ=empty, platform=PROFILES["kubernetes"])
    assert (settings.admin_port, settings.admin_host, settings.termination_log) == (None, None, None)
    assert settings.ready_path == ""


def test_what_needs_an_admin_port_and_has_none_is_said() -> None:
    environ = {"GRACEFUL_ADMIN_HOST": "::1"}
    settings = resolve({"stall_after": 3}, environ=environ, platform=PROFILES["unknown"])
    assert settings.warnings == (
        "GRACEFUL_ADMIN_HOST has no effect: no admin_port is set",
        "argument stall_after has no effect: no admin_port is set",
    )


def test_a_platform_that_routes_nothing_is_not_told_of_load_balancers() -> None:
    alone = dataclasses.replace(PROFILES["unknown"], routed=False)
    assert "load balancer" in resolve({}, environ={}, platform=PROFILES["unknown"]).describe()
    assert "load balancer" not in resolve({}, environ={}, platform=alone).describe()


def test_sources_and_precedence() -> None:
    settings = resolve(
        {"lame_duck": 1, "grace_period": 40, "stall_after": 3, "pre_stop": None},
        options={"lame_duck": "4", "exit_margin": None},
        environ={"GRACEFUL_LAME_DUCK": "x", "GRACEFUL_GRACE_PERIOD": "60"},
        platform=PROFILES["kubernetes"],
    )
    assert (settings.lame_duck, settings.grace_period, settings.stall_after) == (4, 60, 3)
    assert settings.sources == {
        "grace_period": "GRACEFUL_GRACE_PERIOD",
        "lame_duck": "option --lame-duck",
        "stall_after": "argument",
    }


def test_a_service_link_is_no_setting() -> None:
    environ = {"GRACEFUL_ADMIN_PORT": "tcp://10.0.0.1:80", "GRACEFUL_LAMEDUCK": "1"}
    settings = resolve({}, environ=environ, platform=PROFILES["kubernetes"])
    assert (settings.admin_port, settings.sources) == (None, {})
    assert [warning.split(":")[0] for warning in settings.warnings] == [
        "ignored GRACEFUL_ADMIN_PORT",
        "ignored GRACEFUL_LAMEDUCK",
    ]


def test_the_process_has_an_environment_and_a_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("GRACEFUL_LAME_DUCK", "3")
    settings = resolve({})
    assert (settings.platform.name, settings.lame_duck) == ("kubernetes", 3)


# The split


@pytest.mark.parametrize("name", PROFILES)
def test_the_defaults_of_every_profile_are_those_documented(name: str) -> None:
    settings, platform = settle({}, on=name), PROFILES[name]
    assert settings.grace_period == platform.grace_period
    assert settings.lame_duck == platform.lame_duck
    assert settings.release_timeout == min(platform.grace_period / 6, 5)
    assert settings.exit_margin == min(platform.grace_period / 15, 2)
    assert math.fsum(parts(settings).values()) == pytest.approx(platform.grace_period)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"lame_duck": 20}, [0, 20, 3, 5, 2]),  # whatever fits does not shrink
        ({"grace_period": 10}, [0, 5, 8 / 3, 5 / 3, 2 / 3]),
        ({"release_timeout": 20}, [0, 5, 3, 20, 2]),
        ({"drain_timeout": 18, "release_timeout": 5}, [0, 5, 18, 5, 2]),
        ({"pre_stop": 5}, [5, 5, 13, 5, 2]),
        ({"drain_timeout": 2}, [0, 5, 2, 5, 2]),  # what nobody claims is spare
        ({"lame_duck": 25}, [0, 25, 1.25, 3.75 * 5 / 7, 3.75 * 2 / 7]),
        ({"pre_stop": 25}, [25, 2.5, 1.25, 1.25 * 5 / 7, 1.25 * 2 / 7]),
        ({"drain_timeout": 25}, [0, 2.5, 25, 2.5 * 5 / 7, 2.5 * 2 / 7]),
        ({"lame_duck": 20, "drain_timeout": 5}, [0, 20, 5, 5 * 5 / 7, 5 * 2 / 7]),
        ({"lame_duck": 25, "release_timeout": 4}, [0, 25, 0.25, 4, 0.75]),
        ({"lame_duck": 25, "release_timeout": 4, "exit_margin": 0}, [0, 25, 1, 4, 0]),
        ({"lame_duck": 30}, [0, 30, 0, 0, 0]),
        ({"drain_timeout": 30}, [0, 0, 30, 0, 0]),
        ({"grace_period": 1}, [0, 31 / 60, 0.25, 1 / 6, 1 / 15]),
    ],
)
def test_defaults_shrink_to_fit(arguments: dict[str, object], expected: list[float]) -> None:
    assert list(parts(settle(arguments)).values()) == pytest.approx(expected)


@pytest.mark.parametrize("explicit", [(), *((name,) for name in PARTS), ("lame_duck", "drain_timeout")])
@pytest.mark.parametrize("grace", [5e-324, 0.01, 1, 2, 5, 8, 29.97, 31_536_000])
def test_any_split_fits_and_nothing_is_negative(grace: float, explicit: tuple[str, ...]) -> None:
    for on, part in itertools.product(PROFILES, [0, 1e-9, 0.1, 1 / 3, 0.49]):
        settings = settle({"grace_period": grace} | dict.fromkeys(explicit, grace * part), on=on)
        found = parts(settings)
        assert min(found.values()) >= 0
        assert math.fsum(found.values()) <= grace * (1 + 1e-9)
        assert all(found[name] == grace * part for name in explicit)
        if "drain_timeout" not in explicit:
            left = grace - grace * part * len(explicit)
            assert math.fsum(found.values()) == pytest.approx(grace)
            assert found["drain_timeout"] >= left * LEAST_DRAIN * (1 - 1e-9)


def test_decimal_fractions_that_add_up_fit() -> None:
    settings = settle({"grace_period": 0.6, "lame_duck": 0.1, "drain_timeout": 0.2, "release_timeout": 0.3})
    assert settings.exit_margin == pytest.approx(0, abs=1e-9)


def test_a_split_that_does_not_fit() -> None:
    with pytest.raises(SettingsError) as caught:
        resolve(
            {"lame_duck": 25, "exit_margin": 0},
            options={"grace_period": "30"},
            environ={"GRACEFUL_DRAIN_TIMEOUT": "10"},
            platform=PROFILES["kubernetes"],
        )
    assert caught.value.field == "lame_duck + drain_timeout"
    assert caught.value.found == 35
    assert str(caught.value) == (
        "lame_duck + drain_timeout: found 35; "
        "expected 25 (argument) + 10 (GRACEFUL_DRAIN_TIMEOUT) to fit into the grace period of 30 s "
        "(option --grace-period); lower what is too long, "
        "or raise the orchestrator's grace period and set option --grace-period to it"
    )


@pytest.mark.parametrize(
    ("arguments", "found", "expected"),
    [
        (
            {"lame_duck": 40.5},
            "lame_duck: found 40.5",
            "40.5 (argument) to fit into 30 s (default of kubernetes)",
        ),
        (
            {"pre_stop": 30},
            "pre_stop: found 30",
            "30 (argument) to be less than 30 s (default of kubernetes)",
        ),
        ({"pre_stop": 2, "grace_period": 1}, "pre_stop: found 2", "2 (argument) to fit into 1 s (argument)"),
    ],
)
def test_one_value_that_does_not_fit(arguments: dict[str, object], found: str, expected: str) -> None:
    with pytest.raises(SettingsError) as caught:
        settle(arguments)
    line = str(caught.value).replace("the grace period of ", "")
    assert line == (
        f"{found}; expected {expected}; "
        "lower what is too long, or raise the orchestrator's grace period and set GRACEFUL_GRACE_PERIOD to it"
    )


@pytest.mark.parametrize("name", ["grace_period", "stall_after"])
def test_what_cannot_be_nothing(name: str) -> None:
    with pytest.raises(SettingsError, match=f"{name}: found 0; expected seconds as a number, more than 0"):
        settle({name: 0})


# Paths


@pytest.mark.parametrize(
    ("arguments", "found", "places"),
    [
        ({"healthz_path": "/ready"}, "healthz_path + ready_path: found '/ready'", "argument healthz_path"),
        (
            {"ready_path": "/x", "metrics_path": "/x"},
            "ready_path + metrics_path: found '/x'",
            "argument ready_path or argument metrics_path",
        ),
    ],
)
def test_two_endpoints_on_one_path(arguments: dict[str, object], found: str, places: str) -> None:
    with pytest.raises(SettingsError) as caught:
        settle(arguments)
    assert str(caught.value) == f"{found}; expected a path for each; correct or leave out {places}"


def test_several_endpoints_may_be_off() -> None:
    settings = settle({"healthz_path": "", "ready_path": "", "metrics_path": ""})
    assert (settings.healthz_path, settings.ready_path, settings.metrics_path) == ("", "", "")


# The line said at startup


@pytest.mark.parametrize(
    ("on", "arguments", "line"),
    [
        ("kubernetes", {}, "kubernetes: 30 s grace = 5 lame duck + 18 drain + 5 release + 2 margin"),
        ("cloud run", {}, "cloud run: 10 s grace = 0 lame duck + 7.66 drain + 1.67 release + 0.67 margin"),
        (
            "kubernetes",
            {"pre_stop": 4.5},
            "kubernetes: 30 s grace = 4.5 pre-stop + 5 lame duck + 13.5 drain + 5 release + 2 margin",
        ),
        (
            "kubernetes",
            {"drain_timeout": 2},
            "kubernetes: 30 s grace = 5 lame duck + 2 drain + 5 release + 16 spare + 2 margin",
        ),
        ("unknown", {"lame_duck": 0}, "unknown: 30 s grace = 0 lame duck + 23 drain + 5 release + 2 margin"),
        (
            "unknown",
            {"lame_duck": 0.5},
            "unknown: 30 s grace = 0.5 lame duck + 22.5 drain + 5 release + 2 margin",
        ),
    ],
)
def test_describe_shows_the_split(on: str, arguments: dict[str, object], line: str) -> None:
    assert settle(arguments, on=on).describe().partition(" (")[0] == line


def test_describe_says_what_to_set_where_nothing_is_known() -> None:
    assert settle({}, on="unknown").describe() == (
        "unknown: 30 s grace = 0 lame duck + 23 drain + 5 release + 2 margin; behind a load balancer set "
        "GRACEFUL_LAME_DUCK to what its health check needs to fail: interval x failures + timeout"
    )


@pytest.mark.parametrize(
    ("arguments", "origins"),
    [
        ({"lame_duck": 1}, "lame duck from argument"),
        ({"grace_period": 30, "lame_duck": 1}, "grace and lame duck from arguments"),
        (
            {"verbose_probes": True, "exit_by_signal": False, "stall_after": 2.5},
            "verbose probes on, stall after 2.5 and exit by signal off from arguments",
        ),
        ({"metrics_path": "", "ready_path": "/r"}, "ready path /r and metrics path off from arguments"),
        ({"admin_port": 0, "admin_host": ""}, "admin port 0 and admin host off from arguments"),
    ],
)
def test_describe_says_what_is_not_the_profiles(arguments: dict[str, object], origins: str) -> None:
    assert settle(arguments).describe().endswith(f" margin ({origins})")


def test_describe_names_each_source() -> None:
    settings = resolve(
        {"exit_margin": 1},
        options={"grace_period": "20"},
        environ={"GRACEFUL_LAME_DUCK": "4"},
        platform=PROFILES["kubernetes"],
    )
    assert settings.describe() == (
        "kubernetes: 20 s grace = 4 lame duck + 11.67 drain + 3.33 release + 1 margin "
        "(grace from --grace-period, lame duck from GRACEFUL_LAME_DUCK, margin from argument)"
    )


@pytest.mark.parametrize("grace", [1, 3.33, 7, 10, 11.1, 29.99, 31_536_000])
@pytest.mark.parametrize("on", ["kubernetes", "container"])
def test_the_numbers_of_the_line_add_up(on: str, grace: float) -> None:
    line = settle({"grace_period": grace}, on=on).describe().partition(" (")[0]
    whole, _, split = line.partition(": ")[2].partition(" s grace = ")
    terms = [float(term.split()[0]) for term in split.split(" + ")]
    assert math.fsum(terms) == pytest.approx(float(whole))
    assert min(terms) >= 0
