"""A replica that is PID 1 of a PID namespace, as in a container: there a shell form shows itself."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import IO, Final, Self

from graceful import signals
from graceful.rehearse.pidns import PidNamespace, PidNamespaceError, why_not

_LONGEST_SECONDS: Final = 365 * 86_400.0
_OUTPUT_BYTES: Final = 64 * 1024


class FirstProcess:
    """See `running.Running`. All of its namespace ends with it."""

    def __init__(self, namespace: PidNamespace, output: IO[bytes]) -> None:
        self._namespace = namespace
        self._output = output
        # A thread of its own: the loop's are but a few more than there are cores, and each waits for a life.
        self._waiting = ThreadPoolExecutor(1, thread_name_prefix=f"graceful-pid-{namespace.pid}")
        self._ended = asyncio.get_running_loop().run_in_executor(self._waiting, self._wait)
        self._waiting.shutdown(wait=False)
        self.pid = namespace.pid

    @classmethod
    async def start(
        cls, command: Sequence[str], *, environment: Mapping[str, str], folder: str | None
    ) -> Self:
        """Raises OSError where it cannot be started, or there can be no PID namespace here."""
        reason = why_not()
        if reason is not None:
            raise OSError(None, reason)
        output = tempfile.TemporaryFile("a+b")  # noqa: SIM115 - closed with its process
        try:
            namespace = await asyncio.to_thread(
                PidNamespace, command, cwd=folder, env=dict(environment), stdout=output, stderr=output
            )
        except PidNamespaceError as problem:
            output.close()
            raise OSError(None, str(problem)) from problem
        return cls(namespace, output)

    def signal(self, name: str) -> None:
        """From outside, as an engine does: the kernel drops what PID 1 has no handler for."""
        if not self._ended.done():
            self._namespace.send(signals.number_of(name))

    def kill(self) -> None:
        """See `running.Running`."""
        if not self._ended.done():
            self._namespace.kill()

    async def wait(self) -> int:
        """See `running.Running`."""
        status = await asyncio.shield(self._ended)
        code = 0 if status is None else status
        return 128 - code if code > 128 else code  # noqa: PLR2004 - as engines say: 128 and the signal's number

    def _wait(self) -> int | None:
        try:
            return self._namespace.wait(_LONGEST_SECONDS)
        finally:
            self._namespace.close()

    def output(self) -> str:
        """See `running.Running`."""
        size = self._output.seek(0, os.SEEK_END)
        self._output.seek(max(0, size - _OUTPUT_BYTES))
        return self._output.read().decode(errors="replace")

    def close(self) -> None:
        """See `running.Running`."""
        self._output.close()
