"""Every form of a command behind every shell, as PID 1: the doctor and the warning at start against what
SIGTERM really does, and what they say to write instead, written.

`pytest -rA tests/process/test_pid1_matrix.py` prints the table.
"""

from __future__ import annotations

import functools
import json
import re
import shlex
import shutil
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from graceful.rehearse import pidns
from tests.process.pid1 import SERVICE, Contained, Outcome

pytestmark = pytest.mark.skipif(pidns.why_not() is not None, reason=str(pidns.why_not()))

AT_ONCE: Final = 5  # namespaces: most of the time each waits for the end of a grace period
COMMAND: Final = shlex.join(SERVICE)
SHELLS: Final = {"dash": ("dash",), "bash": ("bash",), "busybox": ("busybox", "sh")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """One way to start the service from a shell: `text` for -c, or `script`, a file that it runs; `more` are
    the arguments.

    `arrives` is what must come of it whatever the shell; None: each shell has its own way.
    """

    name: str
    text: str = ""
    script: str = ""
    more: Sequence[str] = ()
    arrives: bool | None = None
    can_be_told: bool = True

    def command(self, shell: Sequence[str], folder: Path) -> list[str]:
        if not self.script:
            return [*shell, "-c", self.text, *self.more]
        path = folder / "entrypoint.sh"
        path.write_text(self.script)
        return [*shell, str(path), *self.more]


FORMS: Final = (
    Form(name="CMD", text=COMMAND),
    Form(name="CMD and a newline", text=f"{COMMAND}\n"),
    Form(name="cd && CMD", text=f"cd . && {COMMAND}"),
    Form(name="V=x CMD", text=f"V=x {COMMAND}"),
    Form(name='CMD "$@"', text=f'{COMMAND} "$@"', more=["sh", "--lame-duck", "0"]),
    Form(name="CMD > file", text=f"{COMMAND} > out.log"),
    Form(name="CMD 2>&1", text=f"{COMMAND} 2>&1"),
    Form(name="CMD && true", text=f"{COMMAND} && true", arrives=False),
    Form(name="CMD; true", text=f"{COMMAND}; true", arrives=False),
    Form(name="CMD || exit 1", text=f"{COMMAND} || exit 1", arrives=False),
    Form(name="CMD | tee", text=f"{COMMAND} | tee out.log", arrives=False),
    Form(name="CMD & wait", text=f"{COMMAND} & wait", arrives=False),
    Form(name="loop", text=f"while true; do {COMMAND}; done", arrives=False),
    Form(name="trap; CMD", text=f"trap 'echo bye' TERM; {COMMAND}", arrives=False),
    Form(name="trap EXIT; CMD", text=f"trap 'echo bye' EXIT; {COMMAND}; true", arrives=False),
    Form(name="script", script=f"#!/bin/sh\nset -e\n{COMMAND}\n", arrives=False),
    Form(name='script "$@"', script='#!/bin/sh\nset -e\n"$@"\n', more=SERVICE, arrives=False),
    Form(
        name="script, a trap",
        script=f"#!/bin/sh\n# don't wait for it\ntrap 'exit 0' TERM\n{COMMAND}\necho ended\n",
        arrives=False,
    ),
    Form(name="exec CMD", text=f"exec {COMMAND}", arrives=True),
    Form(name="cd && exec CMD", text=f"cd . && exec {COMMAND}", arrives=True),
    Form(name='script exec "$@"', script='#!/bin/sh\nset -e\nexec "$@"\n', more=SERVICE, arrives=True),
    Form(
        name="trap forwards, wait",
        text=f"trap 'kill -TERM $!' TERM; {COMMAND} & wait $!; wait $!",
        arrives=True,
        can_be_told=False,
    ),
)

INITS: Final = {
    "none": (),
    "tini": ("tini", "--"),
    "tini -g": ("tini", "-g", "--"),
    "dumb-init": ("dumb-init",),
    "dumb-init -c": ("dumb-init", "--single-child"),
    "catatonit": ("catatonit", "--"),
}


# Of each init, with the exec form and behind dash.
BEHIND_INITS: Final = (
    None,
    Form(name="CMD; true", text=f"{COMMAND}; true", arrives=False),
    Form(name="exec CMD", text=f"exec {COMMAND}", arrives=True),
    Form(name="trap; CMD", text=f"trap 'echo bye' TERM; {COMMAND}; true"),
)


@dataclass(slots=True, kw_only=True)
class Row:
    """One cell, and its remedy, tried."""

    name: str
    form: Form
    outcome: Outcome
    cured: Outcome | None = None

    def __str__(self) -> str:
        cured = "" if self.cured is None else "  cured" if self.cured.arrived else "  NOT CURED"
        return f"{self.name:<32} {self.outcome}{cured}"


@dataclass(slots=True, kw_only=True)
class Remedies:
    """What the doctor says to write, each tried once."""

    parent: Path
    tried: dict[str, Outcome] = field(default_factory=dict)

    def try_out(self, shell: Sequence[str], outcome: Outcome) -> Outcome:
        command, folder = self.written(shell, outcome)
        key = shlex.join(command)
        if key not in self.tried:
            with Contained(command, self.parent, folder=folder) as contained:
                self.tried[key] = contained.judged()
        return self.tried[key]

    def written(self, shell: Sequence[str], outcome: Outcome) -> tuple[list[str], Path]:
        folder = Path(tempfile.mkdtemp(dir=self.parent))
        instead = (outcome.instead or "").partition("   (")[0]
        if found := re.search(r"CMD (\[.*)", instead):
            return json.loads(found[1]), folder
        if found := re.fullmatch(r"Write: CMD (.*)", instead):
            return [*shell, "-c", found[1]], folder
        found = re.fullmatch(r"In (.*) write: (exec .*)", instead)
        assert found, instead
        body = Path(found[1]).read_text()
        line = found[2].removeprefix("exec ")
        assert f"\n{line}\n" in body
        path = folder / "entrypoint.sh"
        path.write_text(body.replace(f"\n{line}\n", f"\nexec {line}\n"))
        return [each.replace(found[1], str(path)) for each in outcome.command], folder


def judge(parent: Path, name: str, shell: Sequence[str], init: Sequence[str], form: Form | None) -> Row:
    folder = Path(tempfile.mkdtemp(dir=parent))
    command = [*init, *(SERVICE if form is None else form.command(shell, folder))]
    with Contained(command, parent, folder=folder) as contained:
        outcome = contained.judged()
    return Row(name=name, form=form or Form(name="exec form", arrives=True), outcome=outcome)


def all_of(cells: Sequence[Callable[[], Row]]) -> list[Row]:
    """Several at once; the table is printed, for whoever asks to see it."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        rows = [each.result() for each in [pool.submit(cell) for cell in cells]]
    print(*rows, sep="\n")  # noqa: T201 - pytest shows it with a failure, and with -rA
    return rows


def hold(rows: Sequence[Row]) -> None:
    """What must be true of every cell."""
    table = "\n".join(str(row) for row in rows)
    assert [row.name for row in rows if row.outcome.is_wrong] == [], table
    known = [row for row in rows if row.form.arrives is not None]
    assert [row.name for row in known if row.form.arrives != row.outcome.arrived] == [], table
    told = [row for row in rows if row.form.can_be_told]
    assert [row.name for row in told if row.outcome.answer == "cannot tell"] == [], table
    lost = [row for row in rows if row.outcome.answer == "will not arrive"]
    assert [row.name for row in lost if len(row.outcome.warnings) != 1] == [], table
    codes = {"will arrive": 0, "will not arrive": 1, "cannot tell": 3}
    assert [row.name for row in rows if row.outcome.code != codes[row.outcome.answer]] == [], table


@pytest.mark.parametrize("name", SHELLS)
def test_forms(tmp_path: Path, name: str) -> None:
    shell = SHELLS[name]
    if shutil.which(shell[0]) is None:
        pytest.skip(f"{shell[0]} is not installed (apt-get install {shell[0]})")
    remedies = Remedies(parent=tmp_path)

    def cell(form: Form) -> Row:
        row = judge(tmp_path, f"{name}: {form.name}", shell, (), form)
        if row.outcome.answer == "will not arrive":
            row.cured = remedies.try_out(shell, row.outcome)
        return row

    rows = all_of([functools.partial(cell, form) for form in FORMS])
    hold(rows)
    assert [row.name for row in rows if row.cured and not row.cured.arrived] == []


@pytest.mark.parametrize("name", INITS)
def test_inits(tmp_path: Path, name: str) -> None:
    init = INITS[name]
    if init and shutil.which(init[0]) is None:
        pytest.skip(f"{init[0]} is not installed (apt-get install {init[0]})")
    dash = SHELLS["dash"]
    names = [f"{name}, dash: {form.name}" if form else f"{name}: exec form" for form in BEHIND_INITS]
    cells = zip(names, BEHIND_INITS, strict=True)
    hold(all_of([functools.partial(judge, tmp_path, each, dash, init, form) for each, form in cells]))


def test_few_cells_cannot_be_told() -> None:
    cells = len(SHELLS) * len(FORMS) + len(INITS) * len(BEHIND_INITS)
    untold = len(SHELLS) * sum(not form.can_be_told for form in FORMS)
    assert untold * 25 <= cells
