"""A service without a framework that does all of it right: not ready, serving on, `connection: close` for
those who come again, and at the end it waits for what is in flight.
"""

from __future__ import annotations

from typing import Final

from rig.broken.services.threads import Answer, Web

_GOES_ON_SECONDS: Final = 1.5


class Bounded(Answer):
    """Does not wait for long for a client that says nothing: it would hold the thread, and so the end."""

    timeout = 3


class Careful(Web):
    """Its threads are no daemons: they are waited for."""

    daemon_threads = False


server = Careful(Bounded)


def leave() -> None:
    """When nobody is sent here any more, and all that are kept have come once more."""
    server.leave(after=_GOES_ON_SECONDS)


server.serve_until_told(leave)
