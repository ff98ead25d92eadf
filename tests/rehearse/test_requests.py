"""What users write of a load."""

from __future__ import annotations

from pathlib import Path

import pytest

from graceful.rehearse.model import Hold, HoldKind, RequestSpec
from graceful.rehearse.requests import RequestError, hold_of, request_of, requests_in


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("/", RequestSpec()),
        ("GET /slow?seconds=1", RequestSpec(path="/slow?seconds=1")),
        ("POST /upload 64KiB", RequestSpec(method="POST", path="/upload", body_bytes=65536)),
        ("PUT /x 2MiB *0.5", RequestSpec(method="PUT", path="/x", body_bytes=2097152, weight=0.5)),
    ],
)
def test_a_request(text: str, found: RequestSpec) -> None:
    assert request_of(text) == found


@pytest.mark.parametrize(
    "text",
    [
        *("", "get /", "GET", "POST / 65MiB", "GET / *0", "GET / 1KB"),
        *("GET /\u00e9", "CONNECT /", f"GET / *{9**400}"),
    ],
)
def test_no_request(text: str) -> None:
    with pytest.raises(RequestError, match=r"^found .*; expected"):
        request_of(text)


def test_a_file_of_requests(tmp_path: Path) -> None:
    path = tmp_path / "requests"
    path.write_text("# of users\n\nGET /\nPOST /echo 1KiB\n")
    assert [each.kind for each in requests_in(str(path))] == ["GET /", "POST /echo"]
    path.write_text("GET /\nnonsense\n")
    with pytest.raises(RequestError, match=r"requests:2: found 'nonsense'"):
        requests_in(str(path))
    path.write_text("# none\n")
    with pytest.raises(RequestError, match="found no request"):
        requests_in(str(path))


def test_a_hold() -> None:
    assert hold_of("events:/feed*3") == Hold(kind=HoldKind.EVENTS, path="/feed", count=3)
    with pytest.raises(RequestError, match="found 'stream:/\u00e9'"):
        hold_of("stream:/\u00e9")
    assert hold_of("websocket:/chat") == Hold(kind=HoldKind.WEBSOCKET, path="/chat")
