"""Probes and hooks of a Kubernetes container, with the API's rules and defaults.

https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/#Probe
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from graceful.rehearse import kubernetes_fields as known
from graceful.rehearse.expansion import expanded
from graceful.rehearse.manifest_reading import LARGEST, OwnPort, Place
from graceful.rehearse.model import Action, Exec, HttpGet, Probe, TcpSocket

PROBES: Final = ("readinessProbe", "livenessProbe", "startupProbe")

_ACTIONS: Final = ("httpGet", "tcpSocket", "exec", "grpc")
_SERVED: Final = ("http", "https", "web")
_HERE: Final = frozenset({"", "127.0.0.1", "localhost", "0.0.0.0"})  # noqa: S104 - compared, not listened on
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """The ports of a container by name, and the one that it serves at: None where it says nothing."""

    by_name: Mapping[str, int]
    main: int | None

    @classmethod
    def of(cls, container: Mapping[str, Place]) -> Ports:
        """Where nothing is called http, the first one; without any, the one that a probe asks."""
        by_name: dict[str, int] = {}
        numbers: list[int] = []
        for each in container.get("ports") or ():
            fields = each.fields(known.PORT)
            numbers.append(each.need("containerPort", "a port's number").port())
            if "name" in fields:
                by_name[fields["name"].text()] = numbers[-1]
        served = [by_name[name] for name in _SERVED if name in by_name]
        probed = list(_probed(container))
        return cls(by_name=by_name, main=next(iter((*served, *numbers, *probed)), None))

    def number(self, place: Place) -> int:
        """That of a port by number or by name."""
        if not isinstance(place.node.value, str):
            return place.port()
        name = place.node.value
        if name not in self.by_name:
            names = f", one of {', '.join(self.by_name)}" if self.by_name else ""
            place.refuse(f"a number without quotes, or the name of one of the container's ports{names}")
        return self.by_name[name]


def _probed(container: Mapping[str, Place]) -> list[int]:
    """The ports that its probes ask by number, readiness first. What is wrong with them is said later."""
    asked = []
    for name in PROBES:
        probe = container.get(name)
        for action in ("httpGet", "tcpSocket"):
            handler = probe.get(action) if probe and probe.is_mapping else None
            port = handler.get("port") if handler and handler.is_mapping else None
            if port is not None and type(port.node.value) is int:
                asked.append(port.port())
    return asked


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeReader:
    """Reads the probes and hooks of one container, and notes what cannot be honoured here. What cannot be
    meant raises ManifestError.
    """

    ports: Ports
    own: OwnPort
    environment: Mapping[str, str]
    notes: list[str]

    def probe(self, place: Place, name: str) -> Probe | None:
        """The probe at `place`; None where its action is of a kind that is not taken here."""
        fields = place.fields(known.PROBE)
        action = self._action(place, fields, name)
        own_grace = fields.get("terminationGracePeriodSeconds")
        if own_grace and name == "readinessProbe":
            own_grace.fail("it belongs to liveness and startup probes: readiness ends no process")

        def number(field: str, default: int, least: int, most: int = LARGEST) -> int:
            return fields[field].whole(least, most) if field in fields else default

        most_successes = LARGEST if name == "readinessProbe" else 1
        numbers = {
            "initial_delay": float(number("initialDelaySeconds", 0, 0)),
            "period": float(number("periodSeconds", 10, 1)),
            "timeout": float(number("timeoutSeconds", 1, 1)),
        }
        success_threshold = number("successThreshold", 1, 1, most_successes)
        failure_threshold = number("failureThreshold", 3, 1)
        grace_period = float(own_grace.whole(1)) if own_grace else None
        if action is None:
            return None
        return Probe(
            action=action,
            success_threshold=success_threshold,
            failure_threshold=failure_threshold,
            grace_period=grace_period,
            **numbers,
        )

    def hook(self, place: Place) -> float | tuple[str, ...]:
        """What a preStop hook does: a sleep in seconds, or a command; 0 for what is not done here."""
        fields = place.fields(known.HANDLER)
        name = _only_one(place, fields, tuple(sorted(known.HANDLER)))
        handler = fields[name]
        if name == "sleep":
            handler.fields(known.SLEEP)
            return float(handler.need("seconds", "a whole number").whole(0))
        if name == "exec":
            return self._command(handler, "preStop")
        self.notes.append(handler.note("not honoured here: a hook sleeps or runs a command"))
        return 0.0

    def _action(self, place: Place, fields: Mapping[str, Place], name: str) -> Action | None:
        kind = _only_one(place, fields, _ACTIONS)
        handler = fields[kind]
        if kind == "httpGet":
            return self._http_get(handler, name)
        if kind == "tcpSocket":
            handler.fields(known.TCP_SOCKET)
            return TcpSocket(port=self._port(handler, name))
        if kind == "exec":
            command = self._command(handler, name)
            return Exec(command=tuple(expanded(each, self.environment) for each in command))
        self.notes.append(handler.note("not honoured here: there are probes by httpGet, tcpSocket and exec"))
        return None

    def _http_get(self, handler: Place, name: str) -> HttpGet:
        fields = handler.fields(known.HTTP_GET)
        scheme = fields["scheme"].one_of(("HTTP", "HTTPS")) if "scheme" in fields else "HTTP"
        headers = tuple(_header(each) for each in fields.get("httpHeaders") or ())
        path = fields["path"].text() if "path" in fields else "/"
        return HttpGet(path=path, port=self._port(handler, name), scheme=scheme.lower(), headers=headers)

    def _port(self, handler: Place, name: str) -> int | None:
        """None where it is the one that each replica has of its own."""
        host = handler.get("host")
        if host is not None and host.text() not in _HERE:
            self.notes.append(host.note("not honoured here: the replica itself is asked"))
        place = handler.need("port", "a port's number or name")
        number = self.ports.number(place)
        if number == self.ports.main:
            self.own.stands_in(name)
            return None
        self.notes.append(
            place.note(f"port {number} is one for all replicas here: only one can listen on it")
        )
        return number

    def _command(self, handler: Place, name: str) -> tuple[str, ...]:
        handler.fields(known.EXEC)
        command = handler.need("command", "a list of text")
        return tuple(self.own.put(each, name) for each in command.texts())


def _only_one(place: Place, fields: Mapping[str, Place], kinds: tuple[str, ...]) -> str:
    """The one field of `kinds` that is there."""
    there = [kind for kind in kinds if kind in fields]
    if len(there) != 1:
        found = " and ".join(there) or "none of them"
        place.fail(f"found {found}; expected one of {', '.join(kinds)}")
    return there[0]


def _header(place: Place) -> tuple[str, str]:
    place.fields(known.HEADER)
    name, value = place.need("name", "a header's name"), place.need("value", "its value")
    if not _HEADER_NAME.fullmatch(name.text()):
        name.refuse("a header's name")
    if not value.text().isprintable():
        value.refuse("one line of text")
    return name.text(), value.text().strip()
