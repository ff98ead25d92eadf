"""Requests lost while three replicas are restarted again and again under load."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from benchmarks.figures import Figure, MeasurementError, span
from benchmarks.idlers import LEAD, Idlers
from graceful.rehearse.figures import lasted
from graceful.rehearse.judging import judge
from graceful.rehearse.load import lateness
from graceful.rehearse.model import Entry, LoadPlan, Plan, Service
from rig.mix import mixed
from rig.replica import graceful_run, uvicorn

_RESTARTS: Final = 10
_LAME_DUCK: Final = 3.0
_REMOVAL_LAG: Final = 2.0
_LOAD: Final = LoadPlan(rate=300.0, requests=mixed(), kept=66)
_LATE_SECONDS: Final = 0.1  # later than this, and it was not the load that we say it was


def measure(*, quick: bool) -> Iterator[Figure]:
    """For `graceful run`, for a wrapped app under uvicorn, and for uvicorn by itself: what was lost."""
    restarts = 2 if quick else _RESTARTS
    candidates = (
        ("graceful run", graceful_run("rig.service:app", lame_duck=_LAME_DUCK), 0.0),
        ("wrapped, under uvicorn", uvicorn("rig.wrapped:app", lame_duck=_LAME_DUCK), 0.0),
        ("plain uvicorn", uvicorn("rig.service:app"), None),
    )
    for name, service, bar in candidates:
        yield asyncio.run(_figure(f"lost in {restarts} rolling restarts: {name}", service, restarts, bar))


async def _figure(name: str, service: Service, restarts: int, bar: float | None) -> Figure:
    plan = Plan(
        service=replace(service, pre_stop=LEAD),
        replicas=3,
        restarts=restarts,
        removal_lag=LEAD + _REMOVAL_LAG,  # it counts from the decision, preStop included
        load=_LOAD,
    )
    idlers = Idlers(plan, lame_duck=_LAME_DUCK)
    seen = await idlers.rehearse()
    if len(seen.deaths) < restarts:
        message = f"{len(seen.deaths)} of {restarts} restarts took place: {judge(seen).why}"
        raise MeasurementError(message)
    entries = [*seen.entries, *idlers.entries]
    losses = [entry for entry in entries if entry.outcome.lost]
    codes, seconds = Counter(death.code for death in seen.deaths), lasted(seen)
    return Figure(
        name=name,
        measured=len(losses),
        bar=bar,
        sound=seen.lateness <= _LATE_SECONDS,
        spread=f"of {len(entries)}; sent late by {seen.lateness * 1e3:.0f} ms at most (99 %)",
        notes=[f"exit codes {dict(codes)}, {span(seconds)} s after the signal", *_by_outcome(losses)],
        detail={
            "requests": len(entries),
            "requests_by_kind": Counter(entry.kind for entry in entries),
            "on_kept_connections": sum(entry.kept for entry in entries),
            "ended_while_idle": idlers.ended,
            "late_seconds": {"99 %": seen.lateness, "most": lateness(list(seen.entries), 1.0)},
            "exit_codes": codes,
            "exit_seconds": seconds,
            "losses": [_loss(entry) for entry in losses],
        },
    )


def _by_outcome(losses: Sequence[Entry]) -> Iterator[str]:
    """One line for each kind of loss, with the first and the last time after the signal."""
    times: dict[str, list[float | None]] = defaultdict(list)
    for entry in losses:
        times[entry.outcome].append(entry.after_signal)
    for outcome, seen in times.items():
        known = [after for after in seen if after is not None]
        line = f"{outcome}: {len(seen)}"
        if known:
            line += f", sent {min(known):+.2f} to {max(known):+.2f} s after the signal to their replica"
        if len(known) < len(seen):
            line += f", {len(seen) - len(known)} at a replica that had no signal"
        yield line


def _loss(entry: Entry) -> dict[str, object]:
    return {
        "outcome": entry.outcome,
        "detail": entry.detail,
        "request": entry.kind,
        "kept": entry.kept,
        "seconds_after_signal": entry.after_signal,
    }
