"""What was seen, for somebody who reads it at three in the morning."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Final

from demo.images.trial import Row, Terms, Verdict
from demo.paper import Paper

_HEAD: Final = ("image", "PID 1", "handler", "request", "secs", "code", "verdict")
_SHAPES: Final = ("15.15", "22.22", "7", "11", ">4", ">4", "8")
_MEGABYTE: Final = 1_000_000

_MEANINGS: Final = {
    Verdict.KILLED: """SIGTERM went to PID 1, which is a shell, and the shell kept it: Python never heard of
        it and served on. After {grace:g} seconds the engine killed the container. No drain, nothing released,
        and what was in flight then was lost. Write CMD in exec form, ["graceful", "run", ...], or put `exec`
        before the command.""",
    Verdict.LOST: """The init passed SIGTERM on to the shell, the shell died of it, and with the last child of
        PID 1 the container ended at once: Python was killed in the middle of an answer. It looks healthy,
        fast and with code 143, and is the worst of all. Keep the init, but write CMD in exec form.""",
    Verdict.CUT_OFF: """The signal arrived and the handler ran, but the request was not answered, or the exit
        code is not 0: the grace period of {grace:g} seconds was too short for it.""",
    Verdict.ODD: """The handler did not run and nobody was killed. Look at the container's log.""",
    Verdict.CLEAN: """The signal arrived, what was in flight was answered, resources were released, and the
        code is 0.""",
}


def lines(rows: Iterable[Row]) -> list[str]:
    """The table, at most 80 columns wide."""
    shown = [_HEAD, *(_cells(row) for row in rows)]
    return [
        " ".join(f"{cell:{shape}}" for cell, shape in zip(cells, _SHAPES, strict=True)).rstrip()
        for cells in shown
    ]


def pid1_in_short(words: Sequence[str]) -> str:
    """A command line without the folders of its programs, and without the interpreter of a script's."""
    names = [word.rpartition("/")[2] if word.startswith("/") else word for word in words]
    return " ".join(names)


def tell(
    paper: Paper, rows: Sequence[Row], refused: Mapping[str, str], terms: Terms, grown: int | None
) -> None:
    """The table, one paragraph for each kind of end, what was left out and why, and what the image adds to
    its base.
    """
    print(flush=True)
    paper.quote("\n".join(lines(rows)))
    paragraphs = []
    for verdict, meaning in _MEANINGS.items():
        names = [row.name for row in rows if row.verdict is verdict]
        if names:
            paragraphs.append(f"{verdict}: {', '.join(names)}. {meaning.format(grace=terms.grace)}")
    paragraphs += [f"{name} was left out: {reason.rstrip('.')}." for name, reason in refused.items()]
    if grown is not None:
        megabytes = f"{grown / _MEGABYTE:.1f} MB"
        paragraphs.append(
            f"The image in exec form is {megabytes} larger than its base, with the extra `fast`."
        )
    print(flush=True)
    paper.prose(*paragraphs)


def as_json(rows: Sequence[Row], refused: Mapping[str, str], grown: int | None) -> str:
    """The same for programs."""
    images = [{**asdict(row), "verdict": row.verdict} for row in rows]
    return json.dumps({"images": images, "left_out": dict(refused), "bytes_over_base": grown}, indent=2)


def _cells(row: Row) -> tuple[str, ...]:
    ran = "ran" if row.handler_ran else "NO"
    verdict = str(row.verdict) if row.verdict is Verdict.CLEAN else row.verdict.upper()
    return (
        row.name,
        pid1_in_short(row.pid1),
        ran,
        str(row.answer),
        f"{row.seconds:.1f}",
        str(row.code),
        verdict,
    )
