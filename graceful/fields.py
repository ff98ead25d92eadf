"""What can be set, and the reading of what was given: names, kinds, precedence, refusals."""

from __future__ import annotations

import difflib
import math
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, NoReturn, TypeAlias

from graceful.errors import SettingsError

Kind: TypeAlias = Literal["seconds", "path", "port", "text", "flag"]

PREFIX: Final = "GRACEFUL_"
LONGEST: Final = 31_536_000.0
"""A year, in seconds. More is a mistake (milliseconds, most often), and the system's timers overflow."""

_PATH: Final = "a path that begins with / and has no space, ?, # or % in it, or empty: not served"
_LAST_PORT: Final = 65_535
_FLAGS: Final = MappingProxyType(
    {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One setting, as the command line and the documentation show it."""

    name: str
    kind: Kind
    help: str

    @property
    def environment(self) -> str:
        """Its name in the environment, `GRACEFUL_LAME_DUCK`."""
        return PREFIX + self.name.upper()

    @property
    def option(self) -> str:
        """Its name on the command line, `--lame-duck`."""
        return "--" + self.name.replace("_", "-")


FIELDS: Final = (
    Field(
        name="grace_period",
        kind="seconds",
        help="from the orchestrator's decision to SIGKILL, as in the manifest",
    ),
    Field(
        name="pre_stop", kind="seconds", help="how much of it a preStop hook has used before the signal comes"
    ),
    Field(name="lame_duck", kind="seconds", help="keep serving, not ready, until no router sends any more"),
    Field(
        name="drain_timeout", kind="seconds", help="most time for work in flight once the listener is closed"
    ),
    Field(
        name="release_timeout",
        kind="seconds",
        help="kept back for giving back resources, whatever the drain does",
    ),
    Field(name="exit_margin", kind="seconds", help="how long before SIGKILL the watchdog ends the process"),
    Field(name="healthz_path", kind="path", help="path of the liveness endpoint; empty: not served"),
    Field(name="ready_path", kind="path", help="path of the readiness endpoint; empty: not served"),
    Field(name="metrics_path", kind="path", help="path of the metrics; empty: not served"),
    Field(
        name="admin_port",
        kind="port",
        help="serve the endpoints on this port, not on the app's; empty: do not",
    ),
    Field(name="admin_host", kind="text", help="address of the admin port; empty: the app's"),
    Field(name="verbose_probes", kind="flag", help="answer ?verbose, names of checks and JSON detail"),
    Field(name="stall_after", kind="seconds", help="how long the event loop may stand still"),
    Field(name="termination_log", kind="text", help="file that the short report is written to; empty: none"),
    Field(name="exit_by_signal", kind="flag", help="a clean end dies of the signal (143), not with code 0"),
)
"""Every setting, in the order in which they are documented."""

_BY_NAME: Final = MappingProxyType({each.name: each for each in FIELDS})
_ENVIRONMENT: Final = frozenset(each.environment for each in FIELDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """The winning value of one field, from `option --lame-duck`, `GRACEFUL_LAME_DUCK` or `argument`."""

    field: Field
    value: object
    source: str

    @property
    def place(self) -> str:
        """Where a person finds the value to correct it."""
        return f"argument {self.field.name}" if self.source == "argument" else self.source

    def refuse(self, expected: str) -> NoReturn:
        """Raise SettingsError with what was found, what was expected, and the place to correct."""
        way_out = f"expected {expected}; correct or leave out {self.place}"
        raise SettingsError(self.field.name, self.value, way_out)


class Reader:
    """The values that were given, one for each field, in the order of precedence, and their parsing by kind.

    Keys are names of fields, in `environ` those of the environment; None means "not given". Only the value
    that wins is parsed: a wrong one below it does no harm. All methods raise SettingsError for a value that
    cannot be meant.
    """

    def __init__(
        self, arguments: Mapping[str, object], options: Mapping[str, object], environ: Mapping[str, str]
    ) -> None:
        for name, value in [*options.items(), *arguments.items()]:
            if name not in _BY_NAME:
                way_out = f"expected the name of a setting; the nearest is {_nearest(name).name}"
                raise SettingsError(name, value, way_out)
        self.given: dict[str, Given] = {}
        for each in FIELDS:
            sources = (
                (f"option {each.option}", options.get(each.name)),
                (each.environment, environ.get(each.environment)),
                ("argument", arguments.get(each.name)),
            )
            winner = next(((source, value) for source, value in sources if value is not None), None)
            if winner is not None:
                self.given[each.name] = Given(field=each, source=winner[0], value=winner[1])

    def seconds(self, name: str, default: float, *, positive: bool = False) -> float:
        """A finite number of at most `LONGEST`; 0 too, unless it must be `positive`."""
        given = self.given.get(name)
        if given is None:
            return default
        seconds = _number(given.value)
        if not 0 <= seconds <= LONGEST or (positive and seconds == 0):  # NaN is in no interval
            least = "more than 0" if positive else "0 or more"
            given.refuse(f"seconds as a number, {least}, {LONGEST:.0f} at most")
        return seconds

    def path(self, name: str, default: str) -> str:
        """A path as an ASGI scope has it, decoded and without a query; or empty."""
        path = self.text(name, default, expected=_PATH) or ""
        if path and not re.fullmatch(r"/[^\s?#%]*", path):
            self.given[name].refuse(_PATH)
        return path

    def port(self, name: str) -> int | None:
        """A TCP port; None where none is given or the text is empty: so a deployer takes back the code's."""
        given = self.given.get(name)
        word = _word(given.value) if given else ""
        if given is None or not word:
            return None
        if not re.fullmatch(r"[0-9]{1,5}", word) or int(word) > _LAST_PORT:
            given.refuse(f"a port from 0 (any that is free) to {_LAST_PORT}, or empty: none")
        return int(word)

    def text(self, name: str, default: str | None, *, expected: str = "one line of text") -> str | None:
        """One line that can be printed; None where it is empty."""
        given = self.given.get(name)
        if given is None:
            return default
        text = os.fspath(given.value) if isinstance(given.value, os.PathLike) else given.value
        if not isinstance(text, str) or not text.isprintable():
            given.refuse(expected)
        return text or None

    def flag(self, name: str, *, default: bool) -> bool:
        """True for 1, true, yes and on, False for 0, false, no and off, in any case of letters."""
        given = self.given.get(name)
        if given is None:
            return default
        word = _word(given.value)
        if word not in _FLAGS:
            given.refuse(f"one of {', '.join(_FLAGS)}")
        return _FLAGS[word]


def _number(value: object) -> float:
    """NaN where `value` is no number; nor is True one, nor 1_000 in a manifest."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return math.nan
    if isinstance(value, str) and "_" in value:
        return math.nan
    try:
        return float(value) or 0.0  # -0.0 would be printed as -0
    except (ValueError, OverflowError):
        return math.nan


def _word(value: object) -> str:
    """What port and flag are parsed from; a mark that neither knows where `value` is of another type."""
    return str(value).strip().lower() if isinstance(value, int | str) else "?"


# Names only; a bare ..._PORT is a link by its value alone, since GRACEFUL_ADMIN_PORT is a setting as well.
_LINK: Final = re.compile(
    r"(?P<service>GRACEFUL(_[A-Z0-9_]+?)?)_"
    r"(SERVICE_(HOST|PORT(_[A-Z0-9_]+)?)|PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?|(?P<bare>PORT))"
)


def service_of(name: str, value: str) -> str | None:
    """The Service whose link the variable is, None for any other variable.

    A Service called graceful-admin gives every container of its namespace GRACEFUL_ADMIN_PORT=tcp://...,
    GRACEFUL_ADMIN_SERVICE_HOST, GRACEFUL_ADMIN_PORT_80_TCP_ADDR and more
    (https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables).
    """
    link = _LINK.fullmatch(name)
    if link is None or (link["bare"] and not value.startswith(("tcp://", "udp://", "sctp://"))):
        return None
    return link["service"].lower().replace("_", "-")


def environment_of(environ: Mapping[str, str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """The settings in the environment, and warnings of one line each for what else is called GRACEFUL_."""
    ours = {name: value for name, value in environ.items() if name.startswith(PREFIX)}
    links = {name: service for name, value in ours.items() if (service := service_of(name, value))}
    unknown = ours.keys() - links.keys() - _ENVIRONMENT
    settings = {name: value for name, value in ours.items() if name in _ENVIRONMENT and name not in links}
    return settings, (*_link_warning(links), *_unknown_warnings(unknown))


def _link_warning(links: Mapping[str, str]) -> list[str]:
    if not links:
        return []
    # First those that look like a setting.
    names = sorted(links, key=lambda name: (name not in _ENVIRONMENT, name))
    shown = ", ".join(names[:3]) + (", ..." if names[3:] else "")
    services = ", ".join(sorted(set(links.values())))
    warning = (
        f"ignored {shown}: not settings but Kubernetes' service links to {services}; "
        "enableServiceLinks: false in the pod's spec leaves them out"
    )
    return [warning]


def _unknown_warnings(names: Collection[str]) -> list[str]:
    return [
        f"ignored {name if name.isprintable() else ascii(name)}: no such setting; "
        f"the nearest is {_nearest(name).environment}"
        for name in sorted(names)
    ]


def _nearest(name: str) -> Field:
    """The setting whose name is most like `name`, be it a field's or one in the environment."""
    bare = name.removeprefix(PREFIX).lower()
    return _BY_NAME[difflib.get_close_matches(bare, _BY_NAME, n=1, cutoff=0.0)[0]]
