"""Instants of a shutdown, and how unused time is passed on."""

from __future__ import annotations

import dataclasses

import pytest

from graceful.budget import Budget
from graceful.platforms import PROFILES
from graceful.settings import Settings, resolve


def kubernetes(**arguments: object) -> Settings:
    return resolve(arguments, environ={}, platform=PROFILES["kubernetes"])


def instants(budget: Budget) -> list[float]:
    return list(dataclasses.astuple(budget)[:7])


def parts(budget: Budget) -> list[float]:
    return [budget.began, budget.lame_duck_ends, budget.drain_ends, budget.watchdog_acts, budget.killed_at]


def test_the_instants_of_a_profile() -> None:
    assert instants(Budget.of(kubernetes(), began=100.0)) == [100, 105, 122, 127.5, 127.75, 128, 130]


def test_pre_stop_has_been_used_before_the_signal() -> None:
    assert parts(Budget.of(kubernetes(pre_stop=10), began=100.0)) == [100, 105, 112, 118, 120]


def test_without_lame_duck_its_time_goes_to_the_drain() -> None:
    assert parts(Budget.of(kubernetes(), began=100.0, lame_duck=False)) == [100, 100, 122, 128, 130]


def test_an_explicit_drain_timeout_is_the_most_that_the_drain_takes() -> None:
    settings = kubernetes(drain_timeout=4)
    assert parts(Budget.of(settings, began=100.0)) == [100, 105, 109, 128, 130]
    assert parts(Budget.of(settings, began=100.0, lame_duck=False)) == [100, 100, 104, 128, 130]


@pytest.mark.parametrize(
    ("drain_timeout", "drain_began", "deadline"),
    [
        (None, 101.0, 122.0),  # the lame duck ended early: the drain has its time too
        (None, 105.0, 122.0),
        (None, 110.0, 122.0),  # it ended late: the release keeps its own
        (None, 126.0, 126.0),  # so late that no time is left
        (4, 101.0, 105.0),
        (4, 105.0, 109.0),
        (4, 121.0, 122.0),
    ],
)
def test_the_drain_passes_on_what_the_lame_duck_left(
    drain_timeout: float | None, drain_began: float, deadline: float
) -> None:
    budget = Budget.of(kubernetes(drain_timeout=drain_timeout), began=100.0)
    assert budget.drain_deadline(drain_began) == deadline


@pytest.mark.parametrize(
    ("arguments", "drain_ends", "release_ends", "exit_ends", "watchdog_acts"),
    [
        ({"grace_period": 2, "exit_margin": 1, "release_timeout": 0.5}, 100.3, 100.9, 100.95, 101),
        ({"release_timeout": 0.5}, 126.5, 127.5, 127.75, 128),
        ({"release_timeout": 0}, 127.0, 127.5, 127.75, 128),
    ],
)
def test_the_way_out_comes_before_the_watchdog(
    arguments: dict[str, object],
    drain_ends: float,
    release_ends: float,
    exit_ends: float,
    watchdog_acts: float,
) -> None:
    budget = Budget.of(kubernetes(**arguments), began=100.0)
    found = [budget.drain_ends, budget.release_ends, budget.exit_ends, budget.watchdog_acts]
    assert found == pytest.approx([drain_ends, release_ends, exit_ends, watchdog_acts], rel=1e-12)


def test_the_drain_ends_at_its_deadline_after_the_lame_duck() -> None:
    budget = Budget.of(kubernetes(lame_duck=0.1, grace_period=1), began=0.3)
    assert budget.drain_deadline(budget.lame_duck_ends) == budget.drain_ends


@pytest.mark.parametrize("began", [0.0, 0.1, 1e6 + 1 / 3, 1e9 + 0.7])
@pytest.mark.parametrize("lame_duck", [True, False])
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"grace_period": 0.7},
        {"grace_period": 0.6, "lame_duck": 0.1, "drain_timeout": 0.2, "release_timeout": 0.3},
        {"grace_period": 30.1, "lame_duck": 30.1},
        {"grace_period": 30.1, "release_timeout": 30.1},
        {"grace_period": 30.1, "exit_margin": 30.1},
        {"pre_stop": 29.9, "exit_margin": 0},
        {"lame_duck": 12.3, "release_timeout": 17.7},
    ],
)
def test_the_order_holds_in_the_last_digit_of_a_float(
    arguments: dict[str, object], *, lame_duck: bool, began: float
) -> None:
    budget = Budget.of(kubernetes(**arguments), began=began, lame_duck=lame_duck)
    assert instants(budget) == sorted(instants(budget))
    assert budget.drain_latest >= budget.drain_ends


def test_the_release_is_kept_whatever_the_drain_does() -> None:
    budget = Budget.of(kubernetes(grace_period=5, lame_duck=0), began=0.0)
    kept = budget.release_ends - budget.drain_latest - budget.way_out
    assert kept == pytest.approx(5 / 6)


@pytest.mark.parametrize(
    ("arguments", "moments"),
    [
        ({}, [128, 128.5, 128.75, 129]),  # a margin of 2 s
        ({"exit_margin": 10}, [120, 120.5, 120.75, 121]),  # of which no more is used
        ({"exit_margin": 0.4}, [129.6, 129.7, 129.8, 129.9]),
        ({"exit_margin": 0}, [130, 130, 130, 130]),
    ],
)
def test_the_watchdogs_last_moments_are_in_the_margin(
    arguments: dict[str, float], moments: list[float]
) -> None:
    settings = kubernetes(**arguments)
    found = Budget.of(settings, began=100.0).last_moments
    assert list(dataclasses.astuple(found)) == pytest.approx(moments)
    relative = Budget.of(settings, began=0.0).last_moments
    assert dataclasses.astuple(relative.after(100.0)) == pytest.approx(dataclasses.astuple(found))
