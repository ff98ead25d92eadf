"""Owning uvicorn: from an app and uvicorn's options to a run, and from a run to the end of the process."""

from __future__ import annotations

import asyncio
import copy
import inspect
import logging
import sys
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NoReturn, cast

import uvicorn
from uvicorn.config import LOGGING_CONFIG

from graceful import signals
from graceful._types import ASGIApp
from graceful.asgi import AppLifespan, GracefulMiddleware
from graceful.checks import Checks
from graceful.ending import Ending, Exit, LoopFactory
from graceful.errors import GracefulError, ListenError, RuntimeInUseError, SettingsError, StartupInterrupted
from graceful.metrics import PUBLISHER
from graceful.reports import ExitCode, Report
from graceful.servers.lookout import AppAddress, BeforeTheApp, Lookout
from graceful.servers.owned import OwnedServer
from graceful.settings import Settings
from graceful.watchdog import Watchdog

if TYPE_CHECKING:
    from graceful.runtime import Runtime

logger = logging.getLogger("graceful")

_UVICORNS: Final = "wrap the app and use uvicorn's own command for it"
_HIGHEST_PORT: Final = 65535
# Options of uvicorn's that we cannot honour: what is as good as leaving them out, and the way out.
_NOT_OURS: Final = {
    "workers": (1, f"the owned server is one process; {_UVICORNS}"),
    "reload": (False, f"the owned server has no reloader; {_UVICORNS}"),
    "timeout_graceful_shutdown": (None, "the drain has a deadline of its own; set drain_timeout"),
}


def with_our_logger(log_config: Any) -> Any:
    """Uvicorn's logging configuration with our logger beside its own; a configuration of the user's that
    names ours, or is a file, as it is.
    """
    if not isinstance(log_config, dict) or "graceful" in log_config.get("loggers", {}):
        return log_config
    uvicorns = log_config.get("loggers", {}).get("uvicorn")
    if uvicorns is None:
        return log_config
    ours = copy.deepcopy(log_config)
    ours["loggers"]["graceful"] = copy.deepcopy(uvicorns)
    return ours


def configure(app: ASGIApp | str, options: Mapping[str, Any]) -> uvicorn.Config:
    """Uvicorn's configuration, its app not yet loaded. Raises SettingsError for an option that uvicorn does
    not know or we cannot honour.
    """
    known = inspect.signature(uvicorn.Config).parameters
    port = options.get("port", 0)
    if not isinstance(port, int) or not 0 <= port <= _HIGHEST_PORT:
        name = "port"
        raise SettingsError(name, port, f"expected a number from 0 to {_HIGHEST_PORT}")
    for name, value in options.items():
        if name not in known:
            raise SettingsError(name, value, "uvicorn has no such option")
        nothing, way_out = _NOT_OURS.get(name, (value, ""))
        if value is not None and value != nothing:
            raise SettingsError(name, value, way_out)
    given = {"log_config": LOGGING_CONFIG, **options}
    given["log_config"] = with_our_logger(given["log_config"])
    config = uvicorn.Config(app, **{**given, "workers": 1})
    if options.get("log_level") is not None:
        logger.setLevel(logging.getLogger("uvicorn.error").level)
    return config


def _load(config: uvicorn.Config) -> None:
    """Load the TLS files and the app. Raises ListenError for the former; what the app's own modules raise is
    let through.
    """
    try:
        config.load()
    except OSError as problem:  # SSLError is one
        if hasattr(config, "ssl"):  # uvicorn reads the certificate before it imports the app
            raise
        found = f"cannot use the TLS certificate {config.ssl_certfile}: {problem}"
        message = f"{found}; check --ssl-certfile, --ssl-keyfile and the password"
        raise ListenError(message) from problem
    _require_callable(config)


def _require_callable(config: uvicorn.Config) -> None:
    """Uvicorn would serve anything, and answer each request with a TypeError."""
    app: Any = config.loaded_app
    while type(app).__module__.startswith("uvicorn.middleware") and hasattr(app, "app"):
        app = app.app
    if not callable(app):
        message = f"{config.app} is no ASGI app: found {app!r:.80}, which cannot be called"
        raise GracefulError(message)


def runtime_within(app: Any) -> Runtime | None:
    """The runtime that an app, or what it is wrapped in, or the list of a Starlette's middleware, has been
    given.
    """
    for _ in range(100):
        if isinstance(app, GracefulMiddleware):
            return cast("Runtime", app.runtime)
        for middleware in getattr(app, "user_middleware", ()):
            if middleware.cls is GracefulMiddleware:
                return cast("Runtime", middleware.kwargs.get("runtime") or middleware.args[0])
        app = getattr(app, "app", None)
        if app is None:
            break
    return None


async def serve(runtime: Runtime, app: ASGIApp | str, options: Mapping[str, Any]) -> Report:
    """See `Runtime.serve`."""
    runtime.refuse_a_second_run()
    config = configure(app, options)
    _load(config)
    settings = runtime.settings
    watch = signals.claim(runtime)
    watchdog = Watchdog(watch, owned=True) if signals.in_main_thread() else None
    if watchdog is not None:
        watch.install(*signals.OWNED)
        watchdog.start(settings)
    try:
        return await serve_loaded(runtime, config, watch, watchdog)
    finally:
        if watchdog is not None:
            watchdog.stop()
        runtime.end_run(process_ends=False)
        watch.call_those_found()
        watch.restore()  # also where the run did not begin


async def serve_loaded(
    runtime: Runtime, config: uvicorn.Config, watch: signals.SignalWatch, watchdog: Watchdog | None
) -> Report:
    """Serve the app that `config` has loaded; returns when the run has stopped."""
    app = cast("ASGIApp", config.loaded_app)
    state: dict[str, Any] = {}
    entry = runtime.wrap(app)
    server = OwnedServer(config)
    lifespan = AppLifespan(entry.app, state, config.lifespan)
    lifecycle = runtime.begin_run(lifespan, server, owned=True, audible=True, beside=AppAddress.of(config))
    runtime.enter_by(entry)
    server.live(lifecycle, entry, state, watch, each_second=runtime.keep_sigterm)
    watch.speak_for(server)
    runtime.listen_to(watch, watchdog)
    await server.serve()
    if lifecycle.report is None:  # an old uvicorn returns by itself when it was told to leave as it started
        lifecycle.begin("should_exit", lame_duck=False)
        await lifecycle.finished.wait()
    return cast("Report", lifecycle.report)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """What a process of ours is to run: `serve` returns the report when the run of `runtime` has stopped."""

    runtime: Runtime
    serve: Callable[[signals.SignalWatch, Watchdog], Coroutine[Any, Any, Report]]
    loop_factory: LoopFactory | None


def run(  # noqa: PLR0913 - what is known of the app, and what is known before it
    choose: Callable[[Any], Runtime],
    app: ASGIApp | str,
    options: Mapping[str, Any],
    *,
    exit: Exit,  # noqa: A002 - the word users know
    settings: Callable[[], Settings],
    early: Callable[[], Settings | None],
) -> NoReturn:
    """Load the app, serve it with the runtime that `choose` finds for it, and end the process. See
    `Runtime.run`.

    `settings` are the watchdog's, `early` those of the admin port, while the app is imported, when its
    runtime may not be known yet.
    """

    def prepare(lookout: Lookout) -> Prepared:
        config = configure(app, options)
        known = early()
        if known is not None:
            lookout.open(BeforeTheApp(settings=known), Checks(), AppAddress.of(config))
        _load(config)
        runtime = choose(config.loaded_app)
        return Prepared(
            runtime=runtime,
            serve=lambda watch, watchdog: serve_loaded(runtime, config, watch, watchdog),
            loop_factory=loop_factory_of(config),
        )

    run_process(prepare, exit=exit, settings=settings, called="run()", otherwise="; elsewhere await serve()")


def run_process(
    prepare: Callable[[Lookout], Prepared],
    *,
    exit: Exit,  # noqa: A002 - the word users know
    settings: Callable[[], Settings],
    called: str,
    otherwise: str = "",
) -> NoReturn:
    """Run what `prepare` returns, from the signals' installation to the end of the process. `called` is the
    user's word for it, in the error that it is for the main thread only; `otherwise` what else there is.
    """
    if not signals.in_main_thread():
        message = f"{called} takes the signals and ends the process: only in the main thread{otherwise}"
        raise RuntimeInUseError(message)
    ending = Ending()
    lookout = Lookout()
    runtimes: list[Runtime] = []

    def remembered() -> Prepared:
        prepared = prepare(lookout)
        runtimes.append(prepared.runtime)
        prepared.runtime.lookout = lookout
        return prepared

    code = _code_of(ending, remembered, settings)
    if exit == "fast":
        ending.join_threads()
    by_signal = False
    for runtime in runtimes:
        runtime.say_report(ending.left_behind, exit_code=ending.code_after(code))
        by_signal = runtime.report is not None and runtime.report.exit_code == ExitCode.TERMINATED
    try:
        PUBLISHER.stop(process_ends=True)
    except Exception:
        logger.exception("the last metrics could not be written")
    if exit == "full":  # else it answers until the process is gone
        lookout.close()
    ending.end_process(code, exit=exit, exit_by_signal=by_signal)


def _code_of(ending: Ending, prepare: Callable[[], Prepared], settings: Callable[[], Settings]) -> int:
    """Serve what `prepare` returns until the run has stopped; the code to exit with. What went wrong has been
    said.
    """
    runtime: Runtime | None = None
    try:
        watch = signals.claim(ending)
        watch.install(*signals.OWNED)
        ending.call_handlers = watch.call_those_found
        watchdog = Watchdog(watch, owned=True)
        watchdog.start(settings())
        prepared = prepare()
        runtime = prepared.runtime
        ending.on_exit = runtime.request_shutdown
        return ending.run(_serve_until(ending, prepared, watch, watchdog), prepared.loop_factory)
    except SettingsError as problem:
        _say(problem)
        return ExitCode.USAGE
    except SystemExit as problem:  # uvicorn could not load the app, and has said why; or the app exits itself
        return ExitCode.FAILED if problem.code else ExitCode.OK
    except Exception as problem:
        if runtime is not None and runtime.report is not None:
            pass  # the run has said so, in the log and in its report
        elif isinstance(problem, GracefulError):
            _say(problem)
        else:
            logger.exception("the service could not start")
        return ExitCode.FAILED


async def _serve_until(
    ending: Ending, prepared: Prepared, watch: signals.SignalWatch, watchdog: Watchdog
) -> ExitCode:
    """Serve; the time that is left for the end of the process is known to `ending` on return."""
    runtime = prepared.runtime
    watch.owner = runtime
    watchdog.start(runtime.settings)
    try:
        report = await prepared.serve(watch, watchdog)
    except (StartupInterrupted, asyncio.CancelledError):  # an app may cancel all tasks, and ours is one
        report = cast("Report", runtime.report)
    finally:
        ending.deadline = runtime.exit_deadline
    return report.outcome.exit_code


def loop_factory_of(config: uvicorn.Config) -> LoopFactory | None:
    """The loop that uvicorn's options ask for. Before 0.36 uvicorn sets a policy instead."""
    if hasattr(config, "get_loop_factory"):
        return config.get_loop_factory()
    config.setup_event_loop()
    return None


def _say(problem: Exception) -> None:
    """One line for people, wherever logging goes."""
    if sys.stderr is not None:  # closed when the process was started
        sys.stderr.write(f"graceful: {problem}\n")
