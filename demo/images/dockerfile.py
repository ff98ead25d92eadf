"""What a Dockerfile says of the process that it starts: as much of its language as is used here."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

_SHELL = ("/bin/sh", "-c")


@dataclass(frozen=True, slots=True, kw_only=True)
class Dockerfile:
    """`summary` is its first comment; `copied` has the path in the image of what comes from the build
    context, by its path there; `workdir` is that of the last stage.
    """

    summary: str
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    copied: dict[str, str] = field(default_factory=dict)
    workdir: str = ""

    @property
    def arguments(self) -> tuple[str, ...]:
        """What PID 1 is started with: an entrypoint in shell form takes no notice of CMD (Docker's reference,
        "Understand how CMD and ENTRYPOINT interact").
        """
        if self.entrypoint[:2] == _SHELL:
            return self.entrypoint
        return self.entrypoint + self.command


def parse(text: str) -> Dockerfile:
    """Of the last stage. Raises ValueError for an instruction that cannot be read."""
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    copied: dict[str, str] = {}
    workdir = ""
    for name, rest in instructions(text):
        match name:
            case "FROM":
                entrypoint, command, copied, workdir = (), (), {}, ""
            case "ENTRYPOINT":
                entrypoint, command = _form(rest), ()  # one that is inherited goes
            case "CMD":
                command = _form(rest)
            case "WORKDIR":
                workdir = rest
            case "COPY" if not rest.startswith("--"):
                *sources, target = rest.split()
                copied |= {source: _landed(source, target, workdir) for source in sources}
    first = re.match(r"# (.+)", text)
    return Dockerfile(
        summary=first[1] if first else "",
        entrypoint=entrypoint,
        command=command,
        copied=copied,
        workdir=workdir,
    )


def read(path: Path) -> Dockerfile:
    """The Dockerfile at `path`."""
    return parse(path.read_text(encoding="utf-8"))


def instructions(text: str) -> list[tuple[str, str]]:
    """Name, in capitals, and the rest of each instruction, without comments, on one line."""
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    whole = re.sub(r"\\\n", "", lines)
    found = []
    for line in filter(str.strip, whole.splitlines()):
        name, _, rest = line.strip().partition(" ")
        found.append((name.upper(), rest.strip()))
    return found


def _form(rest: str) -> tuple[str, ...]:
    """The words of an exec form; a shell form is one word for the shell."""
    if not rest.startswith("["):
        return (*_SHELL, rest)
    words = json.loads(rest)
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        message = f"found {rest}, expected a list of strings"
        raise ValueError(message)
    return tuple(words)


def _landed(source: str, target: str, workdir: str) -> str:
    if target.endswith("/"):
        target += source.rpartition("/")[2]
    return target if target.startswith("/") else f"{workdir}/{target}"
