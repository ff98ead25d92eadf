"""Delivery: whether SIGTERM reaches a process, and who keeps it if it does not.

A container engine signals one process, PID 1, and what happens then is decided by those between PID 1 and the
service. Two rules of the kernel make most of the trouble: PID 1 gets no signal that it has no handler for
(pid_namespaces(7)), and when PID 1 ends, the kernel kills all others.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import Enum, StrEnum
from itertools import pairwise
from typing import Final

from graceful import remedies, signals
from graceful.processes import Process, ProcessTable

SIGTERM: Final = signals.TERMINATE[0]


class Answer(StrEnum):
    """Whether SIGTERM reaches the process and finds a handler there."""

    ARRIVES = "will arrive"
    LOST = "will not arrive"
    UNKNOWN = "cannot tell"


class Fate(Enum):
    """What becomes of a SIGTERM at one process. The value ends the sentence "process 7 …"."""

    HANDLED = "handles it"
    PASSED_ON = "passes it on"
    PASSED_TO_GROUP = "passes it on to the whole process group"
    DROPPED = (
        "has no handler for it, and PID 1 gets no signal that it has no handler for: the kernel drops it"
    )
    DIES = "has no handler for it, and dies of it"
    IGNORED = "ignores it"
    BLOCKED = "blocks it in every thread"
    HELD = "is a shell with a trap, which it looks at when the command that it waits for has ended"
    UNSEEN = "has a handler for it; whether it passes the signal on cannot be seen"


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One process on the signal's way, and what it does with it."""

    process: Process
    fate: Fate


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """What `examine` has found. `links` begin with the process that is signalled and end with `target`.

    `keeper` is where the signal stays, None where it arrives or nobody can tell; `why` is a clause for
    people, `instead` what to write, None where nothing has to be changed or nothing better is known.
    """

    target: Process
    answer: Answer
    why: str
    links: tuple[Link, ...]
    keeper: Link | None = None
    instead: str | None = None

    @property
    def is_certain(self) -> bool:
        """Whether only shells, inits and servers stand between the keeper and the target.

        Anybody else, a test runner say, may have a way of its own to end what it has started.
        """
        if self.keeper is None:
            return False
        between = self.links[self.links.index(self.keeper) + 1 : -1]
        return all(_is_shell(each.process) or _passes_on(each.process) for each in between)

    def warning(self) -> str | None:
        """One line for the log where the signal surely does not arrive; None where it does, where nobody can
        tell, and at a shell that somebody sits at.
        """
        keeper = self.keeper
        if self.answer is not Answer.LOST or keeper is None or not self.is_certain:
            return None
        if _is_shell(keeper.process) and remedies.is_interactive(keeper.process):
            return None
        who = "this process" if keeper.process == self.target else f"PID {keeper.process.pid}"
        line = (
            f"SIGTERM will not reach this service: {who}, `{keeper.process.command_line}`, "
            f"{keeper.fate.value}; {CONSEQUENCE[keeper.fate]}"
        )
        return line if self.instead is None else f"{line}. {self.instead}"


_KILLED_LATE: Final = "nothing is drained, and all is killed at the end of the grace period (exit code 137)"
_KILLED_AT_ONCE: Final = "the service is gone at once, and all that is in flight with it"
CONSEQUENCE: Final = {
    Fate.DROPPED: _KILLED_LATE,
    Fate.DIES: _KILLED_AT_ONCE,
    Fate.IGNORED: _KILLED_LATE,
    Fate.BLOCKED: _KILLED_LATE,
    Fate.HELD: _KILLED_LATE,
}
"""What follows from each fate that ends the signal's way."""

_SHELLS: Final = frozenset({"sh", "dash", "bash", "ash", "busybox", "ksh", "mksh", "zsh", "fish", "rbash"})
# Each waits for signals and hands them to its child. What it takes cannot be read: while sigtimedwait(2)
# waits, the kernel shows the signals as neither caught nor blocked.
_INITS: Final = frozenset({"tini", "tini-static", "docker-init", "podman-init", "catatonit", "dumb-init"})
_PODMANS_INIT: Final = "/dev/init"
_SERVERS: Final = frozenset({"gunicorn", "granian", "hypercorn", "uvicorn"})
_SHIMS: Final = ("containerd-shim", "docker-containerd-shim", "conmon")


def examine(table: ProcessTable, pid: int, *, kill_mode: str | None = None) -> Delivery:
    """Follow a SIGTERM from the process that an engine signals to `pid`. Raises ProcessLookupError.

    `kill_mode` is systemd's for the unit of `pid`, where somebody has asked it. What cannot be seen: PID
    namespaces above that of /proc, and which signal is sent (STOPSIGNAL, `lifecycle.stopSignal`).
    """
    target = table.read(pid)
    if target is None or target.is_zombie:
        raise ProcessLookupError(pid)
    chain, why_not = _signalled(table, target, kill_mode)
    if why_not is not None:
        links = (Link(process=target, fate=_fate_at_target(target, is_init=False)),)
        return Delivery(target=target, answer=Answer.UNKNOWN, why=why_not, links=links)
    return _follow(table, [_link(table, each, chain) for each in chain])


def warning_here() -> str | None:
    """The warning for this process, whose handlers are in; None where there is nothing to warn of."""
    table = ProcessTable()
    if not table.is_readable:
        return None
    try:
        return examine(table, os.getpid()).warning()
    except ProcessLookupError:  # a procfs that says less than Linux'
        return None


def _follow(table: ProcessTable, links: list[Link]) -> Delivery:
    """The first that keeps it decides; one that nobody can see through decides after the target itself."""
    target, unseen, told_group = links[-1], None, None
    for link, following in pairwise(links):
        if link.fate is Fate.PASSED_TO_GROUP:
            told_group = following.process.group
        elif link.fate in {Fate.HELD, Fate.IGNORED, Fate.UNSEEN} and told_group == target.process.group:
            pass  # it stays, and the target was told beside it
        elif link.fate is Fate.UNSEEN:
            unseen = unseen or link
        elif link.fate is not Fate.PASSED_ON and unseen is None:
            return _lost(table, links, link)
    if target.fate is not Fate.HANDLED:
        return _lost(table, links, target)
    if unseen is not None:
        why = f"process {unseen.process.pid}, {unseen.process.program}, {unseen.fate.value}"
        return Delivery(target=target.process, answer=Answer.UNKNOWN, why=why, links=tuple(links))
    why = "all on its way pass it on, and the process handles it"
    return Delivery(target=target.process, answer=Answer.ARRIVES, why=why, links=tuple(links))


def _lost(table: ProcessTable, links: list[Link], keeper: Link) -> Delivery:
    target = links[-1].process
    return Delivery(
        target=target,
        answer=Answer.LOST,
        why=f"process {keeper.process.pid}, {keeper.process.program}, {keeper.fate.value}",
        links=tuple(links),
        keeper=keeper,
        instead=_instead(table, links, keeper),
    )


def _instead(table: ProcessTable, links: list[Link], keeper: Link) -> str:
    if keeper is not links[-1]:
        following = links[links.index(keeper) + 1].process
        return remedies.instead_of(
            keeper.process, following, lambda path: table.script(keeper.process.pid, path)
        )
    if keeper.fate is Fate.BLOCKED:
        return "A blocked signal is inherited: take the block from whoever starts it"
    return "Start it with `graceful run MODULE:APP`, or wrap the app: app = Runtime().wrap(app)"


def _link(table: ProcessTable, process: Process, chain: list[Process]) -> Link:
    is_init = process.inside[-1] == 1 and not (table.is_machines and len(process.inside) == 1)
    if process is chain[-1]:
        return Link(process=process, fate=_fate_at_target(process, is_init=is_init))
    return Link(process=process, fate=_fate_between(table, process, is_init=is_init))


def _fate_at_target(process: Process, *, is_init: bool) -> Fate:
    if SIGTERM in process.ignored:
        return Fate.IGNORED
    if SIGTERM in process.caught:
        return Fate.BLOCKED if SIGTERM in process.blocked else Fate.HANDLED
    return Fate.DROPPED if is_init else Fate.DIES


def _fate_between(table: ProcessTable, process: Process, *, is_init: bool) -> Fate:
    takes = SIGTERM in process.caught or SIGTERM in process.blocked
    if _is_init(process) or (takes and _passes_on(process)):
        return Fate.PASSED_TO_GROUP if _tells_its_group(process) else Fate.PASSED_ON
    if SIGTERM in process.ignored:
        return Fate.IGNORED
    if not takes:
        return Fate.DROPPED if is_init else Fate.DIES
    if _is_shell(process) and not remedies.may_wait(process, lambda path: table.script(process.pid, path)):
        return Fate.HELD
    return Fate.UNSEEN


def _signalled(
    table: ProcessTable, target: Process, kill_mode: str | None
) -> tuple[list[Process], str | None]:
    """The chain from the process that is signalled to `target`, or why that cannot be told."""
    chain, whole = table.with_ancestors(target)
    below = [each for each in chain if len(each.inside) == len(target.inside)]
    if len(below) < len(chain):  # we look from above into a container
        return below, None if below[0].inside[-1] == 1 else _entered(target)
    if table.is_machines:
        return _signalled_on_a_host(table, chain, kill_mode)
    if not whole:
        return [], f"process {chain[0].parent}, the parent of {chain[0].pid}, cannot be seen from here"
    return ([], _entered(target)) if came_from_outside(table, chain[0]) else (chain, None)


def _signalled_on_a_host(
    table: ProcessTable, chain: list[Process], kill_mode: str | None
) -> tuple[list[Process], str | None]:
    """On a host whoever stops a process signals it by its id, except systemd and an engine that shares the
    host's processes with a container.
    """
    for parent, child in pairwise(chain):
        if parent.program.startswith(_SHIMS):
            return chain[chain.index(child) :], None
    group = table.cgroup(chain[-1].pid) or ""
    if group.rstrip().endswith(".service"):
        own = [each for each in chain if table.cgroup(each.pid) == group]
        if len(own) == 1 or kill_mode == "control-group":  # it sends SIGTERM to all of them
            return chain[-1:], None
        if kill_mode is None:
            return [], "its KillMode decides whether systemd signals all of the unit or its first process"
        return own, None
    return chain[-1:], None


def came_from_outside(table: ProcessTable, oldest: Process) -> bool:
    """Whether a chain that begins with `oldest` was put into a container from outside (docker exec, nsenter):
    it begins neither with PID 1 nor with the first process of another container that shares the namespace.
    """
    return oldest.pid != 1 and table.cgroup(oldest.pid) == table.cgroup(1)


def _entered(target: Process) -> str:
    return (
        f"process {target.pid} came into the container from outside (docker exec, nsenter), and the signal "
        "goes to PID 1"
    )


def _is_shell(process: Process) -> bool:
    return process.program in _SHELLS


def _is_init(process: Process) -> bool:
    return process.program in _INITS or process.command[:1] == (_PODMANS_INIT,)


def _passes_on(process: Process) -> bool:
    """Whether it is known to hand SIGTERM to its child."""
    if _is_init(process) or process.program == "timeout" or process.program.startswith("gunicorn: master"):
        return True
    words = [each.rpartition("/")[2] for each in process.command[:3]]
    return not _SERVERS.isdisjoint(words[:2]) or (words[1:2] == ["-m"] and not _SERVERS.isdisjoint(words[2:]))


def _tells_its_group(process: Process) -> bool:
    options = process.command[1:]
    if process.program == "dumb-init":
        return not {"-c", "--single-child"} & set(options)
    return process.program.startswith("tini") and "-g" in options
