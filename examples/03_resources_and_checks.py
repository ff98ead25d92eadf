"""Resources, given back last acquired first, and a check that decides over /ready.

    graceful run --app-dir examples 03_resources_and_checks:app --verbose-probes true
    curl http://localhost:8000/visits
    curl "http://localhost:8000/ready?verbose"

After Ctrl-C the journal writes down what it still holds, into a database that is still open: the journal was
acquired later, so it is released earlier. The report names both, with the time that each took.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Iterator

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from graceful import Runtime

runtime = Runtime()


@runtime.resource
def database() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:", check_same_thread=False)
    connection.execute("CREATE TABLE visits (path TEXT)")
    yield connection
    print(
        connection.execute("SELECT count(*) FROM visits").fetchone()[0], "visits in the database", flush=True
    )
    connection.close()


@runtime.resource(timeout=2)
async def journal() -> AsyncIterator[list[str]]:
    unwritten: list[str] = []
    yield unwritten
    database.value.executemany("INSERT INTO visits VALUES (?)", [(path,) for path in unwritten])


@runtime.readiness_check(timeout=0.5)
def database_answers() -> None:
    database.value.execute("SELECT 1")


async def visits(request: Request) -> PlainTextResponse:
    journal.value.append(request.url.path)
    return PlainTextResponse(f"{len(journal.value)} visits\n")


app = runtime.wrap(Starlette(routes=[Route("/visits", visits)]))
