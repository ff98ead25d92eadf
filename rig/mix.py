"""What the users of the sample service ask of it."""

from __future__ import annotations

import random

from graceful.rehearse.model import RequestSpec
from rig.service import CHUNK, CHUNKS, receipt

_FAST, _SLOW, _STREAMS, _UPLOADS = 50, 20, 15, 15  # of a hundred requests


def mixed(seed: int = 1) -> tuple[RequestSpec, ...]:
    """Requests that the sample service can answer: half are quick, the others slow (0.2 to 0.8 s), streams,
    uploads. The same seed gives the same.
    """
    chance = random.Random(seed)  # noqa: S311 - load, not secrets
    return (
        RequestSpec(path="/fast", weight=_FAST, expected=b"fast"),
        *(_slow(chance) for _ in range(_SLOW)),
        *(_stream(chance) for _ in range(_STREAMS)),
        *(_upload(chance) for _ in range(_UPLOADS)),
    )


def _slow(chance: random.Random) -> RequestSpec:
    return RequestSpec(path=f"/slow?seconds={chance.uniform(0.2, 0.8):.3f}", expected=b"slow")


def _stream(chance: random.Random) -> RequestSpec:
    return RequestSpec(path=f"/stream?seconds={chance.uniform(0.1, 0.6):.3f}", expected=CHUNK * CHUNKS)


def _upload(chance: random.Random) -> RequestSpec:
    size, pause = chance.randrange(1_000, 64_000), chance.uniform(0.0, 0.4)
    expected = receipt(bytes(size))
    return RequestSpec(method="POST", path="/upload", body_bytes=size, pause=pause, expected=expected)
