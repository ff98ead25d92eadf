"""The process between a PidNamespace and what runs in it: a script of its own, so that it has one thread, as
unshare(2), setns(2) and a fork of Python's ask for. `python -I -S pidns_launcher.py FD`.

On the socket FD it is told what to do in one line of JSON, and answers in lines of JSON: `{"pid": …}` with a
pidfd when the command has been exec'd, `{"status": …, "at": …}` when it has ended, `{"error": …}` where
something was refused. When the other end of the socket closes, it kills what it has started: nothing outlives
whoever asked for it.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any, Final

_CLONE_NEWNS: Final = 0x00020000
_CLONE_NEWUSER: Final = 0x10000000
_CLONE_NEWPID: Final = 0x20000000
_MS_NOSUID_NODEV_NOEXEC: Final = 0x2 | 0x4 | 0x8
_MS_REC_PRIVATE: Final = 0x4000 | 0x40000
_PR_SET_PDEATHSIG: Final = 1

_KILLED: Final = 128

_libc = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    """Do what the socket says, once."""
    peer = socket.socket(fileno=int(sys.argv[1]))
    peer.set_inheritable(False)
    with peer.makefile("rb") as lines:
        order: dict[str, Any] = json.loads(lines.readline())
    try:
        if "enter" in order:
            _enter(order["enter"], user=order["user"])
        else:
            _unshare(user=order["user"])
        pid, pidfd = _start(order)
    except OSError as problem:
        _tell(peer, error=f"{problem.filename}: {problem.strerror}", errno=problem.errno)
        return
    socket.send_fds(peer, [_line(pid=pid)], [pidfd])
    _let_go_of_the_streams()
    _tell(peer, **_wait(pid, pidfd, peer))


def _unshare(*, user: bool) -> None:
    """Children of ours begin a new PID namespace; mounts are ours alone; with `user` we are root among
    ourselves.
    """
    uid, gid = os.getuid(), os.getgid()
    _call("unshare", _CLONE_NEWNS | _CLONE_NEWPID | (_CLONE_NEWUSER if user else 0))
    if user:
        # Whoever may not set groups may map its own (user_namespaces(7)).
        Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
        Path("/proc/self/uid_map").write_text(f"0 {uid} 1", encoding="ascii")
        Path("/proc/self/gid_map").write_text(f"0 {gid} 1", encoding="ascii")
    _call("mount", b"none", b"/", None, _MS_REC_PRIVATE, None)


def _enter(pidfd: int, *, user: bool) -> None:
    """Children of ours are in the namespaces of the process behind `pidfd` (Linux 5.8)."""
    _call("setns", pidfd, _CLONE_NEWNS | _CLONE_NEWPID | (_CLONE_NEWUSER if user else 0))
    os.close(pidfd)


def _start(order: dict[str, Any]) -> tuple[int, int]:
    """Process id and pidfd of the command, which has been exec'd. Raises OSError with what was refused."""
    news, fate = os.pipe()  # closed by exec
    life, line = os.pipe()  # ends with us
    pid = os.fork()
    if pid == 0:
        try:
            os.close(line)
            _become(order, life)
        except OSError as problem:
            os.write(fate, _line(errno=problem.errno, name=problem.filename))
        finally:
            os._exit(127)
    os.close(life)  # its other end stays open for as long as we live
    os.close(fate)
    with open(news, "rb") as refusals:  # noqa: PTH123 - a descriptor
        refusal = refusals.read()
    if refusal:
        os.waitpid(pid, 0)
        found = json.loads(refusal)
        raise OSError(found["errno"], os.strerror(found["errno"]), found["name"])
    return pid, os.pidfd_open(pid)


def _become(order: dict[str, Any], life: int) -> None:
    """In the child: the last steps, then the command."""
    _call("prctl", _PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if select.select([life], [], [], 0)[0]:  # the launcher died before that held: who would kill us?
        os._exit(127)
    os.setsid()
    if "enter" not in order:
        _call("mount", b"proc", b"/proc", b"proc", _MS_NOSUID_NODEV_NOEXEC, None)
    os.chdir(order["cwd"])
    # As an engine starts a process: some parents ignore SIGQUIT or SIGCHLD, Python itself ignores SIGPIPE.
    for number in signal.valid_signals():
        with contextlib.suppress(OSError, ValueError):  # SIGKILL, SIGSTOP and the C library's own
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    try:
        os.execvpe(order["command"][0], order["command"], order["env"])  # noqa: S606 - that is what we are for
    except OSError as problem:
        raise OSError(problem.errno, problem.strerror, order["command"][0]) from None


def _wait(pid: int, pidfd: int, peer: socket.socket) -> dict[str, float]:
    """The status, as an engine counts it, and when it ended. Killed if the other end of `peer` closes."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.register(peer, select.POLLIN)
    if pidfd not in (ready for ready, _ in poll.poll()):
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    return {"status": _KILLED - code if code < 0 else code, "at": time.monotonic()}


def _let_go_of_the_streams() -> None:
    """Whoever reads what the command writes shall see its end, not ours."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(nothing, stream)
    os.close(nothing)


def _call(name: str, *arguments: int | bytes | None) -> None:
    if getattr(_libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), name)


def _line(**fields: Any) -> bytes:
    return json.dumps(fields).encode() + b"\n"


def _tell(peer: socket.socket, **fields: Any) -> None:
    with contextlib.suppress(OSError):  # whoever asked is gone
        peer.sendall(_line(**fields))


if __name__ == "__main__":
    main()
