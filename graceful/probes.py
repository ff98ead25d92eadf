"""The endpoints: a phase and checks in, an answer out. Knows HTTP's words, but neither a server nor a socket.

The texts follow the Kubernetes API server's health endpoints
(https://kubernetes.io/docs/reference/using-api/health-checks/).
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Protocol
from urllib.parse import parse_qs

from graceful._types import Scope
from graceful.checks import CheckResult, Checks, Probe
from graceful.phases import Phase
from graceful.settings import Settings

HEALTHZ: Final = "healthz"
READY: Final = "ready"
METRICS: Final = "metrics"

_TEXT: Final = b"text/plain; charset=utf-8"
_PROBE: Final[dict[str, Probe]] = {HEALTHZ: "liveness", READY: "readiness"}
_FAILED: Final = {HEALTHZ: "not alive", READY: "not ready"}
# While there is something to check: before and after, what a liveness check works with is not there.
_LIVELY: Final = frozenset({Phase.SERVING, Phase.LAME_DUCK, Phase.DRAINING})


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A whole HTTP response."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes

    @classmethod
    def of(cls, status: int, body: bytes, content_type: bytes, *more: tuple[bytes, bytes]) -> Answer:
        """A response that nobody may store (a probe's answer is true now, not later)."""
        length = str(len(body)).encode()
        headers = (
            (b"content-type", content_type),
            (b"content-length", length),
            (b"cache-control", b"no-store"),
            *more,
        )
        return cls(status=status, headers=headers, body=body)

    @classmethod
    def plain(cls, status: int, text: str, *more: tuple[bytes, bytes]) -> Answer:
        """A response of plain text."""
        return cls.of(status, text.encode(), _TEXT, *more)


class State(Protocol):
    """What the endpoints need of the runtime."""

    @property
    def settings(self) -> Settings:
        """The resolved settings."""

    @property
    def phase(self) -> Phase:
        """Where the run stands."""

    @property
    def holds(self) -> Collection[str]:
        """The reasons for which the app says that it is not ready."""

    @property
    def leaves(self) -> bool:
        """Whether the shutdown has been asked for, although a blocked loop may not have got to it."""

    @property
    def stalls(self) -> bool:
        """Whether the event loop has stood still for too long; only the admin port can tell."""

    @property
    def admin_is_open(self) -> bool:
        """Whether the admin port, where one is set, answers."""


class Exposition(Protocol):
    """Who writes the metrics page."""

    async def page(self, accept: str) -> tuple[bytes, bytes]:
        """The content type and the body of the page."""


class Probes:
    """`/healthz`, `/ready` and `/metrics`, wherever the settings put them: on the app's port, or, made with
    `on_admin_port`, on that one.
    """

    def __init__(
        self, state: State, checks: Checks, metrics: Exposition, *, on_admin_port: bool = False
    ) -> None:
        self._state = state
        self._checks = checks
        self._metrics = metrics
        self._on_admin_port = on_admin_port

    @property
    def _in_full(self) -> bool:
        """Whether the metrics and what is verbose are meant for this port: with an admin port only there."""
        return self._on_admin_port or self._state.settings.admin_port is None

    @property
    def _phase(self) -> Phase:
        """Where the run stands, or would stand if its loop were not blocked."""
        phase = self._state.phase
        return Phase.LAME_DUCK if phase is Phase.SERVING and self._state.leaves else phase

    def paths(self, root_path: str) -> dict[str, str]:
        """Each path that is ours, as a server with this root path shows it, and without: `/api/ready` ->
        `ready`, `/ready/db` -> `ready/db`.
        """
        settings = self._state.settings
        if not self._on_admin_port and self._state.admin_is_open:
            return {}
        own = {settings.healthz_path: HEALTHZ, settings.ready_path: READY}
        if self._in_full:
            own[settings.metrics_path] = METRICS
        for path, endpoint in list(own.items()):
            if path and endpoint in _PROBE:
                own |= {
                    f"{path}/{name}": f"{endpoint}/{name}" for name in self._checks.names(_PROBE[endpoint])
                }
        own.pop("", None)
        root = root_path.rstrip("/")
        return own | {root + path: endpoint for path, endpoint in own.items()}

    async def answer(self, scope: Scope, endpoint: str) -> Answer:
        """The answer to an HTTP request for one of `paths`."""
        if scope["method"] not in {"GET", "HEAD"}:
            return Answer.plain(405, "method not allowed", (b"allow", b"GET, HEAD"))
        accept = b", ".join(value for name, value in scope["headers"] if name == b"accept").decode("latin-1")
        if endpoint == METRICS:
            content_type, body = await self._metrics.page(accept)
            return Answer.of(200, body, content_type)
        endpoint, _, only = endpoint.partition("/")
        verbose = self._state.settings.verbose_probes and self._in_full
        if only and not verbose:
            return Answer.plain(404, "not found")
        query = (
            parse_qs(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)
            if verbose
            else {}
        )
        results = await self._results(endpoint, only=only, exclude=query.get("exclude", ()))
        status = self._status(endpoint, results)
        passed = status == "ok"
        code = 200 if passed else 503
        if verbose and "application/json" in accept:
            return self._json(code, status, results)
        if verbose and "verbose" in query:
            return Answer.plain(
                code, self._verbose(endpoint, results, query.get("exclude", ()), passed=passed)
            )
        return Answer.plain(code, status)

    async def _results(
        self, endpoint: str, *, only: str, exclude: Collection[str]
    ) -> tuple[CheckResult, ...]:
        """Run the checks that count: none where the phase has decided already."""
        probe = _PROBE[endpoint]
        if endpoint == READY and self._phase is not Phase.SERVING:
            return ()
        if endpoint == HEALTHZ and self._on_admin_port and not self._checks_liveness:
            return ()
        if only:
            exclude = [name for name in self._checks.names(probe) if name != only]
        return await self._checks.run(probe, exclude=exclude)

    @property
    def _checks_liveness(self) -> bool:
        return self._state.phase in _LIVELY and not self._state.stalls

    def _status(self, endpoint: str, results: Collection[CheckResult]) -> str:
        phase = self._phase
        if endpoint == HEALTHZ and self._state.stalls:
            return _FAILED[endpoint]
        if endpoint == READY and phase is not Phase.SERVING:
            return phase.words
        held = endpoint == READY and self._state.holds
        return _FAILED[endpoint] if held or not all(result.ok for result in results) else "ok"

    def _verbose(
        self, endpoint: str, results: Collection[CheckResult], exclude: Collection[str], *, passed: bool
    ) -> str:
        """The API server's format. What failed is named, why stays in the log."""
        lines = []
        if endpoint == HEALTHZ and self._on_admin_port:
            lines.append(
                "[-]event loop failed: reason withheld" if self._state.stalls else "[+]event loop ok"
            )
        if endpoint == READY:
            phase = self._phase
            lines.append(
                f"[+]{phase} ok" if phase is Phase.SERVING else f"[-]{phase} failed: reason withheld"
            )
            lines += [f"[-]{reason} failed: reason withheld" for reason in self._state.holds]
        lines += [
            f"[+]{result.name} ok" if result.ok else f"[-]{result.name} failed: reason withheld"
            for result in results
        ]
        names = self._checks.names(_PROBE[endpoint])
        lines += [f"[+]{name} excluded: ok" for name in names if name in exclude]
        unknown = ", ".join(json.dumps(name) for name in sorted(set(exclude) - set(names)))
        if unknown:
            lines.append(f"warn: some health checks cannot be excluded: no matches for {unknown}")
        lines.append(f"{endpoint} check {'passed' if passed else 'failed'}")
        return "\n".join(lines) + "\n"

    def _json(self, code: int, status: str, results: Collection[CheckResult]) -> Answer:
        checks = {result.name: {"ok": result.ok, "seconds": round(result.seconds, 6)} for result in results}
        body = json.dumps({"status": status, "phase": str(self._phase), "checks": checks}).encode()
        return Answer.of(code, body, b"application/json")
