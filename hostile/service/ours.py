"""The service as its owner would write it with us: `graceful run hostile.service.ours:app`."""

from __future__ import annotations

from starlette.applications import Starlette

from graceful import PhaseChange, Runtime
from hostile.service import resources
from hostile.service.ledger import TRAITS, note
from hostile.service.requests import ROUTES

runtime = Runtime()
runtime.resource(resources.database)
runtime.resource(resources.ill)
runtime.resource(resources.journal)


@runtime.on_phase
def told(change: PhaseChange) -> None:
    """The timeline, as an observer sees it."""
    note(f"phase {change.phase}")
    if "observer-raises" in TRAITS:
        message = "this observer always raises"
        raise RuntimeError(message)


app = runtime.wrap(Starlette(routes=ROUTES, lifespan=resources.lifespan))
