"""Fifteen services that are really broken, and what a rehearsal says of each: the right cause first. And
three sound ones, of which it says nothing.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace

import pytest

from graceful.rehearse import pidns
from graceful.rehearse.asserting import Rehearsed
from graceful.rehearse.judging import judge
from graceful.rehearse.model import Cause
from graceful.rehearse.rollout import Rollout
from graceful.rehearse.story import tell
from rig.broken.table import ALSO, BROKEN, SOUND, Broken, Played


def play(played: Played) -> Rehearsed:
    if played.plan.service.pid1 and pidns.why_not() is not None:
        pytest.skip(str(pidns.why_not()))
    # A machine that others use too makes the load late; here that is no reason to refuse a verdict.
    plan = replace(played.plan, load=replace(played.plan.load, max_lateness=60.0))
    seen = asyncio.run(Rollout(plan).run())
    return Rehearsed(rehearsal=seen, verdict=judge(seen))


@pytest.mark.parametrize("broken", [*BROKEN, *ALSO], ids=lambda broken: broken.name)
def test_the_right_cause_is_named_first(broken: Broken) -> None:
    found = play(broken)
    story = tell(found)

    assert found.verdict.diagnoses, story
    first = found.verdict.diagnoses[0]
    assert first.cause is broken.cause, story
    assert [pattern for pattern in broken.says if not re.search(pattern, first.seen)] == [], story
    assert found.verdict.exit_code == broken.exit_code, story
    assert sum(each.losses for each in found.verdict.diagnoses) == len(found.rehearsal.lost), story


@pytest.mark.parametrize("sound", SOUND, ids=lambda sound: sound.name)
def test_of_a_sound_service_nothing_is_said(sound: Played) -> None:
    found = play(sound)

    found.assert_nothing_lost()
    assert (found.verdict.diagnoses, found.verdict.exit_code) == ((), 0)


def test_the_set_has_every_cause_once() -> None:
    assert sorted(broken.cause for broken in BROKEN) == sorted(Cause)
