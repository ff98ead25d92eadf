"""Settings in code, which the environment overrules, and a program that serves itself, without a command.

    python examples/04_settings.py
    GRACEFUL_LAME_DUCK=3 PORT=9000 python examples/04_settings.py

The first line of the log says how the grace period is split and where each value comes from;
http://localhost:8000/ shows the same. A value that cannot be meant stops the start with one line and code 2:
try GRACEFUL_LAME_DUCK=soon.
"""

from __future__ import annotations

import os

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from graceful import PhaseChange, Runtime

runtime = Runtime(grace_period=20, lame_duck=1, ready_path="/readyz", metrics_path="/metrics")


@runtime.on_phase
def said(change: PhaseChange) -> None:
    print(f"{change.phase}, {change.in_flight} in flight", flush=True)


async def split(_request: Request) -> PlainTextResponse:
    return PlainTextResponse(runtime.settings.describe() + "\n")


app = Starlette(routes=[Route("/", split)])

if __name__ == "__main__":
    runtime.run(app, port=int(os.environ.get("PORT", "8000")))
