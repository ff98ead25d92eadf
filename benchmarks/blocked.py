"""How soon the admin port says that a service leaves whose event loop stands still when the signal comes."""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import time
from collections.abc import Iterator
from typing import Final

from benchmarks.apps.slow import BLOCKED
from benchmarks.figures import Figure, MeasurementError, span
from graceful.rehearse.running import free_port
from graceful.rehearse.wires import HOST
from rig.replica import Replica, graceful_run

_ROUNDS: Final = 20
_BAR_MS: Final = 50.0
_APP: Final = "benchmarks.apps.slow:app"
_BLOCKED_SECONDS: Final = 3.0
_WITHIN_SECONDS: Final = 2.0  # less than it is blocked for: the answer may not come from the loop
_LAME_DUCK: Final = 10.0


def measure(*, quick: bool) -> Iterator[Figure]:
    """The slowest of all rounds: an orchestrator asks once."""
    for loop in ("asyncio", "uvloop"):
        if importlib.util.find_spec(loop) is None:
            continue
        seconds = [_seconds(loop) for _ in range(3 if quick else _ROUNDS)]
        yield Figure(
            name=f"signal to `lame duck` on the admin port, the loop blocked, {loop}: the slowest",
            measured=1e3 * max(seconds),
            bar=_BAR_MS,
            unit="ms",
            spread=f"{span(seconds, scale=1e3)} ms, {len(seconds)} rounds",
            detail={"seconds": seconds},
        )


def _seconds(loop: str) -> float:
    admin = free_port()
    service = graceful_run(_APP, "--admin-port", str(admin), "--loop", loop, lame_duck=_LAME_DUCK)
    with Replica(service) as replica:
        replica.wait_until_ready()
        with contextlib.closing(_connection(replica.port)) as blocking:
            blocking.request("GET", f"/block?{_BLOCKED_SECONDS}")
            if blocking.getresponse().read(len(BLOCKED)) != BLOCKED:
                message = "the loop was not blocked"
                raise MeasurementError(message)
            _ask_until("ok", admin)
            signalled = replica.terminate()
            return _ask_until("lame duck", admin) - signalled


def _ask_until(text: str, port: int) -> float:
    """When `/ready` had said so, on the monotonic clock; it is asked again at once where it says another."""
    deadline = time.monotonic() + _WITHIN_SECONDS
    while time.monotonic() < deadline:
        with contextlib.closing(_connection(port)) as asking:
            asking.request("GET", "/ready")
            if asking.getresponse().read().decode().strip() == text:
                return time.monotonic()
    message = f"/ready did not say {text!r} within {_WITHIN_SECONDS:g} s"
    raise MeasurementError(message)


def _connection(port: int) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(HOST, port, timeout=_WITHIN_SECONDS)
