"""`graceful rehearse`: run a service through its death before production does."""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, TextIO

from graceful import signals
from graceful.cli import rehearse_interruption as interruption
from graceful.cli import rehearse_output as output
from graceful.cli.parsing import WRONG_USAGE
from graceful.cli.rehearse_options import parser
from graceful.errors import GracefulError
from graceful.rehearse import manifest
from graceful.rehearse.asserting import of_app, of_command
from graceful.rehearse.figures import Judged
from graceful.rehearse.judging import judge
from graceful.rehearse.machine import as_json, as_junit
from graceful.rehearse.model import (
    PORT,
    SOCKET,
    Event,
    HttpGet,
    LoadPlan,
    Plan,
    Probe,
    Rehearsal,
    RequestSpec,
    Service,
)
from graceful.rehearse.page import as_page
from graceful.rehearse.particulars import particulars
from graceful.rehearse.requests import requests_in
from graceful.rehearse.rollout import Rollout
from graceful.rehearse.story import Progress, introduction, tell, tell_side_by_side

_INTERRUPTED: Final = 130
_TERMINATED: Final = 143
_REPLICAS: Final = 2
# A lame duck that outlives the removal of the endpoint by this, for an app that we start ourselves.
_AFTER_REMOVAL: Final = 0.5
_GRACE_PERIOD: Final = 30.0
_PROBE_PERIOD: Final = 0.5


def main(argv: list[str]) -> int:
    """Run `graceful rehearse` with these arguments; returns its exit code, see its help."""
    output.open_streams()
    command: list[str] = []
    if "--" in argv:
        at = argv.index("--")
        argv, command = argv[:at], argv[at + 1 :]
    try:
        options = parser().parse_args(argv)
        return _play(options, _found(options, [*options.target, *command]))
    except SystemExit as end:  # argparse's way: 0 after --help, 2 after wrong usage
        return int(end.code or 0)
    except GracefulError as problem:
        return _complain(str(problem), WRONG_USAGE)
    except OSError as problem:
        return _complain(f"{problem.filename or 'a file'}: {problem.strerror}", WRONG_USAGE)
    except KeyboardInterrupt:  # before anything was started, or after all of it has ended
        return _complain("interrupted", _INTERRUPTED)
    except interruption.InterruptedBySignalError as end:
        is_ctrl_c = end.signal == "SIGINT"
        how, code = ("interrupted", _INTERRUPTED) if is_ctrl_c else ("terminated", _TERMINATED)
        return _complain(f"{how}; all that was started has been ended", code)


def _complain(text: str, code: int) -> int:
    output.say(f"graceful rehearse: {text}")
    return code


def _play(options: argparse.Namespace, found: manifest.Found) -> int:
    plans = _plans(options, found)
    _announce(plans, found, options)
    if options.dry_run:
        return 0
    for plan in plans:
        _check_program(plan.service)
    for option, path in (("--junit", options.junit), ("--html", options.html)):
        if path:
            output.check_file(option, path)
    seen = interruption.run(lambda: _rehearse(plans, options))
    several = [Judged(rehearsal=each, verdict=judge(each)) for each in seen]
    problems = _write(several, options)
    for problem in problems:
        _complain(str(problem), WRONG_USAGE)
    return WRONG_USAGE if problems else several[0].verdict.exit_code


# From options to plans.


def _plans(options: argparse.Namespace, found: manifest.Found) -> list[Plan]:
    """The plan, and that of the service that it is set against. Raises GracefulError."""
    requests = tuple(options.request or ())
    if options.requests:
        requests += requests_in(options.requests)
    load = LoadPlan(
        rate=options.rate,
        requests=requests or (RequestSpec(),),
        holds=tuple(options.hold),
        kept=options.kept,
        timeout=options.timeout,
        seed=options.seed,
        max_lateness=options.max_lateness,
    )
    plan = Plan(
        service=_overruled(found.service, options),
        replicas=options.replicas or found.replicas,
        restarts=options.restarts,
        removal_lag=options.removal_lag,
        once=options.once,
        settle=options.settle,
        load=load,
    )
    plans = [plan]
    if options.against:
        other = _of_words(_split(options.against), options)
        plans.append(replace(plan, service=_overruled(other, options)))
    return plans


def _found(options: argparse.Namespace, words: list[str]) -> manifest.Found:
    """The service that is asked for. Raises GracefulError."""
    if options.source:
        return manifest.load(options.source, name=options.name, command=words)
    if options.name is not None:
        message = "--name: found no --from; expected the file that has a workload of that name"
        raise GracefulError(message)
    if not words:
        message = "found no service; expected MODULE:APP, -- COMMAND …, or --from FILE"
        raise GracefulError(message)
    service = _of_words(words, options)
    return manifest.Found(service=service, replicas=_REPLICAS, what=service.name)


def _announce(plans: Sequence[Plan], found: manifest.Found, options: argparse.Namespace) -> None:
    """What would be run, where it is from a file or was asked for, and what in that cannot be honoured."""
    if not (options.source or options.dry_run):
        return
    lines: list[str] = []
    for plan, what in zip(plans, (found.what, options.against), strict=False):
        lines += particulars(plan, what)
    lines += [f"note: {note}" for note in found.notes]
    if options.dry_run:
        output.tell("".join(f"{line}\n" for line in lines))
    else:
        output.say("\n".join(lines))


def _check_program(service: Service) -> None:
    """Before anything is started: what is set against the first is to be found too. Raises GracefulError."""
    program = service.command[0]
    path = {**os.environ, **service.environment}.get("PATH")
    if os.sep not in program and shutil.which(program, path=path) is None:
        message = f"found no program {program!r} on PATH; expected a command that runs on this machine"
        raise GracefulError(message)


def _split(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as problem:
        message = f"--against: found {text!r}; expected a command as for a shell ({problem})"
        raise GracefulError(message) from problem


def _of_words(words: Sequence[str], options: argparse.Namespace) -> Service:
    is_app = len(words) == 1 and re.fullmatch(r"[\w.]+:[\w.]+", words[0]) is not None
    return _of_app(words[0], options) if is_app else of_command(words)


def _of_app(target: str, options: argparse.Namespace) -> Service:
    """An app that we serve ourselves, with a lame duck for the lag that is rehearsed."""
    if options.tls:
        message = f"--tls: found {target!r}, which is started without; expected a command that speaks TLS"
        raise GracefulError(message)
    grace_period = _GRACE_PERIOD if options.grace_period is None else options.grace_period
    lame_duck = min(options.removal_lag + _AFTER_REMOVAL, grace_period / 2)
    service = of_app(target, lame_duck=lame_duck, grace_period=grace_period)
    if options.unix_socket:
        command = ("-m", "graceful", "run", target, "--uds", SOCKET, "--no-access-log")
        service = replace(service, command=(sys.executable, *command))
    return service


def _overruled(service: Service, options: argparse.Namespace) -> Service:
    """With what the options say of it."""
    given: dict[str, object] = {}
    if options.grace_period is not None:
        given["grace_period"] = options.grace_period
    if options.pre_stop is not None:
        given["pre_stop"] = options.pre_stop
    if options.signal is not None:
        given["stop_signal"] = _signal(options.signal)
    for name in ("readiness", "liveness"):
        path = getattr(options, name)
        if path is not None:
            given[name] = Probe(action=HttpGet(path=path), period=_PROBE_PERIOD)
    for name in ("tls", "unix_socket", "pid1"):
        if getattr(options, name):
            given[name] = True
    overruled = replace(service, **given)  # type: ignore[arg-type]  # named as the fields are
    _check_place(overruled)
    return overruled


def _check_place(service: Service) -> None:
    """A replica that is not told where to listen would be waited for in vain. Raises GracefulError."""
    texts = (*service.command, *service.environment.values())
    has_port, has_socket = (any(place in text for text in texts) for place in (PORT, SOCKET))
    if service.unix_socket and not has_socket:
        expected = f"{SOCKET} in it, since --unix-socket was given"
    elif has_socket and not service.unix_socket and not has_port:
        expected = f"{PORT} in it, or --unix-socket with {SOCKET}"
    else:
        return
    message = f"found {shlex.join(service.command)!r}; expected {expected}"
    raise GracefulError(message)


def _signal(name: str) -> str:
    full = name.upper() if name.upper().startswith("SIG") else f"SIG{name.upper()}"
    try:
        signals.number_of(full)
    except KeyError:
        message = f"--signal: found {name!r}; expected a signal's name, as SIGTERM"
        raise GracefulError(message) from None
    return full


# The rehearsal, and what is said of it.


async def _rehearse(plans: Sequence[Plan], options: argparse.Namespace) -> list[Rehearsal]:
    """One after the other: both at once would be in each other's way."""
    return [await Rollout(plan, _progress(plan, options)).run() for plan in plans]


def _progress(plan: Plan, options: argparse.Namespace) -> Callable[[Event], object]:
    if options.quiet:
        return lambda _event: None
    output.say(introduction(plan))
    began = asyncio.get_running_loop().time()
    return Progress(output.say, began=began, colours=_has_colours(sys.stderr))


def _has_colours(stream: TextIO) -> bool:
    return stream.isatty() and "NO_COLOR" not in os.environ  # https://no-color.org


def _write(several: Sequence[Judged], options: argparse.Namespace) -> list[output.OutputError]:
    """Wherever it was asked for; one that fails keeps none of the others from being written."""

    def text() -> None:
        colours = _has_colours(sys.stdout)
        if options.json:
            output.tell(as_json(several), encoding="utf-8")
        elif len(several) > 1:
            output.tell(tell_side_by_side(several, colours=colours) + "\n")
        else:
            output.tell(tell(several[0], colours=colours) + "\n")

    def junit() -> None:
        if options.junit:
            output.write_file("--junit", options.junit, as_junit(several))

    def html() -> None:
        if options.html:
            output.write_file("--html", options.html, as_page(several))
            output.say(f"the page is in {options.html}")

    problems = []
    for write in (text, junit, html):
        try:
            write()
        except output.OutputError as problem:
            problems.append(problem)
    return problems
