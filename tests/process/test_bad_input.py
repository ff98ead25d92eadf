"""What cannot work: one clear line, the traceback where it is the user's code, the right exit code, nothing
kept.
"""

from __future__ import annotations

import re
import signal
import socket
from pathlib import Path

import pytest

from tests.process.service import WHOLE_TIMELINE, Client, Launch, Service

pytestmark = pytest.mark.contract

HALF = """
from served import *

@runtime.resource
async def broker():
    {body}
"""


def said_once(service: Service, pattern: str) -> bool:
    """One line for people says it; the structured report that the app prints at exit is not one."""
    lines = [line for line in service.output.splitlines() if not line.startswith("report ")]
    return sum(1 for line in lines if re.search(pattern, line)) == 1


@pytest.mark.parametrize(
    ("app", "said"),
    [
        ("nowhere:app", "nowhere"),
        ("served:nothing", "nothing"),
        ("served", "<module>:<attribute>|MODULE:APP"),
        ("unfinished:app", "SyntaxError"),
        ("importing:app", "ModuleNotFoundError|No module named"),
    ],
)
def test_an_app_that_cannot_be_imported(launch: Launch, app: str, said: str) -> None:
    launch.write("unfinished", "def (\n")
    launch.write("importing", "import not_installed_here\n")
    service = launch.owned(app)
    assert service.exit_code() == 1, service.output
    service.wait_for(said)
    assert "acquired" not in service.output


def test_an_app_that_exits_while_it_is_imported(launch: Launch) -> None:
    launch.write("leaving", "import sys\nsys.exit(3)\n")
    assert launch.owned("leaving:app").exit_code() == 1


def test_a_port_in_use(launch: Launch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        service = launch.owned("served:wrapped", "--port", str(port))
        assert service.exit_code() == 1, service.output
    assert said_once(service, f"cannot listen on 127.0.0.1:{port}: .*in use")
    service.wait_for("^released database")
    service.wait_for("^lifespan shutdown")
    assert "Traceback" not in service.output


def test_a_privileged_or_foreign_address(launch: Launch) -> None:
    service = launch.owned("served:wrapped", "--host", "203.0.113.1")
    assert service.exit_code() == 1, service.output
    assert said_once(service, "cannot listen on 203.0.113.1:0: ")
    service.wait_for("^released database")


def test_a_unix_socket_that_somebody_answers_at(launch: Launch, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    first = launch.owned("served:wrapped", "--uds", str(path), "--lame-duck", "0")
    first.wait_for("Uvicorn running on unix socket")
    service = launch.owned("served:wrapped", "--uds", str(path))
    assert service.exit_code() == 1, service.output
    assert said_once(service, f"cannot listen on unix socket {path}: another process is listening there")
    service.wait_for("^released database")
    with Client(path) as client:
        assert client.get().body == b"hello"
    first.terminate()
    assert first.exit_code() == 0
    assert not path.exists()


def test_a_unix_socket_path_that_is_a_file(launch: Launch, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("precious")
    service = launch.owned("served:wrapped", "--uds", str(path))
    assert service.exit_code() == 1, service.output
    assert said_once(service, f"cannot listen on unix socket {path}")
    assert path.read_text() == "precious"


@pytest.mark.parametrize("content", [None, "no certificate"], ids=["missing", "nonsense"])
def test_a_bad_certificate(launch: Launch, tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "certificate.pem"
    if content is not None:
        path.write_text(content)
        service = launch.owned("served:wrapped", "--ssl-certfile", str(path), "--ssl-keyfile", str(path))
    else:
        service = launch.owned("served:wrapped", "--ssl-certfile", str(path))
    assert service.exit_code() == 1, service.output
    service.wait_for("certificate|PEM")
    assert "acquired" not in service.output
    assert "Traceback" not in service.output


@pytest.mark.parametrize("how", ["owned", "adopted"])
def test_an_app_that_raises_in_startup(launch: Launch, how: str) -> None:
    launch.write(
        "failing",
        """
from starlette.applications import Starlette
from contextlib import asynccontextmanager
from served import *

@asynccontextmanager
async def lifespan(app):
    raise RuntimeError("no way forward")
    yield

wrapped = runtime.wrap(Starlette(lifespan=lifespan))
""",
    )
    service = getattr(launch, how)("failing:wrapped")
    code = service.exit_code()
    assert code == 1 if how == "owned" else code != 0, service.output
    service.wait_for("RuntimeError: no way forward")
    service.wait_for(r"failing.py\", line \d+, in lifespan")
    service.wait_for("^released database")
    assert service.phases == ["releasing", "stopped"]
    assert "Uvicorn running" not in service.output


@pytest.mark.parametrize("http", ["h11", "httptools"])
@pytest.mark.parametrize("how", ["owned", "adopted"])
def test_an_app_that_raises_in_the_middle_of_a_response(launch: Launch, how: str, http: str) -> None:
    service = getattr(launch, how)("served:wrapped", "--http", http, "--lame-duck", "0")
    port = service.port()
    with Client(port) as client:
        response = client.get("/boom")
        assert (response.status, response.whole) == (200, False)
    service.wait_for("RuntimeError: in the middle")
    with Client(port) as client:
        assert client.get().body == b"hello"
    service.terminate()
    assert service.exit_code() == (0 if how == "owned" else -signal.SIGTERM)
    assert service.phases == WHOLE_TIMELINE


@pytest.mark.parametrize("how", ["owned", "adopted"])
@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("raise ConnectionError('no broker there')\n    yield", "no broker there"),
        ("return\n    yield", "broker"),
    ],
    ids=["raises", "yields nothing"],
)
def test_a_resource_that_cannot_be_acquired(launch: Launch, how: str, body: str, said: str) -> None:
    launch.write("failing", HALF.format(body=body))
    service = getattr(launch, how)("failing:wrapped")
    code = service.exit_code()
    assert code == 1 if how == "owned" else code != 0, service.output
    service.wait_for(said)
    service.wait_for("^released database")
    assert "lifespan startup" not in service.output
    assert service.phases == ["releasing", "stopped"]


def test_a_resource_that_hangs_has_its_timeout(launch: Launch) -> None:
    launch.write(
        "failing",
        "import asyncio\nfrom served import *\n@runtime.resource(timeout=0.3)\nasync def broker():\n"
        "    yield\n    await asyncio.Event().wait()\n",
    )
    service = launch.owned("failing:wrapped", "--lame-duck", "0")
    service.port()
    service.terminate()
    assert service.exit_code() == 75, service.output
    service.wait_for("broker TIMED OUT after 0.3")
    service.wait_for("^released database")


def test_a_check_that_returns_nonsense(launch: Launch) -> None:
    launch.write(
        "checking",
        "from served import *\n@runtime.readiness_check\ndef nonsense():\n    return 'fine'\n"
        "@runtime.readiness_check\nasync def raising():\n    raise RuntimeError('not today')\n",
    )
    service = launch.owned("checking:wrapped", "--lame-duck", "0")
    with Client(service.port()) as client:
        for _ in range(2):
            response = client.get("/ready")
            assert (response.status, response.body) == (503, b"not ready")
        assert client.get("/healthz").status == 200
    assert said_once(service, "nonsense.*'fine'")
    service.wait_for("not today")
    service.terminate()
    assert service.exit_code() == 0


@pytest.mark.parametrize(
    ("option", "variable", "value"),
    [
        ("--lame-duck", "GRACEFUL_LAME_DUCK", "soon"),
        ("--lame-duck", "GRACEFUL_LAME_DUCK", "-1"),
        ("--grace-period", "GRACEFUL_GRACE_PERIOD", "nan"),
        ("--drain-timeout", "GRACEFUL_DRAIN_TIMEOUT", "inf"),
        ("--lame-duck", "GRACEFUL_LAME_DUCK", "40"),
    ],
)
def test_a_setting_that_cannot_be_meant(launch: Launch, option: str, variable: str, value: str) -> None:
    field = option.removeprefix("--").replace("-", "_")
    for service in (
        launch.owned("served:wrapped", f"{option}={value}"),
        launch.owned("served:wrapped", environment={variable: value}),
    ):
        assert service.exit_code() == 2, service.output
        assert said_once(service, f"{field}: found '?{value}")
        assert "acquired" not in service.output
        assert "Traceback" not in service.output


@pytest.mark.parametrize(
    "arguments", [[], ["served:wrapped", "--no-such-option"], ["served:wrapped", "--port", "x"]]
)
def test_wrong_usage(launch: Launch, arguments: list[str]) -> None:
    service = launch.python("-m", "graceful", "run", *arguments)
    assert service.exit_code() == 2, service.output
    assert "Traceback" not in service.output


@pytest.mark.parametrize("value", ["x", "99999", "-1"])
def test_a_bad_port_of_the_platform(launch: Launch, value: str) -> None:
    service = launch.owned("served:wrapped", environment={"PORT": value})
    assert service.exit_code() == 2, service.output
    assert said_once(service, "PORT")


def test_a_second_runtime_that_wants_the_signals(launch: Launch) -> None:
    launch.write(
        "second",
        "from served import *\nother = Runtime()\nimport asyncio\n@runtime.resource\nasync def second():\n"
        "    try:\n        await other.serve(bare, port=0)\n    except Exception as problem:\n"
        "        say(f'second: {problem}')\n    yield\n",
    )
    service = launch.owned("second:wrapped", "--lame-duck", "0")
    service.wait_for("^second: .*another Runtime")
    service.port()
    service.terminate()
    assert service.exit_code() == 0, service.output
    assert service.phases == WHOLE_TIMELINE
