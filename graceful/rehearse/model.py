"""What is rehearsed, and what was seen: plain frozen values that every other part of the rehearsal shares.

Times are seconds. Instants are seconds of the event loop's clock; people are shown them from the beginning of
the rehearsal, or from the moment in which a replica was taken away.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Final, TypeAlias

PORT: Final = "{port}"
"""In a command, an environment variable or a probe: the port that the replica is to listen on."""

SOCKET: Final = "{socket}"
"""The same for a Unix socket: its path."""

AFTER_PRE_STOP: Final = 2.0
"""Seconds that are left for the process after its preStop hook, even if that took the whole grace period."""

_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


# What is asked of a replica, as Kubernetes' API has it.
# https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/#Probe


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpGet:
    """Healthy is a status of 200 to 399. `port` None: the replica's."""

    path: str = "/"
    port: int | None = None
    scheme: str = "http"
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpSocket:
    """Healthy is a connection. `port` None: the replica's."""

    port: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Exec:
    """Healthy is an exit code of 0."""

    command: tuple[str, ...]


Action: TypeAlias = HttpGet | TcpSocket | Exec


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """When an action is taken, and how many results in a row change the state. The defaults are the API's.

    `grace_period` is that of a kill for this probe's sake (liveness and startup); None: the service's.
    """

    action: Action
    initial_delay: float = 0.0
    period: float = 10.0
    timeout: float = 1.0
    success_threshold: int = 1
    failure_threshold: int = 3
    grace_period: float | None = None


class ProbeName(StrEnum):
    """Which question a probe answers."""

    STARTUP = "startup"
    LIVENESS = "liveness"
    READINESS = "readiness"


class RestartPolicy(StrEnum):
    """When a process that has ended is started again."""

    ALWAYS = "Always"
    ON_FAILURE = "OnFailure"
    NEVER = "Never"


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One service: how it is started, asked, and stopped.

    `pre_stop` is a sleep in seconds or a command, run before the signal and counted against the grace period.
    Without a readiness probe a replica is ready when it accepts connections. `unix_socket`: it listens on
    one instead of on a port; `tls`: it speaks TLS; `pid1`: it is PID 1 of a PID namespace; `signal_all`: the
    signal goes to every process of the replica, as on Heroku, not to the first one only.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=lambda: _NOTHING)
    folder: str | None = None
    init_commands: tuple[tuple[str, ...], ...] = ()
    readiness: Probe | None = None
    liveness: Probe | None = None
    startup: Probe | None = None
    grace_period: float = 30.0
    pre_stop: float | tuple[str, ...] = 0.0
    stop_signal: str = "SIGTERM"
    restart_policy: RestartPolicy = RestartPolicy.ALWAYS
    pid1: bool = False
    unix_socket: bool = False
    tls: bool = False
    signal_all: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestSpec:
    """A request that the load sends, `weight` times as often as one of weight 1.

    `expected` None: any answer below 500 is right. `pause` is the time between the halves of its body.
    """

    method: str = "GET"
    path: str = "/"
    headers: tuple[tuple[str, str], ...] = ()
    body_bytes: int = 0
    pause: float = 0.0
    weight: float = 1.0
    expected: bytes | None = None

    @property
    def kind(self) -> str:
        """`GET /slow`: how it is named in the ledger."""
        return f"{self.method} {self.path.partition('?')[0]}"


class HoldKind(StrEnum):
    """What is held open for the whole rehearsal beside the load."""

    STREAM = "stream"
    EVENTS = "events"
    WEBSOCKET = "websocket"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """`count` of them to `path`; each is opened again, and counts as one more, when it has ended."""

    kind: HoldKind
    path: str
    count: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadPlan:
    """An open loop: `rate` requests a second from `seed`, every second one on one of `kept` connections.

    `max_lateness`: from a load that was later than that nothing is concluded, see `Rehearsal.lateness`.
    """

    rate: float = 100.0
    requests: tuple[RequestSpec, ...] = (RequestSpec(),)
    holds: tuple[Hold, ...] = ()
    kept: int = 20
    timeout: float = 10.0
    seed: int = 1
    max_lateness: float = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One rehearsal: `replicas` of a service, of which `restarts` are replaced one after the other.

    `removal_lag` is how long a replica stays in the endpoint list after it was taken away. `once`: one
    replica dies and is not replaced. `settle`: for so long the load runs before the first and after the last.
    A replica that is not ready within `ready_within` is not waited for: more than any startup probe's default
    patience.
    """

    service: Service
    replicas: int = 2
    restarts: int = 3
    removal_lag: float = 1.0
    once: bool = False
    settle: float = 1.0
    ready_within: float = 60.0
    load: LoadPlan = field(default_factory=LoadPlan)


# What was seen.


class Happening(StrEnum):
    """What can happen to a replica, in the words of the timeline."""

    CREATED = "created"
    INIT_ENDED = "init command ended"
    STARTED = "process started"
    PROBED = "probe"
    READY = "ready"
    NOT_READY = "not ready"
    LISTED = "listed"
    UNLISTED = "not listed any more"
    TAKEN_AWAY = "taken away"  # the decision: the grace period begins
    PRE_STOP_BEGAN = "preStop began"
    PRE_STOP_ENDED = "preStop ended"
    SIGNALLED = "signal sent"
    LISTENER_CLOSED = "listener closed"  # the first new connection that was refused, or seen by a probe
    KILLED = "SIGKILL sent"
    ENDED = "process ended"
    RESTARTED = "started again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One happening. `probe` and `ok` say which probe and what it found; `code` how a process ended, negative
    by that signal. Of a signal `ok` says whether it gets past the shells to the service, None: nobody knows.
    """

    at: float
    replica: str
    what: Happening
    detail: str = ""
    probe: ProbeName | None = None
    ok: bool | None = None
    code: int | None = None


class Outcome(StrEnum):
    """What became of a request, or of something held open."""

    ANSWERED = "answered"
    REFUSED = "refused"
    RESET = "reset"
    RESET_KEPT = "reset on a kept connection"
    TRUNCATED = "truncated"
    TIMEOUT = "timeout"
    SERVER_ERROR = "5xx"
    WRONG = "wrong answer"
    ENDED_WELL = "ended well"  # of what is held open: a close frame, the last chunk, the end of the events

    @property
    def lost(self) -> bool:
        """Whether somebody did not get what was asked for."""
        return self not in {Outcome.ANSWERED, Outcome.ENDED_WELL}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One request: when it was due, sent and over, to which replica, and what became of it.

    `after_signal` is when it was sent, counted from the signal to its replica (negative: before); None where
    that replica had none.
    """

    kind: str
    replica: str
    kept: bool
    due: float
    sent: float
    ended: float
    outcome: Outcome
    detail: str = ""
    after_signal: float | None = None

    @property
    def late(self) -> float:
        """By how many seconds it was sent too late: the machine's fault, not the service's."""
        return self.sent - self.due


@dataclass(frozen=True, slots=True, kw_only=True)
class Death:
    """One replica that was taken away: instants, None where it did not come to that, and its end.

    `listener_closed` is the first instant at which a new connection was refused.
    """

    replica: str
    taken_away: float
    signalled: float | None
    unlisted: float | None
    not_ready: float | None
    listener_closed: float | None
    killed: float | None
    ended: float | None
    code: int | None
    output: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsal:
    """All that was seen of one plan, in the order of time."""

    plan: Plan
    began: float
    ended: float
    events: tuple[Event, ...]
    entries: tuple[Entry, ...]
    deaths: tuple[Death, ...]
    lateness: float
    """By how many seconds the punctual 99 % of the requests were late at most."""

    @property
    def lost(self) -> tuple[Entry, ...]:
        """The requests that were not answered whole and right."""
        return tuple(entry for entry in self.entries if entry.outcome.lost)


class Cause(StrEnum):
    """Why something was lost, or a process did not end by itself in time."""

    SIGNAL_NOT_DELIVERED = "the signal did not arrive"
    IGNORES_SIGNAL = "the signal is ignored"
    EXITS_AT_ONCE = "it exits at once"
    LISTENER_CLOSED_EARLY = "the listener closes too early"
    READINESS_LATE = "readiness flips too late"
    NEVER_ENDS = "it does not end"
    GRACE_TOO_SHORT = "the grace period is too short"
    CUTS_IN_FLIGHT = "what is in flight is cut off"
    KEEP_ALIVE_FORGOTTEN = "kept connections are not told"
    LIVENESS_KILLS = "the liveness probe kills it"
    NOT_READY_IN_TIME = "it does not become ready"
    CRASHES = "it crashes"
    ANSWERS_ERRORS = "it answers with errors"
    PRE_STOP_TOO_LONG = "preStop uses up the grace period"
    OVERLOADED = "it cannot bear the load"


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """One cause, what was seen of it, in one sentence, and the way out."""

    cause: Cause
    seen: str
    way_out: str
    losses: int = 0


class Judgement(StrEnum):
    """The verdict over a rehearsal."""

    PASSED = "passed"
    FAILED = "failed"
    NO_VERDICT = "no verdict"  # the machine could not bear the rate


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The judgement, why, and the diagnoses, the first cause first."""

    judgement: Judgement
    why: str
    diagnoses: tuple[Diagnosis, ...] = ()

    @property
    def exit_code(self) -> int:
        """0 nothing lost and all ended by themselves in time, 1 lost or killed, 2 could not run."""
        return {Judgement.PASSED: 0, Judgement.FAILED: 1, Judgement.NO_VERDICT: 2}[self.judgement]
