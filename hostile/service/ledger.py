"""The ledger: one line for each thing that the service has reached, written at once to the pipe that the
harness has given it. What the service claims is not believed; what is written here has happened.
"""

from __future__ import annotations

import os
from typing import Final

_DESCRIPTOR: Final = int(os.environ.get("HOSTILE_LEDGER", "-1"))

TRAITS: Final = frozenset(filter(None, os.environ.get("HOSTILE_TRAITS", "").split(",")))
"""What is wrong with this service, chosen when it is started."""


def note(line: str) -> None:
    """`line` is in the pipe on return; nothing happens where the service was started by hand."""
    if _DESCRIPTOR >= 0:
        os.write(_DESCRIPTOR, f"{line}\n".encode())
