"""Redirects, as the kubelet: followed on the same host, elsewhere not, and healthy there."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from tests.probe.server import OK, PATIENT, Run, Serve, http, moved, unix_listener


@pytest.mark.parametrize("status", ["301 x", "302 x", "303 x", "307 x", "308 x"])
def test_a_redirect_on_the_same_host_is_followed(serve: Serve, run: Run, status: str) -> None:
    server = serve(b"")
    server.answer(
        moved("login?next=1", status), moved(server.url("/third"), status), http("503 No", b"lame duck")
    )
    assert run(PATIENT, server.url("/a/first")) == (1, "503 lame duck\n")
    paths = [heard.split()[1] for heard in server.heard]
    assert paths == ["/a/first", "/a/login?next=1", "/third"]


def test_a_redirect_to_https_is_followed(serve: Serve, run: Run, self_signed: ssl.SSLContext) -> None:
    secure = serve(OK, context=self_signed)
    assert run(PATIENT, serve(moved(secure.url("/ready", scheme="https"))).url()) == (0, "")
    assert len(secure.heard) == 1


def test_a_redirect_over_a_unix_socket_stays_there(serve: Serve, run: Run, short_path: Path) -> None:
    path = short_path / "app.sock"
    server = serve(b"", listener=unix_listener(path))
    server.answer(moved("/second"), moved("http://localhost/third"), OK)
    assert run(PATIENT, f"http+unix://{str(path).replace('/', '%2F')}/first") == (0, "")
    assert [heard.split()[1] for heard in server.heard] == ["/first", "/second", "/third"]


def test_a_redirect_to_another_host_is_healthy_with_a_warning(serve: Serve, run: Run) -> None:
    server = serve(moved("https://sso.example.test/login"))
    warning = "302 to https://sso.example.test/login: not followed; healthy, as it is for the kubelet\n"
    assert run(PATIENT, server.url()) == (0, warning)
    assert run(PATIENT, "--quiet", server.url()) == (0, "")


@pytest.mark.parametrize("status", ["300 Multiple Choices", "302 Found", "304 Not Modified"])
def test_a_redirect_to_nowhere_is_healthy_with_a_warning(serve: Serve, run: Run, status: str) -> None:
    warning = f"{status[:3]} to nowhere: not followed; healthy, as it is for the kubelet\n"
    assert run(PATIENT, serve(http(status)).url()) == (0, warning)


def test_redirects_in_a_circle_end(serve: Serve, run: Run) -> None:
    server = serve(b"")
    server.answer(moved("/again"))
    why = f"stopped after 10 redirects, the last one to {server.url('/again')}\n"
    assert run(PATIENT, server.url()) == (1, why)
    assert len(server.heard) == 10


@pytest.mark.parametrize("location", ["ftp://127.0.0.1/", "http://[::1/", "http://127.0.0.1:99999/", "/a b"])
def test_a_redirect_that_nobody_could_follow(serve: Serve, run: Run, location: str) -> None:
    why = f"302 to {location}; expected an http:// or https:// URL\n"
    assert run(PATIENT, serve(moved(location)).url()) == (1, why)
