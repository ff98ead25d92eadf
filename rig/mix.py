"""What the users of the sample service ask of it."""

from __future__ import annotations

import random

from rig.client import Request
from rig.service import CHUNK, CHUNKS, receipt


def mixed(chance: random.Random) -> Request:
    """A request that the sample service can answer: half are quick, the others slow (0.2 to 0.8 s), streams,
    uploads.
    """
    match chance.choices(("fast", "slow", "stream", "upload"), (50, 20, 15, 15))[0]:
        case "fast":
            return Request(kind="fast", target="/fast", expected=b"fast")
        case "slow":
            target = f"/slow?seconds={chance.uniform(0.2, 0.8):.3f}"
            return Request(kind="slow", target=target, expected=b"slow")
        case "stream":
            target = f"/stream?seconds={chance.uniform(0.1, 0.6):.3f}"
            return Request(kind="stream", target=target, expected=CHUNK * CHUNKS)
        case _:
            body = chance.randbytes(chance.randrange(1_000, 64_000))
            pause = chance.uniform(0.0, 0.4)
            return Request(
                kind="upload", target="/upload", method="POST", body=body, pause=pause, expected=receipt(body)
            )
