"""A service of a Compose file, with Docker's defaults.

https://docs.docker.com/reference/compose-file/services/
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Final

from graceful.rehearse.expansion import InterpolationError, interpolated
from graceful.rehearse.manifest_reading import LAST_PORT, Found, OwnPort, Place
from graceful.rehearse.model import PORT, Exec, Probe, RestartPolicy, Service
from graceful.rehearse.wording import escaped
from graceful.signals import is_known


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_TOP: Final = _words("name version services networks volumes configs secrets include models")
_SERVICE: Final = _words(
    "annotations attach blkio_config build cap_add cap_drop cgroup cgroup_parent command configs "
    "container_name cpu_count cpu_percent cpu_period cpu_quota cpu_rt_period cpu_rt_runtime cpu_shares "
    "cpus cpuset credential_spec depends_on deploy develop device_cgroup_rules devices dns dns_opt "
    "dns_search domainname entrypoint env_file environment expose extends external_links extra_hosts "
    "gpus group_add healthcheck hostname image init ipc isolation label_file labels links logging "
    "mac_address mem_limit mem_reservation mem_swappiness memswap_limit models network_mode networks "
    "oom_kill_disable oom_score_adj pid pids_limit platform ports post_start pre_stop privileged "
    "profiles provider pull_policy pull_refresh_after read_only restart runtime scale secrets "
    "security_opt shm_size stdin_open stop_grace_period stop_signal storage_opt sysctls tmpfs tty "
    "ulimits use_api_socket user userns_mode uts volumes volumes_from working_dir"
)
_HEALTH: Final = _words("disable interval retries start_interval start_period test timeout")
_DEPLOY: Final = _words(
    "endpoint_mode labels mode placement replicas resources restart_policy rollback_config update_config"
)
_RESTART: Final = _words("condition delay max_attempts window")
_HONOURED: Final = _words(
    "command deploy entrypoint environment expose healthcheck ports restart scale stop_grace_period "
    "stop_signal"
)
# Where and from what it is made, not how it lives.
_WITHOUT_EFFECT: Final = _words(
    "annotations attach build container_name develop image label_file labels logging platform profiles "
    "pull_policy pull_refresh_after stdin_open tty"
)

_DURATION: Final = re.compile(r"(?:[0-9]{1,9}(?:\.[0-9]{1,9})?(?:us|ms|s|m|h)){1,5}")
_PART: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(us|ms|s|m|h)")
_SECONDS: Final = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_STOP_SIGNAL: Final = re.compile(r"(?:SIG)?([A-Z][A-Z0-9]{1,5}(?:[-+][0-9]{1,2})?)")
_RESTARTS: Final = {
    "no": RestartPolicy.NEVER,
    "none": RestartPolicy.NEVER,
    "on-failure": RestartPolicy.ON_FAILURE,
    "always": RestartPolicy.ALWAYS,
    "any": RestartPolicy.ALWAYS,
    "unless-stopped": RestartPolicy.ALWAYS,
}


def services(document: Place) -> dict[str, Place]:
    """The services of a Compose file by name. Raises ManifestError."""
    named = {name: place for name, place in document.fields().items() if not name.startswith("x-")}
    for name in named.keys() - _TOP:
        document.refuse_field(name, _TOP)
    found = document.need("services", "a mapping of services").fields()
    return {name: place.anew() for name, place in found.items()} or document.need("services", "").refuse(
        "at least one service"
    )


def is_startable(service: Place) -> bool:
    """Whether it says what is to be run."""
    return service.is_mapping and bool(service.fields().keys() & {"command", "entrypoint"})


def found_in(name: str, place: Place, environ: Mapping[str, str], command: tuple[str, ...] = ()) -> Found:
    """The service at `place`; `command`, where one is given, is run in place of its own. `environ` has the
    values of variables. Raises ManifestError.
    """
    reading = _Reading(place, environ)
    service = reading.service(name, command)
    return Found(
        service=service,
        replicas=reading.replicas(),
        what=escaped(f"Compose service {name}"),
        notes=tuple(reading.notes),
    )


class _Reading:
    """One service of the file on its way to one of ours."""

    def __init__(self, place: Place, environ: Mapping[str, str]) -> None:
        self.notes: list[str] = []
        self._place = place
        self._environ = environ
        everything = place.fields()
        self._fields = {name: each for name, each in everything.items() if not name.startswith("x-")}
        for name in self._fields.keys() - _SERVICE:
            place.refuse_field(name, _SERVICE)
        deploy = self._fields.get("deploy")
        self._deploy = deploy.fields(_DEPLOY) if deploy else {}
        self._own = OwnPort(next(self._ports(), None))

    def service(self, name: str, command: tuple[str, ...]) -> Service:
        environment = dict(self._environment())
        arguments = tuple(self._own.put(each, "command") for each in command or self._command_line())
        readiness = self._health()
        if not self._own.is_told:
            environment.setdefault("PORT", PORT)
        self._note_the_rest(readiness)
        return Service(
            name=name,
            command=arguments,
            environment=environment,
            readiness=readiness,
            grace_period=self._duration("stop_grace_period", self._fields, 10.0),
            stop_signal=self._stop_signal(),
            restart_policy=self._restart_policy(),
        )

    def replicas(self) -> int:
        """`deploy.replicas`, or the older `scale`."""
        place = self._deploy.get("replicas") or self._fields.get("scale")
        if place is None:
            return 1
        text = self._text(place)
        return (
            int(text)
            if re.fullmatch(r"[1-9][0-9]{0,4}", text)
            else place.refuse("a whole number of at least 1")
        )

    def _text(self, place: Place, expected: str = "text") -> str:
        """Text, a number or a flag as it is written, its variables interpolated."""
        try:
            text, missing = interpolated(place.written(expected), self._environ)
        except InterpolationError as error:
            place.fail(str(error))
        self.notes += [place.note(f"the variable {each} is not set: empty") for each in missing]
        return text

    def _words(self, place: Place) -> tuple[str, ...]:
        """A list, or text that is split as a shell would, without one."""
        if place.is_list:
            return tuple(self._text(each) for each in place)
        try:
            return tuple(shlex.split(self._text(place, "text or a list of text")))
        except ValueError as error:
            place.fail(f"{error}; expected text that a shell could split")

    def _command_line(self) -> tuple[str, ...]:
        parts = [
            self._words(self._fields[name]) for name in ("entrypoint", "command") if name in self._fields
        ]
        return sum(parts, ()) or self._place.fail(
            "command is missing; expected one, as the image's own is not known here: "
            "write it into the file, or after --"
        )

    def _environment(self) -> Iterator[tuple[str, str]]:
        """Of a mapping or of a list of NAME=value; a name without value is that of ours, if there is one."""
        place = self._fields.get("environment")
        for name, value in self._pairs(place) if place else ():
            if value is not None:
                yield name, self._own.put(value, f"env {name}")
            elif name in self._environ:
                yield name, self._environ[name]

    def _pairs(self, place: Place) -> Iterator[tuple[str, str | None]]:
        if place.is_list:
            for each in place:
                name, equals, value = self._text(each, "NAME=value").partition("=")
                if not name:
                    each.refuse("NAME=value")
                yield name, value if equals else None
        else:
            values = place.fields()
            for name in place.names():
                if not name or "=" in name:
                    place.fail(f"found the name {name!r}; expected a variable's name")
                yield name, self._text(values[name]) if name in values else None

    def _ports(self) -> Iterator[int]:
        """What it listens on: of `ports` the side within the container, then `expose`."""
        for each in self._fields.get("ports") or ():
            if each.is_mapping:
                yield each.need("target", "a port's number").port()
            else:
                yield self._port(each, self._text(each).rpartition(":")[2])
        for each in self._fields.get("expose") or ():
            yield self._port(each, self._text(each))

    def _port(self, place: Place, text: str) -> int:
        """Of a range the first."""
        number = text.partition("/")[0].partition("-")[0]
        if not re.fullmatch(r"[1-9][0-9]{0,4}", number) or int(number) > LAST_PORT:
            place.refuse("a port, as in 8000, 80:8000 or 127.0.0.1:80:8000/tcp")
        return int(number)

    def _health(self) -> Probe | None:
        """The health check as readiness: Docker itself ends nothing for it."""
        place = self._fields.get("healthcheck")
        fields = place.fields(_HEALTH) if place else {}
        if place is None or ("disable" in fields and fields["disable"].node.value is True):
            return None
        interval = self._duration("interval", fields, 30.0) or 30.0
        timeout = self._duration("timeout", fields, 30.0) or 30.0
        start_interval = self._duration("start_interval", fields, 5.0) or 5.0
        is_starting = self._duration("start_period", fields, 0.0) > 0
        retries = fields["retries"].whole(0) if "retries" in fields else 0
        if "test" not in fields:
            self.notes.append(place.note("no test: the image's own health check is not known here"))
            return None
        command = self._test(fields["test"])
        if command is None:
            return None
        return Probe(
            action=Exec(command=command),
            initial_delay=min(interval, start_interval) if is_starting else interval,
            period=interval,
            timeout=timeout,
            failure_threshold=retries or 3,
        )

    def _test(self, place: Place) -> tuple[str, ...] | None:
        if not place.is_list:
            return ("sh", "-c", self._own.put(self._text(place), "healthcheck"))
        kind, *arguments = [self._text(each) for each in place] or [""]
        arguments = [self._own.put(each, "healthcheck") for each in arguments]
        if kind == "NONE":
            return None
        if kind == "CMD" and arguments:
            return tuple(arguments)
        if kind == "CMD-SHELL" and len(arguments) == 1:
            return ("sh", "-c", arguments[0])
        return place.refuse("[CMD, program, ...], [CMD-SHELL, text] or [NONE]")

    def _duration(self, name: str, fields: Mapping[str, Place], default: float) -> float:
        """Seconds of `1m30s`."""
        place = fields.get(name)
        if place is None:
            return default
        text = self._text(place)
        if text != "0" and not _DURATION.fullmatch(text):
            place.refuse("a duration with its unit, as in 30s, 1m30s or 500ms")
        return sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text))

    def _stop_signal(self) -> str:
        place = self._fields.get("stop_signal")
        if place is None:
            return "SIGTERM"
        name = _STOP_SIGNAL.fullmatch(self._text(place))
        if name is None or not is_known(f"SIG{name[1]}"):
            place.refuse("a signal's name, such as SIGTERM")
        return f"SIG{name[1]}"

    def _restart_policy(self) -> RestartPolicy:
        place = self._fields.get("restart")
        if place is None:
            policy = self._deploy.get("restart_policy")
            place = policy.fields(_RESTART).get("condition") if policy else None
        if place is None:
            return RestartPolicy.NEVER
        word = self._text(place).partition(":")[0]
        return _RESTARTS.get("no" if word in {"false", "False"} else word) or place.refuse(
            f"one of {', '.join(_RESTARTS)}"
        )

    def _note_the_rest(self, readiness: Probe | None) -> None:
        self.notes += [
            place.note("not honoured here")
            for name, place in self._fields.items()
            if name not in _HONOURED and name not in _WITHOUT_EFFECT
        ]
        if "image" in self._fields or "build" in self._fields:
            self.notes.append(self._place.note("no image is used: the command runs on this machine as it is"))
        if readiness is None:
            self.notes.append(
                self._place.note("no health check that can be run: it is ready when it accepts connections")
            )
        self.notes.append(self._place.note(self._own.note()))
