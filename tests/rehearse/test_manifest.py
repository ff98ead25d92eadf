# ruff: noqa: E501 - tables: what is written, and what is said of it in one line
"""Files of every kind: which one it is, Procfiles, and what is thrown at the reader."""

from __future__ import annotations

import io
import random
from pathlib import Path

import pytest

from graceful.errors import GracefulError
from graceful.rehearse.manifest import Found, ManifestError, load
from graceful.rehearse.model import PORT, RestartPolicy, Service
from graceful.rehearse.yaml_lines import LONGEST
from tests.rehearse.test_manifest_compose import COMPOSE
from tests.rehearse.test_manifest_kubernetes import DEPLOYMENT

PROCFILE = """\
# what runs
release: python migrate.py
web: uvicorn app:app --port $PORT

worker:python worker.py
"""


def loaded(text: str | bytes, **more: object) -> Found:
    content = text if isinstance(text, bytes) else text.encode()
    return load("-", standard_input=io.BytesIO(content), environ={}, **more)  # type: ignore[arg-type]  # its options


def refused(text: str | bytes, **more: object) -> str:
    with pytest.raises(ManifestError) as caught:
        loaded(text, **more)
    return str(caught.value).removeprefix("standard input:")


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_a_procfile(ends: str) -> None:
    found = loaded(PROCFILE.replace("\n", ends))
    assert found.service == Service(
        name="web",
        command=("bash", "-c", "uvicorn app:app --port $PORT"),
        environment={"PORT": PORT},
        grace_period=30.0,
        restart_policy=RestartPolicy.ALWAYS,
        signal_all=True,
    )
    assert (found.what, found.replicas) == ("Procfile process web", 1)
    assert found.notes == (
        "standard input:2: release is not started here",
        "standard input:5: worker is not started here",
    )


def test_another_process_of_a_procfile() -> None:
    found = loaded(PROCFILE, name="worker")
    assert found.service.command == ("bash", "-c", "python worker.py")
    assert (
        "standard input:5: worker: each replica is given PORT, and the line does not name it" in found.notes
    )
    assert loaded(PROCFILE, command=["mine"]).service.command == ("mine",)


@pytest.mark.parametrize(
    ("text", "more", "problem"),
    [
        (PROCFILE, {"name": "clock"}, " found the processes release, web, worker; expected one that is called clock"),
        ("worker: a", {}, " found the processes worker; expected one that is called web"),
        ("", {}, " found nothing; expected a manifest, a Compose file or a Procfile"),
        ("# only words\n", {}, " found nothing; expected a manifest, a Compose file or a Procfile"),
        ("hello", {}, "1: found 'hello'; expected a mapping"),
        ("- a", {}, "1: found a list; expected a mapping"),
        ("a:\n  b: 1", {}, "1: found neither kind nor services; expected a manifest, a Compose file or a Procfile"),
        (b"web: \xff", {}, " found no UTF-8 at byte 5; expected text"),
        (b"web: a\0b", {}, " found a zero byte; expected text"),
    ],
)  # fmt: skip
def test_what_is_refused(text: str | bytes, more: dict[str, object], problem: str) -> None:
    assert refused(text, **more) == problem


def test_files(tmp_path: Path) -> None:
    procfile, manifest, odd = tmp_path / "Procfile", tmp_path / "deploy.yaml", tmp_path / "odd.yml"
    procfile.write_text(PROCFILE)
    manifest.write_bytes(b"\xef\xbb\xbfkind: Pod\nspec: {containers: [{name: a, command: [b]}]}")
    odd.write_text("web: run")
    assert load(str(procfile)).service.name == "web"
    assert load(str(manifest)).what == "Pod pod, container a"
    for path, why in [
        (odd, ":1: found neither kind nor services; expected a manifest, a Compose file or a Procfile"),
        (tmp_path, ": cannot be read: Is a directory"),
        (tmp_path / "none", ": cannot be read: No such file or directory"),
        (f"{tmp_path}/a\0b", ": cannot be read: embedded null byte"),
    ]:
        with pytest.raises(ManifestError) as caught:
            load(str(path))
        assert str(caught.value) == f"{path}{why}".replace("\0", "\\x00")


def test_no_more_is_read_than_a_manifest_can_have() -> None:
    problem = f"/dev/zero: found {4 * LONGEST + 1} bytes or more; expected {LONGEST} characters at most"
    with pytest.raises(ManifestError) as caught:
        load("/dev/zero")
    assert str(caught.value) == problem


@pytest.mark.parametrize("text", [DEPLOYMENT, COMPOSE, PROCFILE])
def test_whatever_is_written_is_read_or_refused_in_one_line(text: str) -> None:
    """Words, lines and characters are dropped, doubled, moved and replaced, from a seed."""
    chance = random.Random(5)  # noqa: S311 - not for secrets
    for _ in range(150):
        try:
            found = loaded(_spoilt(text, chance))
        except GracefulError as error:
            said = [str(error)]
        else:
            said = [found.what, *found.notes]
        assert all(line.isprintable() for line in said)


def _spoilt(text: str, chance: random.Random) -> str:
    lines = text.splitlines()
    for _ in range(chance.randint(1, 4)):
        index = chance.randrange(len(lines))
        line = lines[index]
        words = line.split() or [""]
        word = chance.choice(words)
        bad = [
            "",
            "0",
            "-1",
            "null",
            "[]",
            "{}",
            "*a",
            "&a",
            "!x",
            "'",
            '"',
            "\t",
            ":",
            "9" * 30,
            "é\u2028\x85",
            '"\\e[2J"',
            "<<",
        ]
        match chance.randrange(4):
            case 0:
                del lines[index]
            case 1:
                lines.insert(index, line)
            case 2:
                lines[index] = " " * chance.randrange(5) + line
            case _:
                lines[index] = line.replace(word, chance.choice(bad)) if word else line
        lines = lines or ["x"]
    return "\n".join(lines)
