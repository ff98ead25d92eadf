"""A whole rehearsal at a glance: what each replica was doing at which time, in seconds from the beginning."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from graceful.rehearse.markup import Markup
from graceful.rehearse.model import Death, Event, Happening, Rehearsal
from graceful.rehearse.phrasing import counted, ending, flat
from graceful.rehearse.picture import Axis, Bar, Lane, draw_lanes
from graceful.rehearse.timeline import slots_of

# What an event makes of a replica; any other changes nothing that is shown here.
_BECOMES: Final = {
    Happening.CREATED: "waiting",
    Happening.STARTED: "waiting",
    Happening.RESTARTED: "waiting",
    Happening.LISTED: "listed",
    Happening.READY: "listed",
    Happening.TAKEN_AWAY: "leaving",
    Happening.NOT_READY: "leaving",
    Happening.ENDED: "",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """One replica: when it was created, ready, taken away and gone, None where it was not; how its process
    ended, and how many of those who were sent to it were lost.
    """

    replica: str
    created: float
    ready: float | None
    taken_away: float | None
    ended: float | None
    how: str
    lost: int
    bars: tuple[Bar, ...]


def lives(rehearsal: Rehearsal) -> tuple[Life, ...]:
    """All replicas, in the order of their creation."""
    names = dict.fromkeys(event.replica for event in rehearsal.events)
    deaths = {death.replica: death for death in rehearsal.deaths}
    return tuple(_life(rehearsal, name, deaths.get(name)) for name in names)


def draw_overview(rehearsal: Rehearsal, width: float, *, style: str) -> Markup:
    """A lane for each replica, over what became of all requests."""
    axis = Axis(begins=0.0, ends=max(rehearsal.ended - rehearsal.began, 0.1), width=width)
    found = lives(rehearsal)
    slots = slots_of(rehearsal.entries, rehearsal.began, axis.begins, axis.ends, axis.slot)
    lost = f"{len(rehearsal.lost):,} of {counted(len(rehearsal.entries), 'request')} lost"
    label = f"{counted(len(found), 'replica')} in {axis.ends:.0f} seconds, {lost}; the table has each of them"
    lanes = [
        Lane(
            name=flat(life.replica, 40),
            bars=life.bars,
            after=f"{life.lost:,} lost" if life.lost else "",
            after_style="small bad",
        )
        for life in found
    ]
    return draw_lanes(lanes, slots, axis, label, style=style)


def _life(rehearsal: Rehearsal, name: str, death: Death | None) -> Life:
    events = [event for event in rehearsal.events if event.replica == name]
    ends = [event for event in events if event.what is Happening.ENDED]
    untimely = len(ends) - (death is not None and death.ended is not None)
    how = "" if death is None else "killed" if death.killed is not None else ending(death.code)
    if untimely > 0:
        how = f"ended {counted(untimely, 'time')} untimely" + (f", then {how}" if how else "")

    def first(what: Happening) -> float | None:
        return next((event.at - rehearsal.began for event in events if event.what is what), None)

    return Life(
        replica=name,
        created=events[0].at - rehearsal.began,
        ready=first(Happening.READY),
        taken_away=first(Happening.TAKEN_AWAY),
        ended=None if death is None or death.ended is None else death.ended - rehearsal.began,
        how=how or "served to the end",
        lost=sum(entry.replica == name for entry in rehearsal.lost),
        bars=tuple(_bars(rehearsal, events)),
    )


def _bars(rehearsal: Rehearsal, events: list[Event]) -> Iterator[Bar]:
    now, since = "", 0.0
    taken = False
    for event in events:
        taken = taken or event.what is Happening.TAKEN_AWAY
        becomes = _BECOMES.get(event.what, now)
        if becomes == "leaving" and not now:
            becomes = now  # readiness falls because the process has ended
        if becomes == "listed" and taken:
            becomes = now
        if becomes != now:
            at = event.at - rehearsal.began
            if now:
                yield Bar(begins=since, ends=at, style=now)
            now, since = becomes, at
    if now:
        yield Bar(begins=since, ends=rehearsal.ended - rehearsal.began, style=now)
