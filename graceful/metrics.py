"""Prometheus: the only module that knows `prometheus_client`. What the run counts in plain integers is
published here, when it is asked for.

In multiprocess mode every worker writes files that any one of them serves, so each also publishes as time
goes by.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, TypeVar

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from graceful.calls import Lane
from graceful.checks import CheckResult
from graceful.inflight import Kind
from graceful.phases import Phase
from graceful.reports import Report

M = TypeVar("M", bound=MetricWrapperBase)

_PREFIX: Final = "graceful_"
_EVERY_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The numbers of one moment. Counters only ever grow for as long as the process lives."""

    phase: Phase
    phase_seconds: Mapping[Phase, float]
    in_flight: Mapping[Kind, int]
    requests: Mapping[tuple[Kind, Phase], int]
    cut_off: Mapping[Kind, int]
    last_arrival: float | None
    shutdown_at: float | None
    loop_stall: float | None = None
    checks: Mapping[str, tuple[CheckResult, ...]] = field(default_factory=dict)
    report: Report | None = None


def multiprocess() -> bool:
    """Whether prometheus_client keeps its values in files that several processes share."""
    return "PROMETHEUS_MULTIPROC_DIR" in os.environ or "prometheus_multiproc_dir" in os.environ


def _got_or_made(kind: type[M], name: str, text: str, labels: Iterable[str] = (), **options: Any) -> M:
    """The metric of this name in the default registry, which would refuse a second one."""
    known = REGISTRY._names_to_collectors.get(_PREFIX + name)  # noqa: SLF001 - there is no public way to ask
    return known if isinstance(known, kind) else kind(_PREFIX + name, text, tuple(labels), **options)


class Publisher:
    """Writes snapshots to the default registry, and asks for a fresh one whenever the registry is read."""

    def __init__(self) -> None:
        self._source: Callable[[], Snapshot] | None = None
        self._lock = threading.Lock()
        self._next: asyncio.TimerHandle | None = None
        self._written: Report | None = None
        self._published: dict[tuple[str, ...], float] = {}

    def serve(self, source: Callable[[], Snapshot]) -> None:
        """From now on numbers come from `source`, a callable that returns a Snapshot; the metrics exist in
        the registry on return.
        """
        if self._source is None:
            # Before the metrics: the registry reads its collectors in the order in which they came.
            REGISTRY.register(self)
        self._source = source
        # A metric that is made while the registry is being read is missing on that page, perhaps the last
        # one.
        _ = (
            self._phase,
            self._phase_seconds,
            self._in_flight,
            self._requests,
            self._cut_off,
            self._release_failures,
            self._last_arrival,
            self._shutdown_at,
            self._release_seconds,
            self._check_up,
            self._check_seconds,
        )
        self.publish()

    def collect(self) -> Iterable[Any]:
        """The registry is being read: bring the metrics up to date. Yields nothing of its own."""
        self.publish()
        return ()

    describe = collect

    def publish(self) -> None:
        """Bring the metrics up to date."""
        if self._source is not None:
            with self._lock:  # pages may be asked for on several threads at once
                self._write(self._source())

    def keep_publishing(self, loop: asyncio.AbstractEventLoop) -> None:
        """In multiprocess mode publish every second from now on, since another process may be the one that is
        asked. Else do nothing.
        """
        if multiprocess():
            self.publish()
            self._next = loop.call_later(_EVERY_SECONDS, self.keep_publishing, loop)

    def stop(self, *, process_ends: bool) -> None:
        """Publish no more by itself. Of a process that ends the gauges no longer count, its counters do."""
        if self._next is not None:
            self._next.cancel()
            self._next = None
        if multiprocess():
            self.publish()
            if process_ends:
                mark_process_dead(os.getpid())  # type: ignore[no-untyped-call]  # theirs

    async def page(self, accept: str) -> tuple[bytes, bytes]:
        """The page of all metrics, in the format that `accept` asks for, and its content type."""
        if not multiprocess():
            return self.page_now(accept)
        return await asyncio.to_thread(self.page_now, accept)  # it reads files

    def page_now(self, accept: str) -> tuple[bytes, bytes]:
        """See `page`; on any thread."""
        encode, content_type = choose_encoder(accept)
        if not multiprocess():
            return content_type.encode(), encode(REGISTRY)
        self.publish()
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # theirs
        return content_type.encode(), encode(registry)

    def _write(self, now: Snapshot) -> None:
        self._write_run(now)
        for probe, results in now.checks.items():
            for result in results:
                self._check_up.labels(result.name, probe).set(result.ok)
                self._check_seconds.labels(result.name, probe).set(result.seconds)
        if now.report is not None and now.report is not self._written:
            self._written = now.report
            for entry in now.report.resources:
                self._release_seconds.labels(entry.name).set(entry.seconds)
                self._release_failures.labels(entry.name).inc(entry.outcome != "released")

    def _write_run(self, now: Snapshot) -> None:
        for phase in Phase:
            self._phase.labels(phase).set(phase is now.phase)
        for phase, seconds in now.phase_seconds.items():
            self._phase_seconds.labels(phase).set(seconds)
        for kind, count in now.in_flight.items():
            self._in_flight.labels(kind).set(count)
        for (kind, phase), total in now.requests.items():
            self._grow(self._requests, total, kind, phase)
        for kind, total in now.cut_off.items():
            self._grow(self._cut_off, total, kind)
        if now.last_arrival is not None:
            self._last_arrival.set(now.last_arrival)
        if now.loop_stall is not None:
            self._loop_stall.set(now.loop_stall)
        if now.shutdown_at is not None:
            self._shutdown_at.set(time.time() - (time.monotonic() - now.shutdown_at))

    def _grow(self, counter: Counter, total: float, *labels: str) -> None:
        """Bring a counter to `total`, of which some has been published before."""
        key = (counter._name, *labels)  # noqa: SLF001 - a metric has no public name
        counter.labels(*labels).inc(max(0.0, total - self._published.get(key, 0.0)))
        self._published[key] = total

    @cached_property
    def _phase(self) -> Gauge:
        return _got_or_made(
            Gauge, "phase", "1 for the phase that the run is in", ["phase"], multiprocess_mode="livesum"
        )

    @cached_property
    def _phase_seconds(self) -> Gauge:
        text = "Seconds that each phase of the run has lasted"
        return _got_or_made(Gauge, "phase_seconds", text, ["phase"], multiprocess_mode="livemax")

    @cached_property
    def _in_flight(self) -> Gauge:
        return _got_or_made(
            Gauge, "in_flight", "What has begun and not ended", ["kind"], multiprocess_mode="livesum"
        )

    @cached_property
    def _requests(self) -> Counter:
        return _got_or_made(
            Counter,
            "requests",
            "Requests, jobs and tasks begun, by the phase of their beginning",
            ["kind", "phase"],
        )

    @cached_property
    def _cut_off(self) -> Counter:
        return _got_or_made(Counter, "cut_off", "What the end of a drain did not wait for", ["kind"])

    @cached_property
    def _release_failures(self) -> Counter:
        return _got_or_made(
            Counter, "release_failures", "Resources that were not released in time or failed", ["resource"]
        )

    @cached_property
    def _last_arrival(self) -> Gauge:
        text = "How long after the signal the last request arrived"
        return _got_or_made(Gauge, "last_arrival_seconds", text, multiprocess_mode="livemax")

    @cached_property
    def _shutdown_at(self) -> Gauge:
        text = "When the shutdown began, in seconds since 1970"
        return _got_or_made(Gauge, "shutdown_started_timestamp_seconds", text, multiprocess_mode="livemax")

    @cached_property
    def _loop_stall(self) -> Gauge:
        text = "How long the event loop stands still, or did in a stall that ended within the last minute"
        return _got_or_made(Gauge, "event_loop_stall_seconds", text, multiprocess_mode="livemax")

    @cached_property
    def _release_seconds(self) -> Gauge:
        return _got_or_made(
            Gauge,
            "release_seconds",
            "How long a resource took to release",
            ["resource"],
            multiprocess_mode="livemax",
        )

    @cached_property
    def _check_up(self) -> Gauge:
        return _got_or_made(
            Gauge, "check_up", "1 if the check passes", ["check", "probe"], multiprocess_mode="livemin"
        )

    @cached_property
    def _check_seconds(self) -> Gauge:
        text = "How long the check took when it was last run"
        return _got_or_made(Gauge, "check_seconds", text, ["check", "probe"], multiprocess_mode="livemax")


class PagesAside:
    """The pages of a publisher, made on a thread of its own, one after the other: a collector of the app's
    that is slow or hangs holds up the scrapes, but not the loop that answers probes too.
    """

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._lane: Lane | None = None

    async def page(self, accept: str) -> tuple[bytes, bytes]:
        """See Publisher."""
        if self._lane is None:
            self._lane = Lane("graceful-metrics")
        return await self._lane.call(lambda: self._publisher.page_now(accept))


PUBLISHER: Final = Publisher()
