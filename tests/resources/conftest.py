from __future__ import annotations

from collections.abc import Iterator

import pytest

from graceful.resources import ResourceDeclarer, Resources
from tests.both_loops import BOTH_LOOPS, Run, runs_on
from tests.resources.scene import Blocked, book


@pytest.fixture(params=BOTH_LOOPS)
def run(request: pytest.FixtureRequest) -> Run:
    return runs_on(request.param)


@pytest.fixture
def resources() -> Resources:
    return Resources()


@pytest.fixture
def resource(resources: Resources) -> ResourceDeclarer:
    return ResourceDeclarer(resources)


@pytest.fixture(autouse=True)
def _blank_book() -> None:
    book.lines.clear()
    book.places.clear()


@pytest.fixture
def blocked() -> Iterator[Blocked]:
    blocked = Blocked()
    yield blocked
    blocked.let_go()
