"""Settings: every value that shapes a shutdown, where it came from, and how the grace period is split.

Precedence: option of `graceful run`, environment, argument of `Runtime(...)`, default; so whoever deploys can
overrule the code.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from graceful.errors import SettingsError
from graceful.fields import FIELDS, Field, Reader, environment_of
from graceful.platforms import Platform, here

__all__ = ["FIELDS", "LEAST_DRAIN", "Field", "Settings", "resolve"]

LEAST_DRAIN: Final = 1 / 4
"""A drain without a value of its own keeps this part of what the explicit values leave."""

_NOTHING: Final[Mapping[str, object]] = MappingProxyType({})

# The parts of the grace period in the order of time, with the words that people read.
_PARTS: Final = MappingProxyType(
    {
        "pre_stop": "pre-stop",
        "lame_duck": "lame duck",
        "drain_timeout": "drain",
        "release_timeout": "release",
        "exit_margin": "margin",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What `resolve` has found. Times are seconds, the parts fit into the grace period, no path: not served.

    `sources` says by what a value was set: `option --lame-duck`, `GRACEFUL_LAME_DUCK` or `argument`; fields
    that have their default are absent. `warnings` are lines for the log.
    """

    grace_period: float
    pre_stop: float
    lame_duck: float
    drain_timeout: float
    release_timeout: float
    exit_margin: float
    healthz_path: str
    ready_path: str
    metrics_path: str
    admin_port: int | None
    admin_host: str | None
    verbose_probes: bool
    stall_after: float
    termination_log: str | None
    exit_by_signal: bool
    platform: Platform
    sources: Mapping[str, str] = field(hash=False)
    warnings: tuple[str, ...]

    def describe(self) -> str:
        """The line said at startup: platform, split of the grace period, and who set what is no default."""
        line = f"{self.platform.name}: {_short(self.grace_period)} s grace = {' + '.join(self._terms())}"
        if self.sources:
            line += f" ({', '.join(self._origins())})"
        routed = self.platform.routed and self.platform.name == "unknown"
        if routed and self.lame_duck == 0 and "lame_duck" not in self.sources:
            line += (
                "; behind a load balancer set GRACEFUL_LAME_DUCK to what its health check needs to fail: "
                "interval x failures + timeout"
            )
        return line

    def _terms(self) -> list[str]:
        parts = {name: round(float(getattr(self, name)), 2) for name in _PARTS}
        spare = round(round(self.grace_period, 2) - math.fsum(parts.values()), 2)
        if "drain_timeout" not in self.sources:
            # It is what remains, so it takes what rounding has left: the sum that people read is right.
            parts["drain_timeout"] += spare
            spare = 0.0
        shown = [(seconds, _PARTS[name]) for name, seconds in parts.items() if seconds or name != "pre_stop"]
        if spare > 0:
            shown.insert(-1, (spare, "spare"))
        return [f"{_short(seconds)} {words}" for seconds, words in shown]

    def _origins(self) -> list[str]:
        by_source: dict[str, list[str]] = {}
        for each in FIELDS:
            if each.name in self.sources:
                by_source.setdefault(self.sources[each.name], []).append(self._label(each.name))
        return [
            f"{_listed(labels)} from {source.removeprefix('option ')}{'s' if len(labels) > 1 else ''}"
            for source, labels in by_source.items()
        ]

    def _label(self, name: str) -> str:
        """The words for a field; what the split does not show has its value beside it."""
        if name == "grace_period":
            return "grace"
        if name in _PARTS:
            return _PARTS[name]
        value = getattr(self, name)
        if isinstance(value, bool):
            shown = "on" if value else "off"
        elif isinstance(value, float):
            shown = _short(value)
        else:
            shown = "off" if value in {None, ""} else str(value)
        return f"{name.replace('_', ' ')} {shown}"


def resolve(
    arguments: Mapping[str, object],
    *,
    options: Mapping[str, object] = _NOTHING,
    environ: Mapping[str, str] | None = None,
    platform: Platform | None = None,
) -> Settings:
    """Settings from options of the command, the environment and arguments of the code, in this precedence.

    Keys are names of fields, None means "not given", strings are parsed. Without `environ` it is the
    process's, without `platform` the one found there. Raises SettingsError for the first value that cannot be
    meant, for a split that does not fit into the grace period, and for two endpoints on one path.
    """
    environ = os.environ if environ is None else environ
    platform = here(environ) if platform is None else platform
    from_environment, warnings = environment_of(environ)
    read = Reader(arguments, options, from_environment)
    split = _split(read, platform)
    admin_port = read.port("admin_port")
    if admin_port is None:
        lost = (read.given.get(name) for name in ("admin_host", "stall_after"))
        warnings += tuple(f"{each.place} has no effect: no admin_port is set" for each in lost if each)
    settings = Settings(
        grace_period=split["grace_period"],
        pre_stop=split["pre_stop"],
        lame_duck=split["lame_duck"],
        drain_timeout=split["drain_timeout"],
        release_timeout=split["release_timeout"],
        exit_margin=split["exit_margin"],
        healthz_path=read.path("healthz_path", "/healthz"),
        ready_path=read.path("ready_path", "/ready"),
        # On the app's port only when asked for: the registry also holds the app's own metrics.
        metrics_path=read.path("metrics_path", "" if admin_port is None else "/metrics"),
        admin_port=admin_port,
        admin_host=read.text("admin_host", None),
        verbose_probes=read.flag("verbose_probes", default=admin_port is not None),
        stall_after=read.seconds("stall_after", 10.0, positive=True),
        termination_log=read.text("termination_log", platform.termination_log),
        exit_by_signal=read.flag("exit_by_signal", default=False),
        platform=platform,
        sources={name: given.source for name, given in read.given.items()},
        warnings=warnings,
    )
    _refuse_shared_path(settings, read)
    return settings


def _split(read: Reader, platform: Platform) -> dict[str, float]:
    """The grace period and its parts: explicit ones as they are, defaults shrunk to what those leave.

    A drain without a value of its own has what remains, and `LEAST_DRAIN` of what the explicit values leave
    in any case. For it the default lame duck shrinks first, down to half of what they leave, then release and
    margin in proportion.
    """
    grace = read.seconds("grace_period", platform.grace_period, positive=True)
    explicit = {name: read.seconds(name, 0.0) for name in _PARTS if name in read.given}
    _refuse_misfit(read, explicit, grace, platform)
    room = max(0.0, grace - math.fsum(explicit.values()))
    least_drain = 0.0 if "drain_timeout" in explicit else room * LEAST_DRAIN
    ending = {"release_timeout": min(grace / 6, 5.0), "exit_margin": min(grace / 15, 2.0)}
    wanted = math.fsum(seconds for name, seconds in ending.items() if name not in explicit)
    lame_duck = min(platform.lame_duck, max(room - least_drain - wanted, room / 2))
    if "lame_duck" not in explicit:
        room -= lame_duck
    kept = min(wanted, max(0.0, room - least_drain))
    defaults = {"pre_stop": 0.0, "lame_duck": lame_duck, "drain_timeout": room - kept}
    scale = kept / wanted if wanted else 0.0
    defaults |= {name: seconds * scale for name, seconds in ending.items()}
    return {"grace_period": grace} | defaults | explicit


def _refuse_misfit(read: Reader, explicit: Mapping[str, float], grace: float, platform: Platform) -> None:
    """Raise SettingsError where explicit parts exceed the grace period, or `pre_stop` leaves nothing of it.

    The platform's own grace period counts as much as an explicit one: the orchestrator would kill at its end.
    """
    total = math.fsum(explicit.values())
    fits = total <= grace * (1 + 1e-9)  # a sum of decimal fractions may differ in its last digit
    if fits and explicit.get("pre_stop", 0.0) < grace:
        return
    names = ["pre_stop"] if fits else [name for name, seconds in explicit.items() if seconds]
    terms = " + ".join(f"{explicit[name]:.10g} ({read.given[name].source})" for name in names)
    allowed, place = f"default of {platform.name}", "GRACEFUL_GRACE_PERIOD"
    if (setter := read.given.get("grace_period")) is not None:
        # The environment overrules an argument, but not an option.
        allowed, place = setter.source, place if setter.source == "argument" else setter.source
    way_out = (
        f"expected {terms} to {'be less than' if fits else 'fit into'} the grace period of {grace:.10g} s "
        f"({allowed}); lower what is too long, or raise the orchestrator's grace period and set {place} to it"
    )
    found = float(f"{math.fsum(explicit[name] for name in names):.10g}")
    involved = " + ".join(names)
    raise SettingsError(involved, int(found) if found.is_integer() else found, way_out)


def _refuse_shared_path(settings: Settings, read: Reader) -> None:
    """Raise SettingsError where one path would have to serve two endpoints."""
    taken: dict[str, str] = {}
    for name in ("healthz_path", "ready_path", "metrics_path"):
        path = str(getattr(settings, name))
        other = taken.setdefault(path, name)
        if path and other != name:
            places = [read.given[each].place for each in (other, name) if each in read.given]
            way_out = f"expected a path for each; correct or leave out {' or '.join(places)}"
            involved = f"{other} + {name}"
            raise SettingsError(involved, path, way_out)


def _short(seconds: float) -> str:
    """`18` for 18.0, `0.5`, `1.67`."""
    return f"{seconds:.2f}".rstrip("0").rstrip(".")


def _listed(words: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if words[1:] else words)
