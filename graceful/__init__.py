"""Graceful shutdown for Python services: serve on while traffic is routed away, drain, release, report, exit.

    from graceful import Runtime

    runtime = Runtime(grace_period=30, lame_duck=5)
    app = runtime.wrap(app)

The names below are loaded when they are first used: the command's entry point must install its signal
handlers before anything else is imported, and `graceful probe` imports no server at all.
"""

from __future__ import annotations

# Importing `typing` would take longer than all that must be done before a signal can be noted.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from graceful.asgi import GracefulMiddleware
    from graceful.checks import CheckResult
    from graceful.declared import Resource
    from graceful.errors import (
        GracefulError,
        ListenError,
        ResourceError,
        RuntimeInUseError,
        SettingsError,
        StartupInterrupted,
    )
    from graceful.events import PhaseChange
    from graceful.phases import Phase
    from graceful.reports import ExitCode, Report
    from graceful.runtime import Runtime, current
    from graceful.settings import Settings

_HOMES = {
    "CheckResult": "checks",
    "ExitCode": "reports",
    "GracefulError": "errors",
    "GracefulMiddleware": "asgi",
    "ListenError": "errors",
    "Phase": "phases",
    "PhaseChange": "events",
    "Report": "reports",
    "Resource": "declared",
    "ResourceError": "errors",
    "Runtime": "runtime",
    "RuntimeInUseError": "errors",
    "Settings": "settings",
    "SettingsError": "errors",
    "StartupInterrupted": "errors",
    "current": "runtime",
}

__all__ = [  # noqa: RUF022 - the names most used come first
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
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        message = f"module 'graceful' has no attribute {name!r}"
        raise AttributeError(message)
    from importlib import import_module  # noqa: PLC0415 - see TYPE_CHECKING

    value = globals()[name] = getattr(import_module(f"graceful.{home}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
