"""Memory of a server that has answered many requests."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from benchmarks.blast import Blast
from benchmarks.figures import Figure, MeasurementError, span
from benchmarks.rounds import interleaved
from graceful.rehearse.model import Service
from rig.replica import Replica, graceful_run, uvicorn

_ROUNDS: Final = 5
_BAR: Final = 4.0
_REQUESTS: Final = 20_000
_CONNECTIONS: Final = 50
_KIB_PER_MIB: Final = 1024.0


def measure(*, quick: bool) -> Iterator[Figure]:
    """Over the same app under uvicorn in a process that imports prometheus_client itself."""
    services = (graceful_run("benchmarks.apps.hello:app"), uvicorn("benchmarks.apps.metered:app"))
    measures = [functools.partial(_mebibytes, service) for service in services]
    ours, theirs = interleaved(2 if quick else _ROUNDS, measures)
    yield Figure(
        name="memory after load, over uvicorn and prometheus_client",
        measured=statistics.median(ours) - statistics.median(theirs),
        bar=_BAR,
        unit="MiB",
        spread=f"resident: {span(ours)} to {span(theirs)}, {len(ours)} rounds",
        detail={"graceful_mebibytes": ours, "uvicorn_mebibytes": theirs},
    )


def _mebibytes(service: Service) -> float:
    """Resident memory after the load, while the server still runs."""
    with Replica(service) as replica:
        replica.wait_until_ready()
        with Blast(replica.port, connections=_CONNECTIONS) as blast:
            blast.ask(_REQUESTS)
        status = Path(f"/proc/{replica.pid}/status")
        if not status.exists():
            message = "the memory of another process is read from Linux's /proc/PID/status, which is not here"
            raise MeasurementError(message)
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(lines["VmRSS"].split()[0]) / _KIB_PER_MIB
