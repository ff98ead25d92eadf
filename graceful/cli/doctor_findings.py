"""What the doctor looks at, and what it finds: delivery, signals, platform and budget, orphans."""

from __future__ import annotations

import math
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from graceful import signals
from graceful.delivery import Answer, Delivery, came_from_outside, examine, is_server
from graceful.errors import SettingsError
from graceful.platforms import detect
from graceful.processes import Process, ProcessTable
from graceful.settings import FIELDS, Settings, resolve

_SYSTEMD_SECONDS: Final = 3.0
_THE_LIBRARYS: Final = frozenset({32, 33})
# What a manifest must say for another grace period than the default; None: the platform's is fixed.
_WRITTEN_AS: Final[Mapping[str, str | None]] = {
    "kubernetes": "terminationGracePeriodSeconds: {}",
    "ecs": '"stopTimeout": {}',
    "cloud run": None,
    "fly.io": "kill_timeout = {}",
    "heroku": None,
    "nomad": 'kill_timeout = "{}s"',
    "systemd": "TimeoutStopSec={}",
    "container": "docker stop -t {0}, or stop_grace_period: {0}s",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetFinding:
    """The platform found in the environment of a process, and its budget.

    `fits` is None where the environment cannot be read; `line` is for people. Values that the service's own
    code sets are not seen.
    """

    platform: str | None
    fits: bool | None
    line: str
    note: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """All about one process."""

    delivery: Delivery
    budget: BudgetFinding

    @property
    def is_fine(self) -> bool | None:
        """The verdict: the signal arrives, and the budget fits as far as that can be seen. None where nobody
        can tell whether it arrives.
        """
        if self.delivery.answer is Answer.UNKNOWN:
            return None
        return self.delivery.answer is Answer.ARRIVES and self.budget.fits is not False


def diagnose(table: ProcessTable, pid: int) -> Finding:
    """Examine one process. Raises ProcessLookupError."""
    unit = _unit_of(table, pid)
    asked = _ask_systemd(unit) if unit is not None else {}
    delivery = examine(table, pid, kill_mode=asked.get("KillMode"))
    return Finding(delivery=delivery, budget=_budget(table, delivery.target, asked))


def services(table: ProcessTable, everyone: Sequence[Process], own: int) -> list[int]:
    """Which of `everyone` to look at where nobody has said, without `own` and those that started it: each
    `graceful run` and each known server of Python's, and other Python processes that have started none; of
    those that started each other, the first.

    On a host, where most Python processes are no service, only those of the command `graceful run`.
    """
    here = table.read(own)
    ours = {own} if here is None else {each.pid for each in table.with_ancestors(here)[0]} - {1}
    found = [each for each in everyone if each.pid not in ours]
    if table.is_machines:
        runs = {each.pid for each in found if _is_graceful_run(each)}
        # A forked child has its parent's command line, and none of its handlers: it is no service.
        chains = [table.with_ancestors(each)[0] for each in found if each.pid in runs]
        return [each[-1].pid for each in chains if runs.isdisjoint(above.pid for above in each[:-1])]
    chains = [table.with_ancestors(each)[0] for each in found if _is_python(each)]
    chains = [each for each in chains if not came_from_outside(table, each[0])]  # an exec probe is no service
    servers = [each for each in chains if _is_server(each[-1]) and not any(map(_is_server, each[:-1]))]
    above = {each.pid for chain in servers for each in chain}
    others = [each for each in chains if not any(map(_is_python, each[:-1])) and each[-1].pid not in above]
    return sorted(each[-1].pid for each in servers + others)


def orphans(everyone: Iterable[Process]) -> list[Process]:
    """The zombies that PID 1 has for a parent and does not reap."""
    return [each for each in everyone if each.is_zombie and each.parent == 1]


def names_of(numbers: Iterable[int]) -> list[str]:
    """`SIGTERM` for 15, in the order of the numbers; those without a name as they are, and without those that
    the C library keeps for itself (signal(7), nptl(7)).
    """
    return [_name_of(number) for number in sorted(numbers) if number not in _THE_LIBRARYS]


def _name_of(number: int) -> str:
    try:
        return signals.name_of(number)
    except ValueError:  # a real-time signal
        return str(number)


def _is_python(process: Process) -> bool:
    return process.program.startswith(("python", "pypy")) or _is_server(process)


def _is_server(process: Process) -> bool:
    return _is_graceful_run(process) or is_server(process)


def _is_graceful_run(process: Process) -> bool:
    words = [each.rpartition("/")[2] for each in process.command[:4]]
    return any(pair == ("graceful", "run") for pair in pairwise(words))


def _budget(table: ProcessTable, process: Process, systemd: Mapping[str, str]) -> BudgetFinding:
    environment = table.environment(process.pid)
    if environment is None:
        way_out = "ask as its own user, or as root"
        return BudgetFinding(platform=None, fits=None, line=f"its environment cannot be read: {way_out}")
    platform = detect(
        environment,
        exists=lambda path: table.has_file(process.pid, path),
        isatty=table.has_terminal(process.pid),
    )
    try:
        found = resolve({}, options=_options_in(process), environ=environment, platform=platform)
    except SettingsError as problem:
        return BudgetFinding(platform=platform.name, fits=False, line=str(problem))
    return _compared(found, systemd)


def _compared(found: Settings, systemd: Mapping[str, str]) -> BudgetFinding:
    """The grace period that the process counts on, against what it is really given."""
    name, allowed = found.platform.name, found.platform.grace_period
    told = _seconds_of(systemd.get("TimeoutStopUSec", ""))
    if told is not None:
        allowed = told
    line = found.describe()
    written = _WRITTEN_AS.get(name, "")
    if found.grace_period <= allowed:
        return BudgetFinding(platform=name, fits=True, line=line)
    wanted = f"{found.grace_period:g}"
    if written is None or told is not None:
        short = f"it counts on {wanted} s, but {name} kills it after {allowed:g} s"
        way_out = f"write {written.format(wanted)}" if written else f"set GRACEFUL_GRACE_PERIOD={allowed:g}"
        return BudgetFinding(platform=name, fits=False, line=line, note=f"{short}: {way_out}")
    note = f"the default there is {allowed:g} s; the manifest must say: {written.format(wanted)}"
    return BudgetFinding(platform=name, fits=True, line=line, note=note if written else None)


def _options_in(process: Process) -> dict[str, object]:
    """The settings among the options of a `graceful run`."""
    if not _is_graceful_run(process):
        return {}
    found: dict[str, object] = {}
    words = list(process.command)
    for each in FIELDS:
        for place, word in enumerate(words):
            option, equals, value = word.partition("=")
            if option == each.option:
                found[each.name] = value if equals else "".join(words[place + 1 : place + 2])
    return found


def _unit_of(table: ProcessTable, pid: int) -> str | None:
    """The systemd service that a process of the machine belongs to."""
    if not table.is_machines:
        return None
    unit = (table.cgroup(pid) or "").rstrip().rpartition("/")[2]
    return unit if unit.endswith(".service") else None


def _ask_systemd(unit: str) -> dict[str, str]:
    """The unit's KillMode and TimeoutStopUSec; nothing where systemd cannot be asked."""
    systemctl = shutil.which("systemctl")
    if systemctl is None:
        return {}
    command = [systemctl, "show", "--property=LoadState,KillMode,TimeoutStopUSec", "--", unit]
    try:
        ended = subprocess.run(  # noqa: S603 - the system's own program, with a unit's name from the kernel
            command, capture_output=True, text=True, timeout=_SYSTEMD_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return {}
    found = dict(line.split("=", 1) for line in ended.stdout.splitlines() if "=" in line)
    return found if found.get("LoadState") == "loaded" else {}  # it has defaults for what it does not know


_UNITS: Final = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}


def _seconds_of(text: str) -> float | None:
    """Systemd's way to write a time, `1min 30s` or `infinity`; None for what is not written so."""
    if text == "infinity":
        return math.inf
    total = 0.0
    for word in text.split():
        number = word.rstrip("abcdefghijklmnopqrstuvwxyz")
        scale = _UNITS.get(word[len(number) :])
        if scale is None or not number.replace(".", "", 1).isdecimal():
            return None
        total += float(number) * scale
    return total if text.strip() else None
