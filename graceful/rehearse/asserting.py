"""A rehearsal within a test, and what a test asserts of it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import sys
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

from graceful.errors import GracefulError
from graceful.rehearse.figures import Judged
from graceful.rehearse.judging import judge
from graceful.rehearse.model import (
    PORT,
    SOCKET,
    HttpGet,
    Judgement,
    LoadPlan,
    Plan,
    Probe,
    Rehearsal,
    Service,
)
from graceful.rehearse.rollout import Rollout
from graceful.rehearse.story import tell
from graceful.rehearse.wires import HOST

_REMOVAL_LAG: Final = 0.3
_LAME_DUCK: Final = 0.6
_SETTLE: Final = 0.3
_GRACE_PERIOD: Final = 10.0
_PROBE_PERIOD: Final = 0.2
_SERVED: Final = (sys.executable, "-m", "graceful", "run")
_MAX_LATENESS: Final = 0.25  # in so short a run one hiccup of a machine that runs other tests too is 1 %


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsed(Judged):
    """A rehearsal with its verdict, for a test."""

    def assert_nothing_lost(self) -> None:
        """Raise AssertionError, with the timeline of what went wrong, unless nothing was lost and all that
        were taken away ended by themselves in time.
        """
        if self.verdict.judgement is not Judgement.PASSED:
            raise AssertionError(tell(self))


def rehearsed(target: object, *, restarts: int = 1, **options: Any) -> Rehearsed:
    """Rehearse `target`; see `graceful.pytest_plugin.rehearse`. Raises GracefulError where it cannot be
    started, TypeError for an option that there is not.

    It may be called where an event loop runs, which stands still meanwhile.
    """
    seen = _rehearse(_plan(target, {"restarts": restarts, **options}))
    return Rehearsed(rehearsal=seen, verdict=judge(seen))


def _rehearse(plan: Plan) -> Rehearsal:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(Rollout(plan).run())
    return _rehearse_beside(plan)


def _rehearse_beside(plan: Plan) -> Rehearsal:
    """In a thread of its own, since no thread can run two loops. It has ended on return, and so has all that
    was started, also where this is interrupted.
    """
    begun: Future[tuple[asyncio.AbstractEventLoop, asyncio.Task[Rehearsal]]] = Future()

    async def rehearse() -> Rehearsal:
        task = asyncio.ensure_future(Rollout(plan).run())
        begun.set_result((asyncio.get_running_loop(), task))
        return await task

    with ThreadPoolExecutor(1, thread_name_prefix="rehearsal") as beside:
        running = beside.submit(lambda: asyncio.run(rehearse()))
        try:
            return running.result()
        except BaseException:
            if begun.done():
                loop, task = begun.result()
                with contextlib.suppress(RuntimeError):  # it has ended by itself, and its loop is closed
                    loop.call_soon_threadsafe(task.cancel)
            raise


def service_of(target: object) -> Service:
    """How to start `target`: `"module:app"`, an app that its module knows, or a command with `{port}` in it.
    Raises GracefulError.
    """
    if isinstance(target, Service):
        return target
    if isinstance(target, str) and "{port}" not in target:
        return of_app(target)
    if isinstance(target, str | Sequence):
        return of_command(shlex.split(target) if isinstance(target, str) else [str(word) for word in target])
    return of_app(_path_of(target))


def of_command(words: Sequence[str]) -> Service:
    """The command, named after its program or, of `python -m`, after its module. Raises GracefulError where
    it cannot be told where to listen.
    """
    if not any(place in word for word in words for place in (PORT, SOCKET)):
        message = (
            f"found {shlex.join(words)!r}; expected MODULE:APP, or a command with {PORT} in it, "
            "which stands for each replica's port"
        )
        raise GracefulError(message)
    name = Path(words[0]).name
    if name.startswith("python") and words[1:2] == ["-m"] and words[2:]:
        name = words[2]
    return Service(name=name, command=tuple(words))


def of_app(path: str, *, lame_duck: float = _LAME_DUCK, grace_period: float = _GRACE_PERIOD) -> Service:
    """`module:app` under `graceful run`."""
    command = (*_SERVED, path, "--host", HOST, "--port", PORT, "--no-access-log")
    return Service(
        name=path.partition(":")[0].rpartition(".")[2],
        command=command,
        environment={"GRACEFUL_GRACE_PERIOD": f"{grace_period:g}", "GRACEFUL_LAME_DUCK": f"{lame_duck:g}"},
        grace_period=grace_period,
        readiness=Probe(action=HttpGet(path="/ready"), period=_PROBE_PERIOD),
    )


def _path_of(app: object) -> str:
    """`module:name` of an object that is a global of a module: another process can import it by that only."""
    for module in list(sys.modules.values()):
        names = getattr(module, "__dict__", {})
        for name, value in list(names.items()):
            if value is app and module.__name__ != "__main__" and not name.startswith("__"):
                return f"{module.__name__}:{name}"
    message = f"found {app!r:.80}, which no module has as a global; expected 'module:app', or a command"
    raise GracefulError(message)


def _import_path() -> str:
    """Where a test finds its modules its app is to be found too: pytest has added to it (`pythonpath`, or the
    folder of a test that is in no package).
    """
    return os.pathsep.join(each for each in sys.path if each)


def _plan(target: object, options: dict[str, Any]) -> Plan:
    """Each option goes where there is a field of that name. Raises TypeError for one that there is not."""
    places = {kind: {each.name for each in fields(kind)} for kind in (Plan, LoadPlan, Service)}
    for name in options:
        if not any(name in names for names in places.values()):
            known = ", ".join(sorted(set().union(*places.values())))
            message = f"rehearse() has no option {name!r}; there are {known}"
            raise TypeError(message)
    given = {kind: {name: options[name] for name in names & options.keys()} for kind, names in places.items()}
    service = service_of(target)
    if service.command[: len(_SERVED)] == _SERVED:
        service = replace(service, environment={**service.environment, "PYTHONPATH": _import_path()})
    service = replace(service, **given[Service])
    load = replace(LoadPlan(max_lateness=_MAX_LATENESS), **given[LoadPlan])
    plan = Plan(service=service, load=load, removal_lag=_REMOVAL_LAG, settle=_SETTLE)
    return replace(plan, **{name: value for name, value in given[Plan].items() if name != "service"})
