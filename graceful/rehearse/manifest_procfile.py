"""A Procfile: one line a process, run by a shell.

https://devcenter.heroku.com/articles/procfile
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from graceful.rehearse.manifest_reading import Found
from graceful.rehearse.model import PORT, Service
from graceful.rehearse.wording import escaped
from graceful.rehearse.yaml_lines import ManifestError

WEB: Final = "web"

_LINE: Final = re.compile(r"([A-Za-z0-9_-]+):[ \t]*(\S.*)")
_YAML: Final = frozenset({"apiVersion", "kind", "services", "metadata", "spec", "version", "name"})
_GRACE_PERIOD: Final = 30.0  # Heroku's: https://devcenter.heroku.com/articles/dynos#shutdown


def processes_in(text: str) -> dict[str, tuple[int, str]] | None:
    """The line and the command of each process by its name; None where `text` is no Procfile but something
    else, or nothing.
    """
    processes: dict[str, tuple[int, str]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        found = _LINE.fullmatch(line.rstrip())
        if found is None or found[1] in _YAML:
            return None
        processes[found[1]] = (number, found[2])
    return processes or None


def found_in(
    processes: Mapping[str, tuple[int, str]],
    file: str,
    *,
    name: str | None = None,
    command: tuple[str, ...] = (),
) -> Found:
    """The process `name`, `web` where none is given; `command` is run in place of its own. Raises
    ManifestError.
    """
    wanted = name or WEB
    if wanted not in processes:
        message = f"found the processes {', '.join(processes)}; expected one that is called {wanted}"
        raise ManifestError(file, None, message)
    number, line = processes[wanted]
    notes = [
        escaped(f"{file}:{other}: {each} is not started here")
        for each, (other, _) in processes.items()
        if each != wanted
    ]
    if not command and "PORT" not in line:
        note = f"{file}:{number}: {wanted}: each replica is given PORT, and the line does not name it"
        notes.append(escaped(note))
    return Found(
        service=Service(
            name=wanted,
            command=command or ("bash", "-c", line),  # Heroku's, which makes way for a single command
            environment={"PORT": PORT},
            grace_period=_GRACE_PERIOD,
            signal_all=True,
        ),
        replicas=1,
        what=f"Procfile process {wanted}",
        notes=tuple(notes),
    )
