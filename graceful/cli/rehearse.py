"""`graceful rehearse`: run a service through its death before production does."""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NoReturn, TextIO

from graceful import signals
from graceful.errors import GracefulError
from graceful.rehearse import manifest
from graceful.rehearse.asserting import of_app
from graceful.rehearse.figures import Judged
from graceful.rehearse.judging import judge
from graceful.rehearse.machine import as_json, as_junit
from graceful.rehearse.model import (
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
from graceful.rehearse.requests import RequestError, hold_of, request_of, requests_in
from graceful.rehearse.rollout import Rollout
from graceful.rehearse.story import Progress, introduction, tell, tell_side_by_side

_USAGE: Final = 2
_INTERRUPTED: Final = 130
# A lame duck that outlives the removal of the endpoint by this, for an app that we start ourselves.
_AFTER_REMOVAL: Final = 0.5
_GRACE_PERIOD: Final = 30.0
_PROBE_PERIOD: Final = 0.5

_EPILOG: Final = """\
examples:
  graceful rehearse shop.app:app
  graceful rehearse --restarts 10 --rate 400 -- uvicorn shop.app:app --port {port}
  graceful rehearse --against "uvicorn shop.app:app --port {port}" --html page.html shop.app:app
  graceful rehearse --from deployment.yaml -- graceful run shop.app:app --port {port}
  graceful rehearse --once --pid1 -- sh -c "node server.js {port}"

exit code:
  0 nothing lost, and all ended by themselves in time   1 something was lost, or killed
  2 wrong usage, or it could not be rehearsed
"""


class _Parser(argparse.ArgumentParser):
    """argparse, with its complaint in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(_USAGE, f"{self.prog}: {message} (see {self.prog} --help)\n")


def _number(least: float) -> Callable[[str], float]:
    def number(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not least <= value < math.inf:
            message = f"found {text!r}; expected a number of at least {least:g}"
            raise argparse.ArgumentTypeError(message)
        return value

    return number


def _count(least: int, most: int) -> Callable[[str], int]:
    def count(text: str) -> int:
        if not text.isdecimal() or not least <= int(text) <= most:
            message = f"found {text!r}; expected a whole number from {least} to {most}"
            raise argparse.ArgumentTypeError(message)
        return int(text)

    return count


def _read(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        try:
            return parse(text)
        except RequestError as problem:
            raise argparse.ArgumentTypeError(str(problem)) from problem

    return read


def _parser() -> _Parser:
    parser = _Parser(
        prog="graceful rehearse",
        usage="%(prog)s [options] (MODULE:APP | -- COMMAND … {port} …)",
        description="Start a service, put load on it, take it away as an orchestrator would, and say what "
        "its users lost, and why.",
        epilog=_EPILOG,
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, width=100),
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("target", nargs="*", metavar="COMMAND", help="{port} stands for the port that a replica listens on")
    _add_service(parser.add_argument_group("the service"))
    _add_rollout(parser.add_argument_group("its restarts"))
    _add_load(parser.add_argument_group("its users"))
    _add_output(parser.add_argument_group("what is said"))
    return parser


def _add_service(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--from",
        dest="source",
        metavar="FILE",
        help="Kubernetes manifest, Compose file or Procfile; -: stdin",
    )
    add("--name", metavar="NAME", help="which workload of the file")
    add("--against", metavar="COMMAND", help="another service, rehearsed after it and set beside it")
    add("--grace-period", type=_number(0.0), metavar="SECONDS", help="until SIGKILL (default: 30)")
    add("--pre-stop", type=_number(0.0), metavar="SECONDS", help="a sleep before the signal (default: 0)")
    add("--signal", metavar="NAME", help="what asks it to end (default: SIGTERM)")
    add("--readiness", metavar="PATH", help="readiness probe by GET (default: it accepts connections)")
    add("--liveness", metavar="PATH", help="liveness probe by GET (default: none)")
    add("--tls", action="store_true", help="it speaks TLS; certificates are not verified")
    add("--unix-socket", action="store_true", help="it listens on a Unix socket, {socket} in the command")
    add("--pid1", action="store_true", help="each replica is PID 1 of a PID namespace")


def _add_rollout(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--replicas", type=_count(1, 50), metavar="N", help="how many (default: 2)")
    add("--restarts", type=_count(0, 1000), default=3, metavar="N", help="how many are replaced (default: 3)")
    add("--once", action="store_true", help="one replica dies, and none comes for it")
    add(
        "--removal-lag",
        type=_number(0.0),
        default=1.0,
        metavar="SECONDS",
        help="until endpoints are removed (default: 1)",
    )
    add(
        "--settle",
        type=_number(0.0),
        default=1.0,
        metavar="SECONDS",
        help="load before and after (default: 1)",
    )


def _add_load(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--rate", type=_number(0.1), default=100.0, metavar="N", help="requests a second (default: 100)")
    add(
        "--request",
        type=_read(request_of),
        action="append",
        metavar="SPEC",
        help="'POST /upload 64KiB *2' (default: GET /)",
    )
    add("--requests", metavar="FILE", help="a request on each line")
    add(
        "--hold",
        type=_read(hold_of),
        action="append",
        default=[],
        metavar="KIND:PATH[*N]",
        help="held open: stream, events or websocket",
    )
    add("--kept", type=_count(0, 10_000), default=20, metavar="N", help="kept connections (default: 20)")
    add("--timeout", type=_number(0.01), default=10.0, metavar="SECONDS", help="for an answer (default: 10)")
    add(
        "--seed",
        type=_count(0, 2**31),
        default=1,
        metavar="N",
        help="of all that is left to chance (default: 1)",
    )


def _add_output(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--json", action="store_true", help="one JSON document on stdout instead of text")
    add("--junit", metavar="FILE", help="write JUnit's XML there too")
    add("--html", metavar="FILE", help="write a page with the timeline as a picture there too")
    add("-q", "--quiet", action="store_true", help="no progress")


def main(argv: list[str]) -> int:
    """Run `graceful rehearse` with these arguments; returns its exit code, see the epilog of its help."""
    command: list[str] = []
    if "--" in argv:
        at = argv.index("--")
        argv, command = argv[:at], argv[at + 1 :]
    parser = _parser()
    try:
        options = parser.parse_args(argv)
        plans = _plans(options, [*options.target, *command])
    except SystemExit as end:  # argparse's way: 0 after --help, 2 after wrong usage
        return int(end.code or 0)
    except GracefulError as problem:
        sys.stderr.write(f"graceful rehearse: {problem}\n")
        return _USAGE
    try:
        seen = asyncio.run(_rehearse(plans, options))
        several = [Judged(rehearsal=each, verdict=judge(each)) for each in seen]
        _write(several, options)
    except GracefulError as problem:
        sys.stderr.write(f"graceful rehearse: {problem}\n")
        return _USAGE
    except OSError as problem:
        sys.stderr.write(f"graceful rehearse: {problem.filename or 'a file'}: {problem.strerror}\n")
        return _USAGE
    except KeyboardInterrupt:
        sys.stderr.write("graceful rehearse: interrupted; all that was started has been ended\n")
        return _INTERRUPTED
    return several[0].verdict.exit_code


# From options to plans.


def _plans(options: argparse.Namespace, words: Sequence[str]) -> list[Plan]:
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
    )
    service, replicas = _service(options, list(words))
    plan = Plan(
        service=service,
        replicas=options.replicas or replicas,
        restarts=options.restarts,
        removal_lag=options.removal_lag,
        once=options.once,
        settle=options.settle,
        load=load,
    )
    plans = [plan]
    if options.against:
        other = _overruled(_of_command(shlex.split(options.against)), options)
        plans.append(replace(plan, service=other))
    return plans


def _service(options: argparse.Namespace, words: list[str]) -> tuple[Service, int]:
    if options.source:
        found = manifest.load(options.source, name=options.name, command=words)
        for note in found.notes:
            sys.stderr.write(f"note: {note}\n")
        return _overruled(found.service, options), found.replicas
    if not words:
        message = "found no service; expected MODULE:APP, -- COMMAND …, or --from FILE"
        raise GracefulError(message)
    if len(words) == 1 and _is_app(words[0]):
        return _overruled(_of_app(words[0], options), options), 2
    return _overruled(_of_command(words), options), 2


def _is_app(word: str) -> bool:
    return re.fullmatch(r"[\w.]+:[\w.]+", word) is not None


def _of_app(target: str, options: argparse.Namespace) -> Service:
    """An app that we serve ourselves, with a lame duck for the lag that is rehearsed."""
    grace_period = _GRACE_PERIOD if options.grace_period is None else options.grace_period
    lame_duck = min(options.removal_lag + _AFTER_REMOVAL, grace_period / 2)
    service = of_app(target, lame_duck=lame_duck, grace_period=grace_period)
    if options.unix_socket:
        command = ("-m", "graceful", "run", target, "--uds", SOCKET, "--no-access-log")
        service = replace(service, command=(sys.executable, *command))
    return service


def _of_command(words: Sequence[str]) -> Service:
    if not any("{port}" in word or "{socket}" in word for word in words):
        message = (
            f"found {shlex.join(words)!r}; expected {{port}} in it, which stands for each replica's port"
        )
        raise GracefulError(message)
    return Service(name=Path(words[0]).name, command=tuple(words))


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
    return replace(service, **given)  # type: ignore[arg-type]  # named as the fields are


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
    seen = []
    for plan in plans:
        rollout = Rollout(plan, _progress(plan, options))
        seen.append(await rollout.run())
    return seen


def _progress(plan: Plan, options: argparse.Namespace) -> Callable[[Event], object]:
    if options.quiet:
        return lambda _event: None
    sys.stderr.write(f"{introduction(plan)}\n")
    began = asyncio.get_running_loop().time()
    return Progress(lambda line: sys.stderr.write(f"{line}\n"), began=began, colours=_has_colours(sys.stderr))


def _has_colours(stream: TextIO) -> bool:
    return stream.isatty() and "NO_COLOR" not in os.environ  # https://no-color.org


def _write(several: Sequence[Judged], options: argparse.Namespace) -> None:
    colours = _has_colours(sys.stdout)
    if options.json:
        sys.stdout.write(as_json(several))
    elif len(several) > 1:
        sys.stdout.write(tell_side_by_side(several, colours=colours) + "\n")
    else:
        sys.stdout.write(tell(several[0], colours=colours) + "\n")
    if options.junit:
        Path(options.junit).write_text(as_junit(several), encoding="utf-8")
    if options.html:
        Path(options.html).write_text(as_page(several), encoding="utf-8")
        sys.stderr.write(f"the page is in {options.html}\n")
