# ruff: noqa: E501 - tables: what is written, and what is said of it in one line
"""Kubernetes manifests: what becomes of each field, and what is refused and where."""

from __future__ import annotations

import io
import re
import textwrap
from typing import Any

import pytest

from graceful.rehearse.expansion import expanded
from graceful.rehearse.manifest import Found, ManifestError, load
from graceful.rehearse.model import (
    PORT,
    Exec,
    HttpGet,
    Probe,
    RestartPolicy,
    Service,
    TcpSocket,
)


def loaded(text: str, **more: Any) -> Found:
    return load("-", standard_input=io.BytesIO(textwrap.dedent(text).encode()), **more)


def pod(container: str = "", spec: str = "", **more: Any) -> Found:
    """A pod whose container has these fields beside its name and command, from line 6 on."""
    head = "kind: Pod\nmetadata: {name: web}\nspec:\n  containers:\n  - name: app\n"
    fields = textwrap.dedent(container).strip("\n")
    command = (
        "" if re.search(r"^(command|args):", fields, re.MULTILINE) else "\ncommand: [serve, --port, '8000']"
    )
    body = textwrap.indent(f"{fields}{command}".strip("\n"), "    ")
    return loaded(f"{head}{body}\n{textwrap.indent(textwrap.dedent(spec), '  ')}", **more)


def refused(container: str = "", spec: str = "", **more: Any) -> str:
    with pytest.raises(ManifestError) as caught:
        pod(container, spec, **more)
    return str(caught.value).removeprefix("standard input:")


def probe(text: str) -> Probe | None:
    return pod(f"readinessProbe: {text}\nports: [{{containerPort: 8000, name: http}}]").service.readiness


DEPLOYMENT = """
    apiVersion: v1
    kind: Service
    metadata: {name: web}
    ---
    apiVersion: apps/v1
    kind: Deployment
    metadata:
      name: web
    spec:
      replicas: 3
      selector: {matchLabels: {app: web}}
      strategy: {rollingUpdate: {maxSurge: 1}}
      template:
        metadata: {labels: {app: web}}
        spec:
          terminationGracePeriodSeconds: 45
          nodeSelector: {disk: fast}
          initContainers:
          - name: migrate
            command: [python, migrate.py]
            args: [--to, $(WHERE)]
            env: [{name: WHERE, value: head}]
          - name: warm
            command: [warm-up]
          - name: proxy
            image: proxy
            restartPolicy: Always
          - name: odd
            image: odd
          containers:
          - name: app
            image: registry.test/web:1
            command: [graceful, run, "app:app"]
            args: [--port, $(PORT), --name, $(NAME)]
            env:
            - {name: PORT, value: "8000"}
            - {name: URL, value: "http://localhost:$(PORT)/?$$(PORT)$(LATER)"}
            - {name: LATER, value: "18000 80001 8000.5 :8000/"}
            - name: NAME
              valueFrom: {fieldRef: {fieldPath: metadata.name}}
            - name: NOTHING
            envFrom: [{secretRef: {name: all}}]
            ports:
            - {name: admin, containerPort: 9000}
            - {name: http, containerPort: 8000}
            readinessProbe:
              httpGet: {path: /ready, port: http, httpHeaders: [{name: Host, value: web.test}]}
              periodSeconds: 5
              successThreshold: 2
            livenessProbe:
              exec: {command: [graceful, probe, "http://localhost:8000/healthz"]}
              initialDelaySeconds: 20
              timeoutSeconds: 3
              failureThreshold: 5
              terminationGracePeriodSeconds: 7
            startupProbe:
              tcpSocket: {port: 9000}
            lifecycle:
              preStop: {sleep: {seconds: 5}}
              postStart: {exec: {command: [hello]}}
              stopSignal: SIGINT
            resources: {limits: {memory: 1Gi}}
            workingDir: /app
          - name: sidecar
            image: sidecar
"""


def test_a_whole_deployment() -> None:
    found = loaded(DEPLOYMENT)
    assert found.what == "Deployment web, container app"
    assert found.replicas == 3
    assert found.service == Service(
        name="web",
        command=("graceful", "run", "app:app", "--port", PORT, "--name", "$(NAME)"),
        environment={
            "PORT": PORT,
            "URL": f"http://localhost:{PORT}/?$(PORT)$(LATER)",
            "LATER": f"18000 80001 8000.5 :{PORT}/",
            "NOTHING": "",
        },
        init_commands=(("env", "WHERE=head", "python", "migrate.py", "--to", "head"), ("warm-up",)),
        readiness=Probe(
            action=HttpGet(path="/ready", headers=(("Host", "web.test"),)), period=5.0, success_threshold=2
        ),
        liveness=Probe(
            action=Exec(command=("graceful", "probe", f"http://localhost:{PORT}/healthz")),
            initial_delay=20.0,
            timeout=3.0,
            failure_threshold=5,
            grace_period=7.0,
        ),
        startup=Probe(action=TcpSocket(port=9000)),
        grace_period=45.0,
        pre_stop=5.0,
        stop_signal="SIGINT",
    )


def test_what_cannot_be_honoured_is_listed_by_line() -> None:
    lines = {number: line.split("#")[0].strip() for number, line in enumerate(DEPLOYMENT.splitlines(), 1)}
    notes = [note.removeprefix("standard input:").split(": ", 1) for note in loaded(DEPLOYMENT).notes]
    assert [(lines[int(line)], text) for line, text in notes] == [
        ("- name: sidecar", "container sidecar is not started here"),
        ("- name: NAME", "env[3]: NAME comes from a fieldRef: not set here"),
        ("postStart: {exec: {command: [hello]}}", "lifecycle.postStart: not honoured here"),
        (
            "tcpSocket: {port: 9000}",
            "startupProbe.tcpSocket.port: port 9000 is one for all replicas here: only one can listen on it",
        ),
        ("strategy: {rollingUpdate: {maxSurge: 1}}", "spec.strategy: not honoured here"),
        ("envFrom: [{secretRef: {name: all}}]", "envFrom: not honoured here"),
        ("resources: {limits: {memory: 1Gi}}", "resources: not honoured here"),
        ("workingDir: /app", "workingDir: not honoured here"),
        ("image: registry.test/web:1", "image: not used: the command runs on this machine as it is"),
        (
            "- name: app",
            "port 8000 is each replica's own here, in env PORT, env LATER, readinessProbe, livenessProbe",
        ),
        ("- name: proxy", "spec.template.spec.initContainers[2]: a sidecar is not started here"),
        (
            "- name: odd",
            "spec.template.spec.initContainers[3]: left out: it has no command, and its image's is not known here",
        ),
    ]


def test_the_defaults_are_the_apis() -> None:
    found = pod("readinessProbe: {httpGet: {port: 8000}}")
    assert found.service == Service(
        name="web",
        command=("serve", "--port", PORT),
        readiness=Probe(
            action=HttpGet(), initial_delay=0, period=10, timeout=1, success_threshold=1, failure_threshold=3
        ),
        grace_period=30.0,
        pre_stop=0.0,
        stop_signal="SIGTERM",
        restart_policy=RestartPolicy.ALWAYS,
    )
    assert found.replicas == 1


@pytest.mark.parametrize(
    ("text", "action"),
    [
        ("{httpGet: {port: http}}", HttpGet()),
        ("{httpGet: {port: 8000, path: 'ready?x', scheme: HTTPS}}", HttpGet(path="ready?x", scheme="https")),
        ("{httpGet: {port: 8001, host: localhost}}", HttpGet(port=8001)),
        ("{tcpSocket: {port: 8000}}", TcpSocket()),
        ("{exec: {command: [curl, 'localhost:8000', $$HOME]}}", Exec(command=("curl", f"localhost:{PORT}", "$HOME"))),
    ],
)  # fmt: skip
def test_actions(text: str, action: object) -> None:
    found = probe(text)
    assert found is not None
    assert found.action == action


def test_a_service_that_is_asked_over_https_speaks_tls() -> None:
    assert pod("readinessProbe: {httpGet: {port: 8000, scheme: HTTPS}}").service.tls
    assert not pod(
        "readinessProbe: {httpGet: {port: 9000, scheme: HTTPS}}\nports: [{containerPort: 8000}]"
    ).service.tls


@pytest.mark.parametrize(
    ("container", "note"),
    [
        ("readinessProbe: {grpc: {port: 8000}}", "6: readinessProbe.grpc: not honoured here: there are probes by httpGet, tcpSocket and exec"),
        ("readinessProbe: {tcpSocket: {port: 8000, host: db}}", "6: readinessProbe.tcpSocket.host: not honoured here: the replica itself is asked"),
        ("lifecycle: {preStop: {httpGet: {port: 8000}}}", "6: lifecycle.preStop.httpGet: not honoured here: a hook sleeps or runs a command"),
        ("command: [serve]", "5: no port is named in the command or its environment: each replica is given PORT; write {port} where it belongs if it does not read that"),
        ("command: [serve]\nports: [{containerPort: 80}]", "5: port 80 is named nowhere in the command or its environment: each replica is given PORT; write {port} where it belongs if it does not read that"),
        ("command: [serve, '{port}']", "5: the port is each replica's own here, in command"),
        ("command: [serve, '{port}']\nports: [{containerPort: 80}]", "5: port 80 is each replica's own here, in command"),
        ("tty: true", "5: no readinessProbe that can be asked: in a cluster traffic comes as soon as it is started; here it is ready when it accepts connections"),
    ],
)  # fmt: skip
def test_notes(container: str, note: str) -> None:
    assert f"standard input:{note}" in pod(container).notes


def test_who_is_not_told_its_port_is_given_it() -> None:
    assert pod("command: [serve]").service.environment == {"PORT": PORT}
    assert pod("command: [serve]\nenv: [{name: PORT, value: '1'}]").service.environment == {"PORT": "1"}
    assert pod("ports: [{containerPort: 8000}]").service.environment == {}


def test_a_port_that_is_named_again_and_again_is_noted_once() -> None:
    found = pod("command: [serve, ':8000', '8000']\nports: [{containerPort: 8000}]")
    assert found.service.command == ("serve", f":{PORT}", PORT)
    assert "standard input:5: port 8000 is each replica's own here, in command" in found.notes


@pytest.mark.parametrize(
    ("hook", "pre_stop"),
    [
        ("{sleep: {seconds: 0}}", 0.0),
        ("{sleep: {seconds: 15}}", 15.0),
        ("{exec: {command: [sh, -c, 'curl :8000/stop; $(X)']}}", ("sh", "-c", f"curl :{PORT}/stop; $(X)")),
    ],
)
def test_pre_stop(hook: str, pre_stop: object) -> None:
    found = pod(f"lifecycle: {{preStop: {hook}}}\nports: [{{containerPort: 8000}}]")
    assert found.service.pre_stop == pre_stop


def test_a_command_that_is_given_takes_the_containers_place() -> None:
    found = pod("args: [x]\nports: [{containerPort: 8000}]", command=["mine", "-p8000"])
    assert found.service.command == ("mine", f"-p{PORT}")


def test_a_pod_may_have_another_restart_policy() -> None:
    assert pod(spec="restartPolicy: OnFailure").service.restart_policy is RestartPolicy.ON_FAILURE


SEVERAL = """
    kind: List
    items:
    - {kind: ConfigMap}
    - {kind: StatefulSet, metadata: {name: one}, spec: {replicas: 2, template: {spec: {containers: [{name: a, command: [a]}]}}}}
    - {kind: DaemonSet, metadata: {name: two}, spec: {template: {spec: {containers: [{name: b, command: [b]}]}}}}
"""


def test_one_of_several() -> None:
    first = loaded(SEVERAL)
    assert (first.service.name, first.replicas) == ("one", 2)
    assert first.notes[0] == "of several this one is rehearsed, not DaemonSet two: --name picks another"
    for name in ("two", "TWO", "daemonset/two"):
        found = loaded(SEVERAL, name=name)
        assert (found.service.command, found.replicas) == (("b",), 1)
    with pytest.raises(
        ManifestError, match="found StatefulSet one, DaemonSet two; expected one that is called x"
    ):
        loaded(SEVERAL, name="x")


def test_the_container_that_the_annotation_names() -> None:
    text = """
        kind: Pod
        metadata: {annotations: {kubectl.kubernetes.io/default-container: %s}}
        spec: {containers: [{name: a, command: [a]}, {name: b, command: [b]}]}
    """
    assert loaded(text % "b").service.command == ("b",)
    assert loaded(text % "b").service.name == "pod"
    with pytest.raises(ManifestError, match="default-container: found 'c'; expected one of a, b"):
        loaded(text % "c")


@pytest.mark.parametrize(
    ("container", "problem"),
    [
        ("readinessProbe:\n  httpGet: {port: 80}\n  periodSeconds: 0", "8: readinessProbe.periodSeconds: found 0; expected a whole number of at least 1"),
        ("readinessProbe: {tcpSocket: {port: 80}, initialDelaySeconds: -1}", "6: readinessProbe.initialDelaySeconds: found -1; expected a whole number of at least 0"),
        ("readinessProbe: {tcpSocket: {port: 80}, timeoutSeconds: 0.5}", "6: readinessProbe.timeoutSeconds: found 0.5; expected a whole number of at least 1"),
        ("readinessProbe: {tcpSocket: {port: 80}, timeoutSeconds: '5'}", "6: readinessProbe.timeoutSeconds: found '5'; expected a whole number of at least 1"),
        ("readinessProbe: {tcpSocket: {port: 80}, timeoutSeconds: true}", "6: readinessProbe.timeoutSeconds: found true; expected a whole number of at least 1"),
        ("readinessProbe: {tcpSocket: {port: 80}, timeoutSeconds: 1e3}", "6: readinessProbe.timeoutSeconds: found 1e3; expected a whole number of at least 1"),
        ("readinessProbe: {tcpSocket: {port: 80}, periodSeconds: 2147483648}", "6: readinessProbe.periodSeconds: found 2147483648; expected a whole number of 2147483647 at most"),
        ("livenessProbe: {tcpSocket: {port: 80}, successThreshold: 2}", "6: livenessProbe.successThreshold: found 2; expected a whole number from 1 to 1"),
        ("startupProbe: {tcpSocket: {port: 80}, successThreshold: 2}", "6: startupProbe.successThreshold: found 2; expected a whole number from 1 to 1"),
        ("readinessProbe: {tcpSocket: {port: 80}, terminationGracePeriodSeconds: 5}", "6: readinessProbe.terminationGracePeriodSeconds: it belongs to liveness and startup probes: readiness ends no process"),
        ("livenessProbe: {tcpSocket: {port: 80}, terminationGracePeriodSeconds: 0}", "6: livenessProbe.terminationGracePeriodSeconds: found 0; expected a whole number of at least 1"),
        ("readinessProbe: {periodSeconds: 1}", "6: readinessProbe: found none of them; expected one of httpGet, tcpSocket, exec, grpc"),
        ("readinessProbe: {tcpSocket: {port: 80}, exec: {command: [a]}}", "6: readinessProbe: found tcpSocket and exec; expected one of httpGet, tcpSocket, exec, grpc"),
        ("readinessProbe: {httpGet: {path: /}}", "6: readinessProbe.httpGet: port is missing; expected a port's number or name"),
        ("readinessProbe: {httpGet: {port: 70000}}", "6: readinessProbe.httpGet.port: found 70000; expected a whole number from 1 to 65535"),
        ("readinessProbe: {httpGet: {port: 0}}", "6: readinessProbe.httpGet.port: found 0; expected a whole number from 1 to 65535"),
        ("readinessProbe: {httpGet: {port: web}}", "6: readinessProbe.httpGet.port: found 'web'; expected a number without quotes, or the name of one of the container's ports"),
        ("readinessProbe: {httpGet: {port: '80'}}\nports: [{name: http, containerPort: 80}]", "6: readinessProbe.httpGet.port: found '80'; expected a number without quotes, or the name of one of the container's ports, one of http"),
        ("readinessProbe: {httpGet: {port: 80, scheme: https}}", "6: readinessProbe.httpGet.scheme: found 'https'; expected one of HTTP, HTTPS (the nearest is HTTPS)"),
        ("readinessProbe: {httpGet: {port: 80, httpHeaders: [{name: 'a b', value: c}]}}", "6: readinessProbe.httpGet.httpHeaders[0].name: found 'a b'; expected a header's name"),
        ('readinessProbe: {httpGet: {port: 80, httpHeaders: [{name: a, value: "b\\nc"}]}}', "6: readinessProbe.httpGet.httpHeaders[0].value: found 'b'; expected one line of text"),
        ("readinessProbe: {exec: {command: []}}", "6: readinessProbe.exec.command: found an empty list; expected a list of text"),
        ("readinessProbe: {exec: {command: curl}}", "6: readinessProbe.exec.command: found 'curl'; expected a list"),
        ("readinessProbe: 3", "6: readinessProbe: found 3; expected a mapping"),
        ("readinesProbe:\n  httpGet: {port: 80}", "6: readinesProbe: unknown field; the nearest is readinessProbe"),
        ("readinessProbe:\n  httpGet: {port: 80}\n  periodSecond: 1", "8: readinessProbe.periodSecond: unknown field; the nearest is periodSeconds"),
        ("lifecycle: {preStop: {sleep: {}}}", "6: lifecycle.preStop.sleep: seconds is missing; expected a whole number"),
        ("lifecycle: {preStop: {}}", "6: lifecycle.preStop: found none of them; expected one of exec, httpGet, sleep, tcpSocket"),
        ("lifecycle: {stopSignal: TERM}", "6: lifecycle.stopSignal: found 'TERM'; expected a signal's name, such as SIGTERM"),
        ("lifecycle: {stopsignal: SIGINT}", "6: lifecycle.stopsignal: unknown field; the nearest is stopSignal"),
        ("env: [{name: PORT, value: 8000}]", "6: env[0].value: found 8000; expected text (put it in quotes)"),
        ("env: [{name: DEBUG, value: yes}]", "6: env[0].value: found yes; expected text (put it in quotes)"),
        ("env: [{value: a}]", "6: env[0]: name is missing; expected the variable's name"),
        ("env: [{name: 'A=B', value: a}]", "6: env[0].name: found 'A=B'; expected a variable's name"),
        ("env: {PORT: 8000}", "6: env: found a mapping; expected a list"),
        ("ports: [{containerPort: '8000'}]", "6: ports[0].containerPort: found '8000'; expected a whole number from 1 to 65535"),
        ("ports: [{port: 8000}]", "6: ports[0].port: unknown field; expected one of containerPort, hostIP, hostPort, name, protocol"),
        ("args: [x]", "5: command is missing; expected one, as the image's own is not known here: write it into the manifest, or after --"),
        ("command: serve", "6: command: found 'serve'; expected a list"),
        ("command: [serve, 8000]", "6: command[1]: found 8000; expected text (put it in quotes)"),
        ("command: [serve, ~]", "6: command[1]: found nothing; expected text"),
        ("zzz: 1", "6: zzz: unknown field; expected one of args, command, env, envFrom, image, imagePullPolicy, lifecycle, livenessProbe, name, ports, readinessProbe, resizePolicy, resources, restartPolicy, restartPolicyRules, securityContext, startupProbe, stdin, stdinOnce, terminationMessagePath, terminationMessagePolicy, tty, volumeDevices, volumeMounts, workingDir"),
    ],
)  # fmt: skip
def test_what_is_refused_in_a_container(container: str, problem: str) -> None:
    assert refused(container) == problem


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ("terminationGracePeriodSeconds: -1", "7: spec.terminationGracePeriodSeconds: found -1; expected a whole number of at least 0"),
        ("terminationGracePeriodSeconds: 30s", "7: spec.terminationGracePeriodSeconds: found '30s'; expected a whole number of at least 0"),
        ("terminationGracePeriod: 30", "7: spec.terminationGracePeriod: unknown field; the nearest is terminationGracePeriodSeconds"),
        ("restartPolicy: onfailure", "7: spec.restartPolicy: found 'onfailure'; expected one of Always, OnFailure, Never (the nearest is OnFailure)"),
        ("restartPolicy: []", "7: spec.restartPolicy: found an empty list; expected one of Always, OnFailure, Never"),
        ("initContainers: [{name: a, comand: [a]}]", "7: spec.initContainers[0].comand: unknown field; the nearest is command"),
    ],
)  # fmt: skip
def test_what_is_refused_in_a_pod(spec: str, problem: str) -> None:
    assert refused("command: [a]", spec) == problem


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("kind: Deployment", "1: spec is missing; expected what a Deployment is to be"),
        ("kind: Deployment\nspec: {replicas: 1}", "2: spec: template is missing; expected a pod"),
        ("kind: Deployment\nspec: {template: {}}", "2: spec.template: spec is missing; expected a pod's"),
        ("kind: Deployment\nspec: {template: {spec: {containers: []}}}", "2: spec.template.spec.containers: found an empty list; expected at least one container"),
        ("kind: Deployment\nspec: {template: {spec: {containers: [{image: a}]}}}", "2: name is missing; expected a name"),
        ("kind: Deployment\nspec: {replica: 1, template: {}}", "2: spec.replica: unknown field; the nearest is replicas"),
        ("kind: Deployment\nspec: {replicas: 0, template: {spec: {containers: [{name: a, command: [a]}]}}}", "2: spec.replicas: found 0; expected a whole number of at least 1"),
        ("kind: Deployment\nspec: {template: {spec: {restartPolicy: Never, containers: [{name: a, command: [a]}]}}}", "2: spec.template.spec.restartPolicy: found 'Never'; expected one of Always"),
        ("kind: Deployment\nspek: {}", "2: spek: unknown field; the nearest is spec"),
        ("kind: Service\n---\nkind: CronJob", "1: found Service, CronJob; expected one of Deployment, StatefulSet, DaemonSet, Pod"),
        ("kind: List\nitems: [{kind: List, items: []}]", "1: found List; expected one of Deployment, StatefulSet, DaemonSet, Pod"),
        ("kind: 3", "1: kind: found 3; expected text (put it in quotes)"),
    ],
)  # fmt: skip
def test_what_is_refused_in_a_workload(text: str, problem: str) -> None:
    with pytest.raises(ManifestError) as caught:
        loaded(text)
    assert str(caught.value) == f"standard input:{problem}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$(A)$(B)", "1$(B)"),
        ("$$(A) $$A $$$(A)", "$(A) $A $1"),
        ("$A $( $()", "$A $( $()"),
        ("$($(A))", "$(1)"),
    ],
)
def test_expansion(text: str, expected: str) -> None:
    assert expanded(text, {"A": "1"}) == expected
