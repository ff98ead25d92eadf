"""Where the process runs, and what each platform allows a process that it stops.

The numbers are the platforms' documented defaults; where a manifest says otherwise, so must `grace_period`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """What stops the process, and what it does by default. Times are seconds; `routed` is whether somebody
    may send requests to the process, who has to be given time to stop.

    `own_network` is whether a service usually has a network namespace to itself, so that what the kernel
    counts there is the service's.
    """

    name: str
    grace_period: float
    lame_duck: float
    stop_signal: str = "SIGTERM"
    termination_log: str | None = None
    own_network: bool = False
    routed: bool = True

    @property
    def in_container(self) -> bool:
        """Whether what asks comes from outside of a network namespace of the process's own."""
        return self.name in _CONTAINERS


_KNOWN: Final = (
    # https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-termination
    Platform(
        name="kubernetes",
        grace_period=30.0,
        lame_duck=5.0,
        termination_log="/dev/termination-log",
        own_network=True,
    ),
    # The load balancer's target is deregistered before the signal (stopTimeout; up to 120 s on Fargate).
    Platform(name="ecs", grace_period=30.0, lame_duck=0.0, own_network=True),
    # https://cloud.google.com/run/docs/container-contract: no new requests come after the signal
    Platform(name="cloud run", grace_period=10.0, lame_duck=0.0),
    # https://fly.io/docs/reference/configuration/: kill_signal and kill_timeout
    Platform(name="fly.io", grace_period=5.0, lame_duck=1.0, stop_signal="SIGINT"),
    # https://devcenter.heroku.com/articles/dynos: sent to every process of the dyno, and repeated
    Platform(name="heroku", grace_period=30.0, lame_duck=3.0),
    # https://developer.hashicorp.com/nomad/docs/job-specification/task: kill_signal and kill_timeout
    Platform(name="nomad", grace_period=5.0, lame_duck=1.0, stop_signal="SIGINT"),
    # systemd.service(5), systemd.kill(5): DefaultTimeoutStopSec
    Platform(name="systemd", grace_period=90.0, lame_duck=0.0),
    # https://docs.docker.com/reference/cli/docker/container/stop/
    Platform(name="container", grace_period=10.0, lame_duck=2.0, own_network=True),
    Platform(name="terminal", grace_period=30.0, lame_duck=0.0, stop_signal="SIGINT"),
    Platform(name="unknown", grace_period=30.0, lame_duck=0.0),
)

PROFILES: Final[Mapping[str, Platform]] = MappingProxyType({platform.name: platform for platform in _KNOWN})
"""Every platform that `detect` can return, by its name."""

_ORCHESTRATORS: Final = (
    ("KUBERNETES_SERVICE_HOST", "kubernetes"),
    ("ECS_CONTAINER_METADATA_URI_V4", "ecs"),
    ("K_SERVICE", "cloud run"),
    ("FLY_APP_NAME", "fly.io"),
    ("DYNO", "heroku"),
    ("NOMAD_ALLOC_ID", "nomad"),
)
_SYSTEMD: Final = ("INVOCATION_ID", "NOTIFY_SOCKET")
_CONTAINER: Final = ("/.dockerenv", "/run/.containerenv")
_CONTAINERS: Final = frozenset({"kubernetes", "ecs", "cloud run", "fly.io", "heroku", "container"})


def detect(environ: Mapping[str, str], *, exists: Callable[[str], bool], isatty: bool) -> Platform:
    """The platform whose sign is found first; an empty variable is no sign.

    A terminal outranks systemd and containers: a shell in a desktop session inherits the session's
    INVOCATION_ID, and who sits at a terminal does not want to wait. It does not outrank an orchestrator,
    which may give a container a terminal that nobody sits at.
    """
    for variable, name in _ORCHESTRATORS:
        if environ.get(variable):
            return PROFILES[name]
    if isatty:
        return PROFILES["terminal"]
    if any(environ.get(variable) for variable in _SYSTEMD):
        return PROFILES["systemd"]
    if any(exists(path) for path in _CONTAINER):
        return PROFILES["container"]
    return PROFILES["unknown"]


def here(environ: Mapping[str, str]) -> Platform:
    """The platform of this process, from its files and its standard streams, any of which may be closed."""
    return detect(environ, exists=os.path.exists, isatty=any(os.isatty(stream) for stream in (0, 1, 2)))
