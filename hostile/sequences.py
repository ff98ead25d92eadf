"""Random sequences: some of the table's cases at once in one service, and a random schedule of signals. From
a seed, so that each can be played again alone.

What holds whatever comes together: the process ends by itself before the grace period is over, no resource is
released twice, and none is left unreleased but by what is said here:

- those that the ill one itself, or the app's lifespan, does not give back;
- all that need the loop where the loop stands still (70), and all where the process was ended by the app
  (`os._exit`, a crash), by a third SIGINT or by SIGQUIT.
"""

from __future__ import annotations

import random
import re
import signal
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from hostile.cases import ALL, LOST, NONE, Case, Expectation, Log, Sending
from hostile.table import GROUPS

_AT_MOST: Final = 3
_INTERRUPTS_TO_HURRY: Final = 2
_INTERRUPTS_TO_EXIT: Final = 3
_WATCHDOG: Final = 70
_ALWAYS: Final = frozenset({0, 75})
_UNTIL_SECONDS: Final = 3.0  # so that the schedule leaves time for an end in order
_PAUSE_SECONDS: Final = 1.0
_BURST: Final = 50

# The groups whose cases can come together; those of the signals have a schedule of their own.
_POOL: Final = tuple(
    tuple(case for case in group.cases if not case.alone and len(case.signals) == 1) for group in GROUPS
)
_NAME: Final = re.compile(r"sequence-(\d+)-(\d+)")


def sequence(seed: int, number: int) -> Case:
    """The sequence of this number; the same for the same seed."""
    chance = random.Random(f"{seed} {number}")  # noqa: S311 - chance, not secrets
    parts = _parts(chance)
    signals = _schedule(chance)
    logs = [part.log for part in parts if part.log is not Log.FILE]
    return Case(
        name=f"sequence-{seed}-{number}",
        says=_told(parts, signals),
        traits=tuple(dict.fromkeys(trait for part in parts for trait in part.traits)),
        clients=tuple(replace(client, sees=client.sees | LOST) for part in parts for client in part.clients),
        signals=signals,
        log=logs[0] if logs else Log.FILE,
        loop=chance.choice(("asyncio", "uvloop")),
        expects=_expected(parts, signals),
    )


def named(name: str) -> Case | None:
    """The sequence that has this name, or None where it is no sequence's."""
    found = _NAME.fullmatch(name)
    return None if found is None else sequence(int(found[1]), int(found[2]))


def _parts(chance: random.Random) -> list[Case]:
    """From one case to three, none of which needs a newer Python than this. One at most has a log of its own,
    and one at most, the last, stops the loop: nothing could be asked of the service after it.
    """
    groups = [group for group in _POOL if group]
    parts: list[Case] = []
    for _ in range(chance.randint(1, _AT_MOST)):
        part = chance.choice(chance.choice(groups))
        second = any(
            (_stops_the_loop(part) and _stops_the_loop(other))
            or (part.log is not Log.FILE and other.log is not Log.FILE)
            for other in parts
        )
        if not second and part not in parts:
            parts.append(part)
    return sorted(parts, key=_stops_the_loop)


def _stops_the_loop(case: Case) -> bool:
    return _WATCHDOG in case.expects.codes and bool(case.clients)


def _schedule(chance: random.Random) -> tuple[Sending, ...]:
    """SIGTERM or SIGINT at 0, and up to five more signals, or a burst, in the seconds after it."""
    first = chance.choices((signal.SIGTERM, signal.SIGINT), (4, 1))[0]
    sendings = [Sending(signum=first)]
    if chance.random() < 1 / 8:
        sendings += [_at(chance, signal.SIGTERM) for _ in range(_BURST)]
    kinds = (signal.SIGTERM, signal.SIGINT, signal.SIGSTOP, signal.SIGQUIT)
    for signum in chance.choices(kinds, (10, 5, 2, 1), k=chance.randint(0, 5)):
        sendings.append(_at(chance, signum))
        if signum == signal.SIGSTOP:
            until = round(sendings[-1].at + chance.uniform(0.0, _PAUSE_SECONDS), 2)
            sendings.append(Sending(signum=signal.SIGCONT, at=until))
    return tuple(sorted(sendings, key=lambda sending: sending.at))


def _at(chance: random.Random, signum: signal.Signals) -> Sending:
    return Sending(signum=signum, at=round(chance.uniform(0.01, _UNTIL_SECONDS - _PAUSE_SECONDS), 2))


def _expected(parts: Sequence[Case], signals: Sequence[Sending]) -> Expectation:
    sent = [sending.signum for sending in signals]
    interrupts = sent.count(signal.SIGINT)
    out_at_once = signal.SIGQUIT in sent or interrupts >= _INTERRUPTS_TO_EXIT
    codes = _ALWAYS.union(*(part.expects.codes for part in parts))
    codes |= {130} if interrupts >= _INTERRUPTS_TO_HURRY else set()
    codes |= {131} if signal.SIGQUIT in sent else set()
    return Expectation(
        codes=codes,
        unreleased=(ALL if out_at_once else NONE).union(*(part.expects.unreleased for part in parts)),
        healthy=False,
        whole=not out_at_once and all(part.expects.whole for part in parts),
    )


def _told(parts: Sequence[Case], signals: Sequence[Sending]) -> str:
    what = " + ".join(part.name for part in parts) or "nothing hostile"
    if len(signals) > _BURST:
        return f"{what}; {len(signals)} signals"
    return f"{what}; " + ", ".join(f"{sending.signum.name} {sending.at:g}" for sending in signals)
