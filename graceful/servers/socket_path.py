"""The path of a Unix socket: nobody else's when we begin to listen there, removed only while it is ours."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from typing import Final

_ANSWERS_WITHIN_SECONDS: Final = 1.0


class SocketPath:
    """One path, as text, as uvicorn and asyncio take it; None where the server listens on no Unix socket:
    then nothing happens.
    """

    def __init__(self, path: str | None) -> None:
        self._path = path
        self._own: tuple[int, int] | None = None

    def check(self) -> None:
        """Asyncio takes away any socket that it finds at the path, that of a living server too: ask first
        whether somebody answers there. Raises OSError.
        """
        if self._path is None or not os.path.exists(self._path):  # noqa: PTH110 - text, see above
            return
        if not stat.S_ISSOCK(os.stat(self._path).st_mode):  # noqa: PTH116 - as above
            message = "there is a file of this name that is no socket"
            raise OSError(message)
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(_ANSWERS_WITHIN_SECONDS)
            try:
                client.connect(self._path)
            except (ConnectionRefusedError, FileNotFoundError):
                return  # left behind by a process that is gone
            message = "another process is listening there"
            raise OSError(message)

    def remember(self) -> None:
        """What is there now is ours. Raises OSError."""
        if self._path is not None:
            self._own = _identity(self._path)

    def remove(self) -> None:
        """It is gone, unless a successor has put its own socket there."""
        if self._path is None:
            return
        with contextlib.suppress(FileNotFoundError):
            if _identity(self._path) == self._own:
                os.unlink(self._path)  # noqa: PTH108 - text, see above


def _identity(path: str) -> tuple[int, int]:
    found = os.stat(path)  # noqa: PTH116 - text, see above
    return found.st_dev, found.st_ino
