"""What the Dockerfiles say, and that we read them as an engine does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from demo.images.cases import BUILT_FROM_BASE, CASES, Case
from demo.images.dockerfile import Dockerfile, instructions, parse
from rig.replica import ROOT

SERVES = "graceful run app:app --host 0.0.0.0"
WHOLE = [ROOT / CASES[name].file for name in BUILT_FROM_BASE]
DERIVED = [case for case in CASES.values() if case.name not in BUILT_FROM_BASE]


def test_the_two_are_alike_but_for_the_form_of_cmd() -> None:
    exec_form, shell_form = (instructions(path.read_text()) for path in WHOLE)
    assert exec_form[:-1] == shell_form[:-1]
    assert exec_form[-1] == ("CMD", '["graceful", "run", "app:app", "--host", "0.0.0.0"]')
    assert shell_form[-1] == ("CMD", SERVES)


@pytest.mark.parametrize("path", WHOLE, ids=lambda path: path.name)
def test_they_are_good_examples_otherwise(path: Path) -> None:
    text = path.read_text()
    stages = text.split("\nFROM ")
    final = instructions("FROM " + stages[-1])
    assert len(stages) == 3
    assert ("USER", "10001:10001") in final, "a number, so that Kubernetes can tell that it is not root"
    assert [name for name, _ in final if name == "RUN"] == [], "nothing is built in what is shipped"
    assert [rest for name, rest in final if name == "COPY"] == [
        "--from=build /venv /venv",
        "examples/07_container.py app.py",
    ], "what changes least comes first"
    assert "PIP_NO_CACHE_DIR=1" in text
    assert "--without-pip" in text


@pytest.mark.parametrize("case", CASES.values(), ids=lambda case: case.name)
def test_no_builder_is_asked_for_more_than_the_first_one_had(case: Case) -> None:
    text = (ROOT / case.file).read_text()
    assert not re.search(r"^# *syntax|--mount|--link|--chmod|<<|^SHELL", text, re.MULTILINE)


@pytest.mark.parametrize("case", DERIVED, ids=lambda case: case.name)
def test_a_derived_one_is_a_few_lines_and_says_what_it_shows(case: Case) -> None:
    steps = instructions((ROOT / case.file).read_text())
    assert steps[:2] == [("ARG", "BASE=graceful-exec"), ("FROM", "${BASE}")]
    assert len(steps) <= 7
    assert len(case.dockerfile.summary) > 40
    assert SERVES in " ".join(case.dockerfile.arguments)


def test_every_dockerfile_is_a_case() -> None:
    files = {*ROOT.glob("Dockerfile.*"), *(ROOT / "examples/images").glob("Dockerfile*")}
    assert {ROOT / case.file for case in CASES.values()} == files


def test_scripts_differ_in_exec_alone() -> None:
    plain, with_exec = (
        (ROOT / f"examples/images/entrypoint{suffix}.sh").read_text() for suffix in ("", "-exec")
    )
    assert with_exec == plain.replace('"$@"', 'exec "$@"')
    assert all(path.stat().st_mode & 0o111 for path in (ROOT / "examples/images").glob("*.sh"))


def test_what_is_copied_is_let_through_to_the_builder() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert next(line for line in lines if not line.startswith("#")) == "*", "nothing, but for"
    through = [line[1:] for line in lines if line.startswith("!")]
    for case in CASES.values():
        for name, rest in instructions((ROOT / case.file).read_text()):
            if name == "COPY" and not rest.startswith("--from"):
                for source in rest.replace("${WHEELS}", "wheels").split()[:-1]:
                    assert any(Path(source).match(pattern) for pattern in through), source


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ('CMD ["a", "b c"]', ("a", "b c")),
        ("cmd a  'b'  # c", ("/bin/sh", "-c", "a  'b'  # c")),
        ("CMD a \\\n  b", ("/bin/sh", "-c", "a   b")),
        ("CMD a \\\n# a comment between\n  b", ("/bin/sh", "-c", "a   b")),
        ('ENTRYPOINT ["e"]\nCMD a', ("e", "/bin/sh", "-c", "a")),
        ('ENTRYPOINT e\nCMD ["a"]', ("/bin/sh", "-c", "e")),
        ('CMD ["a"]\nENTRYPOINT ["e"]', ("e",)),
        ('CMD ["a"]\nCMD ["b"]', ("b",)),
        ('FROM x\nENTRYPOINT ["e"]\nFROM y\nCMD ["a"]', ("a",)),
    ],
)
def test_what_pid_1_is_started_with(text: str, arguments: tuple[str, ...]) -> None:
    assert parse(text).arguments == arguments


def test_where_files_land() -> None:
    found = parse("# What it is.\nWORKDIR /app\nCOPY a/b.py c.py\nCOPY --from=x /y /y\nCOPY d e /f/\n")
    assert found == Dockerfile(
        summary="What it is.", workdir="/app", copied={"a/b.py": "/app/c.py", "d": "/f/d", "e": "/f/e"}
    )


@pytest.mark.parametrize("form", ["[", '["a", 1]'])
def test_a_form_that_cannot_be_read_is_refused(form: str) -> None:
    with pytest.raises(ValueError, match=r"Expecting|expected"):
        parse(f"CMD {form}")
