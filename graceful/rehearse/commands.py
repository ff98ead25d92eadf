"""A command that is run to its end: an exec probe, an init command, a preStop hook."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from graceful.rehearse.model import PORT
from graceful.rehearse.wording import one_line

NOT_FOUND: Final = 127  # what a shell says of a command that is not there,
NOT_EXECUTABLE: Final = 126  # and of one that it may not run

_KEPT: Final = 4096  # bytes of output: more than what is shown of it
_AT_ONCE: Final = 65_536  # bytes a read: what a pipe holds
_SIGKILL: Final = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a command ended: its exit code, negative by that signal, None if it was killed for taking too long;
    and the first line of what it wrote, to standard output or standard error.
    """

    code: int | None
    line: str


def for_port(command: tuple[str, ...], port: int | None) -> tuple[str, ...]:
    """`command` with the replica's port in place of `{port}`."""
    return command if port is None else tuple(each.replace(PORT, str(port)) for each in command)


async def run(
    command: tuple[str, ...],
    *,
    environment: Mapping[str, str],
    folder: str | None = None,
    seconds: float | None = None,
) -> Ended:
    """Run `command` in an environment of exactly `environment`, in `folder` (None: ours).

    On return it has ended; after `seconds`, and when this is cancelled, it is killed with all that it has
    started in its session. A process that it leaves behind otherwise is not waited for, though it may hold
    the output open. A command that cannot be run ends with 127 or 126, as in a shell.
    """
    with _Output() as output:
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output.write_end,
                stderr=output.write_end,
                env=environment,
                cwd=folder,
                start_new_session=True,
            )
        except OSError as error:
            code = NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE
            return Ended(code=code, line=one_line(f"{error.filename or command[0]}: {error.strerror}"))
        ended = await _ended(process, seconds)
        return Ended(code=ended, line=one_line(output.text()))


async def _ended(process: asyncio.subprocess.Process, seconds: float | None) -> int | None:
    """Its exit code; None if its time ran out. It has ended on return, however this is left."""
    try:
        async with asyncio.timeout(seconds):
            return await process.wait()
    except TimeoutError:
        return None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, _SIGKILL)
            await process.wait()


class _Output:
    """A pipe whose beginning is kept. The rest is read and dropped: nobody who writes has to wait for us."""

    def __init__(self) -> None:
        self._read_end, self.write_end = os.pipe()
        os.set_blocking(self._read_end, False)
        self._kept = bytearray()

    def __enter__(self) -> Self:
        asyncio.get_running_loop().add_reader(self._read_end, self._read)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, where: TracebackType | None
    ) -> None:
        asyncio.get_running_loop().remove_reader(self._read_end)
        os.close(self._read_end)
        os.close(self.write_end)

    def text(self) -> str:
        """The beginning of all that has been written so far."""
        self._read()  # once: a pipe holds no more, and who was left behind may write for ever
        return self._kept.decode("utf-8", "replace")

    def _read(self) -> None:
        with contextlib.suppress(BlockingIOError):
            received = os.read(self._read_end, _AT_ONCE)
            self._kept += received[: _KEPT - len(self._kept)]
