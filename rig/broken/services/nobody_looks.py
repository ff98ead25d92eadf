"""Its handler sets an event, as all do, but `serve_forever` does not look at it, and nobody else does."""

from __future__ import annotations

import signal
import threading

from rig.broken.services.threads import Web

stopping = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stopping.set())

server = Web()
while not stopping.is_set():
    server.serve_forever()
