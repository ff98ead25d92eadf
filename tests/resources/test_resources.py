"""Order, values, runs, callbacks and failures."""

from __future__ import annotations

import asyncio
import contextvars
import dataclasses
import logging
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from graceful.errors import ResourceError
from graceful.resources import ReleaseOutcome, ResourceDeclarer, Resources, resource_from
from tests.both_loops import Run
from tests.resources.scene import (
    AsyncManager,
    Blocked,
    async_generator,
    begun,
    book,
    generator,
    logged,
    raising,
    release,
    released,
    said,
    up_and_down,
)


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
        (
            "It is a context manager that an earlier run has entered. If it can be entered only once,"
            " declare the function that makes it instead."
        ),
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
    assert outcomes[1].error.endswith(" in hang")


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
    assert logged(caplog) == []


def test_an_outcome_is_frozen() -> None:
    outcome = ReleaseOutcome(name="a", seconds=0.5, outcome="released", error=None)
    assert dataclasses.asdict(outcome) == {"name": "a", "seconds": 0.5, "outcome": "released", "error": None}
    with pytest.raises(dataclasses.FrozenInstanceError):
        outcome.name = "b"  # type: ignore[misc]


# Failures.


class Boom(BaseException):
    pass


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
    run: Run, resources: Resources, caplog: pytest.LogCaptureFixture, problem: BaseException, error: str
) -> None:
    resource = ResourceDeclarer(resources)

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
    assert [(record.levelname, record.getMessage()) for record in logged(caplog)] == [
        ("ERROR", f"the release of {name} failed: {error}") for name in ("callback", "one", "async_one")
    ]
    assert "raise problem" in caplog.text, "with the user's traceback"


@pytest.mark.parametrize("form", ["async", "sync"])
@pytest.mark.parametrize(
    ("problem", "kind", "text"),
    [
        (OSError("refused"), OSError, "refused"),
        (StopIteration(), RuntimeError, "StopIteration"),  # means something to coroutines
        (SystemExit("no url"), ResourceError, "raised SystemExit: no url while it was being acquired"),
        (asyncio.CancelledError(), ResourceError, "raised CancelledError while it was being acquired"),
    ],
    ids=repr,
)
def test_a_failing_acquisition(
    run: Run, form: str, problem: BaseException, kind: type[Exception], text: str
) -> None:
    resources = Resources()
    resource = ResourceDeclarer(resources)

    async def failing() -> None:
        raise problem

    resource(generator)
    resource(failing if form == "async" else raising(problem), name="failing")
    resource(async_generator)
    resources.on_release(lambda: book.write("never reached"))

    async def main() -> None:
        with pytest.raises(kind, match=text) as raised:
            await resources.acquire()
        assert raised.value is problem or raised.value.__cause__ is problem
        if not isinstance(raised.value, ResourceError):
            note = "This was raised while the resource failing was being acquired."
            assert raised.value.__notes__[-1] == note
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
        ResourceError, match="resource it: its generator ended without a yield; yield the value once"
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
