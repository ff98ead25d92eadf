"""One server process on a port of its own, whose end is known exactly: started, probed, signalled, and gone
when we are done with it.
"""

from __future__ import annotations

import contextlib
import http.client
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

from graceful.rehearse.asserting import of_app
from graceful.rehearse.commands import for_port
from graceful.rehearse.model import PORT, Service
from graceful.rehearse.running import free_port, inherited
from graceful.rehearse.wires import HOST

ROOT: Final = Path(__file__).resolve().parent.parent

_READY_WITHIN_SECONDS: Final = 30.0
_PROBE_PERIOD_SECONDS: Final = 0.02
_PROBE_TIMEOUT_SECONDS: Final = 1.0
_OK: Final = 200
_GRACE_PERIOD_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """How a process ended: its exit code (negative: the signal that killed it) and when, on the monotonic
    clock.
    """

    code: int
    at: float


class NotReadyError(Exception):
    """A server did not become ready."""


def graceful_run(app: str, *options: str, lame_duck: float = 0.0) -> Service:
    """`graceful run app` with a grace period of 30 seconds; ready when `/ready` says so."""
    service = of_app(app, lame_duck=lame_duck, grace_period=_GRACE_PERIOD_SECONDS)
    command = (*service.command, *options)
    return replace(service, name="graceful run", command=command, folder=str(ROOT))


def uvicorn(app: str, *options: str, lame_duck: float | None = None) -> Service:
    """`uvicorn app`, all else as under `graceful run`. `lame_duck`, in seconds, is for apps that are
    wrapped.
    """
    command = (sys.executable, "-m", "uvicorn", app, "--host", HOST, "--port", PORT, "--no-access-log")
    return replace(
        graceful_run(app),
        name="uvicorn",
        command=(*command, *options),
        environment={} if lame_duck is None else {"GRACEFUL_LAME_DUCK": f"{lame_duck:g}"},
    )


class Replica:
    """A running server. As a context manager it has ended when the block is left, by SIGKILL if need be.

    `exit` is done when the process has ended, and knows exactly when: a thread waits for nothing else.
    """

    def __init__(self, service: Service) -> None:
        self.service = service
        self.port = free_port()
        self.exit: Future[Exit] = Future()
        self.exit.set_running_or_notify_cancel()  # from now on nobody who waits for it can cancel it
        # Appending, since the child shares the offset, and reading moves it.
        self._output: IO[bytes] = tempfile.TemporaryFile("a+b")  # noqa: SIM115 - closed by close()
        self._process = subprocess.Popen(
            for_port(service.command, self.port),
            cwd=service.folder,
            env={**inherited(), **service.environment},
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
        while not self._is_ready():
            if self.exit.done() or time.monotonic() > deadline:
                how = f"it ended with {self.exit.result().code}" if self.exit.done() else "it still runs"
                message = f"{self.service.name} is not ready: {how}, and said: {self.output()[-2000:]}"
                raise NotReadyError(message)
            time.sleep(_PROBE_PERIOD_SECONDS)  # a probe by HTTP can only be periodic, as the kubelet's

    def _is_ready(self) -> bool:
        connection = http.client.HTTPConnection(HOST, self.port, timeout=_PROBE_TIMEOUT_SECONDS)
        with contextlib.closing(connection):
            try:
                connection.request("GET", "/ready", headers={"connection": "close"})
                return connection.getresponse().status == _OK
            except (OSError, http.client.HTTPException):
                return False

    def terminate(self) -> float:
        """Send SIGTERM and say when, on the monotonic clock."""
        signalled_at = time.monotonic()
        self._process.send_signal(signal.SIGTERM)
        return signalled_at

    def output(self) -> str:
        """What it has written to standard output and standard error so far."""
        self._output.seek(0)
        return self._output.read().decode(errors="replace")

    def _wait(self) -> None:
        code = self._process.wait()
        self.exit.set_result(Exit(code=code, at=time.monotonic()))
