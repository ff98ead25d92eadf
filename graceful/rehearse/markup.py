"""HTML and SVG as values: what is not markup already is escaped, so that nothing has to be remembered."""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import Final, TypeAlias

from graceful.rehearse.phrasing import printable

# HTML, 13.1.2: elements without an end tag.
_VOID: Final = frozenset({"br", "hr", "img", "input", "link", "meta"})


class Markup(str):
    """Text that is markup."""

    __slots__ = ()


Inside: TypeAlias = "str | Iterable[Inside] | None"


def tag(name: str, /, *inside: Inside, **attributes: str | float | None) -> Markup:
    """An element. Strings in it are text and are escaped; None is left out, attributes of None too.

    `class_` is `class`, `aria_label` is `aria-label`. An attribute without a value is the empty string.
    """
    spelled = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(_plain(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID:
        return Markup(f"<{name}{spelled}>")
    return Markup(f"<{name}{spelled}>{text(inside)}</{name}>")


def text(inside: Inside) -> Markup:
    """What stands in an element, or between two."""
    if inside is None:
        return Markup()
    if isinstance(inside, Markup):
        return inside
    if isinstance(inside, str):
        return Markup(html.escape(printable(inside), quote=False))
    return Markup("".join(text(each) for each in inside))


def _plain(value: str | float) -> str:
    """Coordinates in hundredths: finer than any screen."""
    return f"{round(value, 2):g}" if isinstance(value, float) else printable(str(value))
