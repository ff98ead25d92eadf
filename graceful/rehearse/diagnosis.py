"""Why something was lost, or a process did not end by itself in time: one rule per cause.

Each rule looks at what the rules before it have not explained. Those of a process that dies untimely, or does
not die, come first; between them one that is overloaded while nobody touches it, since then it is slow to die
too. Then what was lost by the way in which it leaves, the largest loss first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from itertools import chain
from typing import Final

from graceful.rehearse import readiness, untimely
from graceful.rehearse.evidence import Evidence, Scene, gather
from graceful.rehearse.findings import (
    MOMENT,
    Finding,
    Rule,
    handle,
    in_restarts,
    is_of,
    is_race,
    keep_serving,
    lame_duck,
    lost_as,
    moment,
    refused,
    removal,
    turned_away,
    worst,
)
from graceful.rehearse.model import Cause, Diagnosis, Entry, Outcome, Rehearsal
from graceful.rehearse.phrasing import at_least, flat, seconds

_MANY: Final = 0.1
_MOST: Final = 1000  # characters
_BROKEN: Final = frozenset({Outcome.RESET, Outcome.RESET_KEPT, Outcome.TRUNCATED})
_WRONG: Final = frozenset({Outcome.SERVER_ERROR, Outcome.WRONG})


def diagnose(rehearsal: Rehearsal) -> tuple[Diagnosis, ...]:
    """The causes, the first one first. Every loss is counted in exactly one of them."""
    evidence = gather(rehearsal)
    first, evidence = _apply((*untimely.UNPLANNED, _overloaded_all_along), evidence)
    killed, evidence = _apply(untimely.KILLED, evidence)
    then, evidence = _apply(_RULES, evidence)
    last, _ = _apply((_unexplained,), evidence)
    killed.sort(key=lambda finding: finding.deaths, reverse=True)
    then.sort(key=lambda finding: len(finding.losses), reverse=True)
    return tuple(
        Diagnosis(
            cause=each.cause,
            seen=flat(each.seen, _MOST),  # names and last words are a stranger's
            way_out=flat(each.way_out, _MOST),
            losses=len(each.losses),
        )
        for each in chain(first, killed, then, last)
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
    first = worst(scenes)
    needed = keep_serving(scenes, refused(losses))
    serving = f"keep serving for at least {at_least(needed)} s, " if needed else ""
    signal = first.service.stop_signal
    return Finding(
        cause=Cause.EXITS_AT_ONCE,
        seen=f"the process ended {moment(first, first.death.ended)} after {signal}, {removal(first)}: "
        f"{lost_as(losses)}{in_restarts(scenes, evidence.rehearsal)}",
        way_out=f"{handle(first.service)}: {serving}finish what is in flight, then end ({_NO_EXIT})",
        losses=losses,
    )


_NO_EXIT: Final = "graceful run does; a preStop sleep alone covers only new connections"


def _listener_closed_early(evidence: Evidence) -> Finding | None:
    scenes = [scene for scene in evidence.scenes if turned_away(scene)]
    if not scenes:
        return None
    losses = tuple(entry for scene in scenes for entry in turned_away(scene))
    first = worst(scenes)
    needed = keep_serving(scenes, losses)
    return Finding(
        cause=Cause.LISTENER_CLOSED_EARLY,
        seen=f"listener closed {moment(first, first.closed)} after {first.service.stop_signal}, "
        f"{removal(first)}: {lost_as(losses)}{in_restarts(scenes, evidence.rehearsal)}",
        way_out=f"keep serving for at least {at_least(needed)} s: {lame_duck(needed, first.service)}",
        losses=losses,
    )


def _keep_alive_forgotten(evidence: Evidence) -> Finding | None:
    leaving = [entry for scene in evidence.scenes for entry in scene.lost if _should_have_left(entry, scene)]
    idle = [entry for entry in evidence.outside if entry.outcome is Outcome.RESET_KEPT and is_race(entry)]
    losses = (*leaving, *idle)
    if not losses:
        return None
    if len(idle) > len(leaving):
        seen = "kept connections were closed in the moment of their use, though nobody had been taken away"
        way_out = "keep idle connections open for longer than clients and proxies do (keep-alive timeout)"
    else:
        scenes = [scene for scene in evidence.scenes if any(is_of(entry, scene) for entry in leaving)]
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
    return late or (entry.outcome is Outcome.RESET_KEPT and is_race(entry))


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
    cuts = [(scene, cut) for scene in evidence.scenes if (cut := _cut(evidence, scene))]
    outside = [entry for entry in evidence.outside if entry.outcome in _BROKEN]
    losses = (*outside, *(entry for _, cut in cuts for entry in cut))
    if not losses:
        return None
    oldest = max(entry.ended - entry.sent for entry in losses)
    if cuts:
        first, cut = max(cuts, key=lambda each: len(each[1]))
        when = moment(first, min(entry.ended for entry in cut))
        seen = f"what was in flight was cut off {when} after {first.service.stop_signal}"
        seen += in_restarts([scene for scene, _ in cuts], evidence.rehearsal)
        way_out = f"let it finish before the process ends: at least {at_least(_finish(cuts))} s"
        if any(entry.outcome is Outcome.SERVER_ERROR for entry in losses):
            way_out += " (found a server that cancels it: raise its limit, --grace-period of graceful run)"
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


def _cut(evidence: Evidence, scene: Scene) -> list[Entry]:
    """What was broken off at a death, or cancelled by its server."""
    cancelled = _cancelled(evidence, scene)
    return [entry for entry in scene.lost if entry.outcome in _BROKEN or entry in cancelled]


def _cancelled(evidence: Evidence, scene: Scene) -> list[Entry]:
    """Requests that were under way for long while it was leaving, and all of which a server answered with an
    error in one and the same moment: it ran out of patience, as uvicorn does (`--timeout-graceful-shutdown`).
    """
    closed = scene.zero if scene.closed is None else max(scene.zero, scene.closed)
    failed = [entry for entry in scene.lost if entry.outcome is Outcome.SERVER_ERROR]
    found = [
        entry
        for entry in failed
        if entry.sent <= closed and entry.ended - max(entry.sent, scene.zero) > MOMENT
    ]
    ends = [entry.ended for entry in found]
    if not found or max(ends) - min(ends) > MOMENT:
        return []
    others = [entry for entry in (*failed, *evidence.outside) if entry not in found]
    failing = {entry.kind for entry in others if entry.outcome is Outcome.SERVER_ERROR}
    return [] if any(entry.kind in failing for entry in found) else found


def _finish(cuts: Iterable[tuple[Scene, list[Entry]]]) -> float:
    """For how many seconds after the signal what was cut would have gone on; where that was never seen, for
    longer than it did.
    """
    return max(
        scene.after(max(entry.ended, entry.sent + scene.longest.get(entry.kind, 0.0)))
        for scene, cut in cuts
        for entry in cut
    )


def _overloaded_all_along(evidence: Evidence) -> Finding | None:
    """A tenth of all timed out with replicas that nobody had taken away."""
    slow = sum(entry.outcome is Outcome.TIMEOUT for entry in evidence.outside)
    if slow <= len(evidence.rehearsal.entries) * _MANY:
        return None
    return _overloaded(evidence, outcomes={Outcome.TIMEOUT, Outcome.REFUSED})


def _overloaded(evidence: Evidence, *, outcomes: Collection[Outcome] = (Outcome.TIMEOUT,)) -> Finding | None:
    replicas = {event.replica for event in evidence.rehearsal.events}
    outside = [
        entry
        for entry in evidence.outside
        if entry.outcome in outcomes or (entry.outcome is Outcome.REFUSED and entry.replica in replicas)
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
        way_out="find the rate that it bears (--rate), start more replicas (--replicas), or allow more time "
        "for an answer (--timeout)",
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


_RULES: Final[tuple[Rule, ...]] = (
    _exits_at_once,
    readiness.late,
    readiness.late_in_life,
    _listener_closed_early,
    _keep_alive_forgotten,
    _cuts_in_flight,  # before errors, as some are answered with one when they are cut
    _answers_errors,
    _overloaded,
)
