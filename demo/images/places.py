"""Where the images can be tried on this machine: the first engine that really runs one, else the kernel."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from demo.images import base, context, private
from demo.images.cases import BUILT_FROM_BASE, CASES, EXEC, Case
from demo.images.engine import NAMES, Engine, Recipe, find
from demo.images.namespaces import Namespaces
from demo.images.trial import PlaceError
from graceful.rehearse import pidns

DEFAULT_BASE: Final = "python:3.13-slim"
NAMESPACES: Final = "namespaces"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What was asked for: `engine` and `base` by name, or whatever is there. With `offline` no base image is
    pulled or taken from the engine: it is made of this machine's Python.
    """

    cases: Sequence[Case]
    engine: str = ""
    base: str = ""
    offline: bool = False


class NoPlaceError(PlaceError):
    """There is neither an engine here nor a kernel that lets us do without."""


@dataclass(slots=True, kw_only=True)
class Opened:
    """A place, with the images built where there are any. `refused` has the cases that are not to be had
    here, with the reason, `broken` those that did not come to answer;
    `grown` the bytes that the image in exec form has over its base.
    """

    place: Engine | Namespaces
    refused: dict[str, str] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)
    grown: int | None = None


Say = Callable[[str], None]


@contextlib.contextmanager
def opened(wanted: Wanted, say: Say) -> Iterator[Opened]:
    """The place, for as long as the block lasts; nothing of it is left afterwards. Raises NoPlaceError, with
    the reason, where there is none, and PlaceError where an engine that works cannot build the exec form.
    """
    with contextlib.ExitStack() as stack:
        refusals: list[str] = []
        if wanted.engine != NAMESPACES:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="graceful-images-")))
            found = _engine(wanted, folder, stack, refusals)
            if found is not None:
                yield _built(found, wanted, folder, say)
                return
        if wanted.engine in NAMES:
            raise NoPlaceError("; ".join(refusals))
        if (reason := pidns.why_not()) is not None:
            raise NoPlaceError("; ".join([*refusals, reason]))
        because = f"No engine works here ({'; '.join(refusals)}). " if refusals else ""
        say(f"{because}The same commands, as PID 1 of PID namespaces, with this machine's shells.")
        namespaces = Namespaces()
        stack.callback(namespaces.close)
        yield Opened(place=namespaces)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """An engine that has run the image `base`, which with `ours` has been made of this machine's Python."""

    engine: Engine
    base: str
    ours: bool


def _engine(wanted: Wanted, folder: Path, stack: contextlib.ExitStack, refusals: list[str]) -> _Found | None:
    """The first way to an engine that works; `stack` closes it, `refusals` has why the others do not."""
    engine = find((wanted.engine,) if wanted.engine else NAMES)
    if engine is None:
        refusals.append(f"no {wanted.engine or 'docker or podman'} answers here")
        return None
    for driver in (None, *private.DRIVERS) if engine.name == "podman" else (None,):
        with contextlib.ExitStack() as trial:
            way = engine
            if driver is not None:
                environment = trial.enter_context(private.configuration(driver))
                way = Engine(engine.name, environment=environment, network="host")
                way.version = f"{engine.version}, with a private configuration"
            trial.callback(way.close)
            try:
                image, ours = _base(way, wanted, folder)
                way.settle(image)
            except (PlaceError, FileNotFoundError) as problem:
                refusals.append(str(problem))
            else:
                stack.push(trial.pop_all())
                return _Found(engine=way, base=image, ours=ours)
    return None


def _base(engine: Engine, wanted: Wanted, folder: Path) -> tuple[str, bool]:
    """The image to build on, and whether it had to be made of this machine's Python."""
    image = wanted.base or DEFAULT_BASE
    if not wanted.offline and engine.has(image):
        return image, False
    if wanted.base:
        message = f"{image} is not there and cannot be pulled"
        raise PlaceError(message)
    archive = folder / "base.tar"
    if not archive.exists():
        base.write_python(archive)
    return engine.add("base", archive), True


def _built(found: _Found, wanted: Wanted, folder: Path, say: Say) -> Opened:
    engine = found.engine
    made = f"made of {base.described()}, as {DEFAULT_BASE} cannot be pulled"
    say(f"Engine: {engine.name} {engine.version}. Base image: {made if found.ours else found.base}.")
    say("Building the images.")
    files = folder / "context"
    files.mkdir()
    context.copy_to(files)
    arguments = {"BASE": found.base}
    if found.ours:
        (files / context.WHEELS).mkdir()
        context.download_wheels(files / context.WHEELS)
        arguments["WHEELS"] = context.WHEELS

    def build(case: Case, name: str, given: dict[str, str], stage: str = "") -> None:
        engine.build(
            files, Recipe(name=name, file=case.file, arguments=given, offline=found.ours, stage=stage)
        )

    build(CASES[EXEC], "build", arguments, stage="build")  # with a name, it can be removed
    build(CASES[EXEC], EXEC, arguments)
    result = Opened(place=engine, grown=engine.size(engine.tag(EXEC)) - engine.size(found.base))
    for case in wanted.cases:
        if case.name != EXEC:
            from_base = case.name in BUILT_FROM_BASE
            try:
                build(case, case.name, arguments if from_base else {"BASE": engine.tag(EXEC)})
            except PlaceError as problem:
                result.refused[case.name] = str(problem)
    return result
