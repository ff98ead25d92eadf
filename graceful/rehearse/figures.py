"""A rehearsal in numbers, for the tables that set two of them side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from graceful.rehearse.evidence import gather, kind_of
from graceful.rehearse.model import Entry, Judgement, Outcome, Rehearsal, Verdict
from graceful.rehearse.phrasing import flat, seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A rehearsal with its verdict."""

    rehearsal: Rehearsal
    verdict: Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure, a cell for each rehearsal. `best` is the index of the better cell where one is."""

    label: str
    cells: tuple[str, ...]
    best: int | None = None
    is_part: bool = False


def rows(several: Sequence[Judged]) -> tuple[Row, ...]:
    """The figures of the rehearsals; outcomes that none of them has are left out."""
    rehearsals = [each.rehearsal for each in several]
    outcomes = [Counter(entry.outcome for entry in each.entries) for each in rehearsals]
    ends = [lasted(each) for each in rehearsals]
    killed = [sum(scene.killed for scene in gather(each).scenes) for each in rehearsals]
    found = [
        Row(label="requests", cells=_texts([len(each.entries) for each in rehearsals])),
        _fewest("lost", [len(each.lost) for each in rehearsals]),
    ]
    for outcome in Outcome:
        numbers = [count[outcome] for count in outcomes]
        if outcome.lost and any(numbers):
            found.append(Row(label=str(outcome), cells=_texts(numbers), is_part=True))
    found.append(Row(label="replicas taken away", cells=_texts([len(each.deaths) for each in rehearsals])))
    found.append(_fewest("killed at the end of the grace period", killed))
    found.append(
        Row(
            label="signal to exit, median",
            cells=tuple(seconds(median(each)) if each else "-" for each in ends),
        )
    )
    found.append(
        Row(
            label="signal to exit, longest", cells=tuple(seconds(max(each)) if each else "-" for each in ends)
        )
    )
    lateness = tuple(f"{each.lateness * 1000:.0f} ms" for each in rehearsals)
    found.append(Row(label="lateness of the load", cells=lateness))
    return tuple(found)


def labels(several: Sequence[Judged]) -> tuple[str, ...]:
    """What to call each of them: the service's name, or its command where two share their name."""
    services = [judged.rehearsal.plan.service for judged in several]
    names = [flat(service.name, 60) for service in services]
    if len(set(names)) == len(names):
        return tuple(names)
    return tuple(flat(" ".join(service.command), 60) for service in services)


def lasted(rehearsal: Rehearsal) -> list[float]:
    """Seconds from each signal to the end of its process, of those that have ended."""
    return [
        scene.after(scene.death.ended) for scene in gather(rehearsal).scenes if scene.death.ended is not None
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What became of the requests of one kind, and how long the answered ones took in seconds."""

    name: str
    sent: int
    lost: int
    middle: float | None
    longest: float | None


def kinds(rehearsal: Rehearsal) -> tuple[Kind, ...]:
    """The kinds of requests in the order of the plan, then what was held open."""
    found: dict[str, list[Entry]] = {}
    for entry in rehearsal.entries:
        found.setdefault(entry.kind, []).append(entry)
    held = {kind_of(hold) for hold in rehearsal.plan.load.holds}
    names = sorted(found, key=lambda name: (name in held, name))
    return tuple(_kind(name, found[name]) for name in names)


def _kind(name: str, entries: list[Entry]) -> Kind:
    took = [entry.ended - entry.sent for entry in entries if not entry.outcome.lost]
    return Kind(
        name=name,
        sent=len(entries),
        lost=sum(entry.outcome.lost for entry in entries),
        middle=median(took) if took else None,
        longest=max(took, default=None),
    )


def headline(judged: Judged) -> str:
    """The verdict in a few words."""
    rehearsal, judgement = judged.rehearsal, judged.verdict.judgement
    lost, sent = len(rehearsal.lost), len(rehearsal.entries)
    if judgement is Judgement.NO_VERDICT:
        return "No verdict"
    if judgement is Judgement.PASSED:
        return f"Nothing lost of {sent:,}"
    killed = sum(scene.killed for scene in gather(rehearsal).scenes)
    if lost:
        return f"{lost:,} of {sent:,} lost" + (f", {killed} killed" if killed else "")
    return f"Nothing lost, but {killed} killed" if killed else "Nothing lost, but it did not behave"


def _texts(numbers: Sequence[int]) -> tuple[str, ...]:
    return tuple(f"{number:,}" for number in numbers)


def _fewest(label: str, numbers: Sequence[int]) -> Row:
    fewest = min(numbers, default=0)
    alone = len(numbers) > 1 and list(numbers).count(fewest) == 1
    return Row(label=label, cells=_texts(numbers), best=list(numbers).index(fewest) if alone else None)
