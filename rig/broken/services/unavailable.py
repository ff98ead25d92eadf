"""From SIGTERM on it answers 503, as one reads that one should: not to its probes only, but to everybody."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from rig.broken.services.threads import Web

_GOES_ON_SECONDS: Final = 1.5

server = Web()


def leave() -> None:
    """When nobody is sent here any more."""
    server.status = HTTPStatus.SERVICE_UNAVAILABLE
    server.leave(after=_GOES_ON_SECONDS)


server.serve_until_told(leave)
