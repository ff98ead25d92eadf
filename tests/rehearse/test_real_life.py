"""One replica's life with a real process, real probes and real commands."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from graceful.rehearse.kubelet import Kubelet
from graceful.rehearse.model import (
    Death,
    Event,
    Exec,
    Happening,
    HttpGet,
    Probe,
    ProbeName,
    Service,
    TcpSocket,
)

TINY = Path(__file__).with_name("tiny_service.py")
PATIENCE = 60.0


class Told:
    """What has been told so far; whoever waits for more is woken."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._changed = asyncio.Condition()
        self._waking: set[asyncio.Task[None]] = set()

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        waking = asyncio.ensure_future(self._wake())
        self._waking.add(waking)
        waking.add_done_callback(self._waking.discard)

    async def until(self, is_enough: Callable[[list[Event]], bool]) -> None:
        async with asyncio.timeout(PATIENCE), self._changed:
            await self._changed.wait_for(lambda: is_enough(self.events))

    async def _wake(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    def said(self) -> list[str]:
        """What happened but for the probes, and what one of them sees if it comes in the very moment of the
        end.
        """
        unsaid = Happening.LISTENER_CLOSED
        return [str(event.what) for event in self.events if event.probe is None and event.what is not unsaid]


class RealProcess:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.pid = process.pid

    def signal(self, name: str) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(getattr(signal, name))

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    async def wait(self) -> int:
        return await self._process.wait()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def kubelet(service: Service, told: Told) -> Kubelet:
    port = free_port()

    async def start() -> RealProcess:
        command = [each.replace("{port}", str(port)) for each in service.command]
        return RealProcess(await asyncio.create_subprocess_exec(*command, start_new_session=True))

    return Kubelet(service, "web-1", port=port, start=start, tell=told, environment=dict(os.environ))


def tiny(folder: Path, *options: str, **more: object) -> Service:
    ready = Probe(action=HttpGet(path="/ready"), period=0.05, timeout=30.0, failure_threshold=2)
    alive = Exec(command=("sh", "-c", f"test ! -e {folder}/sick || {{ echo it is sick; exit 1; }}"))
    os.mkfifo(folder / "leave")
    return Service(
        name="tiny",
        command=(sys.executable, str(TINY), "{port}", str(folder), *options),
        init_commands=(("touch", str(folder / "migrated")),),
        startup=Probe(action=TcpSocket(), period=0.05, timeout=30.0, failure_threshold=600),
        readiness=ready,
        liveness=Probe(action=alive, period=0.05, timeout=30.0, failure_threshold=2),
        **more,  # type: ignore[arg-type]  # fields of Service
    )


def test_a_life_with_a_restart_and_a_death(tmp_path: Path) -> None:
    service = tiny(tmp_path, pre_stop=("sh", "-c", f"echo {{port}} > {tmp_path}/hook"))
    told = Told()

    async def let_go(after: Happening, times: int) -> None:
        """It may leave once readiness has failed after so many signals."""
        await told.until(lambda events: [event.what for event in events].count(after) == times)
        await told.until(lambda events: events[-1].probe is ProbeName.READINESS and events[-1].ok is False)
        await told.until(lambda events: [event.what for event in events].count(Happening.NOT_READY) == times)
        await asyncio.to_thread((tmp_path / "leave").write_bytes, b"")

    async def main() -> tuple[Kubelet, Death]:
        it = kubelet(service, told)
        running = asyncio.ensure_future(it.run())
        assert await it.became_ready()
        (tmp_path / "sick").touch()
        await let_go(Happening.SIGNALLED, 1)
        await told.until(lambda events: [event.what for event in events].count(Happening.READY) == 2)
        death, _ = await asyncio.gather(it.terminate(), let_go(Happening.SIGNALLED, 2))
        await running
        return it, death

    it, death = asyncio.run(main())

    stop = ["preStop began", "preStop ended", "signal sent", "not ready", "process ended"]
    assert told.said() == [
        *("created", "init command ended", "process started", "ready"),
        *(*stop, "started again", "ready", "taken away", *stop),
    ]
    assert it.restarts == 1
    assert (death.code, death.killed) == (0, None)
    assert death.ended is not None
    assert death.not_ready is not None
    assert death.signalled is not None
    assert death.taken_away <= death.signalled <= death.not_ready <= death.ended
    assert (tmp_path / "hook").read_text() == f"{it._port}\n"
    failed = {event.detail for event in told.events if event.probe is ProbeName.LIVENESS and not event.ok}
    assert failed == {"exit code 1: it is sick"}


def test_who_takes_no_notice_is_killed_at_the_end_of_the_grace_period(tmp_path: Path) -> None:
    told = Told()

    async def main() -> Death:
        it = kubelet(tiny(tmp_path, "stubborn", grace_period=0.5), told)
        running = asyncio.ensure_future(it.run())
        assert await it.became_ready()
        death = await it.terminate()
        await running
        return death

    death = asyncio.run(main())
    assert told.said()[-5:] == ["taken away", "signal sent", "SIGKILL sent", "process ended", "not ready"]
    assert death.code == -9
    assert death.killed is not None
    assert death.killed >= death.taken_away + 0.5


def test_a_life_that_is_cancelled_leaves_no_process(tmp_path: Path) -> None:
    told = Told()

    async def main() -> int:
        it = kubelet(tiny(tmp_path), told)
        running = asyncio.ensure_future(it.run())
        assert await it.became_ready()
        assert it.process is not None
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        return it.process.pid

    pid = asyncio.run(main())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
