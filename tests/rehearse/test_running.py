"""Processes of a rehearsal, real ones."""

from __future__ import annotations

import asyncio
import os
import signal
from concurrent.futures import ThreadPoolExecutor
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
def test_the_end_of_one_as_pid_1_is_seen_however_many_others_live() -> None:
    """None of them waits for a place in the loop's executor, which has few on a machine of few cores."""
    service = Service(name="web", command=(), pid1=True)

    async def main() -> int:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
        several = [await start(["sleep", "600"], service=service, environment={}) for _ in range(2)]
        try:
            async with asyncio.timeout(PATIENCE):
                several[1].kill()
                return await several[1].wait()
        finally:
            for process in several:
                process.kill()
                await process.wait()
                process.close()

    assert asyncio.run(main()) == -9
