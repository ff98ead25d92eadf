"""Variables in the text of manifests."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

_REFERENCE: Final = re.compile(r"\$(?:\$|\(([^()]*)\))")


def expanded(text: str, variables: Mapping[str, str]) -> str:
    """Kubernetes' way: `$(NAME)` becomes its value, if it has one; `$$` is a dollar.

    https://kubernetes.io/docs/tasks/inject-data-application/define-interdependent-environment-variables/
    """
    return _REFERENCE.sub(lambda found: "$" if found[1] is None else variables.get(found[1], found[0]), text)


# ${NAME:-else}: what follows the name is a choice of what is said where it is not set (or, with :, empty).
_INTERPOLATION: Final = re.compile(
    r"\$(?:(?P<dollar>\$)|(?P<bare>[A-Za-z_][A-Za-z0-9_]*)"
    r"|\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?:(?P<choice>:?[-?+])(?P<other>[^{}]*))?\}|(?P<wrong>))"
)


class InterpolationError(Exception):
    """A text cannot be interpolated; the text says why."""


def interpolated(text: str, variables: Mapping[str, str]) -> tuple[str, tuple[str, ...]]:
    """Compose's way: `text` with the values of its variables, and the names of those that have none.

    https://docs.docker.com/reference/compose-file/interpolation/ - but for one `${...}` within another, which
    raises InterpolationError, as does a `$` that begins nothing and a `${NAME:?why}` without a value.
    """
    missing = []

    def value(found: re.Match[str]) -> str:
        if found["dollar"]:
            return "$"
        name = found["bare"] or found["name"]
        if name is None:
            message = (
                f"found a $ that begins nothing in {text!r}; expected $NAME, ${{NAME}}, or $$ for a dollar"
            )
            raise InterpolationError(message)
        choice, other = found["choice"] or "", found["other"] or ""
        current = variables.get(name)
        is_set = current is not None and (current != "" or not choice.startswith(":"))
        if choice.endswith("+"):
            return other if is_set else ""
        if is_set:
            return current or ""
        if choice.endswith("?"):
            message = f"the variable {name} is not set: {other or 'it is required'}"
            raise InterpolationError(message)
        if not choice:
            missing.append(name)
        return other

    return _INTERPOLATION.sub(value, text), tuple(missing)
