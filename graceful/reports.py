"""The report of one run: what happened after the signal, as a frozen value and as one readable log block."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import IntEnum, StrEnum
from typing import Any, Final

from graceful.inflight import CutOff, Kind
from graceful.phases import Phase
from graceful.resources import ReleaseOutcome

_BEFORE: Final = frozenset({Phase.STARTING, Phase.SERVING})
_MOST_NAMED: Final = 20
_LATE: Final = 0.8  # an arrival in the last fifth of the lame duck means that the next one may come too late
_ROOM: Final = 1.25


class ExitCode(IntEnum):
    """How a process that we own ends. 70 and 75 are EX_SOFTWARE and EX_TEMPFAIL of sysexits.h; 128 + n is the
    shells' way to say signal n.
    """

    OK = 0
    FAILED = 1
    USAGE = 2
    WATCHDOG = 70
    CUT_OFF = 75
    INTERRUPTED = 130
    QUIT = 131
    TERMINATED = 143


class Outcome(StrEnum):
    """How a run ended: with all that was in flight, and every resource, or not."""

    CLEAN = "clean"
    NOT_CLEAN = "not clean"
    INTERRUPTED = "interrupted"
    FAILED = "failed"

    @property
    def exit_code(self) -> ExitCode:
        """What a process that we own exits with after such a run."""
        return _EXIT_CODES[self]


_EXIT_CODES: Final = {
    Outcome.CLEAN: ExitCode.OK,
    Outcome.NOT_CLEAN: ExitCode.CUT_OFF,
    Outcome.INTERRUPTED: ExitCode.INTERRUPTED,
    Outcome.FAILED: ExitCode.FAILED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What one run's end looked like. All times are seconds; `phases` has those that were entered, in order.

    `exit_code` is None where the server is not ours: it ends the process in its own way.

    `reason` is the signal's name or what was given to `request_shutdown`; `signals` how many came. `arrivals`
    counts the requests that came after the signal, `last_arrival` how long after it the last one came;
    `refused` the connections that came during the drain, when nobody listened any more, a probe's among them:
    None where that is not known.
    `ended` and `cut_off` are what was in flight at the signal or later; `in_the_way` names who else was there
    when the drain's time was up: tasks, threads, child processes.
    """

    reason: str
    outcome: Outcome
    exit_code: int | None
    phases: Mapping[Phase, float]
    signals: int = 0
    ended: Mapping[Kind, int] = field(default_factory=dict)
    cut_off: tuple[CutOff, ...] = ()
    resources: tuple[ReleaseOutcome, ...] = ()
    arrivals: int = 0
    last_arrival: float | None = None
    lame_duck: float = 0.0
    refused: int | None = None
    in_the_way: tuple[str, ...] = ()
    failure: str | None = None
    left_behind: tuple[str, ...] = ()

    def with_left_behind(self, left_behind: Collection[str]) -> Report:
        """The same report, of a run that had to leave threads, tasks or callbacks behind: a clean one is not
        clean any more.
        """
        outcome = Outcome.NOT_CLEAN if self.outcome is Outcome.CLEAN else self.outcome
        code = None if self.exit_code is None else outcome.exit_code
        return replace(self, left_behind=tuple(left_behind), outcome=outcome, exit_code=code)

    @property
    def enough_lame_duck(self) -> float | None:
        """A lame duck that would have been long enough, in whole seconds, where this one was too short for
        comfort; else None.
        """
        if self.last_arrival is None or not self.lame_duck or self.last_arrival <= self.lame_duck * _LATE:
            return None
        return float(math.ceil(self.last_arrival * _ROOM))

    @property
    def clean(self) -> bool:
        """Nothing to worry about: the process has ended as it should, and nobody came late."""
        return self.outcome is Outcome.CLEAN and self.enough_lame_duck is None

    def as_dict(self) -> dict[str, Any]:
        """The report in plain types, fit for `json.dumps`."""
        plain = asdict(self)
        plain["outcome"] = str(self.outcome)
        plain["exit_code"] = None if self.exit_code is None else int(self.exit_code)
        plain["phases"] = {str(phase): seconds for phase, seconds in self.phases.items()}
        plain["ended"] = {str(kind): count for kind, count in self.ended.items()}
        return plain

    def as_text(self) -> str:
        """The block for people: one line for the whole, one for each phase, one for each thing that went
        wrong.
        """
        total = math.fsum(seconds for phase, seconds in self.phases.items() if phase not in _BEFORE)
        code = "" if self.exit_code is None else f" (exit code {int(self.exit_code)})"
        lines = [f"{self.reason}: ended after {total:.2f} s, {self.outcome}{code}"]
        if self.failure is not None:
            lines.append(f"  failed      {self.failure}")
        for phase, said in (
            (Phase.LAME_DUCK, self._arrivals_text()),
            (Phase.DRAINING, self._drain_text()),
            (Phase.RELEASING, self._release_text()),
        ):
            if phase in self.phases:
                lines.append(f"  {_SHORT[phase]:<10} {self.phases[phase]:6.2f} s   {said}")
                lines += self._details(phase)
        # A thousand threads must not hide the one callback: of each kind so many are listed.
        for _, alike in itertools.groupby(self.left_behind, key=lambda what: what.partition(" ")[0]):
            lines += listed("  exit       left behind: ", list(alike))
        return "\n".join(lines)

    def in_short(self) -> str:
        """A few lines for the termination log: the outcome, counts, names of resources. No paths, no error's
        text, nothing that a client sent.
        """
        code = "" if self.exit_code is None else f" (exit code {int(self.exit_code)})"
        total = math.fsum(seconds for phase, seconds in self.phases.items() if phase not in _BEFORE)
        lines = [f"{self.reason}: ended after {total:.2f} s, {self.outcome}{code}"]
        if self.failure is not None:
            lines.append("failed: the log says why")
        by_kind = Counter(entry.kind for entry in self.cut_off)
        cut_off = ", ".join(f"{count} {kind}" for kind, count in by_kind.items()) or "none"
        lines.append(f"in flight: {sum(self.ended.values())} ended in time; cut off: {cut_off}")
        if self.arrivals:
            lines.append(self._arrivals_text())
        by_outcome: dict[str, list[str]] = {}
        for entry in self.resources:
            by_outcome.setdefault(entry.outcome, []).append(entry.name)
        # What went wrong first: the end may be cut.
        outcomes = sorted(by_outcome, key=lambda outcome: outcome == "released")
        lines += [f"resources {outcome}: {', '.join(by_outcome[outcome])}" for outcome in outcomes]
        if self.left_behind:
            lines.append(f"left behind at exit: {len(self.left_behind)}")
        return "\n".join(lines)

    def _arrivals_text(self) -> str:
        if self.last_arrival is None:
            return "no request came after the signal"
        came = counted(self.arrivals, "request")
        return f"{came} came after the signal, the last {self.last_arrival:.2f} s after it"

    def _drain_text(self) -> str:
        ended = sum(self.ended.values())
        return f"{ended} ended in time, {len(self.cut_off) or 'none'} cut off"

    def _refused_text(self) -> list[str]:
        if not self.refused:
            return []
        came = f"about {counted(self.refused, 'connection')} came after the listener was closed"
        return [f"    {came} and were refused: if they were no probes, a longer lame duck answers them"]

    def _release_text(self) -> str:
        if not self.resources:
            return "nothing to release"
        return ", ".join(_released_text(entry) for entry in self.resources)

    def _details(self, phase: Phase) -> list[str]:
        if phase is Phase.LAME_DUCK and self.enough_lame_duck is not None:
            late = f"requests still came in the last fifth of the lame duck of {self.lame_duck:g} s"
            return [f"    WARNING: {late}: too short; set GRACEFUL_LAME_DUCK={self.enough_lame_duck:g}"]
        if phase is Phase.DRAINING:
            left = [entry for entry in self.cut_off if not entry.ended]
            cut = [entry for entry in self.cut_off if entry.ended]
            others = [f"    still there: {what}" for what in self.in_the_way]
            return [*self._refused_text(), *named("cut off", cut), *named("left behind", left), *others]
        return []


_SHORT: Final = {Phase.LAME_DUCK: "lame duck", Phase.DRAINING: "drain", Phase.RELEASING: "release"}


def counted(number: int, noun: str) -> str:
    """`1 request`, `2 requests`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def named(what: str, entries: Collection[CutOff]) -> list[str]:
    """A line for each of the entries, at most 20, then a count."""
    return listed(f"    {what}: ", [_cut_off_text(entry) for entry in entries])


def listed(before: str, texts: Sequence[str]) -> list[str]:
    """A line for each of the texts, at most 20, then a count."""
    lines = [before + text for text in texts[:_MOST_NAMED]]
    more = len(texts) - len(lines)
    return [*lines, f"{before}and {more} more"] if more else lines


def _released_text(entry: ReleaseOutcome) -> str:
    if entry.outcome == "released":
        return f"{entry.name} {entry.seconds:.2f} s"
    return f"{entry.name} {entry.outcome.upper()} after {entry.seconds:.2f} s" + (
        f" ({entry.error})" if entry.error else ""
    )


def _cut_off_text(entry: CutOff) -> str:
    where = f", at {entry.standing_at}" if entry.standing_at else ""
    return f"{entry.kind} {entry.name}, {entry.seconds:.1f} s old{where}"
