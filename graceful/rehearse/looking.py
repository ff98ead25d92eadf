"""When a listener closes: a probe may come too seldom to see it, and users may go elsewhere by then."""

from __future__ import annotations

import asyncio
from typing import Final

from graceful.rehearse.streaks import Ticker
from graceful.rehearse.wires import Address, open_socket

_PERIOD: Final = 0.1
_PATIENCE: Final = 1.0


async def closed_at(address: Address) -> float:
    """The instant at which a connection to `address` was refused: one is tried every tenth of a second from
    now on, and nothing is sent by it. Goes on for as long as somebody listens there.
    """
    loop = asyncio.get_running_loop()
    ticker = Ticker(loop.time() + _PERIOD, _PERIOD)
    while True:
        await ticker.tick()
        at = loop.time()
        if await _refuses(address):
            return at


async def _refuses(address: Address) -> bool:
    try:
        async with asyncio.timeout(_PATIENCE):
            sock = await open_socket(address)
    except ConnectionRefusedError:
        return True
    except OSError:  # TimeoutError too: a full queue is no closed listener
        return False
    sock.close()
    return False
