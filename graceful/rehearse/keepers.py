"""Who keeps a signal from the service that it is meant for, seen in the moment in which it is sent."""

from __future__ import annotations

from dataclasses import dataclass

from graceful import shells
from graceful.processes import Process, ProcessTable


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
