"""JSON and JUnit: what machines read is there, and can be read whatever the service said."""

from __future__ import annotations

import json
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest

from graceful.rehearse.figures import Judged
from graceful.rehearse.judging import judge
from graceful.rehearse.machine import VERSION, as_dict, as_json, as_junit
from graceful.rehearse.model import Exec, HttpGet, Probe, Rehearsal, RequestSpec
from tests.rehearse import broken
from tests.rehearse.made import GOOD, SERVICE, Manners, made, plan

HOSTILE = "]]></failure>\x00\x1b[31m\udcff\u202e<script>&\n\ufffe"


def judged(rehearsal: Rehearsal) -> Judged:
    return Judged(rehearsal=rehearsal, verdict=judge(rehearsal))


def hostile() -> Rehearsal:
    service = replace(SERVICE, name=HOSTILE, command=(HOSTILE,), environment={HOSTILE: "x"})
    rehearsal = made(Manners(closes=0.0, ends=0.7, not_ready=None, output=HOSTILE), plan(service))
    return replace(
        rehearsal,
        events=tuple(replace(event, detail=HOSTILE) for event in rehearsal.events),
        entries=tuple(replace(entry, detail=HOSTILE, kind=HOSTILE) for entry in rehearsal.entries),
    )


def test_the_verdict_and_the_counts() -> None:
    rehearsal = broken.closes_the_listener_early()
    found = as_dict(rehearsal, judge(rehearsal))

    assert (found["version"], found["judgement"], found["exit_code"]) == (VERSION, "failed", 1)
    assert (found["requests"], found["lost"]) == (363, 104)
    assert found["outcomes"] == {"answered": 259, "refused": 104}
    assert found["diagnoses"][0]["cause"] == "listener_closed_early"
    assert [kind["name"] for kind in found["kinds"]] == ["GET /", "GET /slow"]


def test_instants_are_seconds_since_the_beginning() -> None:
    rehearsal = broken.closes_the_listener_early()
    [death, *_] = as_dict(rehearsal, judge(rehearsal))["deaths"]

    assert (death["signalled"], death["unlisted"], death["ended"], death["killed"]) == (1.9, 3.9, 2.55, None)
    assert death["arrivals"][0]["after_signal"] == -1.0
    assert sum(sum(slot["outcomes"].values()) for slot in death["arrivals"]) == 66


def test_every_loss_is_there_with_its_moment() -> None:
    rehearsal = broken.closes_the_listener_early()
    losses = as_dict(rehearsal, judge(rehearsal))["losses"]

    assert len(losses) == 104
    assert losses[0]["after_signal"] == pytest.approx(losses[0]["sent"] - 1.9)
    assert losses[0]["outcome"] == "refused"


def test_no_secret_of_the_plan_is_written() -> None:
    header = (("authorization", "Bearer s3cret"),)
    probe = Probe(action=HttpGet(headers=header))
    service = replace(
        SERVICE,
        environment={"PASSWORD": "s3cret"},
        readiness=probe,
        liveness=Probe(action=Exec(command=("x",))),
    )
    of = plan(service)
    of = replace(of, load=replace(of.load, requests=(RequestSpec(headers=header, expected=b"\xff"),)))
    text = as_json([judged(replace(made(), plan=of))])
    written = json.loads(text)["rehearsals"][0]["plan"]

    assert "s3cret" not in text
    assert written["service"]["environment"] == ["PASSWORD"]
    assert written["service"]["readiness"]["action"]["headers"] == ["authorization"]
    assert written["load"]["requests"][0]["headers"] == ["authorization"]


def test_json_of_a_hostile_service_can_be_written_and_read() -> None:
    text = as_json([judged(hostile()), judged(made())])

    assert json.loads(text.encode())["version"] == VERSION
    assert not any(ord(character) < 32 and character != "\n" for character in text)
    assert "\\u0000" not in text
    assert "\\u001b" not in text


def test_junit_has_a_case_for_each_death_and_one_for_the_whole() -> None:
    root = ET.fromstring(as_junit([judged(broken.closes_the_listener_early())]))  # noqa: S314 - ours
    [suite] = root
    names = [case.get("name") for case in suite]
    failure = suite[0].find("failure")

    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("4", "4", "0")
    assert names == ["restart 1: shop-1", "restart 2: shop-2", "restart 3: shop-3", "the whole rehearsal"]
    assert failure is not None
    assert failure.get("message") == "38 lost"
    assert "listener closed" in (failure.text or "")
    assert "keep serving for at least 2.3 s" in (suite[3].findtext("failure") or "")


def test_junit_of_a_good_service_has_no_failure() -> None:
    root = ET.fromstring(as_junit([judged(made(replace(GOOD, output="bye")))]))  # noqa: S314 - ours

    assert (root.get("tests"), root.get("failures"), root.get("errors")) == ("4", "0", "0")
    assert root[0][0].findtext("system-out") == "bye"


def test_a_kill_is_a_failure_of_its_case() -> None:
    root = ET.fromstring(as_junit([judged(broken.pre_stop_too_long())]))  # noqa: S314 - ours

    assert next(root.iter("failure")).get("message") == "killed at the end of the grace period"


def test_without_a_verdict_every_case_is_an_error() -> None:
    late = replace(broken.closes_the_listener_early(), lateness=0.2)
    root = ET.fromstring(as_junit([judged(late), judged(made())]))  # noqa: S314 - ours

    assert (root.get("tests"), root.get("failures"), root.get("errors")) == ("8", "0", "4")
    assert "200 ms late" in next(root.iter("error")).get("message", "")


def test_junit_of_a_hostile_service_can_be_parsed() -> None:
    root = ET.fromstring(as_junit([judged(hostile())]).encode())  # noqa: S314 - ours

    assert root.get("failures") == "4"
    assert "<script>" in (root[0].get("name") or "")
