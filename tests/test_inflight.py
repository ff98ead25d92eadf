"""What has begun and not ended: counted, named, waited for to the moment, and cut off."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Collection, Coroutine
from typing import Any

import pytest

from graceful.inflight import CutOff, InFlight, Job, Kind, escaped, request_kind, request_name
from graceful.phases import Phase
from tests.jumping_loop import JumpingLoop, jump

SSE = [(b"accept", b"text/event-stream")]


class Clock:
    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now


def http(path: str = "/", method: str = "GET", **more: Any) -> dict[str, Any]:
    return {"type": "http", "method": method, "path": path, "headers": [], **more}


class Route:
    path = "/items/{id}"


class Work:
    """Requests as the ASGI wrapper keeps them: `enter` puts one in flight while its coroutine runs."""

    def __init__(self, in_flight: InFlight) -> None:
        self.in_flight = in_flight
        self.log: list[str] = []

    def enter(self, scope: dict[str, Any], app: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        key = object()
        self.in_flight.requests[key] = scope, self.in_flight.clock(), app

        async def request() -> None:
            try:
                await app
            except asyncio.CancelledError:
                self.log.append(f"cancelled {scope['path']}")
            finally:
                del self.in_flight.requests[key]
                self.in_flight.request_ended(scope)

        return asyncio.ensure_future(request())


async def for_ever() -> None:
    await asyncio.Event().wait()


async def stubborn(release: asyncio.Event) -> None:
    """Does not accept its cancellation."""
    while not release.is_set():
        try:
            await release.wait()
        except asyncio.CancelledError:
            continue


async def nothing(_scopes: Collection[Any]) -> Collection[Any]:
    return ()


@pytest.mark.parametrize(
    ("scope", "kind"),
    [
        ({"type": "websocket", "path": "/", "headers": SSE}, Kind.WEBSOCKET),
        (http(), Kind.HTTP),
        ({"type": "http"}, Kind.HTTP),
        (http(headers=[(b"accept", b"text/html")]), Kind.HTTP),
        (http(headers=[(b"x-accept", b"text/event-stream")]), Kind.HTTP),
        (http(headers=[(b"host", b"x"), *SSE]), Kind.STREAM),
        (http(headers=[(b"accept", b"text/html, text/event-stream;q=0.9")]), Kind.STREAM),
    ],
)
def test_kinds(scope: dict[str, Any], kind: Kind) -> None:
    assert request_kind(scope) is kind


@pytest.mark.parametrize(
    ("scope", "name"),
    [
        (http("/a b"), "GET /a b"),
        (http("/items/7", route=Route()), "GET /items/{id}"),
        (http("/items/7", route=object()), "GET /items/7"),
        (http("/x", query_string=b"token=secret"), "GET /x"),
        (
            http("/a\nCRITICAL forged\r\x1b[31m\u2028\x85é"),
            r"GET /a\nCRITICAL forged\r\x1b[31m\u2028\x85\xe9",
        ),
        (http("/\ud800"), r"GET /\ud800"),
        (http("/", method="GE\nT"), "GE\\nT /"),
        ({"type": "websocket", "path": "/chat"}, "WebSocket /chat"),
        ({"type": "http"}, " "),
    ],
)
def test_names(scope: dict[str, Any], name: str) -> None:
    assert request_name(scope) == name


def test_a_name_has_at_most_120_characters() -> None:
    assert escaped("x" * 120) == "x" * 120
    assert escaped("x" * 121) == "x" * 117 + "..."
    assert len(escaped("\n" * 100)) == 120


@pytest.mark.parametrize("number", range(0x300))
def test_no_character_begins_a_line(number: int) -> None:
    assert len(f"a{escaped(chr(number))}b".splitlines()) == 1
    assert escaped(chr(number)).isprintable()


def test_counts_by_kind() -> None:
    in_flight = InFlight(Clock())
    assert in_flight.count() == dict.fromkeys(Kind, 0)
    with Job(in_flight, "import"), Job(in_flight, "export"):
        for number, scope in enumerate([http(), http(headers=SSE), {"type": "websocket", "path": "/"}]):
            in_flight.requests[number] = scope, 0.0, asyncio.sleep(0)
        assert in_flight.count() == {
            Kind.HTTP: 1,
            Kind.WEBSOCKET: 1,
            Kind.STREAM: 1,
            Kind.JOB: 2,
            Kind.TASK: 0,
        }
        assert len(in_flight) == 5
        for _, _, work in in_flight.requests.values():
            work.close()  # type: ignore[attr-defined]
        in_flight.requests.clear()
    assert len(in_flight) == 0


def test_what_has_begun_by_phase() -> None:
    in_flight = InFlight(Clock())
    in_flight.http = 3
    in_flight.begun(Phase.SERVING)
    in_flight.http = 5
    in_flight.websocket = 1
    with Job(in_flight, "import"):
        pass
    begun = in_flight.begun(Phase.LAME_DUCK)
    assert {key: count for key, count in begun.items() if count} == {
        (Kind.HTTP, Phase.SERVING): 3,
        (Kind.HTTP, Phase.LAME_DUCK): 2,
        (Kind.WEBSOCKET, Phase.LAME_DUCK): 1,
        (Kind.JOB, Phase.LAME_DUCK): 1,
    }
    in_flight.reset()
    assert in_flight.begun(Phase.STARTING)[Kind.HTTP, Phase.SERVING] == 3, "counters only ever grow"
    begun.clear()
    assert in_flight.begun(Phase.STARTING)[Kind.HTTP, Phase.SERVING] == 3, "it is a copy"


def test_arrivals_after_the_signal() -> None:
    in_flight = InFlight(Clock())
    assert (in_flight.arrivals, in_flight.last_arrival) == (0, None)
    in_flight.leave(100.0)
    in_flight.arrived_late(100.5)
    in_flight.arrived_late(103.25)
    assert (in_flight.arrivals, in_flight.last_arrival) == (2, 3.25)
    in_flight.reset()
    assert (in_flight.left_at, in_flight.arrivals, in_flight.last_arrival) == (None, 0, None)


def test_a_job_is_in_flight_for_its_block_even_if_it_raises() -> None:
    in_flight = InFlight(Clock())
    with pytest.raises(ZeroDivisionError), Job(in_flight, "import") as job:  # noqa: PT012 - the block is the job
        assert (len(in_flight), job.name, job.began) == (1, "import", 50.0)
        raise ZeroDivisionError
    assert len(in_flight) == 0
    assert in_flight.ended == {}, "before the signal nobody counts"
    in_flight.leave(51.0)
    with Job(in_flight, "late"):
        pass
    assert in_flight.ended == {Kind.JOB: 1}


def test_a_job_of_a_task() -> None:
    async def main() -> None:
        in_flight = InFlight(Clock())
        async with Job(in_flight, "import") as job:
            assert job.task is asyncio.current_task()
            assert in_flight.count()[Kind.JOB] == 1
        with Job(in_flight, "export") as job:
            assert job.task is asyncio.current_task()
        assert len(in_flight) == 0

    asyncio.run(main())


def test_a_task_is_in_flight_until_it_is_done() -> None:
    async def main() -> None:
        in_flight = InFlight(Clock())
        in_flight.leave(0.0)
        gate = asyncio.Event()
        task = in_flight.create_task(gate.wait(), name="mail")
        assert task.get_name() == "mail"
        assert in_flight.count()[Kind.TASK] == 1
        gate.set()
        assert await task is True
        await asyncio.sleep(0)
        assert (len(in_flight), in_flight.ended) == (0, {Kind.TASK: 1})
        unnamed = in_flight.create_task(for_ever(), name=None)
        unnamed.cancel()
        await asyncio.wait({unnamed})
        await asyncio.sleep(0)
        assert len(in_flight) == 0
        assert in_flight.begun_jobs == {Kind.TASK: 2}

    asyncio.run(main())


def test_empty_in_the_moment_in_which_the_last_one_ends() -> None:
    async def main(loop: JumpingLoop) -> None:
        in_flight = InFlight(loop.time)
        in_flight.leave(0.0)
        work = Work(in_flight)
        tasks = {work.enter(http(f"/{seconds}"), asyncio.sleep(seconds)) for seconds in (1, 7, 3)}
        assert await in_flight.empty(30.0)
        assert loop.time() == 7.0
        assert in_flight.ended == {Kind.HTTP: 3}
        await asyncio.gather(*tasks)

    jump(main)


def test_what_comes_in_the_last_moment_is_waited_for_too() -> None:
    async def main(loop: JumpingLoop) -> None:
        in_flight = InFlight(loop.time)
        in_flight.leave(0.0)
        work = Work(in_flight)
        tasks: list[asyncio.Task[None]] = []

        async def hand_over() -> None:
            await asyncio.sleep(2)

        first = work.enter(http("/first"), hand_over())
        first.add_done_callback(lambda _: tasks.append(work.enter(http("/second"), asyncio.sleep(3))))
        assert await in_flight.empty(30.0)
        assert loop.time() == 5.0
        await asyncio.gather(*tasks)

    jump(main)


@pytest.mark.parametrize(("until", "at"), [(4.0, 4.0), (0.0, 0.0), (-1.0, 0.0)])
def test_not_empty_in_time(until: float, at: float) -> None:
    async def main(loop: JumpingLoop) -> None:
        in_flight = InFlight(loop.time)
        with Job(in_flight, "for ever"):
            assert not await in_flight.empty(until)
            assert loop.time() == at
        assert await in_flight.empty(-1.0), "nothing is in flight: no time is needed to see it"
        assert loop.time() == at

    jump(main)


def test_the_end_of_a_job_on_a_thread_wakes_the_loop() -> None:
    async def main() -> bool:
        in_flight = InFlight()
        begun, finish = threading.Event(), threading.Event()

        def work() -> None:
            with Job(in_flight, "on a thread"):
                begun.set()
                finish.wait(30)

        thread = threading.Thread(target=work)
        thread.start()
        assert begun.wait(30)
        asyncio.get_running_loop().call_soon(finish.set)
        emptied = await in_flight.empty(in_flight.clock() + 30)
        thread.join()
        return emptied

    assert asyncio.run(main())


def cut(
    scene: Callable[[JumpingLoop, InFlight, Work], Coroutine[Any, Any, tuple[CutOff, ...]]],
) -> tuple[tuple[CutOff, ...], InFlight, list[str]]:
    """What the cut-off of a scene returned, on a clock that jumps, some time after the signal."""

    async def main(loop: JumpingLoop) -> tuple[tuple[CutOff, ...], InFlight, list[str]]:
        in_flight = InFlight(loop.time)
        in_flight.leave(0.0)
        work = Work(in_flight)
        entries = await scene(loop, in_flight, work)
        return entries, in_flight, work.log

    return jump(main)


def test_cut_off_cancels_names_and_ages() -> None:
    aborted: list[list[str]] = []

    async def break_off(scopes: Collection[Any]) -> Collection[Any]:
        aborted.append([scope["path"] for scope in scopes])
        return ()

    async def scene(loop: JumpingLoop, in_flight: InFlight, work: Work) -> tuple[CutOff, ...]:
        work.enter(http("/slow"), for_ever())
        await asyncio.sleep(2)
        work.enter({"type": "websocket", "path": "/chat"}, for_ever())
        work.enter(http("/events", headers=SSE), for_ever())
        in_flight.create_task(for_ever(), name="mail\nforged")
        await asyncio.sleep(1)
        return await in_flight.cut_off(break_off, within=0.5)

    entries, in_flight, log = cut(scene)
    assert [(str(entry.kind), entry.name, entry.seconds, entry.ended) for entry in entries] == [
        ("http", "GET /slow", 3.0, True),
        ("websocket", "WebSocket /chat", 1.0, True),
        ("stream", "GET /events", 1.0, True),
        ("task", "mail\\nforged", 1.0, True),
    ]
    assert all(str(entry.standing_at).endswith(" in for_ever") for entry in entries)
    assert aborted == [["/slow", "/chat", "/events"]]
    assert sorted(log) == ["cancelled /chat", "cancelled /events", "cancelled /slow"]
    assert in_flight.cut_off_total == {Kind.HTTP: 1, Kind.WEBSOCKET: 1, Kind.STREAM: 1, Kind.TASK: 1}
    assert in_flight.ended.total() == 0, "what was cut off has not ended in time"
    assert len(in_flight) == 0


def test_connections_are_aborted_before_anybody_is_cancelled() -> None:
    order: list[str] = []

    async def app() -> None:
        try:
            await for_ever()
        except asyncio.CancelledError:
            order.append("cancelled")
            raise

    async def scene(loop: JumpingLoop, in_flight: InFlight, work: Work) -> tuple[CutOff, ...]:
        work.enter(http(), app())
        await asyncio.sleep(0)

        async def break_off(_scopes: Collection[Any]) -> Collection[Any]:
            order.append("aborted")
            loop.call_soon(order.append, "connection lost")
            return ()

        return await in_flight.cut_off(break_off, within=0.5)

    cut(scene)
    assert order == ["aborted", "connection lost", "cancelled"]


def test_what_swallows_its_cancellation_is_left_behind() -> None:
    release = asyncio.Event()

    async def scene(loop: JumpingLoop, in_flight: InFlight, work: Work) -> tuple[CutOff, ...]:
        work.enter(http("/stubborn"), stubborn(release))
        work.enter(http("/slow"), for_ever())
        in_flight.create_task(stubborn(release), name="stubborn task")
        await asyncio.sleep(1)
        entries = await in_flight.cut_off(nothing, within=0.5)
        assert loop.time() == 1.5, "half a second is given"
        assert len(in_flight) == 2
        release.set()
        return entries

    entries, in_flight, _ = cut(scene)
    assert [(entry.name, entry.ended) for entry in entries] == [
        ("GET /stubborn", False),
        ("GET /slow", True),
        ("stubborn task", False),
    ]
    assert in_flight.cut_off_total == {Kind.HTTP: 2, Kind.TASK: 1}


def test_a_job_without_a_task_is_named_and_left() -> None:
    async def scene(loop: JumpingLoop, in_flight: InFlight, work: Work) -> tuple[CutOff, ...]:
        job = Job(in_flight, "by hand")
        loop.call_later(1, job.__enter__)
        await asyncio.sleep(5)
        entries = await in_flight.cut_off(nothing, within=0.5)
        job.__exit__()
        return entries

    (entry,), in_flight, _ = cut(scene)
    assert (entry.kind, entry.name, entry.seconds, entry.ended) == (Kind.JOB, "by hand", 4.0, False)
    assert entry.standing_at is None
    assert in_flight.cut_off_total == {Kind.JOB: 1}
    assert in_flight.ended == {Kind.JOB: 1}, "it ended after all, later"


def test_where_a_job_on_a_thread_stands() -> None:
    """The design: "where its task or thread stands"."""

    async def main() -> tuple[CutOff, ...]:
        in_flight = InFlight()
        in_flight.leave(in_flight.clock())
        begun, finish = threading.Event(), threading.Event()

        def crunch() -> None:
            with Job(in_flight, "crunch"):
                begun.set()
                finish.wait(30)

        thread = threading.Thread(target=crunch)
        thread.start()
        begun.wait(30)
        entries = await in_flight.cut_off(nothing, within=0.5)
        finish.set()
        thread.join()
        return entries

    (entry,) = asyncio.run(main())
    assert str(entry.standing_at).endswith(" in crunch")


def test_who_cuts_off_is_not_cut_off_itself() -> None:
    async def scene(loop: JumpingLoop, in_flight: InFlight, work: Work) -> tuple[CutOff, ...]:
        async with Job(in_flight, "the shutdown itself"):
            return await in_flight.cut_off(nothing, within=0.5)

    (entry,), _, _ = cut(scene)
    assert (entry.name, entry.ended) == ("the shutdown itself", False)


def test_nothing_to_cut_off() -> None:
    async def scene(loop: JumpingLoop, in_flight: InFlight, work: Work) -> tuple[CutOff, ...]:
        entries = await in_flight.cut_off(nothing, within=0.5)
        assert loop.time() == 0.0
        return entries

    assert cut(scene)[0] == ()


def test_jobs_of_many_threads_are_all_counted() -> None:
    in_flight = InFlight()
    in_flight.leave(0.0)
    start = threading.Barrier(8)

    def work() -> None:
        start.wait(30)
        for _ in range(500):
            with Job(in_flight, "one of many"):
                pass

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert in_flight.begun_jobs == {Kind.JOB: 4000}
    assert in_flight.ended == {Kind.JOB: 4000}
    assert len(in_flight) == 0
