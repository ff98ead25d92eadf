"""`python -m demo.images`: 0 if every image that has to end cleanly did so; 1 if one did not, or none could
be tried (then 0 with --skip); 2 for wrong usage.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NoReturn

from demo.images import table
from demo.images.cases import CASES, Case
from demo.images.client import NotReadyError
from demo.images.engine import NAMES
from demo.images.places import DEFAULT_BASE, NAMESPACES, NoPlaceError, Opened, Wanted, opened
from demo.images.trial import PlaceError, Row, Terms, Verdict, run
from demo.paper import Paper

_AT_ONCE = 4
_SIGTERM_CODE = 143


def main() -> int:
    """Build, try, tell, clear away."""
    options = parser().parse_args()
    cases = [case for case in CASES.values() if not options.only or case.name in options.only]
    terms = Terms(grace=options.grace, request=options.request, lame_duck=options.lame_duck)
    wanted = Wanted(cases=cases, engine=options.engine, base=options.base)
    paper = Paper()
    say = _to_errors if options.json else paper.prose
    signal.signal(signal.SIGTERM, _leave)
    try:
        with contextlib.ExitStack() as stack:
            found = stack.enter_context(opened(wanted, say))
            stack.callback(_clear_away_in_peace)
            say(f"Stopping each in the middle of a request that takes {terms.request:g} s.")
            rows = try_all(found, cases, terms)
    except PlaceError as problem:
        print(f"make images: {problem}", file=sys.stderr)
        return 0 if options.skip and isinstance(problem, NoPlaceError) else 1
    if options.json:
        print(table.as_json(rows, found.refused, found.grown))
    else:
        table.tell(paper, rows, found.refused, terms, found.grown)
    clean = all(row.verdict is Verdict.CLEAN for row in rows if CASES[row.name].clean)
    return 0 if clean and not found.broken else 1


def try_all(found: Opened, cases: Sequence[Case], terms: Terms) -> list[Row]:
    """A row for each case, a few at a time; `found.refused` gets those that cannot be started here."""
    rows = []
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        try:
            tried = [
                (case, pool.submit(run, found.place, case, terms))
                for case in cases
                if case.name not in found.refused
            ]
            for case, row in tried:
                try:
                    rows.append(row.result())
                except PlaceError as problem:
                    found.refused[case.name] = str(problem)
                except NotReadyError as problem:
                    found.refused[case.name] = str(problem)
                    found.broken.add(case.name)
        except BaseException:  # Ctrl-C too: what runs is ended, so that nobody waits for it
            pool.shutdown(wait=False, cancel_futures=True)
            found.place.close()
            raise
    return rows


def parser() -> argparse.ArgumentParser:
    """What can be asked for."""
    found = argparse.ArgumentParser(
        prog="make images ARGS=",
        description="Builds the Dockerfiles, runs each image, and stops it with a slow request in flight.",
        allow_abbrev=False,
    )
    found.add_argument("--engine", choices=(*NAMES, NAMESPACES), default="", help="default: what is there")
    found.add_argument("--only", metavar="NAME", action="append", choices=list(CASES), help="again for more")
    found.add_argument("--base", metavar="IMAGE", default="", help=f"default: {DEFAULT_BASE}")
    found.add_argument("--grace", metavar="SECONDS", type=_seconds, default=10.0, help="default: 10")
    found.add_argument("--request", metavar="SECONDS", type=_seconds, default=3.0, help="default: 3")
    found.add_argument("--lame-duck", metavar="SECONDS", type=_seconds, help="default: the platform's, 2")
    found.add_argument("--skip", action="store_true", help="exit with 0 where neither engine nor kernel can")
    found.add_argument("--json", action="store_true", help="for programs")
    return found


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds < float("inf"):
        message = f"found {text}, expected seconds"
        raise argparse.ArgumentTypeError(message)
    return seconds


def _to_errors(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _leave(number: int, frame: object) -> NoReturn:
    del number, frame
    sys.exit(_SIGTERM_CODE)


def _clear_away_in_peace() -> None:
    """From here on all that is done is to clear away, and a second Ctrl-C would leave some of it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:  # all has been cleared away by then
        sys.exit(130)
