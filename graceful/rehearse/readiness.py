"""The rules for readiness that says too late that nobody should be sent to a replica any more."""

from __future__ import annotations

from graceful.rehearse.evidence import Evidence, Scene
from graceful.rehearse.findings import (
    MOMENT,
    Finding,
    in_restarts,
    is_of,
    keep_serving,
    lost_as,
    moment,
    removal,
    turned_away,
    worst,
)
from graceful.rehearse.model import Cause, Entry, Event, Happening, Outcome, ProbeName
from graceful.rehearse.phrasing import at_least, counted, seconds


def late(evidence: Evidence) -> Finding | None:
    """Dying replicas whose readiness did not say so in time to keep users away from a closed door."""
    readiness = evidence.rehearsal.plan.service.readiness
    if readiness is None:
        return None
    noticed = readiness.period * readiness.failure_threshold + readiness.timeout
    scenes, losses = [], []
    for scene in evidence.scenes:
        closed, not_ready = scene.closed, scene.not_ready
        refused = turned_away(scene)
        if closed is None or not refused or (not_ready is not None and not_ready <= closed):
            continue
        if (not_ready is not None and _removed_late(evidence, scene)) or closed - scene.zero >= noticed:
            scenes.append(scene)
            losses += refused
    if not scenes:
        return None
    first = worst(scenes)
    flipped = "never said no"  # but for the closed door, where that was found soon
    if first.not_ready is not None and first.not_ready - (first.closed or 0.0) > MOMENT:
        flipped = f"said no only after {seconds(first.after(first.not_ready))}"
    return Finding(
        cause=Cause.READINESS_LATE,
        seen=f"listener closed {moment(first, first.closed)} after {first.service.stop_signal}, but "
        f"readiness {flipped}, {removal(first)}: {lost_as(losses)}{in_restarts(scenes, evidence.rehearsal)}",
        way_out=f"fail the readiness probe as soon as {first.service.stop_signal} comes, ask it more often "
        f"(found every {readiness.period:g} s, {counted(readiness.failure_threshold, 'failure')} in a row), "
        f"and keep serving for at least {at_least(keep_serving(scenes, losses))} s",
        losses=tuple(losses),
    )


def _removed_late(evidence: Evidence, scene: Scene) -> bool:
    """Whether its endpoint was there for longer than the removal takes: readiness was waited for."""
    unlisted = scene.death.unlisted
    lag = evidence.rehearsal.plan.removal_lag
    return unlisted is None or unlisted > scene.death.taken_away + lag + MOMENT


def late_in_life(evidence: Evidence) -> Finding | None:
    """Replicas that nobody had taken away, and that had lost most of their users when readiness said so."""
    losses: list[Entry] = []
    seen: list[tuple[str, float, float]] = []
    for event in evidence.rehearsal.events:
        if event.what is Happening.NOT_READY and not _is_leaving(evidence, event):
            known = {id(entry) for entry in losses}  # two flips may follow each other closely
            these = [entry for entry in _lost_before(evidence, event) if id(entry) not in known]
            if these:
                seen.append((event.replica, min(entry.sent for entry in these), event.at))
                losses += these
    if not seen:
        return None
    replica, since, flipped = seen[0]
    bad_for = max(0.0, flipped - since)
    return Finding(
        cause=Cause.READINESS_LATE,
        seen=f"{replica} had gone bad for {seconds(bad_for)} before its readiness probe said so: "
        f"{lost_as(losses)}",
        way_out="ask the readiness probe more often, with fewer failures in a row (periodSeconds times "
        "failureThreshold is what users wait), and find out what made it go bad",
        losses=tuple(losses),
    )


def _is_leaving(evidence: Evidence, not_ready: Event) -> bool:
    """Whether it was no wonder: it had been taken away, or its process had ended."""
    taken = [scene.death.taken_away for scene in evidence.scenes if is_of(not_ready, scene)]
    ends = [end for end in evidence.unplanned if end.replica == not_ready.replica]
    return any(not_ready.at >= instant for instant in taken) or any(
        end.at - MOMENT < not_ready.at < max(end.back, end.at + MOMENT) for end in ends
    )


def _lost_before(evidence: Evidence, not_ready: Event) -> list[Entry]:
    """What was lost on a replica from its last good probe until nobody was sent there any more; nothing where
    it was but a small part of what was sent.
    """
    since = max(
        (
            event.at
            for event in evidence.rehearsal.events
            if event.replica == not_ready.replica
            and event.at < not_ready.at
            and event.what is Happening.PROBED
            and event.probe is ProbeName.READINESS
            and event.ok
        ),
        default=evidence.rehearsal.began,
    )
    until = not_ready.at + evidence.rehearsal.plan.removal_lag + MOMENT

    def is_of_that_time(entry: Entry) -> bool:
        return entry.replica == not_ready.replica and since <= entry.sent <= until

    lost = [
        entry for entry in evidence.outside if is_of_that_time(entry) and entry.outcome is not Outcome.TIMEOUT
    ]
    begun = min((entry.sent for entry in lost), default=until)
    noticed = [
        entry
        for entry in evidence.rehearsal.entries
        if is_of_that_time(entry) and begun <= entry.sent <= not_ready.at
    ]
    return lost if sum(entry.outcome.lost for entry in noticed) * 2 >= len(noticed) else []
