"""A service as small as can be: `tiny_service.py PORT FOLDER [stubborn]`.

It listens on PORT and answers 200, after SIGTERM 503 until FOLDER/leave is there to be read; then it exits
with 0. A stubborn one takes no notice of SIGTERM. What it finds as FOLDER/sick when it starts, it removes.
"""

from __future__ import annotations

import http.server
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

PORT, FOLDER = int(sys.argv[1]), Path(sys.argv[2])
IS_STUBBORN = sys.argv[3:] == ["stubborn"]

stopping = threading.Event()


class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(503 if stopping.is_set() else 200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


def leave() -> None:
    (FOLDER / "leave").read_bytes()  # a pipe: it waits for a writer
    os._exit(0)


def on_sigterm(*_: Any) -> None:
    if not IS_STUBBORN:
        stopping.set()
        threading.Thread(target=leave, daemon=True).start()


signal.signal(signal.SIGTERM, on_sigterm)
(FOLDER / "sick").unlink(missing_ok=True)
assert (FOLDER / "migrated").exists()
http.server.ThreadingHTTPServer(("127.0.0.1", PORT), Answer).serve_forever()
