"""The sentinel: an interpreter with a GIL of its own, which ends the process when C code held ours before the
signal came, so that nothing of ours can notice it.

CPython 3.12 and later on Linux. It looks at what the kernel writes to the wakeup descriptor, and takes
nothing from it: should it fail, nothing else does. What a second interpreter does to a process, and so what
is done about it here:

- a fork with one alive crashes the child (https://github.com/python/cpython/issues/139759): it is ended
  before each fork, and made again after it;
- a process that is torn down with one alive may abort (https://github.com/python/cpython/issues/113433): it
  is ended by `atexit`;
- a function in C that is called with keywords there for the first time may crash 3.12 at its end: the
  program passes all by position;
- PyGILState_Check() says 1 from then on, wherever it is called (its documentation): PyTorch's autograd takes
  that for an error, so where PyTorch is loaded there is no sentinel.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import logging
import marshal
import os
import socket
import sys
import threading
from dataclasses import dataclass
from typing import Any, Final

from graceful.budget import LastMoments

logger = logging.getLogger("graceful")

_NEED_GIL_CHECKS: Final = ("torch",)
_BOUND_SECONDS: Final = 1.0  # a start takes 15 ms, an end one
_LEAVE: Final = b"leave"
_STAND_DOWN: Final = b"stand down"
_READY: Final = b"ready"


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """What the sentinel is to do. `moments` are seconds after the first of the signals `begins`.

    `dump_signal`, if any, is sent to the thread `dump_thread`, a `threading.get_ident()` of the main
    interpreter's, which is what `faulthandler` shows. `words` are said on the descriptor `stderr`, if any,
    and written to the file `log_path`, if any, opened with `log_flags`; the seconds since the signal take the
    place of `{}`.
    """

    begins: tuple[int, ...]
    moments: LastMoments
    code: int
    words: str
    stderr: int | None
    dump_signal: int | None
    dump_thread: int
    log_path: str | None
    log_flags: int


class Sentinel:
    """One interpreter beside ours, on a thread of its own."""

    def __init__(self, inbox: int, orders: Orders) -> None:
        """`inbox` is a descriptor of the wakeup socket's reading end; it is closed with the sentinel."""
        self._inbox = inbox
        self._orders = orders
        self._here, self._there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._here.settimeout(0.0)
        self._thread: threading.Thread | None = None
        self._told = b""
        self._on_guard = False
        self.problem: BaseException | None = None

    def start(self) -> None:
        """It watches within milliseconds; nothing waits for it. Should it fail, `problem` says why."""
        global _posted  # noqa: PLW0603 - hooks of fork are the process's and cannot be taken back
        _posted = self
        atexit.register(self.stop)
        self._begin()

    def tell(self, at: LastMoments | None, *, dump: bool) -> None:
        """Others have noticed the signal: it acts at these instants instead of its own, or not at all. The
        stacks are its business only if `dump`.
        """
        self._told = _STAND_DOWN if at is None else f"{at.leaves} {at.ends} {dump:d}".encode()
        self._send(self._told)

    def stop(self) -> None:
        """The interpreter is gone on return. Called again, it changes nothing."""
        global _posted  # noqa: PLW0603 - see start
        if _posted is self:
            _posted = None
        atexit.unregister(self.stop)
        if self._inbox < 0:
            return
        self.pause()
        self._here.close()
        self._there.close()
        os.close(self._inbox)
        self._inbox = -1

    @property
    def on_guard(self) -> bool:
        """Whether it watches by now: from then on it needs nothing of ours."""
        with contextlib.suppress(OSError):
            self._on_guard = self._on_guard or self._here.recv(len(_READY)) == _READY
        return self._on_guard

    def pause(self) -> None:
        """There is no second interpreter on return."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._send(_LEAVE)
            thread.join(_BOUND_SECONDS)
        with contextlib.suppress(OSError):
            self._here.recv(len(_READY))  # that one's
        self._on_guard = False

    def resume(self) -> None:
        """After `pause`; what it was told last it is told again."""
        if self._inbox >= 0:
            self._begin()
            if self._told:
                self._send(self._told)

    def _send(self, order: bytes) -> None:
        with contextlib.suppress(OSError):  # full, or gone: it keeps to what it knows
            self._here.send(order)

    def _begin(self) -> None:
        self._thread = threading.Thread(target=self._live, name="graceful-sentinel", daemon=True)
        self._thread.start()

    def _live(self) -> None:
        """Make the interpreter, run it until it is told to leave, and take it down."""
        try:
            interpreters = _interpreters()
            interpreter = interpreters.create()
            try:
                problem = _run(interpreters, interpreter, self._program())
                if problem is not None:
                    raise RuntimeError(problem)
            finally:
                interpreters.destroy(interpreter)
        except Exception as problem:  # noqa: BLE001 - private modules, which may fail in ways of their own
            self.problem = problem
            logger.debug("C code that holds the GIL when the signal comes is not noticed: %s", problem)

    def _program(self) -> str:
        """The source of what the other interpreter runs: it cannot see our objects, only copies."""
        orders = self._orders
        arguments = (
            self._inbox,
            self._there.fileno(),
            tuple(map(int, orders.begins)),  # not members of an enum, which have no literal
            orders.moments.leaves,
            orders.moments.ends,
            orders.code,
            orders.words,
            orders.stderr,
            orders.dump_signal,
            orders.dump_thread,
            orders.log_path,
            orders.log_flags,
        )
        code = marshal.dumps(_stand_guard.__code__)
        return (
            "import marshal, types\n"
            f"types.FunctionType(marshal.loads({code!r}), {{'__builtins__': __builtins__}})(*{arguments!r})\n"
        )


def is_possible() -> str | None:
    """None where a sentinel can be had; else why not."""
    version = tuple(sys.version_info)  # as a tuple, since mypy reads what is compared as a promise
    if sys.platform != "linux" or sys.implementation.name != "cpython" or version < (3, 12):
        return "it takes CPython 3.12 or later on Linux"
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        return "there is no GIL"
    loaded = [name for name in _NEED_GIL_CHECKS if name in sys.modules]
    return f"{loaded[0]} is loaded, and relies on PyGILState_Check()" if loaded else None


def _interpreters() -> Any:
    """CPython's own module for other interpreters; it has no public one before 3.14."""
    return importlib.import_module(
        "_interpreters" if tuple(sys.version_info) >= (3, 13) else "_xxsubinterpreters"
    )


def _run(interpreters: Any, interpreter: Any, program: str) -> str | None:
    """Run `program` there until it ends; what it raised, if anything."""
    if tuple(sys.version_info) >= (3, 13):
        problem = interpreters.exec(interpreter, program)
        return None if problem is None else str(problem.formatted)
    interpreters.run_string(interpreter, program)
    return None


_posted: Sentinel | None = None


def posted() -> Sentinel | None:
    """The one that watches this process, if any."""
    return _posted


def stay() -> None:
    """The process is left without being torn down: nobody has to take the sentinel down before, which takes
    longer than all the rest.
    """
    if _posted is not None:
        atexit.unregister(_posted.stop)


def _before_fork() -> None:
    if _posted is not None:
        _posted.pause()


def _after_fork_in_parent() -> None:
    if _posted is not None:
        _posted.resume()


def _after_fork_in_child() -> None:
    global _posted  # noqa: PLW0603 - the child has no sentinel, and must not wait for one at its own forks
    _posted = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child
    )


def _stand_guard(  # noqa: PLR0913, PLR0917, C901 - one function, since only its code can be handed over
    inbox: int,
    told: int,
    begins: tuple[int, ...],
    speaks_after: float,
    ends_after: float,
    exit_code: int,
    words: str,
    stderr: int | None,
    dump_signal: int | None,
    dump_thread: int,
    log_path: str | None,
    log_flags: int,
) -> None:  # pragma: no cover - runs in another interpreter, which coverage does not see
    """Wait for a signal and for the others to notice it; end the process where they don't.

    It knows nothing of this module: its code is all that the other interpreter gets.
    """
    import _signal  # type: ignore[import-not-found]  # noqa: PLC0415 - it ships no types
    import _socket  # noqa: PLC0415
    import _thread  # noqa: PLC0415
    import posix  # noqa: PLC0415
    import select  # noqa: PLC0415
    import time  # noqa: PLC0415

    signals = _socket.socket(-1, -1, -1, posix.dup(inbox))  # by position: see above
    # Edge-triggered: what is in there may be left there by others as long as they like.
    events = select.epoll()
    events.register(inbox, select.EPOLLIN | select.EPOLLET)
    events.register(told, select.EPOLLIN)
    speaks: float | None = None
    ends, dump = 0.0, 1.0
    posix.write(told, b"ready")
    while speaks is None or time.monotonic() < speaks:
        left = (
            -1 if speaks is None else min(86_400.0, max(0.0, speaks - time.monotonic()))
        )  # epoll has a most
        for descriptor, _ in events.poll(left):
            if descriptor == told:
                order = posix.read(told, 64)
                if order in {b"leave", b""}:
                    signals.close()
                    events.close()
                    return
                speaks, ends, dump = (None, 0.0, 1.0) if order == b"stand down" else map(float, order.split())
            if speaks is None:  # also when told so: a signal may have come since that was written
                try:
                    heard = signals.recv(4096, _socket.MSG_PEEK | _socket.MSG_DONTWAIT)
                except BlockingIOError:
                    continue  # others have taken it
                if any(number in begins for number in heard):
                    now = time.monotonic()
                    speaks, ends = now + speaks_after, now + ends_after

    text = words.replace("{}", f"{time.monotonic() - ends + ends_after:.1f}")

    def speak() -> None:
        if stderr is not None:
            posix.write(stderr, b"CRITICAL: graceful: " + text.encode())
        if dump and dump_signal is not None:
            _signal.pthread_kill(dump_thread, dump_signal)

    def write(log_path: str) -> None:
        content = text.encode()
        log = posix.open(log_path, log_flags, 0o644)
        posix.write(log, content)
        posix.ftruncate(log, len(content))

    # On threads of their own: standard error may be a pipe that nobody reads.
    _thread.start_new_thread(speak, ())
    if log_path is not None:
        _thread.start_new_thread(write, (log_path,))
    time.sleep(max(0.0, ends - time.monotonic()))
    posix._exit(exit_code)  # noqa: SLF001 - C's name for it
