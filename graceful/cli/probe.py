"""`graceful probe URL`: healthy or not, for exec probes in images without curl.

It is started every few seconds beside the service that it asks, and starting is most of what it costs: it
imports no server, no asyncio and no HTTP library, and `ssl` only for https.

Healthy is what the kubelet takes for healthy in its httpGet and tcpSocket probes: a status of 200 to 399,
redirects followed on the same host only, no proxy, certificates not verified
(https://kubernetes.io/docs/tasks/configure-pod-container/configure-liveness-readiness-startup-probes/).
"""

from __future__ import annotations

import argparse
import socket
import sys
import threading
from urllib.parse import urljoin

from graceful.cli.parsing import Parser
from graceful.cli.probe_answer import Answer, Deadline, Reader, UnhealthyError, printable
from graceful.cli.probe_target import Target, UsageError, parse_target

TYPE_CHECKING = False  # `typing` itself takes milliseconds to import
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Final, TypeAlias

    Address: TypeAlias = tuple[int, Any]  # a family, and what its connect() takes

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_REQUEST_LIMIT: Final = 10  # in a chain of redirects, as the kubelet's
_TIMEOUT_LIMIT: Final = 3600.0  # seconds

_EPILOG: Final = """\
examples:
  graceful probe http://localhost:8000/ready
  graceful probe --timeout 0.5 --header 'Host: example.org' https://localhost:8443/healthz
  graceful probe --verbose 'http://localhost:8000/ready?verbose'
  graceful probe --unix-socket /run/app.sock http://localhost/ready
  graceful probe http+unix://%2Frun%2Fapp.sock/ready
  graceful probe tcp://localhost:5432
  graceful probe unix:///run/app.sock

in a manifest (timeoutSeconds above --timeout, since the start of Python counts too):
  readinessProbe:
    exec: {command: [graceful, probe, "http://localhost:8000/ready"]}
    timeoutSeconds: 3

exit code:
  0 healthy, 1 not healthy (one line says why), 2 wrong usage
"""


class Probe:
    """One attempt. `note` is told each step, `warn` what is odd about an answer that counts as healthy."""

    def __init__(
        self,
        *,
        timeout: float,
        headers: list[tuple[str, str]],
        note: Callable[[str], object],
        warn: Callable[[str], object],
    ) -> None:
        self._deadline = Deadline(timeout)
        self._headers = headers
        self._note = note
        self._warn = warn

    def check(self, target: Target) -> None:
        """Return if `target` is healthy, raise UnhealthyError if not; within the timeout either way."""
        try:
            if target.asks:
                self._follow(target)
            else:
                self._connect(target).close()
        except OSError as error:
            raise UnhealthyError(self._why(error)) from error

    def _why(self, error: OSError) -> str:
        if isinstance(error, ConnectionRefusedError):
            return "connection refused"
        if isinstance(error, TimeoutError):
            return f"timed out after {self._deadline.seconds:g} s while {self._deadline.doing}"
        if isinstance(error, BlockingIOError):  # what connect() says of a Unix socket
            return f"the backlog is full while {self._deadline.doing}: nobody accepts"
        text = (error.strerror or str(error)).lower()
        reason = getattr(error, "reason", None)  # of an ssl.SSLError, asked for without importing ssl
        if isinstance(reason, str):
            text = f"TLS: {reason.replace('_', ' ').lower()}"
        return printable(f"{text} while {self._deadline.doing}")

    def _follow(self, target: Target) -> None:
        for _ in range(_REQUEST_LIMIT):
            following = self._ask(target)
            if following is None:
                return
            target = following
        message = f"stopped after {_REQUEST_LIMIT} redirects, the last one to {printable(target.url)}"
        raise UnhealthyError(message)

    def _ask(self, target: Target) -> Target | None:
        """One request: where it redirects to; None if its answer is the last, and healthy."""
        with self._opened(target) as connection:
            self._send(connection, target)
            self._deadline.doing = "waiting for the answer"
            reader = Reader(connection, self._deadline)
            answer = Answer.read(reader)
            self._note(f"GET {target.resource}: {answer.status} after {self._milliseconds()}")
            following = _redirected(answer, target)
            if following is None:
                self._judge(answer, reader)
        return following

    def _send(self, connection: socket.socket, target: Target) -> None:
        given = {name.lower() for name, _ in self._headers}
        ours = [
            ("Host", target.authority),
            ("User-Agent", "graceful-probe"),
            ("Accept", "*/*"),
            ("Connection", "close"),
        ]
        fields = [(name, value) for name, value in ours if name.lower() not in given] + self._headers
        lines = [f"GET {target.resource} HTTP/1.1", *(f"{name}: {value}" for name, value in fields), "", ""]
        connection.settimeout(self._deadline.remaining())
        try:  # noqa: SIM105 - contextlib would have to be imported
            connection.sendall("\r\n".join(lines).encode("utf-8", "surrogateescape"))
        except (BrokenPipeError, ConnectionResetError):
            pass  # what was answered before it was closed, if anything, is there to be read

    def _judge(self, answer: Answer, reader: Reader) -> None:
        try:
            body = answer.read_body(reader)
        except (OSError, UnhealthyError):
            if answer.is_healthy:
                raise
            body = b""  # the status has said enough
        for line in body.decode("utf-8", "replace").splitlines():
            self._note(f"  {printable(line)}")
        if not answer.is_healthy:
            raise UnhealthyError(answer.summary(body))
        if answer.is_redirect:
            location = printable(answer.headers.get("location", "nowhere"))
            self._warn(f"{answer.status} to {location}: not followed; healthy, as it is for the kubelet")

    def _opened(self, target: Target) -> socket.socket:
        connection = self._connect(target)
        return self._secured(connection, target) if target.scheme == "https" else connection

    def _secured(self, connection: socket.socket, target: Target) -> socket.socket:
        import ssl  # noqa: PLC0415 - 9 ms that plain http need not pay

        self._deadline.doing = f"shaking hands with {target}"
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        is_address = ":" in target.host or target.host.replace(".", "").isdecimal()
        with connection:  # closed here only if wrap_socket did not take it over
            connection.settimeout(self._deadline.remaining())
            return context.wrap_socket(connection, server_hostname=None if is_address else target.host)

    def _connect(self, target: Target) -> socket.socket:
        """To the first address that takes us. Each has its share of the time: a dead one cannot have all."""
        addresses = self._addresses(target)
        self._deadline.doing = f"connecting to {target}"
        failure: OSError = TimeoutError()
        for left, (family, address) in zip(range(len(addresses), 0, -1), addresses, strict=True):
            connection = socket.socket(family, socket.SOCK_STREAM)
            try:
                connection.settimeout(self._deadline.remaining() / left)
                connection.connect(address)
            except OSError as error:
                connection.close()
                failure = error
            else:
                self._note(f"connected to {target} after {self._milliseconds()}")
                return connection
        raise failure

    def _addresses(self, target: Target) -> list[Address]:
        if target.socket_path is not None:
            return [(socket.AF_UNIX, target.socket_path)]
        self._deadline.doing = f"looking up {target.host}"
        try:
            return _look_up(target, socket.AI_NUMERICHOST)
        except socket.gaierror:
            return self._addresses_of_name(target)

    def _addresses_of_name(self, target: Target) -> list[Address]:
        """A resolver knows no deadline, so it is asked on a thread, and left behind if it is late."""
        outcome: list[list[Address] | OSError] = []

        def ask() -> None:
            try:
                outcome.append(_look_up(target))
            except OSError as error:
                outcome.append(error)

        thread = threading.Thread(target=ask, name="graceful-probe-look-up", daemon=True)
        thread.start()
        thread.join(self._deadline.remaining())
        found = outcome[0] if outcome else TimeoutError()
        if isinstance(found, OSError):
            raise found
        return found

    def _milliseconds(self) -> str:
        return f"{self._deadline.elapsed() * 1000:.1f} ms"


def _look_up(target: Target, flags: int = 0) -> list[Address]:
    host = target.host.encode()  # for a str, getaddrinfo would import the codec of international names
    found = socket.getaddrinfo(host, target.port, type=socket.SOCK_STREAM, flags=flags)
    return [(family, address) for family, _, _, _, address in found]


def _redirected(answer: Answer, target: Target) -> Target | None:
    """Where to go on: on the same host only, as the kubelet. Raises UnhealthyError where nobody could go."""
    location = answer.headers.get("location", "")
    if answer.status not in _REDIRECTS or not location:
        return None
    try:
        following = parse_target(urljoin(target.url, location), target.socket_path)
    except (UsageError, ValueError) as error:
        message = f"{answer.status} to {printable(location)}; expected an http:// or https:// URL"
        raise UnhealthyError(message) from error
    return following if following.host == target.host else None


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= _TIMEOUT_LIMIT:  # NaN is not between them either
        message = f"found {text!r}; expected seconds as a number above 0, at most {_TIMEOUT_LIMIT:g}"
        raise argparse.ArgumentTypeError(message)
    return seconds


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    is_name = name.isascii() and name.replace("-", "").replace("_", "").isalnum()
    if not colon or not is_name or any(character in value for character in "\r\n\0"):
        message = f"found {text!r}; expected 'Name: value' in one line"
        raise argparse.ArgumentTypeError(message)
    return name, value.strip()


def _parser() -> Parser:
    parser = Parser(
        prog="graceful probe",
        description="Ask a service whether it is healthy: an exec probe for images without curl.",
        epilog=_EPILOG,
        # a width of its own, since argparse would import shutil, 3 ms, to ask the terminal for one
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, width=100),
        allow_abbrev=False,
    )
    add = parser.add_argument
    add(
        "url",
        metavar="URL",
        help="what to ask; http://, port 80 (https: 443) and / where it says nothing else",
    )
    add("--timeout", type=_seconds, default=1.0, metavar="SECONDS", help="for all of it (default: 1)")
    add(
        "--header", type=_header, action="append", default=[], metavar="'NAME: VALUE'", help="may be repeated"
    )
    add("--unix-socket", metavar="PATH", help="connect to this socket instead of to the URL's host")
    volume = parser.add_mutually_exclusive_group()
    volume.add_argument("-q", "--quiet", action="store_true", help="print nothing: the exit code says it all")
    volume.add_argument("-v", "--verbose", action="store_true", help="print each step, and the answer's body")
    return parser


def main(argv: list[str]) -> int:
    """Run `graceful probe` with these arguments: 0 healthy, 1 not, 2 wrong usage.

    Prints to stderr: nothing when healthy, one line that says why when not. Only --help goes to stdout.
    """
    parser = _parser()
    try:
        options = parser.parse_args(argv)
        try:
            target = parse_target(options.url, options.unix_socket)
        except UsageError as error:
            parser.error(str(error))
    except SystemExit as end:  # argparse's way: 0 after --help, 2 after wrong usage
        return int(end.code or 0)
    say = _silent if options.quiet else _say
    note = _say if options.verbose else _silent
    try:
        Probe(timeout=options.timeout, headers=options.header, note=note, warn=say).check(target)
    except UnhealthyError as error:
        say(str(error))
        return 1
    return 0


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def _silent(_line: str) -> None:
    pass
