"""The story as text: whole for small rehearsals, and fit for a terminal whatever the service said."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import pytest

from graceful.rehearse.figures import Judged
from graceful.rehearse.judging import judge
from graceful.rehearse.model import Event, Happening, Outcome, ProbeName, Rehearsal
from graceful.rehearse.story import WIDTH, Progress, tell, tell_death, tell_side_by_side
from graceful.rehearse.timeline import timelines
from tests.rehearse import broken
from tests.rehearse.made import BEGAN, GOOD, HELD, SERVICE, Manners, made, plan

REPORT = """\
INFO:     Uvicorn running on http://127.0.0.1:8000
INFO:     SIGTERM: ended after 2.20 s, clean (exit code 0)
  lame duck    2.00 s   9 requests came after the signal, the last 0.97 s after it
  drain        0.15 s   9 ended in time, none cut off
  release      0.05 s   database 0.02 s
"""


def judged(rehearsal: Rehearsal) -> Judged:
    return Judged(rehearsal=rehearsal, verdict=judge(rehearsal))


def test_one_good_death() -> None:
    story = tell(judged(made(replace(GOOD, output=REPORT), plan(once=True))))

    assert (
        story
        == """\
shop: uvicorn shop:app --port {port}: 2 replicas, one of which dies, endpoints removed after 1.0 s,
grace period 6 s, 60 requests a second (seed 1)

Death: shop-1                                                                           nothing lost
  seconds after SIGTERM
  lame duck: 0.0 to +2.0
  drain: +2.0 to +2.1
  release: +2.1 to +2.2
    -1.0        * readiness probe passed: 200
    -1.0        * ready
    -1.0        * listed
    -1.0 …   0.0      30 answered
     0.0        * taken away: the grace period of 6 s begins
     0.0        * SIGTERM sent
     0.0 …  +0.2       6 answered
    +0.2        * readiness probe failed: 503: lame duck
    +0.2        * not ready
    +0.2 …  +1.0      24 answered
    +1.0        * endpoint removed
    +1.0 …  +2.0      15 answered
    +2.0        * listener closed
    +2.2        * process ended with exit code 0

PASSED: nothing of 264 requests was lost, and 1 replica taken away ended in time"""
    )


def test_losses_have_a_line_for_each_tenth_of_a_second_with_what_became_of_them() -> None:
    rehearsal = made(Manners(closes=0.0, ends=0.004, not_ready=None, code=-15, cuts=True))
    [first, *_] = timelines(rehearsal)
    text = tell_death(first)

    assert text.splitlines()[0].endswith("lost")
    assert re.search(r"^    -0\.\d …  [- ]0\.\d +\d+ answered +\d+ LOST  x+ +\d+ reset", text, re.MULTILINE)
    assert re.search(r"^     0\.0 …  \+0\.1 +0 answered +\d+ LOST  x+ +\d+ refused$", text, re.MULTILINE)
    assert "* process ended by SIGTERM" in text


def test_what_was_held_open_from_before_is_told_where_its_row_would_have_been() -> None:
    [_, second, _] = timelines(made(Manners(cuts=True), plan(holds=(HELD,))))
    text = tell_death(second)
    rows = sum(int(found) for found in re.findall(r"(\d+) LOST", text))

    assert rows < second.lost
    assert f"  {second.lost - rows} of the lost had been sent before: held open, or long under way" in text


def test_the_diagnosis_stands_before_the_verdict() -> None:
    lines = tell(judged(broken.closes_the_listener_early())).splitlines()

    assert lines[-1] == "FAILED: 104 of 363 requests lost"
    assert lines[lines.index("Why") + 1] == "  1. the listener closes too early (104 lost)"
    assert any(line.startswith("     -> keep serving for at least 2.3 s") for line in lines)


def test_a_long_misery_is_told_in_wider_steps() -> None:
    service = replace(SERVICE, grace_period=60.0)
    rehearsal = made(Manners(closes=0.0, ends=50.0, not_ready=None), plan(service, lag=40.0, restarts=1))
    lost = [line for line in tell(judged(rehearsal)).splitlines() if "LOST" in line]

    assert 10 < len(lost) <= 36
    assert sum(int(re.findall(r"(\d+) LOST", line)[0]) for line in lost) == len(rehearsal.lost)


def test_a_replica_that_died_in_its_life_has_its_own_story() -> None:
    story = tell(judged(broken.crashes()))

    assert "shop-2, which nobody had taken away" in story
    assert re.search(r" 2\.0 s  shop-2 +process ended with exit code 1: MemoryError: no room", story)


def test_where_nothing_could_be_rehearsed_it_is_told_how_far_it_came() -> None:
    story = tell(judged(broken.not_ready_in_time()))

    assert len(re.findall("readiness probe failed: 503: not ready", story)) == 1
    assert (
        story.splitlines()[-1]
        == "NO VERDICT: the service did not become ready, so nothing could be rehearsed"
    )


def test_two_services_side_by_side() -> None:
    other = replace(SERVICE, name="shop under graceful")
    several = [
        judged(broken.closes_the_listener_early()),
        judged(made(GOOD, plan(other, holds=(HELD,)))),
    ]
    lines = tell_side_by_side(several).splitlines()
    table = lines[next(index for index, line in enumerate(lines) if line.startswith("Side by side")) :]

    assert table[0].split() == ["Side", "by", "side", "shop", "shop", "under", "graceful"]
    assert table[1].split() == ["requests", "363", "644"]
    assert table[2].split() == ["lost", "104", "0"]
    assert table[3].split() == ["refused", "104", "0"]


def test_two_services_of_one_name_are_told_apart_by_their_commands() -> None:
    other = replace(SERVICE, command=("graceful", "run", "shop:app"))
    text = tell_side_by_side([judged(made()), judged(made(GOOD, plan(other)))])

    [title] = [line for line in text.splitlines() if line.startswith("Side by side")]

    assert title.endswith("graceful run shop:app")


@pytest.mark.parametrize("make", [make for make, _ in broken.BROKEN], ids=lambda make: make.__name__)
@pytest.mark.parametrize("colours", [True, False])
def test_it_fits_the_width(make: Callable[[], Rehearsal], colours: bool) -> None:  # noqa: FBT001 - a parameter
    text = tell(judged(make()), colours=colours)

    assert max(len(re.sub(r"\x1b\[\d+m|\x1b\[0m", "", line)) for line in text.splitlines()) <= WIDTH
    assert ("\x1b" in text) == colours


def test_what_the_service_says_cannot_write_on_the_terminal() -> None:
    hostile = "\x1b[2J\x1b]0;owned\x07\rPASSED\u202e"
    service = replace(SERVICE, name=hostile, command=("app", hostile))
    rehearsal = made(Manners(closes=0.0, ends=0.7, not_ready=None, output=hostile), plan(service))
    events = tuple(replace(event, detail=hostile, replica=f"{hostile}\n") for event in rehearsal.events)
    text = tell(judged(replace(rehearsal, events=events)))

    assert not set(text) & {"\x1b", "\x07", "\r", "\u202e"}


def test_progress_is_a_line_for_what_is_new() -> None:
    lines: list[str] = []
    progress = Progress(lines.append, began=BEGAN)
    passed = Event(at=BEGAN + 1, replica="shop-1", what=Happening.PROBED, probe=ProbeName.READINESS, ok=True)
    for event in (
        passed,
        replace(passed, at=BEGAN + 2),
        replace(passed, at=BEGAN + 3, ok=False, detail="503"),
        replace(passed, at=BEGAN + 4, replica="shop-2"),
        Event(at=BEGAN + 5.25, replica="shop-1", what=Happening.SIGNALLED, detail="SIGTERM"),
        Event(at=BEGAN + 6, replica="shop-1", what=Happening.KILLED),
        Event(
            at=BEGAN + 7,
            replica="shop-2",
            what=Happening.SIGNALLED,
            detail="SIGTERM: the liveness probe has failed",
        ),
    ):
        progress(event)

    assert lines == [
        "     1.0 s  shop-1              readiness probe passed",
        "     3.0 s  shop-1              readiness probe failed: 503",
        "     4.0 s  shop-2              readiness probe passed",
        "     5.2 s  shop-1              SIGTERM sent",
        "     6.0 s  shop-1              SIGKILL sent",
        "     7.0 s  shop-2              SIGTERM sent: the liveness probe has failed",
    ]


def test_colours_say_what_is_good_and_bad() -> None:
    lines: list[str] = []
    progress = Progress(lines.append, began=BEGAN, colours=True)
    progress(Event(at=BEGAN, replica="shop-1", what=Happening.READY))
    progress(Event(at=BEGAN, replica="shop-1", what=Happening.KILLED))

    assert lines[0].endswith("\x1b[32mready\x1b[0m")
    assert lines[1].endswith("\x1b[31mSIGKILL sent\x1b[0m")


def test_a_death_of_which_only_the_record_is_left() -> None:
    """No event was told of it: its record is enough."""
    rehearsal = made(GOOD, plan(restarts=1))
    told = tell_death(timelines(replace(rehearsal, events=()))[0])

    assert "* SIGTERM sent" in told
    assert "* listener closed" in told
    assert "* endpoint removed" in told
    assert "* process ended with exit code 0" in told


def test_a_signal_that_went_to_somebody_else_says_to_whom() -> None:
    detail = "PID 1 is sh -c …, which keeps it"
    rehearsal = made(Manners(closes=None, ends=None, not_ready=None, signal_arrives=False), plan(restarts=1))
    events = tuple(
        replace(event, detail=detail) if event.what is Happening.SIGNALLED else event
        for event in rehearsal.events
    )

    assert f"* signal sent: {detail}" in tell(judged(replace(rehearsal, events=events)))


def test_every_kind_of_loss_has_words() -> None:
    rehearsal = made(GOOD, plan(restarts=1))
    death = rehearsal.deaths[0]
    losses = [outcome for outcome in Outcome if outcome.lost]
    mine = [entry for entry in rehearsal.entries if entry.replica == death.replica][-len(losses) :]
    became = dict(zip(map(id, mine), losses, strict=True))
    entries = tuple(
        replace(entry, outcome=became.get(id(entry), entry.outcome)) for entry in rehearsal.entries
    )
    text = tell(judged(replace(rehearsal, entries=entries)))

    assert all(f"1 {outcome}" in text for outcome in losses)
