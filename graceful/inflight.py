"""What has begun and not ended: requests and WebSockets, kept by the ASGI wrapper, and jobs and tasks, kept
by the app.

A request costs two dictionary operations and one integer here; everything else is worked out when somebody
asks.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Coroutine
from dataclasses import dataclass, replace
from enum import StrEnum
from types import TracebackType
from typing import Any, Final, Self

from graceful._types import Scope
from graceful.phases import Phase
from graceful.stacks import Moment, standing_at, tasks_driving, thread_stands_at

_LONGEST_PATH: Final = 120
_MOST_SEEN: Final = 100


class Kind(StrEnum):
    """What is in flight. A stream is a request that asked for `text/event-stream`."""

    HTTP = "http"
    WEBSOCKET = "websocket"
    STREAM = "stream"
    JOB = "job"
    TASK = "task"


@dataclass(frozen=True, slots=True, kw_only=True)
class CutOff:
    """One piece of work that the end of the drain did not wait for.

    `seconds` is its age, `standing_at` the line where it waited, `ended` whether it accepted its
    cancellation.
    """

    kind: Kind
    name: str
    seconds: float
    standing_at: str | None
    ended: bool = False


def escaped(text: str) -> str:
    """`text` without anything that could begin a log line or hide in one, and at most 120 characters."""
    safe = text.encode("unicode_escape").decode("ascii")
    return safe if len(safe) <= _LONGEST_PATH else safe[: _LONGEST_PATH - 3] + "..."


def request_name(scope: Scope) -> str:
    """`GET /items/{id}`: the route's template where the framework left one, else the path, escaped, never the
    query.
    """
    path = getattr(scope.get("route"), "path", None) or scope.get("path", "")
    method = "WebSocket" if scope["type"] == "websocket" else escaped(str(scope.get("method", "")))
    return f"{method} {escaped(str(path))}"


def request_kind(scope: Scope) -> Kind:
    """The kind of a request, from its scope."""
    if scope["type"] == "websocket":
        return Kind.WEBSOCKET
    accepts_events = any(
        name == b"accept" and b"text/event-stream" in value for name, value in scope.get("headers", ())
    )
    return Kind.STREAM if accepts_events else Kind.HTTP


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenOver:
    """A request that a server of ours has in flight and our wrapper has not seen: the server's task, and
    since when.
    """

    task: asyncio.Task[Any]
    scope: Scope
    began: float


class Job:
    """One job of the app's, in flight while its `with` or `async with` block runs. Made by `Runtime.job`;
    used once.
    """

    def __init__(self, in_flight: InFlight, name: str) -> None:
        self._in_flight = in_flight
        self.name = name
        self.kind = Kind.JOB
        self.began = 0.0
        self.task: asyncio.Task[Any] | None = None
        self.thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        try:
            self.task = asyncio.current_task()
        except RuntimeError:  # no loop here
            self.thread = threading.current_thread()
        self._in_flight.begin(self)
        return self

    def stands_at(self, moment: Moment) -> str | None:
        """The line at which its task or thread stands; None where neither can be seen."""
        if self.task is not None:
            return standing_at(self.task.get_coro(), moment)
        return None if self.thread is None else thread_stands_at(self.thread, moment)

    def __exit__(self, *exc_info: object) -> None:
        self._in_flight.end(self)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__()


class InFlight:
    """The registry. `requests` and the plain counters belong to the ASGI wrapper, on the loop's thread; jobs
    may begin on any thread.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.requests: dict[object, tuple[Scope, float, Awaitable[None]]] = {}
        self.http = 0
        self.websocket = 0
        self.begun_jobs: Counter[Kind] = Counter()
        self._by_phase: Counter[tuple[Kind, Phase]] = Counter()
        self.cut_off_total: Counter[Kind] = Counter()
        self._jobs: dict[Job, None] = {}
        self._lock = threading.Lock()
        self.elsewhere: Callable[[], Collection[TakenOver]] = tuple
        self._tell_empty: Callable[[], object] | None = None
        self.reset()

    def reset(self) -> None:
        """A new run begins: forget what the last one saw after its signal. What is in flight stays so."""
        self.left_at: float | None = None
        self.arrivals = 0
        self.last_arrival: float | None = None
        self.ended: Counter[Kind] = Counter()
        self.cutting: set[int] = set()  # the requests that are being cut off, by the id of their scope

    def leave(self, at: float) -> None:
        """The signal came at `at`: from now on arrivals and ends are counted, and responses say that the
        connection closes.
        """
        self.left_at = at

    def __len__(self) -> int:
        return len(self.requests) + len(self._jobs)

    def count(self) -> dict[Kind, int]:
        """How many of each kind are in flight now."""
        counts = Counter(request_kind(scope) for scope, _, _ in self._requests_now())
        with self._lock:
            counts.update(job.kind for job in self._jobs)
        return {kind: counts[kind] for kind in Kind}

    def begun(self, phase: Phase) -> dict[tuple[Kind, Phase], int]:
        """All that has begun, by kind and phase; what has not been asked for yet began in `phase`. So it is
        asked when a phase ends.
        """
        with self._lock:
            totals = {Kind.HTTP: self.http, Kind.WEBSOCKET: self.websocket, **self.begun_jobs}
            for kind, total in totals.items():
                before = sum(count for (other, _), count in self._by_phase.items() if other is kind)
                self._by_phase[kind, phase] += total - before
            return dict(self._by_phase)

    def take_over(self, found: TakenOver) -> None:
        """The request is in `requests` until its task is done."""
        self.requests[found.task] = found.scope, found.began, _coroutine_of(found.task)
        found.task.add_done_callback(self._task_ended)

    def _task_ended(self, task: asyncio.Task[Any]) -> None:
        scope, _, _ = self.requests.pop(task)
        self.request_ended(scope)

    # What the ASGI wrapper calls once the signal has come.

    def arrived_late(self, at: float) -> None:
        """A request has arrived after the signal."""
        self.arrivals += 1
        if self.left_at is not None:
            self.last_arrival = at - self.left_at

    def request_ended(self, scope: Scope) -> None:
        """A request has ended after the signal; it has been taken out of `requests`."""
        with self._lock:
            self.ended[request_kind(scope)] += 1
        self._look()

    # Jobs and tasks.

    def begin(self, job: Job) -> None:
        """`job` is in flight on return."""
        job.began = self.clock()
        with self._lock:
            self._jobs[job] = None
            self.begun_jobs[job.kind] += 1

    def end(self, job: Job) -> None:
        """`job` is in flight no longer."""
        with self._lock:
            self._jobs.pop(job, None)
            if self.left_at is not None:
                self.ended[job.kind] += 1
        self._look()

    def create_task(self, coro: Coroutine[Any, Any, Any], *, name: str | None) -> asyncio.Task[Any]:
        """A task of the running loop that is in flight until it is done. A strong reference is kept until
        then.
        """
        task = asyncio.get_running_loop().create_task(coro, name=name)
        job = Job(self, task.get_name())
        job.kind, job.task = Kind.TASK, task
        self.begin(job)
        task.add_done_callback(lambda _: self.end(job))
        return task

    # The end.

    def _look(self) -> None:
        tell = self._tell_empty
        if tell is not None and not len(self):
            tell()

    async def empty(self, until: float) -> bool:
        """Return True in the moment in which nothing is in flight, or False at `until`, in seconds of the
        clock.
        """
        loop = asyncio.get_running_loop()
        nothing_left = asyncio.Event()
        self._tell_empty = lambda: loop.call_soon_threadsafe(nothing_left.set)
        try:
            async with asyncio.timeout(max(0.0, until - self.clock())):
                while len(self):
                    await nothing_left.wait()
                    nothing_left.clear()
        except TimeoutError:
            return False
        finally:
            self._tell_empty = None
        return True

    async def cut_off(
        self,
        break_off: Callable[[Collection[Scope]], Coroutine[Any, Any, Collection[Scope]]],
        *,
        within: float,
    ) -> tuple[CutOff, ...]:
        """Cancel what is in flight and wait for it, at most `within` seconds; returns one entry for each
        piece of it.

        A request whose response has begun has its connection aborted first, by `break_off`, so that it is
        never passed off as whole; the others get 503, from there or from the wrapper. What swallows its
        cancellation is left behind with `ended=False`.
        """
        requests, jobs = dict(self.requests), self._jobs_now()
        standing = self.standing()
        driving = self.tasks()
        self.cutting.update(id(scope) for scope, _, _ in requests.values())
        until = self.clock() + within
        held_up: Collection[Scope] = ()
        with contextlib.suppress(TimeoutError):  # a client may keep it from sending
            async with asyncio.timeout(within / 2):
                held_up = await break_off([scope for scope, _, _ in requests.values()])
        # connection_lost comes on the next turn: a server then knows that nobody listens.
        await asyncio.sleep(0)
        await _cancelled(driving - {asyncio.current_task()}, until - self.clock())
        ended = [key not in self.requests for key in requests] + [job not in self._jobs for job in jobs]
        cut = [
            replace(entry, ended=True) if end else entry for entry, end in zip(standing, ended, strict=True)
        ]
        self._uncount(cut)
        cut += [self._held_up(scope) for scope in held_up]
        self.cut_off_total.update(entry.kind for entry in cut)
        return tuple(cut)

    def _held_up(self, scope: Scope) -> CutOff:
        """A response that its client did not take; how old it is is not known, but that it was there at the
        signal.
        """
        since = 0.0 if self.left_at is None else self.clock() - self.left_at
        where = "its client, which does not read on"
        return CutOff(
            kind=request_kind(scope), name=request_name(scope), seconds=since, standing_at=where, ended=True
        )

    def tasks(self, loop: asyncio.AbstractEventLoop | None = None) -> set[asyncio.Task[Any]]:
        """The tasks of `loop`, the running one where none is given, that drive what is in flight, and those
        of jobs on any loop.
        """
        awaitables = {id(awaitable) for _, _, awaitable in self._requests_now()}
        driving = set(tasks_driving(awaitables, loop).values())
        return driving | {job.task for job in self._jobs_now() if job.task is not None}

    def standing(self) -> list[CutOff]:
        """What is in flight now, requests first, as it would be named if it were cut off. May be called from
        any thread.
        """
        now, moment = self.clock(), Moment()
        # To see where a thousand stand would take longer than there is time for, and nobody would read it.
        requests = [
            CutOff(
                kind=request_kind(scope),
                name=request_name(scope),
                seconds=now - began,
                standing_at=standing_at(awaitable, moment) if place < _MOST_SEEN else None,
            )
            for place, (scope, began, awaitable) in enumerate(self._requests_now())
        ]
        jobs = [
            CutOff(
                kind=job.kind,
                name=escaped(job.name),
                seconds=now - job.began,
                standing_at=job.stands_at(moment) if place < _MOST_SEEN else None,
            )
            for place, job in enumerate(self._jobs_now())
        ]
        return requests + jobs

    def _requests_now(self) -> list[tuple[Scope, float, Awaitable[None]]]:
        here = list(self.requests.values())
        if self.left_at is not None:  # all have been taken over
            return here
        return here + [(found.scope, found.began, _coroutine_of(found.task)) for found in self.elsewhere()]

    def _jobs_now(self) -> tuple[Job, ...]:
        with self._lock:
            return tuple(self._jobs)

    def _uncount(self, cut: Collection[CutOff]) -> None:
        """What was cut off has not ended in time, although its end has been noted."""
        for entry in cut:
            if entry.ended:
                self.ended[entry.kind] -= 1


async def _cancelled(tasks: Collection[asyncio.Task[Any]], within: float) -> None:
    """Cancel the tasks, and wait for those of this loop, so many seconds. A job's may be on another's."""
    loop = asyncio.get_running_loop()
    for task in tasks:
        if task.get_loop() is loop:
            task.cancel()
        else:
            with contextlib.suppress(RuntimeError):  # that loop has been closed
                task.get_loop().call_soon_threadsafe(task.cancel)
    here = [task for task in tasks if task.get_loop() is loop]
    if here:
        await asyncio.wait(here, timeout=max(0.0, within))


def _coroutine_of(task: asyncio.Task[Any]) -> Any:
    """What a task drives; a task that was made from a coroutine, as a server's are, has one."""
    return task.get_coro()
