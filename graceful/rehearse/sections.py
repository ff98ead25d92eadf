"""The sections of the page, one function each: text, tables, and the pictures beside them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from graceful.rehearse.evidence import gather
from graceful.rehearse.figures import Judged, kinds, lasted
from graceful.rehearse.markup import Inside, Markup, tag
from graceful.rehearse.model import Death, Judgement, Outcome, Plan, Rehearsal
from graceful.rehearse.overview import draw_overview, lives
from graceful.rehearse.particulars import asked
from graceful.rehearse.phrasing import counted, ending, hook, listing, seconds, signed
from graceful.rehearse.picture import NARROW, WHOLE, WIDE, draw_death
from graceful.rehearse.timeline import Timeline, Tone, timelines

_LEGEND: Final = (
    ("listed", "in the endpoint list"),
    ("open", "listening"),
    ("process", "process alive"),
    ("answered", "answered"),
    ("lost", "lost"),
    ("gap", "listed, but nobody listens"),
)
_WHOLE_LEGEND: Final = (
    ("waiting", "starting"),
    ("listed", "in service"),
    ("process", "leaving"),
    ("answered", "answered"),
    ("lost", "lost"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A heading of `level`, the anchor at it, and what stands below."""

    id: str
    title: str
    level: int
    content: Inside


def of(judged: Judged, prefix: str = "", level: int = 2) -> Iterator[Section]:
    """What there is to tell; `prefix` keeps the anchors of two services apart."""
    rehearsal = judged.rehearsal
    below = f"h{level + 1}"
    if judged.verdict.diagnoses:
        yield Section(id=f"{prefix}why", title="Why", level=level, content=_causes(judged, below))
    told = timelines(rehearsal)
    if told:
        title = "The death" if len(told) == 1 else "Restart by restart"
        content = (_legend(_LEGEND), [_death(timeline, below) for timeline in told])
        yield Section(id=f"{prefix}deaths", title=title, level=level, content=content)
    yield Section(id=f"{prefix}whole", title="The whole rehearsal", level=level, content=_whole(rehearsal))
    if rehearsal.entries:
        yield Section(id=f"{prefix}requests", title="Requests", level=level, content=_requests(rehearsal))
    yield Section(id=f"{prefix}plan", title="How it was rehearsed", level=level, content=_settings(rehearsal))


def command(judged: Judged) -> Markup:
    """The command line that was rehearsed."""
    return tag("code", " ".join(judged.rehearsal.plan.service.command), class_="command")


def tiles(judged: Judged) -> Markup:
    """The figures that say most."""
    rehearsal = judged.rehearsal
    killed = sum(scene.killed for scene in gather(rehearsal).scenes)
    ends = lasted(rehearsal)
    lost = len(rehearsal.lost)
    shown = [
        ("requests", f"{len(rehearsal.entries):,}", None),
        ("lost", f"{lost:,}", "bad" if lost else "good"),
        ("killed", f"{killed} of {len(rehearsal.deaths)}", "bad" if killed else "good"),
        ("signal to exit, longest", seconds(max(ends)) if ends else "-", None),
    ]
    return tag(
        "dl",
        (tag("div", tag("dt", name), tag("dd", value, class_=style)) for name, value, style in shown),
        class_="tiles",
    )


def lede(judged: Judged) -> str:
    """What to know first beside the numbers: the cause, or why there is none."""
    verdict = judged.verdict
    if verdict.judgement is not Judgement.FAILED or not verdict.diagnoses:
        return _sentence(verdict.why)
    first, *others = verdict.diagnoses
    return _sentence(str(first.cause)) + (f" And {counted(len(others), 'other cause')}." if others else "")


def first_cause(judged: Judged) -> Markup | None:
    """The first diagnosis, short."""
    if not judged.verdict.diagnoses:
        return None
    first = judged.verdict.diagnoses[0]
    return tag("p", tag("b", f"{str(first.cause).capitalize()}: "), first.seen)


def title_of(timeline: Timeline) -> str:
    """`Restart 1 of 3: shop-1`."""
    replica = timeline.scene.death.replica
    return replica if timeline.of == 1 else f"Restart {timeline.number} of {timeline.of}: {replica}"


def _causes(judged: Judged, heading: str) -> Markup:
    causes = (
        tag(
            "li",
            tag(
                "div",
                tag(heading, str(diagnosis.cause)),
                tag("p", f"{diagnosis.losses:,} lost", class_="bad") if diagnosis.losses else None,
                class_="headline",
            ),
            tag("p", _sentence(diagnosis.seen)),
            tag("p", tag("b", "Way out: "), _sentence(diagnosis.way_out), class_="way"),
            class_="card",
        )
        for diagnosis in judged.verdict.diagnoses
    )
    return tag("ol", causes, class_="causes")


def _sentence(said: str) -> str:
    return f"{said[:1].upper()}{said[1:]}."


def _death(timeline: Timeline, heading: str) -> Markup:
    death = timeline.scene.death
    lost = f"{timeline.lost:,} lost" if timeline.lost else "nothing lost"
    how = "killed" if timeline.scene.killed else ending(death.code)
    return tag(
        "article",
        tag(
            "div",
            tag(heading, title_of(timeline)),
            tag("p", tag("b", lost, class_="bad" if timeline.lost else "good"), f", {how}"),
            class_="headline",
        ),
        tag(
            "div",
            tag(
                "figure",
                draw_death(timeline, WIDE, style="wide"),
                draw_death(timeline, NARROW, style="narrow"),
                tag("figcaption", f"Seconds from {_zero(timeline)}{_phases(timeline)}"),
            ),
            _moments(timeline),
            class_="beside",
        ),
        _arrivals(timeline),
        _output(death),
        class_="card",
    )


def _zero(timeline: Timeline) -> str:
    scene = timeline.scene
    return "the decision" if scene.death.signalled is None else scene.service.stop_signal


def _phases(timeline: Timeline) -> str:
    """How long each phase was by the service's own report."""
    phases = [f"{each.name} {seconds(each.ends - each.begins)}" for each in timeline.phases]
    return f"; by its own report {listing(phases)}" if phases else ""


def _moments(timeline: Timeline) -> Markup:
    body = (
        tag(
            "tr",
            tag("th", signed(moment.at), scope="row"),
            tag("td", moment.text),
            class_=None if moment.tone is Tone.PLAIN else moment.tone.value,
        )
        for moment in timeline.moments
    )
    return _table(
        f"What happened to {timeline.scene.death.replica}",
        [("seconds", "number"), ("event", "")],
        body,
        style="moments",
    )


def _arrivals(timeline: Timeline) -> Markup:
    """Every tenth of a second in which somebody was sent to it."""
    body = (
        tag(
            "tr",
            tag("th", f"{signed(slot.begins)} to {signed(slot.ends)}", scope="row"),
            tag("td", f"{slot.answered:,}", class_="number"),
            tag("td", f"{slot.lost:,}", class_="number bad" if slot.lost else "number"),
            tag("td", _how({each: number for each, number in slot.outcomes.items() if each.lost})),
        )
        for slot in timeline.slots()
        if slot.outcomes
    )
    columns = [("seconds", ""), ("answered", "number"), ("lost", "number"), ("how", "")]
    return tag(
        "details",
        tag("summary", f"Arrivals at {timeline.scene.death.replica} by tenths of a second"),
        _table("Requests by the time at which they were sent", columns, body),
    )


def _how(outcomes: dict[Outcome, int]) -> str:
    return ", ".join(f"{outcomes[each]} {each}" for each in Outcome if outcomes.get(each))


def _output(death: Death) -> Markup | None:
    if not death.output.strip():
        return None
    summary = tag("summary", f"What {death.replica} wrote at the end")
    return tag("details", summary, tag("pre", death.output.strip()))


def _whole(rehearsal: Rehearsal) -> Iterator[Markup]:
    body = (
        tag(
            "tr",
            tag("th", life.replica, scope="row"),
            (
                tag("td", "-" if at is None else f"{at:.1f}", class_="number")
                for at in (life.ready, life.taken_away, life.ended)
            ),
            tag("td", f"{life.lost:,}", class_="number bad" if life.lost else "number"),
            tag("td", life.how),
        )
        for life in lives(rehearsal)
    )
    numbers = [("ready", "number"), ("taken", "number"), ("gone", "number"), ("lost", "number")]
    columns = [("replica", ""), *numbers, ("end", "")]
    yield _legend(_WHOLE_LEGEND)
    yield tag(
        "div",
        tag(
            "figure",
            draw_overview(rehearsal, WHOLE, style="whole"),
            draw_overview(rehearsal, NARROW, style="narrow"),
            tag("figcaption", "Seconds from the beginning of the rehearsal"),
        ),
        _table("The replicas, in seconds from the beginning", columns, body),
        class_="card",
    )


def _requests(rehearsal: Rehearsal) -> Iterator[Markup]:
    lost = [entry.outcome for entry in rehearsal.lost]
    body = (
        tag(
            "tr",
            tag("th", kind.name, scope="row"),
            tag("td", f"{kind.sent:,}", class_="number"),
            tag("td", f"{kind.lost:,}", class_="number bad" if kind.lost else "number"),
            (tag("td", _milliseconds(took), class_="number") for took in (kind.middle, kind.longest)),
        )
        for kind in kinds(rehearsal)
    )
    numbers = [("sent", "number"), ("lost", "number"), ("median", "number"), ("longest", "number")]
    found = {outcome: lost.count(outcome) for outcome in Outcome}
    how = listing([f"{number:,} {outcome}" for outcome, number in found.items() if number]) if lost else ""
    yield tag(
        "div",
        _table("By kind, with the time that the answered ones took", [("kind", ""), *numbers], body),
        tag("p", tag("b", "Lost: "), how) if how else None,
        class_="card",
    )


def _milliseconds(took: float | None) -> str:
    if took is None:
        return "-"
    return f"{took * 1000:.0f} ms" if took < 1 else seconds(took)


def _settings(rehearsal: Rehearsal) -> Markup:
    shown = _shown(rehearsal.plan)
    shown.append(("lateness of the load", f"{rehearsal.lateness * 1000:.0f} ms"))
    pairs = ((tag("dt", name), tag("dd", value)) for name, value in shown)
    return tag("div", tag("dl", pairs, class_="settings"), class_="card")


def _shown(plan: Plan) -> list[tuple[str, str]]:
    service, load = plan.service, plan.load
    shown = [
        ("command", " ".join(service.command)),
        ("replicas", str(plan.replicas)),
        ("taken away", "one, without a successor" if plan.once else counted(plan.restarts, "replica")),
        ("endpoint removed after", seconds(plan.removal_lag)),
        ("grace period", f"{service.grace_period:g} s"),
        ("stop signal", service.stop_signal),
        *([("preStop", hook(service.pre_stop))] if service.pre_stop else []),
    ]
    probes = (("startup", service.startup), ("liveness", service.liveness), ("readiness", service.readiness))
    shown += [(f"{name} probe", asked(probe)) for name, probe in probes if probe is not None]
    shown += [("runs as", "PID 1 of a PID namespace")] if service.pid1 else []
    shown.append(("load", f"{load.rate:g} requests a second, seed {load.seed}"))
    shown += [("held open", f"{hold.count} of {hold.kind} at {hold.path}") for hold in load.holds]
    return shown


def _legend(entries: Sequence[tuple[str, str]]) -> Markup:
    items = (tag("li", tag("span", class_=style), said) for style, said in entries)
    return tag("ul", items, class_="legend", aria_label="Colours of the pictures")


def _table(
    caption: str, columns: Sequence[tuple[str, str]], body: Inside, style: str | None = None
) -> Markup:
    head = tag("tr", (tag("th", name, scope="col", class_=kind or None) for name, kind in columns))
    return tag("table", tag("caption", caption), tag("thead", head), tag("tbody", body), class_=style)
