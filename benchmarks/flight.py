"""Requests that are in flight when the signal comes, and the certainty that they are."""

from __future__ import annotations

import asyncio
from typing import Final

from benchmarks.figures import MeasurementError
from rig.client import Connection, Outcome, Request

_WITHIN_SECONDS: Final = 10.0


def sleep(seconds: float) -> Request:
    """A request that takes the app `seconds`, and the event loop nothing."""
    return Request(kind="sleep", target=f"/sleep?{seconds:g}", expected=b"slept")


async def until_in_flight(port: int, number: int) -> None:
    """Exactly `number` requests sleep in the app at `port`. Raises MeasurementError where that does not come
    about.
    """
    question = Request(kind="sleeping", target="/sleeping", expected=b"%d" % number)
    connection = Connection(port)
    try:
        async with asyncio.timeout(_WITHIN_SECONDS):
            while (await connection.ask(question, timeout=_WITHIN_SECONDS)).outcome is not Outcome.ANSWERED:
                pass  # each question is a round trip: there is nothing to wait for but the next answer
    except TimeoutError as problem:
        message = f"there were never {number} requests in flight: the machine is too slow or too busy"
        raise MeasurementError(message) from problem
    finally:
        connection.close()
