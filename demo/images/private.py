"""podman, told to do without what a bare machine has not got: limits that may be raised, namespaces of the
network, systemd's control groups, crun. Its images are in a folder of their own.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

DRIVERS: Final = ("overlay", "vfs")

_CONTAINERS: Final = """\
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
netns = "host"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
tmp_dir = "{folder}/tmp"
{runtime}
"""
_STORAGE: Final = """\
[storage]
driver = "{driver}"
graphroot = "{folder}/graph"
runroot = "{folder}/run"
"""


@contextlib.contextmanager
def configuration(driver: str) -> Iterator[dict[str, str]]:
    """The environment that makes podman read it. Folder and storage are gone when the block is left."""
    folder = Path(tempfile.mkdtemp(prefix="graceful-podman-"))
    environment = {
        "CONTAINERS_CONF": str(folder / "containers.conf"),
        "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
        "TMPDIR": str(folder),
    }
    try:
        runtime = 'runtime = "runc"' if shutil.which("runc") else ""
        (folder / "containers.conf").write_text(
            _CONTAINERS.format(runtime=runtime, folder=folder), encoding="utf-8"
        )
        (folder / "storage.conf").write_text(_STORAGE.format(driver=driver, folder=folder), encoding="utf-8")
        yield environment
    finally:
        # Whatever was interrupted in the middle of its beginning.
        subprocess.run(
            ["podman", "rm", "-f", "-a", "-t", "0"],  # noqa: S607 - found on PATH, as the others
            env={**os.environ, **environment},
            check=False,
            capture_output=True,
        )
        _end_strays(folder)
        _unmount(folder)
        shutil.rmtree(folder, ignore_errors=True)


def _end_strays(folder: Path) -> None:
    """A build that is interrupted between the creation and the start of a step forgets the process that waits
    there. It is known by its root, which is in `folder`.
    """
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended, or is not ours
            mounts = (process / "mountinfo").read_text(encoding="utf-8").splitlines()
            if any(line.split()[4] == "/" and f"{folder}/" in line for line in mounts):
                os.kill(int(process.name), signal.SIGKILL)


def _unmount(folder: Path) -> None:
    """Podman leaves its overlay folder mounted on itself."""
    mounts = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
    inside = [line.split()[1] for line in mounts if line.split()[1].startswith(f"{folder}/")]
    for place in reversed(inside):
        subprocess.run(["umount", "-l", place], check=False, capture_output=True)  # noqa: S607 - a system's own
