"""The admin port of real processes: probes are answered from start to exit, whatever the app's loop does."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
from collections.abc import Iterator

import pytest

from tests.process.service import WHOLE_TIMELINE, Client, Launch, Response, Service, becomes, refused

pytestmark = pytest.mark.contract

ADMIN = ("--admin-port", "0", "--stall-after", "0.5", "--lame-duck", "0.5")
STOOD_STILL = r"the event loop has stood still for \d\.\d s, at "

both_ways = pytest.mark.parametrize("how", ["owned", "adopted"])
both_loops = pytest.mark.parametrize("loop", ["asyncio", "uvloop"])


def ask(port: int, path: str) -> Response:
    with Client(port) as client:
        return client.get(path)


def text(port: int, path: str) -> str:
    return ask(port, path).body.decode()


def serving(service: Service) -> tuple[int, int]:
    """The app's port and the admin port, once the app serves: uvicorn says that it runs a moment before."""
    service.wait_for("^phase serving")
    return service.port(), service.admin_port()


@contextlib.contextmanager
def blocked(service: Service, port: int, path: str = "/block") -> Iterator[Client]:
    """A request that blocks the loop, until a line is written; it is answered on leaving."""
    times = service.output.count("blocking\n") + 1
    with Client(port) as client:
        client.send(path)
        service.wait_for("^blocking", times=times)
        yield client
        service.tell()
        assert client.receive().body == b"unblocked"


@both_ways
@both_loops
def test_a_blocked_loop_does_not_silence_the_probes(launch: Launch, how: str, loop: str) -> None:
    service = getattr(launch, how)("served:wrapped", *ADMIN, "--loop", loop)
    port, admin = serving(service)
    assert text(admin, "/ready") == text(admin, "/healthz") == "ok"
    with blocked(service, port):
        assert becomes(admin, "/healthz", "not alive").status == 503
        service.wait_for(STOOD_STILL + r"\S*served.py:\d+ in wait_for_line")
        assert "graceful_event_loop_stall_seconds" in text(admin, "/metrics")
        assert "[-]event loop failed" in text(admin, "/healthz?verbose")
        assert text(admin, "/ready") == "ok"
    assert becomes(admin, "/healthz", "ok").status == 200
    service.wait_for("the event loop turns again")
    assert len(re.findall(STOOD_STILL, service.output)) == 1
    assert re.search(r"served.py:\d+ in block: wait_for_line\(\)\n", service.output)
    with blocked(service, port):
        service.terminate()
        assert becomes(admin, "/ready", "lame duck").status == 503
        assert "phase lame_duck" not in service.output
        assert "[+]lame_duck" not in text(admin, "/ready?verbose")
    assert service.exit_code() == (0 if how == "owned" else -signal.SIGTERM), service.output
    assert service.phases == WHOLE_TIMELINE


@both_ways
def test_c_code_without_the_gil_does_not_silence_the_probes(launch: Launch, how: str) -> None:
    launch.write(
        "blocking",
        """
import ctypes
from served import *

async def in_c(receive, send):
    say("blocking")
    ctypes.CDLL(None).read(0, ctypes.create_string_buffer(3), 3)
    await answer(send, b"unblocked")

PATHS["/c"] = in_c
""",
    )
    service = getattr(launch, how)("blocking:wrapped", *ADMIN)
    port, admin = serving(service)
    with blocked(service, port, "/c"):
        becomes(admin, "/healthz", "not alive")
        service.wait_for(STOOD_STILL + r"\S*blocking.py:\d+ in in_c")
        assert text(admin, "/ready") == "ok"
    becomes(admin, "/healthz", "ok")
    service.terminate()
    assert service.exit_code() == (0 if how == "owned" else -signal.SIGTERM), service.output


def test_a_log_that_nobody_reads_does_not_silence_the_probes(launch: Launch) -> None:
    """The loop is blocked in the log, and holds the lock of its handler."""
    launch.write(
        "flooding",
        """
import logging
from served import *

async def flood(receive, send):
    unread, full = os.pipe()
    os.set_blocking(full, False)
    try:
        while True:
            os.write(full, b"x" * 65536)
    except BlockingIOError:
        os.set_blocking(full, True)
    os.dup2(full, 2)
    say("blocking")
    logging.getLogger("graceful").warning("nobody reads this")

PATHS["/flood"] = flood

@runtime.readiness_check(timeout=0.2, cache=0)
async def on_the_loop():
    pass
""",
    )
    service = launch.owned("flooding:wrapped", "--grace-period", "4", *ADMIN)
    port, admin = serving(service)
    with Client(port) as client:
        client.send("/flood")
        service.wait_for("^blocking")
        becomes(admin, "/healthz", "not alive")
        becomes(admin, "/ready", "not ready")
        for _ in range(20):
            assert text(admin, "/healthz") == "not alive"
        service.terminate()
        becomes(admin, "/ready", "lame duck")
        assert service.exit_code() == 70


def test_a_loop_that_sleeps_for_ever_is_seen_until_the_watchdog_acts(launch: Launch) -> None:
    launch.write(
        "sleeping",
        """
import time
from served import *

async def sleep(receive, send):
    say("blocking")
    time.sleep(1000)

PATHS["/sleep"] = sleep
""",
    )
    service = launch.owned("sleeping:wrapped", "--grace-period", "4", *ADMIN)
    port, admin = serving(service)
    with Client(port) as client:
        client.send("/sleep")
        service.wait_for("^blocking")
        becomes(admin, "/healthz", "not alive")
        service.wait_for(STOOD_STILL + r"\S*sleeping.py:\d+ in sleep")
        service.terminate()
        becomes(admin, "/ready", "lame duck")
        assert service.exit_code() == 70
    assert refused(admin)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_signal_of_which_no_handler_is_told_is_seen_too(launch: Launch, loop: str) -> None:
    """The main thread is in a call that no signal interrupts, as it is also where one comes just before."""
    launch.write(
        "locking",
        """
import ctypes
from served import *

async def lock(receive, send):
    mutex, libc = ctypes.create_string_buffer(64), ctypes.CDLL(None)
    libc.pthread_mutex_lock(mutex)
    say("blocking")
    libc.pthread_mutex_lock(mutex)

PATHS["/lock"] = lock
""",
    )
    service = launch.owned("locking:wrapped", "--grace-period", "4", *ADMIN, "--loop", loop)
    port, admin = serving(service)
    with Client(port) as client:
        client.send("/lock")
        service.wait_for(STOOD_STILL + r"\S*locking.py:\d+ in lock")  # it is in the call by then
        service.terminate()
        becomes(admin, "/ready", "lame duck")
        assert service.exit_code() == 70


@both_ways
def test_a_process_that_was_stopped_is_alive(launch: Launch, how: str) -> None:
    """The whole process is stopped, so nobody can say what its loop has done meanwhile."""
    service = getattr(launch, how)("served:wrapped", *ADMIN)
    _, admin = serving(service)
    with Client(admin) as kept:
        assert kept.get("/healthz").body == b"ok"
        service.signal(signal.SIGSTOP)
        os.waitid(os.P_PID, service.pid, os.WSTOPPED | os.WNOWAIT)
        kept.send("/healthz")
        kept.socket.settimeout(2.5)
        with pytest.raises(TimeoutError):
            kept.receive()
        kept.socket.settimeout(20)
        service.signal(signal.SIGCONT)
        assert kept.receive().body == b"ok"
    service.terminate()
    service.exit_code()
    assert "has stood still" not in service.output


@both_ways
def test_from_the_start_to_the_exit(launch: Launch, how: str) -> None:
    launch.write(
        "slow",
        """
import asyncio, sys
from served import *

@runtime.resource
async def broker():
    say("acquiring broker")
    await asyncio.to_thread(wait_for_line)
    yield
    say("releasing broker")
    await asyncio.to_thread(wait_for_line)

@runtime.liveness_check
def never_asked_before_there_is_a_broker():
    say(f"alive in {runtime.phase}")

if "graceful" in sys.argv[0]:
    say("importing")
    wait_for_line()
""",
    )
    service = getattr(launch, how)("slow:wrapped", *ADMIN)
    admin = service.admin_port()
    if how == "owned":
        service.wait_for("^importing")
        assert (text(admin, "/ready"), text(admin, "/healthz")) == ("starting", "ok")
        service.tell()
    service.wait_for("^acquiring broker")
    assert (text(admin, "/ready"), text(admin, "/healthz")) == ("starting", "ok")
    service.tell()
    serving(service)
    assert (text(admin, "/ready"), text(admin, "/healthz")) == ("ok", "ok")
    service.terminate()
    service.wait_for("^releasing broker")
    assert (text(admin, "/ready"), text(admin, "/healthz")) == ("releasing", "ok")
    service.tell()
    assert service.exit_code() == (0 if how == "owned" else -signal.SIGTERM), service.output
    assert set(re.findall("^alive in (.*)", service.output, re.MULTILINE)) == {"serving"}
    assert refused(admin)


@both_ways
def test_the_endpoints_are_there_instead_and_not_in_flight(launch: Launch, how: str) -> None:
    service = getattr(launch, how)("served:wrapped", *ADMIN)
    port, admin = serving(service)
    with Client(admin) as kept:
        assert kept.get("/ready", method="HEAD").body == b""
        assert kept.get("/ready", method="POST").status == 405
        assert kept.get("/ready?verbose").body == b"[+]serving ok\nready check passed\n"
        assert kept.get("/elsewhere").status == 404
        page = kept.get("/metrics").body.decode()
    assert 'graceful_phase{phase="serving"} 1.0' in page
    assert 'graceful_in_flight{kind="http"} 0.0' in page
    assert 'graceful_requests_total{kind="http",phase="serving"} 0.0' in page
    for path in ("/ready", "/healthz", "/metrics"):
        assert text(port, path) == "hello", "the app's own"
    page = text(admin, "/metrics")
    assert 'graceful_requests_total{kind="http",phase="serving"} 3.0' in page
    service.terminate()
    assert service.exit_code() == (0 if how == "owned" else -signal.SIGTERM), service.output
    assert "no request came after the signal" in service.output


def test_a_forked_child_does_not_listen(launch: Launch) -> None:
    launch.write(
        "forking",
        """
from served import *

async def fork(receive, send):
    if os.fork() == 0:
        say("child lives")
        signal.pause()
    await answer(send, b"forked")

PATHS["/fork"] = fork
""",
    )
    service = launch.owned("forking:wrapped", *ADMIN, "--lame-duck", "0")
    port, admin = serving(service)
    assert text(port, "/fork") == "forked"
    service.wait_for("^child lives")
    assert text(admin, "/ready") == "ok"
    service.terminate()
    assert service.process.wait(20) == 0
    assert refused(admin)


@both_ways
def test_an_admin_port_that_is_taken_stops_the_start(launch: Launch, how: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        taken = holder.getsockname()[1]
        service = getattr(launch, how)("served:wrapped", "--admin-port", str(taken))
        assert service.exit_code() == (1 if how == "owned" else 3), service.output
    assert f"cannot listen on 127.0.0.1:{taken}, the admin port: Address already in use" in service.output
    assert "Traceback" not in service.output
    assert "acquired" not in service.output
    if how == "owned":
        assert service.output.startswith("graceful: cannot listen")


@both_ways
def test_the_apps_own_port_is_refused(launch: Launch, how: str) -> None:
    service = getattr(launch, how)("served:wrapped", "--admin-port", "18473", "--port", "18473")
    assert service.exit_code() == (2 if how == "owned" else 3), service.output
    assert "admin_port: found 18473; it is the app's own" in service.output
    assert "acquired" not in service.output


def test_workers_have_none(launch: Launch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        service = launch.adopted(
            *("served:wrapped", *ADMIN, "--workers", "2", "--fd", str(listener.fileno())),
            pass_fds=[listener.fileno()],
        )
        service.wait_for("^phase serving", times=2)
        workers_serve_probes_without_details(service, listener.getsockname()[1])


def test_gunicorns_worker_has_none(launch: Launch) -> None:
    pytest.importorskip("gunicorn", reason="gunicorn is not installed")
    pytest.importorskip(
        "uvicorn_worker", reason="uvicorn-worker is not installed, or too new for this uvicorn"
    )
    service = launch.python(
        *("-m", "gunicorn", "served:wrapped", "-k", "uvicorn_worker.UvicornWorker", "-b", "127.0.0.1:0"),
        environment={"GRACEFUL_LAME_DUCK": "0.5", "GRACEFUL_ADMIN_PORT": "0"},
    )
    port = int(service.wait_for(r"Listening at: http://127.0.0.1:(\d+)")[1])
    service.wait_for("^phase serving")
    workers_serve_probes_without_details(service, port)


def workers_serve_probes_without_details(service: Service, port: int) -> None:
    service.wait_for("the admin port is not opened: several workers would share it")
    assert (text(port, "/ready"), text(port, "/healthz")) == ("ok", "ok")
    assert text(port, "/ready?verbose") == "ok"
    assert text(port, "/metrics") == "hello", "the app's own"
    service.terminate()
    assert service.exit_code() == 0, service.output
    assert "probes are answered on" not in service.output


def test_serve_closes_it_in_a_loop_that_goes_on(launch: Launch) -> None:
    launch.write(
        "script",
        """
import asyncio
from served import *

async def main():
    for _ in range(2):
        report = await runtime.serve(wrapped, port=0)
        say(f"served until {report.reason}")
        await asyncio.to_thread(wait_for_line)

asyncio.run(main())
say("goes on")
""",
    )
    service = launch.python("script.py", environment={"GRACEFUL_LAME_DUCK": "0", "GRACEFUL_ADMIN_PORT": "0"})
    for turn in (1, 2):
        admin = service.admin_port(times=turn)
        service.wait_for(r"^phase serving", times=turn)
        assert text(admin, "/ready") == "ok"
        service.terminate()
        service.wait_for("^served until SIGTERM", times=turn)
        assert refused(admin)
        service.tell()
    assert service.exit_code() == 0
    service.wait_for("^goes on")


def test_run_in_full_closes_it(launch: Launch) -> None:
    launch.write("script", "from served import *\nruntime.run(wrapped, port=0, exit='full')\n")
    service = launch.python("script.py", environment={"GRACEFUL_LAME_DUCK": "0", "GRACEFUL_ADMIN_PORT": "0"})
    _, admin = serving(service)
    assert text(admin, "/ready") == "ok"
    service.terminate()
    assert service.exit_code() == 0, service.output


def test_an_argument_of_the_code_opens_it_too(launch: Launch) -> None:
    launch.write(
        "argued",
        """
from graceful import Runtime
import served
from served import say, bare

runtime = Runtime(admin_port=0, admin_host="::1", stall_after=3)
runtime.on_phase(served.told)
wrapped = runtime.wrap(bare)
""",
    )
    service = launch.owned("argued:wrapped", "--lame-duck", "0")
    admin = int(service.wait_for(r"probes are answered on http://\[::1\]:(\d+)")[1])
    service.wait_for("^phase serving")
    with socket.create_connection(("::1", admin), timeout=20) as client:
        client.sendall(b"GET /ready HTTP/1.0\r\n\r\n")
        assert client.recv(4096).startswith(b"HTTP/1.1 200")
    service.terminate()
    assert service.exit_code() == 0, service.output


def test_checks_that_belong_to_a_blocked_loop_are_not_ready_in_their_time(launch: Launch) -> None:
    launch.write(
        "checked",
        """
import asyncio
from served import *

home = None

@runtime.resource
async def loop():
    global home
    home = asyncio.get_running_loop()
    yield

@runtime.readiness_check(timeout=0.3, cache=0)
async def on_the_loop():
    assert asyncio.get_running_loop() is home
    say("asked on the loop")

@runtime.readiness_check(cache=0)
def on_a_thread():
    pass
""",
    )
    service = launch.owned("checked:wrapped", *ADMIN)
    port, admin = serving(service)
    assert text(admin, "/ready") == "ok"
    service.wait_for("^asked on the loop")
    with blocked(service, port):
        assert text(admin, "/ready") == "not ready"
        assert text(admin, "/ready/on_a_thread") == "ok"
        details = text(admin, "/ready?verbose")
        assert "[+]on_a_thread ok" in details
        assert "[-]on_the_loop failed" in details
        service.wait_for(
            "check on_the_loop failed: timed out after 0.3 s, before the event loop has got to it"
        )
    becomes(admin, "/ready", "ok")
    service.terminate()
    assert service.exit_code() == 0, service.output
