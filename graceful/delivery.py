"""Delivery: whether SIGTERM reaches a process, and who keeps it if it does not.

A container engine signals one process, PID 1, and what happens then is decided by those between PID 1 and the
service. Two rules of the kernel make most of the trouble: PID 1 gets no signal that it has no handler for
(pid_namespaces(7)), and when PID 1 ends, the kernel kills all others.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum
from itertools import pairwise, takewhile
from typing import Final

from graceful import shells, signals
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
    PASSED_TO_GROUP = "passes it on to a whole process group"
    PASSED_ELSEWHERE = "passes it on to its own child, and whether that tells the service cannot be seen"
    DROPPED = "has no handler for it: the kernel drops such a signal to PID 1"
    DIES = "has no handler for it, and dies of it"
    IGNORED = "ignores it"
    BLOCKED = "blocks it in every thread"
    HELD = "takes it, but a shell gets to that only when the command that it waits for has ended"
    ENDS = "has a trap on EXIT: it runs that, and ends"
    UNSEEN = "takes it; whether it passes it on cannot be seen"
    MAY_TAKE = "shows no handler for it; whether it takes it in another way cannot be seen"


_UNSURE: Final = frozenset({Fate.UNSEEN, Fate.MAY_TAKE, Fate.PASSED_ELSEWHERE})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Link:
    """One process on the signal's way, and what it does with it."""

    process: Process
    fate: Fate


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
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
        return all(shells.is_shell(each.process) or _is_known(each.process) for each in between)

    def warning(self) -> str | None:
        """One line for the log where the signal surely does not arrive; None where it does, where nobody can
        tell, and below a shell that somebody sits at.
        """
        keeper = self.keeper
        if keeper is None or not self.is_certain:
            return None
        above = [each.process for each in self.links[:-1]]
        if any(shells.is_shell(each) and shells.is_interactive(each) for each in above):
            return None
        who = "this process" if keeper.process is self.target else f"PID {keeper.process.pid}"
        line = (
            f"SIGTERM will not reach this service: {who}, `{keeper.process.command_line}`, "
            f"{keeper.fate.value}; {CONSEQUENCE[keeper.fate]}"
        )
        return line if self.instead is None else f"{line}. {self.instead}"


_KILLED_LATE: Final = "nothing is drained, and all is killed at the end of the grace period (exit code 137)"
_KILLED_AT_ONCE: Final = "the service is killed with it, at once, and what is in flight is lost"
CONSEQUENCE: Final = {
    Fate.DROPPED: _KILLED_LATE,
    Fate.DIES: _KILLED_AT_ONCE,
    Fate.IGNORED: _KILLED_LATE,
    Fate.BLOCKED: _KILLED_LATE,
    Fate.HELD: _KILLED_LATE,
    Fate.ENDS: _KILLED_AT_ONCE,
}
"""What follows from each fate that ends the signal's way."""

# Each waits for signals and hands them to the one child that it has started itself.
_INITS: Final = ("tini", "docker-init", "podman-init", "catatonit", "dumb-init")
_INITS_PATH: Final = "/dev/init"  # where podman and ECS put theirs
_SERVERS: Final = frozenset({"gunicorn", "granian", "hypercorn", "uvicorn"})
_TITLE: Final = "gunicorn: master"  # with setproctitle
_SHIMS: Final = ("containerd-shim", "docker-containerd-shim", "conmon", "runc", "crun")


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
        return _unknown([_link(table, target, [target])], why_not)
    delivery = _follow(table, [_link(table, each, chain) for each in chain])
    if delivery.keeper not in {None, delivery.links[-1]} and (table.environment(pid) or {}).get("DYNO"):
        # https://devcenter.heroku.com/articles/dynos: to all processes, and what then ends first is not said
        return _unknown(delivery.links, f"Heroku signals every process of the dyno; but {delivery.why}")
    return delivery


def _unknown(links: Sequence[Link], why: str) -> Delivery:
    return Delivery(target=links[-1].process, answer=Answer.UNKNOWN, why=why, links=tuple(links))


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
    target, unsure, told_group = links[-1], None, 0
    for link, following in pairwise(links):
        if link.fate is Fate.PASSED_TO_GROUP:
            told_group = following.process.group
        elif link.fate in {Fate.HELD, Fate.IGNORED} and told_group and told_group == target.process.group:
            pass  # it waits on for the target, which was told beside it
        elif link.fate in _UNSURE:
            unsure = unsure or link
        elif link.fate is not Fate.PASSED_ON and unsure is None:
            return _lost(table, links, link)
    if target.fate in CONSEQUENCE:
        return _lost(table, links, target)
    unsure = unsure or (target if target.fate in _UNSURE else None)
    if unsure is not None:
        return _unknown(links, _says(unsure))
    why = "all on its way pass it on, and the process handles it"
    return Delivery(target=target.process, answer=Answer.ARRIVES, why=why, links=tuple(links))


def _says(link: Link) -> str:
    return f"process {link.process.pid}, {link.process.program}, {link.fate.value}"


def _lost(table: ProcessTable, links: list[Link], keeper: Link) -> Delivery:
    return Delivery(
        target=links[-1].process,
        answer=Answer.LOST,
        why=_says(keeper),
        links=tuple(links),
        keeper=keeper,
        instead=_instead(table, links, keeper),
    )


def _instead(table: ProcessTable, links: list[Link], keeper: Link) -> str:
    if keeper is not links[-1]:
        return _past(table, links[links.index(keeper) :])
    if keeper.fate is Fate.BLOCKED:
        return "A blocked signal is inherited: take the block from whoever starts it"
    return "Start it with `graceful run MODULE:APP`, or wrap the app: app = Runtime().wrap(app)"


def _past(table: ProcessTable, links: list[Link]) -> str:
    """What to write so that the signal goes past the first of `links`, and past the shells right behind it,
    which would keep it just as well.
    """
    from graceful import remedies  # noqa: PLC0415 - slow to import, and a service that is well has none

    keeper = links[0].process
    behind = next(place for place, each in enumerate(links) if place and not _is_keeping_shell(each))
    runs_script = shells.is_shell(keeper) and shells.script_of(keeper)[1] is not None
    following = links[1 if runs_script else behind].process
    here = remedies.instead_of(keeper, following, functools.partial(table.script, keeper.pid))
    return f"{here}. {_past(table, links[1:])}" if runs_script and behind > 1 else here


def _is_keeping_shell(link: Link) -> bool:
    return shells.is_shell(link.process) and link.fate in CONSEQUENCE


def _link(table: ProcessTable, process: Process, chain: list[Process]) -> Link:
    """`process` as one of `chain`, whose last one is the target."""
    place = chain.index(process)
    if process is chain[-1]:
        fate = _fate_at_target(table, process)
    elif shells.is_shell(process):
        fate = _fate_at_shell(table, process)
    else:
        fate = _fate_between(table, process, chain[place + 1])
    return Link(process=process, fate=fate)


def _fate_at_target(table: ProcessTable, process: Process) -> Fate:
    if SIGTERM in process.ignored:
        return Fate.IGNORED
    if SIGTERM in process.caught:
        return Fate.BLOCKED if SIGTERM in process.blocked else Fate.HANDLED
    if _is_init(process):
        return Fate.PASSED_ON
    if SIGTERM in process.blocked:  # to be read from a signalfd, if not only inherited
        return Fate.MAY_TAKE
    waits = False if shells.is_shell(process) else table.waits_for_signals(process.pid)
    return Fate.HANDLED if waits else _fate_without_handler(table, process, waits=waits)


def _fate_between(table: ProcessTable, process: Process, following: Process) -> Fate:
    if _is_init(process):
        return _fate_at_init(table, process, following)
    if SIGTERM in process.caught or SIGTERM in process.blocked:
        if process.program == "timeout" and "--foreground" not in process.command:
            return Fate.PASSED_TO_GROUP  # to its child, then to its group
        return Fate.PASSED_ON if _is_known(process) else Fate.UNSEEN
    if SIGTERM in process.ignored:
        return Fate.IGNORED
    waits = table.waits_for_signals(process.pid)
    return Fate.UNSEEN if waits else _fate_without_handler(table, process, waits=waits)


def _fate_without_handler(table: ProcessTable, process: Process, *, waits: bool | None) -> Fate:
    """Where the kernel shows that it neither catches nor ignores it."""
    if waits is None:
        return Fate.MAY_TAKE
    is_machines_init = table.is_machines and len(process.inside) == 1
    return Fate.DROPPED if process.inside[-1] == 1 and not is_machines_init else Fate.DIES


def _fate_at_shell(table: ProcessTable, shell: Process) -> Fate:
    text = shells.text_of(shell, functools.partial(table.script, shell.pid))
    if SIGTERM in shell.ignored:
        return Fate.IGNORED
    if SIGTERM not in shell.caught:
        is_yet_to_trap = text is not None and shells.sets_a_trap(text) and shells.gets_to_its_traps(text)
        return _fate_without_handler(table, shell, waits=None if is_yet_to_trap else False)
    if text is None or shells.gets_to_its_traps(text):
        return Fate.UNSEEN
    ends = shells.ends_by_exit_trap(shell, text)
    return Fate.UNSEEN if ends is None else Fate.ENDS if ends else Fate.HELD


def _fate_at_init(table: ProcessTable, init: Process, following: Process) -> Fate:
    """An init passes it on to the child that it has started, not to the orphans that it is given to reap:
    that is its oldest, and has a process group of its own.
    """
    children = table.children(init.pid)
    is_own = children[:1] == [following.pid] and following.group in {0, following.inside[-1]}
    if len(children) > 1 and not is_own:
        return Fate.PASSED_ELSEWHERE
    if init.program == "dumb-init":
        options = {*takewhile(lambda word: word.startswith("-") and word != "--", init.command[1:])}
        if any(each.startswith(("-r", "--rewrite")) for each in options):
            return Fate.UNSEEN  # perhaps as another signal
        return Fate.PASSED_ON if options & {"-c", "--single-child"} else Fate.PASSED_TO_GROUP
    options = {*takewhile(lambda word: word != "--", init.command[1:])}
    if "-g" in options or "TINI_KILL_PROCESS_GROUP" in (table.environment(init.pid) or {}):
        return Fate.PASSED_TO_GROUP
    return Fate.PASSED_ON


def _signalled(
    table: ProcessTable, target: Process, kill_mode: str | None
) -> tuple[list[Process], str | None]:
    """The chain from the process that is signalled to `target`, or why that cannot be told."""
    chain, whole = table.with_ancestors(target)
    below = [each for each in chain if len(each.inside) == len(target.inside)]
    if len(below) < len(chain):  # we look from above into a container
        starter = chain[-len(below) - 1]
        if not table.is_machines and not starter.program.startswith(_SHIMS):
            return below, _nested(below[0])
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


def _nested(oldest: Process) -> str:
    return (
        f"process {oldest.pid} begins a PID namespace of its own; whether it is signalled, or PID 1, cannot "
        "be seen from here"
    )


def _is_init(process: Process) -> bool:
    return process.program.startswith(_INITS) or process.command[:1] == (_INITS_PATH,)


def _is_known(process: Process) -> bool:
    """Whether it hands SIGTERM to its child, if it takes it."""
    return _is_init(process) or process.program == "timeout" or is_server(process)


def is_server(process: Process) -> bool:
    """Whether it is one of the servers of Python's that hand SIGTERM to their workers."""
    if "".join(process.command[:1]).startswith(_TITLE):
        return True
    words = [each.rpartition("/")[2] for each in process.command[:3]]
    return not _SERVERS.isdisjoint(words[:2]) or (words[1:2] == ["-m"] and not _SERVERS.isdisjoint(words[2:]))
