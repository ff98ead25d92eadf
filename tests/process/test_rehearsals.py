"""A rolling restart under load loses nothing, whoever owns the server."""

from __future__ import annotations

import pytest

from graceful.rehearse.asserting import rehearsed
from graceful.rehearse.model import Service
from rig.mix import mixed
from rig.replica import graceful_run, uvicorn

pytestmark = pytest.mark.contract

LAME_DUCK = 0.8


@pytest.mark.parametrize(
    "service",
    [
        graceful_run("rig.service:app", lame_duck=LAME_DUCK),
        uvicorn("rig.wrapped:app", lame_duck=LAME_DUCK),
    ],
    ids=["owned", "adopted"],
)
def test_nothing_is_lost_of_quick_and_slow_answers_streams_and_uploads(service: Service) -> None:
    # A machine that others use too makes the load late, which is not what is judged here.
    found = rehearsed(service, requests=mixed(), rate=100.0, max_lateness=60.0)
    found.assert_nothing_lost()
    assert {entry.kind for entry in found.rehearsal.entries} == {request.kind for request in mixed()}
