"""Why something was lost, or a process did not end by itself in time: one rule per cause.

Each rule looks at what the rules before it have not explained. Those of a process that dies untimely, or does
not die, come first; then what was lost by the way in which it leaves, the largest loss first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import chain
from typing import Final

from graceful.rehearse import untimely
from graceful.rehearse.evidence import Evidence, Scene, gather
from graceful.rehearse.findings import Finding, Rule, in_restarts, keep_serving, lame_duck, lost_as
from graceful.rehearse.model import Cause, Diagnosis, Entry, Event, Happening, Outcome, ProbeName, Rehearsal
from graceful.rehearse.phrasing import at_least, counted, flat, seconds

_RACE: Final = 0.1  # seconds within which one notices that a connection ended in the moment of its use
_MOMENT: Final = 0.25
_MOST: Final = 1000  # characters
_BROKEN: Final = frozenset({Outcome.RESET, Outcome.RESET_KEPT, Outcome.TRUNCATED})
_WRONG: Final = frozenset({Outcome.SERVER_ERROR, Outcome.WRONG})


def diagnose(rehearsal: Rehearsal) -> tuple[Diagnosis, ...]:
    """The causes, the first one first. Every loss is counted in exactly one of them."""
    evidence = gather(rehearsal)
    first, evidence = _apply(untimely.RULES, evidence)
    then, evidence = _apply(_RULES, evidence)
    last, _ = _apply((_unexplained,), evidence)
    then.sort(key=lambda finding: len(finding.losses), reverse=True)
    return tuple(
        Diagnosis(
            cause=each.cause,
            seen=flat(each.seen, _MOST),  # names and last words are a stranger's
            way_out=flat(each.way_out, _MOST),
            losses=len(each.losses),
        )
        for each in chain(first, then, last)
    )


def _apply(rules: Iterable[Rule], evidence: Evidence) -> tuple[list[Finding], Evidence]:
    """What the rules found, and what they have not explained."""
    found = []
    for rule in rules:
        finding = rule(evidence)
        if finding is not None:
            found.append(finding)
            evidence = evidence.without(finding.losses)
    return found, evidence


def _exits_at_once(evidence: Evidence) -> Finding | None:
    scenes = [scene for scene in evidence.scenes if scene.at_once and scene.lost]
    if not scenes:
        return None
    losses = tuple(entry for scene in scenes for entry in scene.lost)
    first = _worst(scenes)
    needed = keep_serving(scenes, _new(losses))
    signal = first.service.stop_signal
    return Finding(
        cause=Cause.EXITS_AT_ONCE,
        seen=f"the process ended {_moment(first, first.death.ended)} after {signal}, {_removal(first)}: "
        f"{lost_as(losses)}{in_restarts(scenes, evidence.rehearsal)}",
        way_out=f"handle {signal}: keep serving for at least {at_least(needed)} s, finish what is in flight, "
        f"then end ({_NO_EXIT})",
        losses=losses,
    )


_NO_EXIT: Final = "graceful run does; a preStop sleep alone covers only new connections"


def _readiness_late(evidence: Evidence) -> Finding | None:
    """Dying replicas whose readiness did not say so in time to keep users away from a closed door."""
    readiness = evidence.rehearsal.plan.service.readiness
    if readiness is None:
        return None
    noticed = readiness.period * readiness.failure_threshold + readiness.timeout
    scenes, losses = [], []
    for scene in evidence.scenes:
        closed, not_ready = scene.closed, scene.not_ready
        refused = _refused(scene)
        if closed is None or not refused or (not_ready is not None and not_ready <= closed):
            continue
        if (not_ready is not None and _removed_late(evidence, scene)) or closed - scene.zero >= noticed:
            scenes.append(scene)
            losses += refused
    if not scenes:
        return None
    first = _worst(scenes)
    flipped = "never said no"
    if first.not_ready is not None:
        flipped = f"said no only after {seconds(first.after(first.not_ready))}"
    return Finding(
        cause=Cause.READINESS_LATE,
        seen=f"listener closed {_moment(first, first.closed)} after {first.service.stop_signal}, but "
        f"readiness {flipped}, {_removal(first)}: {lost_as(losses)}{in_restarts(scenes, evidence.rehearsal)}",
        way_out=f"fail the readiness probe as soon as {first.service.stop_signal} comes, ask it more often "
        f"(found every {readiness.period:g} s, {counted(readiness.failure_threshold, 'failure')} in a row), "
        f"and keep serving for at least {at_least(keep_serving(scenes, losses))} s",
        losses=tuple(losses),
    )


def _removed_late(evidence: Evidence, scene: Scene) -> bool:
    """Whether its endpoint was there for longer than the removal takes: readiness was waited for."""
    unlisted = scene.death.unlisted
    lag = evidence.rehearsal.plan.removal_lag
    return unlisted is None or unlisted > scene.death.taken_away + lag + _MOMENT


def _readiness_late_in_life(evidence: Evidence) -> Finding | None:
    """Replicas that nobody had taken away, and that had lost most of their users when readiness said so."""
    losses: list[Entry] = []
    seen: list[tuple[str, float, float]] = []
    for event in evidence.rehearsal.events:
        if event.what is Happening.NOT_READY and not _is_leaving(evidence, event):
            these = _lost_before(evidence, event)
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
    taken = [scene.death.taken_away for scene in evidence.scenes if _is_of(not_ready, scene)]
    ends = [end.at for end in evidence.unplanned if end.replica == not_ready.replica]
    return any(not_ready.at >= instant for instant in taken) or any(
        abs(not_ready.at - instant) < _MOMENT for instant in ends
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
    until = not_ready.at + evidence.rehearsal.plan.removal_lag + _MOMENT

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


def _listener_closed_early(evidence: Evidence) -> Finding | None:
    scenes = [scene for scene in evidence.scenes if _refused(scene)]
    if not scenes:
        return None
    losses = tuple(entry for scene in scenes for entry in _refused(scene))
    first = _worst(scenes)
    needed = keep_serving(scenes, losses)
    return Finding(
        cause=Cause.LISTENER_CLOSED_EARLY,
        seen=f"listener closed {_moment(first, first.closed)} after {first.service.stop_signal}, "
        f"{_removal(first)}: {lost_as(losses)}{in_restarts(scenes, evidence.rehearsal)}",
        way_out=f"keep serving for at least {at_least(needed)} s: {lame_duck(needed, first.service)}",
        losses=losses,
    )


def _refused(scene: Scene) -> list[Entry]:
    """New connections of a dying replica that were turned away by nobody who listens; and with them those in
    the queue of the listener when it was closed.
    """
    refused = _new(scene.lost)
    queued = [
        entry
        for entry in scene.lost
        if entry.outcome is Outcome.RESET and not entry.kept and _is_race(entry) and entry.ended >= scene.zero
    ]
    return refused + queued if refused else []


def _keep_alive_forgotten(evidence: Evidence) -> Finding | None:
    leaving = [entry for scene in evidence.scenes for entry in scene.lost if _should_have_left(entry, scene)]
    idle = [entry for entry in evidence.outside if entry.outcome is Outcome.RESET_KEPT and _is_race(entry)]
    losses = (*leaving, *idle)
    if not losses:
        return None
    if len(idle) > len(leaving):
        seen = "kept connections were closed in the moment of their use, though nobody had been taken away"
        way_out = "keep idle connections open for longer than clients and proxies do (keep-alive timeout)"
    else:
        scenes = [scene for scene in evidence.scenes if any(_is_of(entry, scene) for entry in leaving)]
        seen = (
            "nobody told the users of kept connections to leave, and they were closed in use"
            + in_restarts(scenes, evidence.rehearsal)
        )
        way_out = (
            "answer with `connection: close` for a while before closing (HTTP/2: GOAWAY), so that clients go "
            "elsewhere; graceful does so in its lame duck"
        )
    return Finding(
        cause=Cause.KEEP_ALIVE_FORGOTTEN,
        seen=f"{seen}: {lost_as(losses)}",
        way_out=way_out,
        losses=losses,
    )


def _should_have_left(entry: Entry, scene: Scene) -> bool:
    """Whether it came by a kept connection that it would not have used, had it been told to leave: one that
    was just being closed, or that led to a replica where no new connection would have gone.
    """
    if not entry.kept or entry.outcome not in _BROKEN or scene.is_held(entry):
        return False
    gone = min((at for at in (scene.death.unlisted, scene.closed) if at is not None), default=None)
    late = gone is not None and entry.sent >= gone
    return late or (entry.outcome is Outcome.RESET_KEPT and _is_race(entry))


def _answers_errors(evidence: Evidence) -> Finding | None:
    losses = tuple(entry for entry in evidence.lost if entry.outcome in _WRONG)
    if not losses:
        return None
    dying = [
        entry
        for scene in evidence.scenes
        for entry in scene.lost
        if entry.outcome in _WRONG and entry.ended >= scene.zero
    ]
    (kind, number), *_ = Counter(entry.kind for entry in losses).most_common(1)
    mostly = "" if number == len(losses) else "mostly "
    detail = flat(Counter(entry.detail for entry in losses).most_common(1)[0][0], 60)
    after = f"{len(dying):,} of them after the signal to their replica" if dying else "before any signal"
    return Finding(
        cause=Cause.ANSWERS_ERRORS,
        seen=f"{lost_as(losses)} ({mostly}{flat(kind, 60)}{': ' + detail if detail else ''}), {after}",
        way_out="answer as before for as long as the listener is open; only readiness may say no"
        if len(dying) * 2 >= len(losses)
        else "find out why it fails where nobody is taking it away; see its log",
        losses=losses,
    )


def _cuts_in_flight(evidence: Evidence) -> Finding | None:
    scenes = [scene for scene in evidence.scenes if any(entry.outcome in _BROKEN for entry in scene.lost)]
    losses = tuple(entry for entry in evidence.lost if entry.outcome in _BROKEN)
    if not losses:
        return None
    oldest = max(entry.ended - entry.sent for entry in losses)
    if scenes:
        first = _worst(scenes)
        cut = min(entry.ended for entry in first.lost if entry.outcome in _BROKEN)
        seen = f"what was in flight was cut off {_moment(first, cut)} after {first.service.stop_signal}"
        seen += in_restarts(scenes, evidence.rehearsal)
        way_out = f"let it finish before the process ends: at least {at_least(_finish(scenes))} s"
        if all(first.is_held(entry) for entry in losses):
            way_out = "end streams with a last chunk and WebSockets with a close frame when the signal comes"
    else:
        seen = "answers were broken off though nobody had been taken away"
        way_out = "find out what breaks them off: a worker's timeout, a limit on requests, a proxy"
    return Finding(
        cause=Cause.CUTS_IN_FLIGHT,
        seen=f"{seen}: {lost_as(losses)}, the oldest {seconds(oldest)} old",
        way_out=way_out,
        losses=losses,
    )


def _finish(scenes: Iterable[Scene]) -> float:
    """For how many seconds after the signal what was cut would have gone on; where that was never seen, for
    longer than it did.
    """
    return max(
        scene.after(max(entry.ended, entry.sent + scene.longest.get(entry.kind, 0.0)))
        for scene in scenes
        for entry in scene.lost
        if entry.outcome in _BROKEN
    )


def _overloaded(evidence: Evidence) -> Finding | None:
    replicas = {event.replica for event in evidence.rehearsal.events}
    outside = [
        entry
        for entry in evidence.outside
        if entry.outcome is Outcome.TIMEOUT
        or (entry.outcome is Outcome.REFUSED and entry.replica in replicas)
    ]
    leaving = [entry for scene in evidence.scenes for entry in scene.lost if entry.outcome is Outcome.TIMEOUT]
    losses = (*outside, *leaving)
    if not losses:
        return None
    load = evidence.rehearsal.plan.load
    where = f", {len(outside):,} of them on replicas that nobody had taken away" if outside else ""
    return Finding(
        cause=Cause.OVERLOADED,
        seen=f"{lost_as(losses)} at {load.rate:g} requests a second, within {load.timeout:g} s{where}",
        way_out="find the rate that it bears (--rate), or start more replicas (--replicas)",
        losses=losses,
    )


def _unexplained(evidence: Evidence) -> Finding | None:
    """Whatever is left: nobody was there to be asked."""
    losses = evidence.lost
    if not losses:
        return None
    return Finding(
        cause=Cause.NOT_READY_IN_TIME,
        seen=f"no replica was in the endpoint list when one was needed: {lost_as(losses)}",
        way_out="start more replicas, or find out why those that were started were not ready",
        losses=losses,
    )


def _new(losses: Iterable[Entry]) -> list[Entry]:
    return [entry for entry in losses if entry.outcome is Outcome.REFUSED]


def _worst(scenes: Iterable[Scene]) -> Scene:
    return max(scenes, key=lambda scene: len(scene.lost))


def _moment(scene: Scene, instant: float | None) -> str:
    return "at some time" if instant is None else seconds(scene.after(instant))


def _removal(scene: Scene) -> str:
    if scene.death.unlisted is None:
        return "endpoints were never removed"
    return f"endpoints were removed after {seconds(scene.after(scene.death.unlisted))}"


def _is_race(entry: Entry) -> bool:
    return entry.ended - entry.sent < _RACE


def _is_of(seen: Entry | Event, scene: Scene) -> bool:
    return seen.replica == scene.death.replica


_RULES: Final[tuple[Rule, ...]] = (
    _exits_at_once,
    _readiness_late,
    _readiness_late_in_life,
    _listener_closed_early,
    _keep_alive_forgotten,
    _answers_errors,
    _cuts_in_flight,
    _overloaded,
)
