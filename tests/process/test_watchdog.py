"""The watchdog against everything that stands in its way: the process ends before SIGKILL, with 70, and says
why.

The app is `blocking`; the grace periods are short, and generous in what the machine may be late.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.process.service import BOUND, WHOLE_TIMELINE, Client, Launch, Service

SHORT = ("--lame-duck", "0", "--grace-period", "3", "--exit-margin", "2")
NO_TIME_LIMIT = ("--lame-duck", "0", "--grace-period", "30")

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the second stage is Linux's")


@pytest.fixture(params=["asyncio", "uvloop"])
def loop(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def untraced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Services without coverage: on 3.11 a thread that is traced goes round in a circle, in C, when a signal
    comes while it runs and the main thread does not see to it.
    """
    for name in [name for name in os.environ if name.startswith("COVERAGE_")]:
        monkeypatch.delenv(name)


def wait_until_delivered(service: Service, signum: int) -> None:
    """The kernel joins a signal with one of its kind that is still pending."""
    until = time.monotonic() + BOUND
    pending = True
    while pending and time.monotonic() < until:
        masks: list[str] = []
        with contextlib.suppress(OSError):  # it has ended
            status = Path(f"/proc/{service.pid}/status").read_text()
            masks = re.findall(r"^ShdPnd:\t(\w+)", status, re.MULTILINE)
        pending = any(int(mask, 16) >> (signum - 1) & 1 for mask in masks)
    assert not pending


def wait_until_asleep(service: Service) -> None:
    """The main thread does nothing any more."""
    until = time.monotonic() + BOUND
    state = Path(f"/proc/{service.pid}/task/{service.pid}/stat")
    while ") S " not in state.read_text() and time.monotonic() < until:
        os.sched_yield()


def blocked(launch: Launch, way: str, *options: str, **given: str) -> tuple[Service, Client]:
    """A service whose event loop is about to stand in its own way; what `blocking` says has been said."""
    environment = {"GRACEFUL_TERMINATION_LOG": str(launch.cwd / "log"), **given}
    service = launch.owned("blocking:wrapped", *SHORT, *options, environment=environment)
    client = Client(service.port())
    client.send(f"/{way}?token=secret")
    service.wait_for("^(waiting|blocking)")
    return service, client


@pytest.mark.parametrize(
    ("way", "line"), [("sleep", "in <lambda>"), ("lock", "in in_lock"), ("released", "in locked_in_c")]
)
def test_a_main_thread_that_lets_others_run(launch: Launch, loop: str, way: str, line: str) -> None:
    """Its last words name the signal, what is in flight and the blocking line, and are in the log file."""
    service, client = blocked(launch, way, "--loop", loop)
    with client:
        service.terminate()
        assert service.exit_code() == 70, service.output
    service.wait_for(
        r"^CRITICAL: graceful: SIGTERM came \d\.\d s ago; the watchdog ends the process: .* 70\)$"
    )
    service.wait_for("in phase serving")
    service.wait_for(f"in flight: http GET /{way},")
    service.wait_for(rf"main thread: \S*blocking.py:\d+ {line}")
    assert "secret" not in service.output
    written = (launch.cwd / "log").read_text()
    assert written.startswith("SIGTERM came ")
    assert written.endswith("in phase serving, in flight: 1 http\nresources still held: database")


@pytest.mark.parametrize("way", ["regex", "held", "later/held"])
def test_c_code_that_holds_the_gil(launch: Launch, loop: str, way: str) -> None:
    """It took it before the signal, or 0.2 s after, or lets handlers run in between: the native stacks name
    the line.
    """
    service, client = blocked(launch, way, "--loop", loop)
    with client:
        service.terminate()
        if way.startswith("later"):
            service.wait_for("^blocking in held")
        assert service.exit_code() == 70, service.output
    service.wait_for(r'^  File ".*blocking.py", line \d+ in (locked_in_c|in_regex)')
    if way == "later/held":  # before the others nobody could write anything
        assert "the watchdog" in (launch.cwd / "log").read_text()


def test_two_hundred_signals_are_one_timeline(launch: Launch, loop: str) -> None:
    service = launch.owned("blocking:wrapped", *NO_TIME_LIMIT, "--loop", loop)
    with Client(service.port()) as held:
        held.send("/hold", method="POST", body_to_come=4)
        service.wait_for("^holding")
        for _ in range(200):
            service.terminate()
        service.signal(signal.SIGINT)
        service.terminate()
        service.wait_for("^phase draining")
        held.send_body(b"done")
        assert held.receive().body == b"held done"
    assert service.exit_code() == 0, service.output
    assert service.phases == WHOLE_TIMELINE
    assert service.output.count("released database") == 1


def test_a_process_that_was_stopped_ends_when_it_goes_on(launch: Launch, loop: str) -> None:
    """The deadline has passed meanwhile."""
    service = launch.owned("blocking:wrapped", "--lame-duck", "0", "--grace-period", "1", "--loop", loop)
    with Client(service.port()) as held:
        held.send("/hold", method="POST", body_to_come=4)
        service.wait_for("^holding")
        service.terminate()
        service.wait_for("^phase draining")
        service.signal(signal.SIGSTOP)
        with pytest.raises(subprocess.TimeoutExpired):
            service.process.wait(1.5)
        service.signal(signal.SIGCONT)
        assert service.exit_code() == 70, service.output
    assert service.output.count("released database") == 0


@pytest.mark.parametrize(("way", "code"), [("segfault", -signal.SIGSEGV), ("exit", 7)])
def test_an_end_of_its_own_keeps_its_code(launch: Launch, way: str, code: int) -> None:
    """In the middle of the shutdown; the file says that it did not finish."""
    service, client = blocked(launch, f"later/{way}")
    with client:
        service.terminate()
        assert service.exit_code() == code, service.output
    assert (launch.cwd / "log").read_text().startswith("SIGTERM: the shutdown did not finish: ")


FULL = """
import os
read, write = os.pipe()
os.dup2(write, 2)
os.set_blocking(2, False)
try:
    while True:
        os.write(2, b"x" * 4096)
except BlockingIOError:
    os.set_blocking(2, True)
"""
CLOSED = "import os\nos.close(2)"
FULL_DISK = "import os\nos.dup2(os.open('/dev/full', os.O_WRONLY), 2)"


@pytest.mark.parametrize("way", ["sleep", "later/held"])
@pytest.mark.parametrize("stderr", [FULL, CLOSED, FULL_DISK], ids=["full", "closed", "full disk"])
def test_standard_error_that_takes_nothing(launch: Launch, way: str, stderr: str) -> None:
    """Neither the words nor the native stacks hold up the end."""
    launch.write("silent", f"{stderr}\nfrom blocking import wrapped\n")
    place = launch.cwd / "socket"
    environment = {"GRACEFUL_TERMINATION_LOG": str(launch.cwd / "log")}
    options = (*SHORT, "--log-level", "critical", "--uds", str(place))
    service = launch.owned("silent:wrapped", *options, environment=environment)
    service.wait_for("^phase serving")
    with Client(place) as client:
        client.send(f"/{way}")
        service.wait_for("^(waiting|blocking)")
        service.terminate()
        assert service.exit_code() == 70, service.output
    assert "the watchdog" in (launch.cwd / "log").read_text()


def test_a_service_without_standard_error(launch: Launch) -> None:
    """Closed from the start: its number is that of something else then, which gets no words."""
    place = launch.cwd / "socket"
    command = [sys.executable, "-m", "graceful", "run", "blocking:wrapped", *SHORT, "--uds", str(place)]
    service = launch.python("-c", f"import os\nos.close(2)\nos.execv({sys.executable!r}, {command})")
    service.wait_for("^phase serving")
    with Client(place) as client:
        client.send("/sleep")
        service.wait_for("^blocking")
        service.terminate()
        assert service.exit_code() == 70, service.output
    assert "CRITICAL" not in service.output


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize(
    ("signums", "code", "said"),
    [
        ([signal.SIGINT] * 3, 130, "third SIGINT: exits at once"),
        ([signal.SIGQUIT], 131, "SIGQUIT: exits at once"),
    ],
    ids=["SIGINT", "SIGQUIT"],
)
def test_who_wants_it_at_once_is_heard(
    launch: Launch, loop: str, signums: list[signal.Signals], code: int, said: str
) -> None:
    """Although the main thread is in C code, and no handler of Python's runs."""
    service = launch.owned("blocking:wrapped", *NO_TIME_LIMIT, "--loop", loop)
    with Client(service.port()) as client:
        client.send("/released")
        service.wait_for("^blocking")
        wait_until_asleep(service)
        for signum in signums:
            service.signal(signum)
            wait_until_delivered(service, signum)
        assert service.exit_code() == code, service.output
    service.wait_for(rf"^CRITICAL: graceful: {signums[0].name} came \d\.\d s ago.*{said} .exit code {code}.$")
    service.wait_for(r"main thread: \S+:\d+ in ")


CROWDED = """
import asyncio, concurrent.futures, threading
import blocking
from served import *

executor = concurrent.futures.ThreadPoolExecutor(400)
begun = threading.Barrier(301)

def work():
    begun.wait()
    blocking.in_lock()

async def one():
    await asyncio.get_running_loop().run_in_executor(executor, work)

async def app(scope, receive, send):
    if scope.get("path") == "/crowd":
        tasks = [runtime.create_task(one(), name=f"task {number}") for number in range(300)]
        await asyncio.sleep(0)
        begun.wait()
        say("crowded")
        blocking.in_lock()
    else:
        await blocking.app(scope, receive, send)

wrapped = runtime.wrap(app)
"""


def test_the_last_words_name_who_stands_where_in_a_crowd(launch: Launch, loop: str) -> None:
    """To look at each of three hundred threads for each of as many tasks would take longer than they may."""
    launch.write("crowded", CROWDED)
    service = launch.owned("crowded:wrapped", *SHORT, "--exit-margin", "2", "--loop", loop)
    with Client(service.port()) as client:
        client.send("/crowd")
        service.wait_for("^crowded")
        service.terminate()
        assert service.exit_code() == 70, service.output
    service.wait_for(r"^    in flight: task task 0, \d\.\d s old, at \S+/blocking\.py:\d+ in in_lock")
    service.wait_for(r"^    in flight: and 281 more")
    service.wait_for(r"^    still there: thread \S+, at \S+/blocking\.py:\d+ in in_lock", times=20)
    service.wait_for(r"^    still there: and 280 more like the last")


FORKING = """
import asyncio, multiprocessing, sys, warnings
import blocking
from served import *
warnings.simplefilter("ignore")

def child():
    say(f"child {signal.getsignal(signal.SIGTERM) is signal.SIG_DFL} {signal.set_wakeup_fd(-1)}")

async def app(scope, receive, send):
    if scope["type"] == "http" and scope["path"] == "/fork":
        process = multiprocessing.get_context("fork").Process(target=child)
        process.start()
        process.join()
        pid = os.fork()
        if pid == 0:
            os._exit(3)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        await answer(send, f"{process.exitcode} {code}".encode())
    else:
        await blocking.app(scope, receive, send)

wrapped = runtime.wrap(app)
"""


def test_forked_children_share_nothing_and_the_watch_goes_on(launch: Launch, loop: str) -> None:
    launch.write("forking", FORKING)
    service = launch.owned("forking:wrapped", *SHORT, "--loop", loop)
    with Client(service.port()) as client:
        assert client.get("/fork").body == b"0 3", service.output
        service.wait_for("^child True -1")
        client.send("/held")
        service.wait_for("^blocking")
        service.terminate()
        assert service.exit_code() == 70, service.output
    assert "Fatal Python error" not in service.output


HANDLING = """
import asyncio
import blocking
from served import *

def heard():
    say("heard a hangup")

async def app(scope, receive, send):
    loop = asyncio.get_running_loop()
    if scope["type"] == "lifespan":
        loop.add_signal_handler(signal.SIGHUP, heard)
    if scope.get("path") == "/again":
        loop.remove_signal_handler(signal.SIGHUP)
        loop.add_signal_handler(signal.SIGHUP, heard)
        await asyncio.sleep(1.5)  # it is looked at each second
    await blocking.app(scope, receive, send)

wrapped = runtime.wrap(app)
"""


def test_handlers_that_the_loop_calls_are_called(launch: Launch, loop: str) -> None:
    """A loop's own signals come by the same descriptor; also those that are added when it serves."""
    launch.write("handling", HANDLING)
    service = launch.owned("handling:wrapped", *SHORT, "--loop", loop)
    with Client(service.port()) as client:
        service.signal(signal.SIGHUP)
        service.wait_for("^heard a hangup")
        client.get("/again")
        service.signal(signal.SIGHUP)
        service.wait_for("^heard a hangup", times=2)
        client.send("/released")
        service.wait_for("^blocking")
        service.signal(signal.SIGHUP)
        service.terminate()
        assert service.exit_code() == 70, service.output


def test_who_is_heard_while_c_code_holds_the_gil_does_not_hide_the_end(launch: Launch, loop: str) -> None:
    launch.write("handling", HANDLING)
    service = launch.owned("handling:wrapped", *SHORT, "--loop", loop)
    with Client(service.port()) as client:
        client.send("/held")
        service.wait_for("^blocking")
        wait_until_asleep(service)
        for signum in (signal.SIGHUP, signal.SIGHUP, signal.SIGTERM):
            service.signal(signum)
            wait_until_delivered(service, signum)
        assert service.exit_code() == 70, service.output
    assert "heard a hangup" not in service.output


SPAWNING = """
import asyncio, sys
from served import *

async def app(scope, receive, send):
    if scope["type"] == "http":
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", "exit(5)")
        await answer(send, str(await process.wait()).encode())
    else:
        await bare(scope, receive, send)

wrapped = runtime.wrap(app)
"""


def test_subprocesses_of_asyncio_end(launch: Launch, loop: str) -> None:
    launch.write("spawning", SPAWNING)
    service = launch.owned("spawning:wrapped", "--lame-duck", "0", "--loop", loop)
    with Client(service.port()) as client:
        assert [client.get().body for _ in range(3)] == [b"5"] * 3
    service.terminate()
    assert service.exit_code() == 0, service.output


LIVING = """
import asyncio, faulthandler, sys, threading
import blocking
from served import *

def timers():
    with open("/proc/self/timers") as lines:
        return sum(line.startswith("ID:") for line in lines)

def state():
    # What the watchdog might leave behind, but for the idle thread that glibc makes for the first timer.
    with open("/proc/self/status") as lines:
        caught = [line for line in lines if line.startswith("SigCgt")]
    fd = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(fd)
    threads = sorted(thread.name for thread in threading.enumerate())
    return threads, caught, fd, timers(), len(os.listdir("/proc/self/fd"))

async def stop_when_serving():
    while runtime.phase != "serving":
        await asyncio.sleep(0.01)
    while timers() != 4:  # they are made on a thread
        await asyncio.sleep(0.01)
    os.kill(os.getpid(), signal.SIGTERM)

async def main():
    heard = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, heard.set)
    with open("stacks", "w+") as stacks:
        faulthandler.dump_traceback_later(60, file=stacks)  # the user's timer stays the user's
        before = state()
        for run in range(2):
            stopping = asyncio.create_task(stop_when_serving())
            report = await runtime.serve(bare, port=0, log_config=None)
            await stopping
            assert report.outcome == "clean", report
            await asyncio.sleep(0)
            if run == 0:
                assert state()[:-1] == before[:-1], (before, state())
                before = state()  # uvloop keeps a descriptor of its own from its first server on
            assert state() == before, (before, state())
        faulthandler.cancel_dump_traceback_later()
    os.kill(os.getpid(), signal.SIGHUP)
    await heard.wait()
    say("lives on")

if sys.argv[1] == "uvloop":
    import uvloop
    uvloop.run(main())
else:
    asyncio.run(main())
"""


def test_a_process_that_lives_on_keeps_nothing(launch: Launch, loop: str) -> None:
    """No timer, thread, interpreter, handler, descriptor of ours, and the loop has its own back."""
    launch.write("living", LIVING)
    service = launch.python("living.py", loop, environment={"GRACEFUL_LAME_DUCK": "0"})
    assert service.exit_code() == 0, service.output
    service.wait_for("^lives on")


@pytest.mark.parametrize("way", ["released", "held"])
def test_an_adopted_server_is_watched_as_well(launch: Launch, loop: str, way: str) -> None:
    service = launch.adopted("blocking:wrapped", *SHORT, "--loop", loop)
    with Client(service.port()) as client:
        client.send(f"/{way}")
        service.wait_for("^blocking")
        service.terminate()
        assert service.exit_code() == 70, service.output


def test_an_adopted_server_ends_in_its_own_way(launch: Launch, loop: str) -> None:
    """With its interpreter torn down."""
    service = launch.adopted("blocking:wrapped", "--lame-duck", "0", "--loop", loop, "--workers", "2")
    service.wait_for("^phase serving", times=2)
    service.terminate()
    assert service.exit_code() == 0, service.output
    assert "Fatal" not in service.output
    assert service.output.count("released database") == 2


def test_where_the_interpreter_is_torn_down(launch: Launch) -> None:
    launch.write("full", "from served import *\nruntime.run(wrapped, port=0, exit='full')\n")
    service = launch.python("full.py", environment={"GRACEFUL_LAME_DUCK": "0"})
    service.port()
    service.terminate()
    assert service.exit_code() == 0, service.output
    assert "Fatal" not in service.output
