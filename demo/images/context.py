"""A build context of its own: what the images are made of, copied, with a folder of wheels where they are to
be built without an index.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Final

from demo.images.trial import PlaceError
from rig.replica import ROOT

WHEELS: Final = "wheels"

_PARTS: Final = (
    *("pyproject.toml", "README.md", "LICENSE", ".dockerignore", "Dockerfile.exec", "Dockerfile.shell-sh"),
    *("graceful", "examples"),
)
_DOWNLOAD_SECONDS: Final = 300.0


def copy_to(folder: Path) -> None:
    """What the Dockerfiles copy, and they themselves. Raises PlaceError where the project's source is not
    beside this.
    """
    for part in _PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.is_file():
            shutil.copy(source, folder / part)
        else:
            message = f"{source} is not there: images are built from a checkout"
            raise PlaceError(message)


def requirements() -> list[str]:
    """What the image installs besides the project, and what builds the project."""
    described = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project = described["project"]
    extra = project["optional-dependencies"]["fast"]
    found: list[str] = [*project["dependencies"], *extra, *described["build-system"]["requires"]]
    return found


def download_wheels(folder: Path) -> None:
    """The wheels of all that the build asks for, for this Python, in `folder`. Raises PlaceError."""
    words = [
        "-q",
        "--disable-pip-version-check",
        "--only-binary",
        ":all:",
        "-d",
        str(folder),
        *requirements(),
    ]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "download", *words],
        capture_output=True,
        check=False,
        text=True,
        timeout=_DOWNLOAD_SECONDS,
    )
    if done.returncode != 0:
        message = f"the wheels cannot be had: {done.stderr.strip().splitlines()[-1]}"
        raise PlaceError(message)
