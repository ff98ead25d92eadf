"""The verdict over a rehearsal: a pure function of what was seen."""

from __future__ import annotations

from typing import Final

from graceful.rehearse.diagnosis import diagnose
from graceful.rehearse.evidence import gather
from graceful.rehearse.model import Cause, Judgement, Rehearsal, Verdict
from graceful.rehearse.phrasing import counted, listing

MOST_LATENESS: Final = 0.05
"""Seconds. Where the load itself was later than that, a loss may be the machine's."""


def judge(rehearsal: Rehearsal) -> Verdict:
    """Passed: nothing was lost, nothing died untimely, and all that were taken away ended by themselves in
    time. No verdict where something was lost and the machine was late, or where nothing could be rehearsed.
    """
    lost, requests = len(rehearsal.lost), len(rehearsal.entries)
    if lost and rehearsal.lateness > MOST_LATENESS:
        return Verdict(
            judgement=Judgement.NO_VERDICT,
            why=f"{counted(lost, 'request')} of {requests:,} lost, but the load was "
            f"{rehearsal.lateness * 1000:.0f} ms late (at most {MOST_LATENESS * 1000:.0f} can be borne): the "
            "losses may be the machine's; lower --rate, or give it a quieter machine",
        )
    diagnoses = diagnose(rehearsal)
    if not rehearsal.deaths and any(each.cause is Cause.NOT_READY_IN_TIME for each in diagnoses):
        why = "the service did not become ready, so nothing could be rehearsed"
        return Verdict(judgement=Judgement.NO_VERDICT, why=why, diagnoses=diagnoses)
    if not diagnoses:
        return Verdict(judgement=Judgement.PASSED, why=_well(rehearsal))
    return Verdict(judgement=Judgement.FAILED, why=_badly(rehearsal), diagnoses=diagnoses)


def _well(rehearsal: Rehearsal) -> str:
    requests = counted(len(rehearsal.entries), "request")
    if not rehearsal.deaths:
        return f"nothing of {requests} was lost; nothing was taken away"
    deaths = counted(len(rehearsal.deaths), "replica")
    return f"nothing of {requests} was lost, and {deaths} taken away ended in time"


def _badly(rehearsal: Rehearsal) -> str:
    """What of the three conditions did not hold, with numbers."""
    evidence = gather(rehearsal)
    wrong = []
    if rehearsal.lost:
        wrong.append(f"{len(rehearsal.lost):,} of {counted(len(rehearsal.entries), 'request')} lost")
    killed = sum(scene.killed for scene in evidence.scenes)
    if killed:
        wrong.append(f"{killed} of {counted(len(evidence.scenes), 'replica')} killed")
    if evidence.unplanned:
        wrong.append(f"{counted(len(evidence.unplanned), 'untimely end')} of a process")
    return listing(wrong) if wrong else "nothing was lost, but a replica did not behave"
