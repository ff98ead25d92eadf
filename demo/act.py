"""One run of the demo: a service under load gets SIGTERM while its load balancer goes on sending; what its
users saw is kept.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from dataclasses import dataclass
from typing import Final

from demo.paper import Paper
from rig.client import Outcome
from rig.fleet import Fleet, Moment
from rig.load import Entry, Load
from rig.mix import mixed
from rig.replica import Command, Exit, Replica

RATE: Final = 100.0
REMOVAL_LAG: Final = 2.0

_KEPT: Final = 20
_BEFORE_SECONDS: Final = 1.0
_AFTER_SECONDS: Final = 0.5
_STEP_SECONDS: Final = 0.5
_PROBE_SECONDS: Final = 0.1
_TOLD_FIRST_SECONDS: Final = 0.01  # the half second that ends at the signal is told of before the signal


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What became of the requests, how long the old process lived on after the signal, and its last words."""

    entries: list[Entry]
    signalled: float
    port: int
    seconds: float
    exit: Exit
    log: str

    @property
    def outcomes(self) -> Counter[Outcome]:
        """How many requests met which outcome."""
        return Counter(entry.outcome for entry in self.entries)

    @property
    def lost(self) -> int:
        """How many were not answered whole."""
        return sum(entry.lost for entry in self.entries)

    @property
    def in_flight(self) -> list[Entry]:
        """Those that the old process was at work on when the signal came."""
        known = (entry for entry in self.entries if entry.port == self.port)
        return [entry for entry in known if entry.sent < self.signalled < entry.ended]


class Act:
    """Plays `command` through its replacement, and tells `paper` of it as it happens."""

    def __init__(self, command: Command, paper: Paper) -> None:
        self._command = command
        self._paper = paper
        self._signal = 0.0  # on the loop's clock; before the signal: when it is to come

    async def play(self) -> Result:
        """Everything has been told, and every process has ended, on return."""
        async with Fleet(self._command, 1, observe=self._tell) as fleet:
            load, stop = Load(fleet.endpoints, mixed, rate=RATE, kept=_KEPT), asyncio.Event()
            old = fleet.oldest
            self._signal = asyncio.get_running_loop().time() + _BEFORE_SECONDS
            async with asyncio.TaskGroup() as group:
                group.create_task(load.run(stop))
                counting = group.create_task(self._count(load))
                await self._until(_TOLD_FIRST_SECONDS)
                watching = group.create_task(self._watch(old))
                done = await fleet.restart(removal_lag=REMOVAL_LAG)
                await asyncio.sleep(_AFTER_SECONDS)
                stop.set()
                counting.cancel()
                await watching
            log = old.output()
        entries = load.ledger.entries
        return Result(
            entries=entries,
            signalled=self._signal,
            port=old.port,
            seconds=done.seconds,
            exit=done.exit,
            log="\n".join(itertools.dropwhile(lambda line: "SIGTERM" not in line, log.splitlines())),
        )

    def _tell(self, moment: Moment, replica: Replica) -> None:
        now = asyncio.get_running_loop().time()
        match moment:
            case Moment.SIGNALLED:
                self._signal = now
                text = "SIGTERM: the old copy is told to end. Load goes on."
            case Moment.READY:
                text = "The new copy is ready; the load balancer sends to both."
            case Moment.REMOVED:
                text = "The load balancer has heard: nobody new for the old copy."
            case _:
                text = f"The old copy has ended, {ending(replica.exit.result())}."
        self._paper.event(now - self._signal, text)

    async def _watch(self, old: Replica) -> None:
        """Ask the old copy whether it is ready, as an orchestrator does, and tell when its answer changes."""
        last: tuple[int, str] | None = (200, "ok")
        while last is not None:
            answer = await asyncio.to_thread(old.probe)
            if answer != last and not old.exit.done():  # that has been told already
                self._paper.event(asyncio.get_running_loop().time() - self._signal, _said(answer))
            last = answer
            await asyncio.sleep(_PROBE_SECONDS)

    async def _count(self, load: Load) -> None:
        """Every half second, tell what has become of the requests that were over in it."""
        told, step = 0, 1 - round(_BEFORE_SECONDS / _STEP_SECONDS)
        while True:
            await self._until(step * _STEP_SECONDS)
            new = load.ledger.entries[told:]
            told += len(new)
            lost = sum(entry.lost for entry in new)
            self._paper.count(step * _STEP_SECONDS, len(new) - lost, lost)
            step += 1

    async def _until(self, seconds: float) -> None:
        await asyncio.sleep(self._signal + seconds - asyncio.get_running_loop().time())


def ending(exit_: Exit) -> str:
    """In words how a process ended."""
    return f"killed by signal {-exit_.code}" if exit_.code < 0 else f"with exit code {exit_.code}"


def _said(answer: tuple[int, str] | None) -> str:
    if answer is None:
        return "The old copy takes no new connections any more."
    status, text = answer
    return f'Asked whether it is ready, the old copy says {status} "{text}".'
