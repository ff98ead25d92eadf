"""From what a user declares as a resource to its value, and back: one way in and one way out of each form."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from functools import partial
from typing import Any, Final, get_origin, get_type_hints

from graceful.calls import Call
from graceful.errors import ResourceError

_NEVER: Final = "its generator ended without a yield; yield the value once"
_TWICE: Final = "its generator yields a second time; yield once, and release behind it"
_DONE: Final = object()

# What a class has whose objects belong on an event loop, from their making to their end.
_ASYNC: Final = ("__aenter__", "aclose", "__await__", "__anext__")


class Access(Call):
    """The way in and out of one resource, taken once, by one task.

    Whatever is not async happens on one thread, so that it can neither block the loop nor see two threads
    (sqlite3 objects must not); whatever is, in the task that calls `enter` and `leave` (anyio's cancel
    scopes must not see two).
    """

    def __init__(self, name: str, make: Callable[[], object], *, on_thread: bool) -> None:
        super().__init__(f"resource-{name}", on_thread=on_thread)
        self._resource = name
        self._make = make
        self._way_out: Callable[[], Awaitable[object]] | None = None

    async def enter(self) -> Any:
        """The value. Raises what the user's code raises, ResourceError for a generator without a yield;
        nothing is left to be released then.
        """
        try:
            return await self._take(await self.call(self._make))
        except BaseException:
            self.end()
            raise

    async def leave(self) -> None:
        """The value has been given back on return. Raises what the user's code raises, ResourceError for a
        generator with a second yield.
        """
        try:
            if self._way_out is not None:
                await self._way_out()
        finally:
            self.end()

    async def _take(self, made: object) -> Any:
        """The value in what the user's function returned."""
        if isinstance(made, AsyncGenerator):
            return await self._take_async_generator(made)
        if isinstance(made, Generator):
            return await self._take_generator(made)
        if _has(made, "__aenter__"):
            return await self._take_async_manager(made)
        if not inspect.isawaitable(made):
            return await self._take_result(made, entered=_with_closes(made))
        self.to_loop()
        result = await self.wait_for(made)
        if _has(result, "__aenter__") and _way_to_close(result) is None:
            return await self._take_async_manager(result)
        return await self._take_result(result, entered=_way_to_close(result) is None)

    async def _take_async_generator(self, generator: AsyncGenerator[Any, None]) -> Any:
        self.to_loop()
        self._way_out = partial(self._finish_async_generator, generator)
        value = await self.wait_for(anext(generator, _DONE), standing=generator)
        if value is _DONE:
            raise ResourceError(self._resource, _NEVER)
        return value

    async def _take_generator(self, generator: Generator[Any, None, Any]) -> Any:
        self._way_out = partial(self.call, self._finish_generator, generator)
        value = await self.call(next, generator, _DONE)
        if value is _DONE:
            raise ResourceError(self._resource, _NEVER)
        return value

    async def _take_async_manager(self, manager: Any) -> Any:
        self.to_loop()
        leave = type(manager).__aexit__
        # That of contextlib.asynccontextmanager: there the user's code stands.
        generator = getattr(manager, "gen", None)
        self._way_out = lambda: self.wait_for(leave(manager, None, None, None), standing=generator)
        return await self.wait_for(type(manager).__aenter__(manager), standing=generator)

    async def _take_result(self, result: Any, *, entered: bool) -> Any:
        """What is no async context manager: entered, or else the value itself, closed if that is possible."""
        if entered and _has(result, "__enter__"):
            self._way_out = partial(self.call, type(result).__exit__, result, None, None, None)
            return await self.call(type(result).__enter__, result)
        close = _way_to_close(result)
        if close is not None:
            self._way_out = partial(self.result_of, close)
        return result

    async def _finish_async_generator(self, generator: AsyncGenerator[Any, None]) -> None:
        value = await self.wait_for(anext(generator, _DONE), standing=generator)
        if value is _DONE:
            return
        try:
            await self.wait_for(generator.aclose(), standing=generator)
        finally:
            raise ResourceError(self._resource, _TWICE)

    def _finish_generator(self, generator: Generator[Any, None, Any]) -> None:
        if next(generator, _DONE) is _DONE:
            return
        try:
            generator.close()
        finally:
            raise ResourceError(self._resource, _TWICE)


def belongs_on_loop(target: object) -> bool:
    """Whether calling `target`, or entering it, is a matter for the event loop; else it is one for a thread.

    A plain function that says nothing of what it returns runs on a thread, since it may block; should it
    return something async all the same, that is entered on the loop.
    """
    if is_context_manager(target):
        return _has(target, "__aenter__")
    while isinstance(target, partial):
        target = target.func
    if isinstance(target, type):
        return _is_async(target)
    function = target if inspect.isroutine(target) else type(target).__call__
    # Under contextlib.asynccontextmanager is an async generator function.
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(inspect.unwrap(function)):
        return True
    try:
        returned = get_type_hints(function).get("return")
    except Exception:  # noqa: BLE001 - annotations are the user's code; some hold names for type checkers only
        return False
    return _is_async(get_origin(returned) or returned)


def is_context_manager(target: object) -> bool:
    """Whether `target` itself can be entered. A class cannot: its objects are."""
    return not isinstance(target, type) and (_has(target, "__aenter__") or _has(target, "__enter__"))


def _is_async(kind: object) -> bool:
    return isinstance(kind, type) and any(hasattr(kind, attribute) for attribute in _ASYNC)


def _has(target: object, method: str) -> bool:
    return hasattr(type(target), method)  # as `with` looks it up: on the type


def _way_to_close(result: object) -> Callable[[], object] | None:
    for attribute in ("aclose", "close"):
        close = getattr(result, attribute, None)
        if callable(close):
            return close  # type: ignore[no-any-return]  # a stranger's
    return None


def _with_closes(result: object) -> bool:
    """Whether a `with` block gives `result` back. With a database's connection it may end a transaction and
    leave it open, as sqlite3's and psycopg2's do; that is told by the methods of PEP 249.
    """
    return not all(hasattr(result, method) for method in ("cursor", "commit", "rollback", "close"))
