"""The rules for processes that die before their time, are never ready, or do not die: what they cost is a
consequence, so they speak first.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from graceful.rehearse.evidence import HAIR, Evidence, Scene, UnplannedEnd
from graceful.rehearse.findings import MOMENT, Finding, Rule, handle, in_restarts, lost_as
from graceful.rehearse.keepers import shell_in_front
from graceful.rehearse.model import AFTER_PRE_STOP, Cause, Entry, Event, Happening, ProbeName
from graceful.rehearse.phrasing import counted, ending, flat, listing, seconds, whole

_TOLERANCE: Final = 0.5
# ILL, ABRT, BUS, FPE, SEGV; KILL is the kernel's, for memory.
_FAULTS: Final = frozenset({-4, -6, -7, -8, -9, -11})
_LAST_LINES: Final = 20
_KILLED: Final = -9
_COMPLAINS: Final = re.compile(r"Error|Exception|(?i:\b(?:warn(?:ing)?|error|fatal|fault|critical|panic)\b)")
_ROOM: Final = 1.25


# Not taken away, and gone all the same.


def _crashes(evidence: Evidence) -> Finding | None:
    ends = [end for end in evidence.unplanned if end.probe is None]
    if not ends:
        return None
    losses, first = _losses_of(ends), ends[0]
    times = "" if len(ends) == 1 else f", {counted(len(ends), 'time')} in all"
    return Finding(
        cause=Cause.CRASHES,
        seen=f"{first.replica} {_ended(first.code)} though nobody had taken it away{times}: "
        f"{lost_as(losses)}",
        way_out=f"find out what ends it{_perhaps(first)}",
        losses=losses,
    )


def _crashes_while_leaving(evidence: Evidence) -> Finding | None:
    scenes = [
        scene
        for scene in evidence.scenes
        if not scene.killed and scene.death.code in _FAULTS and not _ended_by_the_signal(scene)
    ]
    if not scenes:
        return None
    losses = tuple(entry for scene in scenes for entry in scene.lost)
    first = scenes[0]
    return Finding(
        cause=Cause.CRASHES,
        seen=f"{first.death.replica} {_ended(first.death.code)} {seconds(_lasted(first))} after "
        f"{first.service.stop_signal}, not by this rehearsal{in_restarts(scenes, evidence.rehearsal)}: "
        f"{lost_as(losses)}",
        way_out=f"find out what crashes while it shuts down{_last_words(first.death.output)}",
        losses=losses,
    )


def _ended_by_the_signal(scene: Scene) -> bool:
    """Whether the signal that was to end it is one of those that crashes end by, and did."""
    return ending(scene.death.code) == f"ended by {scene.service.stop_signal}"


def _liveness_kills(evidence: Evidence) -> Finding | None:
    ends = [end for end in evidence.unplanned if end.probe is ProbeName.LIVENESS]
    if not ends:
        return None
    losses, first = _losses_of(ends), ends[0]
    replicas = listing(sorted({end.replica for end in ends}))
    return Finding(
        cause=Cause.LIVENESS_KILLS,
        seen=f"the liveness probe failed {counted(first.failures, 'time')} in a row{_why(first.detail)} and "
        f"had {counted(len(ends), 'process', 'processes')} ended ({replicas}): {lost_as(losses)}",
        way_out="let liveness ask only whether the process still turns, not what it depends on, and give it "
        "more time (timeoutSeconds, failureThreshold); what passes by itself belongs in readiness",
        losses=losses,
    )


def _not_ready_in_time(evidence: Evidence) -> Finding | None:
    ends = [end for end in evidence.unplanned if end.probe is ProbeName.STARTUP]
    ended = {end.replica for end in evidence.unplanned}
    created = [event for event in evidence.rehearsal.events if event.what is Happening.CREATED]
    ready = {event.replica for event in evidence.rehearsal.events if event.what is Happening.READY}
    waiting = [event for event in created if event.replica not in ready | ended]
    losses = _losses_of(ends)
    if ends:
        seen = (
            f"the startup probe of {ends[0].replica} failed {counted(ends[0].failures, 'time')} in a row"
            f"{_why(ends[0].detail)} and had it ended"
        )
        way_out = (
            "start faster, or allow more time: periodSeconds times failureThreshold of the startup probe"
        )
    elif waiting:
        seen, way_out = _why_not_ready(evidence, waiting[0])
    else:
        return None
    lost = f": {lost_as(losses)}" if losses else ""
    return Finding(cause=Cause.NOT_READY_IN_TIME, seen=seen + lost, way_out=way_out, losses=losses)


def _why_not_ready(evidence: Evidence, created: Event) -> tuple[str, str]:
    events = [event for event in evidence.rehearsal.events if event.replica == created.replica]
    init = [event for event in events if event.what is Happening.INIT_ENDED and event.code]
    results = [
        event
        for event in events
        if event.what is Happening.PROBED and event.probe is not ProbeName.LIVENESS and not event.ok
    ]
    waited = seconds(evidence.rehearsal.ended - created.at)
    seen = f"{created.replica} was not ready within {waited}"
    if init and not any(event.what is Happening.STARTED for event in events):
        return f"{seen}: its init command ended with {ending(init[-1].code)}{_why(init[-1].detail)}", (
            "mend the init command; the service is started only after it"
        )
    if not results:
        return f"{seen}: it accepted no connection", (
            "listen on the port that it is given (PORT, or {port} in the command), on 127.0.0.1 or 0.0.0.0"
        )
    return f"{seen}: its {results[-1].probe} probe failed {counted(len(results), 'time')}" + _why(
        results[-1].detail
    ), "let the probe's path answer 200 to 399 once the service can serve, or give it more time"


# Taken away, and still there at the end of the grace period.


def _class_of(scene: Scene) -> Cause | None:
    """Why it had to be killed; None where it ended by itself."""
    death = scene.death
    if not scene.killed:
        return Cause.SIGNAL_NOT_DELIVERED if _shell_died_instead(scene) else None
    if death.signalled is None:
        return Cause.PRE_STOP_TOO_LONG
    if not scene.reacted:
        return _class_of_the_silent(scene)
    if _pre_stop_used_all(scene) and not _held_only(scene):
        return Cause.PRE_STOP_TOO_LONG
    working = bool(_at_work(scene)) or scene.served_to_the_last
    return Cause.GRACE_TOO_SHORT if working else Cause.NEVER_ENDS


def _class_of_the_silent(scene: Scene) -> Cause:
    """Of one that showed nothing of having heard the signal."""
    arrives = _arrives(scene)
    behind_shell = scene.service.pid1 and shell_in_front(scene.service.command) is not None
    if arrives is False or (arrives is None and behind_shell):
        return Cause.SIGNAL_NOT_DELIVERED
    if _lasted(scene) < MOMENT:  # in so short a time nobody can show it
        return Cause.GRACE_TOO_SHORT
    # Where all that is asked of it takes longer than the grace period, nobody knows whether it has heard.
    return Cause.IGNORES_SIGNAL if scene.went_on or not _at_work(scene) else Cause.GRACE_TOO_SHORT


def _arrives(scene: Scene) -> bool | None:
    """What whoever sent the signal knew of its way: `ok` of that event."""
    return next((event.ok for event in scene.events if _is_the_signal(event, scene)), None)


def _said_to_keep_it(scene: Scene) -> str:
    """Who keeps the signal, where that was known when it was sent."""
    events = [event for event in scene.events if _is_the_signal(event, scene) and event.ok is False]
    return flat(events[0].detail) if events else ""


def _is_the_signal(event: Event, scene: Scene) -> bool:
    return event.what is Happening.SIGNALLED and event.at >= scene.zero


def _pre_stop_used_all(scene: Scene) -> bool:
    """Whether no more was left for the process than the minimum, because of preStop."""
    death, grace = scene.death, scene.service.grace_period
    if not scene.service.pre_stop or death.signalled is None or scene.over is None:
        return False
    used = death.signalled - death.taken_away
    return used >= grace / 2 and scene.over - death.signalled <= AFTER_PRE_STOP + _TOLERANCE


def _under_way(scene: Scene) -> list[Entry]:
    """The requests that the kill has cut, and that were there before the service began to close."""
    begun = scene.zero if scene.closed is None else max(scene.closed, scene.zero)
    cut = scene.cut_at(_over(scene))
    return [entry for entry in cut if not scene.is_held(entry) and entry.sent <= begun + _TOLERANCE]


def _at_work(scene: Scene) -> list[Entry]:
    """Those of them that would have ended later: it was not stuck with them."""
    over = _over(scene)
    return [entry for entry in _under_way(scene) if (_would_have_ended(scene, entry) or over) > over]


def _held_only(scene: Scene) -> bool:
    """Whether nothing but streams was there to be cut: more time would not have ended them."""
    cut = scene.cut_at(_over(scene))
    return bool(cut) and all(scene.is_held(entry) for entry in cut)


def _over(scene: Scene) -> float:
    return scene.zero if scene.over is None else scene.over


def _would_have_ended(scene: Scene, cut: Entry) -> float | None:
    """When, judging from those of its kind that were answered; None where none ever was."""
    took = scene.longest.get(cut.kind)
    return None if took is None else cut.sent + took


def _shell_died_instead(scene: Scene) -> bool:
    """Whether the signal ended a shell, and with it what that had started."""
    if scene.death.code not in {-15, 143}:
        return False
    arrives = _arrives(scene)
    if arrives is not None:
        return not arrives
    return scene.at_once and bool(scene.lost) and shell_in_front(scene.service.command) is not None


def _killed_for(cause: Cause, evidence: Evidence) -> tuple[list[Scene], tuple[Entry, ...]]:
    scenes = [scene for scene in evidence.scenes if _class_of(scene) is cause]
    losses: list[Entry] = []
    for scene in scenes:
        over = scene.over
        deaf = cause in {Cause.SIGNAL_NOT_DELIVERED, Cause.IGNORES_SIGNAL}
        losses += [entry for entry in scene.lost if deaf or (over is not None and entry.ended >= over - HAIR)]
    return scenes, tuple(losses)


def _signal_not_delivered(evidence: Evidence) -> Finding | None:
    scenes, losses = _killed_for(Cause.SIGNAL_NOT_DELIVERED, evidence)
    if not scenes:
        return None
    first, signal = scenes[0], scenes[0].service.stop_signal
    shell = shell_in_front(first.service.command) or "another process"
    command = flat(" ".join(first.service.command), 60)
    if first.killed:
        keeper = _said_to_keep_it(first) or f"{shell} ({command}), which keeps it to itself"
        after = f"SIGKILL came after {seconds(_lasted(first))}"
        seen = f"{signal} went to {keeper}: nothing happened, and {after}"
    else:
        seen = f"{signal} ended the shell ({command}), and the service behind it was killed with it"
    return Finding(
        cause=Cause.SIGNAL_NOT_DELIVERED,
        seen=f"{seen}{in_restarts(scenes, evidence.rehearsal)}: {lost_as(losses)}",
        way_out='write the exec form (CMD ["program", "argument"]), or put `exec` before the last command of '
        "the shell; `graceful doctor` says who keeps a signal",
        losses=losses,
        deaths=len(scenes),
    )


def _pre_stop_too_long(evidence: Evidence) -> Finding | None:
    scenes, losses = _killed_for(Cause.PRE_STOP_TOO_LONG, evidence)
    if not scenes:
        return None
    first = scenes[0]
    grace, over = first.service.grace_period, first.over or evidence.rehearsal.ended
    used = (over if first.death.signalled is None else first.death.signalled) - first.death.taken_away
    left = (
        "it came to no signal" if first.death.signalled is None else f"{seconds(over - first.zero)} were left"
    )
    return Finding(
        cause=Cause.PRE_STOP_TOO_LONG,
        seen=f"preStop used {seconds(used)} of the grace period of {grace:g} s, {left} for the process, "
        f"which was killed{in_restarts(scenes, evidence.rehearsal)}: {lost_as(losses)}",
        way_out=f"shorten preStop, or allow more: a grace period of at least "
        f"{whole(max(grace + used, used * 2))} s",
        losses=losses,
        deaths=len(scenes),
    )


def _ignores_signal(evidence: Evidence) -> Finding | None:
    scenes, losses = _killed_for(Cause.IGNORES_SIGNAL, evidence)
    if not scenes:
        return None
    signal = scenes[0].service.stop_signal
    pid1 = ", or has no handler for it (the kernel drops it for PID 1)" if scenes[0].service.pid1 else ""
    return Finding(
        cause=Cause.IGNORES_SIGNAL,
        seen=f"nothing changed after {signal}, and SIGKILL came after {seconds(_lasted(scenes[0]))}"
        f"{in_restarts(scenes, evidence.rehearsal)}: {lost_as(losses)}",
        way_out=f"{handle(scenes[0].service)}: the service ignores it, blocks it, or hangs{pid1}; "
        "`graceful doctor` shows its handlers and masks",
        losses=losses,
        deaths=len(scenes),
    )


def _grace_too_short(evidence: Evidence) -> Finding | None:
    scenes, losses = _killed_for(Cause.GRACE_TOO_SHORT, evidence)
    if not scenes:
        return None
    first, grace = scenes[0], scenes[0].service.grace_period
    at_work = _at_work(first)
    if at_work:
        doing = f"it was still at work on {counted(len(at_work), 'request')}"
    else:
        doing = "it was still serving"
    return Finding(
        cause=Cause.GRACE_TOO_SHORT,
        seen=f"{doing} when the grace period of {grace:g} s was over, and was killed"
        f"{in_restarts(scenes, evidence.rehearsal)}: {lost_as(losses)}",
        way_out=_longer_grace(scenes),
        losses=losses,
        deaths=len(scenes),
    )


def _longer_grace(scenes: Iterable[Scene]) -> str:
    needed = [
        until - scene.death.taken_away
        for scene in scenes
        for entry in _at_work(scene)
        if (until := _would_have_ended(scene, entry)) is not None
    ]
    if not needed:
        return "allow a longer grace period, or shorten the time for which it keeps serving after the signal"
    enough = whole(max(needed) * _ROOM)
    return f"allow a grace period of at least {enough} s, or bound how long a request may take"


def _never_ends(evidence: Evidence) -> Finding | None:
    scenes, losses = _killed_for(Cause.NEVER_ENDS, evidence)
    if not scenes:
        return None
    first = scenes[0]
    over = first.over or evidence.rehearsal.ended
    held = [entry for entry in first.cut_at(over) if first.is_held(entry)]
    still = [entry for entry in first.cut_at(over) if not first.is_held(entry)]
    waiting = [f"{counted(len(held), 'stream')} still open"] if held else []
    waiting += [f"{counted(len(still), 'request')} still unanswered"] if still else []
    there = listing(waiting) if waiting else "nothing left to answer"
    return Finding(
        cause=Cause.NEVER_ENDS,
        seen=f"it heard {first.service.stop_signal} but did not end, with {there}; SIGKILL came after "
        f"{seconds(_lasted(first))}{in_restarts(scenes, evidence.rehearsal)}: {lost_as(losses)}",
        way_out="end streams and WebSockets when the signal comes, and bound every wait of the shutdown; "
        "non-daemon threads and executor jobs hold a process too",
        losses=losses,
        deaths=len(scenes),
    )


def _lasted(scene: Scene) -> float:
    return 0.0 if scene.over is None else scene.after(scene.over)


def _losses_of(ends: Iterable[UnplannedEnd]) -> tuple[Entry, ...]:
    """Each once, though it may be of two ends."""
    return tuple({id(entry): entry for end in ends for entry in end.lost}.values())


def _ended(code: int | None) -> str:
    how = ending(code)
    return f"was {how}" if how.startswith("ended") else f"ended with {how}"


def _perhaps(end: UnplannedEnd) -> str:
    """What its exit code is a sign of, and what it said; who is killed says nothing any more."""
    if end.code == _KILLED:
        return " (where memory is short, the kernel does: see its log, and the limits)"
    in_order = " (it ended in order: perhaps by a limit of its own, on how many requests it takes)"
    return f"{'' if end.code else in_order}{_last_words(end.detail)}"


def _why(detail: str) -> str:
    return f" ({flat(detail, 80)})" if detail else ""


def _last_words(output: str) -> str:
    """The last of its last lines that complains of something; if none does, the last one."""
    lines = [line for line in output.splitlines() if line.strip()][-_LAST_LINES:]
    if not lines:
        return ""
    line = next((line for line in reversed(lines) if _COMPLAINS.search(line)), lines[-1])
    return f"; {'its last line' if line is lines[-1] else 'it said'}: {flat(line, 120)}"


UNPLANNED: Final[tuple[Rule, ...]] = (
    _liveness_kills,
    _crashes,
    _crashes_while_leaving,
    _not_ready_in_time,
)
"""Of those that nobody had taken away."""

KILLED: Final[tuple[Rule, ...]] = (
    _signal_not_delivered,
    _pre_stop_too_long,
    _ignores_signal,
    _grace_too_short,
    _never_ends,
)
"""Of those that were, and that SIGKILL had to end."""
