"""Requests that are in flight when the signal comes, and the certainty that they are."""

from __future__ import annotations

import asyncio
from typing import Final

from benchmarks.figures import MeasurementError
from graceful.rehearse.client import Connection, Result
from graceful.rehearse.model import Outcome, RequestSpec
from graceful.rehearse.wires import Address

_WITHIN_SECONDS: Final = 10.0


def sleep(seconds: float) -> RequestSpec:
    """A request that takes the app `seconds`, and the event loop nothing."""
    return RequestSpec(path=f"/sleep?{seconds:g}", expected=b"slept")


async def answered(connection: Connection, request: RequestSpec, *, within: float) -> tuple[Result, float]:
    """What became of `request`, and when its last byte had come, on the loop's clock."""
    result = await connection.ask(request, within=within)
    return result, asyncio.get_running_loop().time()


async def until_in_flight(port: int, number: int) -> None:
    """Exactly `number` requests sleep in the app at `port`. Raises MeasurementError where that does not come
    about.
    """
    question = RequestSpec(path="/sleeping", expected=b"%d" % number)
    connection = Connection(Address(port=port))
    try:
        async with asyncio.timeout(_WITHIN_SECONDS):
            while (await connection.ask(question, within=_WITHIN_SECONDS)).outcome is not Outcome.ANSWERED:
                pass  # each question is a round trip: there is nothing to wait for but the next answer
    except TimeoutError as problem:
        message = f"there were never {number} requests in flight: the machine is too slow or too busy"
        raise MeasurementError(message) from problem
    finally:
        connection.close()
