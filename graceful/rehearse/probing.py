"""One probe, as the kubelet takes it: an HTTP GET, a TCP connection or a command.

https://kubernetes.io/docs/tasks/configure-pod-container/configure-liveness-readiness-startup-probes/
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, quote, urljoin, urlsplit

import h11

from graceful.rehearse import commands
from graceful.rehearse.model import PORT, Action, Exec, HttpGet, TcpSocket
from graceful.rehearse.wires import HOST, Address, insecure
from graceful.rehearse.wording import one_line

_REQUEST_LIMIT: Final = 10  # in a chain of redirects, as the kubelet's
_BODY_LIMIT: Final = 10 * 1024  # bytes that are read of a body, as the kubelet's
_HEAD_LIMIT: Final = 64 * 1024  # bytes
_AT_ONCE: Final = 16 * 1024  # bytes a read
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_HEALTHY: Final = range(200, 400)
_PORTS: Final = {"http": 80, "https": 443}
_SAFE: Final = "/%:=&~+!$,;'@()*"  # not quoted: what is quoted already, and what has a right to stand there


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Whether a probe succeeded, and in a few words what it found. `refused`: nobody listens."""

    ok: bool
    detail: str
    refused: bool = False


async def act(  # noqa: PLR0913 - named, all but the first
    action: Action,
    *,
    port: int,
    unix_socket: str | None = None,
    tls: bool = False,
    timeout: float,  # noqa: ASYNC109 - running out of time is a result, not an error
    environment: Mapping[str, str],
    folder: str | None = None,
) -> Result:
    """Take `action` once, within `timeout` seconds, and say what it found; whatever the service does is a
    result, none of it is raised.

    `port` is the replica's, `unix_socket` what it listens on instead; `tls`: it speaks TLS there.
    `environment` and `folder` are those of an exec probe.
    """
    if isinstance(action, Exec):
        command = commands.for_port(action.command, port)
        ended = await commands.run(command, environment=environment, folder=folder, seconds=timeout)
        return _of_command(ended, timeout)
    replica = Address(port=port, path=unix_socket, tls=tls)
    taking = _connect(action, replica) if isinstance(action, TcpSocket) else _get(action, replica)
    try:
        async with asyncio.timeout(timeout):
            return await taking
    except TimeoutError:
        return Result(ok=False, detail=f"timed out after {timeout:g} s")
    except (ConnectionRefusedError, FileNotFoundError):  # the latter of a Unix socket that is not there yet
        return Result(ok=False, detail="connection refused", refused=True)
    except (OSError, h11.ProtocolError, _NoAnswerError) as error:
        return Result(ok=False, detail=one_line(_why(error)))


def _of_command(ended: commands.Ended, seconds: float) -> Result:
    if ended.code is None:
        return Result(ok=False, detail=f"timed out after {seconds:g} s")
    line = f": {ended.line}" if ended.line else ""
    return Result(ok=ended.code == 0, detail=f"exit code {ended.code}{line}")


class _NoAnswerError(Exception):
    """There was no answer that could be judged; the text says why."""


def _why(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return f"TLS: {(error.reason or str(error)).replace('_', ' ').lower()}"
    if isinstance(error, ConnectionError) and error.errno:  # asyncio names the call instead
        return os.strerror(error.errno).lower()
    if isinstance(error, OSError):
        return (error.strerror or str(error) or type(error).__name__).lower()
    if isinstance(error, h11.ProtocolError):
        return f"no HTTP: {error}"
    return str(error)


@asynccontextmanager
async def _opened(
    replica: Address, port: int, *, tls: bool
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to `port`, to its Unix socket if that is the replica's own. It is gone when the block is
    left: nobody is waited for, as a server may never say goodbye.
    """
    context = insecure() if tls else None
    if replica.path is not None and port == replica.port:
        reader, writer = await asyncio.open_unix_connection(
            replica.path, ssl=context, server_hostname="localhost" if tls else None
        )
    else:
        reader, writer = await asyncio.open_connection(HOST, port, ssl=context)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


def _port_of(action: HttpGet | TcpSocket, replica: Address) -> int:
    return replica.port if action.port is None else action.port


async def _connect(action: TcpSocket, replica: Address) -> Result:
    async with _opened(replica, _port_of(action, replica), tls=False):
        return Result(ok=True, detail="connected")


async def _get(action: HttpGet, replica: Address) -> Result:
    """An answer of 200 to 399 is healthy; redirects are followed on the same host only."""
    port = _port_of(action, replica)
    scheme = "https" if replica.tls and action.port is None else action.scheme.lower()
    path = action.path.replace(PORT, str(replica.port))
    headers = [(name, value.replace(PORT, str(replica.port))) for name, value in action.headers]
    url = f"{scheme}://{HOST}:{port}{'' if path.startswith('/') else '/'}{path}"
    for _ in range(_REQUEST_LIMIT):
        answer = await _ask(urlsplit(url), headers, replica)
        following = _redirected(answer, url)
        if following is None:
            return answer.result()
        url = following
    message = f"stopped after {_REQUEST_LIMIT} redirects, the last one to {url}"
    raise _NoAnswerError(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    """A status, its headers by name in lower case, and the beginning of the body."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def result(self) -> Result:
        is_plain = self.headers.get("content-type", "text/plain").lower().startswith("text/plain")
        said = self.body.decode("utf-8", "replace") if is_plain else ""
        return Result(ok=self.status in _HEALTHY, detail=f"{self.status} {one_line(said)}".strip())


def _redirected(answer: _Answer, url: str) -> str | None:
    """Where to go on. An answer that points to another host is the last one, and healthy."""
    location = answer.headers.get("location", "")
    if answer.status not in _REDIRECTS or not location:
        return None
    try:
        following = urlsplit(urljoin(url, location))
        is_near = following.scheme in _PORTS and following.hostname == urlsplit(url).hostname
        _ = following.port  # that of http://host:x/ is found to be wrong only now
    except ValueError as error:
        message = f"{answer.status} to {location}: no URL"
        raise _NoAnswerError(message) from error
    return following.geturl() if is_near else None


async def _ask(url: SplitResult, given: list[tuple[str, str]], replica: Address) -> _Answer:
    port = url.port or _PORTS[url.scheme]
    async with _opened(replica, port, tls=url.scheme == "https") as (reader, writer):
        connection = h11.Connection(our_role=h11.CLIENT, max_incomplete_event_size=_HEAD_LIMIT)
        writer.write(_spelled(connection, url, given))
        return await _answered(connection, reader)


def _spelled(connection: h11.Connection, url: SplitResult, given: list[tuple[str, str]]) -> bytes:
    names = {name.lower() for name, _ in given}
    ours = [
        ("host", url.netloc),
        ("user-agent", "kube-probe/graceful"),
        ("accept", "*/*"),
        ("connection", "close"),
    ]
    headers = [(name, value) for name, value in ours if name not in names] + given
    path, query = quote(url.path or "/", safe=_SAFE), quote(url.query, safe=_SAFE + "?[]")
    target = f"{path}?{query}" if query else path
    head = connection.send(h11.Request(method="GET", target=target, headers=headers))
    return (head or b"") + (connection.send(h11.EndOfMessage()) or b"")


async def _answered(connection: h11.Connection, reader: asyncio.StreamReader) -> _Answer:
    """The answer, of its body no more than the kubelet reads. Raises what `act` makes a result of."""
    status, headers, body = 0, dict[str, str](), bytearray()
    while len(body) < _BODY_LIMIT:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await _received(connection, reader))
        elif isinstance(event, h11.Response):
            status = event.status_code
            headers = {name.decode(): value.decode("latin-1") for name, value in event.headers}
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            break
    return _Answer(status=status, headers=headers, body=bytes(body))


async def _received(connection: h11.Connection, reader: asyncio.StreamReader) -> bytes:
    received = await reader.read(_AT_ONCE)
    if not received and connection.their_state is h11.SEND_RESPONSE:
        begun = connection.trailing_data[0]
        message = f"no HTTP: {begun.decode('latin-1')}" if begun else "closed without an answer"
        raise _NoAnswerError(message)
    return received
