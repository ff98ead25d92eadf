"""What the URL of a probe names: where to connect, and what to ask for there."""

from __future__ import annotations

import socket
from urllib.parse import quote, unquote, urlsplit

from graceful.errors import GracefulError

TYPE_CHECKING = False  # `typing` itself takes milliseconds to import
if TYPE_CHECKING:
    from typing import Final

_PORTS: Final = {"http": 80, "https": 443}
_SAFE: Final = "/%:=&~+!$,;'@()*"  # not quoted: what is quoted already, and what has a right to stand there
_EXPECTED: Final = (
    "expected http[s]://HOST:PORT/PATH, tcp://HOST:PORT, unix:///PATH or http+unix://%2FPATH/PATH"
)


class UsageError(GracefulError):
    """The command line cannot be meant. The text says what was found and what is expected."""


class Target:
    """Where to connect, and what to ask for there. No dataclass: they take 8 ms to import."""

    __slots__ = ("host", "port", "scheme", "socket_path", "url")

    def __init__(
        self, *, scheme: str, host: str = "", port: int = 0, socket_path: str | None = None, url: str = ""
    ) -> None:
        self.scheme = scheme
        self.host = host
        self.port = port
        self.socket_path = socket_path  # connected to instead of host and port
        self.url = url

    @property
    def asks(self) -> bool:
        """Whether something is asked over HTTP; if not, a connection is all that is wanted."""
        return self.scheme in _PORTS

    @property
    def authority(self) -> str:
        """The Host header."""
        name = self.host.partition("%")[0]  # the zone of an IPv6 address means something on this machine only
        name = f"[{name}]" if ":" in name else name
        return name if self.port == _PORTS.get(self.scheme) else f"{name}:{self.port}"

    @property
    def resource(self) -> str:
        """Path and query, as the request line has them; `/` where the URL has no path."""
        parts = urlsplit(self.url)
        path = quote(parts.path or "/", safe=_SAFE, errors="surrogateescape")
        query = quote(parts.query, safe=_SAFE + "?[]", errors="surrogateescape")
        return f"{path}?{query}" if query else path

    def __str__(self) -> str:
        if self.socket_path is not None:
            return self.socket_path
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_target(url: str, socket_path: str | None = None) -> Target:
    """What `url` names, reached over the Unix socket at `socket_path` if one is given. Raises UsageError."""
    if any(character <= " " or character == "\x7f" for character in url):
        message = f"found {url!r}; expected a URL without blanks and control characters (%20 is a blank)"
        raise UsageError(message)
    scheme, separator, rest = url.partition("://")
    if not separator or not scheme.replace("+", "").isalnum():
        return parse_target(f"http://{url}", socket_path)
    scheme = scheme.lower()
    if scheme in _PORTS:
        host, port = _host_and_port(scheme, url)
        if socket_path is not None:
            _check_socket_path(socket_path)
        return Target(scheme=scheme, host=host, port=port, socket_path=socket_path, url=url)
    if socket_path is not None:
        message = f"found --unix-socket and {url!r}; expected an http:// or https:// URL beside it"
        raise UsageError(message)
    return _parse_other(scheme, url, rest)


def _parse_other(scheme: str, url: str, rest: str) -> Target:
    if scheme == "tcp":
        host, port = _host_and_port(scheme, url)
        return Target(scheme=scheme, host=host, port=port)
    if scheme == "unix":
        path = unquote(rest, errors="surrogateescape")
        _check_socket_path(path)
        return Target(scheme=scheme, socket_path=path)
    if scheme in {"http+unix", "https+unix"}:
        path, slash, resource = rest.partition("/")
        path = unquote(path, errors="surrogateescape")
        return parse_target(f"{scheme.removesuffix('+unix')}://localhost{slash}{resource}", path)
    message = f"found the scheme {scheme!r}; {_EXPECTED}"
    raise UsageError(message)


def _check_socket_path(path: str) -> None:
    if not path or "\0" in path:
        message = f"found {path!r} as the path of a Unix socket; {_EXPECTED}"
        raise UsageError(message)
    if not hasattr(socket, "AF_UNIX"):
        message = f"found the Unix socket {path}; expected a host and a port: Python has no Unix sockets here"
        raise UsageError(message)


def _host_and_port(scheme: str, url: str) -> tuple[str, int]:
    try:
        parts = urlsplit(url)
        host = unquote(parts.hostname or "")  # a zone comes as fe80::1%25eth0 (RFC 6874)
        host = host if host.isascii() else host.encode("idna").decode("ascii")
        port = _PORTS.get(scheme) if parts.port is None else parts.port
    except ValueError as error:  # a UnicodeError is one
        message = f"found {url!r} ({error}); {_EXPECTED}"
        raise UsageError(message) from error
    if parts.username is not None:
        message = "found a user in the URL; expected it in a header: --header 'Authorization: Basic …'"
        raise UsageError(message)
    if not host or not port or any(character <= " " for character in host):
        message = f"found {url!r}, whose {'port' if host and not port else 'host'} is missing; {_EXPECTED}"
        raise UsageError(message)
    return host, port
