"""What counts as healthy, and what is said of the rest."""

from __future__ import annotations

import pytest

from graceful.cli.probe_answer import SHOWN
from tests.probe.server import OK, PATIENT, Run, Serve, http


@pytest.mark.parametrize(
    "answer",
    [
        OK,
        http("204 No Content", framed=False) + b"no body belongs here",
        b"HTTP/1.0 200 OK\r\n\r\nuntil the connection is closed",
        b"HTTP/1.1 200\n\n",
        http("100 Continue", framed=False) + http("103 Early Hints", b"", "Link: </x>", framed=False) + OK,
        http(
            "200 OK",
            b"2;name=value\r\nok\r\n0\r\nTrailer: x\r\n\r\n",
            "Transfer-Encoding: chunked",
            framed=False,
        ),
        http("200 OK", b"", "Content-Length: 000", framed=False),
    ],
)
def test_whole_answers_from_200_to_299_are_healthy_and_say_nothing(
    serve: Serve, run: Run, answer: bytes
) -> None:
    assert run(PATIENT, serve(answer).url()) == (0, "")


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (
            http("503 Service Unavailable", b"lame duck\n", "Content-Type: text/plain; charset=utf-8"),
            "503 lame duck",
        ),
        (http("503 Service Unavailable", b"lame duck\n"), "503 lame duck"),
        (http("503 Service Unavailable", b"\n"), "503 Service Unavailable"),
        (http("404 Not Found", b"<html>", "Content-Type: text/html"), "404 Not Found"),
        (http("500", b"{}", "Content-Type: application/json"), "500"),
        (http("400 Bad Request"), "400 Bad Request"),
        (http("101 Switching Protocols", framed=False), "101 Switching Protocols"),
        (http("600 What"), "600 What"),
        (http("503 No", b"half", "Content-Length: 100", framed=False), "503 No"),
        (http("503 No", "not ready: \u044f".encode()), "503 not ready: \u044f"),
        (http("503 No", b"\x1b[2Jred\x00\x85forged: line"), "503 \\x1b[2Jred\\x00\ufffdforged: line"),
        (http("503 No", b"x" * 5000), f"503 {'x' * (SHOWN - 4)}\u2026"),
        (b"", "the connection was closed without an answer"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "found 'SSH-2.0-OpenSSH_9.2\\r\\n', expected an answer of HTTP/1.1"),
        (b"HTTP/2 200 OK\r\n\r\n", "found 'HTTP/2 200 OK\\r\\n\\r\\n', expected an answer of HTTP/1.1"),
        (b"HTTP/1.1 OK\r\n\r\n", "found the status line 'HTTP/1.1 OK', expected a status of three digits"),
        (
            b"HTTP/1.1 2x0 OK\r\n\r\n",
            "found the status line 'HTTP/1.1 2x0 OK', expected a status of three digits",
        ),
        (b"HTTP/1.1 200 OK\r\nServer: x", "the connection was closed in the middle of the answer"),
        (
            http("200 OK", b"half", "Content-Length: 100", framed=False),
            "the connection was closed in the middle of the body: 96 bytes are missing",
        ),
        (
            http("200 OK", b"", "Content-Length: 1e3", framed=False),
            "found the Content-Length '1e3', expected a number of bytes",
        ),
        (
            http("200 OK", b"", f"Content-Length: {'9' * 5000}", framed=False),
            f"found the Content-Length '{'9' * SHOWN}\u2026', expected a number of bytes",
        ),
        (
            http("200 OK", b"4\r\nha", "Transfer-Encoding: chunked", framed=False),
            "the connection was closed in the middle of the body: 2 bytes are missing",
        ),
        (
            http("200 OK", b"-5\r\n", "Transfer-Encoding: chunked", framed=False),
            "found the chunk size '-5', expected a hexadecimal number",
        ),
        (
            http("200 OK", b"2\r\nok\r\n", "Transfer-Encoding: chunked", framed=False),
            "the connection was closed in the middle of the answer",
        ),
    ],
)
def test_anything_else_is_unhealthy_and_one_line_says_why(
    serve: Serve, run: Run, answer: bytes, why: str
) -> None:
    assert run(PATIENT, serve(answer).url()) == (1, f"{why}\n")
