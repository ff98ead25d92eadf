"""What would be run, said before anything is: a service in full, for those who have it from a file."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from typing import Final

from graceful.rehearse.model import PORT, SOCKET, Action, HttpGet, Plan, Probe, Service, TcpSocket
from graceful.rehearse.phrasing import counted, flat

_LABEL: Final = 13
_MOST: Final = 400  # characters of a line


def particulars(plan: Plan, what: str) -> Iterator[str]:
    """Lines; `what` names the service. Of its environment the names are said, and values only where they tell
    a replica its place: others may be secrets.
    """
    service = plan.service
    yield f"{flat(what, 120)}, as it is run here:"
    yield from (_line("first", _spelled(command)) for command in service.init_commands)
    yield _line("command", _spelled(service.command))
    if service.folder is not None:
        yield _line("folder", service.folder)
    if service.environment:
        yield _line("environment", ", ".join(_variables(service)))
    yield _line("replicas", f"{plan.replicas}{', each PID 1 of a PID namespace' if service.pid1 else ''}")
    for name, probe in (
        ("startup", service.startup),
        ("readiness", service.readiness),
        ("liveness", service.liveness),
    ):
        if probe is not None:
            yield _line(name, asked(probe))
    if service.readiness is None:
        yield _line("readiness", "no probe: ready when it accepts connections")
    yield _line("end", _end(service))


def _line(label: str, text: str) -> str:
    return f"  {label:{_LABEL}}{flat(text, _MOST)}"


def _spelled(command: Sequence[str]) -> str:
    """As one would type it; our placeholders need no quotes."""
    spelled = shlex.join(command)
    for placeholder in (PORT, SOCKET):
        spelled = spelled.replace(f"'{placeholder}'", placeholder)
    return spelled


def _variables(service: Service) -> Iterator[str]:
    for name, value in service.environment.items():
        yield f"{name}={value}" if "{" in value else name


def asked(probe: Probe) -> str:
    """What a probe asks, how often, and what its results take to be believed."""
    said = [f"{_deed(probe.action)} every {probe.period:g} s", f"timeout {probe.timeout:g} s"]
    if probe.initial_delay:
        said.append(f"first after {probe.initial_delay:g} s")
    if probe.success_threshold > 1:
        said.append(f"{probe.success_threshold} successes in a row")
    said.append(f"{counted(probe.failure_threshold, 'failure')} in a row")
    return ", ".join(said)


def _deed(action: Action) -> str:
    port = "" if isinstance(action, HttpGet | TcpSocket) and action.port is None else ":{}"
    match action:
        case HttpGet():
            return f"GET {port.format(action.port)}{action.path}"
        case TcpSocket():
            return f"a connection to {port.format(action.port) or 'its port'}"
        case _:
            return _spelled(action.command)


def _end(service: Service) -> str:
    hook = service.pre_stop
    before = ""
    if hook:
        before = f"preStop {_spelled(hook) if isinstance(hook, tuple) else f'sleep {hook:g} s'}, "
    whom = " to all its processes" if service.signal_all else ""
    return f"{before}{service.stop_signal}{whom}, SIGKILL {service.grace_period:g} s after the decision"
