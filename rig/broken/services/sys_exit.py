"""Its handler is the one of most answers to "how do I handle SIGTERM in Python"."""

from __future__ import annotations

import signal
import sys

from rig.broken.services.threads import Web

signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))

Web().serve_forever()
