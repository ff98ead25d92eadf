"""The end of a process that is ours, in processes of their own: what still runs, what is left behind, and the
code.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
import time

import pytest

from graceful.ending import Ending
from graceful.reports import ExitCode

PRELUDE = """
import asyncio, atexit, logging, os, sys, threading, time
from graceful.ending import Ending
from graceful.reports import ExitCode

logging.basicConfig(format="%(message)s", stream=sys.stderr)
ending = Ending()

def within(seconds):
    ending.deadline = time.monotonic() + seconds

def end(code=ExitCode.OK, exit="fast", exit_by_signal=False):
    ending.join_threads()
    ending.end_process(code, exit=exit, exit_by_signal=exit_by_signal)

def hang():
    threading.Event().wait()
"""


def run(code: str, *options: str) -> subprocess.CompletedProcess[str]:
    """A child whose output is a pipe, and so is not flushed by the line. A hang is a failure."""
    program = PRELUDE + textwrap.dedent(code)
    return subprocess.run(
        [sys.executable, *options, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("code", ["OK", "FAILED", "USAGE", "CUT_OFF", "INTERRUPTED"])
@pytest.mark.parametrize("exit_", ["fast", "full"])
def test_atexit_runs_streams_are_flushed_and_the_code_is_the_code(code: str, exit_: str) -> None:
    done = run(f"""
        atexit.register(print, "first registered")
        atexit.register(print, "last registered")
        print("buffered")
        sys.stderr.write("no end of line")
        end(ExitCode.{code}, exit={exit_!r})
    """)
    assert done.returncode == int(ExitCode[code])
    assert done.stdout.splitlines() == ["buffered", "last registered", "first registered"]
    assert done.stderr == "no end of line"


def test_the_interpreter_is_not_torn_down_unless_asked() -> None:
    """A finalizer of a module's global runs in a whole teardown only."""
    code = """
        class Last:
            def __del__(self): os.write(1, b"torn down")
        last = Last()
        end(exit=EXIT)
    """
    assert run(code.replace("EXIT", "'fast'")).stdout == ""
    assert run(code.replace("EXIT", "'full'")).stdout == "torn down"


def test_a_thread_that_ends_in_time_is_waited_for() -> None:
    done = run("""
        within(30)
        go = threading.Event()
        threading.Thread(target=lambda: (go.wait(), print("the thread has ended"))).start()
        threading.Thread(target=go.set, daemon=True).start()
        end()
    """)
    assert (done.returncode, done.stdout) == (0, "the thread has ended\n"), done.stderr


@pytest.mark.parametrize("deadline", [0.2, -10.0])
def test_a_hanging_thread_is_left_behind_and_named(deadline: float) -> None:
    done = run(f"""
        within({deadline})
        threading.Thread(target=hang, name="reader").start()
        atexit.register(print, "atexit")
        end()
    """)
    assert (done.returncode, done.stdout) == (75, "atexit\n")
    assert done.stderr.startswith("left behind at exit: thread reader at ")
    assert " in wait" in done.stderr


def test_a_daemon_thread_is_not_waited_for() -> None:
    done = run("""
        within(30)
        threading.Thread(target=hang, daemon=True).start()
        began = time.monotonic()
        atexit.register(lambda: print(time.monotonic() - began < 15))
        end()
    """)
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")


def test_many_hanging_threads_share_the_time() -> None:
    done = run("""
        within(0.1)
        for number in range(200):
            threading.Thread(target=hang).start()
        began = time.monotonic()
        atexit.register(lambda: print(time.monotonic() - began < 5))
        end()
    """)
    assert (done.returncode, done.stdout) == (75, "True\n")
    assert done.stderr.count("left behind at exit: thread ") == 20
    assert done.stderr.count("more like the last") == 1


@pytest.mark.parametrize(("job", "code"), [("print('done')", 0), ("hang()", 75)])
def test_a_job_of_an_executor(job: str, code: int) -> None:
    """Idle workers are told to end; they would wait for work for ever."""
    done = run(f"""
        from concurrent.futures import ThreadPoolExecutor
        within({5 if code else 30})
        if {code}: within(0.2)
        pool = ThreadPoolExecutor(2)
        begun = threading.Event()
        pool.submit(lambda: None).result()
        pool.submit(lambda: (begun.set(), {job}))
        begun.wait()
        end()
    """)
    assert done.returncode == code, done.stderr
    assert ("left behind at exit: thread ThreadPoolExecutor" in done.stderr) is bool(code)
    assert done.stdout == ("" if code else "done\n")


def test_a_hanging_atexit_callback_is_left_behind() -> None:
    done = run("""
        within(0.2)
        atexit.register(print, "never reached: it was registered before the one that hangs")
        atexit.register(hang)
        end()
    """)
    assert (done.returncode, done.stderr) == (75, "left behind at exit: an atexit callback\n")


def test_a_failure_stays_a_failure_whatever_hangs() -> None:
    done = run("""
        within(0.2)
        atexit.register(hang)
        threading.Thread(target=hang).start()
        end(ExitCode.FAILED)
    """)
    assert done.returncode == 1
    assert done.stderr.count("left behind") == 2


def test_an_atexit_callback_that_raises_is_the_interpreters_to_tell() -> None:
    done = run("""
        atexit.register(print, "the next one")
        atexit.register(lambda: 1 / 0)
        end()
    """)
    assert (done.returncode, done.stdout) == (0, "the next one\n")
    assert "ZeroDivisionError" in done.stderr


def test_a_full_pipe_at_the_end() -> None:
    """The reader of our output is alive and does not read."""
    done = run("""
        within(0.2)
        reader, writer = os.pipe()
        sys.stdout = os.fdopen(writer, "w", buffering=2**22)
        sys.stdout.write("x" * 2**21)
        end()
    """)
    assert (done.returncode, done.stderr) == (75, "left behind at exit: flushing the standard streams\n")


def test_where_no_thread_can_be_started_any_more() -> None:
    """A container's limit of processes is reached, or its memory's end."""
    done = run("""
        def refuse(thread):
            raise RuntimeError("can't start new thread")

        within(30)
        atexit.register(print, "atexit")
        threading.Thread.start = refuse
        ending.call_handlers = lambda: print("handlers")
        end(7)
    """)
    assert (done.returncode, done.stdout, done.stderr) == (7, "handlers\natexit\n", "")


def test_a_closed_stream_is_no_failure() -> None:
    done = run("sys.stdout.close(); end()")
    assert (done.returncode, done.stderr) == (0, "")


def test_without_a_deadline_a_hang_is_bounded_too() -> None:
    """Nobody has sent a signal: the service could not start."""
    done = run("""
        import graceful.ending
        graceful.ending._UNHURRIED_SECONDS = 0.1
        threading.Thread(target=hang).start()
        end(ExitCode.FAILED)
    """)
    assert (done.returncode, done.stderr.count("left behind")) == (1, 1)


def test_exit_by_signal() -> None:
    assert run("print('flushed'); end(exit_by_signal=True)").returncode == -15
    assert run("print('flushed'); end(exit_by_signal=True)").stdout == "flushed\n"
    assert run("end(ExitCode.CUT_OFF, exit_by_signal=True)").returncode == 75


def test_the_loop_is_wound_up() -> None:
    done = run("""
        async def items():
            try:
                yield 1
            finally:
                print("generator closed")

        async def sleeper():
            try:
                await asyncio.Event().wait()
            finally:
                print("task cancelled")

        async def main():
            global task, generator
            task = asyncio.ensure_future(sleeper())
            generator = items()
            await anext(generator)
            return "result"

        within(30)
        print(ending.run(main(), None))
        end()
    """)
    assert (done.returncode, done.stdout.splitlines()) == (
        0,
        ["task cancelled", "generator closed", "result"],
    )


@pytest.mark.parametrize("exit_", ["fast", "full"])
def test_a_task_that_does_not_accept_its_cancellation(exit_: str) -> None:
    done = run(f"""
        async def stubborn():
            while True:
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    pass

        async def main():
            global task
            task = asyncio.get_running_loop().create_task(stubborn(), name="stubborn")
            await asyncio.sleep(0)

        within(0.2)
        ending.run(main(), None)
        end(exit={exit_!r})
    """)
    assert done.returncode == 75
    assert done.stderr.startswith("left behind at exit: task stubborn at ")


def test_what_main_raises_comes_out_after_the_cleanup() -> None:
    log: list[str] = []

    async def sleeper() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            log.append("cancelled")

    async def main() -> None:
        tasks.append(asyncio.ensure_future(sleeper()))
        await asyncio.sleep(0)
        raise ZeroDivisionError

    tasks: list[asyncio.Task[None]] = []
    ending = Ending()
    ending.deadline = time.monotonic() + 30
    with pytest.raises(ZeroDivisionError):
        ending.run(main(), None)
    assert log == ["cancelled"]
    assert ending._loop is not None
    assert not ending._loop.is_closed(), "what is left behind may still use it"
    ending._loop.close()


def test_an_asynchronous_generator_that_hangs_is_bounded() -> None:
    done = run("""
        async def items():
            try:
                yield 1
            finally:
                await asyncio.Event().wait()

        async def main():
            global generator
            generator = items()
            await anext(generator)

        within(0.2)
        ending.run(main(), asyncio.new_event_loop)
        print("wound up")
        end()
    """)
    assert done.stdout == "wound up\n"


def test_a_thread_that_does_not_end_leaves_time_for_the_callbacks() -> None:
    done = run("""
        within(4.0)
        threading.Thread(target=hang, name="stuck").start()

        @atexit.register
        def send_what_is_left():
            time.sleep(0.1)  # twice what they get where no time is left
            print("sent")

        end()
    """)
    assert done.stdout == "sent\n"
    assert "thread stuck" in done.stderr
    assert "an atexit callback" not in done.stderr
    assert done.returncode == ExitCode.CUT_OFF
