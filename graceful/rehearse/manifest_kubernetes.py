"""A Deployment, StatefulSet, DaemonSet or Pod, as the API has it.

https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from graceful.rehearse import kubernetes_fields as known
from graceful.rehearse.expansion import expanded
from graceful.rehearse.manifest_probes import PROBES, Ports, ProbeReader
from graceful.rehearse.manifest_reading import Found, OwnPort, Place
from graceful.rehearse.model import PORT, HttpGet, Probe, RestartPolicy, Service
from graceful.rehearse.wording import escaped

KINDS: Final = ("Deployment", "StatefulSet", "DaemonSet", "Pod")

_DEFAULT_CONTAINER: Final = "kubectl.kubernetes.io/default-container"
_GRACE_PERIOD: Final = 30
_STOP_SIGNAL: Final = re.compile(r"SIG[A-Z0-9]{2,6}([-+][0-9]{1,2})?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What could be rehearsed: its kind and name, the spec of its pods, and its own (None of a Pod)."""

    kind: str
    name: str
    pod: Place
    annotations: Mapping[str, Place]
    spec: Place | None

    @property
    def title(self) -> str:
        """`Deployment web`."""
        return f"{self.kind} {self.name}"

    def is_called(self, name: str) -> bool:
        """By its name alone, or as `deployment/web`."""
        return name.lower() in {self.name.lower(), f"{self.kind}/{self.name}".lower()}


def workloads(documents: list[Place]) -> Iterator[Workload]:
    """Those among the documents, and in one of `kind: List`. Raises ManifestError."""
    for document in documents:
        kind = document.need("kind", f"one of {', '.join(KINDS)}").text()
        if kind == "List":
            for item in document.need("items", "a list"):
                # A list in a list could be the same one a billion times.
                yield from _workloads_of(item)
        else:
            yield from _workloads_of(document)


def _workloads_of(document: Place) -> Iterator[Workload]:
    kind = document.need("kind", f"one of {', '.join(KINDS)}").text()
    if kind in KINDS:
        yield _workload(kind, document)


def _workload(kind: str, document: Place) -> Workload:
    document.fields(known.OBJECT)
    metadata = document.get("metadata")
    name = metadata.get("name") if metadata else None
    spec = document.need("spec", f"what a {kind} is to be")
    if kind == "Pod":
        described, pod = metadata, spec
    else:
        spec.fields(known.WORKLOADS[kind])
        template = spec.need("template", "a pod")
        described, pod = template.get("metadata"), template.need("spec", "a pod's")
    annotations = described.get("annotations") if described else None
    return Workload(
        kind=kind,
        name=name.text() if name else kind.lower(),
        pod=pod,
        annotations=annotations.fields() if annotations else {},
        spec=None if kind == "Pod" else spec,
    )


def found_in(workload: Workload, command: tuple[str, ...] = ()) -> Found:
    """The service of a workload; `command`, where one is given, is run in place of the container's. Raises
    ManifestError.
    """
    reading = _Reading(workload, command)
    service = reading.service()
    return Found(
        service=service,
        replicas=_replicas(workload),
        what=escaped(f"{workload.title}, container {reading.name}"),
        notes=tuple(reading.notes),
    )


def _replicas(workload: Workload) -> int:
    """A DaemonSet has one on each node, a Pod is one."""
    replicas = workload.spec.get("replicas") if workload.spec and workload.kind != "DaemonSet" else None
    return replicas.whole(1) if replicas else 1


class _Reading:
    """One pod on its way to a service."""

    def __init__(self, workload: Workload, command: tuple[str, ...]) -> None:
        self.notes: list[str] = []
        self._workload = workload
        self._command = command
        self._pod = workload.pod
        self._fields = self._pod.fields(known.POD)
        container = self._container()
        self._container_fields = container.fields(known.CONTAINER)
        self._place = container
        self.name = container.need("name", "a name").text()
        self._ports = Ports.of(self._container_fields)
        self._own = OwnPort(self._ports.main)

    def service(self) -> Service:
        fields = self._container_fields
        environment = self._environment(fields.get("env"))
        command = self._command_line(environment)
        lifecycle = self._lifecycle()
        reader = ProbeReader(ports=self._ports, own=self._own, environment=environment, notes=self.notes)
        probes = {name: reader.probe(place, name) for name in PROBES if (place := fields.get(name))}
        if not self._own.is_told:
            environment.setdefault("PORT", PORT)
        self._note_the_rest(probes.get("readinessProbe"))
        grace_period = self._fields.get("terminationGracePeriodSeconds")
        return Service(
            name=self._workload.name,
            command=command,
            environment=environment,
            init_commands=tuple(self._init_commands()),
            readiness=probes.get("readinessProbe"),
            liveness=probes.get("livenessProbe"),
            startup=probes.get("startupProbe"),
            grace_period=float(grace_period.whole(0) if grace_period else _GRACE_PERIOD),
            pre_stop=reader.hook(lifecycle["preStop"]) if "preStop" in lifecycle else 0.0,
            stop_signal=self._stop_signal(lifecycle.get("stopSignal")),
            restart_policy=self._restart_policy(),
            tls=any(_asks_tls(probe) for probe in probes.values()),
        )

    def _container(self) -> Place:
        """The annotated one, else the first. A name that is not there is refused."""
        containers = [each.anew() for each in self._pod.need("containers", "a list of containers")]
        if not containers:
            self._pod.need("containers", "").refuse("at least one container")
        by_name = {each.need("name", "a name").text(): each for each in containers}
        wanted = self._workload.annotations.get(_DEFAULT_CONTAINER)
        if wanted is None:
            chosen = containers[0]
        else:
            chosen = by_name.get(wanted.text()) or wanted.refuse(f"one of {', '.join(by_name)}")
        self.notes += [
            each.note(f"container {name} is not started here")
            for name, each in by_name.items()
            if each is not chosen
        ]
        return chosen

    def _environment(self, env: Place | None, where: str = "env") -> dict[str, str]:
        """The variables that are written out, each with those before it expanded."""
        environment: dict[str, str] = {}
        for each in env or ():
            fields = each.fields(known.VARIABLE)
            place = each.need("name", "the variable's name")
            name = place.text()
            if not name or "=" in name:
                place.refuse("a variable's name")
            value = fields.get("value")
            if value is not None:
                environment[name] = expanded(self._own.put(value.text(), f"{where} {name}"), environment)
            elif "valueFrom" in fields:
                source = next(iter(fields["valueFrom"].fields()), "elsewhere")
                self.notes.append(each.note(f"{name} comes from a {source}: not set here"))
            else:
                environment[name] = ""
        return environment

    def _command_line(self, environment: Mapping[str, str]) -> tuple[str, ...]:
        if self._command:
            return tuple(self._own.put(each, "command") for each in self._command)
        fields = self._container_fields
        if "command" not in fields:
            self._place.fail(
                "command is missing; expected one, as the image's own is not known here: "
                "write it into the manifest, or after --"
            )
        arguments = fields["args"].texts() if "args" in fields else ()
        return tuple(
            expanded(self._own.put(each, "command"), environment)
            for each in (*fields["command"].texts(), *arguments)
        )

    def _lifecycle(self) -> dict[str, Place]:
        lifecycle = self._container_fields.get("lifecycle")
        fields = lifecycle.fields(known.LIFECYCLE) if lifecycle else {}
        if "postStart" in fields:
            self.notes.append(fields["postStart"].note("not honoured here"))
        return fields

    def _stop_signal(self, place: Place | None) -> str:
        if place is None:
            return "SIGTERM"
        expected = "a signal's name, such as SIGTERM"
        name = place.text(expected)
        return name if _STOP_SIGNAL.fullmatch(name) else place.refuse(expected)

    def _restart_policy(self) -> RestartPolicy:
        place = self._fields.get("restartPolicy")
        if place is None:
            return RestartPolicy.ALWAYS
        allowed = tuple(RestartPolicy) if self._workload.kind == "Pod" else (RestartPolicy.ALWAYS,)
        return RestartPolicy(place.one_of(tuple(str(each) for each in allowed)))

    def _init_commands(self) -> Iterator[tuple[str, ...]]:
        for each in self._fields.get("initContainers") or ():
            fields = each.fields(known.CONTAINER)
            if "restartPolicy" in fields and fields["restartPolicy"].text() == RestartPolicy.ALWAYS:
                self.notes.append(each.note("a sidecar is not started here"))
                continue
            if "command" not in fields:
                self.notes.append(each.note("left out: it has no command, and its image's is not known here"))
                continue
            arguments = fields["args"].texts() if "args" in fields else ()
            environment = self._environment(fields.get("env"), "initContainers")
            command = [expanded(part, environment) for part in (*fields["command"].texts(), *arguments)]
            # A container of its own has an environment of its own.
            variables = [f"{name}={value}" for name, value in environment.items()]
            yield ("env", *variables, *command) if variables else tuple(command)

    def _note_the_rest(self, readiness: Probe | None) -> None:
        """What the manifest asks for beyond what a process on this machine can be given."""
        own = self._workload.spec.fields() if self._workload.spec else {}
        everything = itertools.chain(own.items(), self._fields.items(), self._container_fields.items())
        self.notes += [
            place.note("not honoured here")
            for name, place in everything
            if name not in known.HONOURED and name not in known.WITHOUT_EFFECT
        ]
        if "image" in self._container_fields:
            image = self._container_fields["image"]
            self.notes.append(image.note("not used: the command runs on this machine as it is"))
        if readiness is None:
            self.notes.append(
                self._place.note(
                    "no readinessProbe that can be asked: in a cluster traffic comes as soon as it is "
                    "started; here it is ready when it accepts connections"
                )
            )
        self.notes.append(self._place.note(self._own.note()))


def _asks_tls(probe: Probe | None) -> bool:
    action = probe.action if probe else None
    return isinstance(action, HttpGet) and action.port is None and action.scheme == "https"
