"""What `graceful run` is told, by options, by the environment, and by the platform."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

import pytest

from tests.process.service import WHOLE_TIMELINE, Client, Launch, Service

pytestmark = pytest.mark.contract


def ends(service: Service, code: int = 0) -> None:
    service.terminate()
    assert service.exit_code() == code, service.output
    assert service.phases == WHOLE_TIMELINE


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("http", ["h11", "httptools"])
def test_probes_are_answered_when_the_concurrency_limit_is_reached(
    launch: Launch, loop: str, http: str
) -> None:
    service = launch.owned(
        "served:wrapped", "--lame-duck", "0", "--limit-concurrency", "2", "--loop", loop, "--http", http
    )
    port = service.port()
    with Client(port) as held:
        held.send("/hold", method="POST", body_to_come=4)
        service.wait_for("^holding")
        with Client(port) as other:
            assert other.get().status == 503
        for path in ("/healthz", "/ready"):
            with Client(port) as probe:
                response = probe.get(path)
                assert (response.status, response.body) == (200, b"ok")
        held.send_body(b"rest")
        assert held.receive().body == b"held rest"
    ends(service)


def test_root_path(launch: Launch) -> None:
    service = launch.owned("served:wrapped", "--lame-duck", "0", "--root-path", "/api")
    with Client(service.port()) as client:
        for path in ("/healthz", "/ready"):  # uvicorn puts the root path before what the client asks for
            assert client.get(path).body == b"ok"
        assert client.get("/other/healthz").body == b"hello"
    ends(service)


def test_a_unix_socket(launch: Launch, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))  # left behind by a process that is gone
    service = launch.owned("served:wrapped", "--lame-duck", "2", "--uds", str(path))
    service.wait_for("Uvicorn running on unix socket")
    with Client(path) as kept:
        assert kept.get("/ready").body == b"ok"
        service.terminate()
        service.wait_for("^phase lame_duck")
        assert kept.get().says_close
    assert service.exit_code() == 0
    assert service.phases == WHOLE_TIMELINE
    assert not path.exists()


def test_a_successors_unix_socket_is_left_alone(launch: Launch, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    service = launch.owned("served:wrapped", "--lame-duck", "0", "--uds", str(path))
    service.wait_for("^phase serving")
    path.unlink()
    with socket.socket(socket.AF_UNIX) as successor:
        successor.bind(str(path))
        ends(service)
        assert path.exists()


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_descriptor(launch: Launch, loop: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        service = launch.owned(
            "served:wrapped",
            "--lame-duck",
            "0",
            "--loop",
            loop,
            "--fd",
            str(listener.fileno()),
            pass_fds=[listener.fileno()],
        )
        with Client(listener.getsockname()[1]) as client:  # queued until somebody serves
            assert client.get().body == b"hello"
            ends(service)


def test_a_factory_in_another_folder(launch: Launch, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "made.py").write_text(
        "from served import *\ndef create_app():\n    say('made')\n    return wrapped\n"
    )
    service = launch.owned("made:create_app", "--factory", "--app-dir", str(folder), "--lame-duck", "0")
    with Client(service.port()) as client:
        assert client.get().body == b"hello"
    assert service.output.count("made") == 1
    ends(service)


def test_an_app_as_it_is_and_one_that_is_wrapped_are_the_same(launch: Launch) -> None:
    for app in ("served:bare", "served:wrapped"):
        service = launch.owned(app, "--lame-duck", "0")
        with Client(service.port()) as client:
            assert client.get("/ready").body == b"ok"
            assert client.get().body == b"hello"
        ends(service)
        assert service.output.count("acquired database") == 1
        assert service.output.count("lifespan startup") == 1


def test_an_app_without_lifespan(launch: Launch) -> None:
    launch.write(
        "plain",
        "from served import *\nasync def app(scope, receive, send):\n    assert scope['type'] == 'http'\n"
        "    await answer(send, b'plain')\nwrapped = runtime.wrap(app)\n",
    )
    service = launch.owned("plain:wrapped", "--lame-duck", "0")
    with Client(service.port()) as client:
        assert client.get().body == b"plain"
    ends(service)
    assert "released database" in service.output
    assert "Traceback" not in service.output


def test_lifespan_off(launch: Launch) -> None:
    """uvicorn's option is about the app's lifespan; ours goes on."""
    service = launch.owned("served:wrapped", "--lame-duck", "0", "--lifespan", "off")
    with Client(service.port()) as client:
        assert client.get().body == b"hello"
    ends(service)
    assert "lifespan startup" not in service.output
    assert "released database" in service.output


def test_lifespan_state_reaches_the_app(launch: Launch) -> None:
    launch.write(
        "stateful",
        """
from contextlib import asynccontextmanager
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from served import *

@asynccontextmanager
async def lifespan(app):
    yield {"colour": "green"}

async def colour(request):
    return PlainTextResponse(request.state.colour)

app = Starlette(routes=[Route("/", colour)], lifespan=lifespan)
wrapped = runtime.wrap(app)
""",
    )
    for service in (
        launch.owned("stateful:app"),
        launch.owned("stateful:wrapped"),
        launch.adopted("stateful:wrapped"),
    ):
        with Client(service.port()) as client:
            assert client.get().body == b"green"


def test_the_port_of_the_platform(launch: Launch) -> None:
    service = launch.owned("served:wrapped", "--lame-duck", "0", environment={"PORT": "0"})
    assert service.port() not in {0, 8000}
    ends(service)


def test_uvicorns_environment(launch: Launch, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    service = launch.owned(
        "served:wrapped", environment={"UVICORN_UDS": str(path), "GRACEFUL_LAME_DUCK": "0"}
    )
    service.wait_for(f"Uvicorn running on unix socket {path}")
    with Client(path) as client:
        assert client.get("/healthz").body == b"ok"
    ends(service)


def test_options_go_before_the_environment_before_the_code(launch: Launch) -> None:
    launch.write(
        "settled", "from served import *\nruntime._arguments = {'lame_duck': 0.1, 'ready_path': '/code'}\n"
    )
    service = launch.owned(
        "settled:wrapped",
        "--lame-duck",
        "0.3",
        environment={"GRACEFUL_LAME_DUCK": "0.2", "GRACEFUL_HEALTHZ_PATH": "/environment"},
    )
    with Client(service.port()) as client:
        assert client.get("/code").body == b"ok"
        assert client.get("/environment").body == b"ok"
        assert client.get("/ready").body == b"hello"
    ends(service)
    service.wait_for("SIGTERM: lame duck for 0.3 s")


def test_a_misspelt_variable_is_named(launch: Launch) -> None:
    service = launch.owned(
        "served:wrapped", environment={"GRACEFUL_LAME_DUK": "3", "GRACEFUL_LAME_DUCK": "0"}
    )
    service.port()
    service.wait_for("WARNING.*GRACEFUL_LAME_DUK.*GRACEFUL_LAME_DUCK")
    ends(service)


def test_a_service_link_of_kubernetes_is_no_setting(launch: Launch) -> None:
    service = launch.owned(
        "served:wrapped", environment={"GRACEFUL_ADMIN_PORT": "tcp://10.0.0.1:80", "GRACEFUL_LAME_DUCK": "0"}
    )
    service.port()
    service.wait_for("GRACEFUL_ADMIN_PORT")
    ends(service)


def test_tls(launch: Launch, tmp_path: Path) -> None:
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    issued = authority.issue_cert("localhost", "127.0.0.1")
    key, chain = tmp_path / "key.pem", tmp_path / "chain.pem"
    issued.private_key_pem.write_to_path(str(key))
    for certificate in issued.cert_chain_pems:
        certificate.write_to_path(str(chain), append=True)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    service = launch.owned(
        "served:wrapped", "--lame-duck", "2", "--ssl-keyfile", str(key), "--ssl-certfile", str(chain)
    )
    port = service.port()
    with Client(port) as kept, Client(port) as idle:
        for client in (kept, idle):
            client.socket = context.wrap_socket(client.socket, server_hostname="127.0.0.1")
            assert client.get().body == b"hello"
        service.terminate()
        service.wait_for("^phase lame_duck")
        assert kept.get().says_close
        assert idle.closed()
    assert service.exit_code() == 0, service.output
    assert service.phases == WHOLE_TIMELINE
