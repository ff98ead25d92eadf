"""Native stacks: where each thread stands, written by a signal handler in C, so that it works while C code
holds the GIL.

`faulthandler.dump_traceback_later` does it too, but there is one of it in a process, and it may be the
user's, or pytest's. `faulthandler.register` has one for each signal, so a signal is taken that nobody uses.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import sys

from graceful import signals
from graceful.processes import ProcessTable


def stderr_descriptor() -> int | None:
    """Standard error's descriptor; None where the process was started without, or the stream was closed:
    then 2 is somebody else's, perhaps a client's connection.
    """
    try:
        return None if sys.__stderr__ is None else sys.__stderr__.fileno()
    except (OSError, ValueError):
        return None


class StackDump:
    """While it is registered, the signal `signum` has the stacks of all threads written to standard error.

    `signum` is None where that cannot be had. faulthandler's own timer and other signals are left alone.
    """

    def __init__(self) -> None:
        self.signum: int | None = None

    def register(self) -> None:
        """Called again, it changes nothing."""
        stderr = stderr_descriptor()
        if self.signum is not None or stderr is None or not hasattr(faulthandler, "register"):
            return
        ourselves = ProcessTable().read(os.getpid())
        signum = signals.spare_signal(() if ourselves is None else ourselves.caught)
        if signum is None:
            return
        with contextlib.suppress(OSError):  # refused: the process ends without its stacks
            faulthandler.register(signum, file=stderr, all_threads=True)
            self.signum = signum

    def unregister(self) -> None:
        """The signal is as it was found."""
        if self.signum is not None:
            faulthandler.unregister(self.signum)
            self.signum = None
