"""What to write instead: from a command line that keeps SIGTERM to one that hands it to the service."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from graceful import shells
from graceful.processes import Process, shown

_LONGEST: Final = 400  # characters of a remedy: it is a line in a log
_LONGEST_REST: Final = 60
_OPERATORS: Final = ("&&", "||", ";", "|", "\n", "&")
_ASSIGNMENTS: Final = re.compile(r"""\s*(?:[A-Za-z_]\w*=(?:"[^"]*"|'[^']*'|[^\s"'])*\s+)*""")
_FOR_SHELLS: Final = frozenset("$`*?[]~<>(){}!#\\")
_ALL_ARGUMENTS: Final = frozenset({'"$@"', "$@", "$*", '"$*"', '"${@}"', "${@}"})
# Each becomes the command that is behind it.
_BECOMES_ANOTHER: Final = frozenset(
    {"chroot", "chrt", "env", "gosu", "ionice", "nice", "nohup", "setpriv", "stdbuf", "su-exec", "taskset"}
)
_ENDS_OF_BLOCKS: Final = frozenset({"fi", "done", "esac", "}"})
_ON_EVERY_PATH: Final = frozenset(
    {"/bin", "/sbin", "/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"}
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WithExec:
    """A text for a shell with `exec` before the command that starts the service.

    `line` is all of it up to the end of that command, `command` that command alone; `left_out` came after it:
    nothing follows an exec.
    """

    line: str
    command: str
    left_out: str

    @property
    def words(self) -> list[str]:
        """The command in words without `exec`; none where only a shell can make sense of the line."""
        simple = self.line.removeprefix("exec ")
        if self.line != self.command or simple == self.line or not _FOR_SHELLS.isdisjoint(simple):
            return []
        try:
            return shlex.split(simple)
        except ValueError:  # it is cut where a shell would not: at an operator in a here-document, say
            return []


def instead_of(keeper: Process, following: Process, read: shells.ReadScript) -> str:
    """One sentence: what to write so that SIGTERM goes past `keeper` to the process that `following` it has
    started. One line, and none that is endless.
    """
    typed = as_typed(following.command)
    text, path = shells.script_of(keeper) if shells.is_shell(keeper) else (None, None)
    if text is not None:
        return _instead_of_text(keeper, text, typed)
    if path is not None:
        return _instead_of_script(path, read(path) or "", typed)
    return f"Make it PID 1 in the exec form: {exec_form(typed)}"


def _instead_of_text(shell: Process, text: str, typed: Sequence[str]) -> str:
    found = with_exec(text, typed)
    if found is None:
        return f"Write the exec form: {exec_form(typed)}"
    place = shell.command.index(text)
    rest, options = shell.command[place + 1 :], shell.command[1:place]
    needs_its_shell = bool(rest) or any(map(_reads_a_profile, options))
    if found.words and not needs_its_shell:
        return f"Write the exec form: {exec_form(found.words)}{_what_is_left_out(found.left_out)}"
    if "\n" in found.line or len(found.line) > _LONGEST:
        return f"Put exec before the command that starts the service: {shown(found.command, _LONGEST)}"
    if rest or tuple(options) != ("-c",) or shell.program not in {"sh", "dash", "ash"}:
        form = exec_form([*shell.command[:place], found.line, *rest])
        return f"Write: {form}{_what_is_left_out(found.left_out)}"
    return f"Write: CMD {shown(found.line, _LONGEST)}{_what_is_left_out(found.left_out)}"


def _instead_of_script(path: str, body: str, typed: Sequence[str]) -> str:
    found = with_exec(body, typed)
    if found is None:
        return f"End {shown(path)} with: exec {shown(shlex.join(typed), _LONGEST)}"
    return f"In {shown(path)} write: {shown(found.command, _LONGEST)}{_what_is_left_out(found.left_out)}"


def as_typed(command: Sequence[str]) -> tuple[str, ...]:
    """The command as somebody would write it: without the interpreter that a script's first line brings in,
    and without the folders that are on every PATH.
    """
    words = list(command)
    is_script = len(words) > 1 and "/bin/" in words[1] and "." not in words[1].rpartition("/")[2]
    if is_script and words[0].rpartition("/")[2].startswith(("python", "pypy")):
        del words[0]
    folder, _, name = words[0].rpartition("/") if words else ("", "", "")
    if folder in _ON_EVERY_PATH:
        words[0] = name
    return tuple(words)


def _reads_a_profile(option: str) -> bool:
    """Whether a shell with that option is a login shell, or an interactive one."""
    letters = option[1:] if option[:1] == "-" != option[1:2] else ""
    return option == "--login" or not {"i", "l"}.isdisjoint(letters)


def exec_form(command: Sequence[str]) -> str:
    """`CMD ["graceful", "run", "app:app"]`, as a Dockerfile has it."""
    words = json.dumps(list(command), ensure_ascii=False)
    return shown(f"CMD {words if words.isprintable() else json.dumps(list(command))}", _LONGEST)


def with_exec(text: str, typed: Sequence[str]) -> WithExec | None:
    """`text` with `exec` before the command that has become the process `typed`. None where that is not
    found, or where an exec would not help: in a pipeline or in parentheses, which are shells of their own.
    """
    pieces = list(_commands_in(shells.without_comments(text)))
    names = {each.rpartition("/")[2] for each in typed[:2]}
    likeness = [_likeness(command, names, typed) for command, _ in pieces]
    if not any(likeness):
        return None
    place = max(range(len(pieces)), key=lambda each: (likeness[each], each))
    lead = _assignments_of(pieces[place][0])
    command = f"{lead}exec {pieces[place][0][len(lead) :].strip()}"
    before = "".join(words + operator for words, operator in pieces[:place])
    if (before.endswith("|") and not before.endswith("||")) or before.count("(") > before.count(")"):
        return None
    after = pieces[place][1] + "".join(words + operator for words, operator in pieces[place + 1 :])
    return WithExec(line=f"{before}{command}".strip(), command=command.strip(), left_out=after.strip())


def _likeness(piece: str, names: set[str], typed: Sequence[str]) -> int:
    """How many words of `typed` are in a command; 0 where it starts something else."""
    words = _words(piece[len(_assignments_of(piece)) :])
    if not words:
        return 0
    if words[0] in _ALL_ARGUMENTS:
        return 1
    first = words[0].rpartition("/")[2]
    if first in _BECOMES_ANOTHER:
        first = next((each for word in words[1:] if (each := word.rpartition("/")[2]) in names), first)
    return len({*typed} & {*words}) + 1 if first in names else 0


def _assignments_of(piece: str) -> str:
    lead = _ASSIGNMENTS.match(piece)
    return lead.group() if lead else ""


def _words(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError:  # as in `WithExec.words`
        return command.split()


def _what_is_left_out(rest: str) -> str:
    if not {*rest.replace(";", " ").split()} - _ENDS_OF_BLOCKS:
        return ""
    is_pipe = rest.startswith("|") and not rest.startswith("||")
    why = ": the engine keeps the output" if is_pipe else ", for which a shell would have to stay"
    return f"   (this leaves out `{shown(rest, _LONGEST_REST)}`{why})"


def _commands_in(text: str) -> Iterator[tuple[str, str]]:
    """The text cut at the operators between commands, each with the operator that follows it."""
    begin, place, quote = 0, 0, ""
    while place < len(text):
        character = text[place]
        if character == "\\" and quote != "'":
            place += 2
        elif quote or character in "\"'":
            quote = "" if character == quote else (quote or character)
            place += 1
        elif operator := _operator_at(text, place):
            yield text[begin:place], operator
            place = begin = place + len(operator)
        else:
            place += 1
    yield text[begin:], ""


def _operator_at(text: str, place: int) -> str:
    """The operator between commands that begins there, or nothing; the `&` of `2>&1` and `&>file` is none."""
    found = next((each for each in _OPERATORS if text.startswith(each, place)), "")
    redirects = text[max(place - 1, 0) : place] in {">", "<"} or text[place + 1 : place + 2] == ">"
    return "" if found == "&" and redirects else found
