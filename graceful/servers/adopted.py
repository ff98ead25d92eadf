"""Adoption: a wrapped app under a server that somebody else has started. Which servers, and how each is told
to leave, is known here.

Only SIGTERM is ours there, and only where the handler found is a known server's; anywhere else signals are
left alone.
"""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Collection
from typing import Any, Final

from graceful import signals
from graceful._types import Scope
from graceful.servers.connections import is_idle, tell_all
from graceful.servers.lookout import AppAddress

_SIGTERM: Final = signals.TERMINATE[0]
_TURN_SECONDS: Final = 0.005


def _comes_from(thing: object, package: str) -> bool:
    return package in {cls.__module__.partition(".")[0] for cls in type(thing).__mro__}


def _uvicorn_behind(handler: Any) -> Any | None:
    """The uvicorn server whose bound method the handler is (`uvicorn --workers` and gunicorn's uvicorn worker
    included), else None.

    uvicorn installs it before lifespan startup, so that a wrapped app always finds it there (uvicorn >=
    0.29).
    """
    server = getattr(handler, "__self__", None)
    return server if _comes_from(server, "uvicorn") and hasattr(server, "should_exit") else None


class AdoptedServer:
    """A foreign server: it closes its listener and drains in its own way, once its own signal handler has
    run.
    """

    def __init__(self, *, has_lifespan: bool) -> None:
        self.has_lifespan = has_lifespan
        self.watch: signals.SignalWatch | None = None
        self.left = asyncio.Event()
        self.reloads = False
        self.leaves = False
        self._server: Any = None

    def take_signals(self, owner: object) -> signals.SignalWatch | None:
        """Put our SIGTERM handler before a known server's; None, and nothing is touched, where there is no
        such server.

        Raises RuntimeInUseError when the signals have an owner already.
        """
        if not signals.in_main_thread():
            return None
        server = _uvicorn_behind(signals.found_handler(_SIGTERM))
        if server is None:
            return None
        self._server = server
        self.leaves = bool(server.should_exit)  # its signal came while it imported the app
        self.reloads = bool(getattr(getattr(server, "config", None), "reload", False))
        self.watch = signals.claim(owner)
        self.watch.install(_SIGTERM)
        return self.watch

    @property
    def address(self) -> AppAddress | None:
        """Where a single process listens; None for one of several workers, and where the server is not
        known.

        gunicorn's worker is always one of several: at a reload a second one starts before the first has
        ended.
        """
        config = getattr(self._server, "config", None)
        if config is None or _comes_from(getattr(config.callback_notify, "__self__", None), "gunicorn"):
            return None
        if config.workers > 1 and multiprocessing.parent_process() is not None:
            return None
        return AppAddress.of(config)

    @property
    def no_admin_port(self) -> str:
        """Why an admin port that is set is not opened."""
        if self._server is None:
            found = "this server is not known"
        else:
            found = "several workers would share it, and a probe has to know whom it asks"
        stay = "/healthz and /ready stay on the app's port, without details; graceful run has one"
        return f"the admin port is not opened: {found}; {stay}"

    @property
    def has_closed(self) -> bool:
        """Whether the server has been told to leave by something else: nobody is served any more."""
        return self._server is not None and bool(self._server.should_exit)

    async def drain(self) -> None:
        """The server's own handler has run (libraries hang on it), and the server has sent
        `lifespan.shutdown`, if it ever does.
        """
        if self.left.is_set():
            return
        if self.watch is not None:
            # Told to leave between lifespan startup and its listener, uvicorn 0.34 goes without
            # lifespan.shutdown, so that nothing would be released. Nobody is told when it has started; that
            # takes a moment only, and the deadline of the drain holds here too.
            while not getattr(self._server, "started", True):  # noqa: ASYNC110 - see above
                await asyncio.sleep(_TURN_SECONDS)
            connections = getattr(getattr(self._server, "server_state", None), "connections", ())
            await tell_all([each for each in connections if is_idle(each)])  # it closes them less carefully
            self.watch.call_displaced(_SIGTERM)
            self.watch.call_found(_SIGTERM)
        if self.has_lifespan:
            await self.left.wait()

    def leave(self) -> None:
        """Nothing here: all requests go through the wrapper."""

    async def break_off(self, scopes: Collection[Scope]) -> Collection[Scope]:  # noqa: ARG002 - see Server
        """Nothing here: a foreign server closes the connection of a response that was not completed by
        itself.
        """
        return []

    async def abandon(self, scopes: Collection[Scope]) -> None:
        """Nothing here: the connection is the foreign server's, and ends with its process."""
