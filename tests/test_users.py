"""The tests of users: a module-level wrapped app starts and stops many times in their process, and nobody
notices.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncIterator
from typing import Any

import pytest
from asgi_lifespan import LifespanManager
from fastapi import FastAPI
from fastapi.testclient import TestClient

from graceful import Phase, Runtime

runtime = Runtime(lame_duck=5)
happened: list[str] = []


@runtime.resource
async def database() -> AsyncIterator[str]:
    happened.append("acquired")
    yield "the database"
    happened.append("released")


application = FastAPI()


@application.get("/")
def value() -> str:
    return database.value


app = runtime.wrap(application)
SIGNALS = [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT]


@pytest.fixture(autouse=True)
def unnoticed(caplog: pytest.LogCaptureFixture) -> Any:
    """Signal handlers, the wakeup descriptor and the log are as they were."""
    caplog.set_level(logging.DEBUG)
    happened.clear()
    before = [signal.getsignal(each) for each in SIGNALS]
    yield
    assert [signal.getsignal(each) for each in SIGNALS] == before
    assert signal.set_wakeup_fd(-1) == -1
    said = [record for record in caplog.get_records("call") if record.name.partition(".")[0] == "graceful"]
    assert said, "the run is logged, for those who look"
    assert [record.getMessage() for record in said if record.levelno > logging.DEBUG] == []


def test_under_starlettes_test_client() -> None:
    for turn in (1, 2, 3):
        with TestClient(app) as client:
            assert client.get("/ready").text == "ok"
            assert client.get("/").json() == "the database"
            assert runtime.phase is Phase.SERVING
            assert happened == ["acquired", "released"] * (turn - 1) + ["acquired"]
        assert runtime.phase is Phase.STOPPED
        assert happened == ["acquired", "released"] * turn
        assert runtime.report is not None
        assert runtime.report.reason == "lifespan.shutdown"


def test_under_a_lifespan_manager_in_the_main_thread() -> None:
    async def main() -> None:
        handlers = [signal.getsignal(each) for each in SIGNALS]
        async with LifespanManager(app):
            assert [signal.getsignal(each) for each in SIGNALS] == handlers
            assert runtime.phase is Phase.SERVING
            assert database.value == "the database"

    for turn in (1, 2, 3):
        asyncio.run(main())
        assert happened == ["acquired", "released"] * turn
        assert runtime.phase is Phase.STOPPED


def test_a_client_that_does_not_run_the_lifespan() -> None:
    """As most tests use it. Resources are not there, and that is said to those who ask for one."""
    client = TestClient(app)
    assert client.get("/ready").status_code == 200
    assert client.get("/healthz").text == "ok"
    with TestClient(app) as other:
        assert other.get("/").json() == "the database"
    assert happened == ["acquired", "released"]


def test_a_test_that_fails_leaves_nothing_behind() -> None:
    with pytest.raises(ZeroDivisionError), TestClient(app):
        _ = 1 // 0
    assert happened == ["acquired", "released"]
    with TestClient(app) as client:
        assert client.get("/").json() == "the database"
