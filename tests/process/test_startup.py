"""A signal before the service serves: it never serves then, nothing more is started, and what was acquired is
released.
"""

from __future__ import annotations

import signal
import socket
import threading

import pytest

from tests.process.service import INTERRUPTED_STARTUP, WHOLE_TIMELINE, Launch

pytestmark = pytest.mark.contract


@pytest.mark.parametrize("how", ["owned", "adopted"])
@pytest.mark.parametrize("milliseconds", [30, 60, 100, 150, 200, 250, 300, 350, 400, 500, 700])
def test_at_any_moment_after_exec(launch: Launch, how: str, milliseconds: int) -> None:
    """Whatever the moment falls upon, the promise is the same: the time is no guess at what happens then."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        service = getattr(launch, how)(
            "served:wrapped", "--lame-duck", "0", "--fd", str(listener.fileno()), pass_fds=[listener.fileno()]
        )
        threading.Event().wait(milliseconds / 1000)
        service.terminate()
        code = service.exit_code()
    if how == "owned":
        # The signal's own default action is what comes before the first line of ours.
        assert code == 0 or (code == -signal.SIGTERM and service.output == ""), service.output
        assert "Traceback" not in service.output
    if "acquired" in service.output or "phase" in service.output:
        assert service.phases in (INTERRUPTED_STARTUP, WHOLE_TIMELINE), service.output
    assert service.output.count("acquired ") == service.output.count("released "), service.output
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, timeout=20)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_during_imports(launch: Launch, signum: int) -> None:
    launch.write(
        "importing",
        "import served\nserved.say('importing')\nserved.wait_for_line()\nfrom served import wrapped\n",
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        service = launch.owned(
            "importing:wrapped", "--fd", str(listener.fileno()), pass_fds=[listener.fileno()]
        )
        service.wait_for("^importing")
        service.signal(signum)
        service.tell()
        assert service.exit_code() == 0, service.output
    assert service.phases == INTERRUPTED_STARTUP
    assert "acquired" not in service.output
    assert "lifespan" not in service.output
    assert "Traceback" not in service.output


def test_before_the_app_is_imported(launch: Launch) -> None:
    """The handlers are in place before anything else is imported: here the first that is, is told to wait."""
    launch.write(
        "click",
        "import os, sys\nos.write(1, b'importing\\n')\nos.read(0, 1)\n"
        "sys.path.remove(os.path.dirname(__file__))\n"
        "del sys.modules['click']\nimport click\nsys.modules['click'] = click\n",
    )
    service = launch.owned("served:wrapped")
    service.wait_for("^importing")
    service.terminate()
    service.tell()
    assert service.exit_code() == 0, service.output
    assert service.phases == INTERRUPTED_STARTUP
    assert "acquired" not in service.output


@pytest.mark.parametrize("how", ["owned", "adopted"])
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_while_a_resource_is_acquired(launch: Launch, how: str, loop: str) -> None:
    launch.write(
        "acquiring",
        """
import asyncio
from served import *

@runtime.resource
async def broker():
    say("acquiring broker")
    await asyncio.Event().wait()
    say("not reached")
    yield

@runtime.resource
async def cache():
    say("not reached")
    yield
""",
    )
    service = getattr(launch, how)("acquiring:wrapped", "--loop", loop)
    service.wait_for("^acquiring broker")
    service.terminate()
    code = service.exit_code()
    assert code == 0 if how == "owned" else code != 0, service.output
    assert service.phases == INTERRUPTED_STARTUP
    assert "not reached" not in service.output
    assert "lifespan startup" not in service.output
    service.wait_for("^released database")
    assert "Traceback" not in service.output


def test_while_a_sync_resource_is_acquired(launch: Launch) -> None:
    launch.write(
        "acquiring",
        """
from served import *

@runtime.resource
def broker():
    say("acquiring broker")
    wait_for_line()
    say("acquired broker")
    yield
    say("released broker")
""",
    )
    service = launch.owned("acquiring:wrapped")
    service.wait_for("^acquiring broker")
    service.terminate()
    service.wait_for("^phase releasing")
    service.tell()
    assert service.exit_code() == 0, service.output
    assert service.output.count("acquired ") == service.output.count("released ") == 2, service.output


@pytest.mark.parametrize("how", ["owned", "adopted"])
def test_while_the_apps_lifespan_starts(launch: Launch, how: str) -> None:
    launch.write(
        "starting",
        """
import asyncio
from served import *

async def app(scope, receive, send):
    await receive()
    say("lifespan begins")
    try:
        await asyncio.Event().wait()
    finally:
        say("lifespan interrupted")

wrapped = runtime.wrap(app)
""",
    )
    service = getattr(launch, how)("starting:wrapped")
    service.wait_for("^lifespan begins")
    service.terminate()
    code = service.exit_code()
    assert code == 0 if how == "owned" else code != 0, service.output
    assert service.phases == INTERRUPTED_STARTUP
    service.wait_for("^lifespan interrupted")
    service.wait_for("^released database")


def test_while_the_loop_is_blocked_by_a_lifespan(launch: Launch) -> None:
    """It starts all the same, since it cannot be stopped; then it is stopped in order."""
    launch.write(
        "starting",
        """
from served import *

async def app(scope, receive, send):
    if scope["type"] != "lifespan": return await bare(scope, receive, send)
    await receive()
    say("lifespan begins")
    wait_for_line()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    say("lifespan shutdown")
    await send({"type": "lifespan.shutdown.complete"})

wrapped = runtime.wrap(app)
""",
    )
    service = launch.owned("starting:wrapped", "--lame-duck", "0")
    service.wait_for("^lifespan begins")
    service.terminate()
    service.tell()
    assert service.exit_code() == 0, service.output
    assert "Uvicorn running" not in service.output
    assert service.phases == INTERRUPTED_STARTUP
    service.wait_for("^lifespan shutdown")
    service.wait_for("^released database")


def test_a_startup_that_cannot_be_interrupted_is_ended_by_the_watchdog(launch: Launch) -> None:
    launch.write(
        "stuck",
        "from served import *\n@runtime.resource\nasync def stuck():\n"
        "    say('stuck')\n    wait_for_line()\n    yield\n",
    )
    service = launch.owned("stuck:wrapped", "--grace-period", "1", "--lame-duck", "0")
    service.wait_for("^stuck")
    service.terminate()
    assert service.exit_code() == 70, service.output


def test_imports_that_never_end_are_ended_by_the_watchdog(launch: Launch) -> None:
    launch.write("stuck", "from served import *\nsay('stuck')\nwait_for_line()\n")
    service = launch.owned(
        "stuck:wrapped", environment={"GRACEFUL_GRACE_PERIOD": "1", "GRACEFUL_LAME_DUCK": "0"}
    )
    service.wait_for("^stuck")
    service.terminate()
    assert service.exit_code() == 70, service.output


@pytest.mark.parametrize("count", [2, 50])
def test_many_signals_during_startup_are_one(launch: Launch, count: int) -> None:
    launch.write(
        "acquiring",
        "import asyncio\nfrom served import *\n@runtime.resource\nasync def broker():\n    say('acquiring')\n"
        "    await asyncio.Event().wait()\n    yield\n",
    )
    service = launch.owned("acquiring:wrapped")
    service.wait_for("^acquiring")
    for _ in range(count):
        service.terminate()
    assert service.exit_code() == 0, service.output
    assert service.phases == INTERRUPTED_STARTUP


@pytest.mark.parametrize("how", ["owned", "adopted"])
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_between_startup_and_the_listener(launch: Launch, how: str, loop: str) -> None:
    """The app has started, nobody listens yet: an older uvicorn that is told to leave now just goes."""
    launch.write(
        "impatient",
        "import os, signal\nfrom served import *\n@runtime.on_phase\ndef at_once(change):\n"
        "    if change.phase == 'serving':\n        os.kill(os.getpid(), signal.SIGTERM)\n",
    )
    host = ("--host", "localhost")  # a name is looked up on a thread, so that the listener takes its time
    service = getattr(launch, how)("impatient:wrapped", "--lame-duck", "0", "--loop", loop, *host)
    service.exit_code()
    assert service.phases == WHOLE_TIMELINE, service.output
    service.wait_for("^lifespan shutdown")
    service.wait_for("^released database")


def test_a_server_that_is_told_to_leave_while_it_imports_the_app(launch: Launch) -> None:
    """It has its handler by then, and we have not: nothing is started all the same."""
    launch.write(
        "importing",
        "import served\nserved.say('importing')\nserved.wait_for_line()\nfrom served import wrapped\n",
    )
    service = launch.adopted("importing:wrapped")
    service.wait_for("^importing")
    service.terminate()
    service.tell()
    assert service.exit_code() != 0
    assert "acquired" not in service.output
    assert "Uvicorn running" not in service.output
