"""The images that there are, each a Dockerfile of this repository."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from demo.images import dockerfile
from rig.replica import ROOT

EXEC: Final = "exec"
BUILT_FROM_BASE: Final = (EXEC, "shell-sh")
"""Those that are built from the base image; the others are built from the first of these."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """`needs` is the program that its Dockerfile takes from elsewhere; with `init` it is run with --init;
    `clean` says that it has to end cleanly on every engine, whatever /bin/sh is there.
    """

    name: str
    file: str
    needs: str = ""
    init: bool = False
    clean: bool = False

    @property
    def dockerfile(self) -> dockerfile.Dockerfile:
        """What it says."""
        return dockerfile.read(Path(ROOT, self.file))


def _derived(name: str, *, needs: str = "", init: bool = False, clean: bool = False) -> Case:
    file = f"examples/images/Dockerfile.{name}"
    return Case(name=name, file=file, needs=needs, init=init, clean=clean)


_ALL: Final = (
    Case(name="shell-sh", file="Dockerfile.shell-sh"),
    Case(name=EXEC, file="Dockerfile.exec", clean=True),
    _derived("shell-exec", clean=True),
    _derived("bash"),
    _derived("busybox", needs="busybox"),
    _derived("busybox-and", needs="busybox"),
    _derived("cd"),
    _derived("tee"),
    _derived("entrypoint"),
    _derived("entrypoint-exec", clean=True),
    _derived("tini", needs="tini", clean=True),
    _derived("init-shell", init=True),
)

CASES: Final = {case.name: case for case in _ALL}
