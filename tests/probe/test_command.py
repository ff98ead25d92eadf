"""The command: what it sends, what it prints, what it refuses, and how little it takes to start."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from typing import Any

import pytest

from graceful.cli.probe import main
from tests.probe.server import OK, PATIENT, Run, Serve, http


def test_the_request(serve: Serve, run: Run) -> None:
    server = serve(OK)
    assert run(PATIENT, server.url("/a%20b/\u00e9?x=[1]&y=%2F#fragment")) == (0, "")
    assert server.heard[0].split("\r\n") == [
        "GET /a%20b/%C3%A9?x=[1]&y=%2F HTTP/1.1",
        f"Host: 127.0.0.1:{server.port}",
        "User-Agent: graceful-probe",
        "Accept: */*",
        "Connection: close",
        "",
        "",
    ]


@pytest.mark.parametrize("ending", ["", "/", "?", "#x"])
def test_without_a_path_or_a_scheme(serve: Serve, run: Run, ending: str) -> None:
    server = serve(OK)
    assert run(PATIENT, f"127.0.0.1:{server.port}{ending}") == (0, "")
    assert server.heard[0].startswith("GET / HTTP/1.1\r\n")


def test_a_url_in_the_query_is_no_scheme(serve: Serve, run: Run) -> None:
    server = serve(OK)
    assert run(PATIENT, f"127.0.0.1:{server.port}/x?to=http://y") == (0, "")
    assert server.heard[0].startswith("GET /x?to=http://y HTTP/1.1\r\n")


@pytest.mark.parametrize(("scheme", "port"), [("http", 80), ("https", 443)])
def test_the_usual_ports(run: Run, monkeypatch: pytest.MonkeyPatch, scheme: str, port: int) -> None:
    asked: list[object] = []

    def unknown(_host: bytes, port: int, **_more: Any) -> list[tuple[Any, ...]]:
        asked.append(port)
        raise socket.gaierror(socket.EAI_NONAME, "no such host")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert run(f"{scheme}://usual.test")[0] == 1
    assert set(asked) == {port}


def test_headers_of_ones_own(serve: Serve, run: Run) -> None:
    server = serve(OK)
    given = [
        "--header",
        "host: example.test",
        "--header=X-Many:1",
        "--header",
        "X-Many: 2",
        "--header",
        "Empty:",
    ]
    assert run(PATIENT, *given, server.url()) == (0, "")
    assert server.heard[0].split("\r\n") == [
        "GET /ready HTTP/1.1",
        "User-Agent: graceful-probe",
        "Accept: */*",
        "Connection: close",
        "host: example.test",
        "X-Many: 1",
        "X-Many: 2",
        "Empty: ",
        "",
        "",
    ]


def test_no_proxy_is_asked(serve: Serve, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert run(PATIENT, serve(OK).url()) == (0, "")


def test_quiet_says_nothing(serve: Serve, run: Run) -> None:
    assert run("--quiet", serve(http("503 No")).url()) == (1, "")


def test_verbose_says_each_step_and_the_body(serve: Serve, run: Run) -> None:
    server = serve(http("503 No", b"[-]database failed: reason withheld\r\n\x1b[0mready check failed\n"))
    code, said = run(PATIENT, "--verbose", server.url("/ready?verbose"))
    connected, asked, *rest = said.splitlines()
    assert code == 1
    assert connected.startswith(f"connected to 127.0.0.1:{server.port} after ")
    assert asked.startswith("GET /ready?verbose: 503 after ")
    assert rest == [
        "  [-]database failed: reason withheld",
        "  \\x1b[0mready check failed",
        "503 [-]database failed: reason withheld",
    ]


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    out, err = capsys.readouterr()
    assert "graceful probe http://localhost:8000/ready" in out
    assert "exit code:" in out
    assert max(map(len, out.splitlines())) <= 100
    assert err == ""


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "the following arguments are required: URL"),
        (["http://x/", "http://y/"], "unrecognized arguments: http://y/"),
        (["--time", "1", "http://x/"], "unrecognized arguments: --time"),
        (["--quiet", "--verbose", "http://x/"], "not allowed with argument"),
        (["ftp://x/"], "found the scheme 'ftp'; expected http[s]://HOST:PORT/PATH"),
        (["http:///ready"], "found 'http:///ready', whose host is missing"),
        (["/ready"], "found 'http:///ready', whose host is missing"),
        (["http://%00/"], "whose host is missing"),
        ([""], "found 'http://', whose host is missing"),
        (["://x"], "whose host is missing"),
        (["tcp://localhost"], "found 'tcp://localhost', whose port is missing"),
        (["http://x:0/"], "found 'http://x:0/', whose port is missing"),
        (["http://x:port/"], "found 'http://x:port/' (Port could not be cast to integer value"),
        (["http://x:70000/"], "found 'http://x:70000/' (Port out of range 0-65535)"),
        (["http://[::1/"], "found 'http://[::1/' (Invalid IPv6 URL)"),
        (["http://\u00fc..x/"], "found 'http://\u00fc..x/' ("),
        (["http://user:secret@x/"], "found a user in the URL; expected it in a header"),
        (["http://x/a b"], "found 'http://x/a b'; expected a URL without blanks and control characters"),
        (["http://x/\r\nHost: y"], "expected a URL without blanks and control characters"),
        (["unix://"], "found '' as the path of a Unix socket"),
        (["unix:///a%00b"], "found '/a\\x00b' as the path of a Unix socket"),
        (["http+unix:///ready"], "found '' as the path of a Unix socket"),
        (["--unix-socket", "", "http://x/"], "found '' as the path of a Unix socket"),
        (["--unix-socket", "/x", "tcp://x:1"], "found --unix-socket and 'tcp://x:1'"),
        (["--timeout", "0", "http://x/"], "argument --timeout: found '0'; expected seconds"),
        (["--timeout=-1", "http://x/"], "argument --timeout: found '-1'; expected seconds"),
        (["--timeout", "nan", "http://x/"], "argument --timeout: found 'nan'; expected seconds"),
        (["--timeout", "inf", "http://x/"], "argument --timeout: found 'inf'; expected seconds"),
        (["--timeout", "soon", "http://x/"], "argument --timeout: found 'soon'; expected seconds"),
        (
            ["--header", "no colon", "http://x/"],
            "argument --header: found 'no colon'; expected 'Name: value'",
        ),
        (["--header", ": x", "http://x/"], "argument --header: found ': x'"),
        (["--header", "a b: x", "http://x/"], "argument --header: found 'a b: x'"),
        (["--header", "a: x\r\nb: y", "http://x/"], "expected 'Name: value' in one line"),
    ],
)
def test_wrong_usage_is_2_and_one_line(run: Run, arguments: list[str], complaint: str) -> None:
    code, said = run(*arguments)
    assert code == 2
    assert complaint in said
    assert said.startswith("graceful probe: ")
    assert said.count("\n") == 1


def test_a_url_that_is_no_utf8(serve: Serve, run: Run) -> None:
    server = serve(OK)
    assert run(PATIENT, server.url(os.fsdecode(b"/\xff"))) == (0, "")
    assert server.heard[0].startswith("GET /%FF HTTP/1.1\r\n")


def test_it_starts_with_little(serve: Serve) -> None:
    program = (
        "import sys; from graceful.cli.probe import main; code = main(sys.argv[1:]);"
        "print(*sorted(sys.modules)); sys.exit(code)"
    )
    url = serve(OK).url()
    ended = subprocess.run(
        [sys.executable, "-c", program, url],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
        env=bare(),
    )
    heavy = {
        "asyncio",
        "click",
        "dataclasses",
        "http.client",
        "logging",
        "shutil",
        "ssl",
        "typing",
        "uvicorn",
    }
    assert heavy.isdisjoint(ended.stdout.split())


def bare() -> dict[str, str]:
    """The environment without what starts coverage in a child: it imports half of the standard library."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COV")}
