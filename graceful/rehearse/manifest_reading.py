"""Reading a manifest: a place in it, what is expected there, and what becomes of the whole."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final, NoReturn

from graceful.rehearse.model import PORT, Service
from graceful.rehearse.wording import escaped, one_line
from graceful.rehearse.yaml_lines import ManifestError, Node

LAST_PORT: Final = 65_535
LARGEST: Final = 2**31 - 1  # of the numbers that the API takes
_ALIKE: Final = 0.6  # of difflib: what is less alike was not meant


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a manifest says. `what` names it for people; `notes` are what cannot be honoured here, and what is
    another here, one line each.
    """

    service: Service
    replicas: int
    what: str
    notes: tuple[str, ...] = ()


class Place:
    """One value of a manifest. What cannot be meant is refused with its file, line and path."""

    def __init__(self, file: str, node: Node, path: str = "") -> None:
        self.file = file
        self.node = node
        self.path = path

    @property
    def line(self) -> int:
        """The line on which it begins."""
        return self.node.line

    def anew(self) -> Place:
        """The same, from where on paths are told."""
        return Place(self.file, self.node)

    def note(self, text: str) -> str:
        """A remark about it, in one line."""
        return escaped(f"{self.file}:{self.line}: {f'{self.path}: ' if self.path else ''}{text}")

    def fail(self, problem: str) -> NoReturn:
        """Raise ManifestError."""
        raise ManifestError(self.file, self.line, f"{self.path}: {problem}" if self.path else problem)

    def refuse(self, expected: str) -> NoReturn:
        """Raise ManifestError with what was found here, and what was `expected`."""
        self.fail(f"found {self.shown()}; expected {expected}")

    def shown(self) -> str:
        """What stands here, in a few words."""
        match self.node.value:
            case None:
                return "nothing"
            case dict():
                return "a mapping"
            case list() as items:
                return "a list" if items else "an empty list"
            case str():
                return repr(one_line(self.node.written))
            case _:
                return self.node.written

    # A mapping.

    def fields(self, known: Collection[str] | None = None) -> dict[str, Place]:
        """The fields of a mapping that are not null. Raises for anything else, and for one that is not
        `known`.
        """
        places = self._all_fields()
        for name in places:
            if known is not None and name not in known:
                self.refuse_field(name, known)
        return {name: place for name, place in places.items() if place.node.value is not None}

    def refuse_field(self, name: str, known: Collection[str]) -> NoReturn:
        """Raise ManifestError for a field that is not `known`."""
        nearest = difflib.get_close_matches(name, known, n=1, cutoff=_ALIKE)
        hint = f"the nearest is {nearest[0]}" if nearest else f"expected one of {', '.join(sorted(known))}"
        self._all_fields()[name].fail(f"unknown field; {hint}")

    def names(self) -> list[str]:
        """The names of a mapping's fields, those that are null too."""
        return list(self._all_fields())

    def get(self, name: str) -> Place | None:
        """The field `name` of a mapping, None where it is missing or null."""
        return self.fields().get(name)

    def need(self, name: str, what: str) -> Place:
        """The field `name` of a mapping. Raises where it is missing: `what` is expected."""
        return self.get(name) or self.fail(f"{name} is missing; expected {what}")

    def _all_fields(self) -> dict[str, Place]:
        if not isinstance(self.node.value, dict):
            self.refuse("a mapping")
        within = f"{self.path}." if self.path else ""
        return {
            name: Place(self.file, node, f"{within}{one_line(name)}")
            for name, node in self.node.value.items()
        }

    # A list.

    def __iter__(self) -> Iterator[Place]:
        if not isinstance(self.node.value, list):
            self.refuse("a list")
        for index, node in enumerate(self.node.value):
            yield Place(self.file, node, f"{self.path}[{index}]")

    @property
    def is_list(self) -> bool:
        """Whether it is one."""
        return isinstance(self.node.value, list)

    @property
    def is_mapping(self) -> bool:
        """Whether it is one."""
        return isinstance(self.node.value, dict)

    # One value.

    def text(self, expected: str = "text") -> str:
        """Text; a number or a flag is none, as Kubernetes has it."""
        if isinstance(self.node.value, str):
            return self.node.value
        quotes = "" if self.is_list or self.is_mapping or self.node.value is None else " (put it in quotes)"
        return self.refuse(f"{expected}{quotes}")

    def texts(self, expected: str = "a list of text") -> tuple[str, ...]:
        """A list of text that has something in it."""
        texts = tuple(each.text() for each in self)
        return texts or self.refuse(expected)

    def written(self, expected: str = "text") -> str:
        """Text, or a number or a flag as it was written."""
        if self.is_list or self.is_mapping or self.node.value is None:
            self.refuse(expected)
        return self.node.written

    def whole(self, least: int, most: int = LARGEST) -> int:
        """A whole number from `least` to `most`."""
        value = self.node.value
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            bounds = f"from {least} to {most}" if most < LARGEST else f"of at least {least}"
            if isinstance(value, int) and value > LARGEST:
                bounds = f"of {LARGEST} at most"
            self.refuse(f"a whole number {bounds}")
        return value

    def port(self) -> int:
        """A port's number."""
        return self.whole(1, LAST_PORT)

    def one_of(self, words: Collection[str]) -> str:
        """One of `words`, as it is spelled there."""
        word = self.text(f"one of {', '.join(words)}")
        if word in words:
            return word
        nearest = difflib.get_close_matches(
            word.lower(), [each.lower() for each in words], n=1, cutoff=_ALIKE
        )
        hint = "".join(f" (the nearest is {each})" for each in words if each.lower() in nearest)
        return self.refuse(f"one of {', '.join(words)}{hint}")


class OwnPort:
    """The port that a manifest names, and in whose place each replica has one of its own here: on one machine
    they cannot share it.
    """

    def __init__(self, number: int | None) -> None:
        self.number = number
        self.places: list[str] = []
        self._pattern = re.compile(rf"(?<![\d.]){number}(?!\w|\.\d)")

    def put(self, text: str, where: str) -> str:
        """`text` with the replica's port in the place of the manifest's. `where` it stood, or stands already,
        is remembered.
        """
        changed = text if self.number is None else self._pattern.sub(PORT, text)
        if PORT in changed:
            self.stands_in(where)
        return changed

    def stands_in(self, where: str) -> None:
        """The port stood there, too."""
        if where not in self.places:
            self.places.append(where)

    @property
    def is_told(self) -> bool:
        """Whether the process learns of it by its command or its environment."""
        return any(where.startswith(("command", "env")) for where in self.places)

    def note(self) -> str:
        """What was changed, in one line."""
        if self.is_told:
            named = "the port" if self.number is None else f"port {self.number}"
            return f"{named} is each replica's own here, in {', '.join(self.places)}"
        named = "no port is named" if self.number is None else f"port {self.number} is named nowhere"
        return (
            f"{named} in the command or its environment: each replica is given PORT; "
            f"write {PORT} where it belongs if it does not read that"
        )
