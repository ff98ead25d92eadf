"""What it costs at start to look whether SIGTERM can come, behind a shell that keeps it."""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Iterator
from typing import Final

from benchmarks.figures import Figure, MeasurementError, span
from rig.pidns import PidNamespace, PidNamespaceError
from rig.replica import ROOT

_ROUNDS: Final = 50
_BAR_MS: Final = 5.0
_TIMEOUT_SECONDS: Final = 30.0
_SHOWS: Final = "SIGTERM will not reach this service"
# A service has all the rest when it looks, and has not looked before.
_LOOK: Final = """\
import logging, signal, time, uvicorn, starlette, prometheus_client, graceful.runtime
from graceful.delivery import warning_here
signal.signal(signal.SIGTERM, lambda *_: None)
began = time.perf_counter()
warning = warning_here()
print(time.perf_counter() - began, warning)
"""


def measure(*, quick: bool) -> Iterator[Figure]:
    """Each time in a new process: the first look is the only one."""
    rounds = 3 if quick else _ROUNDS
    _seconds()  # compiles what has not been compiled yet
    seconds = [_seconds() for _ in range(rounds)]
    yield Figure(
        name="the look at start whether SIGTERM can come",
        measured=1e3 * statistics.median(seconds),
        bar=_BAR_MS,
        unit="ms",
        spread=f"{span(seconds, scale=1e3)} ms",
        detail={"seconds": seconds},
    )


def _seconds() -> float:
    """The dearest way that is common: there is a warning to be written."""
    command = ["sh", "-c", '"$0" "$@"; true', sys.executable, "-c", _LOOK]
    try:
        with PidNamespace(command, cwd=ROOT, stdout=subprocess.PIPE) as namespace:
            assert namespace.stdout is not None
            said = namespace.stdout.readline().decode()
            namespace.wait(_TIMEOUT_SECONDS)
    except PidNamespaceError as problem:
        raise MeasurementError(str(problem)) from problem
    if _SHOWS not in said:
        message = f"expected the warning, found {said!r}"
        raise MeasurementError(message)
    return float(said.split()[0])
