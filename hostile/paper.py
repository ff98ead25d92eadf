"""The table for people: one line a case, ours and uvicorn's side by side, and what was not as it must be."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from hostile.cases import RESOURCES, Group
from hostile.play import Result
from hostile.process import OURS, PLAIN

_CASE: Final = 30
_CELL: Final = 38

Played = Mapping[tuple[str, str], Result]  # by the case's name and the server's


def table(groups: Iterable[Group], played: Played) -> str:
    """All groups of which something was played."""
    lines = [
        f"{'':5}{'at the signal':{_CASE}} {OURS.name:{_CELL}} {PLAIN.name}",
        f"{'':5}{'':{_CASE}} {_HEAD:{_CELL}} {_HEAD}",
    ]
    for group in groups:
        rows = [_row(case.name, played) for case in group.cases if (case.name, OURS.name) in played]
        if rows:
            lines += ["", group.title, *rows]
    return "\n".join([*lines, "", *_LEGEND])


_HEAD: Final = "exit   seconds  released  answered"
_LEGEND: Final = (
    "exit: the code, or the signal that the process died of; KILL: it was alive at the grace period.",
    f"released: how many of {len(RESOURCES)} resources. named: the log says what was in the way.",
    "answered: how many of two healthy requests beside, one sent before the signal and one after.",
)


def _row(name: str, played: Played) -> str:
    ours, plain = played[name, OURS.name], played.get((name, PLAIN.name))
    mark = "FAIL" if ours.failures else "ok"
    is_named = bool(ours.case.expects.named) and not ours.failures
    ours_text = _cell(ours) + ("   named" if is_named else "")
    return f"{mark:5}{name:{_CASE}} {ours_text:{_CELL}} {'' if plain is None else _cell(plain)}".rstrip()


def _cell(result: Result) -> str:
    if result.problems and not result.healthy:
        return "could not be played"
    released = len(RESOURCES) - len(result.unreleased)
    answered = len(result.healthy) - result.lost
    return f"{_code(result.code):5} {result.seconds:7.2f}  {released:5} {answered:9}"


def _code(code: int) -> str:
    return str(code) if code >= 0 else signal.Signals(-code).name.removeprefix("SIG")


def sequences(results: Sequence[Result], seed: int | None) -> str:
    """The random sequences: a line for each that fails, and the sum."""
    held = [result for result in results if not result.failures]
    lines = ["", "random sequences of these" + ("" if seed is None else f" (seed {seed})")]
    for result in results:
        mark = "FAIL" if result.failures else "ok"
        lines.append(f"{mark:5}{result.case.name:20}{_cell(result):30} {result.case.says}")
    return "\n".join([*lines, f"{len(held)} of {len(results)} held"])


def failures(results: Iterable[Result]) -> str:
    """All that there is to know of those of ours that failed; empty where none did."""
    return "\n\n".join(result.told for result in results if result.failures)
