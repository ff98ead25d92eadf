"""The commands of the same Dockerfiles as PID 1 of PID namespaces, where there is no engine."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

from demo.images.cases import CASES, EXEC, Case
from demo.images.trial import PlaceError, Stopped
from graceful.rehearse.pidns import PidNamespace, PidNamespaceError
from graceful.rehearse.running import free_port, inherited
from rig.replica import ROOT

_SHELL: Final = "/bin/sh"
_INITS: Final = ("tini", "catatonit", "dumb-init")
_TEMPORARY: Final = "/tmp"  # noqa: S108 - the image's, which is a folder of ours here
_PLATFORM_LAME_DUCK: Final = "2"  # a namespace has no sign by which a container is known


class Contained:
    """A service in a namespace."""

    def __init__(self, namespace: PidNamespace, port: int, output: IO[bytes]) -> None:
        self._namespace = namespace
        self._output = output
        self.port = port

    def pid1(self) -> tuple[str, ...]:
        """From inside, where /proc/1 is it."""
        shown = self._namespace.run(["cat", "/proc/1/cmdline"]).stdout
        return tuple(shown.decode(errors="replace").rstrip("\0").split("\0"))

    def ended(self) -> bool:
        """By itself."""
        return self._namespace.wait(0) is not None

    def stop(self, grace: float) -> Stopped:
        """As an engine stops a container."""
        ended = self._namespace.stop(grace)
        return Stopped(code=ended.status, seconds=ended.seconds)

    def output(self) -> str:
        """Both streams."""
        self._output.seek(0)
        return self._output.read().decode(errors="replace")


class Namespaces:
    """Starts cases. There is no image: /bin/sh is dash where this machine has it, by name, as in the
    `python` images; the image's /app and /tmp are temporary folders; `graceful` is that of this Python.
    """

    def __init__(self) -> None:
        self.closed = False
        self._running: set[PidNamespace] = set()

    def close(self) -> None:
        """What has been started is ending. May be called while others still use it."""
        self.closed = True
        for namespace in list(self._running):
            namespace.kill()

    @contextlib.contextmanager
    def start(self, case: Case, environment: dict[str, str]) -> Iterator[Contained]:
        """It has ended when the block is left. Raises PlaceError."""
        with (
            tempfile.TemporaryDirectory(prefix="graceful-images-") as folder,
            tempfile.TemporaryFile("a+b") as output,
        ):
            places = _laid_out(case, Path(folder))
            port = free_port()
            try:
                namespace = PidNamespace(
                    _command(case, places),
                    cwd=places["/app"],
                    env={
                        **inherited(),
                        **_image_environment(),
                        **environment,
                        "PORT": str(port),
                    },
                    stdout=output,
                    stderr=subprocess.STDOUT,
                )
            except PidNamespaceError as problem:
                raise PlaceError(str(problem)) from problem
            with namespace:
                self._running.add(namespace)
                try:
                    yield Contained(namespace, port, output)
                finally:
                    self._running.discard(namespace)


def _image_environment() -> dict[str, str]:
    return {
        "GRACEFUL_LAME_DUCK": _PLATFORM_LAME_DUCK,
        "PATH": _path(),
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
    }


def _path() -> str:
    return f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}"


def _laid_out(case: Case, folder: Path) -> dict[str, str]:
    """Where the paths of the image are here. What its Dockerfile copies from the build context is there."""
    places = {"/app": str(folder / "app"), _TEMPORARY: str(folder / "tmp")}
    for place in places.values():
        Path(place).mkdir()
    for source, target in {**CASES[EXEC].dockerfile.copied, **case.dockerfile.copied}.items():
        if target.startswith("/app/"):
            shutil.copy(ROOT / source, places["/app"] + target.removeprefix("/app"))
        else:
            places[target] = str(ROOT / source)
    return places


def _command(case: Case, places: dict[str, str]) -> list[str]:
    """What its Dockerfile starts, in words of this machine. Raises PlaceError for what it lacks."""
    words = [_here(word, places) for word in case.dockerfile.arguments]
    if words[0].endswith(".sh"):  # /bin/sh by its first line
        words.insert(0, _SHELL)
    if words[0] == _SHELL:
        words[0] = shutil.which("dash") or _SHELL
    if case.init:
        found = [init for init in _INITS if shutil.which(init)]
        if not found:
            message = f"none of {', '.join(_INITS)} is installed here"
            raise PlaceError(message)
        words[:0] = [found[0], "--"]
    for program in (words[0], case.needs):
        if program and not shutil.which(program, path=_path()):
            message = f"{program} is not installed here"
            raise PlaceError(message)
    return words


def _here(word: str, places: dict[str, str]) -> str:
    """With the image's paths replaced by those of this machine; `word` may be a whole line for a shell."""
    either = "|".join(re.escape(place) for place in sorted(places, key=len, reverse=True))
    return re.sub(rf"(?<!\S)(?:{either})(?=/|\s|$)", lambda found: places[found[0]], word)
