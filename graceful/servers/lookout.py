"""What stands beside the app's loop, where an admin port is set: that port, and the watch over the loop.

uvicorn is imported only where there is one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from graceful.checks import Checks
from graceful.errors import SettingsError
from graceful.metrics import PUBLISHER, PagesAside
from graceful.phases import Phase
from graceful.probes import Probes, State
from graceful.settings import Settings
from graceful.stalls import EVERY_SECONDS, LoopWatch

if TYPE_CHECKING:
    from graceful.servers.admin import AdminPort

logger = logging.getLogger("graceful")

LOOPBACKS: Final = frozenset({"127.0.0.1", "localhost", "::1"})


@dataclass(frozen=True, slots=True, kw_only=True)
class AppAddress:
    """Where the app itself listens; no port on a Unix socket, or where it has no listener."""

    host: str
    port: int | None

    @classmethod
    def of(cls, config: Any) -> AppAddress:
        """That of a server with uvicorn's configuration."""
        by_address = config.uds is None and config.fd is None
        return cls(host=config.host, port=config.port if by_address else None)


@dataclass(frozen=True, slots=True, kw_only=True)
class BeforeTheApp:
    """What the endpoints show while the app, and with it its runtime, is still being imported."""

    settings: Settings
    phase: Phase = Phase.STARTING
    holds: Collection[str] = ()
    leaves: bool = False
    stalls: bool = False
    admin_is_open: bool = True


class Lookout:
    """The admin port and the watch of one runtime. Nothing at all where no admin port is set."""

    def __init__(self) -> None:
        self._port: AdminPort | None = None
        self._watch: LoopWatch | None = None

    @property
    def is_open(self) -> bool:
        """Whether the admin port listens and answers."""
        return self._port is not None and self._port.is_open

    @property
    def stall(self) -> float | None:
        """For the metrics, see `LoopWatch.shown`; None where nobody watches."""
        return None if self._watch is None else self._watch.shown

    def stalls(self, after: float) -> bool:
        """Whether the loop has stood still for `after` seconds."""
        return self._watch is not None and self._watch.seconds >= after

    def open(self, state: State, checks: Checks, beside: AppAddress) -> None:
        """The admin port, where the settings of `state` have one, answers for it on return: at the host that
        they say, else at the app's, from the same listener if it is there already.

        Raises SettingsError where it would take the app's own port, ListenError where it cannot be had.
        """
        if state.settings.admin_port is None:
            self.close()
            return
        from graceful.servers.admin import AdminPort  # noqa: PLC0415 - uvicorn, for those who have an admin port only

        port, host = state.settings.admin_port, state.settings.admin_host or beside.host
        if port and port == beside.port:
            name, way_out = "admin_port", "it is the app's own; expected another port, or 0: any that is free"
            raise SettingsError(name, port, way_out)
        self._port = self._port or AdminPort()
        probes = Probes(state, checks, PagesAside(PUBLISHER), on_admin_port=True)
        anew = self._port.open(host, port, probes)
        is_default = state.settings.admin_host is None and beside.port is None  # else the app's host says so
        if anew and is_default and host in LOOPBACKS and state.settings.platform.in_container:
            logger.warning(
                "the admin port listens on %s inside a container: nobody outside will reach it; "
                "set GRACEFUL_ADMIN_HOST=0.0.0.0",
                host,
            )

    def watch_loop(self, is_over: Callable[[], bool]) -> None:
        """The running loop is watched until the run `is_over`, where the admin port is open."""
        if self._port is not None and self._port.is_open:
            self._watch = LoopWatch(is_over=is_over)
            self._port.repeat(self._watch.look, EVERY_SECONDS)

    def close(self) -> None:
        """Nobody answers or watches on return."""
        if self._port is not None:
            self._port.close()
        self._port = self._watch = None
