"""What to write instead: from a command line that keeps SIGTERM to one that hands it to the service."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Sequence
from typing import Final

from graceful.processes import Process

_OPERATORS: Final = ("&&", "||", ";", "|", "\n", "&")
_ASSIGNMENTS: Final = re.compile(r"\s*(?:[A-Za-z_]\w*=\S*\s+)*")
_ALL_ARGUMENTS: Final = frozenset({'"$@"', "$@", "$*", '"$*"'})

ReadScript = Callable[[str], "str | None"]


def instead_of(keeper: Process, following: Process, script: ReadScript) -> str:
    """One sentence: what to write so that SIGTERM goes past `keeper` to the process that `following` it has
    started.
    """
    typed = as_typed(following.command)
    text, path = script_of(keeper)
    if text is not None:
        found = with_exec(text, typed)
        if found is None or found == (f"exec {shlex.join(typed)}", ""):
            return f"Write the exec form: {exec_form(typed)}"
        line, left_out = found
        return f"Write: CMD {line}{_why_left_out(left_out)}"
    if path is not None:
        body = script(path) or ""
        hands_on = any(words in body for words in _ALL_ARGUMENTS)
        last = 'exec "$@"' if hands_on else f"exec {shlex.join(typed)}"
        return f"End {path} with: {last}"
    return f"Make it PID 1 in the exec form: {exec_form(typed)}"


def as_typed(command: Sequence[str]) -> tuple[str, ...]:
    """The command as somebody would write it: without the interpreter that a script's first line brings in,
    and without the folders that PATH knows.
    """
    words = list(command)
    is_script = len(words) > 1 and "/bin/" in words[1] and "." not in words[1].rpartition("/")[2]
    if is_script and words[0].rpartition("/")[2].startswith(("python", "pypy")):
        del words[0]
    if words and "/bin/" in words[0]:
        words[0] = words[0].rpartition("/")[2]
    return tuple(words)


def exec_form(command: Sequence[str]) -> str:
    """`CMD ["graceful", "run", "app:app"]`, as a Dockerfile has it."""
    return f"CMD {json.dumps(list(command), ensure_ascii=False)}"


def script_of(shell: Process) -> tuple[str | None, str | None]:
    """The text that a shell was given with -c, or else the path of its script; neither where it reads its
    standard input.
    """
    words = list(shell.command[1:])
    if shell.program == "busybox":
        del words[:1]
    while words and words[0].startswith(("-", "+")):
        option = words.pop(0)
        if option == "--":
            break
        if not option.startswith("--") and "c" in option and words:
            return words[0], None
        if option[1:] in {"o", "O"} and words:
            del words[0]
    return None, words[0] if words else None


def is_interactive(shell: Process) -> bool:
    """Whether somebody sits at it: it was given neither a text nor a script."""
    return script_of(shell) == (None, None)


def may_wait(shell: Process, script: ReadScript) -> bool:
    """Whether a shell may be in its `wait`, which a trap interrupts, and not in a command, which it does not.
    True where its text cannot be read.
    """
    text, path = script_of(shell)
    if text is None and path is not None:
        text = script(path)
    return text is None or re.search(r"\bwait\b|\bsource\b|\beval\b|(?:^|[\s;&])\.\s", text) is not None


def with_exec(text: str, typed: Sequence[str]) -> tuple[str, str] | None:
    """`text` up to the command that starts the service, with `exec` before that, and what had to be left out:
    nothing follows an exec. None where the command is not found.
    """
    pieces = _commands_in(text)
    wanted = {typed[0].rpartition("/")[2]} if typed else set()
    for place in range(len(pieces) - 1, -1, -1):
        lead = _ASSIGNMENTS.match(pieces[place][0])
        assignments = lead.group() if lead else ""
        command = pieces[place][0][len(assignments) :].strip()
        first = command.split(maxsplit=1)[0] if command else ""
        if first.strip("\"'").rpartition("/")[2] not in wanted and first not in _ALL_ARGUMENTS:
            continue
        before = "".join(words + operator for words, operator in pieces[:place])
        if before.endswith("|") and not before.endswith("||"):
            return None  # a pipeline's parts run in shells of their own
        after = pieces[place][1] + "".join(words + operator for words, operator in pieces[place + 1 :])
        return f"{before}{assignments}exec {command}".strip(), after.strip()
    return None


def _why_left_out(rest: str) -> str:
    if rest.startswith("|") and not rest.startswith("||"):
        return "   (without the pipe: the engine keeps the output)"
    return "   (nothing can follow an exec)" if rest.strip(";") else ""


def _commands_in(text: str) -> list[tuple[str, str]]:
    """The text cut at the operators between commands, each with the operator that follows it."""
    pieces, begin, place, quote = [], 0, 0, ""
    while place < len(text):
        character = text[place]
        operator = next((each for each in _OPERATORS if text.startswith(each, place)), "")
        if character == "\\" and quote != "'":
            place += 2
        elif quote or character in "\"'":
            quote = "" if character == quote else (quote or character)
            place += 1
        elif operator and not _redirects(text, place):
            pieces.append((text[begin:place], operator))
            place = begin = place + len(operator)
        else:
            place += 1
    return [*pieces, (text[begin:], "")]


def _redirects(text: str, place: int) -> bool:
    """Whether the `&` at `place` belongs to a redirection: `2>&1`, `&>file`."""
    return text[place] == "&" and (
        text[place - 1 : place] in {">", "<"} or text[place + 1 : place + 2] == ">"
    )
