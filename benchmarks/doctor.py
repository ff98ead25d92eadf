"""What it costs at start to look whether SIGTERM can come."""

from __future__ import annotations

import functools
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from typing import Final

from benchmarks.figures import Figure, MeasurementError, span
from graceful.rehearse.pidns import PidNamespace, PidNamespaceError
from rig.replica import ROOT

_ROUNDS: Final = 50
_BAR_MS: Final = 5.0
_TIMEOUT_SECONDS: Final = 30.0
_SHOWS: Final = "SIGTERM will not reach this service"
# A service has imported all the rest by then, and looks once.
_LOOK: Final = """\
import logging, signal, time, uvicorn, starlette, prometheus_client, graceful.runtime
logging.basicConfig(format="%(message)s")
signal.signal(signal.SIGTERM, lambda *_: None)
began = time.perf_counter()
graceful.runtime._warn_of_a_signal_that_cannot_come()
print(time.perf_counter() - began)
"""


def measure(*, quick: bool) -> Iterator[Figure]:
    """Each time in a new process, with the import of what looks."""
    rounds = 3 if quick else _ROUNDS
    for name, command, shows in (
        ("in the exec form", (), 0),
        ("behind tini", ("tini", "--"), 0),
        ("behind a shell that keeps it", ("sh", "-c", '"$0" "$@"; true'), 1),
    ):
        if command and shutil.which(command[0]) is None:
            continue
        look = functools.partial(_seconds, [*command, sys.executable, "-c", _LOOK], shows)
        look()  # compiles what has not been compiled yet
        seconds = [look() for _ in range(rounds)]
        yield Figure(
            name=f"the look at start whether SIGTERM can come, {name}",
            measured=1e3 * statistics.median(seconds),
            bar=_BAR_MS,
            unit="ms",
            spread=f"{span(seconds, scale=1e3)} ms",
            detail={"seconds": seconds},
        )


def _seconds(command: Sequence[str], shows: int) -> float:
    # An image has its modules compiled.
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    try:
        with (
            tempfile.TemporaryFile("w+") as said,
            PidNamespace(command, cwd=ROOT, env=environ, stdout=said, stderr=said) as namespace,
        ):
            if namespace.wait(_TIMEOUT_SECONDS) is None:
                message = f"it has not ended in {_TIMEOUT_SECONDS:g} s"
                raise MeasurementError(message)
            said.seek(0)
            lines = said.read().splitlines()
    except PidNamespaceError as problem:
        raise MeasurementError(str(problem)) from problem
    if len(lines) != 1 + shows or not all(_SHOWS in line for line in lines[:-1]):
        message = f"expected {shows} warnings and the seconds, found {lines}"
        raise MeasurementError(message)
    return float(lines[-1])
