"""Time as a picture: SVG that the page's style colours, one drawing per width so that no text is ever scaled
into nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from graceful.rehearse.markup import Inside, Markup, tag
from graceful.rehearse.model import Happening, ProbeName
from graceful.rehearse.phrasing import ending, seconds, signed
from graceful.rehearse.timeline import SLOT, Slot, Timeline

WIDE: Final = 640
NARROW: Final = 310
WHOLE: Final = 1000
"""Pixels. A narrow one fits a phone of 360 with its margins."""

_STEPS: Final = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0)
_PER_TICK: Final = 52
_PER_BAR: Final = 5
_LABEL: Final = 15
_BAR: Final = 12
_GAP: Final = 9
_HISTOGRAM: Final = 84
_CHARACTER: Final = 6.6  # of the small text, about: what is too long for its place is left out


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """Seconds from `begins` to `ends` on `width` pixels."""

    begins: float
    ends: float
    width: float

    def x(self, at: float) -> float:
        """Where an instant is; what lies outside is at the edge."""
        inside = min(max(at, self.begins), self.ends)
        return (inside - self.begins) / (self.ends - self.begins) * self.width

    @property
    def ticks(self) -> Iterator[float]:
        """Round instants, not too many for the width."""
        step = self._step(_PER_TICK)
        first = math.ceil(round(self.begins / step, 6))
        for number in range(first, math.floor(round(self.ends / step, 6)) + 1):
            yield number * step

    @property
    def slot(self) -> float:
        """How wide in time a bar is that one can still see."""
        return self._step(_PER_BAR)

    def _step(self, pixels: float) -> float:
        per_second = self.width / (self.ends - self.begins)
        return next((step for step in _STEPS if step * per_second >= pixels), _STEPS[-1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A time in a lane, with its name inside where there is room."""

    begins: float
    ends: float
    style: str
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """What was so at which times; `after` is said behind its last bar."""

    name: str
    bars: tuple[Bar, ...]
    after: str = ""
    after_style: str = "small"


def draw_death(
    timeline: Timeline, width: float, window: tuple[float, float] | None = None, *, style: str
) -> Markup:
    """Who listened and who was sent there, over what became of those who came. `window`: from when to when,
    to set it beside another.
    """
    begins, ends = (timeline.begins, timeline.ends) if window is None else window
    axis = Axis(begins=begins, ends=ends, width=width)
    lanes = _lanes(timeline)
    top = _LABEL + 4
    below = top + len(lanes) * (_LABEL + _BAR + _GAP)
    probes = list(_probes(timeline, axis, below))
    histogram = below + (_LABEL + _BAR + _GAP if probes else 0)
    height = histogram + _LABEL + _HISTOGRAM + _LABEL + 4
    return _svg(
        width,
        height,
        description(timeline),
        _gap(timeline, axis, histogram + _LABEL + _HISTOGRAM),
        _marks(timeline, axis, histogram + _LABEL + _HISTOGRAM),
        (_lane(lane, axis, top + index * (_LABEL + _BAR + _GAP)) for index, lane in enumerate(lanes)),
        probes,
        _bars(timeline.slots(axis.slot), axis, histogram, "sent to it"),
        _scale(axis, histogram + _LABEL + _HISTOGRAM),
        style=style,
    )


def draw_lanes(lanes: Sequence[Lane], slots: Sequence[Slot], axis: Axis, label: str, *, style: str) -> Markup:
    """Many lanes, each named in front of it, over one histogram."""
    top = 2
    each = _LABEL + _BAR + 5
    histogram = top + len(lanes) * each
    height = histogram + _LABEL + _HISTOGRAM + _LABEL + 4
    return _svg(
        axis.width,
        height,
        label,
        (_lane(lane, axis, top + index * each) for index, lane in enumerate(lanes)),
        _bars(slots, axis, histogram, "all requests"),
        _scale(axis, histogram + _LABEL + _HISTOGRAM),
        style=style,
    )


def description(timeline: Timeline) -> str:
    """The picture in a sentence, for those who do not see it."""
    death = timeline.scene.death
    said = [f"{timeline.arrivals:,} requests were sent to {death.replica}, {timeline.lost:,} were lost"]
    instants = (
        ("the listener closed", timeline.scene.closed),
        ("the endpoint was removed", death.unlisted),
        ("it was killed", death.killed),
        ("the process ended", None if timeline.scene.killed else death.ended),
    )
    said += [
        f"{what} {seconds(timeline.scene.after(instant))} after the signal"
        for what, instant in instants
        if instant is not None
    ]
    return "; ".join(said)


def _svg(width: float, height: float, label: str, *inside: Inside, style: str) -> Markup:
    return tag(
        "svg",
        tag("title", label),
        *inside,
        role="img",
        class_=style,
        viewBox=f"0 0 {width:g} {height:g}",
        width=width,
        height=height,
    )


def _lanes(timeline: Timeline) -> list[Lane]:
    scene, death = timeline.scene, timeline.scene.death
    over = timeline.at(scene.over)
    end = timeline.ends if over is None else over
    unlisted = timeline.at(death.unlisted)
    closed = timeline.at(scene.closed)
    how = "SIGKILL" if scene.killed else ending(death.code)
    return [
        Lane(
            name="in the endpoint list",
            bars=(_bar(timeline, timeline.ends if unlisted is None else unlisted, "listed"),),
        ),
        Lane(name="listening", bars=(_bar(timeline, end if closed is None else closed, "open"),)),
        Lane(
            name="process",
            bars=tuple(_process(timeline, end)),
            after="" if death.ended is None else how,
            after_style="small bad" if scene.killed else "small",
        ),
    ]


def _bar(timeline: Timeline, ends: float, style: str) -> Bar:
    return Bar(begins=timeline.begins, ends=ends, style=style)


def _process(timeline: Timeline, end: float) -> Iterator[Bar]:
    """Its life, with preStop and the phases that it told of."""
    taken_away = timeline.at(timeline.scene.death.taken_away) or 0.0
    yield Bar(begins=timeline.begins, ends=min(taken_away, 0.0), style="process")
    if taken_away < -SLOT / 2:
        yield Bar(begins=taken_away, ends=0.0, style="pre-stop", name="preStop")
    begins = 0.0
    for phase in timeline.phases:
        yield Bar(
            begins=begins, ends=min(phase.ends, end), style=phase.name.replace(" ", "-"), name=phase.name
        )
        begins = min(phase.ends, end)
    yield Bar(begins=begins, ends=end, style="process")


def _lane(lane: Lane, axis: Axis, top: float) -> Iterator[Markup]:
    """Its name above it, so that no room is lost beside it on a phone."""
    yield tag("text", lane.name, x=0.0, y=top + _LABEL - 4, class_="small")
    middle = top + _LABEL
    last = 0.0
    for bar in lane.bars:
        x, to = axis.x(bar.begins), axis.x(bar.ends)
        last = max(last, to)
        if to > x:
            yield tag(
                "rect", x=x, y=middle, width=to - x, height=float(_BAR), rx=2.0, class_=f"bar {bar.style}"
            )
            if bar.name and len(bar.name) * _CHARACTER + 8 < to - x:
                yield tag("text", bar.name, x=x + 5, y=middle + _BAR - 2.5, class_="inside")
    if lane.after:
        fits = last + 6 + len(lane.after) * _CHARACTER < axis.width
        yield tag(
            "text",
            lane.after,
            x=last + 6 if fits else axis.width,
            y=middle + _BAR - 2 if fits else top + _LABEL - 4,
            text_anchor="start" if fits else "end",
            class_=lane.after_style,
        )


def _probes(timeline: Timeline, axis: Axis, top: float) -> Iterator[Markup]:
    """A dot for each answer to the readiness probe: full for yes, hollow for no."""
    results = [
        event
        for event in timeline.scene.events
        if event.what is Happening.PROBED
        and event.probe is ProbeName.READINESS
        and axis.begins <= event.at - timeline.scene.zero <= axis.ends
    ]
    if not results:
        return
    yield tag("text", "readiness probe", x=0.0, y=top + _LABEL - 4, class_="small")
    for event in results:
        style = "yes" if event.ok else "no"
        x = min(max(axis.x(event.at - timeline.scene.zero), 5.0), axis.width - 5)
        yield tag("circle", cx=x, cy=top + _LABEL + _BAR / 2, r=4.5, class_=f"dot {style}")


def _gap(timeline: Timeline, axis: Axis, bottom: float) -> Markup | None:
    """The time in which users were sent to somebody who did not listen."""
    scene = timeline.scene
    closed = timeline.at(scene.over if scene.closed is None else scene.closed)
    if closed is None:
        return None
    unlisted = timeline.at(scene.death.unlisted)
    x, to = axis.x(closed), axis.x(timeline.ends if unlisted is None else unlisted)
    if to <= x:
        return None
    return tag("rect", x=x, y=float(_LABEL), width=to - x, height=bottom - _LABEL, class_="gap")


def _marks(timeline: Timeline, axis: Axis, bottom: float) -> Iterator[Markup]:
    """The signal and the end of the grace period, from top to bottom."""
    scene = timeline.scene
    grace_ends = (timeline.at(scene.death.taken_away) or 0.0) + scene.service.grace_period
    marks = [(0.0, scene.service.stop_signal, "mark")]
    if scene.death.signalled is None:
        marks = [(0.0, "taken away", "mark")]
    if grace_ends <= axis.ends:
        marks.append((grace_ends, "grace period ends", "mark late"))
    for at, name, style in marks:
        x = axis.x(at)
        yield tag("line", x1=x, x2=x, y1=float(_LABEL), y2=bottom, class_=style)
        over = x + len(name) * _CHARACTER > axis.width
        yield tag(
            "text",
            name,
            x=axis.width if over else x,
            y=_LABEL - 4.0,
            text_anchor="end" if over else "start",
            class_="small strong",
        )


def _bars(slots: Sequence[Slot], axis: Axis, top: float, name: str) -> Iterator[Markup]:
    most = max((slot.answered + slot.lost for slot in slots), default=0)
    wide = slots[0].ends - slots[0].begins if slots else 1.0
    caption = f"{name} per {round(wide, 1):g} s, at most {most:,}"
    yield tag("text", caption, x=0.0, y=top + _LABEL - 4, class_="small")
    base = top + _LABEL + _HISTOGRAM
    per = _HISTOGRAM / most if most else 0.0
    for slot in slots:
        x, to = axis.x(slot.begins), axis.x(slot.ends)
        width = max(to - x - 1, 1.0)
        answered, lost = slot.answered * per, slot.lost * per
        if answered:
            yield tag("rect", x=x, y=base - answered, width=width, height=answered, class_="answered")
        if lost:
            yield tag("rect", x=x, y=base - answered - lost, width=width, height=lost, class_="lost")


def _scale(axis: Axis, base: float) -> Iterator[Markup]:
    yield tag("line", x1=0.0, x2=axis.width, y1=base, y2=base, class_="axis")
    for tick in axis.ticks:
        x = axis.x(tick)
        yield tag("line", x1=x, x2=x, y1=base, y2=base + 4.0, class_="axis")
        edge = 12.0
        # Signs only where there is a before and an after.
        label = f"{signed(tick).removesuffix('.0') if axis.begins < 0 else f'{round(tick, 1):g}'} s"
        anchor = "start" if x < edge else "end" if x > axis.width - edge else "middle"
        yield tag("text", label, x=x, y=base + _LABEL, text_anchor=anchor, class_="small number")
