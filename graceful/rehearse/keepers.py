"""Who keeps a signal from the service that it is meant for: seen in the moment in which it is sent, or judged
by the command where that cannot be seen.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from graceful import shells
from graceful.processes import Process, ProcessTable

_LAST_IS_EXEC: Final = re.compile(r"(?:^|&&|;|\n)\s*exec\s[^;&|\n]*\s*$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """`arrives`: whether a signal gets past the shells to the service, None where that cannot be seen; where
    it does not, `keeper` says in words who keeps it.
    """

    arrives: bool | None = None
    keeper: str = ""


def way_of(number: int, pid: int, table: ProcessTable | None = None) -> Way:
    """The way of the signal `number` from `pid`, the first process of a replica: only a shell keeps it there,
    since it hands none on, and ends by it where it is not PID 1. Nothing is known where there is no /proc.
    """
    process = (table or ProcessTable()).read(pid)
    if process is None or process.is_zombie:
        return Way()
    if not shells.is_shell(process):  # what was started by one that said `exec` too
        return Way(arrives=True)
    if number in process.caught and number not in process.ignored:
        return Way()  # a trap may do anything
    return Way(arrives=False, keeper=f"{process.program}, {_fate(number, process)}")


def _fate(number: int, shell: Process) -> str:
    if number in shell.ignored:
        return "which ignores it"
    if len(shell.inside) > 1 and shell.inside[-1] == 1:
        return "which has no handler for it (the kernel drops such a signal to PID 1)"
    return "which ends by it, and hands it on to nobody"


def shell_in_front(command: Sequence[str]) -> str | None:
    """The name of the shell that stands between a signal and the service, judging by the command; None where
    there is none, or its last command is an `exec`.
    """
    if not command:
        return None
    program = command[0].rpartition("/")[2]
    if program not in shells.NAMES:
        return program if program.endswith(".sh") else None
    texts = [word for word in command[1:] if not word.startswith("-") and word not in shells.NAMES]
    return None if texts and _LAST_IS_EXEC.search(texts[0].strip()) else program
