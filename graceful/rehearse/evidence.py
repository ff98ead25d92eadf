"""What a rehearsal's ledger says about each death, and about what died without having been taken away: facts
for the diagnosis, no judgement yet.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain, dropwhile, takewhile
from typing import Final

from graceful.rehearse.model import (
    Death,
    Entry,
    Event,
    Happening,
    Hold,
    Outcome,
    ProbeName,
    Rehearsal,
    Service,
)

HAIR: Final = 0.01
"""Seconds: what two have noticed of one event may be so much apart."""

_AT_ONCE: Final = 0.05  # seconds: no server that ends in order is that fast, a process without a handler is
_SOON: Final = 0.5
_OLD_ENOUGH: Final = 0.02  # a request of that age has been accepted; a younger one may be in the backlog
_TOGETHER: Final = 0.25  # a loss that was noticed so soon after an end is of that end
_SEVERAL: Final = 3
_LATELY: Final = 0.75  # what was seen in the last quarter of its time was so to the last


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One death, with what was asked of its replica and what happened to it.

    `entries` are all that were sent to it, `lost` those among them that are still to be explained; `longest`
    is how many seconds the slowest answered request of a kind took, wherever it was sent.
    """

    death: Death
    service: Service
    entries: tuple[Entry, ...]
    lost: tuple[Entry, ...]
    events: tuple[Event, ...]
    held: frozenset[str]
    longest: Mapping[str, float]

    @property
    def zero(self) -> float:
        """The signal, or the decision where it did not come to a signal."""
        return self.death.taken_away if self.death.signalled is None else self.death.signalled

    def after(self, instant: float) -> float:
        """Seconds after the signal, never less than none."""
        return max(0.0, instant - self.zero)

    @property
    def killed(self) -> bool:
        """It did not end by itself in time."""
        return self.death.killed is not None

    @property
    def over(self) -> float | None:
        """When it was killed, or else ended; None where no process was there."""
        return self.death.ended if self.death.killed is None else self.death.killed

    @property
    def not_ready(self) -> float | None:
        """When readiness said no, where it was not the end of the process that made it so."""
        said, end = self.death.not_ready, self.over
        return None if said is None or (end is not None and said >= end - HAIR) else said

    @property
    def closed(self) -> float | None:
        """When the listener was first found closed, by a user or a probe, or was closed by the end of the
        process; None where SIGKILL did it.
        """
        seen = [event.at for event in self._readiness_failures() if "refused" in event.detail]
        seen += [] if self.death.listener_closed is None else [self.death.listener_closed]
        if not seen:
            return None
        if self.death.killed is not None:
            return None if min(seen) >= self.death.killed - HAIR else min(seen)
        return min([*seen, *([] if self.death.ended is None else [self.death.ended])])

    @property
    def reacted(self) -> bool:
        """After the signal it has done something else than before: closed its listener, failed its readiness
        probe, answered with an error, or no more at all, though there was time.
        """
        return (
            self.closed is not None
            or bool(self._readiness_failures())
            or any(
                entry.outcome is Outcome.SERVER_ERROR and self._dying(entry.sent) for entry in self.entries
            )
            or self._fell_silent
        )

    @property
    def went_on(self) -> bool:
        """It has answered what was asked so long after the signal that its handler had been called."""
        late = (entry for entry in self.entries if self._dying(entry.sent - _TOGETHER))
        return any(not entry.outcome.lost for entry in late)

    @property
    def _fell_silent(self) -> bool:
        """Of those whose kind is answered faster nobody who came last was answered: the listener may be held
        open by another process, as that of a server with workers, and nobody accepts.
        """
        over = self.zero if self.over is None else self.over
        in_time = [
            entry
            for entry in self.entries
            if self._dying(entry.sent)
            and entry.sent + self.longest.get(entry.kind, over) + _TOGETHER < over
            and not self.is_held(entry)
        ]
        in_time.sort(key=lambda entry: entry.sent, reverse=True)
        return sum(1 for _ in takewhile(lambda entry: entry.outcome.lost, in_time)) >= _SEVERAL

    @property
    def served_to_the_last(self) -> bool:
        """It still answered users or probes shortly before it was killed."""
        if self.over is None or self.closed is not None:
            return False
        lately = self.zero + (self.over - self.zero) * _LATELY
        answered = [entry.ended for entry in self.entries if not entry.outcome.lost]
        # Of a probe that failed, an answer has a status; one that timed out had none.
        answered += [event.at for event in self._readiness_failures() if event.detail[:1].isdigit()]
        return any(lately <= instant <= self.over for instant in answered)

    def _dying(self, instant: float) -> bool:
        return instant >= self.zero and (self.over is None or instant < self.over)

    def _readiness_failures(self) -> list[Event]:
        """Between the signal and the end."""
        return [
            event
            for event in self.events
            if event.what is Happening.PROBED
            and event.probe is ProbeName.READINESS
            and event.ok is False
            and self._dying(event.at)
        ]

    @property
    def at_once(self) -> bool:
        """It ended with the signal, and finished only what would have been over by then anyway: less than it
        lost.
        """
        if self.killed or self.death.ended is None or self.death.signalled is None:
            return False
        lasted = self.after(self.death.ended)
        working = [
            entry
            for entry in self.entries
            if entry.sent <= self.zero - _OLD_ENOUGH and entry.ended > self.zero and not self.is_held(entry)
        ]
        cut = sum(entry.outcome.lost for entry in working) * 2 > len(working)
        return lasted < _AT_ONCE or (lasted < _SOON and cut)

    def is_held(self, entry: Entry) -> bool:
        """Whether it is a stream or WebSocket that was held open, no request."""
        return entry.kind in self.held

    def cut_at(self, instant: float) -> tuple[Entry, ...]:
        """What was under way at `instant` and was lost there."""
        return tuple(
            entry
            for entry in self.entries
            if entry.sent < instant
            and entry.ended >= instant - HAIR
            and entry.outcome
            in {Outcome.RESET, Outcome.RESET_KEPT, Outcome.TRUNCATED, Outcome.TIMEOUT, Outcome.WRONG}
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class UnplannedEnd:
    """A process that ended though nobody had taken its replica away.

    `probe` is the one that had it ended; `failures` how many of its results in a row had failed, and what the
    last one said. `lost` is what was lost with it from `since`, when it was last seen well, until `back`, and
    then also since no replica at all was listed: that may be of another end as well.
    """

    replica: str
    at: float
    code: int | None
    since: float
    back: float
    probe: ProbeName | None
    failures: int
    detail: str
    lost: tuple[Entry, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """The whole ledger, sorted. Each loss is in one of `scenes`, or in `outside`; those of an unplanned end
    are in `outside` too.
    """

    rehearsal: Rehearsal
    scenes: tuple[Scene, ...]
    unplanned: tuple[UnplannedEnd, ...]
    outside: tuple[Entry, ...]

    @property
    def lost(self) -> tuple[Entry, ...]:
        """All losses that are still to be explained."""
        return (*self.outside, *(entry for scene in self.scenes for entry in scene.lost))

    def without(self, explained: Iterable[Entry]) -> Evidence:
        """The same, less the losses that are `explained`."""
        known = {id(entry) for entry in explained}  # two that are alike are two losses

        def rest(entries: Collection[Entry]) -> tuple[Entry, ...]:
            return tuple(entry for entry in entries if id(entry) not in known)

        return replace(
            self,
            scenes=tuple(replace(scene, lost=rest(scene.lost)) for scene in self.scenes),
            unplanned=tuple(replace(end, lost=rest(end.lost)) for end in self.unplanned),
            outside=rest(self.outside),
        )


def gather(rehearsal: Rehearsal) -> Evidence:
    """Sort what was seen."""
    deaths = {death.replica: death for death in rehearsal.deaths}
    held = frozenset(kind_of(hold) for hold in rehearsal.plan.load.holds)
    longest: dict[str, float] = {}
    for entry in rehearsal.entries:
        if not entry.outcome.lost:
            longest[entry.kind] = max(longest.get(entry.kind, 0.0), entry.ended - entry.sent)

    def is_of(entry: Entry, death: Death) -> bool:
        return entry.replica == death.replica and entry.ended >= death.taken_away

    scenes = tuple(
        Scene(
            death=death,
            service=rehearsal.plan.service,
            entries=tuple(entry for entry in rehearsal.entries if entry.replica == death.replica),
            lost=tuple(entry for entry in rehearsal.lost if is_of(entry, death)),
            events=tuple(event for event in rehearsal.events if event.replica == death.replica),
            held=held,
            longest=longest,
        )
        for death in rehearsal.deaths
    )
    outside = tuple(
        entry
        for entry in rehearsal.lost
        if entry.replica not in deaths or not is_of(entry, deaths[entry.replica])
    )
    return Evidence(
        rehearsal=rehearsal,
        scenes=scenes,
        unplanned=_unplanned(rehearsal, deaths, outside),
        outside=outside,
    )


def kind_of(hold: Hold) -> str:
    """How what is held open is named in the ledger."""
    return f"{hold.kind} {hold.path}"


def _unplanned(
    rehearsal: Rehearsal, deaths: dict[str, Death], outside: tuple[Entry, ...]
) -> tuple[UnplannedEnd, ...]:
    """The ends before their replica was taken away, in the order of time."""
    found = []
    begun: dict[str, float] = {}  # so that no loss is of two ends of one replica
    own: dict[str, list[int]] = {}  # by replica, the numbers of the events that are no part of its removal
    for number, event in enumerate(rehearsal.events):
        death = deaths.get(event.replica)
        if death is None or event.at < death.taken_away:
            own.setdefault(event.replica, []).append(number)
    for number in sorted(chain.from_iterable(_ends(rehearsal, numbers) for numbers in own.values())):
        replica = rehearsal.events[number].replica
        end = _unplanned_end(rehearsal, number, outside, begun.get(replica, rehearsal.began))
        begun[replica] = end.back
        found.append(end)
    return tuple(found)


def _ends(rehearsal: Rehearsal, numbers: list[int]) -> Iterator[int]:
    """Of the events of one replica those that are ends; a signal is one where the end itself came later."""
    ends = [number for number in numbers if rehearsal.events[number].what is Happening.ENDED]
    signals = [number for number in numbers if rehearsal.events[number].what is Happening.SIGNALLED]
    yield from ends
    yield from (number for number in signals if number > max(ends, default=-1))


def _unplanned_end(
    rehearsal: Rehearsal, number: int, outside: tuple[Entry, ...], from_: float
) -> UnplannedEnd:
    """The end told by the event `number`, with what was lost by it after `from_`."""
    end = rehearsal.events[number]
    known = {event.replica for event in rehearsal.events}
    before = [event for event in rehearsal.events[: number + 1] if event.replica == end.replica]
    probe, failures, since = _failures(before)
    since = max(from_, end.at - _TOGETHER if since is None else since)
    back = _back(rehearsal, number)
    return UnplannedEnd(
        replica=end.replica,
        at=end.at,
        code=end.code,
        since=since,
        back=back,
        probe=probe,
        failures=len(failures),
        detail=failures[0].detail if failures else end.detail,
        lost=tuple(
            entry
            for entry in outside
            if (entry.replica == end.replica and entry.ended >= since and entry.sent <= back)
            or (entry.replica not in known and end.at <= entry.sent <= back)
        ),
    )


def _back(rehearsal: Rehearsal, number: int) -> float:
    """When it was ready again, in a new life: one that is still ending may say for a last time that it is."""
    own = [each for each in rehearsal.events[number:] if each.replica == rehearsal.events[number].replica]
    reborn = dropwhile(lambda event: event.what is not Happening.RESTARTED, own)
    return next((event.at for event in reborn if event.what is Happening.READY), rehearsal.ended)


def _failures(before: list[Event]) -> tuple[ProbeName | None, list[Event], float | None]:
    """The probe by which a process was ended, its failures in a row, the last one first, and when it was last
    seen well; none where the process ended by itself.
    """
    this_life = []
    for event in reversed(before):
        this_life.append(event)
        if event.what in {Happening.STARTED, Happening.RESTARTED}:
            break
    if not any(event.what in {Happening.SIGNALLED, Happening.KILLED} for event in this_life):
        return None, [], None
    for probe in (ProbeName.LIVENESS, ProbeName.STARTUP):
        results = [event for event in this_life if event.what is Happening.PROBED and event.probe is probe]
        failures = list(takewhile(lambda event: event.ok is False, results))
        if failures:
            well = results[len(failures)] if len(results) > len(failures) else this_life[-1]
            return probe, failures, well.at
    return None, [], None
