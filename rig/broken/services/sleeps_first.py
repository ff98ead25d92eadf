"""It goes on serving for a while after SIGTERM, as it should. But `/ready` says yes all the time, so that
whoever goes by that sends it users until it is gone.
"""

from __future__ import annotations

import signal
import threading
import time
from typing import Final

from rig.broken.services.threads import Web

_GOES_ON_SECONDS: Final = 1.5

server = Web()


def leave() -> None:
    """Some time later."""
    time.sleep(_GOES_ON_SECONDS)
    server.shutdown()


signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=leave).start())
server.serve_forever()
server.server_close()
