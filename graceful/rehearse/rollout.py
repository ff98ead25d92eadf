"""The rehearsal itself: replicas behind an endpoint list that learns late, their rolling restart, and the
load that comes in all the while.

New ones first, as a Deployment with maxSurge 1 and maxUnavailable 0 does it: the successor is ready and
listed before the old one is taken away.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from graceful import signals
from graceful.errors import GracefulError
from graceful.rehearse.endpoints import Endpoints
from graceful.rehearse.holds import Holds
from graceful.rehearse.keepers import way_of
from graceful.rehearse.kubelet import Kubelet
from graceful.rehearse.load import Load, LoadError, lateness
from graceful.rehearse.looking import closed_at
from graceful.rehearse.model import (
    PORT,
    SOCKET,
    Death,
    Entry,
    Event,
    Happening,
    Outcome,
    Plan,
    Rehearsal,
    Service,
)
from graceful.rehearse.running import Running, free_port, inherited, start
from graceful.rehearse.wires import Address

_LAST_WORDS: Final = 2000  # characters


class CannotStartError(GracefulError):
    """The service cannot be rehearsed: its command does not run. One line says why."""


class Replica:
    """One replica: a place to listen at, and the kubelet that leads its life there."""

    def __init__(self, service: Service, name: str, folder: Path, tell: Callable[[Event], object]) -> None:
        self.name = name
        port = free_port()
        path = str(folder / f"{name}.sock") if service.unix_socket else None
        self.address = Address(port=port, path=path, tls=service.tls)
        self._places = {PORT: str(port), SOCKET: path or ""}
        self._service = service
        self._environment = {key: self._placed(value) for key, value in service.environment.items()}
        self._process: Running | None = None
        self.kubelet = Kubelet(
            service,
            name,
            port=port,
            start=self._start,
            tell=tell,
            environment={**inherited(), **self._environment},
            unix_socket=path,
        )

    @property
    def output(self) -> str:
        """The end of what its process has written."""
        return "" if self._process is None else self._process.output()

    def with_way(self, signalled: Event) -> Event:
        """The same event, with whether the signal gets past the shells to the service, and who keeps it."""
        if self._process is None:
            return signalled
        way = way_of(signals.number_of(self._service.stop_signal), self._process.pid)
        return replace(signalled, ok=way.arrives, detail=way.keeper or signalled.detail)

    def close(self) -> None:
        """What it has written is forgotten."""
        if self._process is not None:
            self._process.close()
            self._process = None

    async def _start(self) -> Running:
        self.close()  # of a restarted one the last life tells
        command = [self._placed(word) for word in self._service.command]
        try:
            self._process = await start(command, service=self._service, environment=self._environment)
        except OSError as problem:
            message = f"{command[0]} cannot be started: {problem.strerror or problem}"
            raise CannotStartError(message) from problem
        return self._process

    def _placed(self, text: str) -> str:
        for placeholder, place in self._places.items():
            text = text.replace(placeholder, place)
        return text


class Rollout:
    """One run of a plan. `tell` hears each event as it happens, in the order of time."""

    def __init__(self, plan: Plan, tell: Callable[[Event], object] = lambda _: None) -> None:
        self._plan = plan
        self._listener = tell
        self._events: list[Event] = []
        self._deaths: list[Death] = []
        self._replicas: list[Replica] = []
        self._by_name: dict[str, Replica] = {}
        self._tasks = asyncio.TaskGroup()
        self._begun: list[asyncio.Task[Any]] = []
        self._endpoints = Endpoints(self._now, self._tell)
        self._load = Load(plan.load, self._endpoints)
        self._is_over = False
        self._stop = asyncio.Event()
        self._unlisting: dict[str, asyncio.Task[float]] = {}
        self._leaving: set[str] = set()
        self._closed: dict[str, float] = {}

    async def run(self) -> Rehearsal:
        """Rehearse; on return, and where it raises, all processes have ended. Raises CannotStartError and
        LoadError.
        """
        began = self._now()
        with tempfile.TemporaryDirectory(prefix="graceful-") as folder:
            self._folder = Path(folder)
            try:
                async with asyncio.TaskGroup() as self._tasks:
                    try:
                        await self._rehearse()
                    finally:
                        self._is_over = True
                    for task in self._begun:  # those that are left are killed by their kubelets
                        task.cancel()
            except* (CannotStartError, LoadError) as problems:
                raise _first(problems) from None
            finally:
                for replica in self._by_name.values():
                    replica.close()
        return self._written(began)

    def address_of(self, replica: str) -> Address:
        """Where the replica that events call so listens, or listened. Raises KeyError."""
        return self._by_name[replica].address

    async def _rehearse(self) -> None:
        if not await self._add(self._plan.replicas):
            return
        holds = Holds(
            self._plan.load.holds, self._endpoints, self._load.entries.append, seed=self._plan.load.seed
        )
        async with asyncio.TaskGroup() as users:
            users.create_task(self._load.run(self._stop))
            holding = users.create_task(holds.run())
            try:
                await asyncio.sleep(self._plan.settle)
                await self._restart_all()
                await asyncio.sleep(self._plan.settle)
            finally:
                self._stop.set()
                holding.cancel()

    async def _restart_all(self) -> None:
        if self._plan.once:
            await self._take_away()
            return
        for _ in range(self._plan.restarts):
            if not await self._add(1):
                return
            await self._take_away()

    async def _add(self, count: int) -> bool:
        """Whether so many more replicas have become ready, and are listed."""
        new = []
        for _ in range(count):
            name = f"{self._plan.service.name}-{len(self._by_name) + 1}"
            replica = Replica(self._plan.service, name, self._folder, self._tell)
            self._by_name[name] = replica
            new.append(replica)
            self._begun.append(self._tasks.create_task(replica.kubelet.run()))
        try:
            async with asyncio.timeout(self._plan.ready_within):
                ready = await asyncio.gather(*(each.kubelet.became_ready() for each in new))
        except TimeoutError:
            return False
        self._replicas += new
        return all(ready)

    async def _take_away(self) -> None:
        """The oldest replica. On return it has ended, and nobody is sent there any more."""
        old = self._replicas.pop(0)
        death = await old.kubelet.terminate(self._removed(old.name))
        self._deaths.append(replace(death, output=old.output))

    # The endpoint list.

    def _tell(self, event: Event) -> None:
        if self._is_over:
            return
        event = self._with_more(event)
        self._events.append(event)
        self._listener(event)
        if event.what is Happening.READY and event.replica not in self._leaving:
            unlisting = self._unlisting.pop(event.replica, None)
            if unlisting is not None:
                unlisting.cancel()
            self._endpoints.add(event.replica, self._by_name[event.replica].address)
        elif event.what is Happening.NOT_READY:
            self._unlist_soon(event.replica)

    def _with_more(self, event: Event) -> Event:
        """The same event, with what the replica's process shows of itself in that moment."""
        replica = self._by_name[event.replica]
        if event.what is Happening.TAKEN_AWAY:
            self._leaving.add(event.replica)
        elif event.what is Happening.SIGNALLED:
            if event.replica in self._leaving:
                self._begun.append(self._tasks.create_task(self._look(replica)))
            return replica.with_way(event)
        elif event.what is Happening.ENDED and event.replica not in self._leaving:
            return replace(event, detail=replica.output[-_LAST_WORDS:])
        return event

    async def _look(self, replica: Replica) -> None:
        self._closed[replica.name] = await closed_at(replica.address)

    async def _removed(self, replica: str) -> float:
        return await asyncio.shield(self._unlist_soon(replica))

    def _unlist_soon(self, replica: str) -> asyncio.Task[float]:
        """The task that takes it off the list when the lag is over, and returns that instant."""
        found = self._unlisting.get(replica)
        if found is None:
            found = self._unlisting[replica] = self._tasks.create_task(self._unlist(replica))
            self._begun.append(found)
        return found

    async def _unlist(self, replica: str) -> float:
        await asyncio.sleep(self._plan.removal_lag)
        self._endpoints.remove(replica)
        if self._plan.once and not self._endpoints:
            self._stop.set()  # nobody is left, as planned: those who come now are no loss of its
        return self._now()

    # What was seen.

    def _written(self, began: float) -> Rehearsal:
        entries = [self._counted_from_signal(entry) for entry in self._load.entries]
        return Rehearsal(
            plan=self._plan,
            began=began,
            ended=self._now(),
            events=tuple(self._events),
            entries=tuple(entries),
            deaths=tuple(self._with_listener(death, entries) for death in self._deaths),
            lateness=lateness(self._load.entries),
        )

    def _counted_from_signal(self, entry: Entry) -> Entry:
        signalled = next((each.signalled for each in self._deaths if each.replica == entry.replica), None)
        return entry if signalled is None else replace(entry, after_signal=entry.sent - signalled)

    def _with_listener(self, death: Death, entries: list[Entry]) -> Death:
        """The listener has been closed when somebody is refused: a probe, one of the users, or we."""
        refused = [
            entry.sent
            for entry in entries
            if entry.replica == death.replica
            and entry.outcome is Outcome.REFUSED
            and entry.sent >= death.taken_away
        ]
        known = [death.listener_closed, self._closed.get(death.replica), *refused]
        return replace(death, listener_closed=min((at for at in known if at is not None), default=None))

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


def _first(problems: BaseExceptionGroup[Exception]) -> Exception:
    """Of those that were raised together, in whatever groups: they say the same."""
    first = problems.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
