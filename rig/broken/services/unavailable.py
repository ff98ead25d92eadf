"""From SIGTERM on it answers 503, as one reads that one should: not to its probes only, but to everybody."""

from __future__ import annotations

import signal
import threading
import time
from http import HTTPStatus
from typing import Final

from rig.broken.services.threads import Web

_GOES_ON_SECONDS: Final = 1.5

server = Web()


def leave() -> None:
    """When nobody is sent here any more."""
    server.ready = server.status = HTTPStatus.SERVICE_UNAVAILABLE
    server.says_close = True
    time.sleep(_GOES_ON_SECONDS)
    server.shutdown()


signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=leave).start())
server.serve_forever()
server.server_close()
