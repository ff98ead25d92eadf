"""A rehearsal for machines: JSON, and JUnit's XML for those who show test results.

Instants are seconds since the beginning of the rehearsal, but for those that say otherwise.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from enum import Enum
from typing import Any, Final
from xml.etree import ElementTree as ET

from graceful.rehearse.evidence import Scene
from graceful.rehearse.figures import Judged, kinds, labels
from graceful.rehearse.model import (
    Diagnosis,
    Entry,
    Event,
    Judgement,
    Outcome,
    Plan,
    Rehearsal,
    Verdict,
)
from graceful.rehearse.phrasing import flat, printable
from graceful.rehearse.story import tell_death
from graceful.rehearse.timeline import Timeline, timelines

VERSION: Final = 1
"""Of the JSON. It is raised when a key goes or changes its meaning, not when one comes."""

_DIGITS: Final = 6  # microseconds: no clock of ours is truer


def as_json(several: Sequence[Judged]) -> str:
    """`{"version": 1, "rehearsals": […]}`, one for each service, for a file or a pipe."""
    document = {
        "version": VERSION,
        "rehearsals": [as_dict(judged.rehearsal, judged.verdict) for judged in several],
    }
    return json.dumps(document, ensure_ascii=False, indent=2) + "\n"


def as_dict(rehearsal: Rehearsal, verdict: Verdict) -> dict[str, Any]:
    """All that was seen, in plain types: every lost request, and the others in counts."""
    plain: dict[str, Any] = _plain(
        {
            "version": VERSION,
            "judgement": verdict.judgement,
            "exit_code": verdict.exit_code,
            "why": verdict.why,
            "diagnoses": [_diagnosis(diagnosis) for diagnosis in verdict.diagnoses],
            "plan": _plan(rehearsal.plan),
            "seconds": rehearsal.ended - rehearsal.began,
            "lateness": rehearsal.lateness,
            "requests": len(rehearsal.entries),
            "lost": len(rehearsal.lost),
            "outcomes": _keyed(Counter(entry.outcome for entry in rehearsal.entries)),
            "kinds": kinds(rehearsal),
            "deaths": [_death(timeline, rehearsal) for timeline in timelines(rehearsal)],
            "losses": [_loss(entry, rehearsal) for entry in rehearsal.lost],
            "events": [_event(event, rehearsal) for event in rehearsal.events],
        }
    )
    return plain


def as_junit(several: Sequence[Judged]) -> str:
    """One suite for each service: a case for each death, and one for what was lost or ended outside of them.
    Where there is no verdict, every case is an error.
    """
    suites = [_suite(judged, label) for judged, label in zip(several, labels(several), strict=True)]
    root = ET.Element("testsuites", {"name": "graceful rehearse", **_totals(suites)})
    root.extend(suites)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _diagnosis(diagnosis: Diagnosis) -> dict[str, Any]:
    return {
        "cause": diagnosis.cause.name.lower(),
        "title": str(diagnosis.cause),
        "seen": diagnosis.seen,
        "way_out": diagnosis.way_out,
        "losses": diagnosis.losses,
    }


def _death(timeline: Timeline, rehearsal: Rehearsal) -> dict[str, Any]:
    """The instants of one, and what became in each tenth of a second of those who were sent to it."""
    death = timeline.scene.death
    instants = ("taken_away", "signalled", "unlisted", "not_ready", "listener_closed", "killed", "ended")
    return {
        "replica": death.replica,
        **{name: _since(getattr(death, name), rehearsal) for name in instants},
        "code": death.code,
        "lost": timeline.lost,
        "phases": timeline.phases,
        "arrivals": [
            {"after_signal": slot.begins, "outcomes": _keyed(slot.outcomes)}
            for slot in timeline.slots()
            if slot.outcomes
        ],
        "output": death.output,
    }


def _loss(entry: Entry, rehearsal: Rehearsal) -> dict[str, Any]:
    return {
        "kind": entry.kind,
        "replica": entry.replica,
        "kept": entry.kept,
        "due": _since(entry.due, rehearsal),
        "sent": _since(entry.sent, rehearsal),
        "ended": _since(entry.ended, rehearsal),
        "after_signal": entry.after_signal,
        "outcome": entry.outcome,
        "detail": entry.detail,
    }


def _event(event: Event, rehearsal: Rehearsal) -> dict[str, Any]:
    said = {"probe": event.probe, "ok": event.ok, "code": event.code, "detail": event.detail}
    return {
        "at": _since(event.at, rehearsal),
        "replica": event.replica,
        "what": event.what.name.lower(),
        **{name: value for name, value in said.items() if value not in {None, ""}},
    }


def _keyed(outcomes: Mapping[Outcome, int]) -> dict[str, int]:
    return {str(outcome): outcomes[outcome] for outcome in Outcome if outcomes.get(outcome)}


def _since(instant: float | None, rehearsal: Rehearsal) -> float | None:
    return None if instant is None else instant - rehearsal.began


def _plan(plan: Plan) -> dict[str, Any]:
    """The plan, of its environment and headers the names only: there may be secrets among the values."""
    service, load = plan.service, plan.load
    plain: dict[str, Any] = _plain(replace(plan, service=replace(service, environment={})))
    plain["service"]["environment"] = sorted(service.environment)
    for probe in ("readiness", "liveness", "startup"):
        action = (plain["service"][probe] or {}).get("action", {})
        if "headers" in action:
            action["headers"] = [name for name, _ in action["headers"]]
    for spec, request in zip(plain["load"]["requests"], load.requests, strict=True):
        spec["headers"] = [name for name, _ in request.headers]
    return plain


def _plain(value: object) -> Any:
    """A value of ours in the types that JSON has, its texts fit for any file and terminal."""
    plain: object = value
    if isinstance(value, Enum):
        plain = str(value.value)
    elif isinstance(value, str):
        plain = printable(value)
    elif isinstance(value, bytes):
        plain = printable(value.decode(errors="replace"))
    elif isinstance(value, float):
        plain = round(value, _DIGITS)
    elif isinstance(value, Mapping):
        plain = {str(_plain(key)): _plain(each) for key, each in value.items()}
    elif isinstance(value, list | tuple):
        plain = [_plain(each) for each in value]
    elif is_dataclass(value):
        plain = {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    return plain


# https://github.com/testmoapp/junitxml has what readers of it agree on.


def _suite(judged: Judged, label: str) -> ET.Element:
    rehearsal, verdict = judged.rehearsal, judged.verdict
    cases = [_death_case(timeline, label) for timeline in timelines(rehearsal)]
    cases.append(_rest_case(judged, label))
    if verdict.judgement is Judgement.NO_VERDICT:
        for case in cases:
            for child in list(case):
                case.remove(child)
            ET.SubElement(case, "error", message=flat(verdict.why, 1000), type=str(verdict.judgement))
    suite = ET.Element(
        "testsuite",
        name=label,
        tests=str(len(cases)),
        failures=str(sum(case.find("failure") is not None for case in cases)),
        errors=str(sum(case.find("error") is not None for case in cases)),
        time=f"{rehearsal.ended - rehearsal.began:.3f}",
    )
    suite.extend(cases)
    return suite


def _death_case(timeline: Timeline, label: str) -> ET.Element:
    scene = timeline.scene
    case = ET.Element(
        "testcase",
        classname=label,
        name=f"restart {timeline.number}: {flat(scene.death.replica)}",
        time=f"{timeline.ends - timeline.begins:.3f}",
    )
    wrong = _wrong(scene)
    if wrong:
        failure = ET.SubElement(case, "failure", message=wrong, type="death")
        failure.text = "\n" + tell_death(timeline) + "\n"
    if scene.death.output:
        ET.SubElement(case, "system-out").text = printable(scene.death.output)
    return case


def _wrong(scene: Scene) -> str:
    wrong = [f"{len(scene.lost):,} lost"] if scene.lost else []
    wrong += ["killed at the end of the grace period"] if scene.killed else []
    return ", ".join(wrong)


def _rest_case(judged: Judged, label: str) -> ET.Element:
    """The whole: it fails where the verdict does, with the diagnoses."""
    case = ET.Element("testcase", classname=label, name="the whole rehearsal")
    if judged.verdict.judgement is not Judgement.PASSED:
        failure = ET.SubElement(case, "failure", message=judged.verdict.why, type="verdict")
        failure.text = "".join(
            f"\n{each.cause}: {each.seen}\n-> {each.way_out}\n" for each in judged.verdict.diagnoses
        )
    return case


def _totals(suites: Iterable[ET.Element]) -> dict[str, str]:
    several = list(suites)
    return {
        name: str(sum(int(suite.get(name, "0")) for suite in several))
        for name in ("tests", "failures", "errors")
    }
