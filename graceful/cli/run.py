"""`graceful run`: uvicorn's own options, from uvicorn's own command, and our settings beside them."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import sys
from typing import Any, Final, NoReturn

import click
from uvicorn.config import LOGGING_CONFIG
from uvicorn.main import main as uvicorn_command

from graceful import settings
from graceful.errors import SettingsError
from graceful.platforms import PROFILES
from graceful.runtime import Runtime, current
from graceful.servers import launch
from graceful.servers.lookout import LOOPBACKS

logger = logging.getLogger("graceful")

# What makes no sense in one process that we own, or is said otherwise.
_LEFT_OUT: Final = {
    "app",
    "port",
    "version",
    "workers",
    "reload",
    "reload_dirs",
    "reload_includes",
    "reload_excludes",
    "reload_delay",
    "timeout_worker_healthcheck",
    "timeout_graceful_shutdown",
}

_HIGHEST_PORT: Final = 65535
_METAVARS: Final = {"seconds": "SECONDS", "path": "PATH", "port": "PORT", "text": "TEXT", "flag": "BOOLEAN"}

_EXAMPLES: Final = """\
Serve MODULE:APP, any ASGI app, on uvicorn, and end it well: on SIGTERM /ready fails, requests are still
answered for the lame duck, then the listener closes, what is in flight may finish, resources are given
back, and the process exits, all within the grace period.

\b
Examples:
  graceful run app:app --host 0.0.0.0
  graceful run app:create_app --factory --port 9000
  GRACEFUL_LAME_DUCK=10 graceful run app:app --grace-period 60
  exec graceful run app:app          in a shell script: else the signal does not arrive

\b
Exit codes:
  0 all ended in time   1 the app failed or could not start   2 wrong usage or settings
  70 ended by the watchdog   75 something was cut off   130, 131 forced by SIGINT, SIGQUIT
"""


def _options() -> list[click.Parameter]:
    uvicorns = [option for option in uvicorn_command.params if option.name not in _LEFT_OUT]
    port = click.Option(
        ["--port"],
        type=click.IntRange(0, _HIGHEST_PORT),
        help="Bind to this port; 0: any.  [default: PORT, then 8000]",
    )
    ours = [
        click.Option(
            [each.option],
            default=None,
            metavar=_METAVARS[each.kind],
            allow_from_autoenv=False,
            help=f"{each.help}  [env: {each.environment}]",
        )
        for each in settings.FIELDS
    ]
    return [click.Argument(["app"], metavar="MODULE:APP", envvar="UVICORN_APP"), *ours, port, *uvicorns]


def _run(app: str, **given: Any) -> NoReturn:
    ours = {each.name: given.pop(each.name, None) for each in settings.FIELDS}
    options = _uvicorn_options(given)
    app_dir = options.pop("app_dir", None)
    sys.path.insert(0, "" if app_dir is None else app_dir)

    def choose(loaded: Any) -> Runtime:
        runtime = launch.runtime_within(loaded) or current() or Runtime()
        runtime.overrule(ours)
        _warn_of(options, runtime.settings.platform.name)
        return runtime

    launch.run(
        choose,
        app,
        options,
        exit="fast",
        settings=functools.partial(_while_importing, ours),
        early=functools.partial(_known_while_importing, ours),
    )


def _while_importing(ours: dict[str, Any]) -> settings.Settings:
    """The watchdog's while nothing is known of the app's own runtime."""
    try:
        return settings.resolve({}, options=ours)
    except SettingsError:  # only that could make the values fit
        return settings.resolve({}, environ={})


def _known_while_importing(ours: dict[str, Any]) -> settings.Settings | None:
    """The settings without the arguments of the app's own runtime, where they can be had without."""
    with contextlib.suppress(SettingsError):
        return settings.resolve({}, options=ours)
    return None


def _uvicorn_options(given: dict[str, Any]) -> dict[str, Any]:
    """As uvicorn's own command hands them to its configuration."""
    options = dict(given)
    options["headers"] = [_header(text) for text in options.get("headers") or ()]
    options["log_config"] = LOGGING_CONFIG if options.get("log_config") is None else options["log_config"]
    if options.get("port") is None:
        options["port"] = _port_of_the_platform()
    return options


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon:
        option = "--header"
        raise SettingsError(option, text, "expected NAME:VALUE")
    return name, value


def _port_of_the_platform() -> int:
    """PORT, which many platforms set and an exec form cannot expand, else 8000."""
    name = "PORT"
    found = os.environ.get(name) or "8000"
    if not found.isdecimal() or int(found) > _HIGHEST_PORT:
        raise SettingsError(name, found, f"expected a number from 0 to {_HIGHEST_PORT}")
    return int(found)


def _warn_of(options: dict[str, Any], platform: str) -> None:
    """Warn of what is surely not meant."""
    by_address = options.get("uds") is None and options.get("fd") is None
    if PROFILES[platform].in_container and by_address and options.get("host") in LOOPBACKS:
        logger.warning(
            "listening on %s inside a container: nobody outside will reach it; use --host 0.0.0.0",
            options["host"],
        )
    workers = os.environ.get("WEB_CONCURRENCY") or os.environ.get("UVICORN_WORKERS")
    if workers not in {None, "", "1"}:
        logger.warning(
            "WEB_CONCURRENCY or UVICORN_WORKERS is %s, but `graceful run` is one process; run more replicas",
            workers,
        )


def main(arguments: list[str]) -> NoReturn:
    """Parse, serve, and end the process."""
    command = click.Command(
        "run",
        params=_options(),
        callback=_run,
        help=_EXAMPLES,
        context_settings={"auto_envvar_prefix": "UVICORN", "max_content_width": 100},
    )
    try:
        command.main(arguments, prog_name="graceful run")
    except SettingsError as problem:
        if sys.stderr is not None:
            sys.stderr.write(f"graceful: {problem}\n")
        sys.exit(2)
    raise SystemExit  # not reached: click exits
