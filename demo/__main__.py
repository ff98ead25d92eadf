"""`python -m demo`: `graceful rehearse`, introduced and explained. 0 if nothing was lost under `graceful
run`. Its last line is the path of a page that shows all of it.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from demo.paper import WIDTH, Paper

PAGE: Final = Path("build", "demo.html")

_APP: Final = "rig.service:app"
_REMOVAL_LAG: Final = 1.5
_RESTARTS: Final = 2
_RATE: Final = 100
_MAX_LATENESS: Final = 0.3  # a machine that does other things too can show it all the same
_REQUESTS: Final = (
    "GET /fast *5",
    "GET /slow?seconds=0.6 *2",
    "GET /stream?seconds=0.4 *2",
    "POST /upload 32KiB",
)


def main() -> int:
    """Say what is about to be seen, show it, and say what it means."""
    paper, pieces = Paper(), rehearsal()
    _introduce(paper)
    paper.quote(spelled(pieces))
    print(flush=True)
    PAGE.parent.mkdir(exist_ok=True)
    told, code = _told([word for piece in pieces for word in piece])
    print(told, end="", flush=True)
    lost, sent = side_by_side(told, "lost"), side_by_side(told, "requests")
    if not lost or not sent:
        print("The demo cannot go on: nothing could be rehearsed.", file=sys.stderr)
        return code or 1
    _conclude(paper)
    ours, theirs = (f"{part} of {whole}" for part, whole in zip(lost, sent, strict=True))
    paper.verdict(f"Lost: {ours} under graceful run, {theirs} under uvicorn.", good=code == 0)
    if code != 0:
        paper.prose("But the verdict over graceful run is not what it should be; see above why.")
    print(flush=True)
    paper.prose("The same as a page, with a picture of each end:")
    print(PAGE)
    return code


def rehearsal() -> list[list[str]]:
    """The command, an option beside its value, with the programs of this Python: to be typed where this is
    run.
    """
    programs = Path(os.path.relpath(Path(sys.executable).parent))
    return [
        [str(programs / "graceful"), "rehearse"],
        ["--restarts", str(_RESTARTS)],
        ["--removal-lag", f"{_REMOVAL_LAG:g}"],
        ["--rate", str(_RATE)],
        ["--max-lateness", f"{_MAX_LATENESS:g}"],
        *(["--request", request] for request in _REQUESTS),
        ["--readiness", "/ready"],
        ["--against", f"{programs / 'uvicorn'} {_APP} --port {{port}} --no-access-log"],
        ["--html", str(PAGE)],
        [_APP],
    ]


def spelled(pieces: Sequence[Sequence[str]]) -> str:
    """As a shell takes them: lines as long as the paper is wide, or a piece that is longer."""
    lines = [""]
    for piece in map(shlex.join, pieces):
        if lines[-1] and len(f"  {lines[-1]} {piece} \\") > WIDTH:
            lines.append(f"  {piece}")
        else:
            lines[-1] += f" {piece}" if lines[-1] else piece
    return " \\\n".join(lines)


def side_by_side(told: str, label: str) -> tuple[str, str] | None:
    """The cells of a row of the table that `graceful rehearse` ends with, where it has come to that."""
    found = re.search(rf"^  {label} +([\d,]+) +([\d,]+)$", told, re.MULTILINE)
    return None if found is None else (found[1], found[2])


def _told(command: Sequence[str]) -> tuple[str, int]:
    """What the command has said in the end, and its exit code. Its progress is seen while it goes on."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            told, _ = process.communicate()
        except KeyboardInterrupt:  # it has had the same Ctrl-C, and ends what it has started
            process.wait()
            raise
    return told, process.returncode


def _introduce(paper: Paper) -> None:
    paper.heading("A service is replaced while people use it")
    paper.prose(
        f"""A deployment starts a new copy of a service, and stops an old one. The old one is told by a
        signal, SIGTERM. The load balancer is told too, but {_REMOVAL_LAG:g} seconds later; until then it
        goes on sending. So it is in Kubernetes and behind most load balancers: nobody waits for the
        other.""",
        f"""Here this happens to two copies of a sample service, one after the other, while {_RATE}
        requests a second come in: quick ones, slow ones, streamed answers and uploads, half of them on
        connections that are kept open. First the service runs under `graceful run`, then, with not a
        line of it changed, under plain uvicorn. This is the command, which plays all of it, the load
        balancer too, in less than half a minute:""",
    )
    print(flush=True)


def _conclude(paper: Paper) -> None:
    paper.heading("What made the difference")
    paper.prose(
        """uvicorn closes its door as soon as the signal comes: whoever is still sent there finds it
        shut. `graceful run` goes on answering for a while, but says that it is about to leave: /ready
        answers 503, and each response tells its client to use another connection next time. This time
        is called the lame duck, after officials who have been voted out and still do their work. When
        it is over, and nobody comes any more, the door is closed, what is in flight is finished, and
        the process ends."""
    )


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:  # every server has ended by then
        sys.exit(130)
