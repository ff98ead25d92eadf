"""A service without HTTP: one async function of the app's, driven by the same lifecycle as a server.

The function is a task in flight. So the drain waits for it, cuts it off at its end, and the report names it,
as any other piece of work.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import logging
from collections.abc import Awaitable, Callable, Collection
from typing import TYPE_CHECKING, Any, Final, NoReturn, cast

from graceful import signals
from graceful._types import Receive, Scope, Send
from graceful.calls import missing_arguments, name_of, text_of
from graceful.ending import Exit
from graceful.errors import SettingsError
from graceful.lifecycle import Lifecycle
from graceful.reports import Report
from graceful.servers import launch
from graceful.servers.lookout import AppAddress, Lookout
from graceful.watchdog import Watchdog

if TYPE_CHECKING:
    from graceful.runtime import Runtime

logger = logging.getLogger("graceful")

Main = Callable[[], Awaitable[object]]

_BESIDE: Final = AppAddress(host="127.0.0.1", port=None)
_EACH_SECONDS: Final = 1.0


class NoServer:
    """Accepts nothing, so there is nothing to close: what is in flight is all that there is. See
    lifecycle.Server.
    """

    async def drain(self) -> None:
        """Nothing here."""

    def leave(self) -> None:
        """Nothing here."""

    async def break_off(self, scopes: Collection[Scope]) -> Collection[Scope]:  # noqa: ARG002 - see Server
        """Nothing here."""
        return []

    async def abandon(self, scopes: Collection[Scope]) -> None:
        """Nothing here."""


class NoApp:
    """Has no lifespan: see lifecycle.App."""

    async def startup(self) -> None:
        """Nothing here."""

    async def shutdown(self) -> None:
        """Nothing here."""


def run_worker(runtime: Runtime, main: Main, *, exit: Exit) -> NoReturn:  # noqa: A002 - the word users know
    """See `Runtime.run_worker`."""
    runtime.receives_no_requests()

    def prepare(_lookout: Lookout) -> launch.Prepared:
        _require_main(main)
        # uvicorn's, as in `run`, unless the app has set its own: else nobody would read the report.
        config = launch.configure(_no_app, {"log_config": None} if logger.hasHandlers() else {})
        return launch.Prepared(
            runtime=runtime,
            serve=functools.partial(work, runtime, main),
            loop_factory=launch.loop_factory_of(config),
        )

    launch.run_process(prepare, exit=exit, settings=lambda: runtime.settings, called="run_worker()")


async def work(runtime: Runtime, main: Main, watch: signals.SignalWatch, watchdog: Watchdog | None) -> Report:
    """Run `main` on the running loop; returns when the run has stopped. Raises StartupInterrupted, or what
    the startup failed with.
    """
    lifecycle = runtime.begin_run(NoApp(), NoServer(), owned=True, audible=True, beside=_BESIDE)
    runtime.listen_to(watch, watchdog)
    await lifecycle.start()
    lifecycle.serve()
    task = runtime.create_task(_awaited(main), name="main")
    task.add_done_callback(functools.partial(_main_ended, lifecycle))
    try:
        while not lifecycle.finished.is_set():
            runtime.keep_sigterm()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_EACH_SECONDS):
                    await lifecycle.finished.wait()
    except asyncio.CancelledError:
        lifecycle.begin("cancelled", lame_duck=False)
        await lifecycle.stopped()
        raise
    return cast("Report", lifecycle.report)


async def _awaited(main: Main) -> None:
    made: Any = main()
    if not inspect.isawaitable(made):
        message = f"{name_of(main)}() returned {made!r:.80}; expected an async function"
        raise TypeError(message)
    await made


def _main_ended(lifecycle: Lifecycle, task: asyncio.Task[None]) -> None:
    """Nothing is left to be waited for but other tasks and jobs: there is no lame duck from here on."""
    lifecycle.end_lame_duck()
    reason = "main returned"
    if task.cancelled():  # by us, at the end of the drain; or by itself, and then somebody should know
        reason = "main was cancelled"
        if not lifecycle.begun.is_set():
            lifecycle.note_failure(reason)
    elif (problem := task.exception()) is not None:
        reason = f"main raised {type(problem).__name__}"
        if not isinstance(
            problem, SystemExit
        ):  # that asks for the end of the process, with a code of its own
            logger.error("%s", reason, exc_info=problem)
            lifecycle.note_failure(f"main raised {text_of(problem)}")
    lifecycle.begin(reason, lame_duck=False)


def _require_main(main: Any) -> None:
    found = main
    if inspect.iscoroutine(main):
        found = f"the coroutine {main.__name__}()"
        main.close()  # else Python warns that it was never awaited
    problem = None if callable(main) else "it cannot be called"
    problem = problem or missing_arguments(main)
    if problem is not None:
        name = "main of run_worker"
        way_out = f"expected an async function that takes nothing, not yet called, and {problem}"
        raise SettingsError(name, found, way_out)


async def _no_app(scope: Scope, receive: Receive, send: Send) -> None:
    """Uvicorn's configuration, whose logging and loop are used, asks for one."""
    raise NotImplementedError
