"""What a hostile case is: what the service suffers, what its clients do, which signals come, and what must
be seen in the end.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

GRACE_PERIOD: Final = 6.0
"""The orchestrator's side, in seconds: `graceful run` is told so, and SIGKILL comes then after the signal."""
LAME_DUCK: Final = 1.0

RESOURCES: Final = ("database", "ill", "journal", "lifespan")
"""What the service has to give back, in the order of acquisition."""
ALL: Final = frozenset(RESOURCES)
NONE: Final[frozenset[str]] = frozenset()


class Seen(StrEnum):
    """What a client saw of the end."""

    WHOLE = "whole answer"
    UNAVAILABLE = "503"
    CLOSE_FRAME = "close frame"
    CUT = "error"  # an answer had begun, and was broken off
    CLOSED = "closed"  # no answer had begun
    GONE = "had left"
    WAITING = "still waiting"  # nothing has come, and the connection was open when all was over


LOST: Final = frozenset({Seen.UNAVAILABLE, Seen.CUT, Seen.CLOSED})
"""A client whose request is cut off may see any of these, but never a whole answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """One connection, made before the signal.

    `sends` is all that it sends at first; it is ready when `reached` stands in the ledger and `reads` has
    come. `later` is sent `later_at` seconds after the signal. After the signal it reads to the end, unless it
    `stops_reading`, or has left with a reset before (`leaves`). What it saw must be one of `sees`.
    """

    sends: bytes
    reached: str = ""
    reads: bytes = b""
    later: bytes = b""
    later_at: float = 0.0
    stops_reading: bool = False
    leaves: bool = False
    sees: frozenset[Seen] = LOST


@dataclass(frozen=True, slots=True, kw_only=True)
class Sending:
    """A signal, so many seconds after the first, which is at 0."""

    signum: signal.Signals
    at: float = 0.0


class Log(StrEnum):
    """What standard output and standard error are."""

    FILE = "a file"
    FULL_PIPE = "a pipe that is full and that nobody reads"
    CLOSED = "closed"
    FULL_DISK = "a full disk"


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """What must be seen beside the end before SIGKILL and each resource released once at most.

    `codes` are exit codes, negative for a signal. `named` are patterns that the log must hold. Only
    `unreleased` may be left unreleased. `healthy`: the two healthy requests beside are answered. `whole`: the
    timeline is passed from `serving` to `stopped`; where it is not, it is a beginning of that.
    """

    codes: frozenset[int]
    named: tuple[str, ...] = ()
    unreleased: frozenset[str] = NONE
    healthy: bool = True
    whole: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One row of the table. The clock begins at the first signal; SIGKILL comes at `killed_at`.

    `traits` is what the service is told at its start. `ends_children`: a child that the service has forked
    gets SIGTERM before, and the service must not mind. `alone`: never a part of a random sequence.
    """

    name: str
    says: str
    expects: Expectation
    traits: tuple[str, ...] = ()
    clients: tuple[Client, ...] = ()
    signals: tuple[Sending, ...] = (Sending(signum=signal.SIGTERM),)
    log: Log = Log.FILE
    loop: str = "uvloop"
    killed_at: float = GRACE_PERIOD
    ends_children: bool = False
    alone: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Rows that belong together."""

    title: str
    cases: tuple[Case, ...]
