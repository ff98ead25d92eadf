"""Servers that do their worst: none outlasts the timeout or fills the memory."""

from __future__ import annotations

import socket
import time

import pytest

from graceful.cli.probe_answer import BODY_LIMIT, HEAD_LIMIT, Deadline
from tests.probe.server import OK, PATIENT, Peer, Run, Serve, http


def test_garbage_without_an_end_is_seen_at_once(serve: Serve, run: Run) -> None:
    def garbage(peer: Peer) -> None:
        peer.say(b"\x15\x03\x01\x00\x02")
        peer.linger()

    code, why = run(PATIENT, serve(garbage).url())
    assert (code, why) == (1, "found '\\x15\\x03\\x01\\x00\\x02', expected an answer of HTTP/1.1\n")


def test_endless_headers_are_cut_off(serve: Serve, run: Run) -> None:
    def endless(peer: Peer) -> None:
        peer.hear()
        peer.say(b"HTTP/1.1 200 OK\r\n")
        for number in range(1_000_000):
            peer.say(b"X-%d: %s\r\n" % (number, b"x" * 1000))

    assert run(PATIENT, serve(endless).url()) == (1, f"the answer's head is longer than {HEAD_LIMIT} bytes\n")


def test_a_header_without_end_is_cut_off(serve: Serve, run: Run) -> None:
    def endless(peer: Peer) -> None:
        peer.hear()
        peer.say(b"HTTP/1.1 200 OK\r\nX: ")
        for _ in range(1_000_000):
            peer.say(b"x" * 1000)

    assert run(PATIENT, serve(endless).url()) == (1, f"the answer's head is longer than {HEAD_LIMIT} bytes\n")


def test_endless_interim_answers_are_cut_off(serve: Serve, run: Run) -> None:
    def endless(peer: Peer) -> None:
        peer.hear()
        for _ in range(1_000_000):
            peer.say(b"HTTP/1.1 100 Continue\r\n\r\n")

    assert run(PATIENT, serve(endless).url()) == (1, f"the answer's head is longer than {HEAD_LIMIT} bytes\n")


@pytest.mark.parametrize(
    "framing", ["Connection: close", "Content-Length: 99999999999", "Transfer-Encoding: chunked"]
)
def test_of_an_endless_body_the_beginning_is_enough(serve: Serve, run: Run, framing: str) -> None:
    def endless(peer: Peer) -> None:
        peer.hear()
        peer.say(http("200 OK", b"", framing, framed=False))
        for _ in range(BODY_LIMIT // 1000 + 1):
            peer.say(b"3e8\r\n" + b"x" * 1000 + b"\r\n" if "chunked" in framing else b"x" * 1000)
        peer.linger()

    assert run(PATIENT, serve(endless).url()) == (0, "")


@pytest.mark.parametrize(
    "beginning", [b"", b"HTTP/1.1 200 OK\r\nX: ", http("200 OK", b"", "Content-Length: 9999", framed=False)]
)
def test_a_trickle_does_not_outlast_the_timeout(serve: Serve, run: Run, beginning: bytes) -> None:
    def trickling(peer: Peer) -> None:
        peer.hear()
        peer.say(beginning)
        peer.trickle(b"HTTP/1.1 200 OK\r\n" + b"x" * 1000)

    url = serve(trickling).url()
    began = time.monotonic()
    assert run("--timeout", "0.3", url) == (1, "timed out after 0.3 s while waiting for the answer\n")
    assert 0.3 <= time.monotonic() - began < 15, "it trickles for twenty seconds"


def test_a_slow_answer_that_ends_in_time_is_whole(serve: Serve, run: Run) -> None:
    def slow(peer: Peer) -> None:
        peer.hear()
        peer.trickle(b"HTTP/1.1 200 OK\r\n\r\nok\n")

    assert run(PATIENT, serve(slow).url()) == (0, "")


def test_a_bad_status_is_said_even_if_its_body_never_ends(serve: Serve, run: Run) -> None:
    def trickling(peer: Peer) -> None:
        peer.hear()
        peer.say(http("503 Service Unavailable", b"", "Content-Length: 9999", framed=False))
        peer.trickle(b"x" * 1000)

    assert run("--timeout", "0.3", serve(trickling).url()) == (1, "503 Service Unavailable\n")


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 20", b"HTTP/1.1 200 OK\r\n"])
def test_silence_is_a_timeout(serve: Serve, run: Run, said: bytes) -> None:
    def silent(peer: Peer) -> None:
        peer.hear()
        peer.say(said)
        peer.linger()

    assert run("--timeout=0.2", serve(silent).url()) == (
        1,
        "timed out after 0.2 s while waiting for the answer\n",
    )


def test_a_reset_connection(serve: Serve, run: Run) -> None:
    def reset(peer: Peer) -> None:
        peer.hear()
        peer.say(b"HTTP/1.1 200 OK\r\n")
        peer.reset()

    assert run(PATIENT, serve(reset).url()) == (1, "connection reset by peer while waiting for the answer\n")


def test_an_answer_given_before_the_request_was_read_counts(serve: Serve, run: Run) -> None:
    def hasty(peer: Peer) -> None:
        peer.say(OK)
        peer.connection.shutdown(socket.SHUT_WR)
        peer.hear()

    assert run(PATIENT, serve(hasty).url()) == (0, "")


def test_a_request_that_cannot_be_sent_any_more_still_reads_the_answer(
    serve: Serve, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed(_socket: socket.socket, _request: bytes) -> None:
        raise BrokenPipeError

    def hasty(peer: Peer) -> None:
        peer.say(http("503 No", b"too many connections"))

    url = serve(hasty).url()
    monkeypatch.setattr(socket.socket, "sendall", closed)
    monkeypatch.setattr(Peer, "say", lambda peer, text: peer.connection.send(text))
    assert run(PATIENT, url) == (1, "503 too many connections\n")


def test_when_the_time_is_over_nothing_is_waited_for() -> None:
    with pytest.raises(TimeoutError):
        Deadline(0).remaining()
