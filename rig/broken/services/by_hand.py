"""A service without a framework that does all of it right: not ready, serving on, `connection: close` for
those who come again, and at the end it waits for what is in flight.
"""

from __future__ import annotations

import signal
import threading
import time
from http import HTTPStatus
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
    server.ready = HTTPStatus.SERVICE_UNAVAILABLE
    server.says_close = True
    time.sleep(_GOES_ON_SECONDS)
    server.shutdown()


signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=leave).start())
server.serve_forever()
server.server_close()
