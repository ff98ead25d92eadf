"""docker or podman, by its command."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from demo.images.cases import Case
from demo.images.client import NotReadyError, wait_for
from demo.images.trial import PlaceError, Stopped
from graceful.rehearse.running import free_port

NAMES: Final = ("docker", "podman")

_SECONDS: Final = 60.0
_BUILD_SECONDS: Final = 900.0
_PULL_SECONDS: Final = 600.0
_SPARE_SECONDS: Final = 60.0
_CLEAR_SECONDS: Final = 20.0
_EXPOSED: Final = 8000
_REACH_SECONDS: Final = 10.0
_LISTEN: Final = """\
import os, http.server
class Here(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"here")
http.server.HTTPServer(("0.0.0.0", int(os.environ.get("PORT", "8000"))), Here).serve_forever()
"""
_CMDLINE: Final = "import sys; sys.stdout.buffer.write(open('/proc/1/cmdline', 'rb').read())"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What to build: a Dockerfile of the context, up to a `stage` of it if one is named, with no network in
    reach where it is `offline`.
    """

    name: str
    file: str
    arguments: Mapping[str, str]
    offline: bool
    stage: str = ""


class Engine:
    """An engine that answers. What it builds, imports and runs carries a mark of its own, and is gone after
    `close`; what it has pulled stays, as it would after any `run`.
    """

    def __init__(self, name: str, *, environment: Mapping[str, str] | None = None, network: str = "") -> None:
        self.name = name
        self.network = network
        self.version = ""
        self.closed = False
        self._mark = f"graceful-images-{secrets.token_hex(4)}"
        # The classic builder keeps images, which can be removed; BuildKit a cache that others use too.
        self._environment = {**os.environ, "DOCKER_BUILDKIT": "0", **(environment or {})}
        self._stopping: set[subprocess.Popen[bytes]] = set()
        self._tags: list[str] = []
        self._containers: list[str] = []

    def tag(self, name: str) -> str:
        """The name under which this engine knows an image of ours."""
        return f"{self._mark}:{name}"

    def call(
        self,
        *arguments: str,
        seconds: float = _SECONDS,
        stdin: IO[bytes] | None = None,
        both: bool = False,
    ) -> str:
        """What the engine's command prints, to standard error as well where `both` are wanted. Raises
        PlaceError with its last words.
        """
        with subprocess.Popen(
            [self.name, *arguments],
            env=self._environment,
            stdin=stdin or subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if both else subprocess.PIPE,
        ) as process:
            if arguments[0] == "stop":
                self._stopping.add(process)
            try:
                out, err = (text or b"" for text in process.communicate(timeout=seconds))
            except subprocess.TimeoutExpired as problem:
                message = f"{self.name} {arguments[0]}: not done within {seconds:g} s"
                raise PlaceError(message) from problem
            finally:
                self._stopping.discard(process)
                _end(process)
        if process.returncode != 0:
            words = (err.strip() or out.strip()).decode(errors="replace")
            message = f"{self.name} {arguments[0]}: {_last_line(words)}"
            raise PlaceError(message)
        return out.decode(errors="replace")

    def answers(self) -> bool:
        """Whether there is an engine behind the command, with its version in `version`."""
        part = ".Server.Version" if self.name == "docker" else ".Client.Version"
        with contextlib.suppress(PlaceError):
            self.version = self.call("version", "--format", f"{{{{{part}}}}}").strip()
            self.call("info")
        return bool(self.version)

    def has(self, image: str) -> bool:
        """Whether the image is there, or can be pulled."""
        with contextlib.suppress(PlaceError):
            self.call("image", "inspect", image)
            return True
        with contextlib.suppress(PlaceError):
            self.call("pull", "-q", image, seconds=_PULL_SECONDS)
            return True
        return False

    def add(self, name: str, archive: Path) -> str:
        """The tag of an image made of a tar archive."""
        tag = self.tag(name)
        self._tags.append(tag)
        with archive.open("rb") as stream:
            self.call("import", "--change", "ENV PATH=/usr/local/bin:/usr/bin:/bin", "-", tag, stdin=stream)
        return tag

    def settle(self, image: str) -> None:
        """`image` runs here, and what listens in it can be reached: by a published port, else on the host's
        network. Raises PlaceError.
        """
        for network in (self.network,) if self.network else ("", "host"):
            self.network = network
            port = free_port()
            options, command = self._reach(port), ["python", "-c", _LISTEN]
            with self._started("trial", image, options, command), contextlib.suppress(NotReadyError):
                wait_for(port, "/", "here", within=_REACH_SECONDS)
                return
        message = f"{self.name} runs {image}, but nothing that listens in it can be reached"
        raise PlaceError(message)

    def build(self, context: Path, recipe: Recipe) -> str:
        """The tag of the image that comes of it."""
        tag = self.tag(recipe.name)
        self._tags.append(tag)
        given = [
            word for key, value in recipe.arguments.items() for word in ("--build-arg", f"{key}={value}")
        ]
        network = "none" if recipe.offline else self.network
        reach = ["--network", network] if network else []
        own = ["--pull=never", "--format", "docker"] if self.name == "podman" else []
        target = ["--target", recipe.stage] if recipe.stage else []
        file = str(context / recipe.file)
        self.call(
            *("build", *own, *reach, *target, *given, "-f", file, "-t", tag, str(context)),
            seconds=_BUILD_SECONDS,
        )
        return tag

    def size(self, image: str) -> int:
        """Of all its layers, in bytes."""
        return int(self.call("image", "inspect", "--format", "{{.Size}}", image))

    @contextlib.contextmanager
    def start(self, case: Case, environment: dict[str, str]) -> Iterator[Container]:
        """A container of the case's image, which is gone when the block is left. Raises PlaceError."""
        port = free_port()
        given = [word for key, value in environment.items() for word in ("-e", f"{key}={value}")]
        init = ["--init"] if case.init else []
        with self._started(case.name, self.tag(case.name), [*init, *self._reach(port), *given], []) as name:
            yield Container(self, name, port)

    @contextlib.contextmanager
    def _started(self, name: str, image: str, options: list[str], command: list[str]) -> Iterator[str]:
        container = f"{self._mark}-{name}"
        self._containers.append(container)
        try:
            self.call("run", "-d", "--name", container, *options, image, *command)
            yield container
        finally:
            self._remove(container)

    def _reach(self, port: int) -> list[str]:
        """So that what listens on $PORT in the container, or on 8000 without it, is `port` on the host's
        loopback.
        """
        if self.network:
            return ["--network", self.network, "-e", f"PORT={port}"]
        return ["-p", f"127.0.0.1:{port}:{_EXPOSED}"]

    def _remove(self, container: str) -> None:
        for words in (("kill", container), ("rm", "-f", container)):  # rm alone waits for the grace period
            with contextlib.suppress(PlaceError):  # it has ended, or never begun
                self.call(*words)

    def close(self) -> None:
        """Containers and images of ours are gone. May be called while others still use them."""
        self.closed = True
        for process in list(self._stopping):
            process.kill()  # podman's `stop` holds a lock that our `kill` would wait for
        for container in self._containers:
            self._remove(container)
        for tag in reversed(self._tags):
            with contextlib.suppress(PlaceError):  # it has not been built
                self.call("rmi", "-f", tag)
        self._containers, self._tags = [], []


class Container:
    """One that runs."""

    def __init__(self, engine: Engine, name: str, port: int) -> None:
        self._engine = engine
        self.name = name
        self.port = port

    def pid1(self) -> tuple[str, ...]:
        """From inside, by a Python beside the service."""
        shown = self._engine.call("exec", self.name, "python", "-c", _CMDLINE)
        return tuple(shown.rstrip("\0").split("\0"))

    def ended(self) -> bool:
        """By itself."""
        return self._engine.call("inspect", "--format", "{{.State.Running}}", self.name).strip() != "true"

    def stop(self, grace: float) -> Stopped:
        """`stop -t`, with the time that the command took."""
        began = time.monotonic()
        self._engine.call("stop", "-t", f"{grace:.0f}", self.name, seconds=grace + _SPARE_SECONDS)
        seconds = time.monotonic() - began
        state = json.loads(self._engine.call("inspect", "--format", "{{json .State}}", self.name))
        return Stopped(code=int(state["ExitCode"]), seconds=seconds)

    def output(self) -> str:
        """What the engine has collected of both streams."""
        return self._engine.call("logs", self.name, both=True)


def find(names: tuple[str, ...] = NAMES) -> Engine | None:
    """The first that answers."""
    for name in names:
        if shutil.which(name):
            engine = Engine(name)
            if engine.answers():
                return engine
    return None


def _end(process: subprocess.Popen[bytes]) -> None:
    """It has ended, with time to clear away what it had begun."""
    process.terminate()
    try:
        process.wait(_CLEAR_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()


def _last_line(text: str) -> str:
    return text.splitlines()[-1] if text else "it said nothing"
