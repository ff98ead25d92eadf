"""`graceful doctor`: whether SIGTERM reaches the service, who keeps it if not, and what to write instead.

It runs beside the service, in its container or on its host, and only reads /proc.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any, Final

from graceful.cli.doctor_findings import Finding, diagnose, names_of, orphans, services
from graceful.cli.parsing import WRONG_USAGE, Parser
from graceful.delivery import CONSEQUENCE, Answer, Link
from graceful.processes import Process, ProcessTable

_FINE: Final = 0
_NOT_FINE: Final = 1
_CANNOT_TELL: Final = 3
_SHOWN: Final = 5
_HIDDEN: Final = (
    "; other users' processes are hidden (hidepid of /proc): ask as the user of the service, or as root"
)

_EPILOG: Final = """\
examples:
  docker exec web graceful doctor
  kubectl exec deploy/web -- graceful doctor --json
  graceful doctor --pid 4711

exit code:
  0 SIGTERM arrives and the budget fits   1 it does not   2 wrong usage   3 cannot tell

What cannot be seen from here: PID namespaces above this one, which signal is sent (STOPSIGNAL), and
settings that the service's own code makes.
"""


def _pid(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 1 << 31:
        message = f"found {text!r}; expected the id of a process, a number above 0"
        raise argparse.ArgumentTypeError(message)
    return int(text)


def _parser() -> Parser:
    parser = Parser(
        prog="graceful doctor",
        description="Will SIGTERM reach the service? What is PID 1? Does the budget fit?",
        epilog=_EPILOG,
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, width=100),
        allow_abbrev=False,
    )
    parser.add_argument(
        "--pid",
        type=_pid,
        metavar="N",
        help="the process to look at (default: in a container its Python processes, on a host those of "
        "`graceful run`)",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")
    return parser


def main(argv: list[str]) -> int:
    """Run `graceful doctor` with these arguments: 0 fine, 1 not, 2 wrong usage, 3 cannot tell.

    The findings go to stdout, what was wrong with the question to stderr.
    """
    try:
        options = _parser().parse_args(argv)
    except SystemExit as end:  # argparse's way: 0 after --help, 2 after wrong usage
        return int(end.code or 0)
    if isinstance(sys.stdout, io.TextIOWrapper):  # a command line may hold what the terminal cannot show
        sys.stdout.reconfigure(errors="backslashreplace")
    table = ProcessTable()
    if not table.is_readable:
        return _say_unknown("there is no /proc of this PID namespace to read", as_json=options.json)
    everyone = table.everyone()
    hidden = "" if any(each.pid == 1 for each in everyone) else _HIDDEN
    findings = []
    for pid in [options.pid] if options.pid else services(table, everyone, os.getpid()):
        with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
            findings.append(diagnose(table, pid))
    if not findings and options.pid and not hidden:
        sys.stderr.write(f"graceful doctor: found no process {options.pid}; expected one that runs here\n")
        return WRONG_USAGE
    if not findings:
        missing = f"no process {options.pid}" if options.pid else "no service"
        way_out = hidden or "; say which process: --pid N"
        return _say_unknown(f"found {missing} here{way_out}", as_json=options.json)
    left = orphans(everyone)
    text = json.dumps(_as_dict(table, findings, left)) if options.json else _as_text(table, findings, left)
    sys.stdout.write(f"{text}\n")
    verdicts = {each.is_fine for each in findings}
    return _NOT_FINE if False in verdicts else _CANNOT_TELL if None in verdicts else _FINE


def _say_unknown(why: str, *, as_json: bool) -> int:
    if as_json:
        sys.stdout.write(json.dumps({"answer": Answer.UNKNOWN, "why": why, "processes": []}) + "\n")
    else:
        sys.stderr.write(f"graceful doctor: cannot tell: {why}\n")
    return _CANNOT_TELL


def _worst(findings: Sequence[Finding]) -> Answer:
    answers = {each.delivery.answer for each in findings}
    return next(each for each in (Answer.LOST, Answer.UNKNOWN, Answer.ARRIVES) if each in answers)


# For people.


def _as_text(table: ProcessTable, findings: Sequence[Finding], left: Sequence[Process]) -> str:
    lines: list[str] = []
    for each in findings:
        lines += [*_paragraph(each), ""]
    init = table.read(1)
    lines.append(f"PID 1:     {'cannot be seen from here' if init is None else init.command_line}")
    lines += _of_orphans(left)
    return "\n".join(lines)


def _paragraph(finding: Finding) -> Iterator[str]:
    delivery, budget = finding.delivery, finding.budget
    target = delivery.target
    yield f"SIGTERM {_verb(delivery.answer)} process {target.pid}: {target.command_line}"
    yield ""
    width = max(len(str(each.process.pid)) for each in delivery.links)
    for depth, link in enumerate(delivery.links):
        yield from _step(link, depth, width, is_keeper=link is delivery.keeper)
    yield ""
    if delivery.answer is Answer.UNKNOWN:
        yield f"why:       {delivery.why}"
    if delivery.keeper is not None:
        yield f"then:      {CONSEQUENCE[delivery.keeper.fate]}"
    if delivery.instead is not None:
        yield f"way out:   {delivery.instead}"
    sets = {"caught": target.caught, "ignored": target.ignored, "blocked": target.blocked}
    yield "signals:   " + "; ".join(f"{name} {_listed(numbers)}" for name, numbers in sets.items())
    yield f"budget:    {'' if budget.fits is not False else 'DOES NOT FIT: '}{budget.line}"
    if budget.note is not None:
        yield f"           {budget.note}"


def _verb(answer: Answer) -> str:
    verbs = {Answer.ARRIVES: "reaches", Answer.LOST: "DOES NOT REACH", Answer.UNKNOWN: "may or may not reach"}
    return verbs[answer]


def _step(link: Link, depth: int, width: int, *, is_keeper: bool) -> Iterator[str]:
    yield f"  {link.process.pid:>{width}}  {'  ' * depth}{link.process.command_line}"
    yield f"  {'':>{width}}  {'  ' * depth}{'^ ' if is_keeper else '  '}{link.fate.value}"


def _listed(numbers: frozenset[int]) -> str:
    return " ".join(names_of(numbers)) or "none"


def _of_orphans(left: Sequence[Process]) -> Iterator[str]:
    if left:
        shown = " ".join(str(each.pid) for each in left[:_SHOWN]) + (" …" if len(left) > _SHOWN else "")
        yield f"orphans:   {len(left)} ended, and PID 1 does not reap them: {shown}"
        yield "           put an init before the exec form: docker run --init, or tini"


# For programs.


def _as_dict(table: ProcessTable, findings: Sequence[Finding], left: Sequence[Process]) -> dict[str, Any]:
    init = table.read(1)
    return {
        "answer": _worst(findings),
        "pid1": None if init is None else list(init.command),
        "processes": [_one(each) for each in findings],
        "orphans": [each.pid for each in left],
    }


def _one(finding: Finding) -> dict[str, Any]:
    delivery, budget, target = finding.delivery, finding.budget, finding.delivery.target
    return {
        "pid": target.pid,
        "command": list(target.command),
        "answer": delivery.answer,
        "why": delivery.why,
        "instead": delivery.instead,
        "kept_by": None if delivery.keeper is None else delivery.keeper.process.pid,
        "way": [
            {
                "pid": each.process.pid,
                "command": list(each.process.command),
                "fate": each.fate.name.lower(),
            }
            for each in delivery.links
        ],
        "signals": {
            "caught": names_of(target.caught),
            "ignored": names_of(target.ignored),
            "blocked": names_of(target.blocked),
        },
        "platform": budget.platform,
        "budget": {"fits": budget.fits, "line": budget.line, "note": budget.note},
    }
