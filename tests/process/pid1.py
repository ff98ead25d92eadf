"""A service behind some PID 1, in a PID namespace of its own: what the doctor and the start say of it, then a
SIGTERM to PID 1, as an engine sends it, and whether the service had its drain.
"""

from __future__ import annotations

import json
import shlex
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from graceful.rehearse.pidns import Ended, PidNamespace
from tests.process.service import BOUND, environment_of_a_service

WARNING: Final = "SIGTERM will not reach this service"
GRACEFUL: Final = (sys.executable, "-m", "graceful")
SERVICE: Final = (*GRACEFUL, "run", "contained:app", "--port", "0")
UVICORN: Final = (sys.executable, "-m", "uvicorn", "contained:app", "--port", "0")

_GRACE_SECONDS: Final = 1.5  # for a service that the signal is said not to reach: it would need 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What was said before the signal, and what came of it."""

    command: Sequence[str]
    doctor: Mapping[str, Any]
    code: int
    warnings: Sequence[str]
    arrived: bool
    ended: Ended
    output: str

    @property
    def answer(self) -> str:
        """The doctor's: `will arrive`, `will not arrive`, `cannot tell`."""
        return str(self.doctor["answer"])

    @property
    def instead(self) -> str | None:
        """What the doctor says to write instead."""
        return next((each["instead"] for each in self.doctor["processes"]), None)

    @property
    def is_wrong(self) -> bool:
        """Whether the doctor or the start said what was not so. To say nothing is not wrong."""
        said = {"will arrive": True, "will not arrive": False}.get(self.answer, self.arrived)
        return said != self.arrived or (self.arrived and bool(self.warnings))

    def __str__(self) -> str:
        came = "arrived" if self.arrived else "did not arrive"
        how = f"{self.ended.status} after {self.ended.seconds:.1f} s"
        warned = f"{len(self.warnings)} warnings" if self.warnings else "no warning"
        return f"{self.answer:<15} {warned:<10}  {came:<14}  {how:<15} {shlex.join(self.command)!r}"


class Contained:
    """`command` as PID 1, in a new folder below `parent`; on return `services` of the app behind it serve.

    As a context manager, all of it has ended when the block is left.
    """

    def __init__(
        self,
        command: Sequence[str],
        parent: Path,
        *,
        services: int = 1,
        environment: Mapping[str, str] = {},
        folder: Path | None = None,
    ) -> None:
        self.command = command
        self.folder = folder or Path(tempfile.mkdtemp(dir=parent))
        self.news: list[str] = []
        self._changed = threading.Condition()
        self._readers: list[threading.Thread] = []
        self._services = services
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind("")  # Linux chooses an abstract address, which begins with a NUL
        self._listener.listen()
        self._listener.settimeout(BOUND)
        address = self._listener.getsockname().decode().replace("\0", "@")
        with (self.folder / "out").open("ab") as out:
            self.namespace = PidNamespace(
                command,
                cwd=self.folder,
                env=environment_of_a_service(self.folder, {"NEWS": address, **environment}),
                stdout=out,
                stderr=out,
            )
        try:
            self._meet()
        except BaseException:
            self.close()
            raise

    def _meet(self) -> None:
        for met in range(self._services):
            try:
                connection, _ = self._listener.accept()
            except TimeoutError:
                message = f"{met} of {self._services} serve behind {self.command}, which said:\n{self.output}"
                raise AssertionError(message) from None
            reader = threading.Thread(target=self._read, args=[connection], daemon=True)
            reader.start()
            self._readers.append(reader)
        self.wait_for("serving", times=self._services)

    def _read(self, connection: socket.socket) -> None:
        with connection, connection.makefile(encoding="utf-8") as lines:
            for line in lines:
                with self._changed:
                    self.news.append(line.rstrip("\n"))
                    self._changed.notify_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    @property
    def output(self) -> str:
        """All that was written to the standard streams, and what a shell has put into files `out…`."""
        return "".join(each.read_text(errors="replace") for each in sorted(self.folder.glob("out*")))

    def wait_for(self, news: str, *, times: int = 1) -> None:
        """Return once the services have said so."""
        with self._changed:
            came = self._changed.wait_for(lambda: self.news.count(news) >= times, BOUND)
        assert came, f"{self.command} has not said {news!r} but {self.news}, and wrote:\n{self.output}"

    def doctor(self, *options: str) -> subprocess.CompletedProcess[bytes]:
        """`graceful doctor`, beside PID 1."""
        return self.namespace.run([*GRACEFUL, "doctor", *options], timeout=BOUND)

    def judged(self) -> Outcome:
        """Ask the doctor, stop PID 1, and see who was right. All has ended on return."""
        asked = self.doctor("--json")
        assert asked.stdout, asked.stderr.decode()
        found = json.loads(asked.stdout)
        # A signal that is said to come may take as long as the machine needs.
        ended = self.namespace.stop(_GRACE_SECONDS if found["answer"] == "will not arrive" else BOUND / 4)
        self.close()
        return Outcome(
            command=self.command,
            doctor=found,
            code=asked.returncode,
            warnings=[line for line in self.output.splitlines() if WARNING in line],
            arrived=self.news.count("work done") == self._services,
            ended=ended,
            output=self.output,
        )

    def close(self) -> None:
        """All of it has ended, and all that it has said is known. May be called twice."""
        self.namespace.close()
        self._listener.close()
        for reader in self._readers:
            reader.join(BOUND)
