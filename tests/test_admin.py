"""The admin port in this process: what it listens on and answers, and that it goes."""

from __future__ import annotations

import contextlib
import http.client
import logging
import socket
import threading
from collections.abc import Iterator
from queue import SimpleQueue
from typing import Any

import pytest

from graceful.checks import Checks
from graceful.errors import ListenError, SettingsError
from graceful.platforms import PROFILES
from graceful.servers.admin import AdminPort
from graceful.servers.lookout import AppAddress, BeforeTheApp, Lookout
from graceful.settings import Settings, resolve

LOOPBACK = AppAddress(host="127.0.0.1", port=None)


def settings(**arguments: object) -> Settings:
    return resolve({"admin_port": 0, **arguments}, environ={}, platform=PROFILES["unknown"])


def before(**arguments: object) -> BeforeTheApp:
    return BeforeTheApp(settings=settings(**arguments))


@pytest.fixture
def lookout() -> Iterator[Lookout]:
    lookout = Lookout()
    yield lookout
    lookout.close()


def listener(lookout: Lookout) -> socket.socket:
    assert lookout._port is not None
    assert lookout._port._listener is not None
    return lookout._port._listener


def get(lookout: Lookout, path: str, method: str = "GET") -> tuple[int, str]:
    host, port, *_ = listener(lookout).getsockname()
    connection = http.client.HTTPConnection(host, port, timeout=20)
    connection.request(method, path)
    response = connection.getresponse()
    answer = response.status, response.read().decode()
    connection.close()
    return answer


def test_it_answers_before_there_is_an_app(lookout: Lookout, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "graceful")
    lookout.open(before(), Checks(), LOOPBACK)
    assert lookout.is_open
    port = listener(lookout).getsockname()[1]
    assert f"probes are answered on http://127.0.0.1:{port}" in caplog.text
    assert get(lookout, "/healthz") == (200, "ok")
    assert get(lookout, "/ready") == (503, "starting")
    assert get(lookout, "/ready", "HEAD") == (503, "")
    assert get(lookout, "/ready", "POST")[0] == 405
    assert get(lookout, "/other") == (404, "not found")
    assert get(lookout, "/metrics")[0] == 200


def test_it_stays_open_for_whoever_comes_next(lookout: Lookout) -> None:
    lookout.open(before(), Checks(), LOOPBACK)
    port = listener(lookout).getsockname()[1]
    kept = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    kept.request("GET", "/ready")
    assert kept.getresponse().read() == b"starting"
    lookout.open(before(ready_path="/readyz"), Checks(), LOOPBACK)
    kept.request("GET", "/readyz")
    assert kept.getresponse().read() == b"starting"
    kept.close()
    assert listener(lookout).getsockname()[1] == port
    lookout.open(before(admin_host="::1"), Checks(), LOOPBACK)
    assert listener(lookout).getsockname()[0] == "::1"
    assert get(lookout, "/ready") == (503, "starting")
    lookout.open(before(admin_port=""), Checks(), LOOPBACK)
    assert not lookout.is_open


def test_nobody_listens_when_it_is_closed(lookout: Lookout) -> None:
    lookout.open(before(), Checks(), LOOPBACK)
    address = listener(lookout).getsockname()
    with socket.create_connection(address, timeout=20) as open_one:
        assert get(lookout, "/healthz") == (200, "ok")
        lookout.close()
        lookout.close()
        assert not lookout.is_open
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address, timeout=20)
        with contextlib.suppress(ConnectionResetError):
            assert open_one.recv(1) == b""
    assert not [each for each in threading.enumerate() if each.name == "graceful-admin"]


def test_an_address_that_cannot_be_had(lookout: Lookout) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        taken = holder.getsockname()[1]
        with pytest.raises(ListenError) as found:
            lookout.open(before(admin_port=taken), Checks(), LOOPBACK)
        assert f"cannot listen on 127.0.0.1:{taken}, the admin port: Address already in use; stop" in str(
            found.value
        )
    for host in ("nobody.invalid", "x" * 300, "1::2::3"):
        with pytest.raises(ListenError, match="the admin port"):
            lookout.open(before(admin_host=host), Checks(), LOOPBACK)
    assert not lookout.is_open


def test_the_apps_own_port_is_refused(lookout: Lookout) -> None:
    with pytest.raises(SettingsError, match=r"^admin_port: found 8000; it is the app's own"):
        lookout.open(before(admin_port=8000), Checks(), AppAddress(host="127.0.0.1", port=8000))
    lookout.open(before(admin_port=0), Checks(), AppAddress(host="127.0.0.1", port=0))
    assert lookout.is_open


def test_a_client_that_talks_nonsense_is_not_logged(
    lookout: Lookout, caplog: pytest.LogCaptureFixture
) -> None:
    lookout.open(before(), Checks(), LOOPBACK)
    caplog.clear()
    with socket.create_connection(listener(lookout).getsockname(), timeout=20) as client:
        client.sendall(b"\x16\x03\x01 nonsense\r\n\r\n")
        assert client.recv(4096).startswith(b"HTTP/1.1 400")
    with socket.create_connection(listener(lookout).getsockname(), timeout=20) as client:
        client.sendall(b"GET /ready HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
        assert client.recv(4096).startswith(b"HTTP/1.1 503")
    assert caplog.records == []


def test_what_cannot_be_answered_is_500_and_logged_aside(lookout: Lookout) -> None:
    class Broken:
        async def answer(self, scope: Any, endpoint: str) -> Any:
            raise ZeroDivisionError

        def paths(self, root_path: str) -> dict[str, str]:
            return {"/metrics": "metrics"}

    logged: SimpleQueue[logging.LogRecord] = SimpleQueue()

    class Heard(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            logged.put(record)

    heard = Heard(logging.ERROR)
    logging.getLogger("graceful").addHandler(heard)
    lookout.open(before(), Checks(), LOOPBACK)
    assert lookout._port is not None
    lookout._port._probes = Broken()  # type: ignore[assignment]
    assert get(lookout, "/metrics") == (500, "internal server error")
    record = logged.get(timeout=20)
    logging.getLogger("graceful").removeHandler(heard)
    assert record.getMessage() == "the admin port could not answer /metrics"
    assert record.exc_info is not None
    assert record.exc_info[0] is ZeroDivisionError


def test_what_is_repeated_ends_when_it_says_so(lookout: Lookout) -> None:
    lookout.open(before(), Checks(), LOOPBACK)
    assert lookout._port is not None
    seen: list[int] = []
    ended = threading.Event()

    def look() -> bool:
        seen.append(threading.get_ident())
        if len(seen) == 3:
            ended.set()
        return len(seen) < 3

    lookout._port.repeat(look, 0.0)
    assert ended.wait(20)
    assert set(seen) != {threading.get_ident()}
    assert len(set(seen)) == 1


def test_one_that_was_never_opened_is_closed_already() -> None:
    port = AdminPort()
    port.close()
    port.forget()
    port.repeat(lambda: True, 1.0)
    assert not port.is_open


def test_without_a_port_nothing_is_watched() -> None:
    lookout = Lookout()
    lookout.watch_loop(lambda: False)
    assert (lookout.stall, lookout.stalls(0.0), lookout.is_open) == (None, False, False)
