"""Rehearsals made on paper: what the ledger of one would hold, for services that behave as they are told."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from graceful.rehearse.model import (
    Death,
    Entry,
    Event,
    Happening,
    Hold,
    HoldKind,
    HttpGet,
    LoadPlan,
    Outcome,
    Plan,
    Probe,
    ProbeName,
    Rehearsal,
    RequestSpec,
    Service,
)

SERVICE = Service(
    name="shop",
    command=("uvicorn", "shop:app", "--port", "{port}"),
    readiness=Probe(action=HttpGet(path="/ready"), period=1.0, failure_threshold=1),
    grace_period=6.0,
)
BEGAN = 1000.0  # no clock begins at 0
READY_AFTER = 0.4
LATE = 0.0005
QUICK, SLOW = "GET /", "GET /slow"
HELD = Hold(kind=HoldKind.EVENTS, path="/events", count=2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manners:
    """What a replica does when it is told to go: seconds after the signal, None for never.

    `cuts`: it does not wait for what is in flight when it ends; `breaks_kept`: every n-th request on a kept
    connection meets its end; `errors_after`: from then on it answers 503; `signal_arrives`: what is known of
    the signal's way.
    """

    closes: float | None = 2.0
    ends: float | None = 2.2
    not_ready: float | None = 0.2
    code: int = 0
    cuts: bool = False
    breaks_kept: int = 0
    errors_after: float | None = None
    signal_arrives: bool | None = None
    output: str = ""


GOOD = Manners()


@dataclass(slots=True)
class _Life:
    """One replica."""

    name: str
    created: float
    ready: float
    death: Death | None = None

    def listed(self, at: float) -> bool:
        gone = None if self.death is None else self.death.unlisted
        return self.ready <= at and (gone is None or at < gone)


@dataclass(slots=True, kw_only=True)
class Making:
    """Plays a plan on paper: replicas in turn, requests evenly, each with the outcome that manners make."""

    plan: Plan
    manners: Manners
    slow: float = 0.6
    lives: list[_Life] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)

    def play(self) -> Rehearsal:
        now = BEGAN
        for number in range(self.plan.replicas):
            self._create(f"shop-{number + 1}", now)
        now += READY_AFTER + self.plan.settle
        loading = BEGAN + READY_AFTER
        for number in range(1 if self.plan.once else self.plan.restarts):
            if not self.plan.once:
                self._create(f"shop-{self.plan.replicas + number + 1}", now)
                now += READY_AFTER + 0.1
            now = self._take_away(self.lives[number], now) + 0.2
        ended = now + self.plan.settle
        entries = sorted(
            [*self._requests(loading, ended), *self._held(loading, ended)], key=lambda e: e.ended
        )
        return Rehearsal(
            plan=self.plan,
            began=BEGAN,
            ended=ended,
            events=tuple(sorted(self.events, key=lambda event: event.at)),
            entries=tuple(entries),
            deaths=tuple(life.death for life in self.lives if life.death is not None),
            lateness=0.004,
        )

    def _create(self, name: str, at: float) -> None:
        ready = at + READY_AFTER
        self.lives.append(_Life(name, at, ready))
        self._tell(name, at, Happening.CREATED)
        self._tell(name, at + 0.01, Happening.STARTED)
        self._probe(name, ready, ok=True)
        self._tell(name, ready, Happening.READY)
        self._tell(name, ready, Happening.LISTED)

    def _take_away(self, life: _Life, at: float) -> float:
        """Returns when it is over."""
        service, manners = self.plan.service, self.manners
        pre_stop = 0.0 if isinstance(service.pre_stop, tuple) else service.pre_stop
        signalled = at + min(pre_stop, service.grace_period)
        killed_at = max(at + service.grace_period, signalled + (2.0 if pre_stop else 0.0))
        ended = killed_at if manners.ends is None else signalled + manners.ends
        killed = ended >= killed_at
        ended = min(ended, killed_at) + (0.003 if killed else 0.0)
        closed = ended if manners.closes is None else min(signalled + manners.closes, ended)
        not_ready = None if manners.not_ready is None else signalled + manners.not_ready
        life.death = Death(
            replica=life.name,
            taken_away=at,
            signalled=signalled,
            unlisted=at + self.plan.removal_lag,
            not_ready=not_ready,
            listener_closed=closed,
            killed=killed_at if killed else None,
            ended=ended,
            code=-9 if killed else manners.code,
            output=manners.output,
        )
        self._tell_death(life.death, pre_stop)
        return ended

    def _tell_death(self, death: Death, pre_stop: float) -> None:
        name = death.replica
        self._tell(name, death.taken_away, Happening.TAKEN_AWAY)
        if pre_stop:
            self._tell(name, death.taken_away, Happening.PRE_STOP_BEGAN, f"sleep {pre_stop:g} s")
            self._tell(name, death.signalled, Happening.PRE_STOP_ENDED)
        self.events.append(
            Event(
                at=death.signalled or death.taken_away,
                replica=name,
                what=Happening.SIGNALLED,
                detail=self.plan.service.stop_signal,
                ok=self.manners.signal_arrives,
            )
        )
        if death.not_ready is not None:
            self._probe(name, death.not_ready, ok=False)
            self._tell(name, death.not_ready, Happening.NOT_READY)
        self._tell(name, death.unlisted, Happening.UNLISTED)
        if death.killed is None:
            self._tell(name, death.listener_closed, Happening.LISTENER_CLOSED)
        self._tell(name, death.killed, Happening.KILLED)
        self.events.append(Event(at=death.ended or 0, replica=name, what=Happening.ENDED, code=death.code))

    def _tell(self, name: str, at: float | None, what: Happening, detail: str = "") -> None:
        if at is not None:
            self.events.append(Event(at=at, replica=name, what=what, detail=detail))

    def _probe(self, name: str, at: float, *, ok: bool) -> None:
        self.events.append(
            Event(
                at=at,
                replica=name,
                what=Happening.PROBED,
                detail="200" if ok else "503: lame duck",
                probe=ProbeName.READINESS,
                ok=ok,
            )
        )

    def _requests(self, began: float, ended: float) -> Iterator[Entry]:
        load = self.plan.load
        for number in range(int((ended - began) * load.rate)):
            due = began + number / load.rate
            kept = number % 2 == 0
            listed = [life for life in self.lives if life.listed(due)]
            old = self._flows_on(due + LATE) if number % 4 == 0 else None
            if old is not None or listed:
                yield self._entry(old or listed[number // 2 % len(listed)], number, due, kept=kept)

    def _flows_on(self, at: float) -> _Life | None:
        """A replica that is not listed any more, and to which kept connections still lead."""
        for life in self.lives:
            death = life.death
            if death is not None and death.unlisted is not None and death.listener_closed is not None:
                end = death.listener_closed if self.manners.closes is not None else death.ended
                if death.unlisted <= at < (end or 0):
                    return life
        return None

    def _entry(self, life: _Life, number: int, due: float, *, kept: bool) -> Entry:
        is_slow = number % 10 in {3, 6}
        took = self.slow if is_slow else 0.004 + number % 7 / 1000
        sent = due + LATE
        outcome, ended, detail = self._outcome(life.death, number, sent, sent + took, kept=kept)
        signalled = None if life.death is None else life.death.signalled
        return Entry(
            kind=SLOW if is_slow else QUICK,
            replica=life.name,
            kept=kept,
            due=due,
            sent=sent,
            ended=ended,
            outcome=outcome,
            detail=detail,
            after_signal=None if signalled is None else sent - signalled,
        )

    def _outcome(
        self, death: Death | None, number: int, sent: float, done: float, *, kept: bool
    ) -> tuple[Outcome, float, str]:
        manners = self.manners
        if death is None or death.ended is None or death.signalled is None:
            return Outcome.ANSWERED, done, ""
        dying = sent >= death.signalled
        errors = manners.errors_after
        if death.listener_closed is not None and sent >= death.listener_closed:
            return Outcome.REFUSED, sent + 0.001, ""
        if errors is not None and sent >= death.signalled + errors:
            return Outcome.SERVER_ERROR, sent + 0.004, "503"
        if dying and kept and manners.breaks_kept and number // 2 % manners.breaks_kept == 0:
            return Outcome.RESET_KEPT, sent + 0.001, "ConnectionResetError"
        if done > death.ended and (death.killed is not None or manners.cuts):
            return (Outcome.RESET_KEPT if kept else Outcome.RESET), death.ended, "end of file"
        return Outcome.ANSWERED, done, ""

    def _held(self, began: float, ended: float) -> Iterator[Entry]:
        for hold in self.plan.load.holds:
            for number in range(hold.count):
                death = self.lives[number % len(self.lives)].death
                over = ended if death is None or death.ended is None else death.ended
                cut = death is not None and (death.killed is not None or self.manners.cuts)
                yield Entry(
                    kind=f"{hold.kind} {hold.path}",
                    replica=self.lives[number % len(self.lives)].name,
                    kept=True,
                    due=began,
                    sent=began,
                    ended=over,
                    outcome=Outcome.TRUNCATED if cut else Outcome.ENDED_WELL,
                )


def plan(  # noqa: PLR0913 - what a plan is made of
    service: Service = SERVICE,
    *,
    lag: float = 1.0,
    restarts: int = 3,
    rate: float = 60.0,
    once: bool = False,
    holds: tuple[Hold, ...] = (),
    timeout: float = 10.0,
) -> Plan:
    """A plan of two replicas and two kinds of requests."""
    requests = (RequestSpec(path="/", weight=4), RequestSpec(path="/slow"))
    return Plan(
        service=service,
        restarts=restarts,
        removal_lag=lag,
        once=once,
        load=LoadPlan(rate=rate, requests=requests, holds=holds, timeout=timeout),
    )


def made(manners: Manners = GOOD, of: Plan | None = None, *, slow: float = 0.6) -> Rehearsal:
    """A rehearsal of a service of such manners."""
    return Making(plan=plan() if of is None else of, manners=manners, slow=slow).play()


def with_events(rehearsal: Rehearsal, *events: Event) -> Rehearsal:
    """The same, in which that happened too."""
    return replace(rehearsal, events=tuple(sorted((*rehearsal.events, *events), key=lambda event: event.at)))


def with_losses(
    rehearsal: Rehearsal, outcome: Outcome, which: Iterable[Entry], detail: str = ""
) -> Rehearsal:
    """The same, in which `which` had that outcome."""
    chosen = {id(entry) for entry in which}
    entries = tuple(
        replace(entry, outcome=outcome, detail=detail) if id(entry) in chosen else entry
        for entry in rehearsal.entries
    )
    return replace(rehearsal, entries=entries)
