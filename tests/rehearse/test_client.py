"""The client of a rehearsal tells the kinds of loss apart, keeps to HTTP's rules, and never tries again."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import pytest

from graceful.rehearse import client
from graceful.rehearse.client import Connection, EndedError
from graceful.rehearse.model import Outcome, RequestSpec
from graceful.rehearse.wires import HOST, Address, Wire, open_wire
from tests.rehearse.peers import BODY, GET, OK, WITHIN, Peer, Script, run, served

CLOSING = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n"
BUSY = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
LOST = b"HTTP/1.1 404 Not Found\r\ncontent-length: 9\r\n\r\nnot found"


def saying(*parts: bytes, then: Callable[[Peer], object] = Peer.end) -> Script:
    async def script(peer: Peer) -> None:
        await peer.hear()
        for part in parts:
            await peer.say(part)
        then(peer)

    return script


def outcome(script: Script, request: RequestSpec = GET, within: float = WITHIN) -> Outcome:
    """Of one request on a connection of its own."""

    async def ask() -> Outcome:
        async with served(script) as address:
            connection = Connection(address)
            try:
                return (await connection.ask(request, within=within)).outcome
            finally:
                connection.close()

    return asyncio.run(ask())


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (OK, Outcome.ANSWERED),
        (CLOSING, Outcome.ANSWERED),
        (CHUNKED + b"0\r\n\r\n", Outcome.ANSWERED),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, Outcome.ANSWERED),
        # Without a length it lasts until the connection ends.
        (b"HTTP/1.0 200 OK\r\n\r\nhello", Outcome.ANSWERED),
        (BUSY, Outcome.SERVER_ERROR),
        (b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 5\r\n\r\nhello", Outcome.SERVER_ERROR),
        (LOST, Outcome.WRONG),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nworld", Outcome.WRONG),
        (b"+PONG\r\n\r\n", Outcome.WRONG),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhel", Outcome.TRUNCATED),
        (CHUNKED, Outcome.TRUNCATED),
        (b"HTTP/1.1 200 OK\r\ncontent-le", Outcome.TRUNCATED),
        (b"", Outcome.RESET),
    ],
)
def test_what_an_answer_that_ends_here_amounts_to(answer: bytes, expected: Outcome) -> None:
    assert outcome(saying(answer)) is expected


@pytest.mark.parametrize(("answer", "expected"), [(LOST, Outcome.ANSWERED), (BUSY, Outcome.SERVER_ERROR)])
def test_where_no_body_is_expected_any_answer_below_500_is_right(answer: bytes, expected: Outcome) -> None:
    assert outcome(saying(answer), RequestSpec()) is expected


@pytest.mark.parametrize(
    ("answer", "expected"),
    [(b"", Outcome.RESET), (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", Outcome.TRUNCATED)],
)
def test_a_reset_is_told_by_whether_the_answer_had_begun(
    answer: bytes, expected: Outcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reset takes back what the other side has not read yet, so it has to wait until it has."""

    async def open_watched(address: Address) -> Wire:
        wire = await open_wire(address)
        receive = wire.receive

        async def watched() -> bytes:
            received = await receive()
            heard.set()
            return received

        monkeypatch.setattr(wire, "receive", watched)
        return wire

    async def script(peer: Peer) -> None:
        await peer.hear()
        await peer.say(answer)
        if answer:
            await heard.wait()
        peer.reset()

    heard = asyncio.Event()
    monkeypatch.setattr(client, "open_wire", open_watched)
    assert outcome(script) is expected


def test_nobody_listening_is_refused() -> None:
    with socket.socket() as bound:
        bound.bind((HOST, 0))
        address = Address(port=bound.getsockname()[1])
        found = asyncio.run(Connection(address).ask(GET, within=WITHIN))
    assert found.outcome is Outcome.REFUSED


def test_silence_is_a_timeout() -> None:
    assert outcome(Peer.gone, within=0.01) is Outcome.TIMEOUT


def test_an_answer_that_trickles_in_is_whole() -> None:
    assert outcome(saying(*(bytes([byte]) for byte in OK))) is Outcome.ANSWERED


@pytest.mark.parametrize(
    "endless", [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n" + bytes(65536)]
)
def test_an_answer_without_end_that_never_keeps_us_waiting_is_a_timeout(
    monkeypatch: pytest.MonkeyPatch, endless: bytes
) -> None:
    """What is there already is received without a wait: nothing else, no deadline, would have its turn."""

    class Endless:
        async def send(self, data: bytes) -> None:
            pass

        async def receive(self) -> bytes:
            return endless

        def is_quiet(self) -> bool:
            return False

        def close(self) -> None:
            pass

    async def opened(_: Address) -> Wire:
        return Endless()

    async def ask() -> None:
        result = await Connection(Address()).ask(RequestSpec(), within=0.05)
        assert result.outcome is Outcome.TIMEOUT

    monkeypatch.setattr(client, "open_wire", opened)
    run(ask())


def test_a_connection_can_be_open_before_anything_is_sent_on_it() -> None:
    connected = asyncio.Event()

    async def script(peer: Peer) -> None:
        connected.set()
        await saying(OK)(peer)

    async def test() -> None:
        async with served(script) as address:
            connection = Connection(address)
            wire = await connection.open()
            await connected.wait()
            assert wire.is_quiet()
            assert await connection.open() is wire
            assert (await connection.ask(GET, within=WITHIN)).outcome is Outcome.ANSWERED
            connection.close()

    run(test())


def test_a_kept_connection_is_used_again_and_its_loss_is_told_apart() -> None:
    async def script(peer: Peer) -> None:
        for _ in range(2):
            await peer.hear()
            await peer.say(OK)
        await peer.hear()

    async def test() -> None:
        async with served(script) as address:
            connection = Connection(address)
            outcomes = [(await connection.ask(GET, within=WITHIN)).outcome for _ in range(3)]
            assert outcomes == [Outcome.ANSWERED, Outcome.ANSWERED, Outcome.RESET_KEPT]
            with pytest.raises(EndedError):
                await connection.ask(GET, within=WITHIN)

    run(test())


@pytest.mark.parametrize("after", [b"", b"HTTP/1.1 408 Request Timeout\r\n\r\n"])
def test_a_connection_that_the_server_has_ended_or_spoken_on_is_not_used_again(after: bytes) -> None:
    async def script(peer: Peer) -> None:
        await peer.hear()
        await peer.say(OK)
        await asked.wait()
        await peer.say(after)
        peer.end()
        await peer.writer.wait_closed()
        ended.set()

    async def test() -> None:
        async with served(script) as address:
            connection = Connection(address)
            wire = await connection.open()
            await connection.ask(GET, within=WITHIN)
            assert wire.is_quiet()
            asked.set()
            await ended.wait()
            with pytest.raises(EndedError):
                await connection.ask(GET, within=WITHIN)

    asked, ended = asyncio.Event(), asyncio.Event()
    run(test())


def test_a_connection_that_was_told_close_is_closed_by_us() -> None:
    async def script(peer: Peer) -> None:
        await peer.hear()
        await peer.say(CLOSING)
        await peer.gone()
        closed.set()

    async def test() -> None:
        async with served(script) as address:
            connection = Connection(address)
            assert (await connection.ask(GET, within=WITHIN)).outcome is Outcome.ANSWERED
            await closed.wait()
            with pytest.raises(EndedError):
                await connection.ask(GET, within=WITHIN)

    closed = asyncio.Event()
    run(test())


def test_an_upload_arrives_whole_and_in_two_halves() -> None:
    heard = []

    async def script(peer: Peer) -> None:
        heard.append(await peer.hear())
        heard.append(await peer.reader.readexactly(4))
        await peer.say(OK)
        await peer.gone()

    upload = RequestSpec(method="POST", path="/u", body_bytes=4, expected=BODY)
    assert outcome(script, upload) is Outcome.ANSWERED
    assert heard[0].startswith(b"POST /u HTTP/1.1\r\n")
    assert b"content-length: 4\r\n" in heard[0].lower()
    assert heard[1] == bytes(4)


def test_an_answer_before_the_end_of_the_upload_is_heard() -> None:
    async def script(peer: Peer) -> None:
        await peer.hear()
        await peer.say(BUSY)
        peer.writer.write_eof()
        await peer.gone()

    assert outcome(script, RequestSpec(method="POST", body_bytes=4_000_000)) is Outcome.SERVER_ERROR


@pytest.mark.parametrize(
    ("answer", "expected"), [(CHUNKED + b"0\r\n\r\n", Outcome.ENDED_WELL), (CHUNKED, Outcome.TRUNCATED)]
)
def test_what_was_held_open_ends_well_or_is_cut(answer: bytes, expected: Outcome) -> None:
    async def test() -> None:
        async with served(saying(answer)) as address:
            found = await Connection(address).follow(RequestSpec(path="/events"))
        assert found.outcome is expected

    run(test())


def test_everything_but_a_whole_answer_and_a_good_end_is_lost() -> None:
    kept = {each for each in Outcome if not each.lost}
    assert kept == {Outcome.ANSWERED, Outcome.ENDED_WELL}
