"""What the README and the pages in `docs/` show is so: snippets run, commands parse, tables are the code."""

from __future__ import annotations

import builtins
import dis
import itertools
import json
import re
import shlex
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
import gunicorn.config
import pytest
import yaml
from starlette.testclient import TestClient
from uvicorn.main import main as uvicorn_command

import graceful
from demo.images import __main__ as images
from graceful.cli import doctor, probe, rehearse, rehearse_options, run
from graceful.cli.probe_target import parse_target
from graceful.platforms import PROFILES
from graceful.settings import resolve
from hostile import __main__ as hostile
from tests.pages import (
    BLOCKS,
    DOCS,
    EXAMPLES,
    PAGES,
    PROBES,
    README,
    ROOT,
    ROUTES,
    SETTINGS,
    Block,
    blocks_of,
    of_language,
)


def test_every_block_is_of_a_language_that_is_checked() -> None:
    assert {block.language for block in BLOCKS} == {
        "",
        "python",
        "sh",
        "yaml",
        "text",
        "json",
        "ini",
        "dockerfile",
    }


# The README.


def test_the_readme_is_short_and_shows_python_soon() -> None:
    lines = README.read_text().splitlines()
    assert len(lines) <= 120
    assert lines.index("```python") < 30


def test_the_readme_begins_with_the_two_commands() -> None:
    first = next(blocks_of(README))
    commands = [line.split("#")[0].split() for line in first.text.splitlines()]
    assert commands == [["make", "demo"], ["make", "test"]]


# Python.


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_runs(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The blocks of a page share their names, as a reader takes them; `__main__` they are not: no server."""
    names: dict[str, Any] = {"__name__": "page"}
    for block in of_language("python"):
        if block.page == page:
            source = "\n" * block.line + block.text  # so that a traceback shows the page's line
            exec(compile(source, str(page), "exec"), names)  # noqa: S102 - our own pages
    capsys.readouterr()
    if page == README:
        with TestClient(names["app"]) as client:
            assert client.get("/").text == "hello\n"
            assert client.get("/ready").text == "ok"


def test_no_name_is_wanting_in_python() -> None:
    """What is inside of functions is not run above: every global that they ask for exists."""

    for page in PAGES:
        names: dict[str, Any] = {"__name__": "page"}
        codes = []
        for block in of_language("python"):
            if block.page == page:
                code = compile(block.text, str(block), "exec")
                exec(code, names)  # noqa: S102 - our own pages
                codes.append((block, code))
        for block, code in codes:
            missing = {name for name in globals_of(code) if name not in names and not hasattr(builtins, name)}
            assert not missing, f"{block}: {missing}"


def globals_of(code: Any) -> set[str]:
    """The globals that a code object and those within it load."""
    found = {
        step.argval for step in dis.get_instructions(code) if step.opname in {"LOAD_GLOBAL", "LOAD_NAME"}
    }
    for constant in code.co_consts:
        if hasattr(constant, "co_code"):
            found |= globals_of(constant)
    return found - {"__annotations__", "__qualname__", "__module__", "__name__"}


def test_each_name_of_graceful_on_the_pages_exists() -> None:
    for page in PAGES:
        for name in re.findall(r"\bgraceful\.([A-Za-z_]+)\b(?!/)", page.read_text()):
            # report: the logger; pytest_plugin: a module
            assert name in {*graceful.__all__, "report", "pytest_plugin"}, f"{page.name}: graceful.{name}"
        for name in re.findall(r"`runtime\.([a-z_]+)", page.read_text()):
            assert hasattr(graceful.Runtime(), name), f"{page.name}: runtime.{name}"


# Commands.


def words_of(line: str) -> list[str]:
    """The words of a shell line, without settings in front of the command, `exec`, and comments."""
    words = shlex.split(line, comments=True)
    while words and (re.fullmatch(r"[A-Z_]+=.*", words[0]) or words[0] == "exec"):
        variable = words.pop(0).partition("=")[0]
        if variable.startswith("GRACEFUL_"):
            assert variable in {each.environment for each in SETTINGS.values()}, line
    return words


def check_graceful(arguments: list[str]) -> None:
    command, *rest = arguments
    if command == "probe":
        options = probe._parser().parse_args(rest)
        parse_target(options.url, options.unix_socket)
        return
    if command == "rehearse":
        at = rest.index("--") if "--" in rest else len(rest)
        options = rehearse_options.parser().parse_args(rest[:at])
        options.source = None  # no file is there
        words = [*options.target, *rest[at + 1 :]] or ["module:app"]
        rehearse._plans(options, rehearse._found(options, words))
        return
    if command == "doctor":
        doctor._parser().parse_args(rest)
        return
    assert command == "run", f"there is no command {command!r}"
    parsed = parsed_by(click.Command("run", params=run._options()), rest)
    resolve(
        {}, options={name: parsed.get(name) for name in SETTINGS}, environ={}, platform=PROFILES["kubernetes"]
    )


def parsed_by(command: click.Command, arguments: list[str]) -> dict[str, Any]:
    """The parameters; raises click.UsageError for what the command does not know."""
    return dict(command.make_context(command.name, arguments).params)


def check_uvicorn(arguments: list[str]) -> None:
    parsed_by(uvicorn_command, list(arguments))


def check_gunicorn(arguments: list[str]) -> None:
    gunicorn.config.Config().parser().parse_args(arguments)


def check_curl(arguments: list[str]) -> None:
    urls = [word for word in arguments if word.startswith("http")]
    assert len(urls) == 1
    path = urlsplit(urls[0]).path
    assert path in PROBES | ROUTES or path.rpartition("/")[0] in PROBES
    assert set(re.findall(r" (-\w+)", " " + " ".join(arguments))) <= {"-s", "-i", "-H", "-X"}


def check_make(arguments: list[str]) -> None:
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    options = [word.removeprefix("ARGS=") for word in arguments if word.startswith("ARGS=")]
    assert {word for word in arguments if not word.startswith("ARGS=")} <= set(targets)
    if options:
        assert arguments[0] == "images", "options are checked of this target alone"
        images.parser().parse_args(shlex.split(options[0]))


def check_docker(arguments: list[str]) -> None:
    command, *words = arguments
    assert command in {"build", "run", "stop"}
    if command == "build":
        text = (ROOT / words[words.index("-f") + 1]).read_text()
        for word in (after for option, after in itertools.pairwise(words) if option == "--build-arg"):
            assert f"\nARG {word.partition('=')[0]}=" in text
        assert words[-1] == "."
    elif command == "run":
        assert words[-1] in {"graceful-exec", "graceful-shell-sh"} or words[-7:-3] == [
            "pip",
            "download",
            "-d",
            "wheels",
        ]


def check_pip(arguments: list[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert arguments[0] == "install"
    for word in arguments[1:]:
        name, extra = re.fullmatch(r"([\w.-]+?)(?:\[(\w+)\])?", word).groups()  # type: ignore[union-attr]
        assert name in {project["name"], ".", "fastapi"}
        assert extra is None or extra in project["optional-dependencies"]


def check_python(arguments: list[str]) -> None:
    if arguments[:2] == ["-m", "hostile"]:
        assert hostile.cases_meant(hostile.parser().parse_args(arguments[2:]).case)[1] == []
        return
    assert (ROOT / arguments[0]).is_file()


COMMANDS: dict[str, Callable[[list[str]], None]] = {
    "graceful": check_graceful,
    "uvicorn": check_uvicorn,
    "gunicorn": check_gunicorn,
    "curl": check_curl,
    "docker": check_docker,
    "make": check_make,
    "pip": check_pip,
    "python": check_python,
}


def check_line(line: str) -> None:
    words = words_of(line)
    assert words[0] in COMMANDS, f"{words[0]} is not checked: {line}"
    COMMANDS[words[0]](words[1:])


def shell_lines() -> Iterator[tuple[str, str]]:
    for block in BLOCKS:
        is_shell = block.language == "sh" or (not block.language and block.text.split()[0] in COMMANDS)
        if is_shell:
            yield from ((str(block), line) for line in block.text.splitlines() if line.strip())
    for page in PAGES:
        for line in re.findall(r"`((?:graceful|pip|uvicorn|gunicorn) [^`…]*[^`… ])`", page.read_text()):
            if line not in {"graceful probe", "graceful run"}:
                yield page.name, line
    for path in EXAMPLES:
        docstring = path.read_text().split('"""')[1]
        for line in re.findall(rf"^    (?=[A-Z_]+=|(?:{'|'.join(COMMANDS)}) )(.+)$", docstring, re.MULTILINE):
            yield path.name, line


@pytest.mark.parametrize(("where", "line"), list(shell_lines()))
def test_a_command_is_one_that_there_is(where: str, line: str) -> None:
    del where  # it is shown in the test's name
    check_line(line)


@pytest.mark.parametrize(
    "line",
    [
        "graceful run",
        "graceful run a:b --lame-dck 3",
        "graceful serve a:b",
        "GRACEFUL_LAME=1 graceful run a:b",
    ],
)
def test_a_command_that_there_is_not_is_noticed(line: str) -> None:
    with pytest.raises((AssertionError, click.UsageError)):
        check_line(line)


# Manifests.


def nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """Every mapping within parsed YAML."""
    if isinstance(tree, dict):
        yield tree
    for child in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        yield from nodes(child)


def environment_in(node: dict[str, Any]) -> dict[str, str]:
    """The variables that a container of Kubernetes or a service of Compose is given."""
    given = node.get("env") or node.get("environment") or {}
    pairs = given.items() if isinstance(given, dict) else ((entry["name"], entry["value"]) for entry in given)
    return dict(pairs)


@pytest.mark.parametrize("block", of_language("yaml"), ids=str)
def test_a_manifest_holds(block: Block) -> None:
    tree = yaml.safe_load(block.text)
    for node in nodes(tree):
        environment = environment_in(node)
        assert all(isinstance(value, str) for value in environment.values()), "the API takes strings only"
        grace = str(node.get("stop_grace_period", tree.get("terminationGracePeriodSeconds", ""))).rstrip("s")
        if environment:
            settings = resolve({}, environ=environment, platform=PROFILES["kubernetes"])
            assert not settings.warnings
            assert settings.grace_period == float(grace)
            assert settings.lame_duck + settings.pre_stop < settings.grace_period
            hook = node.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
            assert settings.pre_stop == hook
        for command in (node.get("command"), node.get("test")):
            if isinstance(command, list):
                check_line(shlex.join(word for word in command if word != "CMD"))
        check_probes(node)


def check_probes(node: dict[str, Any]) -> None:
    for name, path in (
        ("readinessProbe", "/ready"),
        ("livenessProbe", "/healthz"),
        ("startupProbe", "/healthz"),
    ):
        asked = node.get(name, {})
        if "httpGet" in asked:
            assert asked["httpGet"] in ({"path": path, "port": port} for port in (8000, 9000))
        if "exec" in asked:
            assert asked["exec"]["command"][-1].endswith(path)
            assert asked["timeoutSeconds"] > 1, "the probe's own timeout, and the start of Python"


@pytest.mark.parametrize("block", of_language("ini"), ids=str)
def test_a_unit_holds(block: Block) -> None:
    entries = dict(line.split("=", 1) for line in block.text.splitlines() if "=" in line)
    variable, _, grace = entries["Environment"].partition("=")
    assert variable == "GRACEFUL_GRACE_PERIOD"
    assert grace == entries["TimeoutStopSec"]
    check_line(entries["ExecStart"].rpartition("/")[2])


def test_a_command_of_an_image_is_in_exec_form() -> None:
    shown = [line for block in of_language("dockerfile") for line in re.findall(r"CMD (.+)", block.text)]
    shown += [line for page in PAGES for line in re.findall(r"`CMD (\[.+?\])`", page.read_text())]
    assert len(shown) >= 3
    for command in shown:
        check_line(shlex.join(json.loads(command)))


@pytest.mark.parametrize("block", of_language("json"), ids=str)
def test_json_is_json(block: Block) -> None:
    assert set(json.loads(block.text)) == {"status", "phase", "checks"}


# Links and words.


def slug(heading: str) -> str:
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", page.read_text()):
        name, _, anchor = target.partition("#")
        linked = page.parent / name if name else page
        assert linked.exists(), target
        if anchor:
            assert anchor in {
                slug(line.lstrip("# ")) for line in linked.read_text().splitlines() if line.startswith("#")
            }, target


def test_the_readme_leads_to_every_page() -> None:
    text = README.read_text()
    assert [page.name for page in DOCS if f"docs/{page.name}" not in text] == []
