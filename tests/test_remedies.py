from __future__ import annotations

import shlex
from collections.abc import Sequence

import pytest

from graceful.processes import Process
from graceful.remedies import as_typed, exec_form, instead_of, with_exec

RUN = ("graceful", "run", "app:app")
TYPED = "graceful run app:app"
PROCESS = ("/usr/local/bin/python3.13", "/usr/local/bin/graceful", "run", "app:app")
EXEC_FORM = 'CMD ["graceful", "run", "app:app"]'


def process(*command: str, pid: int = 1) -> Process:
    return Process(
        pid=pid,
        parent=0,
        group=1,
        command=command,
        is_zombie=False,
        caught=frozenset(),
        ignored=frozenset(),
        blocked=frozenset(),
        inside=(pid,),
    )


def instead(shell: Sequence[str], command: Sequence[str] = PROCESS, script: str | None = None) -> str:
    return instead_of(process(*shell), process(*command, pid=7), lambda _path: script)


def left_out(text: str) -> str:
    return f"   (this leaves out `{text}`, for which a shell would have to stay)"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (TYPED, f"Write the exec form: {EXEC_FORM}"),
        (f"{TYPED}\n", f"Write the exec form: {EXEC_FORM}"),
        (f"  {TYPED} ;", f"Write the exec form: {EXEC_FORM}"),
        (f"{TYPED}; true", f"Write the exec form: {EXEC_FORM}{left_out('; true')}"),
        (f"{TYPED} && true", f"Write the exec form: {EXEC_FORM}{left_out('&& true')}"),
        (f"{TYPED} || exit 1", f"Write the exec form: {EXEC_FORM}{left_out('|| exit 1')}"),
        (f"{TYPED} & wait", f"Write the exec form: {EXEC_FORM}{left_out('& wait')}"),
        (
            f"{TYPED} | tee log",
            f"Write the exec form: {EXEC_FORM}   (this leaves out `| tee log`: the engine keeps the output)",
        ),
        (f"{TYPED} 2>&1", f"Write: CMD exec {TYPED} 2>&1"),
        (f"{TYPED} > log", f"Write: CMD exec {TYPED} > log"),
        (f"{TYPED} &> log", f"Write: CMD exec {TYPED} &> log"),
        (f"cd /app && {TYPED}", f"Write: CMD cd /app && exec {TYPED}"),
        (f"cd /app; {TYPED}", f"Write: CMD cd /app; exec {TYPED}"),
        (f"V=x {TYPED}", f"Write: CMD V=x exec {TYPED}"),
        (f"A='b c' D=\"e f\" {TYPED}", f"Write: CMD A='b c' D=\"e f\" exec {TYPED}"),
        (f"{TYPED} --port $PORT", f"Write: CMD exec {TYPED} --port $PORT"),
        (f"env V=x {TYPED}", 'Write the exec form: CMD ["env", "V=x", "graceful", "run", "app:app"]'),
        (
            f"python -m migrate && {TYPED} && python cleanup.py",
            f"Write: CMD python -m migrate && exec {TYPED}{left_out('&& python cleanup.py')}",
        ),
        (f"trap 'x; y' INT; {TYPED}", f"Write: CMD trap 'x; y' INT; exec {TYPED}"),
        (f'echo \\; "a && b"; {TYPED}', f'Write: CMD echo \\; "a && b"; exec {TYPED}'),
        (
            f"/usr/local/bin/{TYPED} # all of it",
            'Write the exec form: CMD ["/usr/local/bin/graceful", "run", "app:app"]',
        ),
        (f"cat x | {TYPED}", f"Write the exec form: {EXEC_FORM}"),
        (f"(cd /app && {TYPED})", f"Write the exec form: {EXEC_FORM}"),
        (f"while true; do {TYPED}; done", f"Write the exec form: {EXEC_FORM}"),
        ("./start.sh", f"Write the exec form: {EXEC_FORM}"),
        ("", f"Write the exec form: {EXEC_FORM}"),
        (f"{TYPED} 'without an end", f"Write: CMD exec {TYPED} 'without an end"),
        (f"set -e\n{TYPED}\n", f"Put exec before the command that starts the service: exec {TYPED}"),
    ],
)
def test_texts(text: str, expected: str) -> None:
    assert instead(["/bin/sh", "-c", text]) == expected


@pytest.mark.parametrize(
    ("shell", "expected"),
    [
        (
            ["sh", "-c", f'{TYPED} "$@"', "sh", "--port", "1"],
            'Write: CMD ["sh", "-c", "exec graceful run app:app \\"$@\\"", "sh", "--port", "1"]',
        ),
        (["bash", "-lc", TYPED], f'Write: CMD ["bash", "-lc", "exec {TYPED}"]'),
        (
            ["bash", "-c", f"source env && {TYPED}"],
            f'Write: CMD ["bash", "-c", "source env && exec {TYPED}"]',
        ),
        (["sh", "-ec", f"x; {TYPED}"], f'Write: CMD ["sh", "-ec", "x; exec {TYPED}"]'),
        (["bash", "-o", "pipefail", "-c", f"{TYPED} | tee x"], None),
        (
            ["busybox", "sh", "-c", f"cd x && {TYPED}"],
            f'Write: CMD ["busybox", "sh", "-c", "cd x && exec {TYPED}"]',
        ),
    ],
)
def test_shells_that_are_needed(shell: list[str], expected: str | None) -> None:
    found = instead(shell)
    assert found == expected if expected else found.startswith(f"Write the exec form: {EXEC_FORM}")


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ('#!/bin/sh\nset -e\n"$@"\n', 'In /entry.sh write: exec "$@"'),
        ("#!/bin/sh\n$@\n", "In /entry.sh write: exec $@"),
        (f'#!/bin/sh\n# don\'t\nV=x {TYPED} --a "$@"\n', f'In /entry.sh write: V=x exec {TYPED} --a "$@"'),
        (f"if true; then\n  {TYPED}\nfi\n", f"In /entry.sh write: exec {TYPED}"),
        (f"{TYPED}\necho ended\n", f"In /entry.sh write: exec {TYPED}{left_out('echo ended')}"),
        ('for each in "$@"; do\n  start "$each"\ndone\n', f"End /entry.sh with: exec {TYPED}"),
        ("start\n", f"End /entry.sh with: exec {TYPED}"),
        (None, f"End /entry.sh with: exec {TYPED}"),
    ],
)
def test_scripts(script: str | None, expected: str) -> None:
    assert instead(["sh", "/entry.sh"], script=script) == expected


def test_anybody_else() -> None:
    assert instead(["python", "start.py"]) == f"Make it PID 1 in the exec form: {EXEC_FORM}"
    assert instead(["sh"]) == f"Make it PID 1 in the exec form: {EXEC_FORM}"


@pytest.mark.parametrize(
    ("command", "typed"),
    [
        (PROCESS, RUN),
        (("/venv/bin/python", "/venv/bin/graceful", "run"), ("/venv/bin/graceful", "run")),
        (("/venv/bin/python", "-m", "graceful"), ("/venv/bin/python", "-m", "graceful")),
        (("/usr/bin/python3", "app.py"), ("python3", "app.py")),
        (("python", "/usr/local/bin/start.py"), ("python", "/usr/local/bin/start.py")),
        (("pypy3", "/usr/bin/graceful", "run"), ("graceful", "run")),
        (("/bin/sh", "/usr/bin/x"), ("sh", "/usr/bin/x")),
        ((), ()),
    ],
)
def test_as_typed(command: Sequence[str], typed: Sequence[str]) -> None:
    assert as_typed(command) == typed


def test_a_line_stays_a_line() -> None:
    for shell in (
        ["sh", "-c", f"{TYPED} {'x' * 4096}"],
        ["sh", "-c", f"cd x && {TYPED} {'x' * 4096} > log; {'y' * 4096}"],
        ["sh", "-c", f"{TYPED} '\x1b[2J\udcff'; true"],
        ["bash", "-lc", f"{TYPED} '{'x' * 4096}\n'"],
        ["sh", f"/{'x' * 4096}"],
        ["sleep", "x" * 4096],
    ):
        for script in (f"{TYPED} {'x' * 4096}\n", '"$@"', None):
            found = instead(shell, (*PROCESS, "x" * 4096, "\x1b\n\udcff"), script)
            assert found.isprintable(), found
            assert len(found) < 700, found


def test_exec_form() -> None:
    assert exec_form(["ü", "it's", 'a"b']) == """CMD ["ü", "it's", "a\\"b"]"""
    assert exec_form(["a\u2028"]) == 'CMD ["a\\u2028"]'


def test_the_likeliest_command_gets_the_exec() -> None:
    found = with_exec(f"graceful run other:app & {shlex.join(RUN)}; graceful --version", RUN)
    assert found is not None
    assert found.line == f"graceful run other:app & exec {TYPED}"
    assert found.left_out == "; graceful --version"


def test_of_equals_the_last() -> None:
    found = with_exec(f"{TYPED}; {TYPED}", RUN)
    assert found is not None
    assert found.line == f"{TYPED}; exec {TYPED}"


def test_a_script_by_its_name() -> None:
    found = with_exec("cd x && ./start.py", ("python3", "./start.py"))
    assert found is not None
    assert found.line == "cd x && exec ./start.py"


def test_nothing_was_started() -> None:
    assert with_exec("x", ()) is None
