"""Clients, apps and parents that do what nobody should: the end is in order all the same, and says what it
was.
"""

from __future__ import annotations

import json
import re
import signal
import socket
import threading
from typing import Any

import pytest

from tests.process.service import BOUND, WHOLE_TIMELINE, Client, Launch, Service

pytestmark = pytest.mark.contract

SHORT = ("--lame-duck", "0", "--grace-period", "6", "--release-timeout", "1", "--exit-margin", "0.5")
SHORT_DRAIN = (*SHORT, "--drain-timeout", "0.6")
RUN = ("-m", "graceful", "run", "served:wrapped")
ENVIRONMENT = {"GRACEFUL_LAME_DUCK": "0", "GRACEFUL_GRACE_PERIOD": "6"}
LARGE = 20_000_000

# What precedes the app, and what it does with a request.
APP = """
import asyncio, sys, threading
from starlette.responses import Response, StreamingResponse
from served import *
{}
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return await bare(scope, receive, send)
{}
wrapped = runtime.wrap(app)
"""

ONE_PIECE = APP.format(
    "", f'    await Response(b"x" * {LARGE})(scope, receive, send)\n    say("handed over")\n'
)

ENDLESS = APP.format(
    """
async def swallowing():
    yield b"a part"
    say("streaming on")
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        say("swallowed")
""",
    "    await StreamingResponse(swallowing())(scope, receive, send)\n",
)

WAITING = APP.format("", '    say("waiting")\n    await asyncio.Event().wait()\n')

EXITING = APP.format(
    "async def leave_with(code):\n    sys.exit(code)\n",
    """
    if scope["path"] != "/exit":
        return await bare(scope, receive, send)
    app.task = asyncio.create_task(leave_with(int(scope["query_string"])))
    await answer(send, b"leaving")
""",
)

LEFT_BEHIND = APP.format(
    """
@runtime.resource
async def worker():
    threading.Thread(target=threading.Event().wait, name="worker\\nforged by a thread").start()
    yield
""",
    r'    runtime.request_shutdown("enough\nforged by a reason\rforged by a reason")'
    '\n    await answer(send, b"leaving")\n',
)

# It is acquired last, so it is released first, before `database`.
CANCELLING = """
import asyncio
from served import *
@runtime.resource
async def cancelling():
    yield
    for task in asyncio.all_tasks():
        if task is not asyncio.current_task():
            task.cancel()
    await asyncio.sleep(0)
    say("released cancelling")
"""

CANCELLED_TWICE = """
import asyncio
from served import *
async def main():
    serving = asyncio.create_task(runtime.serve(wrapped, port=0))
    await asyncio.to_thread(wait_for_line)
    serving.cancel()
    await runtime.shutdown_requested()
    serving.cancel()
    say("cancelled twice")
    try:
        await serving
    except asyncio.CancelledError:
        say(f"raised CancelledError in {runtime.phase}, {runtime.report.outcome}")

asyncio.run(main())
"""


def report_of(service: Service) -> Any:
    return json.loads(service.wait_for("^report (.*)$")[1])


def ended_in_order(service: Service) -> None:
    assert service.phases == WHOLE_TIMELINE, service.output
    order = ["lifespan shutdown", "released database"]
    assert re.findall("lifespan shutdown|released database", service.output) == order, service.output


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_client_that_stops_reading_is_cut_off_and_named(launch: Launch, loop: str) -> None:
    """The app has handed all of it over and is done: only the connection is still there."""
    launch.write("large", ONE_PIECE)
    service = launch.owned("large:wrapped", *SHORT_DRAIN, "--loop", loop)
    with Client(service.port()) as client:
        client.send("/large?token=secret")
        service.wait_for("^handed over")
        service.terminate()
        assert service.exit_code() == 75, service.output
        assert not client.receive().whole
    service.wait_for(r"cut off: http GET /large, .* at its client, which does not read on$")
    assert report_of(service)["phases"]["draining"] > 0.5
    ended_in_order(service)


def test_a_client_that_reads_slowly_through_the_drain_gets_all_of_it(launch: Launch) -> None:
    launch.write("large", ONE_PIECE)
    service = launch.owned("large:wrapped", *SHORT)
    with Client(service.port()) as client:
        client.send()
        service.wait_for("^handed over")
        service.terminate()
        service.wait_for("^phase draining")
        client.receive_begin(b"\r\n\r\n")
        for _ in range(10):
            assert client.take(LARGE // 10) == b"x" * (LARGE // 10)
            threading.Event().wait(0.1)  # the client's pace
        assert client.closed()
    assert service.exit_code() == 0, service.output
    assert report_of(service)["phases"]["draining"] > 0.5
    ended_in_order(service)


@pytest.mark.parametrize("http", ["h11", "httptools"])
@pytest.mark.parametrize("how", ["owned", "adopted"])
def test_a_stream_that_swallows_its_cancellation_is_not_passed_off_as_whole(
    launch: Launch, how: str, http: str
) -> None:
    launch.write("endless", ENDLESS)
    start = launch.owned if how == "owned" else launch.adopted
    service = start("endless:wrapped", *SHORT_DRAIN, "--http", http)
    with Client(service.port()) as client:
        client.send()
        service.wait_for("^streaming on")
        service.terminate()
        response = client.receive()
        assert (response.body, response.whole) == (b"a part", False)
    assert service.exit_code() == (75 if how == "owned" else -signal.SIGTERM), service.output
    service.wait_for("^swallowed")
    ended_in_order(service)


def test_an_http_1_0_client_sees_a_reset_where_the_end_would_mean_the_end(launch: Launch) -> None:
    launch.write("endless", ENDLESS)
    service = launch.owned("endless:wrapped", *SHORT_DRAIN, "--http", "h11")
    with socket.create_connection(("127.0.0.1", service.port()), timeout=BOUND) as client:
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        found = b""
        while not found.endswith(b"a part"):
            found += client.recv(4096)
        service.wait_for("^streaming on")
        service.terminate()
        with pytest.raises(ConnectionResetError):
            client.recv(4096)
    assert service.exit_code() == 75, service.output
    ended_in_order(service)


@pytest.mark.parametrize("http", ["h11", "httptools"])
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_request_behind_does_not_hide_the_one_that_is_cut_off(launch: Launch, loop: str, http: str) -> None:
    """The connection knows the last request that it has read, which may wait for the one before it."""
    launch.write("endless", ENDLESS)
    service = launch.owned("endless:wrapped", *SHORT_DRAIN, "--loop", loop, "--http", http)
    with Client(service.port()) as client:
        client.socket.sendall(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n" * 3)
        service.wait_for("^streaming on")
        service.terminate()
        response = client.receive()
        assert (response.body, response.whole) == (b"a part", False)
    assert service.exit_code() == 75, service.output
    ended_in_order(service)


@pytest.mark.parametrize("path", ["/", "/never"], ids=["cancelled", "swallowing"])
@pytest.mark.parametrize("http", ["h11", "httptools"])
def test_nor_the_one_that_has_not_begun(launch: Launch, http: str, path: str) -> None:
    launch.write("waiting", WAITING if path == "/" else "from served import wrapped")
    service = launch.owned("waiting:wrapped", *SHORT_DRAIN, "--http", http)
    with Client(service.port()) as client:
        client.socket.sendall(f"GET {path} HTTP/1.1\r\nhost: test\r\n\r\n".encode() * 3)
        service.wait_for("^(waiting|never)")
        service.terminate()
        response = client.receive()
        assert (response.status, response.whole) == (503, True)
        assert client.closed()
    assert service.exit_code() == 75, service.output
    ended_in_order(service)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("code", [3, 0])
def test_sys_exit_in_a_task_ends_the_run_in_order(launch: Launch, code: int, loop: str) -> None:
    launch.write("exiting", EXITING)
    service = launch.owned("exiting:wrapped", *SHORT, "--loop", loop)
    port = service.port()
    with Client(port) as held, Client(port) as client:
        held.send("/hold", method="POST", body_to_come=4)
        service.wait_for("^holding")
        assert client.get(f"/exit?{code}").body == b"leaving"
        service.wait_for("^phase draining")
        held.send_body(b"rest")
        response = held.receive()
        assert (response.body, response.whole) == (b"held rest", True)
    assert service.exit_code() == code, service.output
    service.wait_for("SystemExit: ended after")
    assert service.output.rstrip().endswith("atexit")
    ended_in_order(service)


def test_sys_exit_with_0_gives_the_reports_own_code(launch: Launch) -> None:
    launch.write("exiting", EXITING)
    service = launch.owned("exiting:wrapped", *SHORT_DRAIN)
    port = service.port()
    with Client(port) as held, Client(port) as client:
        held.send("/hold", method="POST", body_to_come=4)
        service.wait_for("^holding")
        client.send("/exit?0")
        assert held.receive().status == 503
    assert (service.exit_code(), report_of(service)["exit_code"]) == (75, 75), service.output


def test_a_release_that_cancels_all_tasks_keeps_no_other_from_being_released(launch: Launch) -> None:
    launch.write("cancelling", CANCELLING)
    service = launch.owned("cancelling:wrapped", *SHORT)
    service.port()
    service.terminate()
    code = service.exit_code()
    whole = "released cancelling" in service.output
    assert (code, report_of(service)["outcome"]) in {(75, "not clean"), *([(0, "clean")] if whole else [])}
    ended_in_order(service)


def test_nothing_that_the_app_names_begins_a_log_line(launch: Launch) -> None:
    launch.write("leaving", LEFT_BEHIND)
    service = launch.owned("leaving:wrapped", *SHORT, "--grace-period", "3")
    with Client(service.port()) as client:
        assert client.get().body == b"leaving"
        assert service.exit_code() == 75, service.output
    assert "forged by a reason" in service.output
    service.wait_for("left behind at exit: thread worker.*forged by a thread")
    assert not [line for line in service.output.splitlines() if line.lstrip().startswith("forged")]
    assert service.phases == WHOLE_TIMELINE


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((*RUN, "--port", "70000"), "--port.*70000"),
        ((*RUN, "--header", "x"), "graceful: .*--header.*'?x'?.*NAME:VALUE"),
        (("-c", "from served import *; runtime.run(wrapped, port=70000)"), "graceful: .*port.*70000"),
    ],
    ids=["port", "header", "port in Python"],
)
def test_what_cannot_be_meant_is_wrong_usage(launch: Launch, arguments: tuple[str, ...], said: str) -> None:
    service = launch.python(*arguments)
    assert service.exit_code() == 2, service.output
    assert len(re.findall(said, service.output)) == 1, service.output
    assert not re.search("Traceback|acquired", service.output), service.output


def test_serve_cancelled_twice_ends_its_run_in_order(launch: Launch) -> None:
    launch.write("script", CANCELLED_TWICE)
    service = launch.python("script.py", environment=ENVIRONMENT)
    with Client(service.port()) as held:
        held.send("/hold", method="POST", body_to_come=4)
        service.wait_for("^holding")
        service.tell()
        service.wait_for("^cancelled twice")
        held.send_body(b"rest")
        assert held.receive().body == b"held rest"
    assert service.exit_code() == 0, service.output
    service.wait_for("^raised CancelledError in stopped, clean$")
    ended_in_order(service)


def test_a_sigterm_that_the_parent_has_blocked_begins_the_timeline(launch: Launch) -> None:
    blocked = "import os, signal, sys; signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})"
    execute = "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    service = launch.python("-c", f"{blocked}; {execute}", *RUN, "--port", "0", *SHORT)
    service.port()
    service.terminate()
    assert service.exit_code() == 0, service.output
    service.wait_for("SIGTERM: no lame duck")
    ended_in_order(service)


@pytest.mark.parametrize(
    ("how", "code", "said"),
    [(signal.SIGTERM, -signal.SIGTERM, 143), (signal.SIGINT, 0, 0), ("/leave", 0, 0)],
    ids=["SIGTERM", "SIGINT", "request_shutdown"],
)
def test_exit_by_signal_is_for_sigterm(launch: Launch, how: int | str, code: int, said: int) -> None:
    service = launch.owned("served:wrapped", *SHORT, "--exit-by-signal", "true")
    with Client(service.port()) as client:
        if isinstance(how, str):
            assert client.get(how).body == b"leaving"
        else:
            service.signal(how)
        assert service.exit_code() == code, service.output
    assert report_of(service)["exit_code"] == said
    ended_in_order(service)
