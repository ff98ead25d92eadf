"""A wrapped app under the commands of others: uvicorn with workers or a reloader, gunicorn; and libraries
that look for uvicorn.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket

import pytest

from tests.process.service import WHOLE_TIMELINE, Client, Launch, Service

pytestmark = pytest.mark.contract

GUNICORN = ["-m", "gunicorn", "served:wrapped", "-k", "uvicorn_worker.UvicornWorker", "-b", "127.0.0.1:0"]


def both_workers_hold(service: Service, port: int, connections: contextlib.ExitStack) -> list[Client]:
    """Requests in flight in each of two workers; which of them takes a connection is the kernel's choice."""
    held: list[Client] = []
    workers: set[str] = set()
    while len(workers) < 2 and len(held) < 200:
        client = connections.enter_context(Client(port))
        client.send("/hold", method="POST", body_to_come=4)
        held.append(client)
        workers.add(service.wait_for(r"^holding in (\d+)", times=len(held))[1])
    assert len(workers) == 2, "one worker takes everything"
    return held


def two_workers_drain(service: Service, port: int) -> None:
    service.wait_for("^phase serving", times=2)
    with contextlib.ExitStack() as connections:
        held = both_workers_hold(service, port, connections)
        service.terminate()
        service.wait_for("^phase lame_duck", times=2)
        with Client(port) as fresh:
            response = fresh.get()
            assert (response.status, response.says_close) == (200, True)
        with Client(port) as fresh:
            assert fresh.get("/ready").body == b"lame duck"
        service.wait_for("^phase draining", times=2)
        for client in held:
            client.send_body(b"rest")
        for client in held:
            response = client.receive()
            assert (response.body, response.whole, response.says_close) == (b"held rest", True, True)
    assert service.exit_code() == 0, service.output
    assert sorted(service.phases) == sorted(WHOLE_TIMELINE * 2)
    assert service.output.count("released database") == 2
    assert "Traceback" not in service.output


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_two_workers_of_uvicorn(launch: Launch, loop: str) -> None:
    with socket.create_server(
        ("127.0.0.1", 0)
    ) as listener:  # uvicorn says that it runs before a worker listens
        service = launch.adopted(
            *("served:wrapped", "--lame-duck", "1.5", "--workers", "2", "--loop", loop),
            *("--fd", str(listener.fileno())),
            pass_fds=[listener.fileno()],
        )
        two_workers_drain(service, listener.getsockname()[1])


def test_two_workers_of_gunicorn(launch: Launch) -> None:
    pytest.importorskip("gunicorn", reason="gunicorn is not installed")
    pytest.importorskip(
        "uvicorn_worker", reason="uvicorn-worker is not installed, or too new for this uvicorn"
    )
    service = launch.python(
        *GUNICORN,
        *("-w", "2"),
        environment={"GRACEFUL_LAME_DUCK": "1.5"},
    )
    port = int(service.wait_for(r"Listening at: http://127.0.0.1:(\d+)")[1])
    two_workers_drain(service, port)


def test_a_worker_that_is_terminated_alone_drains(launch: Launch) -> None:
    """As gunicorn and uvicorn do to those that they replace."""
    pytest.importorskip(
        "uvicorn_worker", reason="uvicorn-worker is not installed, or too new for this uvicorn"
    )
    service = launch.python(
        *GUNICORN,
        *("-w", "1"),
        environment={"GRACEFUL_LAME_DUCK": "0.5"},
    )
    port = int(service.wait_for(r"Listening at: http://127.0.0.1:(\d+)")[1])
    service.wait_for("^phase serving")
    with Client(port) as held:
        held.send("/hold", method="POST", body_to_come=4)
        worker = int(service.wait_for(r"^holding in (\d+)")[1])
        assert worker != service.pid
        os.kill(worker, signal.SIGTERM)
        service.wait_for("^phase draining")
        held.send_body(b"rest")
        assert held.receive().body == b"held rest"
    service.wait_for("^phase stopped")
    service.wait_for("^phase serving", times=2)  # gunicorn starts another in its place
    service.terminate()
    assert service.exit_code() == 0, service.output


def test_a_reloader_has_no_lame_duck(launch: Launch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        service = launch.adopted(
            *("served:wrapped", "--lame-duck", "15", "--reload", "--fd", str(listener.fileno())),
            pass_fds=[listener.fileno()],
        )
        with Client(listener.getsockname()[1]) as held:
            held.send("/hold", method="POST", body_to_come=4)
            service.wait_for("^holding")
            service.terminate()
            service.wait_for("SIGTERM: no lame duck")
            held.send_body(b"rest")
            assert held.receive().body == b"held rest"
        assert service.exit_code() == 0, service.output
    assert service.phases == WHOLE_TIMELINE


def test_sigint_is_left_to_the_server(launch: Launch) -> None:
    service = launch.adopted("served:wrapped", "--lame-duck", "15")
    with Client(service.port()) as client:
        client.get()  # a uvicorn that is interrupted before its first turn ends without lifespan.shutdown
        service.signal(signal.SIGINT)
        service.exit_code()
    assert service.phases == WHOLE_TIMELINE
    service.wait_for("^released database")


def test_a_lifespan_that_never_ends_has_a_deadline(launch: Launch) -> None:
    launch.write(
        "ending",
        """
import asyncio
from served import *

async def app(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await asyncio.Event().wait()

wrapped = runtime.wrap(app)
""",
    )
    service = launch.adopted("ending:wrapped", "--lame-duck", "0", "--grace-period", "3")
    service.port()
    service.terminate()
    assert service.exit_code() == -signal.SIGTERM, service.output
    service.wait_for("app lifespan TIMED OUT")
    service.wait_for("^released database")


def test_without_lifespan_it_serves_from_the_first_request_on(launch: Launch) -> None:
    service = launch.adopted("served:wrapped", "--lame-duck", "2", "--lifespan", "off")
    with Client(service.port()) as kept:
        assert kept.get("/ready").body == b"ok"
        service.terminate()
        service.wait_for("^phase lame_duck")
        assert kept.get().says_close
    service.exit_code()
    assert "Traceback" not in service.output


def test_a_request_that_uvicorn_gives_up_ends_as_uvicorn_says(launch: Launch) -> None:
    """uvicorn's own --timeout-graceful-shutdown counts from the end of the lame duck."""
    service = launch.adopted("served:wrapped", "--lame-duck", "0.5", "--timeout-graceful-shutdown", "1")
    with Client(service.port()) as held:
        held.send("/hold", method="POST", body_to_come=4)
        service.wait_for("^holding")
        service.terminate()
        assert service.exit_code() == -signal.SIGTERM, service.output
    service.wait_for("^released database")
    assert service.phases == WHOLE_TIMELINE


EVENTS = """
import asyncio
from sse_starlette import EventSourceResponse
from starlette.applications import Starlette
from starlette.routing import Route
from served import *

async def events(request):
    async def endless():
        yield {"data": "first"}
        say("streaming")
        await asyncio.Event().wait()
    return EventSourceResponse(endless())

wrapped = runtime.wrap(Starlette(routes=[Route("/events", events)]))
"""


@pytest.mark.parametrize("how", ["owned", "adopted"])
def test_sse_starlette_ends_its_streams_when_the_lame_duck_is_over(launch: Launch, how: str) -> None:
    pytest.importorskip("sse_starlette", reason="sse-starlette is not installed")
    launch.write("events", EVENTS)
    service = getattr(launch, how)("events:wrapped", "--lame-duck", "0.5")
    with Client(service.port()) as client:
        client.send("/events")
        service.wait_for("^streaming")
        service.terminate()
        response = client.receive()
        # How it ends is sse-starlette's affair; without uvicorn's own word to it, it would not.
        assert response.body.startswith(b"data: first")
        service.wait_for("^phase draining")
    assert service.exit_code() == (0 if how == "owned" else -signal.SIGTERM), service.output
    assert service.phases == WHOLE_TIMELINE


def test_what_displaces_the_handler_does_not_make_a_circle(launch: Launch) -> None:
    """A library that takes SIGTERM and calls what it found."""
    launch.write(
        "displacing",
        """
import signal
from served import *

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        found = signal.getsignal(signal.SIGTERM)
        def theirs(signum, frame):
            say("theirs")
            found(signum, frame)
        signal.signal(signal.SIGTERM, theirs)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        return await send({"type": "lifespan.shutdown.complete"})
    await bare(scope, receive, send)

wrapped = runtime.wrap(app)
""",
    )
    for service, code in (
        (launch.owned("displacing:wrapped", "--lame-duck", "0.3"), 0),
        (launch.adopted("displacing:wrapped", "--lame-duck", "0.3"), -signal.SIGTERM),
    ):
        service.port()
        service.terminate()
        assert service.exit_code() == code, service.output
        assert service.phases == WHOLE_TIMELINE
        assert len(re.findall("^theirs", service.output, re.MULTILINE)) <= 1
        assert "RecursionError" not in service.output


def test_a_library_that_takes_sigterm_for_itself_is_named_and_ours_put_back(launch: Launch) -> None:
    launch.write(
        "displacing",
        """
import signal
from served import *

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        signal.signal(signal.SIGTERM, lambda signum, frame: say("theirs"))
        await send({"type": "lifespan.startup.complete"})
        await receive()
        return await send({"type": "lifespan.shutdown.complete"})
    await bare(scope, receive, send)

wrapped = runtime.wrap(app)
""",
    )
    service = launch.owned("displacing:wrapped", "--lame-duck", "0.3")
    service.wait_for("WARNING.*SIGTERM.*displacing")
    service.port()
    service.terminate()
    assert service.exit_code() == 0, service.output
    assert service.phases == WHOLE_TIMELINE


def test_a_release_that_cancels_all_tasks_does_not_cost_the_report(launch: Launch) -> None:
    launch.write(
        "cancelling",
        """
import asyncio
from served import *

@runtime.resource
async def cancels():
    yield
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
    await asyncio.sleep(0.01)

wrapped = runtime.wrap(bare)
""",
    )
    service = launch.adopted("cancelling:wrapped", "--lame-duck", "0.3")
    service.port()
    service.terminate()
    service.exit_code()
    assert re.search("SIGTERM: ended after .* s, not clean", service.output), service.output
