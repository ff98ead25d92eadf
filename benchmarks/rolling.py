"""Requests lost while three replicas are restarted again and again under load."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Final

from benchmarks.figures import Figure, span
from rig.client import Connection, Request
from rig.fleet import Fleet, Restart
from rig.load import Entry, Load
from rig.mix import mixed
from rig.replica import Command, graceful_run, uvicorn

_REPLICAS: Final = 3
_RESTARTS: Final = 10
_RATE: Final = 300.0
_KEPT: Final = 66
_LAME_DUCK: Final = 3.0
_REMOVAL_LAG: Final = 2.0
_SETTLE_SECONDS: Final = 1.0
_LATE_SECONDS: Final = 0.1  # later than this, and it was not the load that we say it was

# Connections that stay idle through the whole lame duck: how long after it each is used again. The
# first comes at the very moment of its end.
_WAKE_AFTER_SECONDS: Final = (0.0, 0.01, 0.1, 0.2, 0.3, 0.4)
_QUICK: Final = Request(kind="after idling", target="/fast", expected=b"fast")


def measure(*, quick: bool) -> Iterator[Figure]:
    """For `graceful run`, for a wrapped app under uvicorn, and for uvicorn by itself: what was lost."""
    restarts = 2 if quick else _RESTARTS
    candidates = (
        ("graceful run", graceful_run("rig.service:app", lame_duck=_LAME_DUCK), 0.0),
        ("wrapped, under uvicorn", uvicorn("rig.wrapped:app", lame_duck=_LAME_DUCK), 0.0),
        ("plain uvicorn", uvicorn("rig.service:app"), None),
    )
    for name, command, bar in candidates:
        yield asyncio.run(_figure(f"lost in {restarts} rolling restarts: {name}", command, restarts, bar))


async def _figure(name: str, command: Command, restarts: int, bar: float | None) -> Figure:
    async with Fleet(command, _REPLICAS) as fleet:
        load = Load(fleet.endpoints, mixed, rate=_RATE, kept=_KEPT)
        done = await _roll(fleet, load, restarts)
    ledger, codes = load.ledger, Counter(restart.exit.code for restart in done)
    losses = [(entry, fleet.after_signal(entry)) for entry in ledger.lost]
    return Figure(
        name=name,
        measured=len(losses),
        bar=bar,
        sound=ledger.lateness(0.99) <= _LATE_SECONDS,
        spread=f"of {len(ledger.entries)}; sent late by {ledger.lateness(0.99) * 1e3:.0f} ms at most (99 %)",
        notes=[
            f"exit codes {dict(codes)}, {span([restart.seconds for restart in done])} s after the signal",
            *_by_outcome(losses),
        ],
        detail={
            "requests": len(ledger.entries),
            "requests_by_kind": Counter(entry.kind for entry in ledger.entries),
            "on_kept_connections": sum(entry.kept for entry in ledger.entries),
            "late_seconds": {"99 %": ledger.lateness(0.99), "most": ledger.lateness(1.0)},
            "exit_codes": codes,
            "exit_seconds": [restart.seconds for restart in done],
            "losses": [_loss(entry, after) for entry, after in losses],
        },
    )


async def _roll(fleet: Fleet, load: Load, restarts: int) -> list[Restart]:
    """Restart under load; on return the load is over."""
    stop, done = asyncio.Event(), []
    async with asyncio.TaskGroup() as group:
        group.create_task(load.run(stop))
        await asyncio.sleep(_SETTLE_SECONDS)
        for _ in range(restarts):
            sleepers = [load.connection(fleet.oldest.port) for _ in _WAKE_AFTER_SECONDS]
            await asyncio.gather(*(_use(load, connection, at=0.0) for connection in sleepers))
            ends = asyncio.get_running_loop().time() + _LAME_DUCK
            asleep = [
                group.create_task(_use(load, connection, at=ends + after, last=True))
                for connection, after in zip(sleepers, _WAKE_AFTER_SECONDS, strict=True)
            ]
            done.append(await fleet.restart(removal_lag=_REMOVAL_LAG))
            await asyncio.wait(asleep)
        await asyncio.sleep(_SETTLE_SECONDS)
        stop.set()
    return done


async def _use(load: Load, connection: Connection, *, at: float, last: bool = False) -> None:
    """Send a request on `connection` when the loop's clock says `at`."""
    now = asyncio.get_running_loop().time()
    await asyncio.sleep(at - now)
    used = await load.ask(connection, _QUICK, kept=True, due=max(at, now))
    if last:
        used.close()


def _by_outcome(losses: list[tuple[Entry, float | None]]) -> Iterator[str]:
    """One line for each kind of loss, with the first and the last time after the signal."""
    times: dict[str, list[float | None]] = defaultdict(list)
    for entry, after in losses:
        times[entry.outcome].append(after)
    for outcome, seen in times.items():
        known = [after for after in seen if after is not None]
        line = f"{outcome}: {len(seen)}"
        if known:
            line += f", sent {min(known):+.2f} to {max(known):+.2f} s after the signal to their replica"
        if len(known) < len(seen):
            line += f", {len(seen) - len(known)} at a replica that had no signal"
        yield line


def _loss(entry: Entry, after: float | None) -> dict[str, object]:
    return {
        "outcome": entry.outcome,
        "detail": entry.detail,
        "request": entry.kind,
        "kept": entry.kept,
        "seconds_after_signal": after,
    }
