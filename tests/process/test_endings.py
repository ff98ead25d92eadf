"""How a process that we own ends: its exit code, and what has been run, flushed and named by then."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.process.service import WHOLE_TIMELINE, Client, Launch

pytestmark = pytest.mark.contract

SHORT = ("--lame-duck", "0", "--grace-period", "6", "--release-timeout", "0.5", "--exit-margin", "0.5")


def test_a_clean_end_is_0_and_atexit_has_run(launch: Launch) -> None:
    service = launch.owned("served:wrapped", *SHORT)
    service.port()
    service.terminate()
    assert service.exit_code() == 0
    assert service.output.rstrip().endswith("atexit")


def test_exit_by_signal(launch: Launch) -> None:
    service = launch.owned("served:wrapped", *SHORT, "--exit-by-signal", "true")
    service.port()
    service.terminate()
    assert service.exit_code() == -signal.SIGTERM
    assert service.output.rstrip().endswith("atexit")


def test_buffered_output_is_written(launch: Launch) -> None:
    """To a pipe, and to a file: both are buffered in blocks."""
    script = """
import sys
from served import *

@atexit.register
def last():
    print("a line without an end", end="")

kept = sys.stdout
if len(sys.argv) > 1:
    sys.stdout = kept = open(sys.argv[1], "w")
runtime.run(wrapped, port=0, log_config=None)  # the end of logging would flush what its handlers write to
"""
    launch.write("script", script)
    service = launch.python("script.py", environment={"GRACEFUL_LAME_DUCK": "0"})
    service.wait_for("^phase serving")
    service.terminate()
    assert service.exit_code() == 0
    assert service.output.endswith("a line without an end")
    file = launch.cwd / "standard_output"
    service = launch.python("script.py", str(file), environment={"GRACEFUL_LAME_DUCK": "0"})
    service.wait_for("^phase serving")
    service.terminate()
    assert service.exit_code() == 0
    assert file.read_text() == "a line without an end"


def test_a_request_that_outlasts_the_drain_is_cut_off_and_named(launch: Launch) -> None:
    service = launch.owned("served:wrapped", *SHORT, "--drain-timeout", "0.4")
    port = service.port()
    with Client(port) as held, Client(port) as streamed:
        held.send("/hold", method="POST", body_to_come=4)
        streamed.send("/stream?token=secret", method="POST", body_to_come=4)
        service.wait_for("^holding")
        service.wait_for("^streaming")
        service.terminate()
        response = held.receive()
        assert (response.status, response.says_close) == (503, True)
        assert not streamed.receive().whole
    assert service.exit_code() == 75
    assert service.phases == WHOLE_TIMELINE
    service.wait_for(r"cut off: http POST /hold, .* at \S+:\d+ in ")
    service.wait_for("cut off: http POST /stream")
    assert "ASGI callable returned" not in service.output  # uvicorn knows that nobody listens any more
    assert "secret" not in service.output.split("phase releasing")[1]
    service.wait_for("^released database")


def test_what_swallows_its_cancellation_does_not_hold_up_the_exit(launch: Launch) -> None:
    service = launch.owned("served:wrapped", *SHORT, "--drain-timeout", "0.3")
    with Client(service.port()) as client:
        client.send("/never")
        service.wait_for("^never")
        service.terminate()
        assert service.exit_code() == 75
    service.wait_for("left behind.*GET /never")
    service.wait_for("^released database")


def test_a_blocked_loop_is_ended_by_the_watchdog(launch: Launch) -> None:
    service = launch.owned("served:wrapped", "--lame-duck", "0", "--grace-period", "1")
    with Client(service.port()) as client:
        client.send("/block")
        service.wait_for("^blocking")
        service.terminate()
        assert service.exit_code() == 70
    service.wait_for("watchdog")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("raise RuntimeError('no way back')", "RuntimeError.*no way back"),
        ("await asyncio.Event().wait()", "broker TIMED OUT"),
        ("yield", "broker"),
    ],
    ids=["raises", "hangs", "yields twice"],
)
def test_a_resource_that_fails_to_release_is_named(launch: Launch, body: str, said: str) -> None:
    launch.write(
        "failing",
        "import asyncio\nfrom served import *\n@runtime.resource\nasync def broker():\n"
        f"    say('acquired broker')\n    yield\n    {body}\n",
    )
    service = launch.owned("failing:wrapped", *SHORT)
    service.port()
    service.terminate()
    assert service.exit_code() == 75, service.output
    service.wait_for(said)
    service.wait_for("^released database")
    assert service.phases == WHOLE_TIMELINE


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
    say("lifespan shutdown")
    await asyncio.Event().wait()

wrapped = runtime.wrap(app)
""",
    )
    service = launch.owned("ending:wrapped", "--lame-duck", "0", "--grace-period", "3")
    service.port()
    service.terminate()
    assert service.exit_code() == 75, service.output
    service.wait_for("app lifespan TIMED OUT")
    service.wait_for("^released database")


@pytest.mark.parametrize(
    ("begin", "named"),
    [
        (
            "threading.Thread(target=stuck, name='a-stuck-thread').start()",
            r"thread a-stuck-thread at \S+ in ",
        ),
        ("asyncio.get_running_loop().run_in_executor(None, stuck)", r"thread .* at \S+ in "),
        ("ThreadPoolExecutor(thread_name_prefix='pool').submit(stuck)", r"thread pool_0 at \S+ in "),
        ("atexit.register(stuck)", "an atexit callback"),
    ],
    ids=["thread", "executor", "pool", "atexit"],
)
def test_what_hangs_at_exit_is_named_and_left_behind(launch: Launch, begin: str, named: str) -> None:
    launch.write(
        "leaving",
        f"""
import asyncio, atexit, threading
from concurrent.futures import ThreadPoolExecutor
from served import *

def stuck():
    threading.Event().wait()

@runtime.resource
async def worker():
    {begin}
    yield
""",
    )
    service = launch.owned(
        "leaving:wrapped", "--lame-duck", "0", "--grace-period", "4", "--release-timeout", "0.2"
    )
    service.port()
    service.terminate()
    assert service.exit_code() == 75, service.output
    service.wait_for(f"left behind at exit: .*{named}")
    assert service.phases == WHOLE_TIMELINE


def test_a_thread_that_ends_in_time_is_waited_for(launch: Launch) -> None:
    launch.write(
        "leaving",
        """
import threading
from served import *

def work():
    runtime.stopping.wait()
    wait_for_line()
    say("thread has ended")

@runtime.resource
async def worker():
    threading.Thread(target=work).start()
    yield
""",
    )
    service = launch.owned("leaving:wrapped", "--lame-duck", "0")
    service.port()
    service.terminate()
    service.wait_for("^phase stopped")
    service.tell()
    assert service.exit_code() == 0, service.output
    assert service.output.index("thread has ended") < service.output.index("atexit")


def test_sigint_at_a_terminal_has_no_lame_duck(launch: Launch) -> None:
    service = launch.owned("served:wrapped", "--lame-duck", "15", terminal=True)
    service.port()
    service.type_interrupt()
    assert service.exit_code() == 0, service.output
    assert "SIGINT: no lame duck" in service.output
    assert service.phases == WHOLE_TIMELINE
    assert "Traceback" not in service.output


def test_sigterm_at_a_terminal_has_one(launch: Launch) -> None:
    service = launch.owned("served:wrapped", "--lame-duck", "0.5", terminal=True)
    service.port()
    service.terminate()
    assert service.exit_code() == 0, service.output
    assert "SIGTERM: lame duck for 0." in service.output


def test_sigint_elsewhere_has_one(launch: Launch) -> None:
    """Fly.io and Nomad stop services with it."""
    service = launch.owned("served:wrapped", "--lame-duck", "0.5")
    service.port()
    service.signal(signal.SIGINT)
    assert service.exit_code() == 0, service.output
    assert "SIGINT: lame duck for 0." in service.output


def test_a_second_sigint_cancels_what_is_in_flight(launch: Launch) -> None:
    service = launch.owned("served:wrapped", terminal=True)
    with Client(service.port()) as held:
        held.send("/hold", method="POST", body_to_come=4)
        service.wait_for("^holding")
        service.type_interrupt()
        service.wait_for("^phase draining")
        service.type_interrupt()
        assert held.receive().status == 503
        assert service.exit_code() == 130, service.output
    service.wait_for("^released database")
    assert service.phases == WHOLE_TIMELINE


def test_a_second_sigint_ends_the_lame_duck(launch: Launch) -> None:
    service = launch.owned("served:wrapped", "--lame-duck", "15")
    service.port()
    service.signal(signal.SIGINT)
    service.wait_for("^phase lame_duck")
    service.signal(signal.SIGINT)
    assert service.exit_code() == 130, service.output
    assert service.phases == WHOLE_TIMELINE


def test_a_third_sigint_exits_at_once(launch: Launch) -> None:
    launch.write(
        "hanging",
        "import asyncio\nfrom served import *\n@runtime.resource\nasync def broker():\n    yield\n"
        "    say('hanging')\n    await asyncio.Event().wait()\n",
    )
    service = launch.owned("hanging:wrapped", terminal=True)
    with Client(service.port()) as held:
        held.send("/hold", method="POST", body_to_come=4)
        service.wait_for("^holding")
        service.type_interrupt()
        service.wait_for("^phase draining")
        service.type_interrupt()
        assert held.receive().status == 503
    service.wait_for("^hanging")
    service.type_interrupt()
    assert service.exit_code() == 130, service.output
    assert "released database" not in service.output


def test_sigquit_names_who_is_in_the_way_and_exits_at_once(launch: Launch) -> None:
    service = launch.owned("served:wrapped", "--lame-duck", "15")
    with Client(service.port()) as held:
        held.send("/hold", method="POST", body_to_come=4)
        service.wait_for("^holding")
        service.signal(signal.SIGQUIT)
        assert service.exit_code() == 131, service.output
    service.wait_for("POST /hold")


def test_run_in_full_tears_the_interpreter_down(launch: Launch) -> None:
    launch.write(
        "script",
        "from served import *\ntry:\n    runtime.run(wrapped, port=0, exit='full')\n"
        "except SystemExit as leaving:\n"
        "    say(f'leaves with {leaving.code}')\n    raise\n",
    )
    service = launch.python("script.py", environment={"GRACEFUL_LAME_DUCK": "0"})
    service.port()
    service.terminate()
    assert service.exit_code() == 0
    service.wait_for("^leaves with 0")
    assert service.output.count("atexit") == 1


def test_serve_in_a_running_loop_leaves_the_process_as_it_was(launch: Launch) -> None:
    launch.write(
        "script",
        """
import asyncio, signal
from served import *

async def main():
    before = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)]
    for _ in range(2):
        report = await runtime.serve(wrapped, port=0)
        say(f"served until {report.reason}, exit code {int(report.exit_code)}")
    after = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)]
    say(f"handlers are {'as they were' if before == after else after}")

asyncio.run(main())
say("goes on")
""",
    )
    service = launch.python("script.py", environment={"GRACEFUL_LAME_DUCK": "0"})
    for turn in (1, 2):
        port = int(service.wait_for(r"Uvicorn running on http://[\d.]+:(\d+)", times=turn)[1])
        with Client(port) as client:
            assert client.get().body == b"hello"
        service.terminate()
        service.wait_for("^served until SIGTERM, exit code 0", times=turn)
    assert service.exit_code() == 0
    service.wait_for("^handlers are as they were")
    service.wait_for("^goes on")
    assert service.phases == WHOLE_TIMELINE * 2


FOUND_HANDLERS = """
import atexit, os, signal, sys, time
from served import *

def of_the_script(signum, frame):
    say(f"handler of {signal.Signals(signum).name} in phase {runtime.phase}")
    if sys.argv[1] == "raises":
        sys.exit(9)
    if sys.argv[1] == "hangs":
        time.sleep(3600)

for each in (signal.SIGTERM, signal.SIGHUP):
    signal.signal(each, of_the_script)
atexit.register(say, "atexit")
runtime.run(wrapped, port=0)
"""


@pytest.mark.parametrize(("does", "code"), [("returns", 0), ("raises", 0), ("hangs", 75)])
def test_handlers_of_the_script_are_called_when_all_is_done(launch: Launch, does: str, code: int) -> None:
    """Once, in the end: they may be used to ending the process."""
    launch.write("script", FOUND_HANDLERS)
    service = launch.python(
        "script.py", does, environment={"GRACEFUL_LAME_DUCK": "0", "GRACEFUL_GRACE_PERIOD": "5"}
    )
    service.port()
    service.terminate()
    service.terminate()
    assert service.exit_code() == code, service.output
    assert service.phases == WHOLE_TIMELINE
    assert service.output.count("handler of SIGTERM in phase") == 1
    service.wait_for("^handler of SIGTERM in phase stopped")
    if does == "raises":
        service.wait_for("the earlier handler of SIGTERM raised")
    if does == "hangs":
        service.wait_for("left behind at exit: a signal handler that was there before ours")
    else:
        service.wait_for("^atexit")


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_forked_child_inherits_nothing(launch: Launch, loop: str) -> None:
    service = launch.owned("served:wrapped", "--lame-duck", "0", "--loop", loop)
    with Client(service.port()) as client:
        assert int(client.get("/fork").body) == -signal.SIGTERM
        assert client.get("/ready").body == b"ok"  # the parent has not heard of it
    service.wait_for("^child has <Handlers.SIG_DFL: 0> and wakeup fd -1")
    assert service.phases == ["serving"]
    service.terminate()
    assert service.exit_code() == 0


def test_a_closed_standard_error_does_not_hold_up_the_exit(launch: Launch, tmp_path: Path) -> None:
    """Nobody reads the pipe any more, or nobody ever has: the process still ends."""
    launch.write("silent", "import os, sys\nos.close(2)\nfrom served import *\n")
    service = launch.owned("silent:wrapped", "--lame-duck", "0", "--uds", str(tmp_path / "s"))
    service.wait_for("^phase serving")
    service.terminate()
    service.exit_code()
    assert service.phases == WHOLE_TIMELINE
    assert not (tmp_path / "s").exists()
