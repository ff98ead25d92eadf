"""What `import graceful` costs and gives: names that are loaded when they are used, nothing else before."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import textwrap

import pytest

import graceful

HEAVY = {
    "asyncio",
    "click",
    "dataclasses",
    "logging",
    "prometheus_client",
    "ssl",
    "starlette",
    "typing",
    "uvicorn",
}


def run(code: str, *arguments: str) -> str:
    """What a fresh interpreter writes, without coverage, which imports half of the standard library."""
    bare = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=bare,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_all_is_what_users_may_rely_on() -> None:
    assert set(graceful.__all__) == {
        "Runtime",
        "GracefulMiddleware",
        "current",
        "Phase",
        "PhaseChange",
        "Report",
        "ExitCode",
        "Resource",
        "CheckResult",
        "Settings",
        "GracefulError",
        "ListenError",
        "ResourceError",
        "RuntimeInUseError",
        "SettingsError",
        "StartupInterrupted",
    }
    assert len(graceful.__all__) == len(set(graceful.__all__))


@pytest.mark.parametrize("name", graceful.__all__)
def test_each_name_is_there_and_is_the_one_of_its_home(name: str) -> None:
    home = importlib.import_module(f"graceful.{graceful._HOMES[name]}")
    value = getattr(graceful, name)
    assert value is getattr(home, name)
    assert value.__module__.startswith("graceful.")
    assert value.__doc__
    assert vars(graceful)[name] is value, "looked up once"


def test_every_home_is_of_a_public_name() -> None:
    assert set(graceful._HOMES) == set(graceful.__all__)


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match=r"^module 'graceful' has no attribute 'Manager'$"):
        _ = graceful.Manager


def test_a_star_brings_all() -> None:
    assert run("from graceful import *; print(Runtime.__name__, current())") == "Runtime None\n"


def test_importing_it_imports_nothing_heavy() -> None:
    loaded = run("""
        import sys
        before = set(sys.modules)
        import graceful
        print(*sorted(set(sys.modules) - before))
    """).split()
    assert set(loaded) <= {"__future__", "graceful"}


def test_an_error_costs_no_server() -> None:
    loaded = run("""
        import sys
        from graceful import SettingsError
        print(*sys.modules)
    """).split()
    assert HEAVY.isdisjoint(loaded)


ENTRY = """
    import builtins, signal, sys
    import graceful

    names = ("SIGTERM", "SIGINT", "SIGQUIT")
    real, before = builtins.__import__, set(sys.modules)

    def installed():
        return all(type(signal.getsignal(getattr(signal, name))).__name__ == "Handler" for name in names)

    loaded = []
    def watched(name, *args, **kwargs):
        module = real(name, *args, **kwargs)
        if not installed():
            loaded.extend(set(sys.modules) - before - set(loaded))
        return module

    builtins.__import__ = watched
    import graceful.cli
    print(installed(), *sorted(loaded))
"""


def test_the_entry_point_installs_its_handlers_before_it_imports_others() -> None:
    installed, *before = run(ENTRY, "run", "app:app").split()
    assert installed == "True"
    assert set(before) <= {"graceful.cli", "graceful.errors", "graceful.signals", "_signal", "time", "os"}


@pytest.mark.parametrize("arguments", [["probe", "http://localhost"], ["--help"], []])
def test_other_commands_take_no_signals(arguments: list[str]) -> None:
    assert run(ENTRY, *arguments).split()[0] == "False"


def test_the_probe_imports_no_server() -> None:
    loaded = run("import sys; import graceful.cli.probe; print(*sys.modules)").split()
    assert HEAVY.isdisjoint(loaded)


def test_the_signal_module_alone_is_small() -> None:
    loaded = run("import sys; import graceful.signals; print(*sys.modules)").split()
    assert HEAVY.isdisjoint(loaded)
