"""The end of a service, as a test of its own project: it is started, put under load and replaced twice, and
the test fails with the whole story if a single request was lost.

    pytest examples/09_in_your_tests.py

It takes about five seconds. In a project of yours the first line goes into conftest.py, and
`rehearse("shop.app:app", restarts=3)` is all that you need to write. It needs the extra `rehearse`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from graceful.pytest_plugin import Rehearse

pytest_plugins = ["graceful.pytest_plugin"]


def test_nothing_is_lost(rehearse: Rehearse) -> None:
    here = str(Path(__file__).parent)
    rehearse("01_wrapped_starlette:app", restarts=2, folder=here).assert_nothing_lost()
