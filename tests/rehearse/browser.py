"""A real browser without a window: Chromium, spoken to by its own protocol on the loopback.

https://chromedevtools.github.io/devtools-protocol/
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
WITHIN = 60.0  # seconds, for anything: the first start on a busy machine takes its time


def found() -> str | None:
    """The path of a browser on this machine."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """One tab. `events` are all that it has told: requests, what was written on the console, exceptions."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._numbers = itertools.count(1)
        self._session: str | None = None
        self.events: list[dict[str, Any]] = []

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The answer to one command. Raises RuntimeError where it is refused, TimeoutError without one."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        self._connection.send(json.dumps(message))
        while True:
            heard = json.loads(self._connection.recv(timeout=WITHIN))
            if heard.get("id") == number:
                if "error" in heard:
                    text = f"{method}: {heard['error']['message']}"
                    raise RuntimeError(text)
                result: dict[str, Any] = heard["result"]
                return result
            self.events.append(heard)

    def attach(self) -> None:
        """Make the tab, and hear what happens in it."""
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network", "Accessibility"):
            self.ask(f"{domain}.enable")

    def show(self, url: str, *, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """Load a page, as on a screen of that width; on return it is loaded and laid out."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[scheme])
        self._resize(width, height)
        self.events.clear()
        self.ask("Page.navigate", url=url)
        self._wait_for("Page.loadEventFired")
        self.run("document.fonts.ready.then(() => true)")

    def unfold(self) -> None:
        """Open all that is folded, and make the screen so high that all of it is seen."""
        self.run("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
        self._resize(self.run("innerWidth"), self.run("document.documentElement.scrollHeight"))

    def run(self, script: str) -> Any:
        """The value of an expression in the page, awaited where it is a promise."""
        answer = self.ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"]["exception"]["description"])
        return answer["result"].get("value")

    def press(self, key: str) -> None:
        """Press and release a key, as on a keyboard."""
        code = {"Tab": 9, "Enter": 13}[key]
        for kind in ("rawKeyDown", "char", "keyUp") if key == "Enter" else ("rawKeyDown", "keyUp"):
            text = {"text": "\r"} if kind == "char" else {}
            self.ask(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **text
            )

    def photograph(self, path: Path) -> None:
        """The whole page as a PNG."""
        picture = self.ask("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(picture["data"]))

    def told(self, method: str) -> list[dict[str, Any]]:
        """The parameters of all events of that name since the page was asked for."""
        return [event["params"] for event in self.events if event.get("method") == method]

    def _resize(self, width: int, height: int) -> None:
        mobile = width < 600
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=mobile,
        )

    def _wait_for(self, method: str) -> None:
        while not self.told(method):
            self.events.append(json.loads(self._connection.recv(timeout=WITHIN)))


@contextlib.contextmanager
def browsing(path: str, folder: Path) -> Iterator[Browser]:
    """The browser at `path`, its profile in `folder`; it has ended on return."""
    command = [
        path,
        "--headless",
        "--remote-debugging-port=0",
        f"--user-data-dir={folder}",
        "--no-first-run",
        "--disable-gpu",
        "--disable-dev-shm-usage",  # small in containers
        "--hide-scrollbars",
    ]
    if os.geteuid() == 0:
        command.append("--no-sandbox")  # its sandbox is not for root; the pages are our own
    # A session of its own: Debian's command is a shell, and what is sent to it does not reach the browser.
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, start_new_session=True
    )
    try:
        with connect(_address(process), max_size=None, proxy=None, open_timeout=WITHIN) as connection:
            browser = Browser(connection)
            browser.attach()
            yield browser
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(WITHIN)
        assert process.stderr is not None
        process.stderr.close()


def _address(process: subprocess.Popen[str]) -> str:
    """What it says when it listens."""
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        before, found, address = line.partition("DevTools listening on ")
        if found:
            return address.strip()
        said.append(before)
    text = f"the browser has ended without listening: {''.join(said)}"
    raise RuntimeError(text)
