"""The report: its text whole, for each way in which a run can end, and its plain form."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from graceful.inflight import CutOff, Kind, request_name
from graceful.phases import Phase
from graceful.reports import ExitCode, Outcome, Report, counted
from graceful.resources import ReleaseOutcome

PHASES = {
    Phase.STARTING: 1.0,
    Phase.SERVING: 3600.0,
    Phase.LAME_DUCK: 5.0,
    Phase.DRAINING: 1.25,
    Phase.RELEASING: 0.5,
}


def report(**changes: Any) -> Report:
    facts: dict[str, Any] = {
        "reason": "SIGTERM",
        "outcome": Outcome.CLEAN,
        "exit_code": ExitCode.OK,
        "phases": PHASES,
        "signals": 1,
        "lame_duck": 5.0,
    }
    return Report(**(facts | changes))


def released(
    name: str, seconds: float = 0.1, outcome: Any = "released", error: str | None = None
) -> ReleaseOutcome:
    return ReleaseOutcome(name=name, seconds=seconds, outcome=outcome, error=error)


def cut(
    name: str = "GET /slow", *, kind: Kind = Kind.HTTP, standing_at: str | None = None, ended: bool = True
) -> CutOff:
    return CutOff(kind=kind, name=name, seconds=12.34, standing_at=standing_at, ended=ended)


def test_text_of_a_clean_end() -> None:
    text = report(
        ended={Kind.HTTP: 2, Kind.JOB: 1},
        resources=(released("queue", 0.02), released("database", 0.3)),
        arrivals=41,
        last_arrival=1.5,
    ).as_text()
    assert text == (
        "SIGTERM: ended after 6.75 s, clean (exit code 0)\n"
        "  lame duck    5.00 s   41 requests came after the signal, the last 1.50 s after it\n"
        "  drain        1.25 s   3 ended in time, none cut off\n"
        "  release      0.50 s   queue 0.02 s, database 0.30 s"
    )


def test_text_of_a_quiet_end() -> None:
    assert report().as_text() == (
        "SIGTERM: ended after 6.75 s, clean (exit code 0)\n"
        "  lame duck    5.00 s   no request came after the signal\n"
        "  drain        1.25 s   0 ended in time, none cut off\n"
        "  release      0.50 s   nothing to release"
    )


def test_text_of_what_was_cut_off() -> None:
    text = report(
        outcome=Outcome.NOT_CLEAN,
        exit_code=ExitCode.CUT_OFF,
        ended={Kind.HTTP: 1},
        cut_off=(
            cut(standing_at="shop/app.py:12 in slow"),
            cut("nightly", kind=Kind.JOB, ended=False),
        ),
        arrivals=1,
        last_arrival=0.0,
    ).as_text()
    assert text == (
        "SIGTERM: ended after 6.75 s, not clean (exit code 75)\n"
        "  lame duck    5.00 s   1 request came after the signal, the last 0.00 s after it\n"
        "  drain        1.25 s   1 ended in time, 2 cut off\n"
        "    cut off: http GET /slow, 12.3 s old, at shop/app.py:12 in slow\n"
        "    left behind: job nightly, 12.3 s old\n"
        "  release      0.50 s   nothing to release"
    )


def test_text_of_a_release_that_went_wrong_in_an_adopted_server() -> None:
    text = report(
        outcome=Outcome.NOT_CLEAN,
        exit_code=None,
        resources=(
            released("queue", 4.0, "timed out"),
            released("database", 0.25, "failed", "OSError('gone')"),
            released("cache"),
        ),
    ).as_text()
    assert text == (
        "SIGTERM: ended after 6.75 s, not clean\n"
        "  lame duck    5.00 s   no request came after the signal\n"
        "  drain        1.25 s   0 ended in time, none cut off\n"
        "  release      0.50 s   queue TIMED OUT after 4.00 s, "
        "database FAILED after 0.25 s (OSError('gone')), cache 0.10 s"
    )


def test_text_of_a_startup_that_failed() -> None:
    text = report(
        reason="startup failed",
        outcome=Outcome.FAILED,
        exit_code=ExitCode.FAILED,
        phases={Phase.STARTING: 0.2, Phase.RELEASING: 0.1},
        failure="startup failed: OSError: no database",
        resources=(released("queue"),),
        lame_duck=0.0,
    ).as_text()
    assert text == (
        "startup failed: ended after 0.10 s, failed (exit code 1)\n"
        "  failed      startup failed: OSError: no database\n"
        "  release      0.10 s   queue 0.10 s"
    )


def test_twenty_are_named_the_others_counted() -> None:
    def lines(number: int) -> list[str]:
        names = [f"GET /{which}" for which in range(number)]
        return report(cut_off=tuple(cut(name) for name in names)).as_text().splitlines()[3:-1]

    assert len(lines(20)) == 20
    assert lines(20)[-1] == "    cut off: http GET /19, 12.3 s old"
    assert len(lines(27)) == 21
    assert lines(27)[19:] == ["    cut off: http GET /19, 12.3 s old", "    cut off: and 7 more"]


@pytest.mark.parametrize(
    ("lame_duck", "last_arrival", "enough"),
    [
        (5.0, None, None),
        (5.0, 3.99, None),
        (5.0, 4.0, None),
        (5.0, 4.01, 6.0),
        (5.0, 4.1, 6.0),
        (5.0, 9.0, 12.0),
        (0.0, 3.0, None),
    ],
)
def test_an_arrival_in_the_last_fifth(
    lame_duck: float, last_arrival: float | None, enough: float | None
) -> None:
    found = report(lame_duck=lame_duck, last_arrival=last_arrival, arrivals=1)
    assert found.enough_lame_duck == enough
    assert found.clean is (enough is None)
    assert ("WARNING" in found.as_text()) is (enough is not None)


@pytest.mark.parametrize("last_arrival", [0.85, 4.01, 4.5, 5.0, 30.0])
def test_the_lame_duck_advised_would_have_been_enough(last_arrival: float) -> None:
    lame_duck = min(last_arrival, 5.0)
    advised = report(lame_duck=lame_duck, last_arrival=last_arrival, arrivals=1).enough_lame_duck
    assert advised is not None
    assert report(lame_duck=advised, last_arrival=last_arrival, arrivals=1).enough_lame_duck is None


def test_text_of_the_warning() -> None:
    lines = report(last_arrival=4.5, arrivals=3).as_text().splitlines()
    assert lines[2] == (
        "    WARNING: requests still came in the last fifth of the lame duck of 5 s: too short; "
        "set GRACEFUL_LAME_DUCK=6"
    )


def test_clean() -> None:
    assert report().clean
    assert not report(outcome=Outcome.NOT_CLEAN).clean


def test_exit_codes() -> None:
    assert {outcome: int(outcome.exit_code) for outcome in Outcome} == {
        "clean": 0,
        "not clean": 75,
        "interrupted": 130,
        "failed": 1,
    }
    assert {code.name: int(code) for code in ExitCode} == {
        "OK": 0,
        "FAILED": 1,
        "USAGE": 2,
        "WATCHDOG": 70,
        "CUT_OFF": 75,
        "INTERRUPTED": 130,
        "QUIT": 131,
        "TERMINATED": 143,
    }


def test_as_dict_is_plain() -> None:
    found = report(
        ended={Kind.HTTP: 2},
        cut_off=(cut(standing_at="a.py:1 in f"),),
        resources=(released("database", error=None),),
        arrivals=2,
        last_arrival=1.5,
        in_the_way=("thread mailer, at app.py:12 in run",),
        failure=None,
    )
    assert json.loads(json.dumps(found.as_dict())) == {
        "reason": "SIGTERM",
        "outcome": "clean",
        "exit_code": 0,
        "phases": {"starting": 1.0, "serving": 3600.0, "lame_duck": 5.0, "draining": 1.25, "releasing": 0.5},
        "signals": 1,
        "ended": {"http": 2},
        "cut_off": [
            {
                "kind": "http",
                "name": "GET /slow",
                "seconds": 12.34,
                "standing_at": "a.py:1 in f",
                "ended": True,
            }
        ],
        "resources": [{"name": "database", "seconds": 0.1, "outcome": "released", "error": None}],
        "arrivals": 2,
        "last_arrival": 1.5,
        "lame_duck": 5.0,
        "refused": None,
        "in_the_way": ["thread mailer, at app.py:12 in run"],
        "failure": None,
        "left_behind": [],
    }
    assert report(exit_code=None).as_dict()["exit_code"] is None


def test_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        report().reason = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    "break_", ["\n", "\r", "\r\n", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"]
)
def test_no_byte_of_a_client_begins_a_line(break_: str) -> None:
    hostile = f"/x{break_}CRITICAL: forged"
    scopes: list[dict[str, Any]] = [
        {"type": "http", "method": "GET", "path": hostile},
        {"type": "http", "method": f"G{break_}ET", "path": "/"},
        {"type": "websocket", "path": hostile},
    ]
    text = report(cut_off=tuple(cut(request_name(scope)) for scope in scopes)).as_text()
    assert len(text.splitlines()) == 4 + len(scopes)
    assert not any(line.lstrip().startswith("CRITICAL") for line in text.splitlines())


def test_counted() -> None:
    assert [counted(number, "request") for number in (0, 1, 2)] == ["0 requests", "1 request", "2 requests"]


def test_of_each_kind_that_was_left_behind_twenty_are_named() -> None:
    tasks = [f"task {number} at app.py:3 in hang" for number in range(25)]
    text = report().with_left_behind([*tasks, "thread worker at app.py:7 in hang"]).as_text()
    lines = [line for line in text.splitlines() if "left behind" in line]
    assert len(lines) == 22
    assert lines[-2:] == [
        "  exit       left behind: and 5 more",
        "  exit       left behind: thread worker at app.py:7 in hang",
    ]


def test_what_was_left_behind_after_the_run_is_named_and_not_clean() -> None:
    found = report().with_left_behind(["thread worker at app.py:3 in hang"])
    assert (found.outcome, found.exit_code, found.clean) == (Outcome.NOT_CLEAN, ExitCode.CUT_OFF, False)
    assert found.as_text().endswith("  exit       left behind: thread worker at app.py:3 in hang")
    failed = dataclasses.replace(
        report(), outcome=Outcome.FAILED, exit_code=ExitCode.FAILED
    ).with_left_behind(["x"])
    assert (failed.outcome, failed.exit_code) == (Outcome.FAILED, ExitCode.FAILED), "a failure stays one"


def test_connections_that_were_refused() -> None:
    (line,) = [line for line in report(refused=3).as_text().splitlines() if "refused" in line]
    assert line.startswith("    about 3 connections came after the listener was closed and were refused")
    assert "refused" not in report(refused=0).as_text()
    assert "refused" not in report(refused=None).as_text()
    assert report(refused=3).clean, "a probe may have come"


def test_the_short_form_has_counts_and_names_only() -> None:
    found = report(
        outcome=Outcome.NOT_CLEAN,
        exit_code=ExitCode.CUT_OFF,
        ended={Kind.HTTP: 43, Kind.JOB: 1},
        cut_off=(cut("GET /secret", standing_at="shop.py:3 in rows"), cut("GET /secret"), cut(kind=Kind.JOB)),
        resources=(
            released("journal"),
            released("broker", 5.0, "timed out"),
            released("database"),
            released("cache", outcome="failed", error="ConnectionError: /run/secret"),
        ),
        arrivals=42,
        last_arrival=1.87,
        failure="OSError: /etc/secret",
        left_behind=("thread secret", "task secret"),
    ).in_short()
    assert found.splitlines() == [
        "SIGTERM: ended after 6.75 s, not clean (exit code 75)",
        "failed: the log says why",
        "in flight: 44 ended in time; cut off: 2 http, 1 job",
        "42 requests came after the signal, the last 1.87 s after it",
        "resources timed out: broker",
        "resources failed: cache",
        "resources released: journal, database",
        "left behind at exit: 2",
    ]


def test_the_short_form_of_next_to_nothing() -> None:
    found = report(exit_code=None).in_short()
    assert found == "SIGTERM: ended after 6.75 s, clean\nin flight: 0 ended in time; cut off: none"
