"""A base image made of this machine's own Python, where none can be pulled: the interpreter with its library
and pip, the shared libraries that they ask for, Debian's dash as /bin/sh, bash and a few programs.
"""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path
from typing import Final

import pip

_PROGRAMS: Final = ("bash", "busybox", "cat", "env", "ls", "sleep", "tee", "true", "tini")
_LEFT_OUT: Final = {"site-packages", "dist-packages", "test", "tests", "idlelib", "tkinter", "turtledemo"}
_PASSWD: Final = b"root:x:0:0:root:/root:/bin/sh\n"


def write_python(path: Path) -> None:
    """An archive for the engine's `import`, at `path`. Raises FileNotFoundError without a shell."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    interpreter = Path(sys.base_exec_prefix, "bin", version).resolve()
    library = Path(sysconfig.get_path("stdlib"))
    shell = _found("dash", "sh")
    programs = [Path(found) for name in _PROGRAMS if (found := shutil.which(name))]
    with tarfile.open(path, "w", dereference=True) as archive:
        for folder, mode in (
            ("root", 0o755),
            ("tmp", 0o1777),
            ("proc", 0o755),
            ("dev", 0o755),
            ("sys", 0o755),
        ):
            _add_folder(archive, folder, mode)
        _add_text(archive, "etc/passwd", _PASSWD)
        _add(archive, interpreter, f"usr/local/bin/{version}")
        for name in ("python", "python3"):
            _add_link(archive, f"usr/local/bin/{name}", version)
        _add(archive, library, f"usr/local/lib/{version}")
        _add(archive, Path(pip.__file__).parent, f"usr/local/lib/{version}/site-packages/pip")
        _add(archive, shell, "bin/sh")
        for program in programs:
            _add(archive, program, f"usr/bin/{program.name}")
        asking = [interpreter, *library.glob("lib-dynload/*.so"), shell, *programs]
        for needed in sorted(_libraries(asking)):
            _add(archive, Path(needed), needed.lstrip("/"))


def described() -> str:
    """In a few words what the image is made of."""
    return f"this machine's Python {sys.version.split()[0]}, with {_found('dash', 'sh').name} as /bin/sh"


def _found(*names: str) -> Path:
    """The first of them. Raises FileNotFoundError."""
    for name in names:
        if place := shutil.which(name):
            return Path(place)
    raise FileNotFoundError(f"{names[0]} is not installed here")  # noqa: TRY003, EM102 - said once


def _libraries(files: list[Path]) -> set[str]:
    """What ldd names, and the one that threads load when they end."""
    shown = subprocess.run(
        ["ldd", *map(str, files)],  # noqa: S607 - a system's own
        capture_output=True,
        check=False,  # a program without libraries is an error to it
        text=True,
    ).stdout
    found = set(re.findall(r"(?:=> |^\t)(/\S+) \(0x", shown, re.MULTILINE))
    return found | {str(path) for path in Path("/lib").glob("*/libgcc_s.so.1")}


def _add(archive: tarfile.TarFile, path: Path, name: str) -> None:
    archive.add(path, name, filter=_owned_by_root)


def _owned_by_root(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    left_out = _LEFT_OUT & set(Path(entry.name).parts) if "/site-packages/pip" not in entry.name else ()
    if left_out or "/config-" in entry.name:
        return None
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    entry.mode |= 0o444 | (0o111 if entry.isdir() else 0)
    return entry


def _add_folder(archive: tarfile.TarFile, name: str, mode: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode = tarfile.DIRTYPE, mode
    archive.addfile(entry)


def _add_link(archive: tarfile.TarFile, name: str, target: str) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = tarfile.SYMTYPE, target
    archive.addfile(entry)


def _add_text(archive: tarfile.TarFile, name: str, text: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(text), 0o644
    archive.addfile(entry, io.BytesIO(text))
