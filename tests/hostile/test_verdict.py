"""The harness itself: it sees what is not as it must be. Otherwise its table would prove nothing."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, Final

import pytest

from graceful.rehearse.model import Outcome
from hostile import paper
from hostile.cases import ALL, Case, Client, Expectation, Log, Seen, Sending
from hostile.clients import Peer
from hostile.play import Result
from hostile.process import OURS
from hostile.sequences import named, sequence
from hostile.table import CASES, GROUPS
from tests.pages import ROOT, rows

WHOLE: Final = ("serving", "lame_duck", "draining", "releasing", "stopped")
CASE: Final = Case(
    name="a-case",
    says="what it does",
    clients=(Client(sends=b"GET / HTTP/1.1\r\n\r\n", sees=frozenset({Seen.UNAVAILABLE})),),
    expects=Expectation(codes=frozenset({75}), named=(r"GET /slow, .* at app\.py:\d+",)),
)
GOOD: Final = Result(
    case=CASE,
    server=OURS.name,
    code=75,
    seconds=3.6,
    ledger=(*(f"released {name}" for name in sorted(ALL)), *(f"phase {phase}" for phase in WHOLE)),
    seen=(Seen.UNAVAILABLE,),
    healthy=(Outcome.ANSWERED, Outcome.ANSWERED),
    log="cut off: http GET /slow, 3.6 s old, at app.py:12 in slow",
)


def but(**others: Any) -> Result:
    return dataclasses.replace(GOOD, **others)


def test_what_is_as_it_must_be_has_no_failures() -> None:
    assert GOOD.failures == ()


@pytest.mark.parametrize(
    ("result", "failure"),
    [
        (but(killed=True, code=-9), "it was alive 6 s after the signal"),
        (but(code=0), "exit code 0; expected 75"),
        (but(ledger=(*GOOD.ledger, "released database")), "released more than once: database"),
        (but(ledger=GOOD.ledger[1:]), "not released: database"),
        (but(ledger=GOOD.ledger[:-1]), "the timeline was serving, lame_duck, draining, releasing"),
        (but(ledger=(*GOOD.ledger, "phase lame_duck")), "the timeline was"),
        (but(log="cut off: http GET /slow"), "the log does not name"),
        (but(seen=(Seen.WHOLE,)), "saw: whole answer; expected 503"),
        (
            but(healthy=(Outcome.ANSWERED, Outcome.REFUSED)),
            "healthy requests beside were lost: answered, refused",
        ),
        (but(problems=("the child lives on",)), "the child lives on"),
    ],
)
def test_what_is_not_is_said(result: Result, failure: str) -> None:
    (found,) = result.failures
    assert failure in found
    assert found in result.told
    assert result.log in result.told


def test_only_what_may_stay_unreleased_may() -> None:
    expects = dataclasses.replace(CASE.expects, unreleased=frozenset({"database"}), whole=False)
    case = dataclasses.replace(CASE, expects=expects)
    assert but(case=case, ledger=("released ill", "released journal", "released lifespan")).failures == ()
    assert but(case=case, ledger=("released ill", "released lifespan")).failures == ("not released: journal",)
    assert but(case=case, ledger=(*GOOD.ledger, "released ill")).failures == ("released more than once: ill",)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)
        yield listener


CHUNKED: Final = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n"
LONG: Final = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello"


@pytest.mark.parametrize(
    ("answer", "how", "seen"),
    [
        (b"", "end", Seen.CLOSED),
        (b"", "reset", Seen.CLOSED),
        (b"", "wait", Seen.WAITING),
        (b"HTTP/1.1 20", "end", Seen.CUT),
        (LONG, "end", Seen.CUT),
        (LONG, "reset", Seen.CUT),
        (LONG, "wait", Seen.WAITING),
        (LONG + b"world", "wait", Seen.WHOLE),
        (CHUNKED, "end", Seen.CUT),
        (CHUNKED + b"0\r\n\r\n", "end", Seen.WHOLE),
        (b"HTTP/1.0 200 OK\r\n\r\nhello", "end", Seen.WHOLE),
        (b"HTTP/1.0 200 OK\r\n\r\nhello", "reset", Seen.CUT),
        (b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n", "end", Seen.UNAVAILABLE),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n\x88\x02\x03\xf4", "end", Seen.CLOSE_FRAME),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "end", Seen.CUT),
    ],
)
def test_a_client_knows_a_whole_answer_from_a_broken_one(
    listener: socket.socket, answer: bytes, how: str, seen: Seen
) -> None:
    async def see() -> Seen:
        peer = Peer(Client(sends=b"GET / HTTP/1.1\r\n\r\n"), listener.getsockname()[1])
        await peer.begin()
        server, _ = listener.accept()
        with server:
            assert server.recv(1024)  # what has not been read makes a reset of the end
            server.sendall(answer)
            await peer.read(len(answer))
            if how == "reset":
                server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            if how != "wait":
                server.close()
            return await peer.see(within=20 if how != "wait" else 0.01)

    assert asyncio.run(see()) is seen


def test_a_sequence_is_the_same_each_time_and_found_by_its_name() -> None:
    assert sequence(3, 5) == sequence(3, 5) == named("sequence-3-5")
    assert len({sequence(3, number).says for number in range(1, 51)}) > 40
    assert named("endless-stream") is None


@pytest.mark.parametrize("seed", range(1, 11))
def test_sequences_forgive_no_more_than_they_say(seed: int) -> None:
    for number in range(1, 51):
        forgives_no_more_than_it_says(sequence(seed, number))


def forgives_no_more_than_it_says(case: Case) -> None:
    sent = [sending.signum for sending in case.signals]
    assert case.signals[0].at == 0
    assert sent[0] in {signal.SIGTERM, signal.SIGINT}
    assert all(one.at <= other.at < 3.0 for one, other in zip(case.signals, case.signals[1:], strict=False))
    assert sent.count(signal.SIGSTOP) == sent.count(signal.SIGCONT)
    out_at_once = signal.SIGQUIT in sent or sent.count(signal.SIGINT) >= 3
    ended_by_the_app = case.expects.codes & {70, 3, -signal.SIGSEGV}
    if not out_at_once and not ended_by_the_app:
        assert case.expects.whole
        assert case.expects.unreleased <= {"lifespan", "ill"}
    assert all(Seen.WHOLE not in client.sees for client in case.clients if b"/sleeps" in client.sends)


def test_every_case_has_a_name_of_its_own_and_resources_that_exist() -> None:
    assert len({case.name for case in CASES}) == len(CASES)
    assert all(case.expects.unreleased <= ALL for case in CASES)
    assert all(case.signals[0] == Sending(signum=case.signals[0].signum) for case in CASES)
    assert {case.log for case in CASES} == set(Log)


def test_the_table_sets_ours_beside_uvicorn() -> None:
    case = GROUPS[0].cases[0]
    ours = but(case=dataclasses.replace(CASE, name=case.name))
    theirs = dataclasses.replace(ours, server="uvicorn", code=-9, killed=True, ledger=())
    text = paper.table(GROUPS, {(case.name, ours.server): ours, (case.name, "uvicorn"): theirs})
    (row,) = [line for line in text.splitlines() if case.name in line]
    assert row.split() == [
        *("ok", case.name, "75", "3.60", "4", "2", "named"),
        *("KILL", "3.60", "0", "2"),
    ]
    assert paper.failures([ours]) == ""
    assert "exit code 1" in paper.failures([dataclasses.replace(ours, code=1)])


def test_the_page_lists_the_cases_as_they_are() -> None:
    shown = [tuple(row[:4]) for row in rows(ROOT / "docs/hostile.md", "case")]
    released = {0: "none", len(ALL): "all"}
    expected = []
    for case in CASES:
        codes = " or ".join(str(code if code >= 0 else 128 - code) for code in sorted(case.expects.codes))
        count = len(ALL - case.expects.unreleased)
        name = f"`{case.name.removesuffix('-asyncio')}`"
        expected.append((name, case.says, codes, released.get(count, f"{count} of {len(ALL)}")))
    assert shown == list(dict.fromkeys(expected))


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "hostile", *arguments],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_the_command_says_what_there_is() -> None:
    found = run("--list")
    assert found.returncode == 0
    assert all(case.name in found.stdout for case in CASES)


def test_an_unknown_case_is_wrong_usage() -> None:
    found = run("sleeps", "no-such-case")
    assert found.returncode == 2
    assert "found no-such-case" in found.stderr


@pytest.mark.hostile
def test_the_command_plays_one_case_on_both() -> None:
    found = run("os-exit", "--json")
    assert found.returncode == 0, found.stdout
    results = json.loads(found.stdout)["results"]
    assert [(result["case"], result["server"], result["code"]) for result in results] == [
        ("os-exit", "graceful run", 3),
        ("os-exit", "uvicorn", 3),
    ]
