"""The Dockerfiles, built without a network by a real engine, and stopped by it in the middle of a request."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.images.__main__ import try_all
from demo.images.cases import CASES, EXEC
from demo.images.client import Answer, wait_for
from demo.images.engine import Engine
from demo.images.places import NoPlaceError, Opened, Wanted, opened
from demo.images.trial import PlaceError, Row, Terms, Verdict
from rig.replica import ROOT

MEGABYTE = 1_000_000
GRACE = 3

CLEAN = {"exec", "shell-exec", "bash", "busybox", "entrypoint-exec", "tini"}
KILLED = {"shell-sh", "busybox-and", "cd", "tee", "entrypoint"}
LOST = {"init-shell"}

pytestmark = pytest.mark.engine


@pytest.fixture
def built() -> Iterator[Opened]:
    """All images, on a base that is made of this Python; nothing is left of them afterwards."""
    if not (ROOT / "graceful").is_dir():
        pytest.skip("the project's source is not beside the tests: images are built from a checkout")
    if shutil.which("dash") is None:
        pytest.skip("dash is not installed: /bin/sh of the images would be another shell")
    said: list[str] = []
    try:
        with opened(Wanted(cases=list(CASES.values()), offline=True), said.append) as found:
            if not isinstance(found.place, Engine):
                pytest.skip(" ".join(said))
            yield found
    except NoPlaceError as problem:
        pytest.skip(str(problem))
    assert left_of(found.place) == []


def left_of(engine: Engine) -> list[str]:
    private = engine._environment.get("CONTAINERS_CONF", os.devnull)
    if "graceful-podman" in private:
        return [str(Path(private).parent)] if Path(private).parent.exists() else []
    shown = engine.call("images").splitlines() + engine.call("ps", "-a").splitlines()
    return [line for line in shown if engine._mark in line]


def test_the_images(built: Opened, subtests: pytest.Subtests) -> None:
    """One test, since another worker of pytest-xdist would build them all once more."""
    for name in CASES:
        if name in built.refused:
            with subtests.test(name):
                pytest.skip(built.refused[name])
    with subtests.test("the image is small"):
        assert built.grown is not None
        assert 0 < built.grown <= 40 * MEGABYTE
    with subtests.test("no root, no pip, and a health check"):
        check_inside(built.place)
    # `stop -t 3`, with a request of a second in flight, and no lame duck.
    rows = try_all(built, list(CASES.values()), Terms(grace=GRACE, request=1, lame_duck=0))
    assert built.broken == set()
    assert set(built.refused) <= {case.name for case in CASES.values() if case.needs or case.init}, (
        built.refused
    )
    assert {row.name for row in rows} | set(built.refused) == CLEAN | KILLED | LOST
    for row in rows:
        with subtests.test(row.name):
            check(row)


def check(row: Row) -> None:
    seen = (row.verdict, row.answer, row.code, row.handler_ran)
    if row.name in CLEAN:
        assert seen == (Verdict.CLEAN, Answer.ANSWERED, 0, True)
        assert " ".join(row.pid1).endswith("graceful run app:app --host 0.0.0.0")
    elif row.name in KILLED:
        assert seen == (Verdict.KILLED, Answer.ANSWERED, 137, False)
        assert row.seconds >= GRACE
        assert {"/bin/sh", "sh"} & set(row.pid1)
    else:
        assert seen[0] is Verdict.LOST
        assert row.answer in {Answer.EMPTY, Answer.RESET}
        assert (row.code, row.handler_ran) == (143, False)


def check_inside(engine: object) -> None:
    assert isinstance(engine, Engine)
    with engine.start(CASES[EXEC], {}) as container:
        wait_for(container.port, "/ready", "ok", within=60)
        assert (
            engine.call("exec", container.name, "python", "-c", "import os; print(os.getuid())") == "10001\n"
        )
        with pytest.raises(PlaceError, match="No module named"):
            engine.call("exec", container.name, "python", "-c", "import pip")
        inside = container.port if engine.network else 8000
        engine.call("exec", container.name, "graceful", "probe", f"http://localhost:{inside}/ready")
        with pytest.raises(PlaceError):
            engine.call("exec", container.name, "graceful", "probe", f"http://localhost:{inside}/nowhere")
