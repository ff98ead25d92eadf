"""The endpoint list of a service: where new connections go, as by kube-proxy's rules; kept ones flow on."""

from __future__ import annotations

import random
from collections.abc import Callable

from graceful.rehearse.model import Event, Happening
from graceful.rehearse.wires import Address


class Endpoints:
    """Replicas by name, with their addresses, in the order in which they were listed."""

    def __init__(self, now: Callable[[], float], tell: Callable[[Event], object]) -> None:
        self._now = now
        self._tell = tell
        self._listed: dict[str, Address] = {}
        self._round: list[str] = []

    def __len__(self) -> int:
        return len(self._listed)

    def __contains__(self, replica: str) -> bool:
        return replica in self._listed

    def add(self, replica: str, address: Address) -> None:
        """New connections go there too, from now on."""
        if replica not in self._listed:
            self._listed[replica] = address
            self._round.clear()
            self._tell(Event(at=self._now(), replica=replica, what=Happening.LISTED))

    def remove(self, replica: str) -> None:
        """No new connection goes there, from now on; nothing happens where it is not listed."""
        if self._listed.pop(replica, None) is not None:
            self._round.clear()
            self._tell(Event(at=self._now(), replica=replica, what=Happening.UNLISTED))

    def choose(self, chance: random.Random) -> tuple[str, Address] | None:
        """A replica for a new connection; None where none is listed: nobody is there to refuse it either.

        At random, as kube-proxy does, but in rounds in which each has its turn: how much a short rehearsal
        loses is not left to luck.
        """
        if not self._listed:
            return None
        if not self._round:
            self._round = list(self._listed)
            chance.shuffle(self._round)
        name = self._round.pop()
        return name, self._listed[name]
