"""The resources of a runtime: acquired in the order of their declaration, released last acquired first,
each in its time and isolated from the others.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, TypeVar, overload

from graceful.calls import text_of
from graceful.declared import Callback, ReleaseCallback, Resource, resource_from
from graceful.errors import ResourceError
from graceful.tenures import Held

__all__ = ["ReleaseCallback", "ReleaseOutcome", "Resource", "ResourceDeclarer", "Resources", "resource_from"]

T = TypeVar("T")
Clock: TypeAlias = Callable[[], float]

logger = logging.getLogger("graceful")

# A release that begins after its deadline still tries for this long: most resources need a blink.
_LEAST_SECONDS: Final = 0.1
# What one that is given up gets, out of its share, to accept its cancellation: at most this, and this
# part of it.
_LAST_WORDS_SECONDS: Final = 0.1
_LAST_WORDS_PART: Final = 1 / 10
# What one with a timeout of its own has to leave to each of the others.
_OTHERS_SECONDS: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseOutcome:
    """How the release of a resource, or the call of a callback, ended, and how many seconds it took.

    `error` is one line: what was raised, or where it stood when its time was up; None where it was released.
    """

    name: str
    seconds: float
    outcome: Literal["released", "failed", "timed out"]
    error: str | None


class Resources:
    """All that a runtime has declared, and what its run has acquired and not released.

    One run at a time: `acquire` begins it, `release` ends it, both on its loop; the next may have another.
    """

    def __init__(self) -> None:
        self._declared: list[Resource[Any] | Callback] = []
        self._stack: list[Held] = []
        self._reached = 0
        self._stage: Literal["between runs", "running", "releasing"] = "between runs"
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """How many a run has to release; between runs, how many are declared."""
        return len(self._declared if self._stage == "between runs" else self._stack)

    @property
    def held(self) -> list[str]:
        """The names of what has been acquired and not been given back, in the order of release, each with the
        line at which its release stands, if it has begun. From any thread.
        """
        with self._lock:
            stack = list(reversed(self._stack))
        return [f"{held.name}{_at(held)}" for held in stack]

    @property
    def names(self) -> tuple[str, ...]:
        """Of those that a run has still to release, in the order of that. On any thread."""
        return tuple(held.name for held in reversed(tuple(self._stack)))

    def add(self, resource: Resource[Any]) -> None:
        """`resource` is acquired by the next `acquire`. Raises ResourceError if another has its name."""
        if any(isinstance(other, Resource) and other.name == resource.name for other in self._declared):
            raise ResourceError(
                resource.name, "there is another of this name; give one of them a name of its own, name=…"
            )
        self._declared.append(resource)

    def on_release(
        self, callback: ReleaseCallback, *, name: str | None = None, timeout: float | None = None
    ) -> None:
        """`callback` is called by `release`, in its place among the resources: last declared first. From
        any thread.

        Declared between runs it is called at the end of each run, declared in a run at the end of that one.
        Raises ResourceError while the release goes on.
        """
        declared = Callback(callback, name=name, timeout=timeout)
        with self._lock:
            if self._stage == "releasing":
                raise ResourceError(
                    declared.name, "the release has begun, it is too late to declare a callback"
                )
            if self._stage == "running":
                self._stack.append(declared.begin())
            else:
                self._declared.append(declared)

    async def acquire(self) -> None:
        """All that is declared has been acquired on return, in its order; what had been before is left alone.

        Raises what the first one that fails raised (see `Resource.explained`); no other is begun then. If
        it is cancelled it cancels what is being acquired, and does not wait for that. Either way `release`
        must follow: it gives back what was acquired and waits for what was being acquired.
        """
        self._stage = "running"
        while self._reached < len(self._declared):
            declared = self._declared[self._reached]
            if isinstance(declared, Resource):
                await self._acquire_one(declared)
            else:
                self._stack.append(declared.begin())
            self._reached += 1

    async def release(self, deadline: float, clock: Clock) -> tuple[ReleaseOutcome, ...]:
        """Everything has been given back or given up on return, last acquired first; one outcome for each.

        That takes until `deadline`, in seconds of `clock`, at most; if that has passed, a tenth of a
        second. Each has its own timeout, or else an equal share of what remains; no failure and no hang of
        one takes another's turn. Callbacks are called even where nothing has been acquired. Never raises.
        If it is cancelled, so is the release of what is left.
        """
        with self._lock:
            if self._stage == "between runs":  # the server runs no lifespan
                self._stack += [
                    declared.begin() for declared in self._declared if isinstance(declared, Callback)
                ]
            self._stage = "releasing"
        deadline = max(deadline, clock() + _LEAST_SECONDS)
        outcomes = []
        try:
            while self._stack:
                held = self._stack[-1]
                outcome = await _give_back(held, _patience(held, deadline - clock(), len(self._stack)), clock)
                self._stack.pop()
                if outcome is not None:
                    outcomes.append(outcome)
        finally:
            self._end_run()
        return tuple(outcomes)

    async def _acquire_one(self, resource: Resource[Any]) -> None:
        tenure = resource.begin()
        self._stack.append(tenure)
        try:
            problem = await tenure.entered()
        except asyncio.CancelledError:
            tenure.interrupt()
            raise
        if problem is not None:
            self._stack.remove(tenure)
            raise resource.explained(problem)

    def _end_run(self) -> None:
        with self._lock:
            left, self._stack = self._stack, []
            self._reached = 0
            self._stage = "between runs"
        if left:
            names = ", ".join(held.name for held in reversed(left))
            logger.error("the release was cancelled; not released: %s", names)
        for held in reversed(left):
            held.give_up()


def _at(held: Held) -> str:
    place = held.stands_at()
    return f", at {place}" if place else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Patience:
    """The seconds to wait for a release, and those to wait for its cancellation to be accepted."""

    seconds: float
    last_words: float


def _patience(held: Held, remaining: float, left: int) -> _Patience:
    """How long to wait for `held`, one of `left` that share the seconds that remain."""
    share = max(0.0, remaining) / left
    last_words = min(_LAST_WORDS_SECONDS, share * _LAST_WORDS_PART)
    if held.timeout is None:
        return _Patience(seconds=share - last_words, last_words=last_words)
    others = min(_OTHERS_SECONDS, share) * (left - 1)
    return _Patience(seconds=min(held.timeout, share * left - others - last_words), last_words=last_words)


async def _give_back(held: Held, patience: _Patience, clock: Clock) -> ReleaseOutcome | None:
    """The outcome for one; None where it had not been acquired, because it was interrupted."""
    began = clock()
    leaving = held.leave()
    await asyncio.wait({leaving}, timeout=patience.seconds)
    if leaving.done():
        return _outcome(held, clock() - began)
    stood = f"at {held.stands_at() or 'an unknown place'}"
    if not held.acquired:
        stood = f"still being acquired, {stood}"
    held.give_up()
    await asyncio.wait({leaving}, timeout=patience.last_words)
    if not leaving.done():
        stood = f"{stood}; it does not accept its cancellation"
    seconds = clock() - began
    # What a cancelled release raises besides its CancelledError is worth a traceback, but no other outcome.
    raised = held.problem if isinstance(held.problem, Exception) else None
    logger.error("the release of %s timed out after %.1f s, %s", held.name, seconds, stood, exc_info=raised)
    return ReleaseOutcome(name=held.name, seconds=seconds, outcome="timed out", error=stood)


def _outcome(held: Held, seconds: float) -> ReleaseOutcome | None:
    """The outcome for one that is over."""
    problem = held.problem
    if problem is None:
        return ReleaseOutcome(name=held.name, seconds=seconds, outcome="released", error=None)
    error = text_of(problem)
    if held.acquired:
        logger.error("the release of %s failed: %s", held.name, error, exc_info=problem)
        return ReleaseOutcome(name=held.name, seconds=seconds, outcome="failed", error=error)
    if isinstance(problem, Exception):  # else it is the CancelledError that it was asked for
        logger.warning("interrupted while it was acquired, %s raised %s", held.name, error, exc_info=problem)
    return None


class ResourceDeclarer:
    """The decorator that declares resources: `resource(target)`, `resource(target, name=…)`,
    `@resource(timeout=2)`.

    What it returns is typed by the value, see `resource_from`.
    """

    def __init__(
        self, resources: Resources, *, name: str | None = None, timeout: float | None = None
    ) -> None:
        self._resources = resources
        self._name = name
        self._timeout = timeout

    @overload
    def __call__(
        self,
        target: Callable[[], AbstractAsyncContextManager[T, Any]],
        /,
        *,
        name: str | None = None,
        timeout: float | None = None,
    ) -> Resource[T]: ...
    @overload
    def __call__(
        self,
        target: Callable[[], AbstractContextManager[T, Any]],
        /,
        *,
        name: str | None = None,
        timeout: float | None = None,
    ) -> Resource[T]: ...
    @overload
    def __call__(
        self,
        target: Callable[[], AsyncIterator[T]],
        /,
        *,
        name: str | None = None,
        timeout: float | None = None,
    ) -> Resource[T]: ...
    @overload
    def __call__(
        self, target: Callable[[], Iterator[T]], /, *, name: str | None = None, timeout: float | None = None
    ) -> Resource[T]: ...
    @overload
    def __call__(
        self, target: Callable[[], Awaitable[T]], /, *, name: str | None = None, timeout: float | None = None
    ) -> Resource[T]: ...
    @overload
    def __call__(
        self, target: Callable[[], T], /, *, name: str | None = None, timeout: float | None = None
    ) -> Resource[T]: ...
    @overload
    def __call__(
        self,
        target: AbstractAsyncContextManager[T, Any],
        /,
        *,
        name: str | None = None,
        timeout: float | None = None,
    ) -> Resource[T]: ...
    @overload
    def __call__(
        self,
        target: AbstractContextManager[T, Any],
        /,
        *,
        name: str | None = None,
        timeout: float | None = None,
    ) -> Resource[T]: ...
    @overload
    def __call__(self, /, *, name: str | None = None, timeout: float | None = None) -> ResourceDeclarer: ...
    def __call__(
        self, target: Any = None, /, *, name: str | None = None, timeout: float | None = None
    ) -> Resource[Any] | ResourceDeclarer:
        """Declare `target`, or return a decorator that does so with this name and timeout."""
        name = self._name if name is None else name
        timeout = self._timeout if timeout is None else timeout
        if target is None:
            return ResourceDeclarer(self._resources, name=name, timeout=timeout)
        resource: Resource[Any] = Resource(target, name=name, timeout=timeout)
        self._resources.add(resource)
        return resource
