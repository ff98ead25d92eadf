"""Apps of the frameworks as their users write them, under `graceful run`."""

from __future__ import annotations

import importlib.util

import pytest

from tests.process.service import WHOLE_TIMELINE, Client, Launch

APPS = {
    "starlette": """
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

async def hold(request):
    say("holding")
    return PlainTextResponse(b"held " + await request.body())

app = Starlette(routes=[Route("/hold", hold, methods=["POST"])])
""",
    "fastapi": """
from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse

app = FastAPI()

@app.post("/hold", response_class=PlainTextResponse)
async def hold(request: Request):
    say("holding")
    return b"held " + await request.body()
""",
    "litestar": """
from litestar import Litestar, MediaType, Request, post

@post("/hold", media_type=MediaType.TEXT, status_code=200)
async def hold(request: Request) -> bytes:
    say("holding")
    return b"held " + await request.body()

app = Litestar([hold])
""",
    "quart": """
from quart import Quart, request

app = Quart(__name__)

@app.post("/hold")
async def hold():
    say("holding")
    return b"held " + await request.get_data()
""",
    "django": """
import threading
import django.conf
from django.core.asgi import get_asgi_application
from django.http import HttpResponse
from django.urls import path

async def hold(request):
    return HttpResponse(b"held " + request.body)

django.conf.settings.configure(ROOT_URLCONF=__name__, SECRET_KEY="x", ALLOWED_HOSTS=["*"])
urlpatterns = [path("hold", hold)]
asgi = get_asgi_application()

async def app(scope, receive, send):
    if scope["type"] == "http":
        say("holding")
    await asgi(scope, receive, send)
""",
}


@pytest.mark.parametrize("framework", APPS)
def test_a_request_in_flight_ends_whole(launch: Launch, framework: str) -> None:
    if importlib.util.find_spec(framework) is None:
        pytest.skip(f"{framework} is not installed")
    launch.write("application", "from served import runtime, say\n" + APPS[framework])
    # As long as it may take on a busy machine until the probe is asked.
    service = launch.owned("application:app", "--lame-duck", "4")
    port = service.port()
    with Client(port) as held, Client(port) as kept:
        assert kept.get("/ready").body == b"ok"
        held.send("/hold", method="POST", body_to_come=4)
        service.wait_for("^holding")
        service.terminate()
        service.wait_for("^phase lame_duck")
        assert kept.get("/ready").body == b"lame duck"
        service.wait_for("^phase draining")
        held.send_body(b"rest")
        response = held.receive()
        assert (response.status, response.body, response.whole) == (200, b"held rest", True), service.output
        assert response.says_close
    assert service.exit_code() == 0, service.output
    assert service.phases == WHOLE_TIMELINE
    assert "Traceback" not in service.output


@pytest.mark.parametrize("how", ["owned", "adopted"])
def test_the_middleware_of_a_fastapi_app(launch: Launch, how: str) -> None:
    if importlib.util.find_spec("fastapi") is None:
        pytest.skip("fastapi is not installed")
    launch.write(
        "application",
        "from served import runtime, say\nfrom graceful import GracefulMiddleware\n"
        + APPS["fastapi"]
        + "app.add_middleware(GracefulMiddleware, runtime=runtime)\n",
    )
    service = getattr(launch, how)("application:app", "--lame-duck", "2")
    with Client(service.port()) as kept:
        assert kept.get("/ready").body == b"ok"
        service.terminate()
        service.wait_for("^phase lame_duck")
        assert kept.get("/nowhere").says_close
    service.exit_code()
    assert service.phases == WHOLE_TIMELINE
    assert service.output.count("acquired database") == 1
