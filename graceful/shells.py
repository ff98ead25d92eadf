"""Shells: what one was told to run, and when it looks at its traps.

A shell that was told to trap a signal does so when the command that it waits for has ended, be that in hours;
only the `wait` of a shell is interrupted (POSIX, 2.11 Signals and Error Handling).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, TypeAlias

from graceful.processes import Process

ReadScript: TypeAlias = Callable[[str], "str | None"]
"""From the path of a script to its text; None where it cannot be read."""

NAMES: Final = frozenset(
    {"sh", "dash", "bash", "ash", "busybox", "ksh", "ksh93", "mksh", "zsh", "fish", "rbash", "yash"}
)
"""By which a program is taken for a shell."""
_END_BY_EXIT_TRAPS: Final = frozenset({"sh", "bash", "rbash", "ksh", "ksh93"})  # sh may be a bash
_VALUED: Final = frozenset({"--rcfile", "--init-file"})
# Patterns are compiled when they are needed: few services are behind a shell with a trap.
# It waits, runs something beside itself, or runs what is written elsewhere: a trap may be looked at. `&` is
# none of `&&`, `>&`, `<&` and `&>`; `wait` is not a part of `wait-for-it.sh`.
_GETS_TO_ITS_TRAPS: Final = (
    r"(?<![\w./-])(?:wait|source|eval|coproc)(?![\w.-])|(?:^|[\s;&|(])\.\s|(?<![&<>\\])&(?![&>])"
)
_SETS_A_TRAP: Final = r"(?<![\w./-])trap\s"
_SETS_AN_EXIT_TRAP: Final = r"(?<![\w./-])trap\s.*\s(?:EXIT|0)(?!\w)"
_NAMES_THE_SIGNAL: Final = r"(?i)\b(?:SIG)?TERM\b|\b15\b"
_KILLS: Final = r"\bp?kill"


def is_shell(process: Process) -> bool:
    """Whether it was started by the name of a shell."""
    return process.program in NAMES


def script_of(shell: Process) -> tuple[str | None, str | None]:
    """The text that a shell was given with -c, or else the path of its script; neither where it reads its
    standard input.
    """
    words = list(shell.command[1:])
    if shell.program == "busybox":
        del words[:1]
    has_text = False
    while words and words[0][:1] in {"-", "+"} and len(words[0]) > 1:
        option = words.pop(0)
        if option == "--":
            break
        if option in _VALUED or (not option.startswith("--") and option[-1] in "oO"):
            del words[:1]
        has_text = has_text or (not option.startswith("--") and option[0] == "-" and "c" in option)
        if "s" in option and not option.startswith("--") and not has_text:
            return None, None
    first = words[0] if words else None
    return (first, None) if has_text else (None, first)


def is_interactive(shell: Process) -> bool:
    """Whether somebody sits at it, as far as that can be told: it was given neither a text nor a script."""
    return script_of(shell) == (None, None)


def text_of(shell: Process, read: ReadScript) -> str | None:
    """All that it was told to run, without comments; None where that cannot be known."""
    text, path = script_of(shell)
    if text is None and path is not None:
        text = read(path)
    return None if text is None else without_comments(text)


def without_comments(text: str) -> str:
    """`text` with nothing between a `#` that begins a comment and the end of its line."""
    place, begin, quote, kept = 0, 0, "", ""
    while place < len(text):
        character = text[place]
        if character == "\\" and quote != "'":
            place += 1
        elif quote or character in "\"'":
            quote = "" if character == quote else (quote or character)
        elif character == "#" and not text[max(place - 1, 0) : place].strip():
            kept += text[begin:place]
            place = begin = (text + "\n").find("\n", place)
        place += 1
    return kept + text[begin:]


def gets_to_its_traps(text: str | None) -> bool:
    """Whether a shell that runs `text` may look at its traps, or set them, while what it has started lives.
    True where nobody can know.
    """
    return text is None or re.search(_GETS_TO_ITS_TRAPS, text) is not None


def sets_a_trap(text: str | None) -> bool:
    """Whether it says `trap` somewhere."""
    return text is not None and re.search(_SETS_A_TRAP, text) is not None


def ends_by_exit_trap(shell: Process, text: str) -> bool | None:
    """Whether a shell that catches SIGTERM does so for the sake of a trap on EXIT, as bash and ksh do, and so
    ends at once. None where that trap may tell others before.
    """
    if shell.program not in _END_BY_EXIT_TRAPS or re.search(_SETS_AN_EXIT_TRAP, text) is None:
        return False
    if re.search(_KILLS, text) is not None:
        return None
    return re.search(_NAMES_THE_SIGNAL, text) is None
