"""The pages of the documentation as the tests read them: blocks of code and tables."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from graceful.settings import FIELDS

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [README, *DOCS]
EXAMPLES = sorted((ROOT / "examples").glob("[0-9]*.py"))

SETTINGS = {each.name: each for each in FIELDS}
PROBES = {"/healthz", "/ready", "/metrics"}
ROUTES = {path for file in EXAMPLES for path in re.findall(r'Route\("([^"]+)"', file.read_text())}


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One code block of a page; `language` is empty for an indented one."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks_of(page: Path) -> Iterator[Block]:
    lines = page.read_text().splitlines()
    indented: list[str] = []
    fence: tuple[int, str] | None = None
    for number, line in enumerate([*lines, ""], start=1):
        if line.startswith("```"):
            if fence is None:
                fence = number, line[3:].strip()
                assert fence[1], f"{page.name}:{number}: a block without a language is not checked"
            else:
                yield Block(
                    page=page, line=fence[0], language=fence[1], text="\n".join(lines[fence[0] : number - 1])
                )
                fence = None
        elif fence is None and line.startswith("    "):
            indented.append(line[4:])
        elif indented:
            yield Block(page=page, line=number - len(indented), language="", text="\n".join(indented))
            indented = []
    assert fence is None, f"{page.name}: a block is not closed"


BLOCKS = [block for page in PAGES for block in blocks_of(page)]


def of_language(*languages: str) -> list[Block]:
    return [block for block in BLOCKS if block.language in languages]


def rows(page: Path, heading: str) -> list[list[str]]:
    """The cells of the first table whose head begins with `heading`."""
    lines = page.read_text().splitlines()
    begin = next(number for number, line in enumerate(lines) if line.startswith(f"| {heading} |"))
    found = []
    for line in lines[begin + 2 :]:
        if not line.startswith("|"):
            break
        found.append([cell.strip() for cell in line.strip("|").split(" | ")])
    return found


def code_in(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)
