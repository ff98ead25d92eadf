"""Broken services on paper, each with the cause that has to be named first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from graceful.rehearse.model import (
    Cause,
    Event,
    Happening,
    Outcome,
    ProbeName,
    Rehearsal,
)
from tests.rehearse.made import BEGAN, GOOD, HELD, SERVICE, Manners, made, plan, with_events, with_losses

SHELL = replace(SERVICE, command=("sh", "-c", "uvicorn shop:app --port {port} && true"), pid1=True)


def _deaf() -> Manners:
    return Manners(closes=None, ends=None, not_ready=None)


def shell_as_pid1() -> Rehearsal:
    return made(_deaf(), plan(SHELL))


def ignores_the_signal() -> Rehearsal:
    return made(_deaf())


def exits_at_once() -> Rehearsal:
    return made(Manners(closes=0.0, ends=0.004, not_ready=None, code=-15, cuts=True))


def closes_the_listener_early() -> Rehearsal:
    """As plain uvicorn does."""
    return made(Manners(closes=0.0, ends=0.65, not_ready=None, code=-15), plan(lag=2.0))


def flips_readiness_late() -> Rehearsal:
    return made(Manners(closes=2.5, ends=3.2, not_ready=3.0), plan(lag=4.0))


def never_ends() -> Rehearsal:
    return made(Manners(closes=1.5, ends=None, not_ready=0.2), plan(holds=(HELD,)))


def grace_too_short() -> Rehearsal:
    service = replace(SERVICE, grace_period=3.0)
    return made(Manners(closes=1.2, ends=None), plan(service, restarts=2), slow=4.0)


def cuts_what_is_in_flight() -> Rehearsal:
    return made(Manners(closes=None, ends=1.1, cuts=True))


def forgets_keep_alive() -> Rehearsal:
    return made(Manners(breaks_kept=5))


def killed_by_liveness() -> Rehearsal:
    rehearsal = made(GOOD, plan(once=True))
    victim = "shop-2"
    well = BEGAN + 0.5
    events = [
        Event(at=well, replica=victim, what=Happening.PROBED, probe=ProbeName.LIVENESS, ok=True),
        *(
            Event(
                at=well + after,
                replica=victim,
                what=Happening.PROBED,
                probe=ProbeName.LIVENESS,
                ok=False,
                detail="no answer within 1 s",
            )
            for after in (0.5, 1.0, 1.5)
        ),
        Event(at=well + 1.5, replica=victim, what=Happening.SIGNALLED, detail="SIGTERM"),
        Event(at=well + 1.6, replica=victim, what=Happening.ENDED, code=-15),
        Event(at=well + 1.6, replica=victim, what=Happening.NOT_READY),
        Event(at=well + 1.7, replica=victim, what=Happening.RESTARTED),
        Event(at=well + 2.1, replica=victim, what=Happening.READY),
    ]
    hit = [e for e in rehearsal.entries if e.replica == victim and well + 1.5 <= e.sent <= well + 2.1]
    return with_events(with_losses(rehearsal, Outcome.REFUSED, hit), *events)


def not_ready_in_time() -> Rehearsal:
    probes = [
        Event(
            at=BEGAN + second,
            replica="shop-1",
            what=Happening.PROBED,
            probe=ProbeName.READINESS,
            ok=False,
            detail="503: not ready",
        )
        for second in range(1, 20)
    ]
    return Rehearsal(
        plan=plan(),
        began=BEGAN,
        ended=BEGAN + 20,
        events=(
            Event(at=BEGAN, replica="shop-1", what=Happening.CREATED),
            Event(at=BEGAN, replica="shop-1", what=Happening.STARTED),
            *probes,
        ),
        entries=(),
        deaths=(),
        lateness=0.0,
    )


def crashes() -> Rehearsal:
    rehearsal = made(GOOD, plan(once=True))
    victim, at = "shop-2", BEGAN + 2.0
    events = [
        Event(
            at=at, replica=victim, what=Happening.ENDED, code=1, detail="Traceback …\nMemoryError: no room"
        ),
        Event(at=at + 0.01, replica=victim, what=Happening.NOT_READY),
        Event(at=at + 0.1, replica=victim, what=Happening.RESTARTED),
        Event(at=at + 0.4, replica=victim, what=Happening.READY),
    ]
    hit = [e for e in rehearsal.entries if e.replica == victim and at - 0.1 <= e.sent <= at + 0.1]
    return with_events(with_losses(rehearsal, Outcome.RESET, hit), *events)


def answers_with_errors() -> Rehearsal:
    return made(Manners(errors_after=0.0))


def pre_stop_too_long() -> Rehearsal:
    return made(Manners(closes=0.5, ends=None), plan(replace(SERVICE, pre_stop=6.0)))


def overloaded() -> Rehearsal:
    rehearsal = made(GOOD, plan(timeout=2.0))
    slow = [entry for number, entry in enumerate(rehearsal.entries) if number % 3 == 0]
    late = {id(entry) for entry in slow}
    entries = tuple(
        replace(entry, outcome=Outcome.TIMEOUT, ended=entry.sent + 2.0, detail="no whole answer within 2 s")
        if id(entry) in late
        else entry
        for entry in rehearsal.entries
    )
    return replace(rehearsal, entries=entries)


BROKEN: tuple[tuple[Callable[[], Rehearsal], Cause], ...] = (
    (shell_as_pid1, Cause.SIGNAL_NOT_DELIVERED),
    (ignores_the_signal, Cause.IGNORES_SIGNAL),
    (exits_at_once, Cause.EXITS_AT_ONCE),
    (closes_the_listener_early, Cause.LISTENER_CLOSED_EARLY),
    (flips_readiness_late, Cause.READINESS_LATE),
    (never_ends, Cause.NEVER_ENDS),
    (grace_too_short, Cause.GRACE_TOO_SHORT),
    (cuts_what_is_in_flight, Cause.CUTS_IN_FLIGHT),
    (forgets_keep_alive, Cause.KEEP_ALIVE_FORGOTTEN),
    (killed_by_liveness, Cause.LIVENESS_KILLS),
    (not_ready_in_time, Cause.NOT_READY_IN_TIME),
    (crashes, Cause.CRASHES),
    (answers_with_errors, Cause.ANSWERS_ERRORS),
    (pre_stop_too_long, Cause.PRE_STOP_TOO_LONG),
    (overloaded, Cause.OVERLOADED),
)
