"""For a project's own tests: `rehearse(app, restarts=3).assert_nothing_lost()`.

`pytest_plugins = ["graceful.pytest_plugin"]` in a conftest.py brings it. Nothing is imported until a test
asks for the fixture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    from graceful.rehearse.asserting import Rehearsed


class Rehearse(Protocol):
    """What the fixture is, see `rehearse`."""

    def __call__(self, target: object, *, restarts: int = 1, **options: Any) -> Rehearsed:
        """See the fixture."""


@pytest.fixture
def rehearse() -> Rehearse:
    """Run a service through its death: `rehearse("shop.app:app", restarts=3).assert_nothing_lost()`.

    The target is `"module:app"`, an app that is a global of its module, or a command with `{port}` in it. The
    options are the fields of `Plan`, `LoadPlan` and `Service` in `graceful.rehearse.model`; short by default:
    one restart takes about two seconds.
    """
    from graceful.rehearse.asserting import rehearsed  # noqa: PLC0415 - nobody pays who does not rehearse

    return rehearsed
