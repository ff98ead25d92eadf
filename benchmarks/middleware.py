"""What `wrap` adds to a request in the process, against a middleware that does nothing but stand there.

Run as a program it prints the nanoseconds of each app's best round as JSON. It is a process of its own
because prometheus_client chooses its multiprocess mode at its import, by the environment.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, Final

from benchmarks.apps.hello import app as bare
from benchmarks.figures import Figure, MeasurementError
from rig.replica import ROOT

_ROUNDS: Final = 75
_REQUESTS: Final = 5_000
_BAR: Final = 2.0
_TIMEOUT_SECONDS: Final = 120.0

_SCOPE: Final = {
    "type": "http",
    "asgi": {"version": "3.0", "spec_version": "2.3"},
    "http_version": "1.1",
    "server": ("127.0.0.1", 8000),
    "client": ("127.0.0.1", 50_000),
    "scheme": "http",
    "method": "GET",
    "root_path": "",
    "path": "/",
    "raw_path": b"/",
    "query_string": b"",
    "headers": [(b"host", b"127.0.0.1:8000"), (b"user-agent", b"benchmarks"), (b"accept", b"*/*")],
}


def measure(*, quick: bool) -> Iterator[Figure]:
    """With prometheus_client in its ordinary and in its multiprocess mode."""
    yield _figure("what wrap adds, against an empty middleware", {}, quick=quick)
    with tempfile.TemporaryDirectory() as folder:
        yield _figure("the same in multiprocess mode", {"PROMETHEUS_MULTIPROC_DIR": folder}, quick=quick)


def _figure(name: str, environment: Mapping[str, str], *, quick: bool) -> Figure:
    rounds = 25 if quick else _ROUNDS
    done = subprocess.run(
        [sys.executable, "-m", __name__, str(rounds)],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=_TIMEOUT_SECONDS,
    )
    best = json.loads(done.stdout)
    empty, wrapped = best["empty"] - best["bare"], best["wrapped"] - best["bare"]
    return Figure(
        name=name,
        measured=wrapped / empty,
        bar=_BAR,
        unit="x",
        spread=f"{wrapped:.0f} to {empty:.0f} ns over {best['bare']:.0f} ns; minima of {rounds} rounds",
        detail=best,
    )


async def _empty(scope: Any, receive: Any, send: Any) -> None:
    async def passing_on(message: Any) -> None:
        await send(message)

    await bare(scope, receive, passing_on)


async def _best(rounds: int) -> dict[str, float]:
    """Nanoseconds that a request takes in each app's best round."""
    from graceful import Runtime  # noqa: PLC0415 - only in the process that measures

    wrapped = Runtime().wrap(bare)
    apps = {"bare": bare, "empty": _empty, "wrapped": wrapped}
    best = dict.fromkeys(apps, float("inf"))
    async with _lifespan(wrapped):
        for _ in range(rounds):
            for name, app in apps.items():
                best[name] = min(best[name], await _round(app))
    return best


@contextlib.asynccontextmanager
async def _lifespan(app: Any) -> AsyncIterator[None]:
    """Start and stop `app` as a server does."""
    orders: asyncio.Queue[Any] = asyncio.Queue()
    answers: asyncio.Queue[Any] = asyncio.Queue()
    scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
    async with asyncio.timeout(_TIMEOUT_SECONDS), asyncio.TaskGroup() as group:
        group.create_task(app(scope, orders.get, answers.put))
        for order in ("startup", "shutdown"):
            await orders.put({"type": f"lifespan.{order}"})
            answer = await answers.get()
            if answer["type"] != f"lifespan.{order}.complete":
                message = f"{order} of the wrapped app: {answer}"
                raise MeasurementError(message)
            if order == "startup":
                yield


async def _round(app: Any) -> float:
    began = time.perf_counter_ns()
    for _ in range(_REQUESTS):
        await app(dict(_SCOPE), _receive, _send)  # each request has a scope of its own, as in a server
    return (time.perf_counter_ns() - began) / _REQUESTS


async def _receive() -> Any:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _send(message: Any) -> None:
    pass


if __name__ == "__main__":
    json.dump(asyncio.run(_best(int(sys.argv[1]))), sys.stdout)
