"""The endpoints, byte for byte: a phase and checks in, an answer out."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Collection
from typing import Any, cast

import pytest

from graceful.checks import CheckResult, Checks
from graceful.phases import Phase
from graceful.platforms import PROFILES
from graceful.probes import Answer, Probes
from graceful.settings import Settings, resolve

PLAIN = b"text/plain; charset=utf-8"


class FakeChecks:
    """Results as they are set; notes which checks were asked for."""

    def __init__(self) -> None:
        self.readiness: dict[str, bool] = {}
        self.liveness: dict[str, bool] = {}
        self.asked: list[str] = []

    def names(self, probe: str) -> tuple[str, ...]:
        return tuple(getattr(self, probe))

    async def run(self, probe: str, *, exclude: Collection[str] = ()) -> tuple[CheckResult, ...]:
        chosen = {name: ok for name, ok in getattr(self, probe).items() if name not in exclude}
        self.asked += chosen
        await asyncio.sleep(0)
        return tuple(
            CheckResult(name=name, ok=ok, seconds=0.00123456789, error=None if ok else "secret of the log")
            for name, ok in chosen.items()
        )


class Metrics:
    async def page(self, accept: str) -> tuple[bytes, bytes]:
        return b"text/metrics", f"page for {accept}".encode()


class State:
    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.phase = Phase.SERVING
        self.holds: tuple[str, ...] = ()
        self.leaves = self.stalls = self.admin_is_open = False


class Scene:
    """Probes over facts that a test sets, asked by path as the ASGI wrapper does it."""

    def __init__(self, *, on_admin_port: bool = False, **arguments: object) -> None:
        arguments = {"verbose_probes": True, **arguments}
        self.checks = FakeChecks()
        self.state = State(resolve(arguments, environ={}, platform=PROFILES["unknown"]))
        checks = cast("Checks", self.checks)
        self.probes = Probes(self.state, checks, Metrics(), on_admin_port=on_admin_port)

    async def answer(
        self, target: str, *, method: str = "GET", accept: str | None = None, root_path: str = ""
    ) -> Answer:
        path, _, query = target.partition("?")
        headers = [] if accept is None else [(b"accept", accept.encode())]
        scope = {"type": "http", "method": method, "query_string": query.encode(), "headers": headers}
        return await self.probes.answer(scope, self.probes.paths(root_path)[path])

    def get(self, target: str, **how: Any) -> tuple[int, bytes]:
        answer = asyncio.run(self.answer(target, **how))
        return answer.status, answer.body


def test_the_whole_answer() -> None:
    answer = asyncio.run(Scene().answer("/ready"))
    assert answer == Answer(
        status=200,
        headers=((b"content-type", PLAIN), (b"content-length", b"2"), (b"cache-control", b"no-store")),
        body=b"ok",
    )
    with pytest.raises(dataclasses.FrozenInstanceError):
        answer.status = 503  # type: ignore[misc]


@pytest.mark.parametrize(
    ("phase", "ready"),
    [
        (Phase.STARTING, (503, b"starting")),
        (Phase.SERVING, (200, b"ok")),
        (Phase.LAME_DUCK, (503, b"lame duck")),
        (Phase.DRAINING, (503, b"draining")),
        (Phase.RELEASING, (503, b"releasing")),
    ],
)
def test_each_phase(phase: Phase, ready: tuple[int, bytes]) -> None:
    scene = Scene()
    scene.state.phase = phase
    scene.checks.readiness = {"database": True}
    scene.checks.liveness = {"loop": True}
    assert scene.get("/ready") == ready
    assert scene.get("/healthz") == (200, b"ok"), "alive wherever a listener is open"
    assert scene.checks.asked == (["database", "loop"] if phase is Phase.SERVING else ["loop"])


def test_a_failing_check() -> None:
    scene = Scene()
    scene.checks.readiness = {"database": False, "queue": True}
    assert scene.get("/ready") == (503, b"not ready")
    assert scene.get("/healthz") == (200, b"ok")
    scene.checks.readiness = {}
    scene.checks.liveness = {"loop": False}
    assert scene.get("/healthz") == (503, b"not alive")
    assert scene.get("/ready") == (200, b"ok")


def test_not_ready_holds() -> None:
    scene = Scene()
    scene.state.holds = ("warming the cache", "migrating")
    assert scene.get("/ready") == (503, b"not ready")
    assert scene.get("/healthz") == (200, b"ok")
    assert scene.get("/ready?verbose") == (
        503,
        (
            b"[+]serving ok\n"
            b"[-]warming the cache failed: reason withheld\n"
            b"[-]migrating failed: reason withheld\n"
            b"ready check failed\n"
        ),
    )


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_head_is_answered_as_get(method: str) -> None:
    """The wrapper leaves the body behind; its length is said all the same."""
    answer = asyncio.run(Scene().answer("/healthz", method=method))
    assert (answer.status, dict(answer.headers)[b"content-length"], answer.body) == (200, b"2", b"ok")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "get"])
@pytest.mark.parametrize("path", ["/healthz", "/ready", "/m"])
def test_other_methods(method: str, path: str) -> None:
    scene = Scene(metrics_path="/m")
    scene.checks.readiness = scene.checks.liveness = {"database": True}
    answer = asyncio.run(scene.answer(path, method=method))
    assert answer == Answer(
        status=405,
        headers=(
            (b"content-type", PLAIN),
            (b"content-length", b"18"),
            (b"cache-control", b"no-store"),
            (b"allow", b"GET, HEAD"),
        ),
        body=b"method not allowed",
    )
    assert scene.checks.asked == []


def test_verbose() -> None:
    scene = Scene()
    scene.checks.readiness = {"database": True, "queue": True}
    assert scene.get("/ready?verbose") == (
        200,
        b"[+]serving ok\n[+]database ok\n[+]queue ok\nready check passed\n",
    )
    scene.checks.readiness["queue"] = False
    assert scene.get("/ready?verbose=1") == (
        503,
        b"[+]serving ok\n[+]database ok\n[-]queue failed: reason withheld\nready check failed\n",
    )
    scene.checks.liveness = {"loop": True}
    assert scene.get("/healthz?verbose") == (200, b"[+]loop ok\nhealthz check passed\n")
    scene.state.phase = Phase.LAME_DUCK
    assert scene.get("/ready?verbose") == (
        503,
        b"[-]lame_duck failed: reason withheld\nready check failed\n",
    )


def test_exclude() -> None:
    scene = Scene()
    scene.checks.readiness = {"database": False, "queue": True}
    assert scene.get("/ready?exclude=database") == (200, b"ok")
    assert scene.checks.asked == ["queue"], "what is excluded is not run"
    assert scene.get("/ready?verbose&exclude=database") == (
        200,
        b"[+]serving ok\n[+]queue ok\n[+]database excluded: ok\nready check passed\n",
    )
    assert scene.get("/ready?verbose&exclude=database&exclude=queue")[1] == (
        b"[+]serving ok\n[+]database excluded: ok\n[+]queue excluded: ok\nready check passed\n"
    )


def test_exclude_of_what_is_not_there() -> None:
    scene = Scene()
    scene.checks.readiness = {"queue": True}
    assert scene.get("/ready?verbose&exclude=x&exclude=queue&exclude=a") == (
        200,
        (
            b"[+]serving ok\n"
            b"[+]queue excluded: ok\n"
            b'warn: some health checks cannot be excluded: no matches for "a", "x"\n'
            b"ready check passed\n"
        ),
    )
    assert scene.get("/ready?exclude=x") == (200, b"ok")


def test_what_a_client_excludes_cannot_forge_a_line() -> None:
    """The API server quotes the names as Go's %q does."""
    body = Scene().get("/ready?verbose&exclude=%22%0A[%2B]forged%20ok%0A")[1]
    assert body.splitlines()[1:] == [
        b'warn: some health checks cannot be excluded: no matches for "\\"\\n[+]forged ok\\n"',
        b"ready check passed",
    ]


def test_one_check() -> None:
    scene = Scene()
    scene.checks.readiness = {"database": True, "queue": False}
    scene.checks.liveness = {"loop": False}
    assert scene.get("/ready/database") == (200, b"ok")
    assert scene.checks.asked == ["database"]
    assert scene.get("/ready/queue") == (503, b"not ready")
    assert scene.get("/healthz/loop") == (503, b"not alive")
    assert scene.get("/ready/database?verbose") == (
        200,
        b"[+]serving ok\n[+]database ok\nready check passed\n",
    )
    assert "/ready/nope" not in scene.probes.paths("")
    scene.state.phase = Phase.DRAINING
    assert scene.get("/ready/database") == (503, b"draining")


@pytest.mark.parametrize("accept", ["application/json", "text/html, application/json;q=0.9"])
def test_json(accept: str) -> None:
    scene = Scene()
    scene.checks.readiness = {"database": True, "queue": False}
    answer = asyncio.run(scene.answer("/ready", accept=accept))
    assert answer.headers[0] == (b"content-type", b"application/json")
    assert answer.headers[2] == (b"cache-control", b"no-store")
    assert (answer.status, json.loads(answer.body)) == (
        503,
        {
            "status": "not ready",
            "phase": "serving",
            "checks": {
                "database": {"ok": True, "seconds": 0.001235},
                "queue": {"ok": False, "seconds": 0.001235},
            },
        },
    )
    scene.state.phase = Phase.LAME_DUCK
    assert json.loads(scene.get("/ready", accept=accept)[1]) == {
        "status": "lame duck",
        "phase": "lame_duck",
        "checks": {},
    }
    assert json.loads(scene.get("/healthz", accept=accept)[1]) == {
        "status": "ok",
        "phase": "lame_duck",
        "checks": {},
    }


@pytest.mark.parametrize(
    "target", ["/ready", "/ready?verbose", "/ready?exclude=database", "/ready?verbose&exclude=x"]
)
@pytest.mark.parametrize("accept", [None, "application/json"])
def test_without_verbose_probes_there_is_the_plain_body_only(target: str, accept: str | None) -> None:
    scene = Scene(verbose_probes=False)
    scene.checks.readiness = {"database": False}
    assert scene.get(target, accept=accept) == (503, b"not ready")
    assert scene.get("/healthz?verbose", accept=accept) == (200, b"ok")


def test_without_verbose_probes_the_path_of_a_check_is_not_there() -> None:
    scene = Scene(verbose_probes=False)
    scene.checks.readiness = {"database": True}
    assert scene.get("/ready/database") == (404, b"not found")
    assert scene.get("/ready/database?verbose", accept="application/json") == (404, b"not found")
    assert scene.checks.asked == []


def test_no_text_of_an_error_is_shown() -> None:
    scene = Scene()
    scene.checks.readiness = {"database": False}
    for target, accept in (("/ready", None), ("/ready?verbose", None), ("/ready", "application/json")):
        assert b"secret" not in scene.get(target, accept=accept)[1]


def test_a_shutdown_that_begins_while_a_check_runs() -> None:
    scene = Scene()
    scene.checks.readiness = {"database": True}

    async def main() -> Answer:
        asking = asyncio.ensure_future(scene.answer("/ready"))
        await asyncio.sleep(0)
        assert scene.checks.asked == ["database"]
        scene.state.phase = Phase.LAME_DUCK
        return await asking

    answer = asyncio.run(main())
    assert (answer.status, answer.body) == (503, b"lame duck")


def test_metrics() -> None:
    answer = asyncio.run(Scene(metrics_path="/m").answer("/m", accept="application/openmetrics-text"))
    assert answer == Answer(
        status=200,
        headers=(
            (b"content-type", b"text/metrics"),
            (b"content-length", b"37"),
            (b"cache-control", b"no-store"),
        ),
        body=b"page for application/openmetrics-text",
    )


def test_paths() -> None:
    scene = Scene()
    assert scene.probes.paths("") == {"/healthz": "healthz", "/ready": "ready"}
    scene.checks.readiness = {"database": True}
    scene.checks.liveness = {"loop": True}
    both = {
        "/healthz": "healthz",
        "/healthz/loop": "healthz/loop",
        "/ready": "ready",
        "/ready/database": "ready/database",
    }
    assert scene.probes.paths("") == both
    for root_path in ("/api", "/api/"):
        assert scene.probes.paths(root_path) == both | {f"/api{path}": what for path, what in both.items()}
    assert scene.get("/api/ready/database", root_path="/api") == (200, b"ok")


def test_an_empty_path_is_not_served() -> None:
    assert Scene(healthz_path="", ready_path="/r", metrics_path="/m").probes.paths("/api") == {
        "/r": "ready",
        "/m": "metrics",
        "/api/r": "ready",
        "/api/m": "metrics",
    }
    scene = Scene(healthz_path="", ready_path="")
    scene.checks.readiness = scene.checks.liveness = {"database": True}
    assert scene.probes.paths("/api") == {}


# With an admin port.


def admin() -> Scene:
    scene = Scene(on_admin_port=True, admin_port=9000)
    scene.state.admin_is_open = True
    scene.checks.readiness = {"database": True}
    scene.checks.liveness = {"loop": True}
    return scene


def test_the_admin_port_has_them_all_and_the_apps_has_none() -> None:
    scene = admin()
    assert set(scene.probes.paths("")) == {
        *("/healthz", "/healthz/loop", "/ready", "/ready/database"),
        "/metrics",
    }
    on_the_apps = Probes(scene.state, cast("Checks", scene.checks), Metrics())
    assert on_the_apps.paths("/api") == {}


def test_where_the_admin_port_could_not_be_opened_the_apps_has_those_without_details() -> None:
    scene = Scene(admin_port=9000, metrics_path="/metrics")
    scene.checks.readiness = {"database": True}
    assert set(scene.probes.paths("")) == {"/healthz", "/ready", "/ready/database"}
    assert scene.get("/ready?verbose") == (200, b"ok")
    assert scene.get("/ready/database") == (404, b"not found")


def test_a_shutdown_that_the_loop_has_not_got_to_is_shown() -> None:
    scene = admin()
    scene.state.leaves = True
    assert scene.get("/ready") == (503, b"lame duck")
    assert scene.get("/ready?verbose") == (
        503,
        b"[-]lame_duck failed: reason withheld\nready check failed\n",
    )
    assert json.loads(scene.get("/ready", accept="application/json")[1])["phase"] == "lame_duck"
    assert scene.checks.asked == []
    assert scene.get("/healthz") == (200, b"ok")
    for phase in (Phase.STARTING, Phase.DRAINING):
        scene.state.phase = phase
        assert scene.get("/ready") == (503, phase.words.encode())


def test_a_loop_that_stalls_is_not_alive() -> None:
    scene = admin()
    assert scene.get("/healthz?verbose") == (
        200,
        b"[+]event loop ok\n[+]loop ok\nhealthz check passed\n",
    )
    scene.state.stalls = True
    scene.checks.asked.clear()
    assert scene.get("/healthz") == (503, b"not alive")
    assert scene.get("/healthz?verbose") == (
        503,
        b"[-]event loop failed: reason withheld\nhealthz check failed\n",
    )
    assert scene.checks.asked == [], "a loop that does not turn is asked nothing"
    assert scene.get("/ready") == (200, b"ok")


@pytest.mark.parametrize("phase", Phase)
def test_there_a_liveness_check_is_asked_while_there_is_something_to_check(phase: Phase) -> None:
    scene = admin()
    scene.checks.liveness = {"loop": False}
    scene.state.phase = phase
    lively = phase in {Phase.SERVING, Phase.LAME_DUCK, Phase.DRAINING}
    assert scene.get("/healthz") == ((503, b"not alive") if lively else (200, b"ok"))
