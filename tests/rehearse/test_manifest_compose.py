# ruff: noqa: E501 - tables: what is written, and what is said of it in one line
"""Compose files: what becomes of each field, and what is refused and where."""

from __future__ import annotations

import io
import textwrap
from typing import Any

import pytest

from graceful.rehearse.expansion import InterpolationError, interpolated
from graceful.rehearse.manifest import Found, ManifestError, load
from graceful.rehearse.model import PORT, Exec, Probe, RestartPolicy, Service

COMPOSE = """
    name: shop
    x-base: &base
      environment: {LOG: info, SECRET:, HOST:}
      stop_grace_period: 1m30s
    services:
      database:
        image: database
      web:
        <<: *base
        x-anything: {goes: here}
        build: .
        entrypoint: [gunicorn]
        command: app:app -b 0.0.0.0:${WEB_PORT:-8000} --name "the shop" $NOBODY
        ports: ["127.0.0.1:80:8000/tcp"]
        restart: on-failure:3
        stop_signal: INT
        healthcheck:
          test: [CMD, graceful, probe, "http://localhost:8000/ready"]
          interval: 5s
          timeout: 1.5s
          retries: 2
        deploy: {replicas: 2}
        depends_on: [database]
        init: true
    volumes: {}
"""


def loaded(text: str, environ: dict[str, str] | None = None, **more: Any) -> Found:
    content = io.BytesIO(textwrap.dedent(text).encode())
    return load("-", standard_input=content, environ=environ or {}, **more)


def web(fields: str, **more: Any) -> Found:
    """A service with these fields, from line 3 on."""
    command = "" if "command:" in fields else "\n    command: serve"
    return loaded(f"services:\n  web:\n{textwrap.indent(fields, '    ')}{command}", **more)


def test_a_whole_service() -> None:
    found = loaded(COMPOSE, {"HOST": "here"})
    assert found.what == "Compose service web"
    assert found.replicas == 2
    assert found.service == Service(
        name="web",
        command=("gunicorn", "app:app", "-b", f"0.0.0.0:{PORT}", "--name", "the shop"),
        environment={"LOG": "info", "HOST": "here"},
        readiness=Probe(
            action=Exec(command=("graceful", "probe", f"http://localhost:{PORT}/ready")),
            initial_delay=5.0,
            period=5.0,
            timeout=1.5,
            failure_threshold=2,
        ),
        grace_period=90.0,
        stop_signal="SIGINT",
        restart_policy=RestartPolicy.ON_FAILURE,
    )
    assert [note.removeprefix("standard input:") for note in found.notes] == [
        "of several this one is rehearsed, not database: --name picks another",
        "14: command: the variable NOBODY is not set: empty",
        "24: depends_on: not honoured here",
        "25: init: not honoured here",
        "9: no image is used: the command runs on this machine as it is",
        "9: port 8000 is each replica's own here, in command, healthcheck",
    ]


def test_the_defaults_are_dockers() -> None:
    found = web("command: serve")
    assert found.service == Service(
        name="web",
        command=("serve",),
        environment={"PORT": PORT},
        grace_period=10.0,
        restart_policy=RestartPolicy.NEVER,
    )
    assert found.replicas == 1
    assert [note.removeprefix("standard input:") for note in found.notes] == [
        "2: no health check that can be run: it is ready when it accepts connections",
        "2: no port is named in the command or its environment: each replica is given PORT; write {port} where it belongs if it does not read that",
    ]
    health = web("healthcheck: {test: curl -f localhost}").service.readiness
    assert health == Probe(
        action=Exec(command=("sh", "-c", "curl -f localhost")),
        initial_delay=30.0,
        period=30.0,
        timeout=30.0,
        failure_threshold=3,
    )


@pytest.mark.parametrize(
    ("fields", "command"),
    [
        ("command: serve 'a b' $$HOME", ("serve", "a b", "$HOME")),
        ("command: [serve, a b, 1]", ("serve", "a b", "1")),
        ("entrypoint: run --now\ncommand: [x]", ("run", "--now", "x")),
        ("command: serve -b :8000\nexpose: [8000]", ("serve", "-b", f":{PORT}")),
        ("command: serve -b :8000\nports: [{target: 8000, published: 80}]", ("serve", "-b", f":{PORT}")),
        ("command: serve -b :8000\nports: [8000-8010]", ("serve", "-b", f":{PORT}")),
        ("command: serve -b :8000\nports: ['8000']", ("serve", "-b", f":{PORT}")),
    ],
)
def test_commands(fields: str, command: tuple[str, ...]) -> None:
    assert web(fields).service.command == command


def test_an_entrypoint_alone_is_a_command() -> None:
    found = loaded("services: {a: {image: x}, b: {entrypoint: run}}")
    assert (found.service.name, found.service.command) == ("b", ("run",))


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ("{A: 1, B: yes, C: '', D: }", {"A": "1", "B": "yes", "C": "", "D": "from here"}),
        ("[A=1, B=x=y, C=, D, E]", {"A": "1", "B": "x=y", "C": "", "D": "from here"}),
        ("{A: '${D} and $D'}", {"A": "from here and from here"}),
    ],
)
def test_environments(environment: str, expected: dict[str, str]) -> None:
    found = web(f"environment: {environment}", environ={"D": "from here"})
    assert found.service.environment == {**expected, "PORT": PORT}


@pytest.mark.parametrize(
    ("healthcheck", "command"),
    [
        ("{test: [CMD, a, b]}", ("a", "b")),
        ("{test: [CMD-SHELL, a || exit 1]}", ("sh", "-c", "a || exit 1")),
        ("{test: [NONE]}", None),
        ("{disable: true, test: a}", None),
        ("{interval: 5s}", None),
    ],
)
def test_health_checks(healthcheck: str, command: tuple[str, ...] | None) -> None:
    readiness = web(f"healthcheck: {healthcheck}").service.readiness
    assert (readiness.action if readiness else None) == (Exec(command=command) if command else None)


def test_while_it_starts_health_is_asked_sooner() -> None:
    health = web(
        "healthcheck: {test: a, interval: 1m, start_period: 10s, start_interval: 2s}"
    ).service.readiness
    assert health is not None
    assert (health.initial_delay, health.period) == (2.0, 60.0)
    health = web("healthcheck: {test: a, interval: 3s, start_period: 10s}").service.readiness
    assert health is not None
    assert (health.initial_delay, health.period) == (3.0, 3.0)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10s", 10), ("1m30s", 90), ("500ms", 0.5), ("1h", 3600), ("2.5s", 2.5), ("250us", 0.00025), ("0", 0)],
)
def test_durations(text: str, seconds: float) -> None:
    assert web(f"stop_grace_period: {text}").service.grace_period == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("fields", "policy"),
    [
        ("restart: no", RestartPolicy.NEVER),
        ("restart: 'no'", RestartPolicy.NEVER),
        ("restart: always", RestartPolicy.ALWAYS),
        ("restart: unless-stopped", RestartPolicy.ALWAYS),
        ("deploy: {restart_policy: {condition: on-failure}}", RestartPolicy.ON_FAILURE),
        ("deploy: {restart_policy: {delay: 5s}}", RestartPolicy.NEVER),
    ],
)
def test_restart_policies(fields: str, policy: RestartPolicy) -> None:
    assert web(fields).service.restart_policy is policy


def test_one_of_several() -> None:
    text = "services: {a: {command: a}, b: {command: b, scale: 4}}"
    assert loaded(text).service.name == "a"
    found = loaded(text, name="b")
    assert (found.service.command, found.replicas) == (("b",), 4)
    with pytest.raises(ManifestError, match="found the services a, b; expected one that is called c"):
        loaded(text, name="c")


def test_a_command_that_is_given_takes_the_services_place() -> None:
    assert loaded("services: {a: {image: x}}", command=["mine"]).service.command == ("mine",)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ("stop_grace_period: 30", "3: stop_grace_period: found 30; expected a duration with its unit, as in 30s, 1m30s or 500ms"),
        ("stop_grace_period: -1s", "3: stop_grace_period: found '-1s'; expected a duration with its unit, as in 30s, 1m30s or 500ms"),
        ("stop_grace_periode: 30s", "3: stop_grace_periode: unknown field; the nearest is stop_grace_period"),
        ("stop_signal: 15", "3: stop_signal: found 15; expected a signal's name, such as SIGTERM"),
        ("stop_signal: SIGFOO", "3: stop_signal: found 'SIGFOO'; expected a signal's name, such as SIGTERM"),
        ("environment: ['=a']", "3: environment[0]: found '=a'; expected NAME=value"),
        ("environment: {'A=B': c}", "3: environment: found the name 'A=B'; expected a variable's name"),
        ("restart: sometimes", "3: restart: found 'sometimes'; expected one of no, none, on-failure, always, any, unless-stopped"),
        ("healthcheck: {test: []}", "3: healthcheck.test: found an empty list; expected [CMD, program, ...], [CMD-SHELL, text] or [NONE]"),
        ("healthcheck: {test: [curl, x]}", "3: healthcheck.test: found a list; expected [CMD, program, ...], [CMD-SHELL, text] or [NONE]"),
        ("healthcheck:\n  test: [CMD, a]\n  retries: -1", "5: healthcheck.retries: found -1; expected a whole number of at least 0"),
        ("healthcheck: {test: a, intervall: 5s}", "3: healthcheck.intervall: unknown field; the nearest is interval"),
        ("healthcheck: {test: {a: b}}", "3: healthcheck.test: found a mapping; expected text"),
        ("deploy: {replicas: 0}", "3: deploy.replicas: found 0; expected a whole number of at least 1"),
        ("deploy: {replica: 1}", "3: deploy.replica: unknown field; the nearest is replicas"),
        ("ports: [a]", "3: ports[0]: found 'a'; expected a port, as in 8000, 80:8000 or 127.0.0.1:80:8000/tcp"),
        ("ports: [{target: 0}]", "3: ports[0].target: found 0; expected a whole number from 1 to 65535"),
        ("ports: [99999]", "3: ports[0]: found 99999; expected a port, as in 8000, 80:8000 or 127.0.0.1:80:8000/tcp"),
        ("command: serve 'a", "3: command: No closing quotation; expected text that a shell could split"),
        ("command: {a: b}", "3: command: found a mapping; expected text or a list of text"),
        ("command: ''", "2: command is missing; expected one, as the image's own is not known here: write it into the file, or after --"),
        ("command: serve ${PORT?give it a port}", "3: command: the variable PORT is not set: give it a port"),
        ("command: serve ${PORT", "3: command: found a $ that begins nothing in 'serve ${PORT'; expected $NAME, ${NAME}, or $$ for a dollar"),
        ("environment: 3", "3: environment: found 3; expected a mapping"),
        ("environment: [{A: 1}]", "3: environment[0]: found a mapping; expected NAME=value"),
    ],
)  # fmt: skip
def test_what_is_refused(fields: str, problem: str) -> None:
    with pytest.raises(ManifestError) as caught:
        web(fields)
    assert str(caught.value) == f"standard input:{problem}"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("services: {}", "1: services: found a mapping; expected at least one service"),
        ("services: [web]", "1: services: found a list; expected a mapping"),
        ("services: {web: 3}", "1: found 3; expected a mapping"),
        ("services: {web: {command: a}}\nservice: {}", "2: service: unknown field; the nearest is services"),
    ],
)
def test_files_that_are_refused(text: str, problem: str) -> None:
    with pytest.raises(ManifestError) as caught:
        loaded(text)
    assert str(caught.value) == f"standard input:{problem}"


@pytest.mark.parametrize(
    ("text", "expected", "missing"),
    [
        ("$A ${A} $$A $_b9", "1 1 $A ", ("_b9",)),
        ("${X:-d} ${X-d} ${EMPTY:-d} ${EMPTY-d}.", "d d d .", ()),
        ("${A:+y} ${X:+y} ${EMPTY:+y} ${EMPTY+y} ${A+y}.", "y   y y.", ()),
        ("${A:?no} ${EMPTY?no}.", "1 .", ()),
        ("$X", "", ("X",)),
    ],
)
def test_interpolation(text: str, expected: str, missing: tuple[str, ...]) -> None:
    assert interpolated(text, {"A": "1", "EMPTY": ""}) == (expected, missing)


@pytest.mark.parametrize("text", ["$", "$1", "${}", "${A:=b}", "${A:-${B}}", "${X:?}", "${EMPTY:?why}"])
def test_what_cannot_be_interpolated(text: str) -> None:
    with pytest.raises(InterpolationError):
        interpolated(text, {"EMPTY": ""})
