"""Each cause is found in services that are broken in its way, and in no others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from graceful.rehearse.diagnosis import diagnose
from graceful.rehearse.model import (
    Cause,
    Diagnosis,
    Entry,
    Event,
    Happening,
    Outcome,
    ProbeName,
    Rehearsal,
)
from tests.rehearse import broken
from tests.rehearse.made import BEGAN, GOOD, HELD, SERVICE, Manners, made, plan, with_events, with_losses


def first_of(rehearsal: Rehearsal) -> Diagnosis:
    return diagnose(rehearsal)[0]


def alive(rehearsal: Rehearsal, step: int) -> list[Entry]:
    """Every n-th of the requests to replicas that nobody took away."""
    taken = {death.replica for death in rehearsal.deaths}
    return [entry for entry in rehearsal.entries if entry.replica not in taken][::step]


@pytest.mark.parametrize(("make", "cause"), broken.BROKEN, ids=[make.__name__ for make, _ in broken.BROKEN])
def test_the_right_cause_comes_first(make: Callable[[], Rehearsal], cause: Cause) -> None:
    assert first_of(make()).cause is cause


def test_the_set_has_every_cause() -> None:
    assert {cause for _, cause in broken.BROKEN} == set(Cause)


@pytest.mark.parametrize("make", [make for make, _ in broken.BROKEN], ids=lambda make: make.__name__)
def test_every_loss_is_counted_once(make: Callable[[], Rehearsal]) -> None:
    rehearsal = make()

    assert sum(diagnosis.losses for diagnosis in diagnose(rehearsal)) == len(rehearsal.lost)


@pytest.mark.parametrize("outcome", [outcome for outcome in Outcome if outcome.lost])
@pytest.mark.parametrize("dying", [True, False])
def test_no_loss_stays_without_a_cause(outcome: Outcome, dying: bool) -> None:  # noqa: FBT001 - a parameter
    rehearsal = made()
    replica = rehearsal.deaths[0].replica if dying else "shop-5"
    hit = [entry for entry in rehearsal.entries if entry.replica == replica][-3:]
    rehearsal = with_losses(rehearsal, outcome, hit)

    assert sum(diagnosis.losses for diagnosis in diagnose(rehearsal)) == 3


def test_two_losses_that_are_alike_are_two() -> None:
    rehearsal = broken.closes_the_listener_early()
    rehearsal = replace(rehearsal, entries=(*rehearsal.entries, rehearsal.lost[0]))

    assert sum(diagnosis.losses for diagnosis in diagnose(rehearsal)) == len(rehearsal.lost)


def test_a_good_service_has_nothing_to_explain() -> None:
    assert diagnose(made(GOOD, plan(holds=(HELD,)))) == ()


def test_the_sentence_of_a_listener_that_closes_early() -> None:
    [diagnosis] = diagnose(broken.closes_the_listener_early())

    assert diagnosis.seen == (
        "listener closed 0.0 s after SIGTERM, endpoints were removed after 2.0 s: "
        f"{diagnosis.losses} new connections refused in 3 of 3 restarts"
    )
    assert diagnosis.way_out == (
        "keep serving for at least 2.3 s: a lame duck (graceful run --lame-duck 2.3) or "
        "a preStop sleep of 3 s"
    )


def test_an_end_in_order_that_nobody_asked_for_may_be_a_limit() -> None:
    crashes = broken.crashes()
    events = tuple(replace(event, code=0, detail="") if event.code else event for event in crashes.events)
    diagnosis = first_of(replace(crashes, events=events))

    assert diagnosis.cause is Cause.CRASHES
    assert diagnosis.way_out.endswith("perhaps by a limit of its own, on how many requests it takes)")


@pytest.mark.parametrize("asleep", [1.0, 1])
def test_a_pre_stop_that_was_too_short_is_added_to(asleep: float) -> None:
    service = replace(SERVICE, pre_stop=asleep)
    [diagnosis] = diagnose(made(Manners(closes=0.0, ends=0.65, not_ready=None), plan(service, lag=3.0)))

    assert diagnosis.seen.startswith(
        "listener closed 0.0 s after SIGTERM, endpoints were removed after 2.0 s"
    )
    assert diagnosis.way_out.endswith("--lame-duck 2.3) or a preStop sleep of 4 s")


def test_what_was_in_the_queue_of_the_listener_belongs_to_its_closing() -> None:
    rehearsal = broken.closes_the_listener_early()
    death = rehearsal.deaths[0]
    queued = next(entry for entry in rehearsal.lost if entry.replica == death.replica and not entry.kept)
    reset = with_losses(rehearsal, Outcome.RESET, [queued])

    assert [each.cause for each in diagnose(reset)] == [Cause.LISTENER_CLOSED_EARLY]
    assert "and 1 request reset" in first_of(reset).seen


def test_the_other_signal_is_called_by_its_name() -> None:
    service = replace(SERVICE, stop_signal="SIGINT")
    diagnosis = first_of(made(Manners(closes=0.0, ends=0.7, not_ready=None), plan(service)))

    assert "after SIGINT" in diagnosis.seen


def test_a_shell_that_dies_in_place_of_its_service() -> None:
    service = replace(broken.SHELL, pid1=False)
    gone = made(Manners(closes=0.0, ends=0.004, not_ready=None, code=-15, cuts=True), plan(service))

    assert first_of(gone).cause is Cause.SIGNAL_NOT_DELIVERED
    assert "the service behind it was killed with it" in first_of(gone).seen


def test_a_shell_that_is_known_to_die_in_place_of_its_service_is_named_though_nothing_was_lost() -> None:
    quiet = Manners(closes=None, ends=0.2, not_ready=None, code=-15, signal_arrives=False)
    diagnosis = first_of(made(quiet, plan(lag=0.1)))

    assert (diagnosis.cause, diagnosis.losses) == (Cause.SIGNAL_NOT_DELIVERED, 0)


def test_who_is_known_to_get_the_signal_dies_of_it_itself() -> None:
    gone = Manners(closes=0.0, ends=0.004, not_ready=None, code=-15, cuts=True, signal_arrives=True)

    assert first_of(made(gone, plan(replace(broken.SHELL, pid1=False)))).cause is Cause.EXITS_AT_ONCE


def test_what_is_known_of_the_signals_way_outranks_the_command() -> None:
    arrives = made(Manners(closes=None, ends=None, not_ready=None, signal_arrives=True), plan(broken.SHELL))
    lost = made(Manners(closes=None, ends=None, not_ready=None, signal_arrives=False))

    assert first_of(arrives).cause is Cause.IGNORES_SIGNAL
    assert first_of(lost).cause is Cause.SIGNAL_NOT_DELIVERED


def test_pid_1_without_a_handler_is_told_what_the_kernel_does() -> None:
    service = replace(SERVICE, pid1=True)
    diagnosis = first_of(made(Manners(closes=None, ends=None, not_ready=None), plan(service)))

    assert diagnosis.cause is Cause.IGNORES_SIGNAL
    assert "the kernel drops it for PID 1" in diagnosis.way_out


def test_who_answers_nobody_any_more_has_heard_the_signal() -> None:
    """As a server whose first process, after a while, stops its workers and holds the listener open."""
    rehearsal = made(Manners(closes=None, ends=None, not_ready=None), plan(lag=4.0))
    deaths = {death.replica: death for death in rehearsal.deaths}
    entries = tuple(
        replace(entry, outcome=Outcome.RESET, ended=death.killed)
        if (death := deaths.get(entry.replica))
        and death.killed
        and (death.signalled or 0) + 0.6 <= entry.sent < death.killed
        else entry
        for entry in rehearsal.entries
    )
    diagnosis = first_of(replace(rehearsal, entries=entries))

    assert diagnosis.cause is Cause.NEVER_ENDS
    assert "still unanswered" in diagnosis.seen


def test_where_all_takes_longer_than_the_grace_period_nobody_knows_who_has_heard() -> None:
    service = replace(SERVICE, grace_period=3.0)
    rehearsal = made(Manners(closes=None, ends=None, not_ready=None), plan(service), slow=4.0)
    slow = tuple(entry for entry in rehearsal.entries if entry.kind == "GET /slow")

    assert first_of(rehearsal).cause is Cause.IGNORES_SIGNAL  # the quick ones were answered as before
    assert first_of(replace(rehearsal, entries=slow)).cause is Cause.GRACE_TOO_SHORT


def test_a_lame_duck_longer_than_the_grace_period_is_no_hang() -> None:
    service = replace(SERVICE, grace_period=3.0)
    diagnosis = first_of(made(Manners(closes=None, ends=None, not_ready=0.1), plan(service, lag=4.0)))

    assert diagnosis.cause is Cause.GRACE_TOO_SHORT
    assert diagnosis.seen.startswith("it was still serving when the grace period of 3 s was over")


def test_who_has_no_time_to_show_it_is_not_said_to_ignore_the_signal() -> None:
    service = replace(SERVICE, grace_period=0.0)
    diagnosis = first_of(made(Manners(closes=None, ends=None, not_ready=None), plan(service)))

    assert diagnosis.cause is Cause.GRACE_TOO_SHORT


def test_an_end_by_sigkill_is_no_crash_where_it_is_the_signal_that_was_asked_for() -> None:
    service = replace(SERVICE, stop_signal="SIGKILL")
    gone = Manners(closes=0.0, ends=0.004, not_ready=None, code=-9, cuts=True, signal_arrives=True)
    diagnosis = first_of(made(gone, plan(service)))

    assert diagnosis.cause is Cause.EXITS_AT_ONCE
    assert diagnosis.way_out.startswith("ask it to end by a signal that can be handled (found SIGKILL): keep")


def test_who_does_not_hear_the_signal_is_not_saved_by_a_shorter_pre_stop() -> None:
    deaf = made(Manners(closes=None, ends=None, not_ready=None), plan(replace(SERVICE, pre_stop=6.0)))

    assert first_of(deaf).cause is Cause.IGNORES_SIGNAL


def test_streams_that_do_not_end_are_not_saved_by_a_shorter_pre_stop() -> None:
    service = replace(SERVICE, pre_stop=6.0)
    rehearsal = made(Manners(closes=0.5, ends=None), plan(service, holds=(HELD,)), slow=0.01)

    assert first_of(rehearsal).cause is Cause.NEVER_ENDS


def test_requests_that_nobody_has_seen_answered_are_a_hang() -> None:
    rehearsal = broken.grace_too_short()
    entries = tuple(
        replace(entry, kind="GET /forever") if entry.outcome.lost and not entry.kept else entry
        for entry in rehearsal.entries
        if not (entry.outcome.lost and entry.kept)
    )
    diagnosis = first_of(replace(rehearsal, entries=entries))

    assert diagnosis.cause is Cause.NEVER_ENDS
    assert "still unanswered" in diagnosis.seen


def test_a_death_that_never_came_to_its_signal() -> None:
    rehearsal = broken.pre_stop_too_long()
    deaths = tuple(replace(death, signalled=None) for death in rehearsal.deaths)
    diagnosis = first_of(replace(rehearsal, deaths=deaths))

    assert diagnosis.cause is Cause.PRE_STOP_TOO_LONG
    assert "it came to no signal" in diagnosis.seen


def test_a_replica_without_a_process_was_not_killed() -> None:
    """Its init command failed again and again, until it was taken away."""
    rehearsal = made(GOOD, plan(once=True))
    death = replace(
        rehearsal.deaths[0], signalled=None, unlisted=None, listener_closed=None, ended=None, code=None
    )

    assert diagnose(replace(rehearsal, deaths=(death,))) == ()


def test_a_readiness_that_ends_with_its_process_said_nothing() -> None:
    rehearsal = made(Manners(closes=2.5, ends=3.0, not_ready=None), plan(lag=4.0))
    deaths = tuple(replace(death, not_ready=death.ended) for death in rehearsal.deaths)

    assert "but readiness never said no" in first_of(replace(rehearsal, deaths=deaths)).seen


@pytest.mark.parametrize(("code", "said"), [(-11, "SIGSEGV"), (-9, "SIGKILL")])
def test_a_crash_on_the_way_out_is_named(code: int, said: str) -> None:
    diagnosis = first_of(made(replace(GOOD, code=code, output="all fine\nFatal Python error: boom\n")))

    assert diagnosis.cause is Cause.CRASHES
    assert f"was ended by {said}" in diagnosis.seen
    assert diagnosis.way_out.endswith("its last line: Fatal Python error: boom")


def test_the_last_line_of_a_crash_can_move_no_cursor() -> None:
    diagnosis = first_of(made(replace(GOOD, code=-11, output="\x1b[31mboom\x1b[0m\x07\n")))

    assert diagnosis.way_out.endswith("its last line: boom\N{REPLACEMENT CHARACTER}")


def test_a_startup_probe_that_kills() -> None:
    rehearsal = broken.killed_by_liveness()
    events = tuple(
        replace(event, probe=ProbeName.STARTUP) if event.probe is ProbeName.LIVENESS else event
        for event in rehearsal.events
    )
    diagnosis = first_of(replace(rehearsal, events=events))

    assert diagnosis.cause is Cause.NOT_READY_IN_TIME
    assert diagnosis.seen.startswith("the startup probe of shop-2 failed 3 times in a row")


def test_a_replica_that_goes_bad_in_its_life() -> None:
    """The book's case: the service answers 500, and its probes need three failures to notice."""
    rehearsal = made(GOOD, plan(once=True))
    victim, bad, noticed = "shop-2", BEGAN + 1.0, BEGAN + 2.5
    events = [
        Event(at=bad - 0.1, replica=victim, what=Happening.PROBED, probe=ProbeName.READINESS, ok=True),
        Event(at=noticed, replica=victim, what=Happening.PROBED, probe=ProbeName.READINESS, ok=False),
        Event(at=noticed, replica=victim, what=Happening.NOT_READY),
    ]
    hit = [entry for entry in rehearsal.entries if entry.replica == victim and bad <= entry.sent <= noticed]
    diagnosis = first_of(with_events(with_losses(rehearsal, Outcome.SERVER_ERROR, hit, "500"), *events))

    assert diagnosis.cause is Cause.READINESS_LATE
    assert diagnosis.seen.startswith("shop-2 had gone bad for 1.5 s before its readiness probe said so")


def test_what_was_lost_before_two_flips_is_counted_once() -> None:
    rehearsal = made(GOOD, plan(once=True))
    victim, bad, noticed = "shop-2", BEGAN + 1.0, BEGAN + 2.5
    flips = [Event(at=noticed + after, replica=victim, what=Happening.NOT_READY) for after in (0.0, 0.1, 0.2)]
    hit = [entry for entry in rehearsal.entries if entry.replica == victim and bad <= entry.sent <= noticed]
    lost = with_losses(rehearsal, Outcome.SERVER_ERROR, hit, "500")

    assert first_of(with_events(lost, *flips)).losses == len(hit)


def test_one_that_is_ready_for_the_last_time_is_not_back() -> None:
    """It answers the probe that had waited, and is gone."""
    rehearsal = broken.killed_by_liveness()
    signal = next(
        event.at for event in rehearsal.events if event.detail == "SIGTERM" and event.at < BEGAN + 3
    )
    last = [
        Event(at=signal + 0.01, replica="shop-2", what=Happening.NOT_READY),
        Event(at=signal + 0.03, replica="shop-2", what=Happening.READY),
        Event(at=signal + 0.05, replica="shop-2", what=Happening.NOT_READY),
    ]
    unended = tuple(
        event for event in rehearsal.events if event.replica != "shop-2" or event.what is not Happening.ENDED
    )
    for events in (rehearsal.events, unended):
        [diagnosis] = diagnose(with_events(replace(rehearsal, events=events), *last))
        assert (diagnosis.cause, diagnosis.losses) == (Cause.LIVENESS_KILLS, len(rehearsal.lost))


def test_a_probe_that_finds_the_door_closed_is_no_readiness_that_says_no() -> None:
    diagnosis = first_of(made(Manners(closes=2.5, ends=3.0, not_ready=2.6), plan(lag=4.0)))

    assert diagnosis.cause is Cause.READINESS_LATE
    assert "but readiness never said no" in diagnosis.seen


def test_a_replica_that_readiness_is_silent_about() -> None:
    """It kept serving for long enough for a probe to notice, and the probe did not."""
    diagnosis = first_of(made(Manners(closes=2.5, ends=3.0, not_ready=None), plan(lag=4.0)))

    assert diagnosis.cause is Cause.READINESS_LATE
    assert "but readiness never said no" in diagnosis.seen


def test_without_a_readiness_probe_it_is_the_listener() -> None:
    service = replace(SERVICE, readiness=None)

    assert first_of(made(Manners(closes=2.5, ends=3.0), plan(service, lag=4.0))).cause is (
        Cause.LISTENER_CLOSED_EARLY
    )


def test_a_listener_that_only_a_probe_found_closed() -> None:
    """Nobody is sent to it any more when it closes, and it hangs: that is no lame duck."""
    rehearsal = made(Manners(closes=None, ends=None, not_ready=None))
    refused = [
        Event(
            at=(death.signalled or 0) + 2.0,
            replica=death.replica,
            what=Happening.PROBED,
            probe=ProbeName.READINESS,
            ok=False,
            detail="connection refused",
        )
        for death in rehearsal.deaths
    ]

    assert first_of(with_events(rehearsal, *refused)).cause is Cause.NEVER_ENDS


def test_idle_connections_that_are_closed_too_soon() -> None:
    rehearsal = made()
    kept = [entry for entry in alive(rehearsal, 1) if entry.kept][:5]
    moment = {
        id(entry): replace(entry, ended=entry.sent + 0.001, outcome=Outcome.RESET_KEPT) for entry in kept
    }
    entries = tuple(moment.get(id(entry), entry) for entry in rehearsal.entries)
    diagnosis = first_of(replace(rehearsal, entries=entries))

    assert diagnosis.cause is Cause.KEEP_ALIVE_FORGOTTEN
    assert "though nobody had been taken away" in diagnosis.seen


def test_errors_without_any_signal_are_not_put_down_to_one() -> None:
    rehearsal = made()
    diagnosis = first_of(with_losses(rehearsal, Outcome.SERVER_ERROR, alive(rehearsal, 4), "500"))

    assert diagnosis.cause is Cause.ANSWERS_ERRORS
    assert diagnosis.seen.endswith("before any signal")


def test_answers_that_break_off_without_any_signal() -> None:
    rehearsal = made()
    diagnosis = first_of(with_losses(rehearsal, Outcome.TRUNCATED, alive(rehearsal, 9)))

    assert diagnosis.cause is Cause.CUTS_IN_FLIGHT
    assert "though nobody had been taken away" in diagnosis.seen


def test_streams_that_are_cut_are_told_how_to_end() -> None:
    rehearsal = made(GOOD, plan(holds=(HELD,)))
    held = [entry for entry in rehearsal.entries if entry.kind == "events /events"]
    diagnosis = first_of(with_losses(rehearsal, Outcome.TRUNCATED, held))

    assert diagnosis.cause is Cause.CUTS_IN_FLIGHT
    assert "a close frame when the signal comes" in diagnosis.way_out


def cancelled() -> Rehearsal:
    """What is under way 1.3 s after the listener has closed is answered with 500, as by uvicorn."""
    rehearsal = made(Manners(closes=0.5, ends=1.8, cuts=True), plan(lag=0.4), slow=3.0)
    return with_losses(rehearsal, Outcome.SERVER_ERROR, rehearsal.lost, "500")


def test_what_a_server_cancels_is_cut_off() -> None:
    [diagnosis] = diagnose(cancelled())

    assert diagnosis.cause is Cause.CUTS_IN_FLIGHT
    assert diagnosis.seen.startswith(
        "what was in flight was cut off 1.8 s after SIGTERM in 3 of 3 restarts: "
    )
    assert "requests answered with 5xx, the oldest" in diagnosis.seen
    assert "raise its limit, --grace-period of graceful run)" in diagnosis.way_out


def test_requests_that_fail_anyway_are_not_cancelled() -> None:
    rehearsal = cancelled()
    slow = [entry for entry in alive(rehearsal, 1) if entry.kind == rehearsal.lost[0].kind]
    failing = with_losses(rehearsal, Outcome.SERVER_ERROR, slow[:2], "500")

    assert [each.cause for each in diagnose(failing)] == [Cause.ANSWERS_ERRORS]


def test_errors_at_different_times_are_no_cancellation() -> None:
    rehearsal = cancelled()
    first = rehearsal.lost[0]
    entries = tuple(
        replace(entry, ended=entry.ended - 0.5) if entry is first else entry for entry in rehearsal.entries
    )

    assert Cause.ANSWERS_ERRORS in {each.cause for each in diagnose(replace(rehearsal, entries=entries))}


def test_a_first_request_in_the_queue_belongs_to_the_listener_though_its_connection_is_to_be_kept() -> None:
    rehearsal = broken.closes_the_listener_early()
    queued = next(entry for entry in rehearsal.lost if entry.kept)
    reset = with_losses(rehearsal, Outcome.RESET, [queued])

    assert [each.cause for each in diagnose(reset)] == [Cause.LISTENER_CLOSED_EARLY]


def test_where_nobody_is_sent_there_any_more_nothing_has_to_be_served() -> None:
    abrupt = Manners(closes=0.0, ends=0.004, not_ready=None, code=-15, cuts=True)
    diagnosis = first_of(made(abrupt, plan(replace(SERVICE, pre_stop=2.0), lag=1.0)))

    assert diagnosis.cause is Cause.EXITS_AT_ONCE
    assert "after SIGTERM, when endpoints had been removed: " in diagnosis.seen
    assert diagnosis.way_out.startswith("handle SIGTERM: finish what is in flight, then end")


def test_who_cannot_bear_the_load_is_slow_to_die_too() -> None:
    """It is killed with a queue of requests; but it had that before anybody touched it."""
    rehearsal = broken.overloaded()
    killed = made(Manners(closes=1.2, ends=None), plan(replace(SERVICE, grace_period=3.0)), slow=4.0)
    late = replace(rehearsal.lost[0], replica="shop-9")
    nobody = replace(late, replica="no endpoint", outcome=Outcome.REFUSED)
    both = replace(killed, entries=(*killed.entries, *[late] * len(killed.entries), nobody))

    assert [each.cause for each in diagnose(both)][:2] == [Cause.OVERLOADED, Cause.GRACE_TOO_SHORT]
    assert first_of(both).losses == len(killed.entries) + 1


def test_that_nobody_was_there_after_a_crash_is_put_down_to_it_once() -> None:
    rehearsal = broken.crashes()
    crash = next(event for event in rehearsal.events if event.what is Happening.ENDED)
    nobody = replace(rehearsal.lost[0], replica="no endpoint", outcome=Outcome.REFUSED, sent=crash.at + 0.05)
    other = [replace(event, replica="shop-3") for event in rehearsal.events if event.replica == "shop-2"]
    both = with_events(replace(rehearsal, entries=(*rehearsal.entries, nobody)), *other)
    found = diagnose(both)

    assert [each.cause for each in found] == [Cause.CRASHES]
    assert found[0].losses == len(both.lost)


@pytest.mark.parametrize(
    ("code", "output", "seen", "way_out"),
    [
        (
            1,
            "Traceback\nValueError: no\n  bye\n",
            "ended with exit code 1",
            "what ends it; it said: ValueError: no",
        ),
        (
            -9,
            "",
            "was ended by SIGKILL",
            "(where memory is short, the kernel does: see its log, and the limits)",
        ),
        (
            0,
            "all done\n",
            "ended with exit code 0",
            "on how many requests it takes); its last line: all done",
        ),
    ],
)
def test_what_is_known_of_a_crash(code: int, output: str, seen: str, way_out: str) -> None:
    rehearsal = broken.crashes()
    events = tuple(
        replace(event, code=code, detail=output)
        if event.what is Happening.ENDED and event.replica == "shop-2"
        else event
        for event in rehearsal.events
    )
    diagnosis = first_of(replace(rehearsal, events=events))

    assert diagnosis.seen.startswith(f"shop-2 {seen} though nobody had taken it away")
    assert diagnosis.way_out.endswith(way_out)


def test_requests_for_which_nobody_was_there() -> None:
    rehearsal = made()
    nobody = replace(rehearsal.entries[-1], replica="no endpoint", outcome=Outcome.REFUSED)
    diagnosis = first_of(replace(rehearsal, entries=(*rehearsal.entries, nobody)))

    assert diagnosis.seen.startswith("no replica was in the endpoint list")


@pytest.mark.parametrize(
    ("events", "said"),
    [
        ((), "it accepted no connection"),
        (
            (Event(at=BEGAN, replica="a", what=Happening.INIT_ENDED, code=3, detail="no database"),),
            "its init command ended with exit code 3 (no database)",
        ),
    ],
)
def test_why_it_was_not_ready(events: tuple[Event, ...], said: str) -> None:
    created = Event(at=BEGAN, replica="a", what=Happening.CREATED)
    rehearsal = replace(broken.not_ready_in_time(), events=(created, *events))

    assert first_of(rehearsal).seen == f"a was not ready within 20.0 s: {said}"


def test_a_process_that_liveness_is_still_ending_when_the_rehearsal_is_over() -> None:
    rehearsal = broken.killed_by_liveness()
    late = {Happening.ENDED, Happening.RESTARTED}
    events = tuple(event for event in rehearsal.events if event.replica != "shop-2" or event.what not in late)
    diagnosis = first_of(replace(rehearsal, events=events))

    assert diagnosis.cause is Cause.LIVENESS_KILLS
    assert diagnosis.losses == len(rehearsal.lost)


def test_requests_by_a_connection_that_should_have_been_left_are_no_work_in_flight() -> None:
    """They were sent to a replica that was in no list any more, since nobody had told their connection."""
    rehearsal = made(Manners(closes=None, ends=2.7, cuts=True))
    late = {death.replica: death.unlisted or 0 for death in rehearsal.deaths}
    assert rehearsal.lost
    assert all(entry.sent > late[entry.replica] for entry in rehearsal.lost)

    assert [each.cause for each in diagnose(rehearsal)] == [Cause.KEEP_ALIVE_FORGOTTEN]


def test_an_end_that_nobody_knows_the_reason_of_is_a_crash() -> None:
    """It was sent a signal, but no probe had failed."""
    rehearsal = broken.killed_by_liveness()
    events = tuple(event for event in rehearsal.events if event.probe is not ProbeName.LIVENESS)

    assert first_of(replace(rehearsal, events=events)).cause is Cause.CRASHES


def test_endpoints_that_were_never_removed() -> None:
    rehearsal = broken.closes_the_listener_early()
    deaths = tuple(replace(death, unlisted=None) for death in rehearsal.deaths)

    assert "endpoints were never removed" in first_of(replace(rehearsal, deaths=deaths)).seen


def test_a_probe_that_timed_out_is_no_sign_of_serving() -> None:
    rehearsal = made(Manners(closes=None, ends=None, not_ready=None))
    late = [
        Event(
            at=(death.killed or 0) - 0.2,
            replica=death.replica,
            what=Happening.PROBED,
            probe=ProbeName.READINESS,
            ok=False,
            detail="timed out after 1 s",
        )
        for death in rehearsal.deaths
    ]
    deaths = {death.replica: death for death in rehearsal.deaths}
    entries = tuple(
        entry
        for entry in rehearsal.entries
        if not (death := deaths.get(entry.replica)) or entry.sent < (death.signalled or 0)
    )

    assert first_of(with_events(replace(rehearsal, entries=entries), *late)).cause is Cause.NEVER_ENDS
