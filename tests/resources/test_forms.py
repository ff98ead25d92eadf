"""Every form of a resource: entered and left in one place, a task or a thread; and what is no form of one."""

from __future__ import annotations

import asyncio
import functools
import sqlite3
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing, contextmanager
from typing import TYPE_CHECKING, Any, Self

import pytest

from graceful.errors import ResourceError
from graceful.resources import ReleaseOutcome, Resource, ResourceDeclarer, Resources, resource_from
from tests.both_loops import Run
from tests.resources.scene import (
    AsyncManager,
    Manager,
    async_generator,
    book,
    generator,
    release,
    released,
    said,
    up_and_down,
)

if TYPE_CHECKING:
    from nowhere import Unknown  # type: ignore[import-not-found]  # a name that only type checkers see


class Either(Manager, AsyncManager):
    """Can be entered both ways, as many libraries' clients can."""


class Value:
    """Comes as a result, and is compared to "value"."""

    def __init__(self) -> None:
        book.write("in")

    def __eq__(self, other: object) -> bool:
        return other == "value"

    __hash__ = None  # type: ignore[assignment]


class Closable(Value):
    def close(self) -> None:
        book.write("out")


class AsyncClosable(Value):
    async def aclose(self) -> None:
        await asyncio.sleep(0)
        book.write("out")


class ClosableLater(Value):
    """As asyncpg's pool: its close is async, and not called aclose."""

    async def close(self) -> None:
        await asyncio.sleep(0)
        book.write("out")


class Connection(Closable):
    """As sqlite3's: `with` ends a transaction, and does not close."""

    def cursor(self) -> None: ...
    def commit(self) -> None: ...
    def rollback(self) -> None: ...

    def __enter__(self) -> Self:
        raise AssertionError

    def __exit__(self, *exc_info: object) -> None:
        raise AssertionError


class Client(AsyncClosable):
    """Can be entered too, but as the result of a coroutine function it has been opened already."""

    async def __aenter__(self) -> Self:
        raise AssertionError

    async def __aexit__(self, *exc_info: object) -> None:
        raise AssertionError


async def coroutine_of_closable() -> Closable:
    return Closable()


async def coroutine_of_async_closable() -> AsyncClosable:
    return AsyncClosable()


async def coroutine_of_client() -> Client:
    return Client()


async def coroutine_of_manager() -> Manager:
    return Manager()


async def coroutine_of_async_manager() -> AsyncManager:
    return AsyncManager()


class AsyncCallable:
    async def __call__(self) -> ClosableLater:
        return ClosableLater()


class Factory:
    def __call__(self) -> Manager:
        return Manager()


def annotated() -> AsyncManager:
    asyncio.get_running_loop()  # on the loop, as some async classes need it to be
    return AsyncManager()


def annotated_with_alias() -> AbstractAsyncContextManager[str]:
    asyncio.get_running_loop()
    return AsyncManager()


def annotated_with_the_unknown() -> Unknown:
    return Manager()


def not_annotated():  # type: ignore[no-untyped-def]  # noqa: ANN201
    return AsyncManager()


def of_an_async_generator():  # type: ignore[no-untyped-def]  # noqa: ANN201
    return async_generator()


FORMS: dict[str, tuple[Any, str]] = {
    "async generator": (async_generator, "task"),
    "generator": (generator, "thread"),
    "asynccontextmanager": (asynccontextmanager(async_generator), "task"),
    "contextmanager": (contextmanager(generator), "thread"),
    "async context manager": (AsyncManager(), "task"),
    "context manager": (Manager(), "thread"),
    "both kinds of context manager": (Either(), "task"),
    "class of async context managers": (AsyncManager, "task"),
    "class of context managers": (Manager, "thread"),
    "class with aclose": (AsyncClosable, "task"),
    "class with close": (Closable, "thread"),
    "class of connections": (Connection, "thread"),
    "coroutine of closable": (coroutine_of_closable, "task"),
    "coroutine of async closable": (coroutine_of_async_closable, "task"),
    "coroutine of client": (coroutine_of_client, "task"),
    "coroutine of context manager": (coroutine_of_manager, "task"),
    "coroutine of async context manager": (coroutine_of_async_manager, "task"),
    "async callable": (AsyncCallable(), "task"),
    "callable": (Factory(), "thread"),
    "partial": (functools.partial(functools.partial(AsyncClosable)), "task"),
    "function that says async": (annotated, "task"),
    "function that says async by an alias": (annotated_with_alias, "task"),
    "function that says what nobody knows": (annotated_with_the_unknown, "thread"),
    "function that says nothing": (not_annotated, "task"),
    "function that returns an async generator": (of_an_async_generator, "task"),
    "function that returns a generator": (lambda: generator(), "thread"),  # noqa: PLW0108
    "function that returns a coroutine": (lambda: coroutine_of_closable(), "task"),  # noqa: PLW0108
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_entered_and_left_in_one_place(run: Run, form: str) -> None:
    target, kind = FORMS[form]
    resource: Resource[Any] = resource_from(target, name="it")
    resources = Resources()
    resources.add(resource)

    async def main() -> None:
        await resources.acquire()
        assert resource.value == "value"
        assert book.lines == ["in"]
        assert said(await release(resources)) == released("it")

    run(main)
    assert book.lines == ["in", "out"]
    assert [place[0] for place in book.places] == [kind, kind]
    assert book.places[0] == book.places[1]
    assert book.places[0] != ("thread", threading.get_ident())


def test_a_result_without_any_way_to_close_it_is_a_value_all_the_same(
    run: Run, resources: Resources, resource: ResourceDeclarer
) -> None:
    async def coroutine() -> int:
        return 1

    first, second = resource(lambda: 2, name="function"), resource(coroutine)

    async def main() -> None:
        await resources.acquire()
        assert (first.value, second.value) == (2, 1)
        assert said(await release(resources)) == released("coroutine", "function")

    run(main)


def test_what_is_async_may_be_made_on_a_thread_and_is_closed_on_the_loop(
    run: Run, resources: Resources
) -> None:
    class Made:
        def __init__(self) -> None:
            book.write("in")

        def close(self) -> Awaitable[None]:
            return self._close()

        async def _close(self) -> None:
            book.write("out")

    resources.add(resource_from(Made))
    assert said(run(up_and_down(resources))) == released("Made")
    assert [place[0] for place in book.places] == ["thread", "task"]


def test_sqlite_is_closed_on_its_thread(run: Run, resources: Resources, resource: ResourceDeclarer) -> None:
    @resource
    def by_generator() -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(":memory:")) as connection:
            yield connection

    returned = resource(lambda: sqlite3.connect(":memory:", check_same_thread=False), name="returned")
    connections = []

    async def main() -> tuple[ReleaseOutcome, ...]:
        await resources.acquire()
        connections.append(returned.value)
        with pytest.raises(sqlite3.ProgrammingError, match="same thread"):
            by_generator.value.execute("SELECT 1")
        return await release(resources)

    assert said(run(main)) == released("returned", "by_generator")
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        connections[0].execute("SELECT 1")


def takes_arguments(url: str) -> Iterator[str]:
    yield url


@pytest.mark.parametrize(
    ("declare", "message"),
    [
        (
            lambda: resource_from(5),  # type: ignore[call-overload]
            "resource int: found an object of type int; expected a function, a class or a context manager",
        ),
        (
            lambda: resource_from(takes_arguments),  # type: ignore[arg-type]
            (
                "resource takes_arguments: missing a required argument: 'url'; it is called without"
                " arguments, so bind them with functools.partial"
            ),
        ),
        (
            lambda: resource_from(generator, timeout=0),
            "resource generator: its timeout is 0; expected seconds, a number above 0, or None",
        ),
        (
            lambda: resource_from(generator, name="db", timeout=float("nan")),
            "resource db: its timeout is nan; expected seconds, a number above 0, or None",
        ),
        (
            lambda: resource_from(generator, timeout="1"),  # type: ignore[call-overload]
            "resource generator: its timeout is '1'; expected seconds, a number above 0, or None",
        ),
        (
            lambda: Resources().on_release(5),  # type: ignore[arg-type]
            "resource int: found an object of type int; expected a function, a class or a context manager",
        ),
        (
            lambda: Resources().on_release(generator, timeout=-1),
            "resource generator: its timeout is -1; expected seconds, a number above 0, or None",
        ),
    ],
)
def test_what_cannot_be_declared(declare: Callable[[], object], message: str) -> None:
    with pytest.raises(ResourceError) as raised:
        declare()
    assert str(raised.value) == message


def test_a_name_is_taken_once(resource: ResourceDeclarer, resources: Resources) -> None:
    first = resource(generator)
    with pytest.raises(ResourceError, match="resource generator: there is another of this name"):
        resource(generator)
    assert resource(generator, name="other").name == "other"
    resources.on_release(lambda: None, name="generator")
    resources.on_release(lambda: None, name="generator")
    assert first.name == "generator"


def test_names() -> None:
    assert resource_from(generator).name == "generator"
    assert resource_from(functools.partial(functools.partial(Closable))).name == "Closable"
    assert resource_from(AsyncManager()).name == "AsyncManager"
    assert resource_from(Factory()).name == "Factory"
    assert resource_from(generator, name="db", timeout=2).timeout == 2
    assert resource_from(dict).name == "dict", "of a class in C that has no signature"
