"""`runtime.run_worker`: a service without HTTP, as a real process, on both loops."""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping

import pytest

from tests.process.service import (
    INTERRUPTED_STARTUP,
    WHOLE_TIMELINE,
    Client,
    Launch,
    Service,
    becomes,
    refused,
)

pytestmark = pytest.mark.contract

both_loops = pytest.mark.parametrize("loop", ["asyncio", "uvloop"])

CONSUMER = """
    say(f"working in {type(asyncio.get_running_loop()).__module__} with {database.value}")
    await runtime.shutdown_requested()
    say(f"stopping: {runtime.stopping.is_set()}")
"""


def worker(  # noqa: PLR0913 - what differs between scripts
    launch: Launch,
    main: str,
    *,
    loop: str = "uvloop",
    environment: Mapping[str, str] = {},
    before: str = "",
    run: str = "runtime.run_worker(main)",
) -> Service:
    """A script that runs an async function with the body `main` as a worker."""
    hidden = "sys.modules['uvloop'] = None" if loop == "asyncio" else ""
    head = f"import asyncio, sys\n{hidden}\nfrom served import *\n{before}\n"
    launch.write("script", f"{head}\nasync def main():{main}\n{run}\n")
    environ = {"GRACEFUL_GRACE_PERIOD": "6", "GRACEFUL_RELEASE_TIMEOUT": "0.5", "GRACEFUL_EXIT_MARGIN": "0.5"}
    return launch.python("script.py", environment={**environ, **environment})


@both_loops
def test_a_consumer_that_stops_when_it_is_told(launch: Launch, loop: str) -> None:
    service = worker(launch, CONSUMER, loop=loop)
    service.wait_for(f"^working in {loop}.* with the database")
    service.terminate()
    assert service.exit_code() == 0, service.output
    assert service.phases == WHOLE_TIMELINE
    assert service.output.index("stopping: True") < service.output.index("released database")
    service.wait_for("SIGTERM: no lame duck")
    service.wait_for("1 ended in time, none cut off")
    assert service.output.rstrip().endswith("atexit")
    assert "load balancer" not in service.output


@both_loops
def test_main_that_does_not_end_is_cancelled_named_and_awaited(launch: Launch, loop: str) -> None:
    main = """
    say("working")
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0)
        say("cleaned up")
"""
    environment = {"GRACEFUL_DRAIN_TIMEOUT": "0.3"}
    service = worker(launch, main, loop=loop, environment=environment)
    service.wait_for("^working")
    service.terminate()
    assert service.exit_code() == 75, service.output
    service.wait_for(r"cut off: task main, .* at \S*script.py:\d+ in main")
    assert service.output.index("cleaned up") < service.output.index("released database")
    assert service.phases == WHOLE_TIMELINE


def test_main_that_swallows_its_cancellation_is_left_behind(launch: Launch) -> None:
    main = """
    say("working")
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        say("swallowed")
        await asyncio.Event().wait()  # the second one, that of the loop's end, is accepted
"""
    service = worker(launch, main, environment={"GRACEFUL_DRAIN_TIMEOUT": "0.3"})
    service.wait_for("^working")
    service.terminate()
    assert service.exit_code() == 75, service.output
    service.wait_for("left behind: task main")
    service.wait_for("^released database")


def test_jobs_and_tasks_of_mains_are_waited_for(launch: Launch) -> None:
    main = """
    async def message():
        async with runtime.job("message"):
            say("in the middle")
            await asyncio.to_thread(wait_for_line)
            say("message done")
    runtime.create_task(message())
    await runtime.shutdown_requested()
    say("main is done")
"""
    service = worker(launch, main)
    service.wait_for("^in the middle")
    service.terminate()
    service.wait_for("^main is done")
    service.wait_for("^phase draining")
    service.tell()
    assert service.exit_code() == 0, service.output
    assert service.output.index("message done") < service.output.index("released database")
    service.wait_for("3 ended in time, none cut off")


@both_loops
def test_main_that_returns_ends_the_process(launch: Launch, loop: str) -> None:
    service = worker(launch, "\n    say('all done')\n", loop=loop)
    assert service.exit_code() == 0, service.output
    assert service.phases == WHOLE_TIMELINE
    service.wait_for("main returned: ended after .*, clean")
    service.wait_for("^released database")


@both_loops
def test_main_that_raises_is_told_with_its_traceback(launch: Launch, loop: str) -> None:
    service = worker(launch, "\n    raise LookupError('no such queue')\n", loop=loop)
    assert service.exit_code() == 1, service.output
    assert service.phases == WHOLE_TIMELINE
    service.wait_for(r"^ERROR: +main raised LookupError\nTraceback")
    service.wait_for("failed +main raised LookupError: no such queue")
    service.wait_for("^released database")


def test_main_that_raises_in_the_drain_has_failed(launch: Launch) -> None:
    main = "\n    say('working')\n    await runtime.shutdown_requested()\n    raise LookupError('too late')\n"
    service = worker(launch, main)
    service.wait_for("^working")
    service.terminate()
    assert service.exit_code() == 1, service.output
    service.wait_for("SIGTERM: ended after .*, failed")
    service.wait_for("^released database")


@both_loops
def test_main_that_exits_has_its_own_code(launch: Launch, loop: str) -> None:
    service = worker(launch, "\n    sys.exit(3)\n", loop=loop)
    assert service.exit_code() == 3, service.output
    assert service.phases == WHOLE_TIMELINE
    service.wait_for("^released database")


def test_main_that_is_cancelled_by_somebody_else_has_failed(launch: Launch) -> None:
    service = worker(launch, "\n    asyncio.current_task().cancel()\n    await asyncio.sleep(0)\n")
    assert service.exit_code() == 1, service.output
    service.wait_for("main was cancelled: ended after .*, failed")
    service.wait_for("^released database")


def test_what_is_no_async_function_is_said(launch: Launch) -> None:
    service = worker(launch, CONSUMER, run="runtime.run_worker(lambda: 3)")
    assert service.exit_code() == 1
    service.wait_for("TypeError: <lambda>.* returned 3; expected an async function")
    for run in ("runtime.run_worker(main())", "runtime.run_worker(lambda queue: main())"):
        service = worker(launch, CONSUMER, run=run)
        assert service.exit_code() == 2
        assert service.output.startswith("graceful: main of run_worker: found ")
        assert "expected an async function that takes nothing, not yet called" in service.output
        assert "never awaited" not in service.output


def test_a_second_interrupt_cancels_main(launch: Launch) -> None:
    service = worker(launch, "\n    say('working')\n    await asyncio.Event().wait()\n")
    service.wait_for("^working")
    service.signal(signal.SIGINT)
    service.wait_for("^phase draining")
    service.signal(signal.SIGINT)
    assert service.exit_code() == 130, service.output
    service.wait_for("^released database")


def test_a_startup_that_is_interrupted_does_not_begin_main(launch: Launch) -> None:
    before = """
@runtime.resource
async def broker():
    say("acquiring broker")
    await asyncio.Event().wait()
    yield
"""
    service = worker(launch, CONSUMER, before=before)
    service.wait_for("^acquiring broker")
    service.terminate()
    assert service.exit_code() == 0, service.output
    assert service.phases == INTERRUPTED_STARTUP
    assert "working" not in service.output
    service.wait_for("^released database")


def test_a_startup_that_fails_is_1(launch: Launch) -> None:
    before = "@runtime.resource\nasync def broker():\n    raise OSError('no broker')\n    yield\n"
    service = worker(launch, CONSUMER, before=before)
    assert service.exit_code() == 1, service.output
    assert "no broker" in service.output
    assert "working in" not in service.output
    service.wait_for("^released database")


@both_loops
def test_probes_are_on_the_admin_port(launch: Launch, loop: str) -> None:
    environment = {
        "GRACEFUL_ADMIN_PORT": "0",
        "GRACEFUL_STALL_AFTER": "0.5",
        "GRACEFUL_DRAIN_TIMEOUT": "0.2",
    }
    main = """
    say("working")
    await runtime.shutdown_requested()
    say("leaving")
    wait_for_line()
    await asyncio.Event().wait()
"""
    service = worker(launch, main, loop=loop, environment=environment)
    service.wait_for("^working")
    admin = service.admin_port()
    with Client(admin) as client:
        assert client.get("/ready").body == b"ok"
        assert b'graceful_in_flight{kind="task"} 1.0' in client.get("/metrics").body
        service.terminate()
    service.wait_for("^leaving")
    becomes(admin, "/healthz", "not alive")
    service.wait_for(r"has stood still for .* at \S*served.py:\d+ in wait_for_line")
    with Client(admin) as client:
        assert client.get("/ready").body in {b"lame duck", b"draining"}
    service.tell()
    assert service.exit_code() == 75, service.output
    assert refused(admin)


def test_a_lame_duck_that_somebody_sets_is_kept_until_main_ends(launch: Launch) -> None:
    main = "\n    say('working')\n    await asyncio.to_thread(wait_for_line)\n"
    environment = {"GRACEFUL_LAME_DUCK": "4", "GRACEFUL_ADMIN_PORT": "0"}
    service = worker(launch, main, environment=environment)
    service.wait_for("^working")
    service.terminate()
    service.wait_for("^phase lame_duck")
    becomes(service.admin_port(), "/ready", "lame duck")
    service.tell()
    assert service.exit_code() == 0, service.output
    lame_duck = re.search(r"lame duck +(\d+\.\d\d) s", service.output)
    assert lame_duck is not None
    assert float(lame_duck[1]) < 4


def test_an_admin_port_that_is_taken_is_1(launch: Launch) -> None:
    first = worker(launch, CONSUMER, environment={"GRACEFUL_ADMIN_PORT": "0"})
    first.wait_for("^working")
    service = worker(launch, CONSUMER, environment={"GRACEFUL_ADMIN_PORT": str(first.admin_port())})
    assert service.exit_code() == 1, service.output
    assert service.output.startswith("graceful: cannot listen on 127.0.0.1:")
    assert "acquired" not in service.output


def test_a_log_that_the_app_has_set_up_is_left_alone(launch: Launch) -> None:
    before = "import logging\nlogging.basicConfig(level='INFO', format='theirs %(name)s %(message)s')\n"
    service = worker(launch, CONSUMER, before=before)
    service.wait_for("^working")
    service.terminate()
    assert service.exit_code() == 0, service.output
    service.wait_for("^theirs graceful.report SIGTERM: ended after")


def test_only_in_the_main_thread(launch: Launch) -> None:
    run = """
import threading
def elsewhere():
    try:
        runtime.run_worker(main)
    except Exception as problem:
        say(f"{type(problem).__name__}: {problem}")
thread = threading.Thread(target=elsewhere)
thread.start()
thread.join()
"""
    service = worker(launch, CONSUMER, run=run)
    assert service.exit_code() == 0
    service.wait_for("^RuntimeInUseError: run_worker.* only in the main thread$")


def test_in_a_container_loopback_is_warned_of(launch: Launch) -> None:
    kubernetes = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "GRACEFUL_ADMIN_PORT": "0"}
    service = worker(launch, "\n    pass\n", environment=kubernetes)
    assert service.exit_code() == 0
    service.wait_for("kubernetes: 6 s grace = 0 lame duck")
    service.wait_for("WARNING.*the admin port listens on 127.0.0.1 inside a container")
    service = worker(launch, "\n    pass\n", environment={**kubernetes, "GRACEFUL_ADMIN_HOST": "127.0.0.1"})
    assert service.exit_code() == 0
    assert "inside a container" not in service.output
