"""Prometheus: every metric of the contract, from snapshots to the page; counters that only grow; several
processes.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY, Gauge, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from graceful import metrics
from graceful.checks import CheckResult
from graceful.inflight import Kind
from graceful.metrics import PagesAside, Publisher, Snapshot, multiprocess
from graceful.phases import Phase
from graceful.reports import ExitCode, Outcome, Report
from graceful.resources import ReleaseOutcome
from tests.jumping_loop import JumpingLoop, jump

GAUGES = {
    "graceful_phase": ("phase",),
    "graceful_in_flight": ("kind",),
    "graceful_last_arrival_seconds": (),
    "graceful_phase_seconds": ("phase",),
    "graceful_release_seconds": ("resource",),
    "graceful_check_up": ("check", "probe"),
    "graceful_check_seconds": ("check", "probe"),
    "graceful_shutdown_started_timestamp_seconds": (),
    "graceful_event_loop_stall_seconds": (),
}
COUNTERS = {
    "graceful_requests_total": ("kind", "phase"),
    "graceful_cut_off_total": ("kind",),
    "graceful_release_failures_total": ("resource",),
}


@pytest.fixture(autouse=True)
def empty_registry() -> Iterator[None]:
    """The default registry is the process's: this test gets it without our metrics, the others find it as it
    was.
    """
    collectors, names = REGISTRY._collector_to_names, REGISTRY._names_to_collectors
    REGISTRY._collector_to_names, REGISTRY._names_to_collectors = {}, {}
    yield
    REGISTRY._collector_to_names, REGISTRY._names_to_collectors = collectors, names


def report(*resources: tuple[str, str]) -> Report:
    return Report(
        reason="SIGTERM",
        outcome=Outcome.CLEAN,
        exit_code=ExitCode.OK,
        phases={},
        resources=tuple(
            ReleaseOutcome(name=name, seconds=0.5, outcome=outcome, error=None)  # type: ignore[arg-type]
            for name, outcome in resources
        ),
    )


def snapshot(**changes: Any) -> Snapshot:
    facts: dict[str, Any] = {
        "phase": Phase.SERVING,
        "phase_seconds": {Phase.STARTING: 0.5, Phase.SERVING: 60.0},
        "in_flight": dict.fromkeys(Kind, 0),
        "requests": {},
        "cut_off": {},
        "last_arrival": None,
        "shutdown_at": None,
    }
    return Snapshot(**(facts | changes))


FULL = snapshot(
    phase=Phase.DRAINING,
    in_flight={Kind.HTTP: 2, Kind.WEBSOCKET: 1, Kind.STREAM: 0, Kind.JOB: 3, Kind.TASK: 0},
    requests={(Kind.HTTP, Phase.SERVING): 7, (Kind.HTTP, Phase.LAME_DUCK): 2},
    cut_off={Kind.HTTP: 1},
    last_arrival=1.5,
    shutdown_at=0.0,
    loop_stall=2.5,
    checks={
        "readiness": (CheckResult(name="database", ok=True, seconds=0.25, error=None),),
        "liveness": (CheckResult(name="loop", ok=False, seconds=0.5, error="x"),),
    },
    report=report(("database", "released"), ("queue", "failed")),
)


class Source:
    """Snapshots as a test sets them."""

    def __init__(self, now: Snapshot) -> None:
        self.now = now

    def __call__(self) -> Snapshot:
        return self.now


def samples() -> dict[str, float]:
    """What a scrape of the default registry says of us, as `name{label=value}`."""
    found = {}
    for family in text_string_to_metric_families(generate_latest(REGISTRY).decode()):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sample.labels.items())
            if sample.name.startswith("graceful_") and not sample.name.endswith("_created"):
                found[f"{sample.name}{{{labels}}}"] = sample.value
    return found


def test_every_metric_of_the_contract(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graceful.metrics.time.time", lambda: 1_000_000.0)
    monkeypatch.setattr("graceful.metrics.time.monotonic", lambda: 40.0)
    Publisher().serve(Source(FULL))
    found = samples()
    assert found == {
        "graceful_phase{phase=starting}": 0,
        "graceful_phase{phase=serving}": 0,
        "graceful_phase{phase=lame_duck}": 0,
        "graceful_phase{phase=draining}": 1,
        "graceful_phase{phase=releasing}": 0,
        "graceful_phase{phase=stopped}": 0,
        "graceful_phase_seconds{phase=starting}": 0.5,
        "graceful_phase_seconds{phase=serving}": 60,
        "graceful_in_flight{kind=http}": 2,
        "graceful_in_flight{kind=websocket}": 1,
        "graceful_in_flight{kind=stream}": 0,
        "graceful_in_flight{kind=job}": 3,
        "graceful_in_flight{kind=task}": 0,
        "graceful_requests_total{kind=http,phase=serving}": 7,
        "graceful_requests_total{kind=http,phase=lame_duck}": 2,
        "graceful_cut_off_total{kind=http}": 1,
        "graceful_event_loop_stall_seconds{}": 2.5,
        "graceful_last_arrival_seconds{}": 1.5,
        "graceful_shutdown_started_timestamp_seconds{}": 999_960,
        "graceful_check_up{check=database,probe=readiness}": 1,
        "graceful_check_up{check=loop,probe=liveness}": 0,
        "graceful_check_seconds{check=database,probe=readiness}": 0.25,
        "graceful_check_seconds{check=loop,probe=liveness}": 0.5,
        "graceful_release_seconds{resource=database}": 0.5,
        "graceful_release_seconds{resource=queue}": 0.5,
        "graceful_release_failures_total{resource=database}": 0,
        "graceful_release_failures_total{resource=queue}": 1,
    }
    types = {}
    for family in text_string_to_metric_families(generate_latest(REGISTRY).decode()):
        assert family.documentation
        for sample in family.samples:
            if not sample.name.endswith("_created"):
                types[sample.name] = (family.type, tuple(sorted(sample.labels)))
    assert types == {name: ("gauge", labels) for name, labels in GAUGES.items()} | {
        name: ("counter", labels) for name, labels in COUNTERS.items()
    }


def test_a_scrape_is_fresh() -> None:
    source = Source(snapshot())
    Publisher().serve(source)
    assert samples()["graceful_phase{phase=serving}"] == 1
    source.now = snapshot(phase=Phase.LAME_DUCK, in_flight={Kind.HTTP: 5})
    found = samples()
    assert (found["graceful_phase{phase=serving}"], found["graceful_phase{phase=lame_duck}"]) == (0, 1)
    assert found["graceful_in_flight{kind=http}"] == 5


def test_what_is_new_is_on_the_next_page_already() -> None:
    """Also a metric that had nothing to say before: there may be no page after that one."""
    source = Source(snapshot(loop_stall=0.0))
    Publisher().serve(source)
    source.now = FULL
    assert set(GAUGES) | set(COUNTERS) == {name.partition("{")[0] for name in samples()}


def test_counters_only_grow() -> None:
    def requests() -> float:
        return samples()["graceful_requests_total{kind=http,phase=serving}"]

    source = Source(snapshot(requests={(Kind.HTTP, Phase.SERVING): 7}))
    publisher = Publisher()
    publisher.serve(source)
    assert [requests(), requests()] == [7, 7], "asked twice is counted once"
    source.now = snapshot(requests={(Kind.HTTP, Phase.SERVING): 9})
    assert requests() == 9
    publisher.serve(Source(snapshot(requests={(Kind.HTTP, Phase.SERVING): 2})))
    assert requests() >= 9, "another runtime begins at nothing; the process does not"


def test_each_failed_release_counts_once() -> None:
    def failures() -> float:
        return samples()["graceful_release_failures_total{resource=queue}"]

    source = Source(snapshot(report=report(("queue", "failed"), ("queue", "timed out"))))
    Publisher().serve(source)
    assert [failures(), failures()] == [2, 2]
    source.now = snapshot(report=report(("queue", "failed")))
    assert failures() == 3, "a second run that fails the same way is a second failure"


def test_several_scrapes_at_once_count_once() -> None:
    """prometheus_client's own server answers on threads."""
    source = Source(snapshot(requests={(Kind.HTTP, Phase.SERVING): 0}))
    publisher = Publisher()
    publisher.serve(source)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for total in range(1000, 41_000, 1000):
            source.now = snapshot(requests={(Kind.HTTP, Phase.SERVING): total})
            start = threading.Barrier(4)

            def scrape(start: threading.Barrier = start) -> None:
                start.wait(30)
                publisher.publish()

            threads = [threading.Thread(target=scrape) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert samples()["graceful_requests_total{kind=http,phase=serving}"] == 40_000


def test_made_once_however_often_a_runtime_is() -> None:
    publisher = Publisher()
    for _ in range(3):
        publisher.serve(Source(FULL))
    publisher.serve(Source(snapshot(phase=Phase.STOPPED)))
    assert samples()["graceful_phase{phase=stopped}"] == 1
    Publisher().serve(Source(FULL))
    page = generate_latest(REGISTRY).decode()
    assert page.count("# TYPE graceful_phase gauge") == 1


def test_names_that_exist_already_are_used() -> None:
    theirs = Gauge("graceful_in_flight", "made by another copy of this package", ["kind"])
    Publisher().serve(Source(FULL))
    assert theirs.labels("http")._value.get() == 2


def test_nothing_before_a_run() -> None:
    publisher = Publisher()
    publisher.publish()
    REGISTRY.register(publisher)
    assert samples() == {}


def test_the_page() -> None:
    publisher = Publisher()
    publisher.serve(Source(FULL))
    content_type, body = asyncio.run(publisher.page(""))
    assert content_type.startswith(b"text/plain; version=")
    assert b'\ngraceful_phase{phase="draining"} 1.0\n' in body
    content_type, body = asyncio.run(publisher.page("application/openmetrics-text; version=1.0.0"))
    assert content_type.startswith(b"application/openmetrics-text; version=1.0.0")
    assert body.endswith(b"# EOF\n")


def test_the_apps_own_metrics_are_on_the_page() -> None:
    Gauge("shop_carts", "the app's own").set(3)
    publisher = Publisher()
    publisher.serve(Source(FULL))
    assert b"\nshop_carts 3.0\n" in asyncio.run(publisher.page(""))[1]


def test_multiprocess_is_seen_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    assert not multiprocess()
    Publisher().stop(process_ends=True)
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "/nowhere")
    assert multiprocess()


def test_in_multiprocess_mode_it_publishes_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process may be the one that is asked."""
    monkeypatch.setattr(metrics, "multiprocess", lambda: True)
    source = Source(snapshot(requests={(Kind.HTTP, Phase.SERVING): 0}))
    publisher = Publisher()

    async def main(loop: JumpingLoop) -> list[float]:
        publisher.serve(source)
        publisher.keep_publishing(loop)
        found = []
        for total in (3, 4, 5):
            source.now = snapshot(requests={(Kind.HTTP, Phase.SERVING): total})
            await asyncio.sleep(1.5)
            found.append(publisher._requests.labels(Kind.HTTP, Phase.SERVING)._value.get())
        source.now = snapshot(requests={(Kind.HTTP, Phase.SERVING): 6})
        publisher.stop(process_ends=False)
        source.now = snapshot(requests={(Kind.HTTP, Phase.SERVING): 7})
        await asyncio.sleep(10)
        return [*found, publisher._requests.labels(Kind.HTTP, Phase.SERVING)._value.get()]

    assert jump(main) == [3, 4, 5, 6]


def test_in_one_process_it_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "multiprocess", lambda: False)

    async def main(loop: JumpingLoop) -> None:
        publisher = Publisher()
        publisher.serve(Source(FULL))
        publisher.keep_publishing(loop)
        assert publisher._next is None
        publisher.stop(process_ends=True)

    jump(main)


def test_a_snapshot_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        FULL.phase = Phase.STOPPED  # type: ignore[misc]


# One process of several: publishes what it was given, says so, and ends, well or badly, when its input does.
WORKER = """
import asyncio, json, os, sys
from graceful.inflight import Kind
from graceful.metrics import PUBLISHER, Snapshot
from graceful.phases import Phase

def snapshot(requests, in_flight):
    return Snapshot(
        phase=Phase.SERVING,
        phase_seconds={Phase.SERVING: float(requests)},
        in_flight={Kind.HTTP: in_flight},
        requests={(Kind.HTTP, Phase.SERVING): requests},
        cut_off={Kind.HTTP: 1},
        last_arrival=None,
        shutdown_at=None,
    )

for line in sys.stdin:
    order, *numbers = json.loads(line)
    if order == "serve":
        PUBLISHER.serve(lambda numbers=numbers: snapshot(*numbers))
        answer = "served"
    elif order == "page":
        answer = asyncio.run(PUBLISHER.page(""))[1].decode()
    else:
        PUBLISHER.stop(process_ends=order == "end")
        answer = "stopped"
    print(json.dumps(answer), flush=True)
os._exit(0)
"""


class Worker:
    def __init__(self, directory: Path) -> None:
        environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(directory)}
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def tell(self, *order: object) -> str:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return str(json.loads(self.process.stdout.readline()))

    def page(self) -> Mapping[str, float]:
        return {
            line.rpartition(" ")[0]: float(line.rpartition(" ")[2])
            for line in self.tell("page").splitlines()
            if line.startswith("graceful_")
        }

    def end(self) -> None:
        self.process.communicate("", timeout=30)


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[tuple[Worker, Worker]]:
    both = (Worker(tmp_path), Worker(tmp_path))
    yield both
    for worker in both:
        worker.end()
        assert worker.process.returncode == 0


def test_several_processes_are_summed(workers: tuple[Worker, Worker], tmp_path: Path) -> None:
    first, second = workers
    first.tell("serve", 7, 2)
    second.tell("serve", 5, 1)
    page = first.page()
    assert page['graceful_requests_total{kind="http",phase="serving"}'] == 12
    assert page['graceful_in_flight{kind="http"}'] == 3
    assert page['graceful_phase{phase="serving"}'] == 2
    assert page['graceful_phase{phase="draining"}'] == 0
    assert page['graceful_phase_seconds{phase="serving"}'] == 7
    assert second.page() == page, "whichever of them is asked"
    second.tell("serve", 8, 0)
    assert first.page()['graceful_requests_total{kind="http",phase="serving"}'] == 15

    second.tell("stop")
    assert first.page()['graceful_in_flight{kind="http"}'] == 2, "its run is over, the process is not"
    assert list(tmp_path.glob(f"gauge_live*_{second.process.pid}.db"))

    second.tell("end")
    assert not list(tmp_path.glob(f"gauge_live*_{second.process.pid}.db")), "its gauges count no longer"
    page = first.page()
    assert page['graceful_in_flight{kind="http"}'] == 2
    assert page['graceful_phase{phase="serving"}'] == 1
    assert page['graceful_phase_seconds{phase="serving"}'] == 7
    assert page['graceful_requests_total{kind="http",phase="serving"}'] == 15, "what it has counted stays"
    assert page['graceful_cut_off_total{kind="http"}'] == 2


def test_the_stall_is_there_where_somebody_watches_only() -> None:
    publisher = Publisher()
    publisher.serve(snapshot)
    assert b"event_loop_stall" not in generate_latest(REGISTRY)
    publisher.serve(lambda: snapshot(loop_stall=1.5))
    assert b"graceful_event_loop_stall_seconds 1.5" in generate_latest(REGISTRY)


def test_pages_aside_are_made_on_one_other_thread() -> None:
    publisher, threads = Publisher(), set()

    def source() -> Snapshot:
        threads.add(threading.get_ident())
        return snapshot()

    publisher.serve(source)
    threads.clear()
    aside = PagesAside(publisher)

    async def main() -> None:
        for _ in range(2):
            content_type, page = await aside.page("")
            assert content_type.startswith(b"text/plain")
            assert b"graceful_phase" in page

    asyncio.run(main())
    assert len(threads) == 1
    assert threading.get_ident() not in threads
