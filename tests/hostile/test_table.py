"""Everything that keeps a service from ending, played on real processes: each row of `make hostile`.

The cases of a group are played together, since most of their time is waiting for the grace period.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import pytest

from hostile.cases import Case, Group
from hostile.play import Result, play_all
from hostile.process import OURS
from hostile.sequences import sequence
from hostile.table import GROUPS

pytestmark = pytest.mark.hostile

JOBS: Final = 6
SEED: Final = 4
SEQUENCES: Final = 50
AT_ONCE: Final = 10  # sequences to a test


def played(cases: Sequence[Case]) -> list[Result]:
    async def play() -> list[Result]:
        todo = [(case, OURS) for case in cases]
        return [result async for result in play_all(todo, jobs=JOBS, starts=1)]

    return asyncio.run(play())


def check(results: Sequence[Result], subtests: pytest.Subtests) -> None:
    """Each is a subtest of its own; one that fails shows what was not as it must be, and its log."""
    assert results
    for result in sorted(results, key=lambda result: result.case.name):
        with subtests.test(result.case.name):
            assert not result.failures, result.told


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.title.replace(" ", "-"))
def test_it_ends_in_time_and_in_order(group: Group, subtests: pytest.Subtests) -> None:
    check(played(group.cases), subtests)


@pytest.mark.parametrize("first", range(1, SEQUENCES + 1, AT_ONCE))
def test_random_sequences_of_these_end_in_time_and_in_order(first: int, subtests: pytest.Subtests) -> None:
    numbers = range(first, min(first + AT_ONCE, SEQUENCES + 1))
    check(played([sequence(SEED, number) for number in numbers]), subtests)
