"""Processes as the kernel shows them in /proc: who started whom, and what each does with its signals.

Read, never asked: nothing here touches another process. Linux only; see proc(5) and pid_namespaces(7).
"""

from __future__ import annotations

import contextlib
import functools
import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Final

# PROC_PID_INIT_INO in include/linux/proc_ns.h: the PID namespace of the machine itself.
_MACHINES_NAMESPACE: Final = "pid:[4026531836]"
_SHOWN: Final = 160  # characters of a command line: enough to recognise it


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)  # each is read once; imported faster so
class Process:
    """One process, as it was when it was read.

    `caught`, `ignored` and `blocked` are sets of signal numbers, `blocked` those that no thread would take.
    `inside` has its process ids from the namespace of /proc down to its own: more than one if it lives in a
    namespace below. `group` is its process group in its own namespace, 0 where that cannot be known.
    """

    pid: int
    parent: int
    group: int
    command: tuple[str, ...]
    is_zombie: bool
    caught: frozenset[int]
    ignored: frozenset[int]
    blocked: frozenset[int]
    inside: tuple[int, ...]

    @property
    def program(self) -> str:
        """The name that it was started by, without its folder: `sh`, `python3.13`; empty for a zombie."""
        return self.command[0].rpartition("/")[2].removeprefix("-") if self.command else ""

    @property
    def command_line(self) -> str:
        """The command in one line that can be printed, quoted as for a shell, the end of a long one left out;
        `?` for one without, such as a zombie.
        """
        return shown(" ".join(_quoted(each) for each in self.command)) or "?"


def _quoted(word: str) -> str:
    """As for a shell, in the quotes that are easier to read."""
    only_single = "'" in word and not any(each in word for each in '"$`\\!')
    return f'"{word}"' if only_single else shlex.quote(word)


def shown(text: str, most: int = _SHOWN) -> str:
    """`text` in one line of at most `most` characters, all of which can be printed: what cannot is a space,
    the end of a long one is left out.
    """
    line = "".join(each if each.isprintable() else " " for each in text[: most + 1])
    return line if len(line) <= most else f"{line[: most - 1]}…"


class ProcessTable:
    """Reads processes from `root`, the mount of procfs."""

    def __init__(self, root: str | Path = "/proc") -> None:
        self._root = Path(root)

    @property
    def is_readable(self) -> bool:
        """Whether there is a procfs, and it is that of our own PID namespace: another one's numbers mean
        other processes.
        """
        try:
            if str(self._root.joinpath("self").readlink()) != str(os.getpid()):
                return False
        except OSError:
            return False
        status = self._text(os.getpid(), "status") or ""
        numbers = status.partition("\nNSpid:")[2].partition("\n")[0].split()
        return len(numbers) < 2  # noqa: PLR2004 - else it is of a namespace above, where the number is the same

    @functools.cached_property
    def is_machines(self) -> bool:
        """Whether it shows the machine's own PID namespace, where PID 1 is the machine's init; also true in a
        container that shares it.
        """
        try:
            return str(self._root.joinpath("self/ns/pid").readlink()) == _MACHINES_NAMESPACE
        except OSError:
            return False

    def read(self, pid: int) -> Process | None:
        """The process, or None where it is gone or hidden (hidepid of proc(5))."""
        status = self._text(pid, "status")
        command = self._text(pid, "cmdline")
        if status is None or command is None:
            return None
        fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        try:
            return Process(
                pid=pid,
                parent=int(fields["PPid"]),
                group=int(fields.get("NSpgid", "0").split()[-1]),
                command=tuple(command.rstrip("\0").split("\0")) if command.rstrip("\0") else (),
                is_zombie=fields["State"].startswith(("Z", "X")),
                caught=_signals_in(fields["SigCgt"]),
                ignored=_signals_in(fields["SigIgn"]),
                blocked=self._blocked_in_all_threads(pid, _signals_in(fields["SigBlk"])),
                inside=tuple(int(each) for each in fields.get("NSpid", str(pid)).split()),
            )
        except (KeyError, ValueError):  # not what the kernel writes: a procfs of something else's
            return None

    def everyone(self) -> list[Process]:
        """All processes that can be seen, in the order of their ids."""
        return [each for pid in self._pids() if (each := self.read(pid))]

    def started_by(self, pid: int) -> list[Process]:
        """The processes that `pid` has started, or has become the parent of, and has not waited for."""
        return [
            each for child in self._pids() if self._parent_of(child) == pid and (each := self.read(child))
        ]

    def with_ancestors(self, process: Process) -> tuple[list[Process], bool]:
        """The chain that ends in `process`, its oldest ancestor first, and whether that one is the end of it:
        False where the next parent cannot be seen.
        """
        chain = [process]
        while chain[0].parent:
            parent = self.read(chain[0].parent)
            if parent is None or parent.pid in {each.pid for each in chain}:
                return chain, False
            chain.insert(0, parent)
        return chain, True

    def children(self, pid: int) -> list[int]:
        """Those that the first thread of a process has started or been given to reap, the oldest first; none
        where the kernel does not say (CONFIG_PROC_CHILDREN).
        """
        return [int(each) for each in (self._text(pid, f"task/{pid}/children") or "").split()]

    def waits_for_signals(self, pid: int) -> bool | None:
        """Whether one of its threads is in sigtimedwait(2), as after sigwait(3): while it is, the kernel
        shows what it waits for as neither caught nor blocked. None where that cannot be seen.
        """
        try:
            threads = list(self._of(pid, "task").iterdir())
        except OSError:
            return None
        places = [(_read(thread / "wchan") or "0").strip() for thread in threads]
        if any("sigtimedwait" in place for place in places):
            return True
        return None if "0" in places else False  # 0: it runs just now, or whoever asks may not know

    def cgroup(self, pid: int) -> str | None:
        """The control groups of a process as the kernel writes them; None where it is gone."""
        return self._text(pid, "cgroup")

    def environment(self, pid: int) -> dict[str, str] | None:
        """What the process was started with; None where that cannot be read: another user's, or gone."""
        text = self._text(pid, "environ")
        if text is None:
            return None
        return dict(entry.split("=", 1) for entry in text.split("\0") if "=" in entry)

    def has_terminal(self, pid: int) -> bool:
        """Whether one of its standard streams is a terminal; False where that cannot be seen."""
        for stream in (0, 1, 2):
            with contextlib.suppress(OSError):
                opened = str(self._of(pid, f"fd/{stream}").readlink())
                if opened.startswith(("/dev/pts/", "/dev/tty")):
                    return True
        return False

    def has_file(self, pid: int, path: str) -> bool:
        """Whether `path` exists for that process, whose root may be another than ours."""
        return self._of(pid, f"root{path}").exists()

    def script(self, pid: int, path: str) -> str | None:
        """The text of a script that the process runs; None where that is no file, or cannot be read."""
        found = self._of(pid, f"root{path}" if path.startswith("/") else f"cwd/{path}")
        return _read(found) if found.is_file() else None  # a pipe would block

    def _blocked_in_all_threads(self, pid: int, blocked: frozenset[int]) -> frozenset[int]:
        """The kernel hands a signal for a process to any thread that takes it."""
        try:
            threads = list(self._of(pid, "task").iterdir()) if blocked else []
        except OSError:
            threads = []
        for thread in threads:
            for line in (_read(thread / "status") or "").splitlines():
                if line.startswith("SigBlk:"):
                    blocked &= _signals_in(line.partition(":")[2])
        return blocked

    def _pids(self) -> list[int]:
        return sorted(int(each.name) for each in self._root.iterdir() if each.name.isdecimal())

    def _parent_of(self, pid: int) -> int | None:
        """Of all that is known of a process only this: it is asked of every process that there is."""
        fields = (self._text(pid, "stat") or "").rpartition(")")[2].split()  # a name may hold anything
        return int(fields[1]) if len(fields) > 1 else None

    def _text(self, pid: int, name: str) -> str | None:
        return _read(self._of(pid, name))

    def _of(self, pid: int, name: str) -> Path:
        return self._root / str(pid) / name


_READ_AT_MOST: Final = 1 << 20  # bytes: what the kernel writes is far smaller, a script may be anything


def _read(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return file.read(_READ_AT_MOST).decode("utf-8", "surrogateescape")
    except OSError:
        return None


def _signals_in(mask: str) -> frozenset[int]:
    """The signal numbers of a mask in hexadecimal, whose lowest bit is signal 1."""
    bits = int(mask, 16)
    return frozenset(number for number in range(1, bits.bit_length() + 1) if bits >> (number - 1) & 1)
