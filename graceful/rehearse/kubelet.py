"""One replica's life, as the kubelet leads it: init commands, the start, probes, restarts, and the end.

https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from graceful.rehearse import commands, probing
from graceful.rehearse.backoff import BackOff
from graceful.rehearse.container import Container, Process
from graceful.rehearse.model import (
    AFTER_PRE_STOP,
    Death,
    Event,
    Happening,
    Probe,
    ProbeName,
    RestartPolicy,
    Service,
    TcpSocket,
)
from graceful.rehearse.streaks import Streak, Ticker
from graceful.rehearse.waiting import happened, unless

# Of a replica without a readiness probe: it is asked only until it accepts a connection.
_ACCEPTS: Final = Probe(action=TcpSocket(), period=0.05)


class Kubelet:
    """Leads the life of one replica of `service`, and tells each event of it, in order.

    `run` is the life; `terminate` ends it, from another task. `start` starts the process and is called again
    for each restart. `environment` (whole, not added to ours) and `folder` are those of probes, init commands
    and hooks. What `start` and `tell` raise comes out of `run`.
    """

    def __init__(  # noqa: PLR0913 - named, all but the first two
        self,
        service: Service,
        replica: str,
        *,
        port: int,
        start: Callable[[], Awaitable[Process]],
        tell: Callable[[Event], object],
        environment: Mapping[str, str],
        unix_socket: str | None = None,
        act: Callable[..., Awaitable[probing.Result]] = probing.act,
        run_command: Callable[..., Awaitable[commands.Ended]] = commands.run,
    ) -> None:
        self.service = service
        self.replica = replica
        self.is_ready = False
        self.restarts = 0
        self._start = start
        self._tell = tell
        self._act = act
        self._run_command = run_command
        self._place = {"port": port, "unix_socket": unix_socket, "tls": service.tls}
        self._surroundings = {"environment": environment, "folder": service.folder}
        self._port = port
        self._container: Container | None = None
        self._starting = asyncio.Lock()
        self._deleted = asyncio.Event()
        self._decided = asyncio.Event()  # it was ready once, or it is over
        self._over = asyncio.Event()
        self._was_ready = False
        self._not_ready_at: float | None = None

    @property
    def process(self) -> Process | None:
        """The one that runs, or the last one that did."""
        return self._container.process if self._container else None

    async def became_ready(self) -> bool:
        """True when it is ready for the first time; False when its life is over without, or its process has
        ended twice: it would be started again, but there is little hope.
        """
        await self._decided.wait()
        return self._was_ready

    async def run(self) -> None:
        """Lead the life. Returns when it has ended for good, or was terminated; no process is left then, nor
        where this is cancelled: that one is killed.
        """
        self._say(Happening.CREATED)
        try:
            if await self._initialised():
                await self._keep_running()
        finally:
            self._over.set()
            self._decided.set()

    async def terminate(self, removal: Awaitable[float] | None = None) -> Death:
        """Take the replica away: the grace period begins now, with preStop, and ends with SIGKILL.

        Liveness and startup probes stop, readiness goes on; nothing is started any more. `removal` ends with
        the instant at which nobody is sent here any more. On return both are over. Call it once, and only
        while `run` runs or after it.
        """
        taken_away = self._now()
        removing = asyncio.ensure_future(removal) if removal is not None else None
        self._say(Happening.TAKEN_AWAY)
        self._deleted.set()
        async with self._starting:
            container = self._container
        if container is not None:
            container.stop_restarting()
            await self._stop(container, self.service.grace_period)
        await self._over.wait()
        unlisted = await removing if removing is not None else None
        return Death(
            replica=self.replica,
            taken_away=taken_away,
            signalled=container.signalled if container else None,
            unlisted=unlisted,
            not_ready=self._not_ready_at,
            listener_closed=container.listener_closed if container else None,
            killed=container.killed if container else None,
            ended=container.ended_at if container else None,
            code=container.code if container else None,
        )

    # The life up to the end of a process.

    async def _initialised(self) -> bool:
        """Whether all init commands have succeeded, one after the other. The policy tries each again."""
        for command in self.service.init_commands:
            back_off = BackOff()
            while not await self._init_command(command):
                if self._deleted.is_set() or self.service.restart_policy is RestartPolicy.NEVER:
                    return False
                if not await self._pause(back_off.delay(ran=0.0)):
                    return False
        return not self._deleted.is_set()

    async def _init_command(self, command: tuple[str, ...]) -> bool:
        """Whether it has succeeded; it is cut short by a deletion."""
        ended = await unless(self._deleted, self._command(command))
        if ended is None:
            return False
        line = f": {ended.line}" if ended.line else ""
        detail = f"{' '.join(command)}{line}"
        self._say(Happening.INIT_ENDED, detail=detail, ok=ended.code == 0, code=ended.code)
        return ended.code == 0

    async def _keep_running(self) -> None:
        back_off = BackOff()
        while True:
            container = await self._begin()
            await self._attend(container)
            if self.restarts:
                self._decided.set()
            if self._deleted.is_set() or not self._is_restarted(container):
                return
            if not await self._pause(back_off.delay(container.ended_at - container.began)):
                return

    def _is_restarted(self, container: Container) -> bool:
        """OnFailure also holds for one that was killed for its probe's sake and ended with 0."""
        policy = self.service.restart_policy
        if policy is RestartPolicy.ON_FAILURE:
            return container.failed or container.code != 0
        return policy is RestartPolicy.ALWAYS

    async def _pause(self, seconds: float) -> bool:
        """Whether it may go on after so long: not where it was deleted meanwhile."""
        return not await happened(self._deleted, within=seconds)

    async def _begin(self) -> Container:
        """A process that has been started. A deletion that comes meanwhile waits for it."""
        async with self._starting:
            process = await self._start()
            again = self._container is not None
            self.restarts += again
            self._container = container = Container(process, self._now())
            if self.service.startup is None:
                container.started.set()
            what = Happening.RESTARTED if again else Happening.STARTED
            self._say(what, detail=f"pid {process.pid}")
            return container

    async def _attend(self, container: Container) -> None:
        """Probe it until it has ended."""
        try:
            async with asyncio.TaskGroup() as group:
                readiness = group.create_task(self._watch_readiness(container))
                container.restarting = group.create_task(self._watch_health(container))
                code = await container.process.wait()
                self._note_end(container, code)
                readiness.cancel()
                container.restarting.cancel()
        finally:
            if container.code is None:  # cancelled, or a probe of ours is at fault
                container.process.kill()
                self._note_end(container, await container.process.wait())

    def _note_end(self, container: Container, code: int) -> None:
        container.code = code
        container.ended_at = self._say(Happening.ENDED, code=code)
        container.ended.set()
        self._set_ready(container, ready=False, detail="the process has ended")

    # Probes.

    async def _watch_health(self, container: Container) -> None:
        """Whichever of startup and liveness fails ends the process, for a restart."""
        failed = await self._failed(container)
        if failed is None:
            return
        name, probe = failed
        container.failed = True
        grace_period = self.service.grace_period if probe.grace_period is None else probe.grace_period
        await self._stop(container, grace_period, why=f"the {name} probe has failed")

    async def _failed(self, container: Container) -> tuple[ProbeName, Probe] | None:
        """Startup until it succeeds, then liveness: the one that has failed. None where neither will."""
        startup, liveness = self.service.startup, self.service.liveness
        if startup is not None:
            if not await self._probed(container, ProbeName.STARTUP, startup, until=_either):
                return ProbeName.STARTUP, startup
            container.started.set()
        if liveness is None:
            return None
        await self._probed(container, ProbeName.LIVENESS, liveness, until=_failure)
        return ProbeName.LIVENESS, liveness

    async def _watch_readiness(self, container: Container) -> None:
        await container.started.wait()
        probe = self.service.readiness
        if probe is not None:
            found = functools.partial(self._readiness_found, container)
            await self._probed(container, ProbeName.READINESS, probe, until=found)
            return
        ticker = Ticker(container.began, _ACCEPTS.period)
        accepts = False
        while not accepts:
            await ticker.tick()
            accepts = (await self._asked(_ACCEPTS)).ok
        self._set_ready(container, ready=True, detail="it accepts connections")

    def _readiness_found(self, container: Container, *, ok: bool) -> bool:
        """Never enough: readiness is asked for as long as the process lives."""
        self._set_ready(container, ready=ok)
        return False

    async def _probed(
        self, container: Container, name: ProbeName, probe: Probe, *, until: Callable[..., bool]
    ) -> bool:
        """Take `probe` until `until` has had enough of what its thresholds have decided; that is returned."""
        streak = Streak(probe)
        ticker = Ticker(container.began + probe.initial_delay, probe.period)
        while True:
            await ticker.tick()
            result = await self._asked(probe)
            self._say(Happening.PROBED, detail=result.detail, probe=name, ok=result.ok)
            if result.refused:
                self._note_closed(container)
            if streak.add(ok=result.ok) and until(ok=result.ok):
                return result.ok

    def _note_closed(self, container: Container) -> None:
        """Of one that has been ready and is being stopped; before that there was nothing to be closed."""
        if container.stopping and container.was_ready and container.listener_closed is None:
            container.listener_closed = self._say(Happening.LISTENER_CLOSED, detail="refused a probe")

    async def _asked(self, probe: Probe) -> probing.Result:
        return await self._act(probe.action, timeout=probe.timeout, **self._place, **self._surroundings)

    def _set_ready(self, container: Container, *, ready: bool, detail: str = "") -> None:
        if ready == self.is_ready:
            return
        self.is_ready = ready
        at = self._say(Happening.READY if ready else Happening.NOT_READY, detail=detail)
        self._not_ready_at = None if ready else at
        if ready:
            self._was_ready = container.was_ready = True
            self._decided.set()

    # The end of a process.

    async def _stop(self, container: Container, grace_period: float, *, why: str = "") -> None:
        """preStop, the signal, and SIGKILL at the end of the grace period; on return it has ended."""
        deadline = self._now() + grace_period
        container.stopping = True
        if self.service.pre_stop and grace_period > 0 and not container.ended.is_set():
            await self._pre_stop(container, grace_period)
            deadline = max(deadline, self._now() + AFTER_PRE_STOP)
        if container.ended.is_set():
            return
        signal = self.service.stop_signal
        container.signalled = self._say(Happening.SIGNALLED, detail=f"{signal}: {why}" if why else signal)
        container.process.signal(signal)
        if not await happened(container.ended, within=deadline - self._now()):
            container.killed = self._say(Happening.KILLED)
            container.process.kill()
            await container.ended.wait()  # nobody survives that

    async def _pre_stop(self, container: Container, seconds: float) -> None:
        """The hook, cut short where it takes longer than `seconds`, or the process ends."""
        hook = self.service.pre_stop
        if isinstance(hook, tuple):
            self._say(Happening.PRE_STOP_BEGAN, detail=" ".join(hook))
            ended = await unless(container.ended, self._command(hook), within=seconds)
            detail = "cut short" if ended is None else f"exit code {ended.code}"
            ok = ended is not None and ended.code == 0
        else:
            self._say(Happening.PRE_STOP_BEGAN, detail=f"sleep {hook:g} s")
            ok = not await happened(container.ended, within=min(hook, seconds)) and hook <= seconds
            detail = "" if ok else "cut short"
        self._say(Happening.PRE_STOP_ENDED, detail=detail, ok=ok)

    # Common to all.

    async def _command(self, command: tuple[str, ...]) -> commands.Ended:
        return await self._run_command(commands.for_port(command, self._port), **self._surroundings)

    def _say(
        self,
        what: Happening,
        *,
        detail: str = "",
        probe: ProbeName | None = None,
        ok: bool | None = None,
        code: int | None = None,
    ) -> float:
        """Tell it, and say when it was."""
        at = self._now()
        event = Event(at=at, replica=self.replica, what=what, detail=detail, probe=probe, ok=ok, code=code)
        self._tell(event)
        return at

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


def _either(*, ok: bool) -> bool:  # noqa: ARG001 - whichever it is
    return True


def _failure(*, ok: bool) -> bool:
    return not ok
