"""Resources: acquired in the order of their declaration, given back in the reverse order, each within its time, whatever the others do.

Each asynchronous resource is entered and left in one task of its own, since anyio's scopes and `asyncio.timeout` insist on it; each other
one on one thread of its own, since sqlite3 and others insist on that, and so that none can block the loop.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final, Generic, Literal, Protocol, TypeAlias, TypeVar, cast, overload

from graceful.errors import ResourceError
from graceful.holders import Callback, Holder, TaskHolder, ThreadHolder

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])
ReleaseCallback: TypeAlias = Callable[[], object]

logger = logging.getLogger("graceful")

# How long an acquisition that was cancelled may take to end before the release begins without it.
_GIVE_UP_SECONDS: Final = 0.5
_NOTHING: Final = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseOutcome:
    """How the release of one resource went, and how many seconds it took. `error` is what it raised, in one line."""

    name: str
    seconds: float
    outcome: Literal["released", "failed", "timed out"]
    error: str | None = None


class Resource(Generic[T]):
    """Something that a run acquires when it starts and gives back when it ends. Made by `Runtime.resource`."""

    def __init__(self, target: Any, *, name: str | None = None, timeout: float | None = None) -> None:
        found = name or getattr(target, "__name__", None) or type(target).__name__
        if not callable(target) and not hasattr(target, "__aenter__") and not hasattr(target, "__enter__"):
            problem = (
                f"found {target!r}; expected a generator function, a context manager or a coroutine function"
            )
            raise ResourceError(found, problem)
        if timeout is not None and not timeout > 0:
            raise ResourceError(found, f"found timeout={timeout!r}; expected seconds, more than 0")
        self.name = found
        self.timeout = timeout
        self.target = target
        self._value: Any = _NOTHING

    @property
    def value(self) -> T:
        """What was acquired. Raises ResourceError before that, and after the release."""
        if self._value is _NOTHING:
            problem = "it has no value now; it is there from the startup of a run to its release"
            raise ResourceError(self.name, problem)
        return cast("T", self._value)

    def holder(self) -> Holder:
        """Who will hold it in one run: a task for an asynchronous resource, else a thread."""
        return (
            TaskHolder(self.target, self.name)
            if _asynchronous(self.target)
            else ThreadHolder(self.target, self.name)
        )

    def acquired(self, value: T) -> None:
        """It has this value from now on."""
        self._value = value

    def gone(self) -> None:
        """It has no value any more."""
        self._value = _NOTHING


def _asynchronous(target: Any) -> bool:
    """Whether it must be entered on the loop, as far as can be known without calling it."""
    if inspect.isclass(target) or not callable(target):
        return hasattr(target, "__aenter__") or (
            hasattr(target, "aclose") and not hasattr(target, "__enter__")
        )
    function = inspect.unwrap(target)
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)


class _Entry:
    """One thing on the stack of a run."""

    def __init__(
        self, name: str, timeout: float | None, holder: Holder, resource: Resource[Any] | None
    ) -> None:
        self.name = name
        self.timeout = timeout
        self.holder = holder
        self.resource = resource


class Resources:
    """All that a service has declared, in that order, and the stack of what the current run has acquired."""

    def __init__(self) -> None:
        self._declared: list[Resource[Any] | _CallbackDeclared] = []
        self._stack: list[_Entry] = []
        self._running = False

    def __len__(self) -> int:
        return len(self._stack) if self._running else len(self._declared)

    def add(self, resource: Resource[Any]) -> None:
        """Declare a resource; acquired by the next `acquire`. Raises ResourceError when its name is taken."""
        self._refuse_twice(resource.name)
        self._declared.append(resource)

    def on_release(
        self, callback: ReleaseCallback, *, name: str | None = None, timeout: float | None = None
    ) -> None:
        """Call `callback` at the release, in the order of the resources. One that is added while a run goes on is that run's only."""
        declared = _CallbackDeclared(
            callback, name or getattr(callback, "__qualname__", repr(callback)), timeout
        )
        if self._running:
            self._stack.append(declared.entry())
        else:
            self._declared.append(declared)

    def _refuse_twice(self, name: str) -> None:
        if any(other.name == name for other in self._declared):
            raise ResourceError(name, "there is one of this name already; give it another with name=")

    async def acquire(self) -> None:
        """All have been acquired on return, in the order of their declaration.

        Raises what the first one raised that could not be; nothing more has been started then, and what had been acquired waits for
        `release`. So it does when this is cancelled: the one that is being acquired is told to give up.
        """
        self._running = True
        for declared in self._declared:
            if isinstance(declared, _CallbackDeclared):
                self._stack.append(declared.entry())
                continue
            entry = _Entry(declared.name, declared.timeout, declared.holder(), declared)
            try:
                declared.acquired(await entry.holder.enter())
            except asyncio.CancelledError:
                if not await entry.holder.give_up(_GIVE_UP_SECONDS):
                    self._stack.append(
                        entry
                    )  # a thread cannot be cancelled: what it acquires late it gives back at once
                raise
            self._stack.append(entry)

    async def release(self, deadline: float, clock: Callable[[], float]) -> tuple[ReleaseOutcome, ...]:
        """Everything has been given back on return, last acquired first, or has been left behind and is named as such. Never raises.

        Each has its own timeout, else an equal share of what remains until `deadline`, in seconds of `clock`.
        """
        outcomes = []
        while self._stack:
            entry = self._stack.pop()
            remaining = max(0.0, deadline - clock())
            share = remaining / (len(self._stack) + 1)
            allowed = share if entry.timeout is None else min(entry.timeout, remaining)
            outcomes.append(await _release(entry, allowed, clock))
        self._running = False
        return tuple(outcomes)


@dataclass(frozen=True, slots=True)
class _CallbackDeclared:
    callback: ReleaseCallback
    name: str
    timeout: float | None

    def entry(self) -> _Entry:
        return _Entry(self.name, self.timeout, Callback(self.callback, self.name), None)


async def _release(entry: _Entry, allowed: float, clock: Callable[[], float]) -> ReleaseOutcome:
    began = clock()
    ended = await entry.holder.leave(allowed)
    if entry.resource is not None:
        entry.resource.gone()
    seconds = clock() - began
    if not ended:
        logger.error("resource %s was not released in %.1f s; it is left behind", entry.name, seconds)
        return ReleaseOutcome(name=entry.name, seconds=seconds, outcome="timed out")
    problem = entry.holder.problem
    if problem is not None:
        logger.error("resource %s failed to release", entry.name, exc_info=problem)
        error = " ".join(f"{type(problem).__name__}: {problem}".split())
        return ReleaseOutcome(name=entry.name, seconds=seconds, outcome="failed", error=error)
    return ReleaseOutcome(name=entry.name, seconds=seconds, outcome="released")


class _Closes(Protocol):
    def close(self) -> object: ...


class _AsyncCloses(Protocol):
    def aclose(self) -> Awaitable[object]: ...


C = TypeVar("C", bound=_Closes)
A = TypeVar("A", bound=_AsyncCloses)


class ResourceDeclarer:
    """`Runtime.resource`: declares a resource, as a decorator or called with it; with or without `name` and `timeout`.

    The target is a generator function, async or not; a context manager, async or not, or a function that returns one; a coroutine
    function, whose result is the value and is closed by its `aclose` or `close`; a class with such a method.
    """

    def __init__(self, resources: Resources) -> None:
        self._resources = resources

    @overload
    def __call__(self, target: Callable[[], AsyncIterator[T]], /) -> Resource[T]: ...
    @overload
    def __call__(self, target: Callable[[], Iterator[T]], /) -> Resource[T]: ...
    @overload
    def __call__(self, target: Callable[[], Coroutine[Any, Any, T]], /) -> Resource[T]: ...
    @overload
    def __call__(self, target: Callable[[], AbstractAsyncContextManager[T]], /) -> Resource[T]: ...
    @overload
    def __call__(self, target: Callable[[], AbstractContextManager[T]], /) -> Resource[T]: ...
    @overload
    def __call__(self, target: AbstractAsyncContextManager[T], /) -> Resource[T]: ...
    @overload
    def __call__(self, target: AbstractContextManager[T], /) -> Resource[T]: ...
    @overload
    def __call__(self, target: Callable[[], A], /) -> Resource[A]: ...
    @overload
    def __call__(self, target: Callable[[], C], /) -> Resource[C]: ...
    @overload
    def __call__(self, /, *, name: str | None = None, timeout: float | None = None) -> _NamedDeclarer: ...
    def __call__(
        self, target: Any = None, /, *, name: str | None = None, timeout: float | None = None
    ) -> Any:
        """The declared resource, or what declares one of this name and timeout. Raises ResourceError for what cannot be one."""
        if target is None:
            return _NamedDeclarer(self._resources, name, timeout)
        return _NamedDeclarer(self._resources, name, timeout)(target)


class _NamedDeclarer:
    def __init__(self, resources: Resources, name: str | None, timeout: float | None) -> None:
        self._resources = resources
        self._name = name
        self._timeout = timeout

    @overload
    def __call__(self, target: Callable[[], AsyncIterator[T]], /) -> Resource[T]: ...
    @overload
    def __call__(self, target: Callable[[], Iterator[T]], /) -> Resource[T]: ...
    @overload
    def __call__(self, target: Callable[[], Coroutine[Any, Any, T]], /) -> Resource[T]: ...
    @overload
    def __call__(self, target: Callable[[], AbstractAsyncContextManager[T]], /) -> Resource[T]: ...
    @overload
    def __call__(self, target: Callable[[], AbstractContextManager[T]], /) -> Resource[T]: ...
    @overload
    def __call__(self, target: AbstractAsyncContextManager[T], /) -> Resource[T]: ...
    @overload
    def __call__(self, target: AbstractContextManager[T], /) -> Resource[T]: ...
    @overload
    def __call__(self, target: Callable[[], A], /) -> Resource[A]: ...
    @overload
    def __call__(self, target: Callable[[], C], /) -> Resource[C]: ...
    def __call__(self, target: Any, /) -> Any:
        resource: Resource[Any] = Resource(target, name=self._name, timeout=self._timeout)
        self._resources.add(resource)
        return resource
