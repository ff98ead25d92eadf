"""What passes, what fails, and when nothing is said."""

from __future__ import annotations

from dataclasses import replace

import pytest

from graceful.rehearse.judging import judge
from graceful.rehearse.model import Judgement, LoadPlan, Outcome
from tests.rehearse import broken
from tests.rehearse.made import GOOD, SLOW, made, plan, with_losses

BORNE = LoadPlan().max_lateness


def test_nothing_lost_and_all_ended_in_time() -> None:
    verdict = judge(made())

    assert (verdict.judgement, verdict.exit_code) == (Judgement.PASSED, 0)
    assert verdict.why == "nothing of 642 requests was lost, and 3 replicas taken away ended in time"


def test_an_exit_by_the_signal_itself_is_an_end_in_time() -> None:
    assert judge(made(replace(GOOD, code=-15))).judgement is Judgement.PASSED


def test_a_service_under_load_that_nobody_takes_away() -> None:
    verdict = judge(made(GOOD, plan(restarts=0)))

    assert verdict.judgement is Judgement.PASSED
    assert verdict.why.endswith("nothing was taken away")


def test_requests_that_are_refused_each_time_are_told_of() -> None:
    rehearsal = made()
    slow = [entry for entry in rehearsal.entries if entry.kind == SLOW]
    verdict = judge(with_losses(rehearsal, Outcome.ANSWERED, slow, "status 404"))

    assert verdict.judgement is Judgement.PASSED
    assert verdict.why.endswith("; but GET /slow had status 404 each time: is that what its users ask for?")
    assert "but" not in judge(with_losses(rehearsal, Outcome.ANSWERED, slow[1:], "status 404")).why


def test_one_loss_is_a_failure() -> None:
    rehearsal = made()
    verdict = judge(with_losses(rehearsal, Outcome.RESET, [rehearsal.entries[7]]))

    assert (verdict.judgement, verdict.exit_code) == (Judgement.FAILED, 1)
    assert verdict.why == "1 of 642 requests lost"
    assert verdict.diagnoses


def test_a_kill_is_a_failure_though_nothing_is_lost() -> None:
    verdict = judge(broken.pre_stop_too_long())

    assert verdict.exit_code == 1
    assert verdict.why == "3 of 3 replicas killed"


def test_an_untimely_end_is_a_failure() -> None:
    assert judge(broken.crashes()).why.endswith("and 1 untimely end of a process")


def test_a_crash_on_the_way_out_is_a_failure_though_nothing_is_lost() -> None:
    verdict = judge(made(replace(GOOD, code=-11)))

    assert verdict.exit_code == 1
    assert verdict.why == "nothing was lost, but a replica did not behave"


@pytest.mark.parametrize(
    ("lateness", "judgement"), [(BORNE, Judgement.FAILED), (BORNE + 0.001, Judgement.NO_VERDICT)]
)
def test_a_machine_that_was_late_is_not_held_against_the_service(
    lateness: float, judgement: Judgement
) -> None:
    verdict = judge(replace(broken.closes_the_listener_early(), lateness=lateness))

    assert verdict.judgement is judgement
    assert verdict.exit_code == (2 if judgement is Judgement.NO_VERDICT else 1)


def test_that_nothing_was_lost_proves_nothing_where_the_load_was_late() -> None:
    verdict = judge(replace(made(), lateness=0.2))
    assert (verdict.judgement, verdict.exit_code) == (Judgement.NO_VERDICT, 2)
    assert verdict.why.startswith(
        "nothing of 642 requests was lost, but this machine sent them up to 200 ms late"
    )


def test_how_late_it_may_be_is_the_plans() -> None:
    patient = plan()
    patient = replace(patient, load=replace(patient.load, max_lateness=0.3))
    assert judge(replace(made(GOOD, patient), lateness=0.2)).judgement is Judgement.PASSED


def test_a_kill_is_no_fault_of_the_load() -> None:
    assert judge(replace(broken.pre_stop_too_long(), lateness=0.2)).judgement is Judgement.FAILED


def test_what_never_became_ready_could_not_be_rehearsed() -> None:
    verdict = judge(broken.not_ready_in_time())

    assert (verdict.judgement, verdict.exit_code) == (Judgement.NO_VERDICT, 2)
    assert verdict.diagnoses
