"""What the services without a framework share: a thread for each connection, as `http.server` has it."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit


class Answer(BaseHTTPRequestHandler):
    """One connection, kept for as long as its client likes."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Web

    def do_GET(self) -> None:
        """Answer, after as many seconds as the query says."""
        url, web = urlsplit(self.path), self.server
        time.sleep(float(parse_qs(url.query).get("seconds", ["0"])[0]))
        self.send_response(web.ready if url.path == "/ready" else web.status)
        self.send_header("content-length", "0")
        if web.says_close:
            self.send_header("connection", "close")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing: nobody reads it."""


class Web(ThreadingHTTPServer):
    """A server on the port that the command line names: `ready` is what it answers to its readiness probe,
    `status` to all others; `says_close`: it tells clients to go elsewhere with their next request.
    """

    request_queue_size = 128

    def __init__(self, answer: type[Answer] = Answer) -> None:
        self.ready = self.status = HTTPStatus.OK
        self.says_close = False
        super().__init__(("127.0.0.1", int(sys.argv[1])), answer)

    def leave(self, *, after: float) -> None:
        """Not ready, and clients are told to go elsewhere; no longer served in so many seconds."""
        self.ready = HTTPStatus.SERVICE_UNAVAILABLE
        self.says_close = True
        time.sleep(after)
        self.shutdown()

    def serve_until_told(self, leave: Callable[[], object]) -> None:
        """Serve; SIGTERM has `leave` called on a thread, which is to shut it down. Closed on return."""
        signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=leave).start())
        self.serve_forever()
        self.server_close()
