"""Services that are broken in fifteen ways, and what a rehearsal of each names as the cause."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

from benchmarks.figures import Figure, MeasurementError
from graceful.errors import GracefulError
from graceful.rehearse import pidns
from graceful.rehearse.diagnosis import diagnose
from graceful.rehearse.model import Diagnosis, Rehearsal
from graceful.rehearse.phrasing import counted, flat
from graceful.rehearse.rollout import Rollout
from rig.broken.table import BROKEN, Broken


def measure(*, quick: bool) -> Iterator[Figure]:
    """One rehearsal of each, three where there is time: it counts as missed if one of them missed it."""
    rounds = 1 if quick else 3
    played = [(broken, _rehearsed(broken)) for broken in BROKEN for _ in range(rounds)]
    named = [(broken, next(iter(diagnose(seen)), None)) for broken, seen in played]
    missed = {broken.name for broken, first in named if not _is_right(broken, first)}
    lateness = max(seen.lateness for _, seen in played)
    borne = all(seen.lateness <= broken.plan.load.max_lateness for broken, seen in played)
    yield Figure(
        name=f"broken services whose cause is not named first, of {len(BROKEN)}",
        measured=len(missed),
        bar=0,
        spread=f"in {counted(rounds, 'round')}, the load at most {1e3 * lateness:.0f} ms late",
        sound=not missed or borne,  # else a wrong cause may be the machine's
        notes=[f"{broken.name}: {_said(broken, first)}" for broken, first in _told(named)],
        detail={"missed": sorted(missed), "lateness": lateness},
    )


def _rehearsed(broken: Broken) -> Rehearsal:
    if broken.plan.service.pid1 and (reason := pidns.why_not()) is not None:
        raise MeasurementError(reason)
    try:
        return asyncio.run(Rollout(broken.plan).run())
    except GracefulError as problem:
        raise MeasurementError(str(problem)) from problem


def _is_right(broken: Broken, first: Diagnosis | None) -> bool:
    return first is not None and first.cause is broken.cause


def _told(named: Sequence[tuple[Broken, Diagnosis | None]]) -> Iterator[tuple[Broken, Diagnosis | None]]:
    """Of each service its first round, and every other one that went wrong."""
    for place, (broken, first) in enumerate(named):
        if not place or named[place - 1][0] is not broken or not _is_right(broken, first):
            yield broken, first


def _said(broken: Broken, first: Diagnosis | None) -> str:
    """The sentence, with what it should have been about where it was wrong."""
    if _is_right(broken, first) and first is not None:
        return flat(first.seen)
    found = "nothing was named" if first is None else f"{first.cause}: {flat(first.seen)}"
    return f"MISSED, {found}; it is: {broken.cause}, since {broken.how}"
