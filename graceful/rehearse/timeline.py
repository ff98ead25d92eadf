"""One death laid out in time, in seconds from the signal: what happened, and what became of whom."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from graceful.rehearse.evidence import Scene, gather
from graceful.rehearse.model import Entry, Event, Happening, Outcome, Rehearsal
from graceful.rehearse.phrasing import ending, flat

SLOT: Final = 0.1
"""Seconds: how finely arrivals are told."""

_BEFORE: Final = 1.0
_AFTER: Final = 0.4
# The block that graceful's own report ends with; docs/report.md has it.
_PHASE: Final = re.compile(
    r"^\s*(?:\S+:\s+)?(lame duck|drain|release)\s+(\d+(?:\.\d+)?) s(?:\s|$)", re.MULTILINE
)
_REPORT: Final = re.compile(r"^.*: ended after \d+(?:\.\d+)? s, ", re.MULTILINE)


class Tone(Enum):
    """How a moment is to be shown."""

    PLAIN = "plain"
    GOOD = "good"
    BAD = "bad"
    SIGNAL = "signal"


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """Something that happened."""

    at: float
    text: str
    tone: Tone = Tone.PLAIN


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """A short time, and what became of those who were sent in it."""

    begins: float
    ends: float
    outcomes: Mapping[Outcome, int]

    @property
    def lost(self) -> int:
        """How many of them did not get what they asked for."""
        return sum(number for outcome, number in self.outcomes.items() if outcome.lost)

    @property
    def answered(self) -> int:
        """How many did."""
        return sum(number for outcome, number in self.outcomes.items() if not outcome.lost)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """A time with a name: a phase that the service itself told of."""

    name: str
    begins: float
    ends: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """Death `number` of `of`, from `begins` to `ends`. The moments are in order; so are the phases, and there
    are none where the output does not show any.
    """

    number: int
    of: int
    scene: Scene
    begins: float
    ends: float
    moments: tuple[Moment, ...]
    phases: tuple[Stretch, ...]

    def at(self, instant: float | None) -> float | None:
        """Seconds from the signal, negative before it."""
        return None if instant is None else instant - self.scene.zero

    @property
    def arrivals(self) -> int:
        """How many were sent to it while this timeline lasts."""
        return sum(slot.answered + slot.lost for slot in self.slots())

    @property
    def lost(self) -> int:
        """How many of those that its death had a part in were lost."""
        return len(self.scene.lost)

    def slots(self, width: float = SLOT) -> tuple[Slot, ...]:
        """The time in slots of `width` seconds, so that the signal is the edge of one."""
        entries = (
            entry for entry in self.scene.entries if self.begins <= entry.sent - self.scene.zero < self.ends
        )
        return slots_of(entries, self.scene.zero, self.begins, self.ends, width)


def slots_of(
    entries: Iterable[Entry], zero: float, begins: float, ends: float, width: float
) -> tuple[Slot, ...]:
    """Slots of `width` seconds from `begins` to `ends`, counted from the instant `zero`, which is an edge."""
    found: dict[int, Counter[Outcome]] = {}
    for entry in entries:
        found.setdefault(math.floor((entry.sent - zero) / width), Counter())[entry.outcome] += 1
    first, last = math.floor(round(begins / width, 6)), math.ceil(round(ends / width, 6))
    return tuple(
        Slot(begins=index * width, ends=(index + 1) * width, outcomes=found.get(index, {}))
        for index in range(first, last)
    )


def timelines(rehearsal: Rehearsal) -> tuple[Timeline, ...]:
    """One for each death, in the order in which they were taken away."""
    scenes = gather(rehearsal).scenes
    return tuple(
        _timeline(rehearsal, scene, number, len(scenes)) for number, scene in enumerate(scenes, start=1)
    )


def _timeline(rehearsal: Rehearsal, scene: Scene, number: int, of: int) -> Timeline:
    death, zero = scene.death, scene.zero
    known = [death.unlisted, death.ended, death.killed, *(entry.sent for entry in scene.lost)]
    last = max([zero, *(instant for instant in known if instant is not None)])
    # On whole slots, so that the signal is the edge of one.
    begins = math.floor((max(death.taken_away - _BEFORE, rehearsal.began) - zero) / SLOT) * SLOT
    ends = math.ceil((last + _AFTER - zero) / SLOT) * SLOT
    return Timeline(
        number=number,
        of=of,
        scene=scene,
        begins=begins,
        ends=ends,
        moments=tuple(_moments(scene, begins, ends)),
        phases=tuple(phases(death.output)),
    )


def phases(output: str) -> Iterator[Stretch]:
    """The phases after the signal, as graceful's report at the end of a service's output has them."""
    reports = list(_REPORT.finditer(output))
    begins = 0.0
    for found in _PHASE.finditer(output, reports[-1].end()) if reports else ():
        ends = begins + float(found[2])
        yield Stretch(name=found[1], begins=begins, ends=ends)
        begins = ends


def _moments(scene: Scene, begins: float, ends: float) -> Iterator[Moment]:
    results: dict[object, bool | None] = {}
    for event in sorted(_events(scene), key=lambda event: event.at):
        at = event.at - scene.zero
        if event.what is Happening.PROBED:  # of many that are alike the first
            again = results.get(event.probe, not event.ok) == event.ok
            results[event.probe] = event.ok
            if again:
                continue
        if begins <= at <= ends:
            yield Moment(at=at, text=said_of(event, scene.service.grace_period), tone=tone_of(event))


def _events(scene: Scene) -> list[Event]:
    """The events of a death, and those that only its own record has."""
    death = scene.death
    # The listener's closing is known from its users too, and they may have found out before a probe did.
    events = [event for event in scene.events if event.what is not Happening.LISTENER_CLOSED]
    told = {event.what for event in events}
    closed = None if scene.closed == death.ended else scene.closed  # the end says that too
    recorded = {
        Happening.TAKEN_AWAY: death.taken_away,
        Happening.SIGNALLED: death.signalled,
        Happening.UNLISTED: death.unlisted,
        Happening.LISTENER_CLOSED: closed,
        Happening.KILLED: death.killed,
        Happening.ENDED: death.ended,
    }
    return [
        *events,
        *(
            Event(
                at=at,
                replica=death.replica,
                what=what,
                detail=scene.service.stop_signal if what is Happening.SIGNALLED else "",
                code=death.code if what is Happening.ENDED else None,
            )
            for what, at in recorded.items()
            if at is not None and what not in told
        ),
    ]


def said_of(event: Event, grace_period: float | None = None) -> str:
    """An event in a few words."""
    what, detail = str(event.what), flat(event.detail, 120)
    match event.what:
        case Happening.PROBED:
            what = f"{event.probe} probe {'passed' if event.ok else 'failed'}"
        case Happening.TAKEN_AWAY if grace_period is not None:
            what = f"taken away: the grace period of {grace_period:g} s begins"
        case Happening.SIGNALLED if event.ok is not False and detail.startswith("SIG"):
            name, _, detail = detail.partition(": ")
            what = f"{name} sent"
        case Happening.ENDED | Happening.INIT_ENDED:
            # What it said last tells more than what it said first.
            detail = flat(event.detail.rstrip().rpartition("\n")[2], 120)
            what = f"{str(event.what).removesuffix(' ended')} {_ending(event.code)}"
        case Happening.UNLISTED:
            what = "endpoint removed"
    return f"{what}: {detail}" if detail else what


def _ending(code: int | None) -> str:
    how = "ended" if code is None else ending(code)
    return how if how.startswith("ended") else f"ended with {how}"


def tone_of(event: Event) -> Tone:
    """Whether it is good news."""
    match event.what:
        case Happening.SIGNALLED:
            return Tone.SIGNAL
        case Happening.KILLED:
            return Tone.BAD
        case Happening.ENDED | Happening.INIT_ENDED:
            return Tone.PLAIN if event.code in {None, 0, -15, 143} else Tone.BAD
        case Happening.READY:
            return Tone.GOOD
        case Happening.PROBED:
            return Tone.GOOD if event.ok else Tone.PLAIN
        case _:
            return Tone.PLAIN
