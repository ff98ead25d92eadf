"""The table of phases: every pair of them tried, and what a refused move leaves behind."""

from __future__ import annotations

import itertools

import pytest

from graceful.errors import GracefulError, PhaseError
from graceful.phases import MOVES, Phase, PhaseMachine

STARTING, SERVING, LAME_DUCK, DRAINING, RELEASING, STOPPED = Phase

# Written out once more: the table of the code is checked against the design, not against itself.
LEGAL = {
    (STARTING, SERVING),
    (STARTING, RELEASING),
    (SERVING, LAME_DUCK),
    (LAME_DUCK, DRAINING),
    (DRAINING, RELEASING),
    (RELEASING, STOPPED),
}
WAY_TO = {
    STARTING: (),
    SERVING: (SERVING,),
    LAME_DUCK: (SERVING, LAME_DUCK),
    DRAINING: (SERVING, LAME_DUCK, DRAINING),
    RELEASING: (RELEASING,),
    STOPPED: (RELEASING, STOPPED),
}


class Clock:
    """A clock that moves by one second whenever it is read."""

    def __init__(self) -> None:
        self.now = -1.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


def machine_in(phase: Phase) -> PhaseMachine:
    machine = PhaseMachine(Clock())
    for step in WAY_TO[phase]:
        machine.move(step)
    return machine


@pytest.mark.parametrize(("left", "to"), list(itertools.product(Phase, Phase)))
def test_every_pair(left: Phase, to: Phase) -> None:
    machine = machine_in(left)
    entered = dict(machine.entered)
    if (left, to) in LEGAL:
        assert machine.move(to) is left
        assert machine.current is to
        assert list(machine.entered) == [*entered, to]
        assert machine.entered[to] > max(entered.values())
    else:
        with pytest.raises(PhaseError):
            machine.move(to)
        assert machine.current is left
        assert machine.entered == entered


def test_the_table_holds_every_phase_and_cannot_be_changed() -> None:
    assert list(MOVES) == list(Phase)
    with pytest.raises(TypeError):
        MOVES[STOPPED] = frozenset({STARTING})  # type: ignore[index]


def test_a_refusal_says_what_was_found_and_what_is_possible() -> None:
    with pytest.raises(PhaseError) as caught:
        machine_in(STARTING).move(DRAINING)
    assert str(caught.value) == "phase starting cannot move to draining; it can move to releasing, serving"
    with pytest.raises(GracefulError) as caught_at_the_end:
        machine_in(STOPPED).move(STARTING)
    assert str(caught_at_the_end.value) == (
        "phase stopped cannot move to starting; it can move to none: a new run begins with a new machine"
    )


def test_words() -> None:
    assert [phase.words for phase in Phase] == [
        "starting",
        "serving",
        "lame duck",
        "draining",
        "releasing",
        "stopped",
    ]
    assert [str(phase) for phase in Phase][2] == "lame_duck"


def test_seconds_of_a_whole_run() -> None:
    machine = PhaseMachine(Clock())
    for phase in (SERVING, LAME_DUCK, DRAINING, RELEASING):
        machine.move(phase)
    assert machine.seconds() == {STARTING: 1, SERVING: 1, LAME_DUCK: 1, DRAINING: 1, RELEASING: 1}
    assert machine.seconds()[RELEASING] == 2, "the current phase goes on"
    machine.move(STOPPED)
    seconds = machine.seconds()
    assert list(seconds) == [STARTING, SERVING, LAME_DUCK, DRAINING, RELEASING]
    assert machine.seconds() == seconds, "a stopped run grows no older"


def test_seconds_of_a_startup_that_failed() -> None:
    assert machine_in(STOPPED).seconds() == {STARTING: 1, RELEASING: 1}
