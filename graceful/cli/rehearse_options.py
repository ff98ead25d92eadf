"""The options of `graceful rehearse`, and its help."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import Any, Final

from graceful.cli.parsing import Parser
from graceful.rehearse.requests import RequestError, hold_of, request_of

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


def parser() -> argparse.ArgumentParser:
    """Ends the process by SystemExit where it is asked for help, or cannot understand."""
    made = Parser(
        prog="graceful rehearse",
        usage="%(prog)s [options] (MODULE:APP | -- COMMAND … {port} …)",
        description="Start a service, put load on it, take it away as an orchestrator would, and say what "
        "its users lost, and why.",
        epilog=_EPILOG,
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, width=100),
        allow_abbrev=False,
    )
    add = made.add_argument
    add(
        "target",
        nargs="*",
        metavar="COMMAND",
        help="{port} stands for the port that a replica listens on; MODULE:APP is started by `graceful run`, "
        "with a lame duck that outlives the removal lag",
    )
    _add_service(made.add_argument_group("the service (with --from, the defaults are the file's)"))
    _add_rollout(made.add_argument_group("its restarts"))
    _add_load(made.add_argument_group("its users"))
    _add_output(made.add_argument_group("what is said"))
    return made


def _add_service(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--from",
        dest="source",
        metavar="FILE",
        help="Kubernetes manifest, Compose file or Procfile; -: stdin",
    )
    add("--name", metavar="NAME", help="which workload of the file")
    add(
        "--against",
        metavar="COMMAND",
        help="another service (or MODULE:APP), rehearsed after it and set beside it; the exit code is that "
        "of the first",
    )
    add("--grace-period", type=_number(0.0), metavar="SECONDS", help="until SIGKILL (default: 30)")
    add("--pre-stop", type=_number(0.0), metavar="SECONDS", help="a sleep before the signal (default: 0)")
    add("--signal", metavar="NAME", help="what asks it to end (default: SIGTERM)")
    add(
        "--readiness",
        metavar="PATH",
        help="readiness probe by GET (default: /ready of MODULE:APP; a command has to accept connections)",
    )
    add("--liveness", metavar="PATH", help="liveness probe by GET (default: none)")
    add("--tls", action="store_true", help="the command speaks TLS; certificates are not verified")
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
    add(
        "--max-lateness",
        type=_number(0.0),
        default=0.05,
        metavar="SECONDS",
        help="no verdict where this machine sends later than that (default: 0.05)",
    )


def _add_output(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--json", action="store_true", help="one JSON document on stdout instead of text")
    add("--junit", metavar="FILE", help="write JUnit's XML there too")
    add("--html", metavar="FILE", help="write a page with the timeline as a picture there too")
    add("-q", "--quiet", action="store_true", help="no progress")
    add("-n", "--dry-run", action="store_true", help="say what would be run, and start nothing")
