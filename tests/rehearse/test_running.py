"""Processes of a rehearsal, real ones."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from graceful import signals
from graceful.rehearse import pidns
from graceful.rehearse.model import Service
from graceful.rehearse.running import start

PATIENCE = 60.0


@pytest.mark.parametrize("name", ["SIGRTMIN+3", "SIGRTMAX-1"])
def test_real_time_signals_have_numbers(name: str) -> None:
    base = int(getattr(signal, name[:8]))
    assert signals.number_of(name) == base + int(name[8:])
    with pytest.raises(KeyError):
        signals.number_of("SIGRTMIN+99")


def test_with_the_first_process_end_all_that_it_has_started(tmp_path: Path) -> None:
    """A pipe ends for its reader when the last one that had it open for writing is gone."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    command = ["sh", "-c", f"sleep 600 > {pipe} & wait"]

    async def main() -> int:
        process = await start(command, service=Service(name="web", command=()), environment={})
        reading = asyncio.create_task(asyncio.to_thread(pipe.open, "rb"))
        async with asyncio.timeout(PATIENCE):
            with await reading as file:  # it has been opened for writing too
                process.signal("SIGTERM")
                code = await process.wait()
                assert await asyncio.to_thread(file.read) == b""
                assert await process.wait() == code
        process.close()
        return code

    assert asyncio.run(main()) == -15


@pytest.mark.skipif(pidns.why_not() is not None, reason=str(pidns.why_not()))
def test_as_many_as_one_likes_are_pid_1_at_the_same_time() -> None:
    """Each is waited for by a thread; those of the event loop are but a few more than there are cores."""
    many = (os.cpu_count() or 1) + 6
    service = Service(name="web", command=(), pid1=True)

    async def main() -> None:
        async with asyncio.timeout(PATIENCE):
            processes = [await start(["sleep", "600"], service=service, environment={}) for _ in range(many)]
            for process in processes:
                process.kill()
            assert {await process.wait() for process in processes} == {-9}
        for process in processes:
            process.close()

    asyncio.run(main())
