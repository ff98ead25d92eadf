"""`python -m benchmarks [name ...]`: measure, and print one table of figures and bars."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Protocol

from benchmarks import (
    backlog,
    blocked,
    cpu,
    crowd,
    diagnoses,
    doctor,
    exits,
    imports,
    memory,
    middleware,
    rehearsals,
    rolling,
)
from benchmarks.figures import Figure, Mark, MeasurementError, table
from graceful.errors import GracefulError
from rig.replica import NotReadyError


class Measurement(Protocol):
    """Measures one figure or more."""

    def __call__(self, *, quick: bool) -> Iterator[Figure]:
        """The figures, each when it is known. `quick`: of fewer rounds, to see that everything runs."""


_MEASUREMENTS: Final[Mapping[str, Measurement]] = {
    "imports": imports.measure,
    "middleware": middleware.measure,
    "exits": exits.measure,
    "doctor": doctor.measure,
    "backlog": backlog.measure,
    "blocked": blocked.measure,
    "crowd": crowd.measure,
    "memory": memory.measure,
    "cpu": cpu.measure,
    "rolling": rolling.measure,
    "rehearsals": rehearsals.measure,
    "diagnoses": diagnoses.measure,
}

_PROBLEMS: Final = (
    *(MeasurementError, NotReadyError, GracefulError),
    *(OSError, subprocess.SubprocessError),
)


def main() -> int:
    """0: every bar is reached; 1: one is missed; 2: one could not be measured, or not for sure."""
    parser = _parser()
    options = parser.parse_args()
    if unknown := set(options.name) - set(_MEASUREMENTS):
        parser.error(f"found {', '.join(sorted(unknown))}; expected {', '.join(_MEASUREMENTS)}")
    figures: list[Figure] = []
    failed = False
    for name in options.name or _MEASUREMENTS:
        print(f"measuring: {name}", file=sys.stderr, flush=True)
        try:
            figures.extend(_MEASUREMENTS[name](quick=options.quick))
        except* _PROBLEMS as problems:
            failed = True
            for problem in _leaves(problems):
                print(f"{name} could not be measured: {problem!r}", file=sys.stderr, flush=True)
    if options.json:
        json.dump([figure.as_dict() for figure in figures], sys.stdout, indent=2)
        print()
    else:
        _print(figures)
    marks = {figure.mark for figure in figures}
    return 2 if failed or Mark.UNSURE in marks else 1 if Mark.MISSED in marks else 0


def _leaves(problem: BaseException) -> Iterator[BaseException]:
    if isinstance(problem, BaseExceptionGroup):
        for part in problem.exceptions:
            yield from _leaves(part)
    else:
        yield problem


def _print(figures: Sequence[Figure]) -> None:
    system = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    print(f"{platform.python_implementation()} {platform.python_version()}, {system}\n")
    print(table(figures))
    for figure in figures:
        if figure.notes:
            print(f"\n{figure.name}", *figure.notes, sep="\n  ")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    names = f"what to measure: {', '.join(_MEASUREMENTS)}; all by default"
    parser.add_argument("name", nargs="*", metavar="name", help=names)
    parser.add_argument(
        "--quick", action="store_true", help="fewer rounds: to see that it runs, not to quote"
    )
    parser.add_argument("--json", action="store_true", help="the figures as JSON, with every detail")
    return parser


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:  # every server has ended by then
        sys.exit(130)
