"""The processes of a rehearsal: started, signalled, waited for, and gone when it is over."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Final, Protocol, Self

from graceful import signals
from graceful.rehearse.container import Process
from graceful.rehearse.first_process import FirstProcess
from graceful.rehearse.model import Service
from graceful.rehearse.wires import HOST

# Below the ports that kernels choose for outgoing connections: our clients would take those of our servers.
_PORTS: Final = range(20_000, 32_000)
_ports: Final[Iterator[int]] = iter(random.sample(_PORTS, len(_PORTS)))

_SIGKILL: Final = 9
_OUTPUT_BYTES: Final = 64 * 1024

# What an orchestrator would not hand down to its containers.
_FOREIGN: Final = (
    *("GRACEFUL_", "UVICORN_", "PROMETHEUS_", "PORT", "WEB_CONCURRENCY"),
    *("KUBERNETES_", "ECS_", "K_SERVICE", "FLY_", "DYNO", "NOMAD_", "INVOCATION_ID", "NOTIFY_SOCKET"),
)


class Running(Process, Protocol):
    """A process that has been started, and what it writes."""

    def output(self) -> str:
        """The end of what it has written so far."""

    def close(self) -> None:
        """What it has written is forgotten. May be called twice."""


async def start(command: Sequence[str], *, service: Service, environment: Mapping[str, str]) -> Running:
    """A process of `service`, as PID 1 of its own namespace if it says so. Raises OSError."""
    whole = {**inherited(), **environment}
    if service.pid1:
        return await FirstProcess.start(command, environment=whole, folder=service.folder)
    return await LocalProcess.start(
        command, environment=whole, folder=service.folder, all_of_it=service.signal_all
    )


class LocalProcess:
    """A process in a session of its own: a terminal's Ctrl-C is not for it, nor for what it starts."""

    def __init__(self, process: asyncio.subprocess.Process, output: IO[bytes], *, all_of_it: bool) -> None:
        self._process = process
        self._output = output
        self._all_of_it = all_of_it
        self._is_over = False
        self.pid = process.pid

    @classmethod
    async def start(
        cls, command: Sequence[str], *, environment: Mapping[str, str], folder: str | None, all_of_it: bool
    ) -> Self:
        """Raises OSError where it cannot be started. A signal is for its first process, as an orchestrator's
        is, or for all that it has started.
        """
        # Appending, since the child shares the offset, and reading moves it.
        output = tempfile.TemporaryFile("a+b")  # noqa: SIM115 - closed with its process
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                cwd=folder,
                env=environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
            )
        except BaseException:
            output.close()
            raise
        return cls(process, output, all_of_it=all_of_it)

    def signal(self, name: str) -> None:
        """See `Running`."""
        number = signals.number_of(name)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if self._all_of_it:
                os.killpg(self.pid, number)
            else:
                self._process.send_signal(number)

    def kill(self) -> None:
        """See `Running`."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, _SIGKILL)

    async def wait(self) -> int:
        """See `Running`."""
        code = await self._process.wait()
        if not self._is_over:
            self._is_over = True
            self.kill()  # as in a container: with the first process end all
        return code

    def output(self) -> str:
        """See `Running`."""
        size = self._output.seek(0, os.SEEK_END)
        self._output.seek(max(0, size - _OUTPUT_BYTES))
        return self._output.read().decode(errors="replace")

    def close(self) -> None:
        """See `Running`."""
        self._output.close()


def inherited() -> dict[str, str]:
    """Our environment without what would tell a service that it runs elsewhere, or how to behave."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}


def free_port() -> int:
    """A port that nobody listens on, and that this process has not been given before. Raises OSError."""
    for port in _ports:
        with socket.socket() as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                trial.bind((HOST, port))
                return port
    message = f"no free port from {_PORTS.start} to {_PORTS.stop}"
    raise OSError(message)
