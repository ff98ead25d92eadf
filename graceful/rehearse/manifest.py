"""What is to be rehearsed, from a file that is there already: of Kubernetes, of Compose, or a Procfile."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Final

from graceful.rehearse import manifest_compose, manifest_kubernetes, manifest_procfile
from graceful.rehearse.manifest_reading import Found, Place
from graceful.rehearse.wording import escaped
from graceful.rehearse.yaml_lines import LONGEST, ManifestError, read

STANDARD_INPUT: Final = "-"

_NO_PROCFILE: Final = (".yaml", ".yml", ".json")

__all__ = ["STANDARD_INPUT", "Found", "ManifestError", "load"]


def load(
    source: str,
    *,
    name: str | None = None,
    command: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
    standard_input: BinaryIO | None = None,
) -> Found:
    """What the file `source` says, `-` being standard input.

    `name` picks one of several: a workload (`web` or `deployment/web`), a Compose service, a process;
    without it the first is taken, of a Procfile `web`. `command` is run in place of the file's own, which an
    image's never is. `environ` (None: ours) is where Compose finds its variables. Raises ManifestError for
    what cannot be read or cannot be meant; what cannot be honoured is in the notes.
    """
    file = "standard input" if source == STANDARD_INPUT else source
    text = _text_of(source, file, standard_input)
    given = tuple(command)
    processes = None if file.endswith(_NO_PROCFILE) else manifest_procfile.processes_in(text)
    if processes is not None:
        return manifest_procfile.found_in(processes, file, name=name, command=given)
    documents = [Place(file, node) for node in read(text, file)]
    if not documents:
        raise ManifestError(file, None, "found nothing; expected a manifest, a Compose file or a Procfile")
    if documents[0].get("services"):
        return _from_compose(documents[0], name, os.environ if environ is None else environ, given)
    if documents[0].get("kind") is None:
        documents[0].fail(
            "found neither kind nor services; expected a manifest, a Compose file or a Procfile"
        )
    return _from_kubernetes(documents, name, given)


def _text_of(source: str, file: str, standard_input: BinaryIO | None) -> str:
    most = 4 * LONGEST + 1  # bytes: a character takes four at most, and those are counted later
    try:
        if source == STANDARD_INPUT:
            content = (standard_input or sys.stdin.buffer).read(most)
        else:
            with Path(source).open("rb") as stream:
                content = stream.read(most)
        if len(content) == most:
            problem = f"found {most} bytes or more; expected {LONGEST} characters at most"
            raise ManifestError(file, None, problem)
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ManifestError(file, None, f"found no UTF-8 at byte {error.start}; expected text") from error
    except (OSError, ValueError) as error:  # the latter of a path with a zero byte in it
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ManifestError(file, None, f"cannot be read: {why}") from error
    if "\0" in text:
        raise ManifestError(file, None, "found a zero byte; expected text")
    return text


def _from_kubernetes(documents: list[Place], name: str | None, command: tuple[str, ...]) -> Found:
    workloads = list(manifest_kubernetes.workloads(documents))
    if not workloads:
        kinds = ", ".join(dict.fromkeys(document.need("kind", "a kind").text() for document in documents))
        documents[0].fail(f"found {kinds}; expected one of {', '.join(manifest_kubernetes.KINDS)}")
    named = [each for each in workloads if name is None or each.is_called(name)]
    titles = ", ".join(each.title for each in workloads)
    if not named:
        documents[0].fail(f"found {titles}; expected one that is called {name}")
    found = manifest_kubernetes.found_in(named[0], command)
    return _with_others(found, [each.title for each in workloads if each is not named[0]])


def _from_compose(
    document: Place, name: str | None, environ: Mapping[str, str], command: tuple[str, ...]
) -> Found:
    services = manifest_compose.services(document)
    if name is not None and name not in services:
        document.fail(f"found the services {', '.join(services)}; expected one that is called {name}")
    startable = [each for each, place in services.items() if manifest_compose.is_startable(place)]
    chosen = name or next(iter((*startable, *services)))
    found = manifest_compose.found_in(chosen, services[chosen], environ, command)
    return _with_others(found, [each for each in services if each != chosen])


def _with_others(found: Found, others: list[str]) -> Found:
    if not others:
        return found
    note = escaped(f"of several this one is rehearsed, not {', '.join(others)}: --name picks another")
    return Found(service=found.service, replicas=found.replicas, what=found.what, notes=(note, *found.notes))
