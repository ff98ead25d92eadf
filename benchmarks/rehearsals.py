"""What a rehearsal is worth: whether it is punctual, counts right, repeats itself, and passes the sound."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

from benchmarks.figures import Figure, MeasurementError, span
from graceful.rehearse.judging import judge
from graceful.rehearse.model import LoadPlan, Plan, Rehearsal, Service
from graceful.rehearse.rollout import Rollout
from rig.replica import ROOT, graceful_run, uvicorn

_APP: Final = "benchmarks.apps.hello:app"
_BORNE_MS: Final = 50.0
_LAG: Final = 1.0

_PUNCTUAL: Final = LoadPlan(rate=400.0)
_PUNCTUAL_SECONDS: Final = 30.0

_RUNS: Final = 5
_RUNS_RESTARTS: Final = 5
_SPREAD_BAR: Final = 0.1

_SOUND_RESTARTS: Final = 10
_SEEDS: Final = (1, 2, 3)

_LEDGER_BAR: Final = 2.0
_LEDGER_WITHIN_SECONDS: Final = 120.0
# As root, or as a user who may make user namespaces.
_ALONE: Final = (("unshare", "--net"), ("unshare", "--user", "--map-root-user", "--net"))


def measure(*, quick: bool) -> Iterator[Figure]:
    """Of the command's own plan, two replicas, but for what is said."""
    yield from _punctual(_PUNCTUAL_SECONDS / 6 if quick else _PUNCTUAL_SECONDS)
    yield _exact(1 if quick else 3)
    yield _repeated(2 if quick else _RUNS, 2 if quick else _RUNS_RESTARTS)
    for seed in _SEEDS:
        yield _sound(seed, 2 if quick else _SOUND_RESTARTS)


def _punctual(seconds: float) -> Iterator[Figure]:
    seen = _played(Plan(service=_ours(), restarts=0, settle=seconds / 2, load=_PUNCTUAL))
    what = f"no restart, {seconds:g} s at {_PUNCTUAL.rate:g} requests a second"
    late = [1000 * entry.late for entry in seen.entries]
    yield Figure(name=f"lost: {what}", measured=len(seen.lost), bar=0.0, spread=f"of {len(seen.entries)}")
    yield Figure(
        name=f"lateness (99 %): {what}",
        measured=1000 * seen.lateness,
        bar=_BORNE_MS,
        unit="ms",
        spread=f"{span(late)} ms",
    )


def _exact(restarts: int) -> Figure:
    """What is reported, against what the kernel has counted."""
    found = _counted_alone(restarts)
    apart = [
        abs(reported - counted) for reported, counted in zip(found["reported"], found["counted"], strict=True)
    ]
    return Figure(
        name="losses reported of a service that exits at once, against the kernel's refusals",
        measured=max(apart),
        bar=_LEDGER_BAR,
        spread=f"reported {found['reported']}, refused {found['counted']}, one each restart",
        detail=found,
    )


def _counted_alone(restarts: int) -> dict[str, Any]:
    """By `benchmarks.ledger` in a network namespace of its own, where nobody else is refused."""
    if shutil.which("unshare") is None:
        message = "found no unshare (util-linux); expected it, for a network namespace"
        raise MeasurementError(message)
    said = ""
    for alone in _ALONE:
        command = [*alone, sys.executable, "-m", "benchmarks.ledger", str(restarts)]
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=_LEDGER_WITHIN_SECONDS
        )
        if not done.returncode:
            return dict(json.loads(done.stdout))
        said = f"{said}\n{done.stderr}"
    message = f"no network namespace could be had, or nothing counted in it: {said[-1000:]}"
    raise MeasurementError(message)


def _repeated(runs: int, restarts: int) -> Figure:
    plan = Plan(service=replace(uvicorn(_APP), readiness=None), restarts=restarts, removal_lag=_LAG)
    seen = [_played(plan) for _ in range(runs)]
    losses = [len(each.lost) / restarts for each in seen]
    return Figure(
        name=f"the same seed, {runs} runs on plain uvicorn: loss per restart, largest over smallest, less 1",
        measured=max(losses) / min(losses) - 1.0,
        bar=_SPREAD_BAR,
        spread=f"{span(losses)} lost in each of {restarts} restarts",
        sound=all(each.lateness * 1000 <= _BORNE_MS for each in seen),
        detail={"losses": losses},
    )


def _sound(seed: int, restarts: int) -> Figure:
    plan = Plan(service=_ours(), restarts=restarts, removal_lag=_LAG, load=LoadPlan(seed=seed))
    seen = _played(plan)
    verdict = judge(seen)
    return Figure(
        name=f"lost of a service of ours, {restarts} restarts, seed {seed}",
        measured=len(seen.lost),
        bar=0.0,
        sound=verdict.exit_code != 2,  # noqa: PLR2004 - no verdict, see its promise
        spread=f"of {len(seen.entries)}; verdict {verdict.exit_code}",
        notes=() if not verdict.exit_code else (verdict.why, *(each.seen for each in verdict.diagnoses)),
    )


def _ours() -> Service:
    return graceful_run(_APP, lame_duck=_LAG + 0.5)


def _played(plan: Plan) -> Rehearsal:
    return asyncio.run(Rollout(plan).run())
