"""One slow request, and what became of it."""

from __future__ import annotations

import contextlib
import http.client
import time
from collections.abc import Callable
from enum import StrEnum
from typing import Final

from graceful.rehearse.wires import HOST

_OK: Final = 200
_PERIOD_SECONDS: Final = 0.05


class Answer(StrEnum):
    """What a request got."""

    ANSWERED = "200"
    EMPTY = "empty reply"
    RESET = "reset"
    REFUSED = "refused"
    TRUNCATED = "truncated"
    TIMEOUT = "timeout"
    OTHER = "other status"


class NotReadyError(Exception):
    """A service did not come to say what was waited for."""


def ask(port: int, path: str, *, timeout: float) -> tuple[Answer, str]:
    """The answer to one GET on a connection of its own, with its text."""
    connection = http.client.HTTPConnection(HOST, port, timeout=timeout)
    with contextlib.closing(connection):
        try:
            connection.request("GET", path, headers={"connection": "close"})
            response = connection.getresponse()
            text = response.read().decode(errors="replace")
        except http.client.RemoteDisconnected:  # is a ConnectionResetError too
            return Answer.EMPTY, ""
        except ConnectionRefusedError:
            return Answer.REFUSED, ""
        except ConnectionError:
            return Answer.RESET, ""
        except TimeoutError:
            return Answer.TIMEOUT, ""
        except http.client.HTTPException:
            return Answer.TRUNCATED, ""
    return (Answer.ANSWERED if response.status == _OK else Answer.OTHER), text


def wait_for(
    port: int, path: str, expected: str, *, within: float, hopeless: Callable[[], str] = str
) -> None:
    """`path` has been answered with the text `expected`. Raises NotReadyError when `within` seconds are over,
    and when there is no hope left, with the reason that `hopeless` then gives.

    What is on the other side of an engine can only be asked again and again, as the kubelet does.
    """
    deadline = time.monotonic() + within
    while (answer := ask(port, path, timeout=1.0)) != (Answer.ANSWERED, expected):
        reason = hopeless()
        if not reason and time.monotonic() > deadline:
            reason = f"{path} did not say {expected.strip()!r} within {within:g} s, but {_said(answer)}"
        if reason:
            raise NotReadyError(reason)
        time.sleep(_PERIOD_SECONDS)


def _said(answer: tuple[Answer, str]) -> str:
    return repr(answer[1].strip()) if answer[0] is Answer.ANSWERED else str(answer[0])
