"""One server process: started on a port of its own, read by its ledger, signalled, and gone at the end."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from graceful.rehearse.client import Connection
from graceful.rehearse.model import Outcome, RequestSpec
from graceful.rehearse.running import free_port, inherited
from graceful.rehearse.wires import HOST, Address
from hostile.cases import GRACE_PERIOD, LAME_DUCK, Case, Log, Sending
from rig.replica import ROOT, NotReadyError

FAST: Final = RequestSpec(path="/fast", expected=b"fast")

_READY_WITHIN_SECONDS: Final = 60.0
_REACHED_WITHIN_SECONDS: Final = 30.0
_LOOK_SECONDS: Final = 0.02
_PIPE_BYTES: Final = 65536


class NotReachedError(Exception):
    """The service has not come to the point at which the signal was to be sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """What runs the service: its name in the table, and its command."""

    name: str
    arguments: tuple[str, ...]


OURS: Final = Server(
    name="graceful run",
    arguments=(
        *("graceful", "run", "hostile.service.ours:app"),
        *("--grace-period", f"{GRACE_PERIOD:g}", "--lame-duck", f"{LAME_DUCK:g}"),
    ),
)
PLAIN: Final = Server(name="uvicorn", arguments=("uvicorn", "hostile.service.plain:app"))


class Ledger:
    """The lines that the service has written, each with when it was read, on the loop's clock."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._news = asyncio.Event()
        self._unread = b""
        self._reader, self.writer = os.pipe()
        os.set_blocking(self._reader, False)
        asyncio.get_running_loop().add_reader(self._reader, self.read)

    async def wait_for(self, beginning: str, *, within: float) -> str:
        """The first line that begins so. Raises NotReachedError after `within` seconds."""
        try:
            async with asyncio.timeout(within):
                while (found := self.find(beginning)) is None:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            message = f"'{beginning}' is not in the ledger after {within:g} s; there is {self.lines}"
            raise NotReachedError(message) from None
        return found

    def find(self, beginning: str) -> str | None:
        """The first line that begins so, if there is one."""
        return next((line for line in self.lines if line.startswith(beginning)), None)

    def close(self) -> None:
        """What has been written is in `lines` on return; nothing more is read."""
        self.read()
        asyncio.get_running_loop().remove_reader(self._reader)
        os.close(self._reader)

    def read(self) -> None:
        """What has been written so far is in `lines` on return."""
        while True:
            try:
                received = os.read(self._reader, _PIPE_BYTES)
            except BlockingIOError:
                break
            if not received:  # the last writer has gone
                asyncio.get_running_loop().remove_reader(self._reader)
                break
            *lines, self._unread = (self._unread + received).split(b"\n")
            self.lines += [line.decode() for line in lines]
        self._news.set()


class Process:
    """A running server. Within `started` only; it and all its children have ended when that is left."""

    def __init__(self, case: Case, server: Server, folder: Path) -> None:
        self.port = free_port()
        self.ledger = Ledger()
        self.name = server.name
        self.exit: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.ended_at = 0.0
        self.killed = False
        self._over = threading.Event()
        self._log = _LOGS[case.log](folder / "log")
        command = [sys.executable, "-m", *server.arguments, "--host", HOST, "--port", str(self.port)]
        command += ["--loop", case.loop, "--no-access-log"]
        if case.log is Log.CLOSED:
            command = ["sh", "-c", 'exec "$@" 2>&-', "sh", *command]
        ledger = {"HOSTILE_LEDGER": str(self.ledger.writer), "HOSTILE_TRAITS": ",".join(case.traits)}
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**_environment(), **ledger},
            stdin=subprocess.DEVNULL,
            stdout=self._log.descriptor,
            stderr=self._log.descriptor,
            pass_fds=(self.ledger.writer,),
            start_new_session=True,
        )
        os.close(self.ledger.writer)
        os.close(self._log.descriptor)
        self._loop = asyncio.get_running_loop()
        threading.Thread(target=self._wait, name=f"wait for {self._process.pid}", daemon=True).start()

    async def wait_until_ready(self) -> None:
        """It has answered a request on return. Raises NotReadyError."""
        deadline = time.monotonic() + _READY_WITHIN_SECONDS
        while await self.ask(FAST, within=_READY_WITHIN_SECONDS) is not Outcome.ANSWERED:
            if self.exit.done() or time.monotonic() > deadline:
                how = f"it ended with {self.exit.result()}" if self.exit.done() else "it still runs"
                message = f"{self.name} is not ready: {how}, and said: {self.log()[-2000:]}"
                raise NotReadyError(message)
            await asyncio.sleep(_LOOK_SECONDS)  # nothing tells when a port is opened

    async def ask(self, request: RequestSpec, *, within: float) -> Outcome:
        """What becomes of a request on a connection of its own."""
        with contextlib.closing(Connection(Address(port=self.port))) as connection:
            return (await connection.ask(request, within=within)).outcome

    async def reach(self, line: str) -> str:
        """The ledger's first line that begins with `line`. Raises NotReachedError."""
        return await self.ledger.wait_for(line, within=_REACHED_WITHIN_SECONDS)

    def stop(self, signals: Sequence[Sending], *, killed_at: float) -> float:
        """The first signal has been sent on return, which is when. The others follow, and at `killed_at`
        SIGKILL, as an orchestrator sends it to whoever is still there.

        From threads, since our loop may be busy then.
        """
        began = time.monotonic()
        self._process.send_signal(signals[0].signum)
        for work, *arguments in ((self._send, signals, began), (self._kill, began + killed_at)):
            threading.Thread(target=work, args=arguments, daemon=True).start()
        return began

    def _send(self, signals: Sequence[Sending], sent_at: float) -> None:
        """The gaps between them are kept whatever holds us up: the kernel makes one of two that are
        pending.
        """
        for previous, sending in itertools.pairwise(signals):
            due = sent_at + sending.at - previous.at
            if self._over.wait(due - time.monotonic()):
                return
            sent_at = time.monotonic()
            self._process.send_signal(sending.signum)

    def _kill(self, at: float) -> None:
        if not self._over.wait(at - time.monotonic()):
            self.killed = True
            self._process.kill()

    def fill_log(self) -> None:
        """Where the log is a pipe that is to be full, it is now."""
        self._log.fill()

    def end_all(self) -> None:
        """The process and its children have been told to end, by SIGKILL."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def log(self) -> str:
        """What it has written to standard output and standard error."""
        return self._log.text()

    async def close(self) -> None:
        """It has ended, and all its children; what was opened for it is closed."""
        self.end_all()
        await self.exit
        self.ledger.close()
        self._log.close()

    def _wait(self) -> None:
        code = self._process.wait()
        at = time.monotonic()
        self._over.set()
        with contextlib.suppress(RuntimeError):  # the harness was interrupted: its loop is closed
            self._loop.call_soon_threadsafe(self._ended, code, at)

    def _ended(self, code: int, at: float) -> None:
        self.ended_at = at
        self.exit.set_result(code)


def _environment() -> dict[str, str]:
    """As any server under test has it, but not measured: what coverage writes at the exit takes the time
    that is judged here.
    """
    return {name: value for name, value in inherited().items() if not name.startswith("COVERAGE_")}


@contextlib.asynccontextmanager
async def started(case: Case, server: Server, starting: asyncio.Semaphore) -> AsyncIterator[Process]:
    """The service of `case` on `server`, ready. Raises NotReadyError.

    `starting` is held until then: a start is what costs, and those that are ending must not pay for it.
    """
    async with contextlib.AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        async with starting:
            process = Process(case, server, Path(folder))
            stack.push_async_callback(process.close)
            await process.wait_until_ready()
        yield process


class _File:
    """A log in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def fill(self) -> None:
        pass

    def text(self) -> str:
        return self._path.read_text(errors="replace")

    def close(self) -> None:
        pass


class _FullDisk(_File):
    """A log that takes nothing: each write fails as it does when a disk is full."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        os.close(self.descriptor)
        self.descriptor = os.open("/dev/full", os.O_WRONLY)


class _Pipe:
    """A log that nobody reads until the process has ended. `fill` leaves no room for one more byte."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self._reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        self.descriptor = os.open(path, os.O_WRONLY)
        # Opened a second time: whether it blocks is a property of the opening, which a child shares.
        self._filler = os.open(path, os.O_WRONLY | os.O_NONBLOCK)

    def fill(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(self._filler, b".")

    def text(self) -> str:
        found = b""
        with contextlib.suppress(BlockingIOError):
            while piece := os.read(self._reader, _PIPE_BYTES):
                found += piece
        return found.decode(errors="replace").strip(".")

    def close(self) -> None:
        os.close(self._reader)
        os.close(self._filler)


_LOGS: Final[dict[Log, Callable[[Path], _File | _Pipe]]] = {
    Log.FILE: _File,
    Log.CLOSED: _File,
    Log.FULL_PIPE: _Pipe,
    Log.FULL_DISK: _FullDisk,
}
