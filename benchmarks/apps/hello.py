"""An app that answers everything with the same few bytes."""

from __future__ import annotations

from typing import Any, Final

_HEADERS: Final = [(b"content-type", b"text/plain"), (b"content-length", b"12")]
_START: Final = {"type": "http.response.start", "status": 200, "headers": _HEADERS}
_BODY: Final = {"type": "http.response.body", "body": b"hello world\n"}


async def app(scope: Any, _receive: Any, send: Any) -> None:
    """ASGI 3, without lifespan."""
    if scope["type"] != "http":
        raise NotImplementedError
    await send(_START)
    await send(_BODY)
