"""A procfs in a folder, as the kernel would write it: processes that nobody has to start."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from graceful.processes import ProcessTable

TERM: Final = 15
_MACHINES: Final = "pid:[4026531836]"


def mask(signals: Iterable[int]) -> str:
    return f"{sum(1 << number - 1 for number in signals):016x}"


class FakeProc:
    """`table` reads it. Process ids are those that the tests choose; our own is there as `/proc/self`."""

    def __init__(self, root: Path, *, machine: bool = False) -> None:
        self.root = root
        self.table = ProcessTable(root)
        root.mkdir(exist_ok=True)
        root.joinpath("self").symlink_to(str(os.getpid()))
        namespace = root / str(os.getpid()) / "ns" / "pid"
        namespace.parent.mkdir(parents=True)
        namespace.symlink_to(_MACHINES if machine else "pid:[4026532000]")

    def add(  # noqa: PLR0913 - there is that much about a process
        self,
        pid: int,
        *command: str,
        parent: int = 0,
        caught: Sequence[int] = (),
        ignored: Sequence[int] = (),
        blocked: Sequence[int] = (),
        state: str = "S (sleeping)",
        inside: Sequence[int] | None = None,
        group: int | None = None,
        cgroup: str | None = "0::/",
        environ: Mapping[str, str] | None = None,
        place: str | None = "do_wait",
        threads: Mapping[int, Sequence[int]] | None = None,
        children: Sequence[int] | None = None,
    ) -> int:
        """One process. `place` is where the kernel says that it waits, `threads` has what each one blocks."""
        numbers = " ".join(map(str, inside or (pid,)))
        lines = {
            "Name": command[0][:15] if command else "?",
            "State": state,
            "PPid": str(parent),
            "NSpid": numbers,
            "NSpgid": str(pid if group is None else group),
            "SigBlk": mask(blocked),
            "SigIgn": mask(ignored),
            "SigCgt": mask(caught),
        }
        folder = self.root / str(pid)
        folder.mkdir(exist_ok=True)
        self.write(pid, "status", "".join(f"{name}:\t{value}\n" for name, value in lines.items()))
        self.write(pid, "cmdline", "".join(f"{word}\0" for word in command))
        if cgroup is not None:
            self.write(pid, "cgroup", f"{cgroup}\n")
        if environ is not None:
            self.write(pid, "environ", "".join(f"{name}={value}\0" for name, value in environ.items()))
        for thread, blocks in (threads or {pid: blocked}).items():
            self.write(pid, f"task/{thread}/status", f"SigBlk:\t{mask(blocks)}\n")
            if place is not None:
                self.write(pid, f"task/{thread}/wchan", place)
        if children is not None:
            self.write(pid, f"task/{pid}/children", "".join(f"{each} " for each in children))
        return pid

    def write(self, pid: int, name: str, text: str) -> Path:
        path = self.root / str(pid) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode("utf-8", "surrogateescape"))
        return path

    def without(self, pid: int, field: str) -> None:
        """A procfs that says less: gVisor's, say."""
        path = self.root / str(pid) / "status"
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(line for line in lines if not line.startswith(f"{field}:")))

    def hide(self, pid: int) -> None:
        """As hidepid=1 of proc(5) does: it is listed, and nothing of it can be read."""
        for name in ("status", "cmdline", "cgroup"):
            self.root.joinpath(str(pid), name).unlink(missing_ok=True)
