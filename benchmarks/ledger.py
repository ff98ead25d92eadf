"""`python -m benchmarks.ledger RESTARTS`, in a network namespace of its own: what a rehearsal reports of a
service that exits at once, and what the kernel has counted meanwhile.

It counts each connection that was refused (`AttemptFails` of /proc/net/snmp, RFC 4022), for the whole
namespace; so nobody else may be in it.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import socket
import struct
import sys
from pathlib import Path
from typing import Final

from graceful.rehearse.model import PORT, Event, Happening, LoadPlan, Plan, Service
from graceful.rehearse.rollout import Rollout

_EXITS_AT_ONCE: Final = """\
import http.server, os, signal, sys
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"ok")
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Answer).serve_forever()
"""
_REMOVAL_LAG: Final = 2.0
_RATE: Final = 200.0

# Linux's <linux/sockios.h> and <linux/if.h>.
_SIOCGIFFLAGS: Final = 0x8913
_SIOCSIFFLAGS: Final = 0x8914
_IFF_UP: Final = 1
_REQUEST: Final = "16sh14x"


class Refusals:
    """Hears the events of a rehearsal: how many connections were refused from each signal on until nobody was
    sent to its replica any more.
    """

    def __init__(self) -> None:
        self.counted: list[int] = []
        self._before = 0

    def __call__(self, event: Event) -> None:
        """Look at the kernel's count."""
        if event.what is Happening.SIGNALLED:
            self._before = _attempts_failed()
        elif event.what is Happening.UNLISTED:
            self.counted.append(_attempts_failed() - self._before)


def main(restarts: int) -> None:
    """Print both, one number for each restart."""
    _bring_loopback_up()
    refusals = Refusals()
    service = Service(name="abrupt", command=(sys.executable, "-c", _EXITS_AT_ONCE, PORT))
    load = LoadPlan(rate=_RATE)
    plan = Plan(service=service, restarts=restarts, removal_lag=_REMOVAL_LAG, load=load)
    seen = asyncio.run(Rollout(plan, refusals).run())
    lost = [sum(entry.replica == death.replica for entry in seen.lost) for death in seen.deaths]
    json.dump({"reported": lost, "counted": refusals.counted}, sys.stdout)


def _attempts_failed() -> int:
    names, values = (
        line.split() for line in Path("/proc/net/snmp").read_text().splitlines() if line.startswith("Tcp:")
    )
    return int(values[names.index("AttemptFails")])


def _bring_loopback_up() -> None:
    """As `ip link set lo up`: in a new namespace it is down."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        found = fcntl.ioctl(any_socket, _SIOCGIFFLAGS, struct.pack(_REQUEST, b"lo", 0))
        _, flags = struct.unpack(_REQUEST, found)
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack(_REQUEST, b"lo", flags | _IFF_UP))


if __name__ == "__main__":
    main(int(sys.argv[1]))
