"""`python -m demo`: 0 if nothing was lost under `graceful run`, and its process ended by itself."""

from __future__ import annotations

import asyncio
import sys
from typing import Final

from demo.act import RATE, REMOVAL_LAG, Act, Result, ending
from demo.paper import Paper
from rig.client import Outcome
from rig.replica import NotReadyError, graceful_run, uvicorn

_APP: Final = "rig.service:app"
_LAME_DUCK: Final = 3.0


def main() -> int:
    """Play both, set them side by side, and say what it means."""
    paper, good = Paper(), False
    _introduce(paper)
    try:
        paper.heading("1. uvicorn, as it comes:  uvicorn service:app")
        plain = asyncio.run(Act(uvicorn(_APP), paper).play())
        paper.heading(f"2. The same service:  graceful run service:app --lame-duck {_LAME_DUCK:g}")
        ours = asyncio.run(Act(graceful_run(_APP, lame_duck=_LAME_DUCK), paper).play())
    except* (NotReadyError, TimeoutError) as problems:
        print(f"The demo cannot go on: {problems.exceptions[0]}", file=sys.stderr)
    else:
        good = ours.lost == 0 and ours.exit.code == 0
        _compare(paper, plain, ours)
        _conclude(paper, plain, ours, good=good)
    return 0 if good else 1


def _introduce(paper: Paper) -> None:
    paper.heading("A service is replaced while people use it")
    paper.prose(
        f"""A deployment stops the old copy of a service and starts a new one. The old one is told by a
        signal, SIGTERM. The load balancer is told too, but {REMOVAL_LAG:g} seconds later; until then it
        goes on sending. So it is in Kubernetes and behind most load balancers: nobody waits for the
        other.""",
        f"""Meanwhile {RATE:g} requests a second come in: quick ones, slow ones, streamed answers and
        uploads, half of them on connections that are kept open. Each # is two requests answered, each x
        two lost. Times are seconds after the signal.""",
    )


def _compare(paper: Paper, plain: Result, ours: Result) -> None:
    paper.heading("Side by side")
    paper.row("", "uvicorn", "graceful run")
    both = (plain, ours)
    paper.row("requests sent", *(str(len(result.entries)) for result in both))
    paper.row("answered", *(str(result.outcomes[Outcome.ANSWERED]) for result in both))
    paper.row("lost", *(str(result.lost) for result in both))
    for outcome in Outcome:
        if outcome is not Outcome.ANSWERED and any(result.outcomes[outcome] for result in both):
            paper.row(f"  {outcome}", *(str(result.outcomes[outcome]) for result in both))
    paper.row("in flight at the signal, and answered", *(_in_flight(result) for result in both))
    paper.row("signal to exit", *(f"{result.seconds:.1f} s" for result in both))
    paper.row("the process ended", *(ending(result.exit) for result in both))


def _in_flight(result: Result) -> str:
    return f"{sum(not entry.lost for entry in result.in_flight)} of {len(result.in_flight)}"


def _conclude(paper: Paper, plain: Result, ours: Result, *, good: bool) -> None:
    paper.heading("What graceful run wrote in its log about the end")
    paper.quote(ours.log)
    paper.heading("What made the difference")
    paper.prose(
        """uvicorn closes its door as soon as the signal comes: whoever is still sent there finds it
        shut. `graceful run` goes on answering for a while, but says that it is about to leave: /ready
        answers 503, and each response tells its client to use another connection next time. This time
        is called the lame duck, after officials who have been voted out and still do their work. When
        it is over, and nobody comes any more, the door is closed, what is in flight is finished, and
        the process ends."""
    )
    counts = [f"{result.lost} of {len(result.entries)}" for result in (plain, ours)]
    paper.verdict(f"Lost: {counts[0]} under uvicorn, {counts[1]} under graceful run.", good=good)
    if ours.exit.code != 0:
        paper.prose(f"But graceful run should have ended with exit code 0; it ended {ending(ours.exit)}.")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:  # every server has ended by then
        sys.exit(130)
