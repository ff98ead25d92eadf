"""Signals: a handler notes and wakes, nothing more. The only module that knows `signal`.

It imports nothing but the standard library's smallest modules, since the entry point installs its handlers
before it imports anything else: a Python that is PID 1 loses, for good, a signal that comes before its
handler.
"""

from __future__ import annotations

import os
import time

from graceful.errors import RuntimeInUseError

# `typing` takes longer to import than all the rest of this, and a signal may come meanwhile.
TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Collection
    from types import FrameType
    from typing import Any, Final, TypeAlias, TypeVar

    T = TypeVar("T")

    # What signal.getsignal returns: a callable, SIG_DFL, SIG_IGN, or None for a handler that C code
    # installed.
    Found: TypeAlias = Any
else:
    import _signal as signal  # the half of it that is C: the other makes enums of all constants first


def _by_name(*names: str) -> tuple[int, ...]:
    return tuple(int(getattr(signal, name)) for name in names if hasattr(signal, name))


TERMINATE: Final = _by_name("SIGTERM", "SIGBREAK")  # SIGBREAK is what Windows has
INTERRUPT: Final = _by_name("SIGINT")
QUIT: Final = _by_name("SIGQUIT")
OWNED: Final = TERMINATE + INTERRUPT + QUIT
IGNORED: Final = signal.SIG_IGN


class Arrival:
    """One signal, and when it was noted, in seconds of the clock."""

    __slots__ = ("at", "signum")

    def __init__(self, signum: int, at: float) -> None:
        self.signum = signum
        self.at = at


class Handler:
    """What `signal.getsignal` shows while a watch is installed.

    `__self__` is that of the handler which was found (libraries such as sse-starlette look through it for the
    server), unless an owner has been set with `speak_for`.
    """

    def __init__(self, note: Callable[[int], None], found: Found) -> None:
        self._note = note
        self.found = found
        self.calls = 0
        self._owner: object | None = None

    def __call__(self, signum: int, _frame: FrameType | None) -> None:
        """Note the signal."""
        self.calls += 1
        self._note(signum)

    def renewed(self) -> Handler:
        """Another that does the same."""
        handler = Handler(self._note, self.found)
        handler._owner = self._owner
        return handler

    def speak_for(self, owner: object) -> None:
        """From now on `__self__` is `owner`."""
        self._owner = owner

    @property
    def __self__(self) -> object:
        """The owner, else what the handler found is bound to; AttributeError where there is none."""
        if self._owner is not None:
            return self._owner
        return self.found.__self__


class SignalWatch:
    """Notes the signals of this process between `install` and `restore`, in the order of their coming.

    Readers pull: `noted` only ever grows while the watch is installed, and each wake means "look again". So
    nothing is lost or seen twice however a signal falls between two lines.

    `heard` is the same from another source, see `hear`: while the main thread is in C code, no handler of
    Python's runs.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._handlers: dict[int, Handler] = {}
        self._wakes: tuple[Callable[[], object], ...] = ()
        self._displaced: dict[int, tuple[Found, Handler]] = {}
        self._calling: int | None = None
        self.noted: list[Arrival] = []
        self.heard: list[Arrival] = []
        self.owner: object | None = None

    def install(self, *signums: int) -> None:
        """Put our handlers in place of those found, which are kept; those that are ours already stay. Main
        thread only (ValueError).
        """
        global _installed  # noqa: PLW0603 - signals belong to the process, so does the word who has them
        if hasattr(signal, "pthread_sigmask"):  # a mask is inherited: a parent that blocked them made us deaf
            signal.pthread_sigmask(signal.SIG_UNBLOCK, signums)
        for signum in signums:
            if signum not in self._handlers:
                handler = Handler(self._note, signal.getsignal(signum))
                signal.signal(signum, handler)
                self._handlers[signum] = handler
        _installed = self

    def restore(self) -> None:
        """Put back the handlers that were found, except where somebody else's has replaced ours since. May be
        called twice.
        """
        global _installed  # noqa: PLW0603 - see install
        for signum, handler in self._handlers.items():
            if found_handler(signum) is handler:
                signal.signal(signum, signal.SIG_DFL if handler.found is None else handler.found)
        self._handlers.clear()
        self._displaced.clear()
        self._wakes = ()
        self.noted = []
        self.heard = []
        self.owner = None
        if _installed is self:
            _installed = None

    def subscribe(self, wake: Callable[[], object]) -> None:
        """Call `wake` after each signal, from the handler: it must neither block nor raise. Called at once if
        some have been noted.
        """
        self._wakes += (wake,)
        if self.noted:
            wake()

    def unsubscribe(self, wake: Callable[[], object]) -> None:
        """No longer call `wake`."""
        self._wakes = tuple(other for other in self._wakes if other is not wake)

    def hear(self, signum: int) -> None:
        """The kernel has delivered `signum`, says a thread that reads the wakeup descriptor. Nothing where
        the handler in place is not ours: then it is somebody else's signal.
        """
        handler = self._handlers.get(signum)
        if handler is not None and found_handler(signum) is handler:
            self.heard.append(Arrival(signum, self._clock()))
            # One that falls between the loop's last look and its sleep would wake nobody: each wake has the
            # main thread run, and with it the handler.
            for wake in self._wakes:
                wake()

    def first(self, signums: tuple[int, ...]) -> float | None:
        """When the first of these signals came, be it noted or only heard; None where none has come."""
        arrivals = [arrival for arrival in (*self.noted, *self.heard) if arrival.signum in signums]
        return min((arrival.at for arrival in arrivals), default=None)

    def count(self, signums: tuple[int, ...]) -> int:
        """How many of these signals have come, as far as is known: the kernel joins what is pending."""
        sources = (list(self.noted), list(self.heard))
        return max(sum(arrival.signum in signums for arrival in source) for source in sources)

    def speak_for(self, owner: object) -> None:
        """Libraries that look for the server through the handler's `__self__` find `owner`."""
        for handler in self._handlers.values():
            handler.speak_for(owner)

    def put_back(self, signum: int) -> str | None:
        """If somebody has taken the signal after us, take it back, the first time; returns who it was, else
        None.

        The other handler is not lost: see `call_displaced`.
        """
        handler, taker = self._handlers.get(signum), found_handler(signum)
        if handler is None or taker is handler or signum in self._displaced:
            return None
        if self.noted:  # too late: it has had its signal, and has handed it on to us
            return None
        # It may have ours, and call it. What is put back is another, so that it shows whom a signal reaches
        # first that comes just now.
        self._displaced[signum] = taker, handler
        self._handlers[signum] = handler.renewed()
        signal.signal(signum, self._handlers[signum])
        if not callable(taker):
            return "the default action" if taker == signal.SIG_DFL else "somebody who ignores it"
        module, name = getattr(taker, "__module__", None), getattr(taker, "__qualname__", repr(taker))
        return f"{module}.{name}" if module else name

    def call_displaced(self, signum: int) -> None:
        """Call the handler from which `put_back` took the signal, unless it has had it already. It may call
        ours in turn, which notes nothing meanwhile.
        """
        taker, former = self._displaced.get(signum, (None, None))
        if former is not None and not former.calls:
            self._call(signum, taker, "a displaced handler")

    def call_found(self, signum: int) -> None:
        """Do what the handler found at installation would have done. Ignored and default actions do nothing
        here.
        """
        handler = self._handlers.get(signum)
        if handler is not None and callable(handler.found):
            handler.found(signum, None)

    def call_those_found(self) -> None:
        """Call the handlers that were found at installation, of each signal that has come, once. What they
        raise is logged; the interpreter's own, KeyboardInterrupt's, is not called.
        """
        for signum, handler in list(self._handlers.items()):
            if self.count((signum,)) and handler.found is not signal.default_int_handler:
                self._call(signum, handler.found, "the earlier handler")

    def _call(self, signum: int, handler: Found, what: str) -> None:
        if not callable(handler):
            return
        self._calling = signum
        try:
            handler(signum, None)
        except BaseException:  # whatever it raises, an exit too, it does not own the end of this process
            import logging  # noqa: PLC0415 - see the imports above

            logging.getLogger("graceful").exception("%s of %s raised", what, name_of(signum))
        finally:
            self._calling = None

    def _note(self, signum: int) -> None:
        if signum == self._calling:
            return
        self.noted.append(Arrival(signum, self._since(signum)))
        for wake in self._wakes:
            wake()

    def _since(self, signum: int) -> float:
        """When the signal came of which the handler is told now: if it is the first, and another thread has
        heard of it, then. The main thread may have been in C code since.
        """
        now = self._clock()
        if any(arrival.signum == signum for arrival in self.noted):
            return now
        return next((arrival.at for arrival in self.heard if arrival.signum == signum), now)


_installed: SignalWatch | None = None
_wakeup_taken = False


def claim(owner: object) -> SignalWatch:
    """The watch of this process, for `owner` alone: the entry point's early one with what it has noted, or a
    new one, not yet installed.

    Raises RuntimeInUseError when somebody else has claimed the one that is installed.
    """
    watch = _installed or SignalWatch()
    if watch.owner not in {None, owner}:
        message = "another Runtime has the signals of this process; run one Runtime in a process"
        raise RuntimeInUseError(message)
    watch.owner = owner
    return watch


def found_handler(signum: int) -> Found:
    """The handler that is in place now, by whomever."""
    return signal.getsignal(signum)


def set_wakeup_fd(fd: int) -> int:
    """From now on the kernel's signals are written to `fd` as they are delivered, a byte each; returns who
    had them before, or -1. Main thread only (ValueError). What does not fit into `fd` is dropped.
    """
    global _wakeup_taken  # noqa: PLW0603 - see SignalWatch.install
    _wakeup_taken = fd != -1
    return signal.set_wakeup_fd(fd, warn_on_full_buffer=False)


def without_signals(call: Callable[[], T]) -> T:
    """What `call` returns. A thread that it starts never gets a signal."""
    mask = signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
    try:
        return call()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def spare_signal(caught: Collection[int]) -> int | None:
    """A real-time signal that has no handler of Python's and is not among `caught`, those that C code has
    handlers for; None where there is none.
    """
    highest, lowest = getattr(signal, "SIGRTMAX", 0), getattr(signal, "SIGRTMIN", 0)
    spare = (each for each in range(highest, lowest, -1) if each not in caught and _is_default(each))
    return next(spare, None)


def _is_default(signum: int) -> bool:
    return bool(signal.getsignal(signum) == signal.SIG_DFL)


def in_main_thread() -> bool:
    """Whether handlers may be installed from here (CPython allows it in the main thread only)."""
    import threading  # noqa: PLC0415 - see TYPE_CHECKING above; the entry point is in the main thread, and does not ask

    return threading.current_thread() is threading.main_thread()


def name_of(signum: int) -> str:
    """`SIGTERM` for 15."""
    from signal import Signals  # noqa: PLC0415 - see the imports above

    return Signals(signum).name


def number_of(name: str) -> int:
    """15 for `SIGTERM`, 37 for `SIGRTMIN+3`. Raises KeyError for a name that this system does not know."""
    from signal import Signals  # noqa: PLC0415 - see the imports above

    for sign, factor in (("+", 1), ("-", -1)):
        base, _, offset = name.partition(sign)
        number = factor * int(offset) if offset.isdecimal() else 0
        if number and base in {"SIGRTMIN", "SIGRTMAX"}:  # KeyError on macOS, which has none
            found = int(Signals[base]) + number
            if Signals["SIGRTMIN"] <= found <= Signals["SIGRTMAX"]:
                return found
    return int(Signals[name])


def is_known(name: str) -> bool:
    """Whether this system has a signal of this name, see `number_of`."""
    try:
        number_of(name)
    except KeyError:
        return False
    return True


def raise_again(signum: int) -> None:
    """Deliver a signal that was noted and that nobody has acted on to the handler that is in place now."""
    signal.raise_signal(signum)


def die_of(signum: int) -> None:
    """End this process by the signal's default action, so that its parent sees 128 + signum. As PID 1 it
    returns: the kernel drops it.
    """
    signal.signal(signum, signal.SIG_DFL)
    os.kill(os.getpid(), signum)


def _forget_in_child() -> None:
    """A forked child has neither our handlers nor our wakes: else its own SIGTERM would make the parent drain
    (the wakeup socket is shared).
    """
    watch = _installed
    if watch is not None or _wakeup_taken:
        signal.set_wakeup_fd(-1)
    if watch is not None:
        watch.restore()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)
