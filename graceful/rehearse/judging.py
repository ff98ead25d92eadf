"""The verdict over a rehearsal: a pure function of what was seen."""

from __future__ import annotations

from graceful.rehearse.diagnosis import diagnose
from graceful.rehearse.evidence import gather
from graceful.rehearse.model import Happening, Judgement, Rehearsal, Verdict
from graceful.rehearse.phrasing import counted, listing


def judge(rehearsal: Rehearsal) -> Verdict:
    """Passed: nothing was lost, nothing died untimely, and all that were taken away ended by themselves in
    time. No verdict where nothing could be rehearsed, or where the machine was so late that a loss may be its
    own, and that nothing was lost may be since nobody came.
    """
    diagnoses = diagnose(rehearsal)
    is_late = rehearsal.lateness > rehearsal.plan.load.max_lateness
    if is_late and (rehearsal.lost or not diagnoses):
        return Verdict(judgement=Judgement.NO_VERDICT, why=_late(rehearsal))
    if diagnoses and not any(event.what is Happening.READY for event in rehearsal.events):
        why = "the service did not become ready, so nothing could be rehearsed"
        return Verdict(judgement=Judgement.NO_VERDICT, why=why, diagnoses=diagnoses)
    if not diagnoses:
        return Verdict(judgement=Judgement.PASSED, why=_well(rehearsal))
    return Verdict(judgement=Judgement.FAILED, why=_badly(rehearsal), diagnoses=diagnoses)


def _late(rehearsal: Rehearsal) -> str:
    requests = counted(len(rehearsal.entries), "request")
    lost, most = len(rehearsal.lost), rehearsal.plan.load.max_lateness
    seen = f"{lost:,} of {requests} were lost" if lost else f"nothing of {requests} was lost"
    return (
        f"{seen}, but this machine sent them up to {rehearsal.lateness * 1000:.0f} ms late (at most "
        f"{most * 1000:.0f} are borne), so that proves nothing: lower the rate, take a quieter machine, or "
        "bear more (--rate, --max-lateness)"
    )


def _well(rehearsal: Rehearsal) -> str:
    requests = counted(len(rehearsal.entries), "request")
    if not rehearsal.deaths:
        return f"nothing of {requests} was lost; nothing was taken away{_astray(rehearsal)}"
    deaths = counted(len(rehearsal.deaths), "replica")
    return f"nothing of {requests} was lost, and {deaths} taken away ended in time{_astray(rehearsal)}"


def _astray(rehearsal: Rehearsal) -> str:
    """Requests that were refused each time, with 404 say: they were answered, but may be asked by nobody."""
    found: dict[str, set[str]] = {}
    for entry in rehearsal.entries:
        refused = entry.detail.startswith("status ")  # not so how a WebSocket was closed
        found.setdefault(entry.kind, set()).add(entry.detail if refused else "")
    astray = [f"{kind} had {listing(sorted(said))} each time" for kind, said in found.items() if all(said)]
    return f"; but {listing(astray)}: is that what its users ask for?" if astray else ""


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
