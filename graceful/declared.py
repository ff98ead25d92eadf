"""What users declare: a resource in one of its forms, or a call at the end. Declared once, begun by every
run.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any, Generic, TypeAlias, TypeVar, overload

from graceful.acquisition import Access, belongs_on_loop, is_context_manager
from graceful.calls import missing_arguments, name_of, text_of
from graceful.errors import ResourceError
from graceful.tenures import LastCall, Tenure

T = TypeVar("T")
ReleaseCallback: TypeAlias = Callable[[], object]


class Resource(Generic[T]):
    """What the service acquires when it starts and gives back when it ends. Made by `Runtime.resource`.

    `timeout` is the most seconds that its release may take; None for an equal share of what remains.
    """

    def __init__(self, target: Any, *, name: str | None = None, timeout: float | None = None) -> None:
        self.name = name_of(target) if name is None else name
        self.timeout = _checked_timeout(self.name, timeout)
        self._is_manager = is_context_manager(target)
        if not self._is_manager:
            _require_callable(self.name, target)
        self._target = target
        self._on_thread = not belongs_on_loop(target)
        self._tenure: Tenure | None = None
        self._begun_before = False

    def __repr__(self) -> str:
        return f"<Resource {self.name}>"

    @property
    def value(self) -> T:
        """What was acquired. Raises ResourceError before it has been, and after it has been released."""
        tenure = self._tenure
        if tenure is None or not tenure.holds:
            problem = "its value was asked for before it was acquired, or after it was released"
            raise ResourceError(self.name, f"{problem}; it is there from the start of the app to its end")
        value: T = tenure.value
        return value

    def begin(self) -> Tenure:
        """Begin to acquire it, on the running loop. `value` is that of the tenure that was begun last."""
        target = self._target
        make = (lambda: target) if self._is_manager else target
        self._begun_before = self._tenure is not None
        self._tenure = Tenure(self.name, self.timeout, Access(self.name, make, on_thread=self._on_thread))
        return self._tenure

    def explained(self, failure: BaseException) -> Exception:
        """What to raise where it could not be acquired: the user's exception, with a note that names the
        resource.

        One that is no Exception is wrapped in a ResourceError: raised in a task SystemExit would fall
        through the event loop, and CancelledError would pass for the cancellation of that task.
        """
        if not isinstance(failure, Exception):
            error = ResourceError(self.name, f"raised {text_of(failure)} while it was being acquired")
            error.__cause__ = failure
            return error
        failure.add_note(f"This was raised while the resource {self.name} was being acquired.")
        if self._is_manager and self._begun_before:
            failure.add_note(
                "It is a context manager that an earlier run has entered. If it can be entered only once,"
                " declare the function that makes it instead."
            )
        return failure


class Callback:
    """A call at the end of each run."""

    def __init__(
        self, callback: ReleaseCallback, *, name: str | None = None, timeout: float | None = None
    ) -> None:
        self.name = name_of(callback) if name is None else name
        self.timeout = _checked_timeout(self.name, timeout)
        _require_callable(self.name, callback)
        self._callback = callback

    def begin(self) -> LastCall:
        """The call, not made yet."""
        return LastCall(self.name, self.timeout, self._callback)


# The forms of a resource and the type of its value. Order matters: what is a context manager is entered,
# also where it is something else besides (a file is an iterator of lines).


@overload
def resource_from(
    target: Callable[[], AbstractAsyncContextManager[T, Any]],
    *,
    name: str | None = None,
    timeout: float | None = None,
) -> Resource[T]: ...
@overload
def resource_from(
    target: Callable[[], AbstractContextManager[T, Any]],
    *,
    name: str | None = None,
    timeout: float | None = None,
) -> Resource[T]: ...
@overload
def resource_from(
    target: Callable[[], AsyncIterator[T]], *, name: str | None = None, timeout: float | None = None
) -> Resource[T]: ...
@overload
def resource_from(
    target: Callable[[], Iterator[T]], *, name: str | None = None, timeout: float | None = None
) -> Resource[T]: ...
@overload
def resource_from(
    target: Callable[[], Awaitable[T]], *, name: str | None = None, timeout: float | None = None
) -> Resource[T]: ...
@overload
def resource_from(
    target: Callable[[], T], *, name: str | None = None, timeout: float | None = None
) -> Resource[T]: ...
@overload
def resource_from(
    target: AbstractAsyncContextManager[T, Any], *, name: str | None = None, timeout: float | None = None
) -> Resource[T]: ...
@overload
def resource_from(
    target: AbstractContextManager[T, Any], *, name: str | None = None, timeout: float | None = None
) -> Resource[T]: ...
def resource_from(target: Any, *, name: str | None = None, timeout: float | None = None) -> Resource[Any]:
    """The resource that `target` declares; named as `target` is unless a name is given.

    - A generator function, async or not: its value is what it yields, and it is released by running on.
    - A function or class that returns a context manager, or a context manager itself, async or not: its
      value is what entering returns, and it is released by leaving. A database's connection (PEP 249) is
      closed instead, since leaving may only end its transaction.
    - A coroutine function, or a function or class whose result is none of these: its value is the result,
      and it is released by its `aclose` or `close`, if it has one.

    Raises ResourceError for anything else, for one that takes arguments, and for a timeout that cannot be
    meant.
    """
    return Resource(target, name=name, timeout=timeout)


def _checked_timeout(name: str, timeout: object) -> float | None:
    if timeout is None or (isinstance(timeout, int | float) and 0 < timeout < math.inf):
        return timeout
    raise ResourceError(name, f"its timeout is {timeout!r}; expected seconds, a number above 0, or None")


def _require_callable(name: str, target: Any) -> None:
    if not callable(target):
        found = type(target).__name__
        raise ResourceError(
            name, f"found an object of type {found}; expected a function, a class or a context manager"
        )
    missing = missing_arguments(target)
    if missing is not None:
        raise ResourceError(
            name, f"{missing}; it is called without arguments, so bind them with functools.partial"
        )
