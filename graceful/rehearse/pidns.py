"""A command as PID 1 of a PID namespace of its own, started and stopped as a container engine does it,
without an engine and, where the kernel allows it, without any privilege.

It has a /proc of its own, the default action for every signal and none blocked, and a session of its own.
Files and network stay the host's: what listens on 127.0.0.1 can be reached from outside.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Self

_LAUNCHER: Final = (sys.executable, "-I", "-S", str(Path(__file__).with_name("pidns_launcher.py")))
_START_SECONDS: Final = 10.0
_KILL_SECONDS: Final = 10.0

# What hardened hosts set, and the value that forbids.
_SYSCTLS: Final = {
    "kernel.unprivileged_userns_clone": "0",
    "user.max_user_namespaces": "0",
    "user.max_pid_namespaces": "0",
    "kernel.apparmor_restrict_unprivileged_userns": "1",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How PID 1 ended: the status as an engine reports it (128 + n for signal n), the seconds from the signal
    to its end, and whether it took SIGKILL.
    """

    status: int
    seconds: float
    killed: bool


class PidNamespaceError(Exception):
    """The command could not be started in a namespace; the text says what was refused."""


class PidNamespace:
    """`command`, running as PID 1: it has been exec'd on return. Raises PidNamespaceError where it cannot be.

    As a context manager, nothing of it is left when the block is left, whatever it has forked: a PID
    namespace ends with its PID 1. It ends with the process that made it, too. One thread at a time uses it.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        cwd: Path | str | None = None,
        env: Mapping[str, str] | None = None,
        stdout: int | IO[Any] | None = None,
        stderr: int | IO[Any] | None = None,
    ) -> None:
        flavour = _flavour()
        if flavour.refusal is not None:
            raise PidNamespaceError(flavour.refusal)
        self._user = flavour.user
        self._cwd, self._env = str(cwd or Path.cwd()), dict(os.environ if env is None else env)
        self._launched = _Launched(
            {"user": self._user, "command": list(command), "cwd": self._cwd, "env": self._env},
            stdout=stdout,
            stderr=stderr,
        )
        self.pid: Final = self._launched.pid
        """PID 1's process id on the host."""
        self.stdout: Final = self._launched.process.stdout
        self.stderr: Final = self._launched.process.stderr

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def run(self, command: Sequence[str], *, timeout: float = 30.0) -> subprocess.CompletedProcess[bytes]:
        """Run `command` beside PID 1 and capture what it writes, as `docker exec` does: its parent is
        outside, so that inside it has none (PPid 0). The return code is 128 + n where signal n ended it.

        Raises subprocess.TimeoutExpired after `timeout` seconds, and it has ended then; PidNamespaceError
        where it cannot be started.
        """
        order = {"user": self._user, "command": list(command), "cwd": self._cwd, "env": self._env}
        launched = _Launched(
            order, stdout=subprocess.PIPE, stderr=subprocess.PIPE, enter=self._launched.pidfd
        )
        try:
            out, err = launched.process.communicate(timeout=timeout)
            status = launched.wait(_KILL_SECONDS)
        finally:
            launched.close()
        if status is None:  # what it wrote to has been closed by its end
            raise subprocess.TimeoutExpired(command, timeout)
        return subprocess.CompletedProcess(list(command), status, out, err)

    def wait(self, seconds: float) -> int | None:
        """The status that PID 1 ended with, within `seconds`; None if it runs on."""
        return self._launched.wait(seconds)

    def stop(self, grace_seconds: float, *, signal: signal.Signals = signal.SIGTERM) -> Ended:
        """Stop it as an engine does: `signal` to PID 1, then SIGKILL when the grace period is over.

        It has ended on return. If it has ended before, that is the status, after 0 seconds.
        """
        began = time.monotonic()
        self._launched.send(signal)
        status, killed = self.wait(grace_seconds), False
        if status is None:
            self._launched.send(_KILL)
            status, killed = self.wait(_KILL_SECONDS), True
        if status is None:
            message = f"process {self.pid} has not ended {_KILL_SECONDS:g} s after SIGKILL"
            raise TimeoutError(message)
        return Ended(status=status, seconds=max(0.0, self._launched.ended_at - began), killed=killed)

    def send(self, number: int) -> None:
        """Send a signal to PID 1, from outside: the kernel drops it where PID 1 has no handler for it. Any
        thread may call it.
        """
        self._launched.send(signal.Signals(number))

    def kill(self) -> None:
        """SIGKILL to PID 1, at once. Any thread may call it."""
        self._launched.send(_KILL)

    def close(self) -> None:
        """PID 1 and all that it has started have ended, by SIGKILL if need be. May be called twice."""
        self._launched.close()


_KILL: Final = signal.SIGKILL


def why_not() -> str | None:
    """None where PID namespaces work; else in one line what was refused, and what refuses it here."""
    return _flavour().refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class _Flavour:
    """With a user namespace around it or, as root, without; or why neither works."""

    user: bool
    refusal: str | None = None


@functools.cache
def _flavour() -> _Flavour:
    if sys.platform != "linux":
        return _Flavour(user=False, refusal=f"PID namespaces are Linux's; this is {sys.platform}")
    refusal = ""
    for user in (False, True) if os.geteuid() == 0 else (True,):
        order = {"user": user, "command": ["true"], "cwd": "/", "env": {"PATH": os.defpath}}
        try:
            trial = _Launched(order, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        except PidNamespaceError as problem:
            refusal = f"PID namespaces cannot be had here: {problem}{_who_refuses(problem)}"
        else:
            trial.close()
            return _Flavour(user=user)
    return _Flavour(user=False, refusal=refusal)


def _who_refuses(problem: PidNamespaceError) -> str:
    """What this host is known to have set against it."""
    number = problem.__cause__.errno if isinstance(problem.__cause__, OSError) else None
    if number not in {errno.EPERM, errno.EACCES, errno.ENOSPC, errno.EUSERS}:
        return ""
    for name, forbids in _SYSCTLS.items():
        setting = Path("/proc/sys", name.replace(".", "/"))
        if setting.is_file() and setting.read_text(encoding="ascii").strip() == forbids:
            return f" ({name} is {forbids})"
    if str(problem).startswith("mount"):
        return " (parts of /proc are covered here, as in a container)"
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return " (a seccomp filter is on, such as Docker's default)" if "\nSeccomp:\t2" in status else ""


class _Launched:
    """A launcher and the command that it has started. Raises PidNamespaceError if it could not."""

    def __init__(
        self,
        order: Mapping[str, object],
        *,
        stdout: int | IO[Any] | None,
        stderr: int | IO[Any] | None,
        enter: int | None = None,
    ) -> None:
        self._status: int | None = None
        self.ended_at = 0.0  # on the monotonic clock, once it has ended
        self.pidfd = -1
        self._peer, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(  # noqa: S603 - our own launcher
                [*_LAUNCHER, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                pass_fds=(theirs.fileno(), *(() if enter is None else (enter,))),
                start_new_session=True,  # Ctrl-C is for whoever started us, who then ends this
            )
        try:
            self.pid = self._begin({**order, "enter": enter} if enter is not None else order)
        except BaseException:
            self.close()
            raise

    def _begin(self, order: Mapping[str, object]) -> int:
        self._peer.sendall(json.dumps(order).encode() + b"\n")
        self._peer.settimeout(_START_SECONDS)
        try:
            line, descriptors, _, _ = socket.recv_fds(self._peer, 65_536, 1)
        except TimeoutError:
            line, descriptors = b"", []
        answer: dict[str, Any] = json.loads(line) if line else {"error": "the launcher said nothing"}
        if "error" in answer:
            number = answer.get("errno")
            raise PidNamespaceError(answer["error"]) from (
                OSError(number, answer["error"]) if number else None
            )
        (self.pidfd,) = descriptors
        pid: int = answer["pid"]
        return pid

    def send(self, number: signal.Signals) -> None:
        """Send a signal, from outside. To a process that has ended it means nothing."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, number)

    def wait(self, seconds: float) -> int | None:
        """The status, or None if there is none within `seconds`."""
        if self._status is None:
            self._peer.settimeout(max(seconds, 1e-6))  # 0 would be: not blocking
            try:
                line = self._peer.recv(65_536)
            except TimeoutError:
                return None
            if not line:
                message = "the launcher was killed, and the command with it"
                raise PidNamespaceError(message)
            ended = json.loads(line)
            self._status, self.ended_at = ended["status"], ended["at"]
        return self._status

    def close(self) -> None:
        """Both have ended. The launcher kills the command as soon as it sees that we are gone."""
        self._peer.close()
        try:
            self.process.wait(_KILL_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()  # takes the command with it
            self.process.wait()
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1
