"""Connections that came when nobody listened any more: what the kernel says of them."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_COUNTERS: Final = Path("/proc/net/snmp")


def resets_sent() -> int | None:
    """How many TCP resets this network namespace has sent since it began; None where nobody counts.

    A connection to a port that nobody listens on is answered with one (RFC 9293, 3.10.7.1), and so is data
    for a connection that has been closed. It is OutRsts of the kernel's SNMP counters.
    """
    try:
        lines = [line.split() for line in _COUNTERS.read_text().splitlines() if line.startswith("Tcp:")]
        names, values = lines
        return int(dict(zip(names, values, strict=True))["OutRsts"])
    except (OSError, ValueError, KeyError):
        return None
