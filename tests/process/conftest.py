from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process.service import Launch


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launch]:
    """Starts services; all of them have ended when the test has."""
    with Launch(tmp_path) as launch:
        yield launch
