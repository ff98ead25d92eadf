"""A service in a process of its own: started, read, signalled, asked over real sockets, ended for certain.

Nothing here sleeps: every wait is for a line, a port, a byte or an exit, within a bound that is only there so
that a hang becomes a failure.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

BOUND: Final = 20.0
HERE: Final = Path(__file__).parent
WHOLE_TIMELINE: Final = ["serving", "lame_duck", "draining", "releasing", "stopped"]
INTERRUPTED_STARTUP: Final = ["releasing", "stopped"]

# What would make a service behave as where the tests happen to run.
_FOREIGN: Final = re.compile(
    r"(GRACEFUL_|UVICORN_|KUBERNETES_|ECS_|K_SERVICE$|FLY_APP_NAME$|DYNO$|NOMAD_|INVOCATION_ID$|NOTIFY_SOCKET$|PORT$|WEB_CONCURRENCY$)"
)
_TERMINALS_OWN: Final = re.compile(r"\x1b\[[\d;]*m|\^C")  # colours, and the echo of Ctrl-C
# A new session has no terminal until its leader asks for one.
_AT_TERMINAL: Final = (
    "import fcntl, os, sys, termios\n"
    "fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
    "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
)


def environment_of_a_service(cwd: Path, more: Mapping[str, str]) -> dict[str, str]:
    """The parent's, without what would change how a service behaves, and with the folders of its modules."""
    environ = {name: value for name, value in os.environ.items() if not _FOREIGN.match(name)}
    path = os.pathsep.join(filter(None, [str(cwd), str(HERE), environ.get("PYTHONPATH")]))
    return {**environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "", "GRACEFUL_GRACE_PERIOD": "30", **more}


class Service:
    """One process, in a session of its own, and everything that it has written, in order."""

    def __init__(
        self,
        *arguments: str,
        cwd: Path,
        environment: Mapping[str, str] = {},
        pass_fds: Sequence[int] = (),
        terminal: bool = False,
    ) -> None:
        environ = environment_of_a_service(cwd, environment)
        self._written = bytearray()
        self._news = threading.Condition()
        self._over = False
        self._stdin = -1
        if terminal:
            self._output, child = os.openpty()
            attributes = termios.tcgetattr(child)
            attributes[3] |= termios.NOFLSH  # else Ctrl-C throws away what has been written and not yet read
            termios.tcsetattr(child, termios.TCSANOW, attributes)
            standard_input = child
            arguments = ("-c", _AT_TERMINAL, *arguments)
        else:
            self._output, child = os.pipe()
            standard_input, self._stdin = os.pipe()
        self.process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=cwd,
            env=environ,
            stdin=standard_input,
            stdout=child,
            stderr=child,
            pass_fds=pass_fds,
            start_new_session=True,
        )
        for descriptor in {child, standard_input}:
            os.close(descriptor)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                chunk = os.read(self._output, 65536)
            except OSError:  # EIO: the last one at the other end of the terminal has gone
                chunk = b""
            with self._news:
                self._written += chunk
                self._over = not chunk
                self._news.notify_all()
            if not chunk:
                return

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def output(self) -> str:
        """All that has been written so far, to standard output and standard error."""
        with self._news:
            return _TERMINALS_OWN.sub("", self._written.decode("utf-8", "replace")).replace("\r\n", "\n")

    @property
    def phases(self) -> list[str]:
        """The phases that the app was told of, in order."""
        return re.findall(r"^phase (\w+)", self.output, re.MULTILINE)

    def wait_for(self, pattern: str, *, times: int = 1) -> re.Match[str]:
        """Return once `pattern` has been written that often."""
        wanted = re.compile(pattern, re.MULTILINE)

        def found() -> bool:
            return self._over or sum(1 for _ in wanted.finditer(self.output)) >= times

        with self._news:
            self._news.wait_for(found, BOUND)
        matches = list(wanted.finditer(self.output))
        assert len(matches) >= times, (
            f"{pattern!r} was written {len(matches)} times, not {times}:\n{self.output}"
        )
        return matches[times - 1]

    def port(self) -> int:
        """The port that uvicorn says it runs on; it answers there on return."""
        return int(self.wait_for(r"Uvicorn running on \w+://[\d.]+:(\d+)")[1])

    def admin_port(self, *, times: int = 1) -> int:
        """The port on which the endpoints are, for the so-many-th time; it answers there on return."""
        return int(self.wait_for(r"probes are answered on http://[\d.]+:(\d+)", times=times)[1])

    def tell(self, text: str = "go") -> None:
        """Write a line to the service's standard input."""
        os.write(self._stdin, f"{text}\n".encode())

    def type_interrupt(self) -> None:
        """Press Ctrl-C at the service's terminal."""
        os.write(self._output, b"\x03")

    def signal(self, signum: int) -> None:
        os.kill(self.process.pid, signum)

    def terminate(self) -> None:
        self.signal(signal.SIGTERM)

    def exit_code(self) -> int:
        """Wait for the end: the code, or minus the signal's number. The output is complete on return."""
        try:
            code = self.process.wait(BOUND)
        except subprocess.TimeoutExpired:
            message = f"the process has not ended in {BOUND:g} s:\n{self.output}"
            raise AssertionError(message) from None
        self._reader.join(BOUND)
        assert not self._reader.is_alive(), (
            f"the process has ended, but a child of it lives on:\n{self.output}"
        )
        return code

    def end(self) -> None:
        """Whatever state it is in: it and its children are gone on return."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(BOUND)
        self._reader.join(BOUND)
        for descriptor in {self._output, self._stdin} - {-1}:
            os.close(descriptor)


class Launch:
    """Starts services in `cwd`, and ends them all."""

    def __init__(self, cwd: Path) -> None:
        self.cwd = cwd
        self._services: list[Service] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        for service in self._services:
            service.end()

    def python(
        self,
        *arguments: str,
        environment: Mapping[str, str] = {},
        pass_fds: Sequence[int] = (),
        terminal: bool = False,
    ) -> Service:
        service = Service(
            *arguments, cwd=self.cwd, environment=environment, pass_fds=pass_fds, terminal=terminal
        )
        self._services.append(service)
        return service

    def owned(
        self,
        app: str,
        *options: str,
        environment: Mapping[str, str] = {},
        pass_fds: Sequence[int] = (),
        terminal: bool = False,
    ) -> Service:
        """`graceful run`, on a port that the kernel chooses."""
        port = () if {"--port", "--fd", "--uds"} & {*options} or "PORT" in environment else ("--port", "0")
        return self.python(
            "-m",
            "graceful",
            "run",
            app,
            *port,
            *options,
            environment=environment,
            pass_fds=pass_fds,
            terminal=terminal,
        )

    def adopted(
        self, app: str, *options: str, environment: Mapping[str, str] = {}, pass_fds: Sequence[int] = ()
    ) -> Service:
        """`uvicorn`'s own command with our settings' options in the environment."""
        ours, theirs = {}, []
        words = iter(options)
        for word in words:
            if word in OURS:
                ours["GRACEFUL_" + word.removeprefix("--").replace("-", "_").upper()] = next(words)
            else:
                theirs.append(word)
        port = () if {"--port", "--fd", "--uds"} & {*options} else ("--port", "0")
        return self.python(
            "-m", "uvicorn", app, *port, *theirs, environment={**ours, **environment}, pass_fds=pass_fds
        )

    def write(self, name: str, source: str) -> None:
        """A module that services can import."""
        (self.cwd / f"{name}.py").write_text(source)


OURS: Final = {
    "--lame-duck",
    "--grace-period",
    "--drain-timeout",
    "--release-timeout",
    "--exit-margin",
    "--exit-by-signal",
    "--verbose-probes",
    "--admin-port",
    "--admin-host",
    "--stall-after",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """What came back. `whole` is whether the server ended it as HTTP says that it ends."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    whole: bool

    @property
    def says_close(self) -> bool:
        return self.headers.get("connection", "").lower() == "close"


class Client:
    """One connection, kept open until somebody closes it."""

    def __init__(self, address: int | Path) -> None:
        if isinstance(address, int):
            self.socket = socket.create_connection(("127.0.0.1", address), timeout=BOUND)
        else:
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.settimeout(BOUND)
            self.socket.connect(str(address))
        self._unread = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.socket.close()

    def send(
        self, path: str = "/", *, method: str = "GET", headers: Mapping[str, str] = {}, body_to_come: int = 0
    ) -> None:
        """The head of a request, whose body of `body_to_come` bytes `send_body` sends."""
        lines = [
            f"{method} {path} HTTP/1.1",
            "host: test",
            *(f"{name}: {value}" for name, value in headers.items()),
        ]
        if body_to_come:
            lines.append(f"content-length: {body_to_come}")
        self.socket.sendall("\r\n".join([*lines, "", ""]).encode())

    def send_body(self, body: bytes) -> None:
        self.socket.sendall(body)

    def get(self, path: str = "/", *, method: str = "GET", headers: Mapping[str, str] = {}) -> Response:
        self.send(path, method=method, headers=headers)
        return self.receive(no_body=method == "HEAD")

    def receive(self, *, no_body: bool = False) -> Response:
        """The next response. Raises ConnectionError when the server closed before it had begun one."""
        head = self._until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        status = int(head[0].split(" ")[1])
        headers = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])
        }
        body, whole = b"", True
        if not no_body and status >= 200:
            try:
                for piece in self._body(headers):
                    body += piece
            except ConnectionError:
                whole = False
        return Response(status=status, headers=headers, body=body, whole=whole)

    def receive_begin(self, expected: bytes) -> None:
        """Return once `expected` has come, and leave what came before it, and it, unread no more."""
        self._until(expected)

    def closed(self) -> bool:
        """Whether the next thing that the server says is that it closes, or breaks off."""
        try:
            return not self._unread and self.socket.recv(1) == b""
        except ConnectionError:
            return True

    def take(self, count: int) -> bytes:
        while len(self._unread) < count:
            self._more()
        found, self._unread = self._unread[:count], self._unread[count:]
        return found

    def _more(self) -> None:
        chunk = self.socket.recv(65536)
        if not chunk:
            message = f"the server closed after {self._unread!r}"
            raise ConnectionError(message)
        self._unread += chunk

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._unread:
            self._more()
        found, _, self._unread = self._unread.partition(mark)
        return found

    def _body(self, headers: Mapping[str, str]) -> Iterator[bytes]:
        if "chunked" in headers.get("transfer-encoding", ""):
            while size := int(self._until(b"\r\n"), 16):
                yield self.take(size)
                self.take(2)
            self.take(2)
        else:
            yield self.take(int(headers.get("content-length", "0")))


def becomes(port: int, path: str, body: str) -> Response:
    """Ask again and again until the answer is `body`. Bounded by time, since it is somebody's time that is
    waited for.
    """
    deadline = time.monotonic() + BOUND
    while True:
        with Client(port) as client:
            response = client.get(path)
        if response.body == body.encode():
            return response
        assert time.monotonic() < deadline, f"{path} says {response.body!r}, and not {body!r}"


def refused(port: int) -> bool:
    """Whether nobody listens at `port`."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=BOUND).close()
    except ConnectionRefusedError:
        return True
    return False
