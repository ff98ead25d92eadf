from __future__ import annotations

import pytest

from graceful import shells
from graceful.processes import Process


def shell(*command: str) -> Process:
    return Process(
        pid=1,
        parent=0,
        group=1,
        command=command,
        is_zombie=False,
        caught=frozenset(),
        ignored=frozenset(),
        blocked=frozenset(),
        inside=(1,),
    )


@pytest.mark.parametrize(
    ("command", "text", "path"),
    [
        (["sh", "-c", "x y"], "x y", None),
        (["/bin/sh", "-c", "x", "sh", "arg"], "x", None),
        (["sh", "-ec", "x"], "x", None),
        (["sh", "-c", "-e", "x"], "x", None),
        (["bash", "-lc", "x"], "x", None),
        (["bash", "-o", "pipefail", "-c", "x"], "x", None),
        (["bash", "-euo", "pipefail", "-c", "x"], "x", None),
        (["bash", "-ceuo", "pipefail", "x"], "x", None),
        (["bash", "+o", "posix", "-c", "x"], "x", None),
        (["bash", "-O", "extglob", "-c", "x"], "x", None),
        (["bash", "--norc", "--rcfile", "/rc", "-c", "x"], "x", None),
        (["busybox", "sh", "-c", "x"], "x", None),
        (["/bin/busybox", "ash", "/entry.sh"], None, "/entry.sh"),
        (["sh", "-c"], None, None),
        (["sh", "-c", ""], "", None),
        (["sh", "/entry.sh", "-c", "x"], None, "/entry.sh"),
        (["sh", "-e", "entry.sh"], None, "entry.sh"),
        (["sh", "--", "-odd.sh"], None, "-odd.sh"),
        (["bash", "--posix", "entry.sh"], None, "entry.sh"),
        (["sh"], None, None),
        (["sh", "-s", "arg"], None, None),
        (["bash", "-i"], None, None),
        (["-bash"], None, None),
        (["sh", "-"], None, "-"),
    ],
)
def test_what_a_shell_was_told(command: list[str], text: str | None, path: str | None) -> None:
    assert shells.script_of(shell(*command)) == (text, path)
    assert shells.is_interactive(shell(*command)) is (text is None and path is None)


@pytest.mark.parametrize("name", ["sh", "/bin/dash", "-bash", "busybox", "zsh", "/usr/bin/fish"])
def test_shells_are_known_by_name(name: str) -> None:
    assert shells.is_shell(shell(name))


@pytest.mark.parametrize("name", ["python3", "ssh", "shx", "/bin/sh/x"])
def test_others_are_none(name: str) -> None:
    assert not shells.is_shell(shell(name))


def test_the_text() -> None:
    def nowhere(path: str) -> None:
        return None

    assert shells.text_of(shell("sh", "-c", "x # y"), nowhere) == "x "
    assert shells.text_of(shell("sh", "/e.sh"), {"/e.sh": "# why\nx"}.get) == "\nx"
    assert shells.text_of(shell("sh", "/e.sh"), nowhere) is None
    assert shells.text_of(shell("sh"), nowhere) is None


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("x # y\nz # w", "x \nz "),
        ("# don't\nx", "\nx"),
        ("x '# no' \"# no\" \\# no a#no", "x '# no' \"# no\" \\# no a#no"),
        ("x 'a\n# no'", "x 'a\n# no'"),
        ("#", ""),
        ("", ""),
        ("x \\", "x \\"),
    ],
)
def test_comments(text: str, rest: str) -> None:
    assert shells.without_comments(text) == rest


@pytest.mark.parametrize(
    "text",
    [
        "x & wait",
        "x & wait $!",
        "x &",
        "x & y",
        "x >log 2>&1 &",
        ". ./lib.sh; x",
        "x; . /lib.sh",
        "if . /lib.sh; then x; fi",
        "source lib.sh && x",
        'eval "$COMMAND"',
        "coproc x",
        "wait",
    ],
)
def test_gets_to_its_traps(text: str) -> None:
    assert shells.gets_to_its_traps(text)


@pytest.mark.parametrize(
    "text",
    [
        "x",
        "x && y",
        "x 2>&1",
        "x &> log",
        "x >& log",
        "x <&3",
        "x \\& y",
        "wait-for-it.sh db:5432; x",
        "./wait; x",
        "/opt/wait x",
        "ls .; ./x",
        "x.wait",
        "await x",
    ],
)
def test_does_not_get_to_its_traps(text: str) -> None:
    assert not shells.gets_to_its_traps(text)


def test_nobody_knows_what_cannot_be_read() -> None:
    assert shells.gets_to_its_traps(None)
    assert not shells.sets_a_trap(None)


def test_sets_a_trap() -> None:
    assert shells.sets_a_trap("x &\ntrap 'kill $!' TERM")
    assert not shells.sets_a_trap("./trap x; mousetrap y; x-trap z")


@pytest.mark.parametrize(
    ("name", "text", "ends"),
    [
        ("bash", "trap 'rm f' EXIT; x", True),
        ("bash", "trap cleanup INT EXIT; x", True),
        ("sh", "trap cleanup 0; x", True),
        ("bash", "trap cleanup EXIT TERM; x", False),
        ("bash", "trap cleanup EXIT SIGTERM; x", False),
        ("bash", "trap cleanup 0 15; x", False),
        ("bash", "trap cleanup TERM; x", False),
        ("bash", "trap cleanup TERM; x EXITING", False),
        ("bash", "trap 'kill 0' EXIT; x", None),
        ("bash", "trap 'pkill -f x' EXIT; x", None),
        ("mksh", "trap 'rm f' EXIT; x", False),
    ],
)
def test_a_trap_on_exit(name: str, text: str, *, ends: bool | None) -> None:
    assert shells.ends_by_exit_trap(shell(name, "-c", text), text) is ends
