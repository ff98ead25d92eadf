"""What users write of a load: `POST /upload 64KiB *2`, `events:/feed*3`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from graceful.errors import GracefulError
from graceful.rehearse.model import Hold, HoldKind, RequestSpec

_REQUEST: Final = re.compile(
    r"(?:(?P<method>[A-Z]+)\s+)?(?P<path>/[!-~]*)(?:\s+(?P<size>\d{1,9})\s*(?P<unit>B|KiB|MiB))?(?:\s+\*(?P<weight>\d{1,9}(?:\.\d{1,9})?))?",
    re.ASCII,
)
_HOLD: Final = re.compile(r"(?P<kind>[a-z]+):(?P<path>/[!-~]*?)(?:\*(?P<count>\d{1,9}))?", re.ASCII)
_UNITS: Final = {"B": 1, "KiB": 1024, "MiB": 1024 * 1024}
_LARGEST: Final = 64 * 1024 * 1024
_MOST_HELD: Final = 1000


class RequestError(GracefulError):
    """A request, or what is to be held open, cannot be meant. The text says what is expected."""


def request_of(text: str) -> RequestSpec:
    """`GET /`, `/slow?seconds=1`, `POST /upload 64KiB *2`: method, path, size of the body, weight. Raises
    RequestError.
    """
    found = _REQUEST.fullmatch(text.strip())
    if found is None or found["method"] == "CONNECT":  # which asks for a tunnel, not for an answer
        message = (
            f"found {text!r}; expected 'METHOD /path' in ASCII, and a size (64KiB) and a weight (*2) after it"
        )
        raise RequestError(message)
    size = int(found["size"] or 0) * _UNITS[found["unit"] or "B"]
    weight = float(found["weight"] or 1)
    if size > _LARGEST or weight == 0:
        message = f"found {text!r}; expected a body of at most 64MiB, and a weight above 0"
        raise RequestError(message)
    return RequestSpec(method=found["method"] or "GET", path=found["path"], body_bytes=size, weight=weight)


def requests_in(path: str) -> tuple[RequestSpec, ...]:
    """Those of a file, one on each line; blank lines and those that begin with # are none. Raises
    RequestError with file and line.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as problem:
        message = f"{path}: {getattr(problem, 'strerror', None) or problem}"
        raise RequestError(message) from problem
    found = []
    for number, line in enumerate(lines, start=1):
        if line.strip() and not line.lstrip().startswith("#"):
            try:
                found.append(request_of(line))
            except RequestError as problem:
                message = f"{path}:{number}: {problem}"
                raise RequestError(message) from problem
    if not found:
        message = f"{path}: found no request; expected one on each line, as 'GET /path'"
        raise RequestError(message)
    return tuple(found)


def hold_of(text: str) -> Hold:
    """`websocket:/chat`, `events:/feed*3`, `stream:/export`. Raises RequestError."""
    found = _HOLD.fullmatch(text.strip())
    if found is None or found["kind"] not in set(HoldKind) or not 0 < int(found["count"] or 1) <= _MOST_HELD:
        message = f"found {text!r}; expected stream:/path, events:/path or websocket:/path, and perhaps *3"
        raise RequestError(message)
    return Hold(kind=HoldKind(found["kind"]), path=found["path"], count=int(found["count"] or 1))
