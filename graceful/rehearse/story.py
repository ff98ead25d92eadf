"""A rehearsal as text: lines while it goes on, then what happened at each death, and why.

At most 100 columns. Nothing that the service or its probes said reaches the terminal but as plain characters.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from graceful.rehearse.evidence import gather
from graceful.rehearse.figures import Judged, labels, rows
from graceful.rehearse.model import Event, Happening, Judgement, Outcome, Plan, ProbeName, Rehearsal
from graceful.rehearse.phrasing import counted, flat, hook, listing, seconds, signed
from graceful.rehearse.timeline import (
    SLOT,
    Moment,
    Slot,
    Timeline,
    Tone,
    said_of,
    timelines,
    tone_of,
)

WIDTH: Final = 100

_MARKS: Final = 30
_EDGE: Final = 0.02  # seconds: what is so near to the next slot is told with it
_MOST_ROWS: Final = 36
_WIDTHS: Final = (SLOT, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_BOLD: Final = "1"
_COLOURS: Final = {Tone.GOOD: "32", Tone.BAD: "31", Tone.SIGNAL: "33", Tone.PLAIN: ""}
_VERDICTS: Final = {
    Judgement.PASSED: ("PASSED", Tone.GOOD),
    Judgement.FAILED: ("FAILED", Tone.BAD),
    Judgement.NO_VERDICT: ("NO VERDICT", Tone.SIGNAL),
}


class Progress:
    """Writes a line for each event that tells something new, with the seconds since `began`."""

    def __init__(self, write: Callable[[str], object], *, began: float, colours: bool = False) -> None:
        self._write = write
        self._began = began
        self._colours = colours
        self._results: dict[tuple[str, ProbeName | None], bool | None] = {}

    def __call__(self, event: Event) -> None:
        """Of results of a probe that are alike, the first is written only."""
        if event.what is Happening.PROBED:
            probe = (event.replica, event.probe)
            if self._results.get(probe, not event.ok) == event.ok:
                return
            self._results[probe] = event.ok
        text = textwrap.shorten(said_of(event), WIDTH - 32, placeholder=" …")
        dyed = _dyed(text, _COLOURS[tone_of(event)], colours=self._colours)
        self._write(f"{event.at - self._began:8.1f} s  {flat(event.replica, 18):18}  {dyed}")


def tell(judged: Judged, *, colours: bool = False) -> str:
    """The whole story of one rehearsal, without a line break at its end."""
    return "\n".join(_Page(colours=colours).story(judged))


def tell_side_by_side(several: Sequence[Judged], *, colours: bool = False) -> str:
    """The stories one after the other, then their figures side by side."""
    page = _Page(colours=colours)
    lines = [line for judged in several for line in (*page.story(judged), "", "")]
    return "\n".join([*lines, *page.table(several)])


def tell_death(timeline: Timeline, *, colours: bool = False) -> str:
    """What happened at one death."""
    return "\n".join(_Page(colours=colours).death(timeline))


class _Page:
    """Puts lines together."""

    def __init__(self, *, colours: bool) -> None:
        self._colours = colours

    def story(self, judged: Judged) -> Iterator[str]:
        rehearsal, verdict = judged.rehearsal, judged.verdict
        yield from self._filled(introduction(rehearsal.plan))
        for timeline in timelines(rehearsal):
            yield ""
            yield from self.death(timeline)
        yield from self._untimely(rehearsal)
        if verdict.diagnoses:
            yield ""
            yield self._dyed("Why", _BOLD)
        for number, diagnosis in enumerate(verdict.diagnoses, start=1):
            lost = f" ({diagnosis.losses:,} lost)" if diagnosis.losses else ""
            yield self._dyed(f"  {number}. {diagnosis.cause}{lost}", _BOLD)
            yield from self._filled(diagnosis.seen, "     ")
            yield from self._filled(f"-> {diagnosis.way_out}", "     ", "        ")
        yield ""
        word, tone = _VERDICTS[verdict.judgement]
        first, *rest = self._filled(f"{word}: {verdict.why}")
        yield first.replace(word, self._dyed(word, _COLOURS[tone]), 1)
        yield from rest

    def table(self, several: Sequence[Judged]) -> Iterator[str]:
        names = [flat(label, 24) for label in labels(several)]
        yield self._dyed(f"{'Side by side':42}" + "".join(f"{name:>26}" for name in names), _BOLD)
        for row in rows(several):
            label = f"    {row.label}" if row.is_part else f"  {row.label}"
            cells = (
                self._dyed(f"{cell:>26}", _COLOURS[Tone.GOOD if row.best == index else Tone.PLAIN])
                for index, cell in enumerate(row.cells)
            )
            yield f"{label:42}{''.join(cells)}".rstrip()

    def death(self, timeline: Timeline) -> Iterator[str]:
        scene = timeline.scene
        what = "Death" if timeline.of == 1 else f"Restart {timeline.number} of {timeline.of}"
        title = f"{what}: {flat(scene.death.replica, 40)}"
        lost = f"{timeline.lost:,} lost" if timeline.lost else "nothing lost"
        yield f"{self._dyed(title, _BOLD)}{lost:>{WIDTH - len(title)}}"
        signal = "it was taken away" if scene.death.signalled is None else scene.service.stop_signal
        yield f"  seconds after {signal}"
        for phase in timeline.phases:
            yield f"  {phase.name}: {signed(phase.begins)} to {signed(phase.ends)}"
        yield from self._rows(timeline)

    def _rows(self, timeline: Timeline) -> Iterator[str]:
        """Moments and arrivals in order: each slot in which something was lost by itself, the others in one
        line from moment to moment.
        """
        slots = _slots(timeline)
        earlier = timeline.lost - sum(slot.lost for slot in slots)
        if earlier > 0:
            yield f"  {earlier:,} of the lost had been sent before: held open, or long under way"
        most = max((slot.lost for slot in slots), default=0)
        moments = list(timeline.moments)
        calm: list[Slot] = []
        for slot in slots:
            here = [moment for moment in moments if moment.at < slot.ends - _EDGE]
            moments = moments[len(here) :]
            if here or slot.lost:
                yield from self._calm(calm)
                calm = []
            yield from (self._moment(moment) for moment in here)
            if slot.lost:
                yield self._losses(slot, most)
            else:
                calm.append(slot)
        yield from self._calm(calm)
        yield from (self._moment(moment) for moment in moments)

    def _moment(self, moment: Moment) -> str:
        text = textwrap.shorten(moment.text, WIDTH - 20, placeholder=" …")
        return f"{signed(moment.at):>8}        * {self._dyed(text, _COLOURS[moment.tone])}"

    def _calm(self, slots: list[Slot]) -> Iterator[str]:
        answered = sum(slot.answered for slot in slots)
        if answered:
            yield f"{_span(slots[0].begins, slots[-1].ends)}  {answered:6,} answered"

    def _losses(self, slot: Slot, most: int) -> str:
        scale = min(1.0, _MARKS / most)
        how = ", ".join(
            f"{number} {outcome}" for outcome in Outcome if outcome.lost and (number := _of(slot, outcome))
        )
        bad = "x" * max(1, round(slot.lost * scale))
        room = " " * (round(most * scale) - len(bad))
        text = textwrap.shorten(how, WIDTH - 52 - len(bad + room), placeholder=" …")
        before = f"{_span(slot.begins, slot.ends)}  {slot.answered:6,} answered {slot.lost:5,} LOST  "
        return f"{before}{self._dyed(bad, _COLOURS[Tone.BAD])}{room}  {text}"

    def _untimely(self, rehearsal: Rehearsal) -> Iterator[str]:
        """What happened to replicas that nobody had taken away."""
        ends = gather(rehearsal).unplanned
        shown = {end.replica for end in ends} or (
            set() if rehearsal.deaths else {event.replica for event in rehearsal.events}
        )
        for replica in sorted(shown):
            yield ""
            is_alone = all(death.replica != replica for death in rehearsal.deaths)
            how = "which nobody had taken away" if is_alone else "which had trouble before it was taken away"
            yield self._dyed(f"{flat(replica, 40)}, {how}", _BOLD)
            yield "  seconds since the beginning"
            lines: list[str] = []
            progress = Progress(lines.append, began=rehearsal.began, colours=self._colours)
            for event in rehearsal.events:
                if event.replica == replica:
                    progress(event)
            yield from lines[-_MOST_ROWS:]

    def _filled(self, text: str, indent: str = "", hanging: str | None = None) -> list[str]:
        return textwrap.wrap(
            text,
            WIDTH,
            initial_indent=indent,
            subsequent_indent=indent if hanging is None else hanging,
            break_on_hyphens=False,
        )

    def _dyed(self, text: str, colour: str) -> str:
        return _dyed(text, colour, colours=self._colours)


def introduction(plan: Plan) -> str:
    """What was rehearsed, in a sentence."""
    service, load = plan.service, plan.load
    parts = [counted(plan.replicas, "replica")]
    parts.append("one of which dies" if plan.once else counted(plan.restarts, "restart"))
    parts.append(f"endpoints removed after {seconds(plan.removal_lag)}")
    parts.append(f"grace period {service.grace_period:g} s")
    if service.pre_stop:
        parts.append(f"preStop {hook(service.pre_stop)}")
    parts.append(f"{load.rate:g} requests a second (seed {load.seed})")
    if load.holds:
        held = [f"{hold.count} of {hold.kind} at {hold.path}" for hold in load.holds]
        parts.append(f"held open {listing(held)}")
    command = flat(" ".join(service.command), 300)
    return f"{flat(service.name)}: {command}: {flat(', '.join(parts), 400)}"


def _slots(timeline: Timeline) -> tuple[Slot, ...]:
    """As fine as can be, but not so fine that nobody would read it."""
    slots = timeline.slots(_WIDTHS[-1])
    for width in reversed(_WIDTHS):
        finer = timeline.slots(width)
        if sum(bool(slot.lost) for slot in finer) > _MOST_ROWS:
            break
        slots = finer
    return slots


def _span(begins: float, ends: float) -> str:
    return f"{signed(begins):>8} …{signed(ends):>6}"


def _of(slot: Slot, outcome: Outcome) -> int:
    return slot.outcomes.get(outcome, 0)


def _dyed(text: str, colour: str, *, colours: bool) -> str:
    return f"\x1b[{colour}m{text}\x1b[0m" if colours and colour and text else text
