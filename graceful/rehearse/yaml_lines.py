"""YAML whose every value knows its line, read within bounds from whoever wrote it.

No object is ever made of it but text, numbers, flags, lists and mappings: tags are refused. An alias is the
node that it names, not a copy: what is repeated a billion times costs no more than what is there once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any, Final, NoReturn, TypeAlias

import yaml

from graceful.errors import GracefulError
from graceful.rehearse.wording import escaped

LONGEST: Final = 512 * 1024
"""Characters of one file: many times what a service needs, read in seconds."""

_MOST_ALIASES: Final = 1000
_MOST_MERGED: Final = 20_000  # fields that came by `<<`, in all
_DEEPEST: Final = 50

Scalar: TypeAlias = str | int | float | bool | None
Value: TypeAlias = "Scalar | list[Node] | dict[str, Node]"


class ManifestError(GracefulError):
    """A manifest cannot be meant: `file`, `line` (None: the whole of it) and what is wrong there."""

    def __init__(self, file: str, line: int | None, problem: str) -> None:
        place = file if line is None else f"{file}:{line}"
        super().__init__(escaped(f"{place}: {problem}"))
        self.file = file
        self.line = line
        self.problem = problem


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Node:
    """A value, the line on which it or its name stands, and what was written there (of text, numbers and
    flags only).
    """

    value: Value
    line: int
    written: str = ""


def read(text: str, file: str) -> list[Node]:
    """The documents of `text`, without the empty ones. Raises ManifestError, with `file` as its name."""
    if len(text) > LONGEST:
        message = f"found {len(text)} characters; expected {LONGEST} at most"
        raise ManifestError(file, None, message)
    builder = _Builder(file)
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = error.problem or error.context or "no YAML"
        raise ManifestError(file, mark.line + 1 if mark else None, f"no YAML: {problem}") from error
    except yaml.YAMLError as error:  # of characters that YAML does not allow
        raise ManifestError(file, None, f"no YAML: {error}") from error
    return [document for document in builder.documents if document.value is not None]


class _Open:
    """A list, a mapping or a document whose end has not come."""

    def __init__(self, value: list[Node] | dict[str, Node] | None, line: int, anchor: str | None) -> None:
        self.value = value
        self.line = line
        self.anchor = anchor
        self.key: Node | None = None
        self.merged: list[Node] = []


class _Builder:
    """Nodes from events. A stack of our own: nothing that is nested deep can exhaust Python's."""

    def __init__(self, file: str) -> None:
        self.documents: list[Node] = []
        self._file = file
        self._open: list[_Open] = []
        self._anchors: dict[str, Node | None] = {}  # None: not yet at its end
        self._aliases = 0
        self._merged = 0

    def take(self, event: Any) -> None:
        line = event.start_mark.line + 1
        match event:
            case yaml.DocumentStartEvent():
                self._anchors.clear()
            case yaml.ScalarEvent():
                self._refuse_tag(event, line)
                self._refuse_unusable(event.value, line)
                value = event.value if event.style else _resolved(event.value)
                self._add(Node(value=value, line=line, written=event.value), event.anchor)
            case yaml.SequenceStartEvent() | yaml.MappingStartEvent():
                self._refuse_tag(event, line)
                self._begin([] if isinstance(event, yaml.SequenceStartEvent) else {}, line, event.anchor)
            case yaml.SequenceEndEvent() | yaml.MappingEndEvent():
                self._end()
            case yaml.AliasEvent():
                self._add(self._aliased(event.anchor, line), None)

    def _refuse_tag(self, event: Any, line: int) -> None:
        if event.tag is not None:
            self._fail(line, f"found the tag {event.tag}; expected plain values, without tags")

    def _refuse_unusable(self, text: str, line: int) -> None:
        """By escapes text can have in it what no command or variable can."""
        if "\0" in text or any("\ud800" <= each <= "\udfff" for each in text):
            self._fail(line, "found a zero character or half a surrogate pair; expected text")

    def _begin(self, value: list[Node] | dict[str, Node], line: int, anchor: str | None) -> None:
        if len(self._open) >= _DEEPEST:
            self._fail(line, f"found more than {_DEEPEST} levels; expected fewer")
        if anchor is not None:
            self._anchors[anchor] = None
        self._open.append(_Open(value, line, anchor))

    def _end(self) -> None:
        it = self._open.pop()
        if isinstance(it.value, dict):
            self._merge(it, it.value)
        self._add(Node(value=it.value, line=it.line), it.anchor)

    def _add(self, node: Node, anchor: str | None) -> None:
        if anchor is not None:
            self._anchors[anchor] = node
        if not self._open:
            self.documents.append(node)
            return
        it = self._open[-1]
        if isinstance(it.value, list):
            it.value.append(node)
        elif it.key is None:
            it.key = node
        else:
            self._put(it, it.key, node)
            it.key = None

    def _put(self, it: _Open, key: Node, node: Node) -> None:
        assert isinstance(it.value, dict)  # noqa: S101 - only these have keys
        if isinstance(key.value, list | dict):
            self._fail(key.line, "found a list or a mapping as a name; expected text")
        if key.written == "<<":
            it.merged += node.value if isinstance(node.value, list) else [node]
        elif key.written in it.value:
            first = it.value[key.written].line
            self._fail(key.line, f"{key.written}: found a second time; it stands on line {first} already")
        else:
            # What is wrong with a value is found where its name stands.
            it.value[key.written] = replace(node, line=key.line)

    def _merge(self, it: _Open, value: dict[str, Node]) -> None:
        """`<<: *other`: what is written here wins, then the first of several."""
        for each in it.merged:
            if not isinstance(each.value, dict):
                self._fail(each.line, "<<: expected a mapping, or a list of them")
            self._merged += len(each.value)
            if self._merged > _MOST_MERGED:
                self._fail(it.line, f"<<: found more than {_MOST_MERGED} fields that were merged in")
            for name, node in each.value.items():
                value.setdefault(name, node)

    def _aliased(self, anchor: str, line: int) -> Node:
        self._aliases += 1
        if self._aliases > _MOST_ALIASES:
            self._fail(line, f"found more than {_MOST_ALIASES} aliases; expected fewer")
        if anchor not in self._anchors:
            self._fail(line, f"found the alias *{anchor}; expected &{anchor} before it")
        node = self._anchors[anchor]
        if node is None:
            self._fail(line, f"found *{anchor} within &{anchor}: it would contain itself")
        return node

    def _fail(self, line: int, problem: str) -> NoReturn:
        raise ManifestError(self._file, line, problem)


# What plain text stands for, as Kubernetes' reader has it (YAML 1.1), but for numbers to the base of 60.
_NULLS: Final = frozenset({"", "~", "null", "Null", "NULL"})
_FLAGS: Final = {
    spelled: word in {"yes", "on", "true"}
    for word in ("yes", "no", "on", "off", "true", "false")
    for spelled in (word, word.capitalize(), word.upper())
}
_WHOLE: Final = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})")
_OCTAL: Final = re.compile(r"0o?[0-7]{1,20}")
_HEXADECIMAL: Final = re.compile(r"0x[0-9a-fA-F]{1,15}")
_NUMBER: Final = re.compile(r"[-+]?([0-9]{1,300}(\.[0-9]{0,300})?|\.[0-9]{1,300})([eE][-+]?[0-9]{1,3})?")


def _resolved(text: str) -> Scalar:
    if text in _NULLS:
        return None
    if text in _FLAGS:
        return _FLAGS[text]
    if _WHOLE.fullmatch(text):
        return int(text)
    if _OCTAL.fullmatch(text):
        return int(text.replace("o", ""), 8)
    if _HEXADECIMAL.fullmatch(text):
        return int(text, 16)
    return float(text) if _NUMBER.fullmatch(text) else text
