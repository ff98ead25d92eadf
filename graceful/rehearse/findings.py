"""What a rule of the diagnosis hands back, and the phrases that the rules share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from graceful.rehearse.evidence import Evidence, Scene
from graceful.rehearse.model import Cause, Entry, Event, Outcome, Rehearsal, Service
from graceful.rehearse.phrasing import at_least, counted, listing, seconds, whole

MOMENT: Final = 0.25
"""Seconds: what is no further apart is one event."""

_RACE: Final = 0.1  # seconds within which one notices that a connection ended in the moment of its use
_ROOM: Final = 1.15  # what was needed this time is not enough for the next: so many times that is asked for


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A diagnosis, with the losses that it explains, and how many deaths by SIGKILL."""

    cause: Cause
    seen: str
    way_out: str
    losses: tuple[Entry, ...] = ()
    deaths: int = 0


Rule = Callable[[Evidence], Finding | None]


def in_restarts(scenes: Sequence[Scene], rehearsal: Rehearsal) -> str:
    """In how many of them it was so: ` in 2 of 3 restarts`; nothing where there was only one death."""
    of = len(rehearsal.deaths)
    return "" if of == 1 else f" in {len(scenes)} of {of} restarts"


def lost_as(losses: Iterable[Entry]) -> str:
    """`133 new connections refused, 2 requests reset`; `nothing lost`."""
    count = Counter(entry.outcome for entry in losses)
    phrases = [_phrase(outcome, count[outcome]) for outcome in Outcome if count[outcome]]
    return listing(phrases) if phrases else "nothing lost"


def keep_serving(scenes: Iterable[Scene], losses: Iterable[Entry]) -> float:
    """For how many seconds after the signal a replica has to go on, for none of its users to be sent to it in
    vain: until its endpoint is gone, and the last of them has come.
    """
    needed = 0.0
    losses = list(losses)
    for scene in scenes:
        late = [entry.sent for entry in losses if entry.replica == scene.death.replica]
        gone = [] if scene.death.unlisted is None else [scene.death.unlisted]
        needed = max([needed, *(scene.after(instant) for instant in late + gone)])
    return needed * _ROOM


def lame_duck(needed: float, service: Service) -> str:
    """The ways to keep serving for `needed` seconds after the signal."""
    asleep = 0.0 if isinstance(service.pre_stop, tuple) else service.pre_stop
    return (
        f"a lame duck (graceful run --lame-duck {at_least(needed)}) or a preStop sleep of "
        f"{whole(needed + asleep)} s"
    )


def handle(service: Service) -> str:
    """What to do about the signal that asks it to end."""
    if service.stop_signal in {"SIGKILL", "SIGSTOP"}:
        return f"ask it to end by a signal that can be handled (found {service.stop_signal})"
    return f"handle {service.stop_signal}"


def turned_away(scene: Scene) -> list[Entry]:
    """New connections of a dying replica that were turned away by nobody who listens; and with them those in
    the queue of the listener when it was closed.
    """
    outside = refused(scene.lost)
    queued = [
        entry
        for entry in scene.lost
        if entry.outcome is Outcome.RESET and is_race(entry) and entry.ended >= scene.zero
    ]
    return outside + queued if outside else []


def refused(losses: Iterable[Entry]) -> list[Entry]:
    """New connections that nobody took."""
    return [entry for entry in losses if entry.outcome is Outcome.REFUSED]


def worst(scenes: Iterable[Scene]) -> Scene:
    """The death that lost most."""
    return max(scenes, key=lambda scene: len(scene.lost))


def moment(scene: Scene, instant: float | None) -> str:
    """How long after the signal: `0.1 s`."""
    return "at some time" if instant is None else seconds(scene.after(instant))


def removal(scene: Scene) -> str:
    """When nobody was sent there any more, as the end of a clause."""
    if scene.death.unlisted is None:
        return "endpoints were never removed"
    if scene.death.unlisted <= scene.zero:
        return "when endpoints had been removed"
    return f"endpoints were removed after {seconds(scene.after(scene.death.unlisted))}"


def is_race(entry: Entry) -> bool:
    """Whether its connection ended in the moment of its use."""
    return entry.ended - entry.sent < _RACE


def is_of(seen: Entry | Event, scene: Scene) -> bool:
    """Whether it is of the replica that dies there."""
    return seen.replica == scene.death.replica


def _phrase(outcome: Outcome, number: int) -> str:
    one, after = _PHRASES[outcome]
    return f"{counted(number, one)} {after}".rstrip()


_PHRASES: Final = {
    Outcome.ANSWERED: ("request", "answered"),
    Outcome.REFUSED: ("new connection", "refused"),
    Outcome.RESET: ("request", "reset"),
    Outcome.RESET_KEPT: ("request", "reset on a kept connection"),
    Outcome.TRUNCATED: ("answer", "broken off"),
    Outcome.TIMEOUT: ("request", "without an answer in time"),
    Outcome.SERVER_ERROR: ("request", "answered with 5xx"),
    Outcome.WRONG: ("wrong answer", ""),
    Outcome.ENDED_WELL: ("stream", "ended well"),
}
