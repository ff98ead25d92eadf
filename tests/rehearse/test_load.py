"""The load of a rehearsal sends what is due, once, by the connections that are there, and writes it down."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter

import pytest

from graceful.rehearse import client
from graceful.rehearse.endpoints import Endpoints
from graceful.rehearse.load import NOBODY, Load, LoadError, lateness
from graceful.rehearse.model import Entry, Event, Happening, LoadPlan, Outcome
from graceful.rehearse.wires import Address, Wire
from tests.rehearse.peers import GET, OK, Peer, Script, run, served

PLAN = LoadPlan(rate=400.0, requests=(GET,), kept=4)


def listing(told: list[Event], **replicas: Address) -> Endpoints:
    endpoints = Endpoints(time.monotonic, told.append)
    for name, address in replicas.items():
        endpoints.add(name, address)
    return endpoints


def test_every_request_is_sent_once_whatever_becomes_of_it() -> None:
    """A third of the connections is answered, a third reset, a third ended; the server counts what the load
    writes down.
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
        async with served(script) as address:
            load = Load(PLAN, listing([], web=address))
            await load.run(stop)
        outcomes = Counter(entry.outcome for entry in load.entries)
        assert outcomes.total() == heard[0]
        assert {Outcome.ANSWERED, Outcome.RESET} <= set(outcomes)
        assert abs(sum(entry.kept for entry in load.entries) - heard[0] / 2) <= 1
        assert {entry.replica for entry in load.entries} == {"web"}

    run(test())


def test_kept_connections_flow_on_when_the_endpoint_is_removed_and_new_ones_do_not() -> None:
    told: list[Event] = []
    stop = asyncio.Event()
    heard = {"old": 0, "new": 0}
    addresses: dict[str, Address] = {}
    endpoints = listing(told)

    def answering(name: str) -> Script:
        async def script(peer: Peer) -> None:
            while True:
                await peer.hear()
                heard[name] += 1
                if heard["old"] == 50 and "new" not in endpoints:
                    endpoints.add("new", addresses["new"])
                    endpoints.remove("old")
                if heard["new"] == 50:
                    stop.set()
                await peer.say(OK)

        return script

    async def test() -> None:
        async with served(answering("old")) as old, served(answering("new")) as new:
            addresses.update(old=old, new=new)
            endpoints.add("old", old)
            load = Load(PLAN, endpoints)
            await load.run(stop)
        assert {entry.outcome for entry in load.entries} == {Outcome.ANSWERED}
        removed = next(event.at for event in told if event.what is Happening.UNLISTED)
        later = [entry for entry in load.entries if entry.sent > removed]
        assert {entry.replica for entry in later if not entry.kept} == {"new"}
        assert "old" in {entry.replica for entry in later if entry.kept}

    run(test())


def test_who_finds_no_endpoint_is_lost_but_for_those_who_come_at_the_end() -> None:
    class Deserted(Endpoints):
        def choose(self, chance: random.Random) -> tuple[str, Address] | None:
            if load.entries:
                stop.set()
            return super().choose(chance)

    stop = asyncio.Event()
    load = Load(PLAN, Deserted(time.monotonic, lambda _: None))
    run(load.run(stop))
    assert [(entry.replica, entry.outcome) for entry in load.entries] == [(NOBODY, Outcome.REFUSED)]


def test_trouble_of_this_machine_is_no_loss_but_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    async def out_of_files(_: Address) -> Wire:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(client, "open_wire", out_of_files)
    load = Load(PLAN, listing([], web=Address(port=1)))
    with pytest.raises(ExceptionGroup) as raised:
        run(load.run(asyncio.Event()))
    assert raised.group_contains(LoadError, match="Too many open files; lower --rate")


def late_by(seconds: float) -> Entry:
    sent = 10.0 + seconds
    return Entry(
        kind="GET /", replica="web", kept=False, due=10.0, sent=sent, ended=sent, outcome=Outcome.ANSWERED
    )


def test_how_late_it_was() -> None:
    entries = [late_by(0.01 * number) for number in range(100)]
    assert lateness(entries, 0.0) == pytest.approx(0.0)
    assert lateness(entries, 0.5) == pytest.approx(0.5)
    assert lateness(entries, 1.0) == pytest.approx(0.99)
    assert lateness([], 1.0) == 0.0
