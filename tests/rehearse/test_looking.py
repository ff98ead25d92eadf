"""When a listener closes, on a real one."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from graceful.rehearse import looking
from graceful.rehearse.looking import closed_at
from graceful.rehearse.wires import Address

PATIENCE = 60.0


@pytest.mark.parametrize("kind", ["port", "socket"])
def test_it_is_seen_when_somebody_is_refused(kind: str, tmp_path: Path) -> None:
    if kind == "socket":
        path = str(tmp_path / "socket")
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen()
        address = Address(path=path)
    else:
        listener = socket.create_server(("127.0.0.1", 0))
        address = Address(port=listener.getsockname()[1])

    async def main() -> tuple[float, float]:
        looks = asyncio.create_task(closed_at(address))
        async with asyncio.timeout(PATIENCE):
            connection, _ = await asyncio.to_thread(listener.accept)
            connection.close()
            closed = asyncio.get_running_loop().time()
            listener.close()
            return closed, await looks

    closed, seen = asyncio.run(main())
    assert closed <= seen


def test_trouble_of_another_kind_is_no_closed_listener(monkeypatch: pytest.MonkeyPatch) -> None:
    troubles: list[OSError] = [OSError("too many open files"), TimeoutError(), ConnectionRefusedError()]

    async def in_trouble(_: Address) -> None:
        raise troubles.pop(0)

    monkeypatch.setattr(looking, "open_socket", in_trouble)
    asyncio.run(asyncio.wait_for(closed_at(Address(port=1)), PATIENCE))
    assert troubles == []
