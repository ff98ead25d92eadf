"""What a rehearsal says, on streams that may be closed, full or narrow, and the files that it writes."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import Final, TextIO

from graceful.errors import GracefulError

_STREAMS: Final = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))


class OutputError(GracefulError):
    """What was found cannot be written where it was asked for; the text says where, and why."""


def open_streams() -> None:
    """There are all three on return: what was closed before we began is nowhere. In their order, so that each
    has its own number and nothing else gets it. What an encoding has no letter for is escaped.
    """
    for name, mode in _STREAMS:
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115 - as long as we live
        elif mode == "w" and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def say(line: str) -> None:
    """Write a line of progress. Where nobody can be told any more the rehearsal goes on all the same."""
    try:
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()
    except OSError:
        _give_up(sys.stderr)


def tell(text: str, *, encoding: str | None = None) -> None:
    """Write `text` to standard output. That its reader has gone (`| head -1`) was the reader's choice, and is
    no error; raises OutputError for any other reason.
    """
    stream = sys.stdout
    try:
        if encoding is not None and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding=encoding)
        stream.write(text)
        stream.flush()
    except BrokenPipeError:
        _give_up(stream)
    except OSError as problem:
        _give_up(stream)
        message = f"standard output: {problem.strerror}"
        raise OutputError(message) from problem


def _give_up(stream: TextIO) -> None:
    """What is still in its buffer goes nowhere: Python would try again at its end, and exit with 120."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def check_file(option: str, path: str) -> None:
    """Before anything is started: a rehearsal is not to be made twice for a folder that is not there. Raises
    OutputError.
    """
    file = Path(path)
    if file.is_dir():
        wrong = "a folder"
    elif not file.parent.is_dir():
        wrong = f"no folder {str(file.parent)!r}"
    elif not os.access(file if file.exists() else file.parent, os.W_OK):
        wrong = f"{path!r}, which may not be written"
    else:
        return
    message = f"{option}: found {wrong}; expected a file that can be written"
    raise OutputError(message)


def write_file(option: str, path: str, text: str) -> None:
    """Raises OutputError."""
    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as problem:
        message = f"{option}: {path}: {problem.strerror}"
        raise OutputError(message) from problem
