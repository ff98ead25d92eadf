"""One server process on a port of its own: started, probed, signalled, and gone when we are done with it."""

from __future__ import annotations

import contextlib
import http.client
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

from rig.client import HOST

ROOT: Final = Path(__file__).resolve().parent.parent

_READY_WITHIN_SECONDS: Final = 30.0
_PROBE_PERIOD_SECONDS: Final = 0.02
_PROBE_TIMEOUT_SECONDS: Final = 1.0
_OK: Final = 200

# Below the ports that kernels choose for outgoing connections: our clients would take those of our servers.
_PORTS: Final = range(20_000, 32_000)
_ports: Final[Iterator[int]] = iter(random.sample(_PORTS, len(_PORTS)))

# What would change the behaviour of a server under test.
_FOREIGN: Final = (
    *("GRACEFUL_", "UVICORN_", "PROMETHEUS_", "PORT", "WEB_CONCURRENCY"),
    *("KUBERNETES_", "ECS_", "K_SERVICE", "FLY_", "DYNO", "NOMAD_", "INVOCATION_ID", "NOTIFY_SOCKET"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """How to start a server; `{port}` in an argument stands for the port it is to listen on."""

    name: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """How a process ended: its exit code (negative: the signal that killed it) and when, on the monotonic
    clock.
    """

    code: int
    at: float


class NotReadyError(Exception):
    """A server did not become ready."""


def uvicorn(app: str, *options: str, lame_duck: float | None = None) -> Command:
    """`uvicorn app`. `lame_duck`, in seconds, is for apps that are wrapped."""
    environment = {} if lame_duck is None else {"GRACEFUL_LAME_DUCK": f"{lame_duck:g}"}
    return Command(name="uvicorn", arguments=_python("uvicorn", app, *options), environment=environment)


def graceful_run(app: str, *options: str, lame_duck: float = 0.0) -> Command:
    """`graceful run app` with a grace period of 30 seconds."""
    seconds = ("--lame-duck", f"{lame_duck:g}", "--grace-period", "30")
    return Command(name="graceful run", arguments=_python("graceful", "run", app, *seconds, *options))


def _python(module: str, *arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", module, *arguments, "--host", HOST, "--port", "{port}", "--no-access-log")


class Replica:
    """A running server. As a context manager it has ended when the block is left, by SIGKILL if need be.

    `exit` is done when the process has ended, and knows exactly when: a thread waits for nothing else.
    """

    def __init__(self, command: Command) -> None:
        self.command = command
        self.port = free_port()
        self.exit: Future[Exit] = Future()
        self.exit.set_running_or_notify_cancel()  # from now on nobody who waits for it can cancel it
        self.signalled_at: float | None = None
        # Appending, since the child shares the offset, and reading moves it.
        self._output: IO[bytes] = tempfile.TemporaryFile("a+b")  # noqa: SIM115 - closed by close()
        self._process = subprocess.Popen(
            [argument.format(port=self.port) for argument in command.arguments],
            cwd=ROOT,
            env={**environment_of_servers(), **command.environment},
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
        )
        self.pid = self._process.pid
        self._waiter = threading.Thread(target=self._wait, name=f"wait for {self.pid}", daemon=True)
        self._waiter.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """The process has ended, by SIGKILL if need be. May be called twice."""
        if not self.exit.done():
            self._process.kill()
        self._waiter.join(timeout=10.0)
        self._output.close()

    def wait_until_ready(self) -> None:
        """`/ready` has answered 200. Raises NotReadyError if the process ends, or after half a minute."""
        deadline = time.monotonic() + _READY_WITHIN_SECONDS
        while (answer := self.probe()) is None or answer[0] != _OK:
            if self.exit.done() or time.monotonic() > deadline:
                how = f"it ended with {self.exit.result().code}" if self.exit.done() else "it still runs"
                message = f"{self.command.name} is not ready: {how}, and said: {self.output()[-2000:]}"
                raise NotReadyError(message)
            time.sleep(_PROBE_PERIOD_SECONDS)  # a probe by HTTP can only be periodic, as the kubelet's

    def probe(self) -> tuple[int, str] | None:
        """Status and text of `/ready` on a connection of its own, or None if nobody answers."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=_PROBE_TIMEOUT_SECONDS)
        with contextlib.closing(connection):
            try:
                connection.request("GET", "/ready", headers={"connection": "close"})
                response = connection.getresponse()
                return response.status, response.read().decode().strip()
            except (OSError, http.client.HTTPException):
                return None

    def terminate(self) -> float:
        """Send SIGTERM and say when, on the monotonic clock."""
        self.signalled_at = time.monotonic()
        self._process.send_signal(signal.SIGTERM)
        return self.signalled_at

    def output(self) -> str:
        """What it has written to standard output and standard error so far."""
        self._output.seek(0)
        return self._output.read().decode(errors="replace")

    def _wait(self) -> None:
        code = self._process.wait()
        self.exit.set_result(Exit(code=code, at=time.monotonic()))


def free_port() -> int:
    """A port that nobody listens on, and that this process has not used before."""
    for port in _ports:
        with socket.socket() as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                trial.bind((HOST, port))
                return port
    message = f"no free port from {_PORTS.start} to {_PORTS.stop}"
    raise OSError(message)


def environment_of_servers() -> dict[str, str]:
    """Our own environment without what would change the behaviour of a server under test."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
