"""What a type checker knows of a resource's value: mypy checks it; run, it shows that the types hold."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, contextmanager
from functools import partial
from typing import assert_type

import httpx

from graceful.resources import Resource, ResourceDeclarer, Resources, resource_from


class Pool:
    """What most of these forms come to."""

    def close(self) -> None:
        """Be closed."""


async def async_iterator() -> AsyncIterator[Pool]:
    yield Pool()


async def async_generator() -> AsyncGenerator[Pool, None]:
    yield Pool()


def iterator() -> Iterator[Pool]:
    yield Pool()


def generator() -> Generator[Pool, None, None]:
    yield Pool()


async def coroutine() -> Pool:
    return Pool()


async def coroutine_of_client() -> httpx.AsyncClient:
    return httpx.AsyncClient()


@asynccontextmanager
async def async_manager() -> AsyncIterator[Pool]:
    yield Pool()


@contextmanager
def manager() -> Iterator[Pool]:
    yield Pool()


async def coroutine_of_manager() -> ExitStack:
    return ExitStack()


def connect() -> sqlite3.Connection:
    return sqlite3.connect(":memory:")


def acquired(resources: Resources) -> None:
    async def main() -> None:
        await resources.acquire()
        for declared in resources._declared:
            assert isinstance(declared, Resource)
            assert isinstance(declared.value, Pool), declared
        outcomes = await resources.release(time.monotonic() + 10, time.monotonic)
        assert [outcome.outcome for outcome in outcomes] == ["released"] * len(outcomes)

    asyncio.run(main())


def test_resource_from() -> None:
    resources = Resources()
    for resource in (
        assert_type(resource_from(async_iterator), Resource[Pool]),
        assert_type(resource_from(async_generator), Resource[Pool]),
        assert_type(resource_from(iterator), Resource[Pool]),
        assert_type(resource_from(generator), Resource[Pool]),
        assert_type(resource_from(coroutine), Resource[Pool]),
        assert_type(resource_from(async_manager), Resource[Pool]),
        assert_type(resource_from(manager), Resource[Pool]),
        assert_type(resource_from(async_manager(), name="an async context manager"), Resource[Pool]),
        assert_type(resource_from(manager(), name="a context manager"), Resource[Pool]),
        assert_type(resource_from(Pool), Resource[Pool]),
        assert_type(resource_from(lambda: Pool(), name="a lambda"), Resource[Pool]),  # noqa: PLW0108
        assert_type(resource_from(partial(Pool), name="a partial", timeout=2), Resource[Pool]),
    ):
        resources.add(resource)
    acquired(resources)


def test_the_declarer() -> None:
    resources = Resources()
    resource = ResourceDeclarer(resources)
    assert_type(resource(async_iterator), Resource[Pool])
    assert_type(resource(async_generator, name="a"), Resource[Pool])
    assert_type(resource(name="b")(iterator), Resource[Pool])
    assert_type(resource(timeout=2)(generator), Resource[Pool])
    assert_type(resource(timeout=2)(coroutine, name="c"), Resource[Pool])
    assert_type(resource()(async_manager), Resource[Pool])
    assert_type(resource(manager), Resource[Pool])
    assert_type(resource(async_manager(), name="d"), Resource[Pool])
    assert_type(resource(manager(), name="e"), Resource[Pool])
    assert_type(resource(Pool), Resource[Pool])

    @resource
    async def bare() -> AsyncIterator[Pool]:
        yield Pool()

    @resource(name="named", timeout=1)
    def with_options() -> Iterator[Pool]:
        yield Pool()

    assert_type(bare, Resource[Pool])
    assert_type(with_options, Resource[Pool])
    acquired(resources)


def test_other_peoples_classes() -> None:
    assert_type(resource_from(httpx.AsyncClient), Resource[httpx.AsyncClient])
    assert_type(resource_from(httpx.Client), Resource[httpx.Client])
    assert_type(resource_from(coroutine_of_client), Resource[httpx.AsyncClient])
    assert_type(resource_from(partial(httpx.AsyncClient, timeout=1)), Resource[httpx.AsyncClient])
    assert_type(resource_from(connect), Resource[sqlite3.Connection])
    assert_type(resource_from(ThreadPoolExecutor), Resource[ThreadPoolExecutor])
    assert_type(resource_from(coroutine_of_manager), Resource[ExitStack[bool | None]])
