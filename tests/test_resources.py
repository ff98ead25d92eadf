"""Resources: every form of them, in order, in time, isolated; on asyncio's loop and on uvloop."""

from __future__ import annotations

import asyncio
import contextvars
import dataclasses
import functools
import logging
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing, contextmanager
from typing import TYPE_CHECKING, Any, Self

import anyio
import pytest

from graceful.calls import Lane
from graceful.errors import ResourceError
from graceful.resources import ReleaseOutcome, Resource, ResourceDeclarer, Resources, resource_from
from tests.both_loops import BOTH_LOOPS, Run, runs_on
from tests.jumping_loop import JumpingLoop, jump

if TYPE_CHECKING:
    from nowhere import Unknown  # type: ignore[import-not-found]  # a name that only type checkers see


@pytest.fixture(params=BOTH_LOOPS)
def run(request: pytest.FixtureRequest) -> Run:
    return runs_on(request.param)


@pytest.fixture
def resources() -> Resources:
    return Resources()


@pytest.fixture
def resource(resources: Resources) -> ResourceDeclarer:
    return ResourceDeclarer(resources)


async def release(resources: Resources, seconds: float = 10) -> tuple[ReleaseOutcome, ...]:
    return await resources.release(time.monotonic() + seconds, time.monotonic)


def up_and_down(resources: Resources) -> Callable[[], Any]:
    async def main() -> tuple[ReleaseOutcome, ...]:
        await resources.acquire()
        return await release(resources)

    return main


def said(outcomes: tuple[ReleaseOutcome, ...]) -> list[tuple[str, str, str | None]]:
    return [(outcome.name, outcome.outcome, outcome.error) for outcome in outcomes]


def released(*names: str) -> list[tuple[str, str, str | None]]:
    return [(name, "released", None) for name in names]


def place_of_call() -> tuple[str, int]:
    """The task, or the thread where there is none, in which this is called."""
    try:
        task = asyncio.current_task()
    except RuntimeError:
        task = None
    return ("thread", threading.get_ident()) if task is None else ("task", id(task))


class Book:
    """What resources of every form write down: that they were entered and left, and where."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.places: list[tuple[str, int]] = []

    def write(self, line: str) -> None:
        self.lines.append(line)
        self.places.append(place_of_call())


book = Book()


@pytest.fixture(autouse=True)
def _new_book() -> None:
    book.__init__()  # type: ignore[misc]  # the same book for the classes below


class Manager:
    def __enter__(self) -> str:
        book.write("in")
        return "value"

    def __exit__(self, *exc_info: object) -> None:
        assert exc_info == (None, None, None)
        book.write("out")


class AsyncManager:
    async def __aenter__(self) -> str:
        await asyncio.sleep(0)
        book.write("in")
        return "value"

    async def __aexit__(self, *exc_info: object) -> None:
        assert exc_info == (None, None, None)
        await asyncio.sleep(0)
        book.write("out")


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


async def async_generator() -> AsyncIterator[str]:
    await asyncio.sleep(0)
    book.write("in")
    yield "value"
    await asyncio.sleep(0)
    book.write("out")


def generator() -> Iterator[str]:
    book.write("in")
    yield "value"
    book.write("out")


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


def test_last_in_first_out(run: Run, resources: Resources, resource: ResourceDeclarer) -> None:
    log: list[str] = []

    @resource
    async def first() -> AsyncIterator[str]:
        log.append("+first")
        yield "1"
        log.append("-first")

    resources.on_release(lambda: log.append("callback"), name="callback")

    @resource
    def second() -> Iterator[str]:
        log.append(f"+second with {first.value}")
        yield "2"
        log.append(f"-second with {first.value}")

    @resource
    async def third() -> AsyncIterator[str]:
        log.append(f"+third with {second.value}")
        yield "3"
        log.append(f"-third with {second.value}")

    assert len(resources) == 4
    assert said(run(up_and_down(resources))) == released("third", "second", "callback", "first")
    assert log == [
        "+first",
        "+second with 1",
        "+third with 2",
        "-third with 2",
        "-second with 1",
        "callback",
        "-first",
    ]


def test_a_value_is_there_from_acquisition_to_release(
    run: Run, resources: Resources, resource: ResourceDeclarer
) -> None:
    declared = resource(generator)
    problem = "its value was asked for before it was acquired, or after it was released"

    async def main() -> None:
        await resources.acquire()
        assert declared.value == "value"
        await release(resources)

    for _ in range(2):
        with pytest.raises(ResourceError, match=problem):
            assert declared.value
        run(main)
    with pytest.raises(ResourceError, match=problem) as raised:
        assert declared.value
    assert raised.value.name == "generator"
    assert repr(declared) == "<Resource generator>"


def test_three_runs_on_three_loops(run: Run, resources: Resources, resource: ResourceDeclarer) -> None:
    resource(generator)
    resource(async_generator)
    resource(AsyncManager(), name="manager")
    resources.on_release(lambda: book.write("callback"), name="callback")
    for _ in range(3):
        assert said(run(up_and_down(resources))) == released(
            "callback", "manager", "async_generator", "generator"
        )
    assert book.lines == ["in", "in", "in", "callback", "out", "out", "out"] * 3


def test_a_context_manager_that_can_be_entered_once(
    run: Run, resources: Resources, resource: ResourceDeclarer
) -> None:
    resource(contextmanager(generator)(), name="once")
    run(up_and_down(resources))
    with pytest.raises(Exception, match=r".") as raised:
        run(up_and_down(resources))
    assert raised.value.__notes__ == [
        "This was raised while the resource once was being acquired.",
        "It is a context manager that an earlier run has entered. If it can be entered only once, declare the"
        " function that makes it instead.",
    ]


def test_acquire_acquires_what_has_been_declared_since(
    run: Run, resources: Resources, resource: ResourceDeclarer
) -> None:
    @resource
    async def first() -> AsyncIterator[int]:
        resource(generator)  # declared by the startup of another
        yield 1

    async def main() -> None:
        await resources.acquire()
        late = resource(async_generator)
        assert len(resources) == 2
        await resources.acquire()
        assert (first.value, late.value) == (1, "value")
        assert len(resources) == 3
        assert said(await release(resources)) == released("async_generator", "generator", "first")

    run(main)


variable = contextvars.ContextVar("variable", default="none")


@pytest.mark.parametrize("form", ["async generator", "generator"])
def test_the_context_of_startup(
    run: Run, resources: Resources, resource: ResourceDeclarer, form: str
) -> None:
    seen: list[str] = []

    async def async_form() -> AsyncIterator[None]:
        seen.append(variable.get())
        variable.set("set when entered")
        yield
        seen.append(variable.get())

    def form_of_thread() -> Iterator[None]:
        seen.append(variable.get())
        variable.set("set when entered")
        yield
        seen.append(variable.get())

    resource(async_form if form == "async generator" else form_of_thread)

    async def main() -> None:
        variable.set("startup")
        resources.on_release(lambda: seen.append(variable.get()))
        await resources.acquire()
        variable.set("later")
        resources.on_release(lambda: seen.append(variable.get()))
        await release(resources)
        assert variable.get() == "later"

    run(main)
    assert seen == ["startup", "later", "startup", "set when entered"]


# Scopes that must be entered and left in one task.


def test_scopes_and_task_groups(run: Run, resources: Resources, resource: ResourceDeclarer) -> None:
    log: list[str] = []

    @resource(timeout=5)
    async def with_anyio() -> AsyncIterator[None]:
        with anyio.CancelScope(), anyio.fail_after(60):
            async with anyio.create_task_group() as group:
                group.start_soon(anyio.sleep_forever)
                yield
                group.cancel_scope.cancel()
        log.append("anyio")

    @resource
    async def with_asyncio() -> AsyncIterator[None]:
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            task = group.create_task(asyncio.Event().wait())
            yield
            task.cancel()
        log.append("asyncio")

    @resource
    @asynccontextmanager
    async def as_manager() -> AsyncIterator[None]:
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep_forever)
            yield
            group.cancel_scope.cancel()
        log.append("manager")

    assert said(run(up_and_down(resources))) == released("as_manager", "with_asyncio", "with_anyio")
    assert log == ["manager", "asyncio", "anyio"]


@pytest.mark.parametrize("library", ["asyncio", "anyio"])
def test_a_task_group_that_fails_while_in_use(
    run: Run, resources: Resources, resource: ResourceDeclarer, library: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(when: asyncio.Event) -> None:
        await when.wait()
        message = "the consumer died"
        raise OSError(message)

    async def main() -> tuple[ReleaseOutcome, ...]:
        when, left = asyncio.Event(), asyncio.Event()

        @resource
        async def consumer() -> AsyncIterator[int]:
            try:
                if library == "asyncio":
                    async with asyncio.TaskGroup() as group:
                        group.create_task(fail(when))
                        yield 1
                else:
                    async with anyio.create_task_group() as tasks:
                        tasks.start_soon(fail, when)
                        yield 1
            finally:
                left.set()

        await resources.acquire()
        when.set()
        await left.wait()
        await asyncio.sleep(0)
        with pytest.raises(ResourceError, match="after it was released"):
            assert consumer.value
        return await release(resources)

    [(name, outcome, error)] = said(run(main))
    assert (name, outcome) == ("consumer", "failed")
    assert error is not None
    assert error.startswith("ExceptionGroup: unhandled errors in a TaskGroup")
    assert [record.getMessage() for record in caplog.records] == [
        "resource consumer was cancelled while in use; it is released now",
        f"the release of consumer failed: {error}",
    ]
    assert "the consumer died" in caplog.text


def test_what_is_cancelled_with_all_other_tasks_is_released(
    run: Run, resources: Resources, resource: ResourceDeclarer
) -> None:
    resource(async_generator)
    resource(generator)

    async def main() -> tuple[ReleaseOutcome, ...]:
        await resources.acquire()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            if "resource" in task.get_name():
                task.cancel()
        return await release(resources)

    assert said(run(main)) == released("generator", "async_generator")
    assert sorted(book.lines) == ["in", "in", "out", "out"]


def test_a_loop_that_ends_without_a_release_still_releases(
    run: Run, resources: Resources, resource: ResourceDeclarer
) -> None:
    resource(async_generator)
    run(resources.acquire)  # asyncio.run cancels what is left, and waits for it
    assert book.lines == ["in", "out"]


# Failures.


class Boom(BaseException):
    pass


def raising(problem: BaseException) -> Callable[[], None]:
    def fail() -> None:
        raise problem

    return fail


RELEASE_FAILURES = [
    (OSError("refused"), "OSError: refused"),
    (ValueError(), "ValueError"),
    (SystemExit(3), "SystemExit: 3"),
    (KeyboardInterrupt(), "KeyboardInterrupt"),
    (asyncio.CancelledError(), "CancelledError"),
    (Boom("x\ny"), "Boom: x y"),
]


@pytest.mark.parametrize(("problem", "error"), RELEASE_FAILURES, ids=str)
def test_a_failing_release_is_named_and_skips_nothing(
    run: Run,
    resource: ResourceDeclarer,
    resources: Resources,
    caplog: pytest.LogCaptureFixture,
    problem: BaseException,
    error: str,
) -> None:
    @resource
    async def first() -> AsyncIterator[None]:
        yield

    @resource
    async def async_one() -> AsyncIterator[None]:
        yield
        raise problem

    @resource
    def one() -> Iterator[None]:
        yield
        raise problem

    resources.on_release(raising(problem), name="callback")
    assert said(run(up_and_down(resources))) == [
        ("callback", "failed", error),
        ("one", "failed", error),
        ("async_one", "failed", error),
        ("first", "released", None),
    ]
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("ERROR", f"the release of {name} failed: {error}") for name in ("callback", "one", "async_one")
    ]
    assert "raise problem" in caplog.text, "with the user's traceback"


ACQUIRE_FAILURES = [
    pytest.param(OSError("refused"), OSError, "refused", id="an exception"),
    pytest.param(StopIteration(), RuntimeError, "StopIteration", id="one that means something to coroutines"),
    pytest.param(
        SystemExit("no url"),
        ResourceError,
        "resource failing: raised SystemExit: no url while it was being acquired",
        id="SystemExit",
    ),
    pytest.param(
        asyncio.CancelledError(),
        ResourceError,
        "resource failing: raised CancelledError while it was being acquired",
        id="CancelledError",
    ),
]


@pytest.mark.parametrize("form", ["async", "sync"])
@pytest.mark.parametrize(("problem", "kind", "text"), ACQUIRE_FAILURES)
def test_a_failing_acquisition(
    run: Run,
    resource: ResourceDeclarer,
    resources: Resources,
    form: str,
    problem: BaseException,
    kind: type[Exception],
    text: str,
) -> None:
    resource(generator)

    async def failing() -> Value:
        raise problem

    resource(failing if form == "async" else raising(problem), name="failing")
    resource(async_generator)
    resources.on_release(lambda: book.write("never reached"))

    async def main() -> None:
        with pytest.raises(kind, match=text) as raised:
            await resources.acquire()
        assert raised.value is problem or raised.value.__cause__ is problem
        if kind is OSError:
            assert (
                raised.value.__notes__[-1] == "This was raised while the resource failing was being acquired."
            )
        assert len(resources) == 1
        assert said(await release(resources)) == released("generator")

    run(main)
    assert book.lines == ["in", "out"]


def never_yields() -> Generator[None, None, None]:
    if book.lines:
        yield


async def async_never_yields() -> AsyncIterator[None]:
    if book.lines:
        yield


@pytest.mark.parametrize("target", [never_yields, async_never_yields])
def test_a_generator_that_never_yields(run: Run, target: Any) -> None:
    resources = Resources()
    resources.add(resource_from(target, name="it"))
    with pytest.raises(
        ResourceError, match="^resource it: its generator ended without a yield; yield the value once$"
    ):
        run(resources.acquire)


@pytest.mark.parametrize("obstinate", [False, True])
@pytest.mark.parametrize("form", ["async", "sync"])
def test_a_generator_that_yields_twice(
    run: Run, resources: Resources, resource: ResourceDeclarer, form: str, *, obstinate: bool
) -> None:
    resource(AsyncManager, name="first")

    async def async_twice() -> AsyncIterator[int]:
        yield 1
        try:
            yield 2
        finally:
            book.write("closed")
            if obstinate:
                yield 3

    def twice() -> Iterator[int]:
        yield 1
        try:
            yield 2
        finally:
            book.write("closed")
            if obstinate:
                yield 3

    resource(async_twice if form == "async" else twice, name="twice")
    error = (
        "ResourceError: resource twice: its generator yields a second time; yield once, and release behind it"
    )
    assert said(run(up_and_down(resources))) == [("twice", "failed", error), *released("first")]
    assert book.lines == ["in", "closed", "out"]


class Unspeakable(Exception):  # noqa: N818
    def __str__(self) -> str:
        raise self


@pytest.mark.parametrize(
    ("problem", "error"),
    [
        (Unspeakable(), "Unspeakable, whose text could not be had"),
        (OSError("a\x1b[31m\r\nb\u2028c" + "x" * 300), "OSError: a [31m b c" + "x" * 178 + "..."),
    ],
    ids=["whose text fails", "whose text is evil"],
)
def test_the_error_is_one_short_line(run: Run, resources: Resources, problem: Exception, error: str) -> None:
    resources.on_release(raising(problem))
    [outcome] = run(up_and_down(resources))
    assert outcome.error == error


# Time.


def in_jumps(main: Callable[[JumpingLoop, Resources, ResourceDeclarer], Any]) -> Any:
    resources = Resources()
    return jump(lambda loop: main(loop, resources, ResourceDeclarer(resources)))


async def hanging() -> AsyncIterator[None]:
    yield
    await asyncio.Event().wait()


def seconds(outcomes: tuple[ReleaseOutcome, ...]) -> list[tuple[str, str, float]]:
    return [(outcome.name, outcome.outcome, round(outcome.seconds, 3)) for outcome in outcomes]


def test_those_that_hang_get_equal_shares_of_what_remains() -> None:
    async def main(loop: JumpingLoop, resources: Resources, resource: ResourceDeclarer) -> None:
        for number in range(3):
            resource(hanging, name=str(number))
        await resources.acquire()
        outcomes = await resources.release(loop.time() + 9, loop.time)
        # Of each share a tenth of a second is for accepting the cancellation; not needed, it goes to the others.
        assert seconds(outcomes) == [
            ("2", "timed out", 2.9),
            ("1", "timed out", 2.95),
            ("0", "timed out", 3.05),
        ]
        assert loop.time() == pytest.approx(8.9)

    in_jumps(main)


def test_unused_time_is_passed_on_and_a_timeout_of_its_own_holds() -> None:
    async def slow() -> AsyncIterator[None]:
        yield
        await asyncio.sleep(8)

    async def main(loop: JumpingLoop, resources: Resources, resource: ResourceDeclarer) -> None:
        resource(slow)
        resource(hanging, timeout=1)
        resource(AsyncManager)
        await resources.acquire()
        outcomes = await resources.release(loop.time() + 10, loop.time)
        assert seconds(outcomes) == [
            ("AsyncManager", "released", 0),
            ("hanging", "timed out", 1),
            ("slow", "released", 8),
        ]

    in_jumps(main)


def test_a_long_timeout_of_its_own_leaves_something_to_the_others() -> None:
    async def short() -> AsyncIterator[None]:
        yield
        await asyncio.sleep(0.04)

    async def main(loop: JumpingLoop, resources: Resources, resource: ResourceDeclarer) -> None:
        resource(short)
        resource(short, name="other")
        resource(hanging, timeout=100)
        await resources.acquire()
        outcomes = await resources.release(loop.time() + 3, loop.time)
        assert seconds(outcomes) == [
            ("hanging", "timed out", 2.8),
            ("other", "released", 0.04),
            ("short", "released", 0.04),
        ]

    in_jumps(main)


def test_a_release_that_begins_too_late_still_tries() -> None:
    async def short() -> AsyncIterator[None]:
        yield
        await asyncio.sleep(0.04)

    async def main(loop: JumpingLoop, resources: Resources, resource: ResourceDeclarer) -> None:
        resource(short)
        resource(hanging)
        await resources.acquire()
        outcomes = await resources.release(loop.time() - 5, loop.time)
        assert seconds(outcomes) == [("hanging", "timed out", 0.045), ("short", "released", 0.04)]

    in_jumps(main)


def test_a_release_that_ignores_its_cancellation_is_left_behind(caplog: pytest.LogCaptureFixture) -> None:
    async def main(loop: JumpingLoop, resources: Resources, resource: ResourceDeclarer) -> None:
        end = asyncio.Event()

        @resource
        async def obstinate() -> AsyncIterator[int]:
            yield 1
            while not end.is_set():
                try:
                    await end.wait()
                except asyncio.CancelledError:
                    book.write("cancelled")

        await resources.acquire()
        [outcome] = await resources.release(loop.time() + 2, loop.time)
        assert book.lines == ["cancelled"]
        assert outcome.outcome == "timed out"
        assert outcome.seconds == pytest.approx(2)
        assert outcome.error is not None
        assert outcome.error.startswith("at tests/test_resources.py:")
        assert outcome.error.endswith(" in obstinate; it does not accept its cancellation")
        with pytest.raises(ResourceError):
            assert obstinate.value
        assert [record.getMessage() for record in caplog.records] == [
            f"the release of obstinate timed out after 2.0 s, {outcome.error}"
        ]
        end.set()

    in_jumps(main)


def test_what_a_cancelled_release_raises_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def main(loop: JumpingLoop, resources: Resources, resource: ResourceDeclarer) -> None:
        @resource
        async def failing() -> AsyncIterator[None]:
            yield
            try:
                await asyncio.Event().wait()
            finally:
                message = "on top of it"
                raise OSError(message)

        await resources.acquire()
        [outcome] = await resources.release(loop.time() + 2, loop.time)
        assert outcome.outcome == "timed out"
        assert "OSError: on top of it" in caplog.text

    in_jumps(main)


class Blocked:
    """Blocks the thread that calls it, until the test is over."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self._end = threading.Event()
        self.thread: threading.Thread | None = None

    def __call__(self) -> None:
        self.thread = threading.current_thread()
        self.begun.set()
        self._end.wait()

    def let_go(self) -> None:
        self._end.set()
        if self.thread is not None:
            self.thread.join(timeout=10)
            assert not self.thread.is_alive(), "the thread ends when it comes back"


@pytest.fixture
def blocked() -> Iterator[Blocked]:
    blocked = Blocked()
    yield blocked
    blocked.let_go()


async def begun(blocked: Blocked) -> None:
    assert await asyncio.to_thread(blocked.begun.wait, 10)


def test_a_thread_that_blocks_for_ever_is_left_behind(
    run: Run, resources: Resources, resource: ResourceDeclarer, blocked: Blocked
) -> None:
    resource(AsyncManager)

    @resource(timeout=0.05)
    def stuck() -> Iterator[None]:
        yield
        blocked()

    [outcome, *others] = run(up_and_down(resources))
    assert (outcome.name, outcome.outcome) == ("stuck", "timed out")
    assert outcome.error is not None
    assert outcome.error.startswith("at ")
    assert " in wait" in outcome.error
    assert others[0].outcome == "released"
    assert blocked.thread is not None
    assert blocked.thread.daemon
    assert blocked.thread.name == "graceful-resource-stuck"


def test_no_thread_is_left_of_what_was_released(run: Run, resources: Resources) -> None:
    before = threading.active_count()
    threads: list[threading.Thread] = []
    resources.add(resource_from(lambda: threads.append(threading.current_thread()), name="it"))
    resources.on_release(lambda: threads.append(threading.current_thread()))
    run(up_and_down(resources))
    for thread in threads:
        thread.join(timeout=10)
    assert len(threads) == 2
    assert threading.active_count() <= before


# Interruptions of the startup.


def test_an_interrupted_acquisition_is_cancelled(
    run: Run, resources: Resources, resource: ResourceDeclarer, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        connecting = asyncio.Event()

        async def slow() -> AsyncIterator[None]:
            try:
                connecting.set()
                await asyncio.Event().wait()
                yield
            finally:
                book.write("interrupted")

        resource(generator)
        resource(slow)
        resource(async_generator)
        acquiring = asyncio.create_task(resources.acquire())
        await connecting.wait()
        acquiring.cancel()
        with pytest.raises(asyncio.CancelledError):
            await acquiring
        assert len(resources) == 2
        assert said(await release(resources)) == released("generator")

    run(main)
    assert book.lines == ["in", "interrupted", "out"]
    assert caplog.records == []


def test_an_interrupted_acquisition_that_raises_something_else(
    run: Run, resources: Resources, resource: ResourceDeclarer, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        connecting = asyncio.Event()

        async def slow() -> AsyncIterator[None]:
            try:
                connecting.set()
                await asyncio.Event().wait()
            except asyncio.CancelledError as cancelled:
                message = "no connection"
                raise OSError(message) from cancelled
            yield

        resource(slow)
        acquiring = asyncio.create_task(resources.acquire())
        await connecting.wait()
        acquiring.cancel()
        await asyncio.wait({acquiring})
        assert await release(resources) == (), "nothing was acquired"

    run(main)
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "interrupted while it was being acquired, slow raised OSError: no connection")
    ]


def test_an_interrupted_acquisition_that_succeeds_all_the_same(
    run: Run, resources: Resources, resource: ResourceDeclarer
) -> None:
    async def main() -> None:
        connecting = asyncio.Event()

        async def stubborn() -> AsyncIterator[None]:
            try:
                connecting.set()
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                book.write("in")
            yield
            await asyncio.sleep(0)
            book.write("out")

        resource(stubborn)
        acquiring = asyncio.create_task(resources.acquire())
        await connecting.wait()
        acquiring.cancel()
        await asyncio.wait({acquiring})
        assert acquiring.cancelled()
        assert said(await release(resources)) == released("stubborn")

    run(main)
    assert book.lines == ["in", "out"]


def test_an_acquisition_that_ignores_its_interruption() -> None:
    async def main(loop: JumpingLoop, resources: Resources, resource: ResourceDeclarer) -> None:
        connecting, end = asyncio.Event(), asyncio.Event()

        async def stubborn() -> AsyncIterator[None]:
            while not end.is_set():
                connecting.set()
                try:
                    await end.wait()
                except asyncio.CancelledError:
                    book.write("cancelled")
            yield

        resource(stubborn)
        acquiring = asyncio.create_task(resources.acquire())
        await connecting.wait()
        acquiring.cancel()
        await asyncio.wait({acquiring})
        [outcome] = await resources.release(loop.time() + 2, loop.time)
        assert outcome.outcome == "timed out"
        assert outcome.error is not None
        assert outcome.error.startswith("still being acquired, at tests/test_resources.py:")
        assert book.lines == ["cancelled", "cancelled"]
        end.set()

    in_jumps(main)


@pytest.mark.parametrize("in_time", [True, False])
def test_an_interrupted_acquisition_on_a_thread(
    run: Run, resources: Resources, resource: ResourceDeclarer, blocked: Blocked, *, in_time: bool
) -> None:
    @resource
    def slow() -> Iterator[None]:
        blocked()
        book.write("in")
        yield
        book.write("out")

    resource(async_generator)

    async def main() -> tuple[ReleaseOutcome, ...]:
        acquiring = asyncio.create_task(resources.acquire())
        await begun(blocked)
        acquiring.cancel()
        await asyncio.wait({acquiring})
        assert acquiring.cancelled()
        if in_time:
            releasing = asyncio.create_task(release(resources))
            await asyncio.to_thread(blocked._end.set)
            return await releasing
        return await release(resources, 0.1)

    [outcome] = run(main)
    if in_time:
        assert (outcome.name, outcome.outcome) == ("slow", "released")
        assert book.lines == ["in", "out"]
        assert book.places[0] == book.places[1]
    else:
        assert (outcome.name, outcome.outcome) == ("slow", "timed out")
        assert outcome.error is not None
        assert outcome.error.startswith("still being acquired, at ")


def test_an_acquisition_that_is_interrupted_before_its_first_step(
    run: Run, resources: Resources, resource: ResourceDeclarer
) -> None:
    resource(async_generator)

    async def main() -> None:
        acquiring = asyncio.create_task(resources.acquire())
        asyncio.get_running_loop().call_soon(acquiring.cancel)
        await asyncio.wait({acquiring})
        assert acquiring.cancelled()
        assert await release(resources) == ()

    run(main)
    assert book.lines == []


def test_a_resource_task_that_somebody_cancels_before_its_first_step(
    run: Run, resources: Resources, resource: ResourceDeclarer
) -> None:
    resource(async_generator)

    async def main() -> None:
        acquiring = asyncio.create_task(resources.acquire())

        def cancel_all() -> None:
            [task] = [task for task in asyncio.all_tasks() if "resource" in task.get_name()]
            task.cancel()

        asyncio.get_running_loop().call_soon(cancel_all)
        with pytest.raises(ResourceError, match="raised CancelledError while it was being acquired"):
            await acquiring

    run(main)


# Callbacks.


def test_callbacks_of_every_kind(run: Run, resources: Resources) -> None:
    async def async_callback() -> None:
        await asyncio.sleep(0)
        book.write("async")

    class Client:
        async def aclose(self) -> None:
            book.write("method")

    resources.on_release(lambda: book.write("sync"), name="sync")
    resources.on_release(async_callback)
    resources.on_release(Client().aclose)
    resources.on_release(lambda: async_callback(), name="lambda")  # noqa: PLW0108
    assert len(resources) == 4
    assert said(run(up_and_down(resources))) == released("lambda", "aclose", "async_callback", "sync")
    assert book.lines == ["async", "method", "async", "sync"]
    assert [place[0] for place in book.places] == ["task", "task", "task", "thread"]


def test_a_callback_declared_in_a_run_is_called_at_the_end_of_that_one(
    run: Run, resources: Resources
) -> None:
    resources.on_release(lambda: book.write("of every run"), name="every")

    async def main() -> None:
        await resources.acquire()
        await asyncio.to_thread(resources.on_release, lambda: book.write("of this one"))
        await release(resources)

    run(main)
    run(up_and_down(resources))
    assert book.lines == ["of this one", "of every run", "of every run"]


def test_callbacks_are_called_where_nothing_was_acquired(run: Run, resources: Resources) -> None:
    resources.add(resource_from(generator))
    resources.on_release(lambda: book.write("called"), name="callback")
    assert said(run(lambda: release(resources))) == released("callback")
    assert book.lines == ["called"]


def test_a_callback_cannot_be_declared_while_the_release_goes_on(run: Run, resources: Resources) -> None:
    def late() -> None:
        resources.on_release(late)

    resources.on_release(late)
    [outcome] = run(up_and_down(resources))
    assert outcome.outcome == "failed"
    assert outcome.error == (
        "ResourceError: resource late: the release has begun, it is too late to declare a callback"
    )


def test_a_callback_that_blocks_does_not_block_the_loop(
    run: Run, resources: Resources, blocked: Blocked
) -> None:
    resources.on_release(blocked, name="blocked")

    async def main() -> tuple[ReleaseOutcome, ...]:
        await resources.acquire()
        releasing = asyncio.create_task(release(resources))
        await begun(blocked)
        await asyncio.to_thread(blocked._end.set)
        return await releasing

    assert said(run(main)) == released("blocked")


def test_a_callback_that_hangs(run: Run, resources: Resources, blocked: Blocked) -> None:
    async def hang() -> None:
        await asyncio.Event().wait()

    resources.on_release(hang, timeout=0.05)
    resources.on_release(blocked, name="blocked", timeout=0.05)
    outcomes = run(up_and_down(resources))
    assert [(outcome.name, outcome.outcome) for outcome in outcomes] == [
        ("blocked", "timed out"),
        ("hang", "timed out"),
    ]
    assert outcomes[1].error is not None
    assert outcomes[1].error.endswith(" in wait")


# The release itself.


def test_a_release_that_is_cancelled_cancels_what_is_left(
    run: Run, resources: Resources, resource: ResourceDeclarer, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        releasing_hung = asyncio.Event()
        all_left = asyncio.Event()

        @resource
        async def waits() -> AsyncIterator[None]:
            yield
            all_left.set()

        resources.on_release(lambda: book.write("never called"), name="callback")

        @resource
        async def hung() -> AsyncIterator[None]:
            yield
            releasing_hung.set()
            await asyncio.Event().wait()

        await resources.acquire()
        task = asyncio.create_task(release(resources))
        await releasing_hung.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(resources) == 3, "as between runs"
        await all_left.wait()

    run(main)
    assert book.lines == []
    assert (
        caplog.records[0].getMessage() == "the release was cancelled before these were: waits, callback, hung"
    )


def test_a_release_of_nothing(run: Run, resources: Resources) -> None:
    assert run(lambda: release(resources)) == ()
    assert run(up_and_down(resources)) == ()


def test_an_orderly_run_logs_nothing(
    run: Run, resources: Resources, resource: ResourceDeclarer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="graceful")
    resource(generator)
    resource(async_generator)
    resources.on_release(lambda: None)
    run(up_and_down(resources))
    assert [record for record in caplog.records if record.name.startswith("graceful")] == []


def test_an_outcome_is_frozen() -> None:
    outcome = ReleaseOutcome(name="a", seconds=0.5, outcome="released", error=None)
    assert dataclasses.asdict(outcome) == {"name": "a", "seconds": 0.5, "outcome": "released", "error": None}
    with pytest.raises(dataclasses.FrozenInstanceError):
        outcome.name = "b"  # type: ignore[misc]


# Declarations.


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
            "resource takes_arguments: missing a required argument: 'url'; it is called without arguments, so bind"
            " them with functools.partial",
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


# Threads.


def test_an_answer_that_comes_when_the_loop_is_gone_is_dropped(run: Run, blocked: Blocked) -> None:
    async def main() -> None:
        lane = Lane("a lane")
        call = asyncio.ensure_future(lane.call(blocked))
        await begun(blocked)
        lane.end()
        call.cancel()

    run(main)
    blocked.let_go()


def test_an_answer_that_nobody_waits_for_is_dropped(run: Run) -> None:
    async def main() -> None:
        lane = Lane("a lane")
        gate = threading.Event()
        call = asyncio.ensure_future(lane.call(gate.wait))
        await asyncio.sleep(0)
        assert not lane.idle
        call.cancel()
        await asyncio.wait({call})
        gate.set()
        assert await lane.call(lambda: 5) == 5, "what was asked before has been answered by now"
        assert lane.idle
        lane.end()

    run(main)


def test_what_ends_the_thread_of_others_does_not_end_a_lane(run: Run) -> None:
    async def main() -> None:
        lane = Lane("a lane")
        with pytest.raises(SystemExit):
            await lane.call(raising(SystemExit()))
        assert await lane.call(lambda: threading.current_thread().name) == "a lane"
        lane.end()

    with pytest.raises(SystemExit):  # pytest's own test that it passes through
        raise SystemExit
    run(main)
