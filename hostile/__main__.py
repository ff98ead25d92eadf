"""`python -m hostile [case ...]`: play the cases, print the table. 0: all of ours hold; 1: one does not; 2:
wrong usage.
"""

from __future__ import annotations

import argparse
import asyncio
import fnmatch
import json
import platform
import sys
import time
from collections.abc import Sequence
from typing import Final

from hostile import paper
from hostile.cases import Case
from hostile.play import Result, play_all
from hostile.process import OURS, PLAIN, Server
from hostile.sequences import named, sequence
from hostile.table import CASES, GROUPS

_JOBS: Final = 8
_STARTS: Final = 2
_SEQUENCES: Final = 50
_EXAMPLES: Final = """\
examples:
  python -m hostile                              everything, beside plain uvicorn
  python -m hostile --only-ours 'blocked-*'      some of the cases
  python -m hostile --seed 7 --sequences 200     other random sequences, and more of them
  python -m hostile sequence-7-12                one of them, again
"""


def main() -> int:
    """Play what was asked for, and say how it went."""
    parsing = parser()
    options = parsing.parse_args()
    if options.list:
        print("\n".join(f"{case.name:30} {case.says}" for case in CASES))
        return 0
    cases, unknown = cases_meant(options.case)
    if unknown:
        parsing.error(f"found {', '.join(unknown)}; expected names that --list shows, or patterns of them")
    count = options.sequences if options.sequences is not None else 0 if options.case else _SEQUENCES
    randoms = [sequence(options.seed, number) for number in range(1, count + 1)]
    servers = (OURS,) if options.only_ours else (OURS, PLAIN)
    todo = [(case, server) for case in cases for server in servers] + [(case, OURS) for case in randoms]
    began = time.monotonic()
    results = asyncio.run(_all(todo, jobs=options.jobs))
    seconds = time.monotonic() - began
    bad = [result for result in results if result.server == OURS.name and result.failures]
    if options.json:
        print(json.dumps(_as_dict(results, seconds, options.seed), indent=2))
    else:
        _print(results, randoms, options.seed)
        _conclude(results, bad, seconds)
    return 1 if bad else 0


def parser() -> argparse.ArgumentParser:
    """What the command understands."""
    parsing = argparse.ArgumentParser(
        prog="python -m hostile",
        description="Everything that keeps a service from ending, under graceful run and plain uvicorn.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parsing.add_argument("case", nargs="*", help="names or patterns of cases; all, if none is given")
    parsing.add_argument("--jobs", type=_positive, default=_JOBS, help="how many at once (8)")
    parsing.add_argument("--seed", type=int, default=1, help="of the random sequences (1)")
    parsing.add_argument("--sequences", type=int, help="how many of them (50; 0 where cases are named)")
    parsing.add_argument("--only-ours", action="store_true", help="without plain uvicorn")
    parsing.add_argument("--json", action="store_true", help="for machines")
    parsing.add_argument("--list", action="store_true", help="what there is, and what it does")
    return parsing


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        message = f"found {number}; expected 1 or more"
        raise argparse.ArgumentTypeError(message)
    return number


def cases_meant(patterns: Sequence[str]) -> tuple[list[Case], list[str]]:
    """The cases that are meant, and the patterns that mean none."""
    if not patterns:
        return list(CASES), []
    chosen: dict[str, Case] = {}
    unknown = []
    for pattern in patterns:
        one = named(pattern)
        found = [one] if one else [case for case in CASES if fnmatch.fnmatchcase(case.name, pattern)]
        chosen |= {case.name: case for case in found}
        if not found:
            unknown.append(pattern)
    return list(chosen.values()), unknown


async def _all(todo: Sequence[tuple[Case, Server]], *, jobs: int) -> list[Result]:
    """The results, in the order of `todo`; how far it is goes to a terminal."""
    played: dict[tuple[str, str], Result] = {}
    async for result in play_all(todo, jobs=jobs, starts=_STARTS):
        played[result.case.name, result.server] = result
        if sys.stderr.isatty():
            print(f"\r{len(played)} of {len(todo)} played", end="", file=sys.stderr, flush=True)
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr)
    return [played[case.name, server.name] for case, server in todo]


def _print(results: Sequence[Result], randoms: Sequence[Case], seed: int) -> None:
    names = {case.name for case in CASES}
    played = {(result.case.name, result.server): result for result in results if result.case.name in names}
    if played:
        print(paper.table(GROUPS, played))
    others = [result for result in results if result.case.name not in names and result.server == OURS.name]
    if others:
        print(paper.sequences(others, seed if randoms else None))


def _conclude(results: Sequence[Result], bad: Sequence[Result], seconds: float) -> None:
    if bad:
        print("\nWhat did not hold\n")
        print(paper.failures(bad))
    print()
    ours = sum(result.server == OURS.name for result in results)
    print(f"{ours - len(bad)} of {ours} held under {OURS.name}; all of it took {seconds:.0f} s")


def _as_dict(results: Sequence[Result], seconds: float, seed: int) -> dict[str, object]:
    return {
        "python": platform.python_version(),
        "seconds": round(seconds, 1),
        "seed": seed,
        "results": [result.as_dict() for result in results],
    }


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:  # every server has ended by then
        sys.exit(130)
