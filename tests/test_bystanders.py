"""Who else is there when the time is up: the app's tasks, threads and child processes, and nobody else's."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import FrameType

import pytest

from graceful import bystanders as module
from graceful.bystanders import MOST_NAMED, bystanders

LET_GO = threading.Event()


@pytest.fixture(autouse=True)
def let_go() -> Iterator[None]:
    LET_GO.clear()
    yield
    LET_GO.set()


def blocking() -> None:
    LET_GO.wait(60)


async def for_ever() -> None:
    await asyncio.get_running_loop().create_future()


async def found(*, besides: set[asyncio.Task[None]] | None = None) -> list[str]:
    await asyncio.sleep(0)
    own = asyncio.current_task()
    assert own is not None
    return bystanders(asyncio.get_running_loop(), besides={own, *(besides or set())})


def test_tasks_by_name_and_line() -> None:
    async def main() -> list[str]:
        mailer = asyncio.create_task(for_ever(), name="mail\nforged")
        other = asyncio.create_task(for_ever())
        lines = await found(besides={other})
        mailer.cancel()
        other.cancel()
        return lines

    (line,) = [line for line in asyncio.run(main()) if line.startswith("task")]
    assert line.startswith("task mail forged, at tests/test_bystanders.py:")
    assert line.endswith(" in for_ever")


def test_neither_pythons_tasks_nor_ours_nor_the_servers() -> None:
    async def main() -> list[str]:
        waiting = asyncio.ensure_future(asyncio.Event().wait())
        lines = await found()
        waiting.cancel()
        return lines

    assert not [line for line in asyncio.run(main()) if line.startswith("task")]


def test_threads_that_are_at_work() -> None:
    executor = ThreadPoolExecutor(1)
    executor.submit(int).result()  # its thread is idle from now on
    threads = [
        threading.Thread(target=blocking, name="mailer"),
        threading.Thread(target=blocking, name="daemon", daemon=True),
        threading.Thread(target=blocking, name="graceful-watchdog", daemon=True),
        threading.Thread(target=LET_GO.wait, args=(60,), name="of no code"),
        threading.Thread(target=LET_GO.wait, args=(60,), name="of no concern", daemon=True),
    ]
    for thread in threads:
        thread.start()
    lines = [line for line in asyncio.run(found()) if line.startswith("thread")]
    LET_GO.set()
    executor.shutdown()
    for thread in threads:
        thread.join()
    assert [line.partition(",")[0] for line in lines] == [
        "thread mailer",
        "thread daemon",
        "thread of no code",
    ]
    assert lines[0].endswith(" in blocking")


def test_an_executors_thread_that_is_at_work() -> None:
    with ThreadPoolExecutor(1, thread_name_prefix="sums") as executor:
        begun = threading.Event()

        def work() -> None:
            begun.set()
            blocking()

        executor.submit(work)
        assert begun.wait(60)
        lines = [line for line in asyncio.run(found()) if line.startswith("thread")]
        LET_GO.set()
    assert [line.partition(",")[0] for line in lines] == ["thread sums_0"]


@pytest.mark.skipif(sys.platform != "linux", reason="who has started whom is read from /proc")
def test_child_processes() -> None:
    command = [sys.executable, "-c", "input()", "--token\nforged"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as child:
        lines = asyncio.run(found())
        assert child.stdin is not None
        child.stdin.write(b"\n")
    assert [line for line in lines if str(child.pid) in line] == [
        f"child process {child.pid} ({sys.executable} -c 'input()' '--token forged')"
    ]


def test_twenty_of_each_then_a_count() -> None:
    async def main() -> list[str]:
        tasks = [asyncio.create_task(for_ever(), name=f"{number:04}") for number in range(MOST_NAMED + 7)]
        lines = await found()
        for task in tasks:
            task.cancel()
        return lines

    lines = asyncio.run(main())[: MOST_NAMED + 1]
    assert lines[MOST_NAMED - 1].startswith("task 0019, at ")
    assert lines[MOST_NAMED] == "and 7 more like the last"


def test_tasks_that_cannot_be_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    def changing(_loop: object) -> None:
        message = "Set changed size during iteration"
        raise RuntimeError(message)

    loop = asyncio.new_event_loop()
    monkeypatch.setattr(asyncio, "all_tasks", changing)
    assert module._tasks(loop, ()) == []
    loop.close()


def test_the_interpreter_is_asked_once_however_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each answer holds the frames of all threads: with a thousand of them, asked for each, it takes longer
    than the watchdog's last words may.
    """
    asked = []

    def counted() -> dict[int, FrameType]:
        asked.append(1)
        return current()

    current = sys._current_frames
    threads = [threading.Thread(target=blocking, name=f"mailer {number}") for number in range(30)]
    for thread in threads:
        thread.start()
    monkeypatch.setattr(sys, "_current_frames", counted)
    lines = [line for line in asyncio.run(found()) if line.startswith("thread")]
    LET_GO.set()
    for thread in threads:
        thread.join()
    assert len(lines) == MOST_NAMED
    assert len(asked) == 1
