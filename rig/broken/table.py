"""The table: fifteen services, one for each cause that a rehearsal can name, and three that are sound.

New connections go to the replicas in turn: at 80 requests a second the one that leaves is sent half of the 40
that need one.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from graceful.rehearse.model import (
    PORT,
    Cause,
    Hold,
    HoldKind,
    HttpGet,
    LoadPlan,
    Plan,
    Probe,
    RequestSpec,
    Service,
    TcpSocket,
)
from graceful.rehearse.wires import HOST

ROOT: Final = Path(__file__).resolve().parents[2]

_PROGRAMS: Final = "rig.broken.services"
_ENTRYPOINT: Final = "rig/broken/services/entrypoint.sh"
_ENTRYPOINT_EXEC: Final = "rig/broken/services/entrypoint_exec.sh"
_READY: Final = Probe(action=HttpGet(path="/ready"), period=0.2, failure_threshold=1)
_LOAD: Final = LoadPlan(rate=80.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """A service with the plan by which it is rehearsed; `how` says in words what is to be known of it."""

    how: str
    plan: Plan

    @property
    def name(self) -> str:
        """The service's."""
        return self.plan.service.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken(Played):
    """One that is broken: `cause` is to be named first, in a sentence that has all patterns in `says`; by
    `exit_code` it is told to scripts.
    """

    cause: Cause
    says: tuple[str, ...]
    exit_code: int = 1


def _service(name: str, command: tuple[str, ...], **more: object) -> Service:
    service = Service(name=name, command=command, folder=str(ROOT), grace_period=10.0, readiness=_READY)
    return replace(service, **more)  # type: ignore[arg-type]  # fields of Service


def _uvicorn(*options: str, app: str = "web:app") -> tuple[str, ...]:
    given = ("--host", HOST, "--port", PORT, "--no-access-log", *options)
    return (sys.executable, "-m", "uvicorn", f"{_PROGRAMS}.{app}", *given)


def _program(name: str) -> tuple[str, ...]:
    return (sys.executable, "-m", f"{_PROGRAMS}.{name}", PORT)


def _load(*paths: str, **more: object) -> LoadPlan:
    requests = tuple(RequestSpec(path=path) for path in paths) or _LOAD.requests
    return replace(_LOAD, requests=requests, **more)  # type: ignore[arg-type]  # fields of LoadPlan


def _rarely(path: str) -> LoadPlan:
    """One in a hundred requests is for `path`: by the plan's seed the first after half a second, the next
    only after eight, so that this happens once.
    """
    return replace(_LOAD, requests=(RequestSpec(weight=100), RequestSpec(path=path)))


def _plan(service: Service, load: LoadPlan = _LOAD, **more: object) -> Plan:
    """One restart of one replica: half of its users go to its successor."""
    plan = Plan(service=service, replicas=1, restarts=1, settle=0.4, load=load)
    return replace(plan, **more)  # type: ignore[arg-type]  # fields of Plan


BROKEN: Final[tuple[Broken, ...]] = (
    Broken(
        how="an entrypoint script without `exec` is PID 1, and SIGTERM stays with it",
        cause=Cause.SIGNAL_NOT_DELIVERED,
        says=(r"SIGTERM went to sh, which has no handler for it", r"SIGKILL came after 1\.\d s"),
        plan=_plan(
            _service(
                "shell-as-pid-1",
                ("sh", _ENTRYPOINT, *_uvicorn()),
                pid1=True,
                grace_period=1.0,
            )
        ),
    ),
    Broken(
        how="a handler sets an event that the server's loop never looks at",
        cause=Cause.IGNORES_SIGNAL,
        says=(r"nothing changed after SIGTERM, and SIGKILL came after 1\.\d s",),
        plan=_plan(_service("nobody-looks", _program("nobody_looks"), grace_period=1.0)),
    ),
    Broken(
        how="the handler calls sys.exit(0)",
        cause=Cause.EXITS_AT_ONCE,
        says=(r"the process ended 0\.\d s after SIGTERM", r"\d+ new connections refused", r"requests? reset"),
        plan=_plan(_service("sys-exit", _program("sys_exit")), _load("/report?seconds=0.3")),
    ),
    Broken(
        how="uvicorn closes its listener when SIGTERM comes, before anybody knows that it leaves",
        cause=Cause.LISTENER_CLOSED_EARLY,
        says=(
            r"listener closed 0\.\d s after SIGTERM",
            r"endpoints were removed after 1\.\d s",
            r"\d+ new connections refused",
        ),
        plan=_plan(_service("plain-uvicorn", _uvicorn())),
    ),
    Broken(
        how="it serves on for a while after SIGTERM, but its readiness says yes until the end",
        cause=Cause.READINESS_LATE,
        says=(
            r"listener closed (1\.[5-9]|2\.\d) s after SIGTERM",
            r"readiness never said no",
            r"\d+ new connections refused",
        ),
        plan=_plan(
            _service(
                "sleeps-first",
                _program("sleeps_first"),
                readiness=replace(_READY, timeout=0.5),
            ),
            removal_lag=2.5,
        ),
    ),
    Broken(
        how="uvicorn waits for a stream of events that never ends, and nobody tells it to",
        cause=Cause.NEVER_ENDS,
        says=(r"heard SIGTERM but did not end, with 2 streams still open", r"SIGKILL came after 1\.\d s"),
        plan=_plan(
            _service("endless-stream", _uvicorn(), grace_period=1.0),
            _load(holds=(Hold(kind=HoldKind.EVENTS, path="/events", count=2),)),
        ),
    ),
    Broken(
        how="its reports take longer than the grace period",
        cause=Cause.GRACE_TOO_SHORT,
        says=(r"still at work on \d+ requests when the grace period of 1 s was over",),
        plan=_plan(_service("grace-too-short", _uvicorn(), grace_period=1.0), _load("/report?seconds=2.0")),
    ),
    Broken(
        how="uvicorn's own limit for its shutdown is shorter than what its users wait for",
        cause=Cause.CUTS_IN_FLIGHT,
        says=(r"cut off 1\.\d s after SIGTERM",),
        plan=_plan(
            _service("drain-too-short", _uvicorn("--timeout-graceful-shutdown", "1"), pre_stop=0.8),
            _load("/report?seconds=2.0", "/download?seconds=2.0"),
            removal_lag=0.5,
        ),
    ),
    Broken(
        how="it tells the users of kept connections nothing, who come until it is gone",
        cause=Cause.KEEP_ALIVE_FORGOTTEN,
        says=(
            r"nobody told the users of kept connections to leave",
            r"\d+ requests reset on a kept connection",
        ),
        plan=_plan(
            _service("forgets-kept", _program("forgets_kept")), _load(rate=200.0, kept=60), removal_lag=0.5
        ),
    ),
    Broken(
        how="a handler blocks the event loop, liveness has no patience, and it is restarted for it",
        cause=Cause.LIVENESS_KILLS,
        says=(r"liveness probe failed 3 times in a row", r"had \d process(es)? ended"),
        plan=_plan(
            _service(
                "blocked-loop",
                _uvicorn(),
                # However slow the machine is: it is not to be killed before it listens.
                startup=Probe(action=TcpSocket(), period=0.1, failure_threshold=300),
                liveness=Probe(action=HttpGet(path="/healthz"), period=0.2, timeout=0.2),
            ),
            _rarely("/pdf?seconds=1.5"),
            replicas=2,
            restarts=0,
            settle=1.6,
        ),
    ),
    Broken(
        how="it loads for longer than its startup probe waits",
        cause=Cause.NOT_READY_IN_TIME,
        says=(r"startup probe of slow-start-1 failed 5 times in a row \(connection refused\)",),
        exit_code=2,
        plan=_plan(
            _service(
                "slow-start",
                _uvicorn(app="slow_start:app"),
                startup=Probe(action=TcpSocket(), period=0.3, failure_threshold=5),
            ),
            ready_within=3.0,
        ),
    ),
    Broken(
        how="one kind of request takes more memory than there is, and the kernel kills it",
        cause=Cause.CRASHES,
        says=(r"out-of-memory-\d was ended by SIGKILL though nobody had taken it away",),
        plan=_plan(
            _service("out-of-memory", _uvicorn()),
            _rarely("/import"),
            replicas=2,
            restarts=0,
            settle=1.0,
        ),
    ),
    Broken(
        how="after SIGTERM it answers 503, to its users as to its probes",
        cause=Cause.ANSWERS_ERRORS,
        says=(r"\d+ requests answered with 5xx \(GET /: 503\), \d+ of them after the signal",),
        plan=_plan(_service("unavailable", _program("unavailable"))),
    ),
    Broken(
        how="the preStop sleep leaves too little of the grace period for the reports that are being made",
        cause=Cause.PRE_STOP_TOO_LONG,
        says=(r"preStop used 1\.\d s of the grace period of 2\.4 s, 2\.\d s were left",),
        plan=_plan(
            _service("long-pre-stop", _uvicorn(), grace_period=2.4, pre_stop=1.6),
            _load("/report?seconds=2.4"),
            removal_lag=1.6,
        ),
    ),
    Broken(
        how="one process that does a twentieth of a second's work in its event loop, and too many users",
        cause=Cause.OVERLOADED,
        says=(r"\d+ requests without an answer in time at 80 requests a second, within 1 s",),
        plan=_plan(
            _service("overloaded", _uvicorn(), pre_stop=0.8),
            _load("/pdf?seconds=0.05", timeout=1.0),
            settle=1.5,
            removal_lag=0.5,
        ),
    ),
)

ALSO: Final[tuple[Broken, ...]] = (
    Broken(
        how="the same entrypoint, but not PID 1: the shell dies of SIGTERM, and takes the service with it",
        cause=Cause.SIGNAL_NOT_DELIVERED,
        says=(r"SIGTERM ended the shell \(sh rig", r"the service behind it was killed with it"),
        plan=_plan(_service("shell-in-front", ("sh", _ENTRYPOINT, *_uvicorn()))),
    ),
    Broken(
        how="an entrypoint without `exec`, and a service that would not listen either",
        cause=Cause.SIGNAL_NOT_DELIVERED,
        says=(r"SIGTERM went to sh",),
        plan=_plan(
            _service(
                "deaf-behind-shell",
                ("sh", _ENTRYPOINT, *_program("nobody_looks")),
                pid1=True,
                grace_period=1.0,
            )
        ),
    ),
    Broken(
        how="an entrypoint that ends in `exec`, as it should, and a service that does not listen",
        cause=Cause.IGNORES_SIGNAL,
        says=(r"nothing changed after SIGTERM",),
        plan=_plan(
            _service(
                "deaf-behind-exec",
                ("sh", _ENTRYPOINT_EXEC, *_program("nobody_looks")),
                pid1=True,
                grace_period=1.0,
            )
        ),
    ),
    Broken(
        how="a stream that nobody ends, and little time after preStop; more of that would not help",
        cause=Cause.NEVER_ENDS,
        says=(r"with 2 streams still open",),
        plan=_plan(
            _service("stream-after-pre-stop", _uvicorn(), grace_period=1.5, pre_stop=1.0),
            _load(holds=(Hold(kind=HoldKind.EVENTS, path="/events", count=2),)),
        ),
    ),
    Broken(
        how="the same with two workers: their parent holds the listener open, but nobody accepts any more",
        cause=Cause.NEVER_ENDS,
        says=(r"with \d streams? still open and \d+ requests still unanswered",),
        plan=_plan(
            _service("endless-stream-of-workers", _uvicorn("--workers", "2"), grace_period=2.0),
            _load(holds=(Hold(kind=HoldKind.EVENTS, path="/events", count=2),)),
            removal_lag=1.5,  # its parent looks for signals every half a second
        ),
    ),
    Broken(
        how="too many users, and it does not wait for those that it has not read yet when it leaves",
        cause=Cause.OVERLOADED,
        says=(r"\d+ requests without an answer in time",),
        plan=_plan(
            _service("overloaded-and-abrupt", _uvicorn(), grace_period=1.0),
            _load("/pdf?seconds=0.05", timeout=1.0),
            settle=1.5,
            removal_lag=0.5,
        ),
    ),
    Broken(
        how="a name in its command is wrong",
        cause=Cause.CRASHES,
        says=(r"no-such-app-1 ended with exit code [1-9] though nobody had taken it away",),
        exit_code=2,
        plan=_plan(_service("no-such-app", _uvicorn(app="web:none"))),
    ),
)
"""More than one thing is wrong, or one of the fifteen in another form."""

SOUND: Final[tuple[Played, ...]] = (
    Played(
        how="an app under graceful run",
        plan=_plan(
            _service(
                "graceful-run",
                (
                    *(sys.executable, "-m", "graceful", "run", f"{_PROGRAMS}.web:app"),
                    *("--host", HOST, "--port", PORT, "--lame-duck", "1", "--grace-period", "10"),
                ),
            ),
            removal_lag=0.5,
        ),
    ),
    Played(
        how="plain uvicorn behind a preStop sleep, and users that keep no connection",
        plan=_plan(_service("uvicorn-pre-stop", _uvicorn(), pre_stop=1.0), _load(kept=0), removal_lag=0.5),
    ),
    Played(
        how="a service without a framework that does all of it right",
        plan=_plan(_service("by-hand", _program("by_hand")), _load(kept=4), removal_lag=0.5),
    ),
)
