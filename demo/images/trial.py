"""One image, started, asked for something slow, and stopped before the answer is there."""

from __future__ import annotations

import re
import threading
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from demo.images.cases import Case
from demo.images.client import Answer, NotReadyError, ask, wait_for

_READY_SECONDS: Final = 60.0
_SPARE_SECONDS: Final = 30.0
_OK: Final = 0
_TERMINATED: Final = 143
_KILLED: Final = 137
_HANDLER = re.compile(r"SIGTERM: (?:no )?lame duck")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped:
    """How a container ended: its exit code, and the seconds that stopping it took."""

    code: int
    seconds: float


class Service(Protocol):
    """What has been started."""

    @property
    def port(self) -> int:
        """Where it can be reached on 127.0.0.1."""

    def pid1(self) -> tuple[str, ...]:
        """The words of PID 1's command line, seen from inside."""

    def ended(self) -> bool:
        """Whether it has ended by itself."""

    def stop(self, grace: float) -> Stopped:
        """SIGTERM to PID 1, SIGKILL after `grace` seconds; it has ended on return."""

    def output(self) -> str:
        """What it has written so far."""


class Place(Protocol):
    """Where a case can be started: an engine that has built its image, or this machine's kernel alone."""

    @property
    def closed(self) -> bool:
        """Whether all that it has started is ending, since somebody wants to leave."""

    def start(self, case: Case, environment: dict[str, str]) -> AbstractContextManager[Service]:
        """A service that runs until the block is left. Raises PlaceError where it cannot be started."""


class PlaceError(Exception):
    """An engine or a kernel refused something; the text says what, in one line."""


class Verdict(StrEnum):
    """What it comes to."""

    CLEAN = "clean"
    KILLED = "killed"
    LOST = "lost"
    CUT_OFF = "cut off"
    ODD = "unclear"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What was seen of one case."""

    name: str
    pid1: tuple[str, ...]
    handler_ran: bool
    answer: Answer
    seconds: float
    code: int

    @property
    def verdict(self) -> Verdict:
        """Clean: the handler ran, the request was answered, the exit code is 0. Killed: the handler never
        ran, SIGKILL came. Lost: it never ran, and the container ended at once. Cut off: it ran, but there was
        too little time.
        """
        if self.handler_ran:
            clean = self.code == _OK and self.answer is Answer.ANSWERED
            return Verdict.CLEAN if clean else Verdict.CUT_OFF
        if self.code == _KILLED:
            return Verdict.KILLED
        return Verdict.LOST if self.code == _TERMINATED else Verdict.ODD


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """Grace period, length of the slow request, and lame duck (None: the platform's), in seconds."""

    grace: float
    request: float
    lame_duck: float | None = None

    @property
    def environment(self) -> dict[str, str]:
        """The service's."""
        told = {"GRACEFUL_GRACE_PERIOD": f"{self.grace:g}"}
        return told if self.lame_duck is None else {**told, "GRACEFUL_LAME_DUCK": f"{self.lame_duck:g}"}


def run(place: Place, case: Case, terms: Terms) -> Row:
    """Raises PlaceError where it cannot be started, and NotReadyError where it does not answer."""
    with place.start(case, terms.environment) as service:
        try:
            return _watched(place, case, terms, service)
        except NotReadyError as problem:
            message = f"{problem}; its last words: {service.output().strip()[-300:]!r}"
            raise NotReadyError(message) from problem


def _watched(place: Place, case: Case, terms: Terms, service: Service) -> Row:
    def hopeless() -> str:
        return "stopped from outside" if place.closed else "it has ended by itself" if service.ended() else ""

    wait_for(service.port, "/", "0 in work\n", within=_READY_SECONDS, hopeless=hopeless)
    pid1 = service.pid1()
    patience = terms.request + terms.grace + _SPARE_SECONDS
    answers: list[Answer] = []

    def ask_slowly() -> None:
        answer, _ = ask(service.port, f"/slow?seconds={terms.request:g}", timeout=patience)
        answers.append(answer)

    asking = threading.Thread(target=ask_slowly, name=f"slow request to {case.name}", daemon=True)
    asking.start()
    wait_for(service.port, "/", "1 in work\n", within=_READY_SECONDS, hopeless=hopeless)
    stopped = service.stop(terms.grace)
    asking.join(patience)
    return Row(
        name=case.name,
        pid1=pid1,
        handler_ran=_HANDLER.search(service.output()) is not None,
        answer=answers[0] if answers else Answer.TIMEOUT,
        seconds=stopped.seconds,
        code=stopped.code,
    )
