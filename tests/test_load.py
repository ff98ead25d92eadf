"""The load generator tells the kinds of loss apart, keeps to HTTP's rules, and never retries."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, Final

import pytest

from rig.client import HOST, Connection, EndedError, Outcome, Request, Verdict
from rig.load import Endpoints, Entry, Ledger, Load

WITHIN: Final = 30.0
BODY: Final = b"hello"
OK: Final = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"
CLOSING: Final = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello"
BUSY: Final = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
GET: Final = Request(kind="get", target="/", expected=BODY)


class Peer:
    """The server's side of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def hear(self) -> bytes:
        """One request, of those that have no body."""
        return await self.reader.readuntil(b"\r\n\r\n")

    async def say(self, text: bytes) -> None:
        self.writer.write(text)
        await self.writer.drain()

    async def gone(self) -> None:
        """The client has closed."""
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(65536):
                pass

    def end(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        linger = struct.pack("ii", 1, 0)
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.writer.transport.abort()


Script = Callable[[Peer], Awaitable[None]]


@contextlib.asynccontextmanager
async def served(script: Script) -> AsyncIterator[int]:
    """A server that does with every connection what `script` says; its port."""

    serving: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if task := asyncio.current_task():
            serving.add(task)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await script(Peer(reader, writer))
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, HOST, 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
        server.close()
        await asyncio.gather(*serving)


def run(test: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(WITHIN):
            await test

    asyncio.run(bounded())


def verdict(script: Script, request: Request = GET, timeout: float = WITHIN) -> Verdict:
    """Of one request on a connection of its own."""

    async def ask() -> Verdict:
        async with served(script) as port:
            connection = Connection(port)
            try:
                return await connection.ask(request, timeout=timeout)
            finally:
                connection.close()

    return asyncio.run(ask())


def saying(*parts: bytes, then: Callable[[Peer], object] = Peer.end) -> Script:
    async def script(peer: Peer) -> None:
        await peer.hear()
        for part in parts:
            await peer.say(part)
        then(peer)

    return script


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (OK, Outcome.ANSWERED),
        (CLOSING, Outcome.ANSWERED),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", Outcome.ANSWERED),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, Outcome.ANSWERED),
        (
            b"HTTP/1.0 200 OK\r\n\r\nhello",
            Outcome.ANSWERED,
        ),  # without a length it lasts until the connection ends
        (BUSY, Outcome.SERVER_ERROR),
        (b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 5\r\n\r\nhello", Outcome.SERVER_ERROR),
        (b"HTTP/1.1 404 Not Found\r\ncontent-length: 9\r\n\r\nnot found", Outcome.WRONG),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nworld", Outcome.WRONG),
        (b"+PONG\r\n\r\n", Outcome.WRONG),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhel", Outcome.TRUNCATED),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n", Outcome.TRUNCATED),
        (b"HTTP/1.1 200 OK\r\ncontent-le", Outcome.TRUNCATED),
        (b"", Outcome.RESET),
    ],
)
def test_what_an_answer_that_ends_here_amounts_to(answer: bytes, outcome: Outcome) -> None:
    assert verdict(saying(answer)).outcome is outcome


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [(b"", Outcome.RESET), (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", Outcome.TRUNCATED)],
)
def test_a_reset_is_told_by_whether_the_answer_had_begun(answer: bytes, outcome: Outcome) -> None:
    class Watched(Connection):
        """A reset takes back what the other side has not read yet, so it has to wait until it has."""

        @property
        def heard_at(self) -> float:
            return self._heard_at

        @heard_at.setter
        def heard_at(self, at: float) -> None:
            self._heard_at = at
            if at:
                heard.set()

    async def script(peer: Peer) -> None:
        await peer.hear()
        await peer.say(answer)
        if answer:
            await heard.wait()
        peer.reset()

    async def test() -> None:
        async with served(script) as port:
            assert (await Watched(port).ask(GET, timeout=WITHIN)).outcome is outcome

    heard = asyncio.Event()
    run(test())


def test_nobody_listening_is_refused() -> None:
    with socket.socket() as bound:
        bound.bind((HOST, 0))
        found = asyncio.run(Connection(bound.getsockname()[1]).ask(GET, timeout=WITHIN))
    assert found.outcome is Outcome.REFUSED


def test_silence_is_a_timeout() -> None:
    assert verdict(Peer.gone, timeout=0.01).outcome is Outcome.TIMEOUT


def test_an_answer_that_trickles_in_is_whole() -> None:
    assert verdict(saying(*(bytes([byte]) for byte in OK))).outcome is Outcome.ANSWERED


def test_a_kept_connection_is_used_again_and_its_loss_is_told_apart() -> None:
    async def script(peer: Peer) -> None:
        for _ in range(2):
            await peer.hear()
            await peer.say(OK)
        await peer.hear()

    async def test() -> None:
        async with served(script) as port:
            connection = Connection(port)
            outcomes = []
            for _ in range(3):
                outcomes.append((await connection.ask(GET, timeout=WITHIN)).outcome)
                assert connection.usable() == (len(outcomes) < 3)
            assert outcomes == [Outcome.ANSWERED, Outcome.ANSWERED, Outcome.RESET_KEPT]

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
        async with served(script) as port:
            connection = Connection(port)
            await connection.ask(GET, timeout=WITHIN)
            assert connection.usable()
            asked.set()
            await ended.wait()
            with pytest.raises(EndedError):
                await connection.ask(GET, timeout=WITHIN)
            assert not connection.usable()

    asked, ended = asyncio.Event(), asyncio.Event()
    run(test())


def test_a_connection_that_was_told_close_is_closed_by_us() -> None:
    async def script(peer: Peer) -> None:
        await peer.hear()
        await peer.say(CLOSING)
        await peer.gone()
        closed.set()

    async def test() -> None:
        async with served(script) as port:
            connection = Connection(port)
            assert (await connection.ask(GET, timeout=WITHIN)).outcome is Outcome.ANSWERED
            assert not connection.usable()
            await closed.wait()
            with pytest.raises(EndedError):
                await connection.ask(GET, timeout=WITHIN)

    closed = asyncio.Event()
    run(test())


def test_an_upload_arrives_whole_and_in_two_halves() -> None:
    heard = []

    async def script(peer: Peer) -> None:
        heard.append(await peer.hear())
        heard.append(await peer.reader.readexactly(4))
        await peer.say(OK)
        await peer.gone()

    upload = Request(kind="upload", target="/u", method="POST", body=b"abcd", expected=BODY)
    assert verdict(script, upload).outcome is Outcome.ANSWERED
    assert heard[0].startswith(b"POST /u HTTP/1.1\r\n")
    assert b"content-length: 4\r\n" in heard[0].lower()
    assert heard[1] == b"abcd"


def test_an_answer_before_the_end_of_the_upload_is_heard() -> None:
    upload = Request(kind="upload", target="/", method="POST", body=bytes(4_000_000), expected=BODY)

    async def script(peer: Peer) -> None:
        await peer.hear()
        await peer.say(BUSY)
        peer.writer.write_eof()
        await peer.gone()

    assert verdict(script, upload).outcome is Outcome.SERVER_ERROR


def entry(outcome: Outcome = Outcome.ANSWERED, *, due: float = 0.0, sent: float = 0.0) -> Entry:
    return Entry(kind="get", port=1, kept=False, due=due, sent=sent, ended=sent, outcome=outcome)


def test_everything_but_a_whole_answer_is_lost() -> None:
    assert {outcome for outcome in Outcome if not entry(outcome).lost} == {Outcome.ANSWERED}


def test_the_ledger_knows_how_late_we_were() -> None:
    ledger = Ledger(entries=[entry(due=10.0, sent=10.0 + 0.01 * number) for number in range(100)])
    assert ledger.lateness(0.0) == pytest.approx(0.0)
    assert ledger.lateness(0.5) == pytest.approx(0.5)
    assert ledger.lateness(1.0) == pytest.approx(0.99)
    assert Ledger().lateness(1.0) == 0.0


def load_on(*ports: int, kept: int = 4, seed: int = 1) -> Load:
    return Load(Endpoints(ports), lambda chance: GET, rate=400.0, kept=kept, seed=seed)


def test_every_request_is_sent_once_whatever_becomes_of_it() -> None:
    """A third of the connections is answered, a third reset, a third ended; the server counts what the ledger
    does.
    """
    made, heard = [0], [0]
    stop = asyncio.Event()

    async def script(peer: Peer) -> None:
        made[0] += 1
        what = made[0] % 3
        while True:
            await peer.hear()
            heard[0] += 1
            if heard[0] == 300:
                stop.set()
            if what:
                break
            await peer.say(OK)
        if what == 1:
            peer.reset()

    async def test() -> None:
        async with served(script) as port:
            ledger = await load_on(port).run(stop)
        assert len(ledger.entries) == heard[0]
        assert {Outcome.ANSWERED, Outcome.RESET} <= set(ledger.outcomes())
        assert 0 < len(ledger.lost) < heard[0]
        assert abs(sum(entry.kept for entry in ledger.entries) - heard[0] / 2) <= 1

    run(test())


def test_kept_connections_flow_on_when_the_endpoint_is_removed_and_new_ones_do_not() -> None:
    endpoints = Endpoints()
    stop = asyncio.Event()
    heard: dict[str, int] = {"old": 0, "new": 0}
    old_when_removed = [0]

    def answering(name: str) -> Script:
        async def script(peer: Peer) -> None:
            while True:
                await peer.hear()
                heard[name] += 1
                if heard["old"] == 50 and not old_when_removed[0]:
                    old_when_removed[0] = 50
                    endpoints.add(ports["new"])
                    endpoints.remove(ports["old"])
                if heard["new"] == 50:
                    stop.set()
                await peer.say(OK)

        return script

    async def test() -> None:
        async with served(answering("old")) as old, served(answering("new")) as new:
            ports.update(old=old, new=new)
            endpoints.add(old)
            load = Load(endpoints, lambda chance: GET, rate=400.0, kept=3)
            ledger = await load.run(stop)
        removed = min(entry.sent for entry in ledger.entries if entry.port == new)
        later = [entry for entry in ledger.entries if entry.sent > removed]
        assert not ledger.lost
        assert {entry.port for entry in later if not entry.kept} == {new}
        assert old in {entry.port for entry in later if entry.kept}

    ports: dict[str, int] = {}
    run(test())


def test_trouble_of_our_own_is_no_loss_but_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    async def out_of_files(_: Connection) -> socket.socket:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(Connection, "open", out_of_files)
    with pytest.raises(ExceptionGroup) as raised:
        run(load_on(1).run(asyncio.Event()))  # type: ignore[arg-type]
    assert raised.group_contains(OSError, match="Too many open files")
