"""A real browser without a window, driven over the DevTools protocol: what a page does, asks for and complains of."""

import base64
import itertools
import json
import os
import select
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

#: Nothing that a browser does for itself: no look-ups, no updates, no profile of anybody. Commands come by a pipe.
_FLAGS: Final = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--remote-debugging-pipe"),
)
#: Seconds that the browser may take to say something.
_PATIENCE: Final = 60


def browser_path() -> str | None:
    """Return where Chromium is, if it is installed."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


class Tab:
    """One tab; ``complaints`` are errors and warnings of the console, ``requests`` the addresses that were asked for."""

    def __init__(self, commands: int, answers: int) -> None:
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self._commands = commands
        self._answers = answers
        self._received = b""
        self._numbers = itertools.count(1)
        self._loaded = False
        self._session: dict[str, str] = {}
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = {"sessionId": self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]}
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol and return its result; raises AssertionError if it fails."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters, **self._session}
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == number:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result

    def open(self, url: str) -> None:
        """Load a page and wait until it is complete."""
        self._loaded = False
        self.call("Page.navigate", url=url)
        while not self._loaded:
            self._receive()

    def evaluate(self, script: str) -> Any:
        """Return what a piece of script gives."""
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def look(self, *, width: int, scheme: str = "light", media: str = "screen") -> None:
        """Make the window so wide, in CSS pixels, and prefer this colour scheme."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", media=media, features=features)

    def picture(self, path: Path, top: int = 0, height: int | None = None) -> None:
        """Write a picture of the page, or of a part of it, as PNG."""
        width, whole = self.evaluate("[innerWidth, document.documentElement.scrollHeight]")
        clip = {"x": 0, "y": top, "width": width, "height": height or whole - top, "scale": 1}
        taken = self.call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        path.write_bytes(base64.b64decode(taken["data"]))

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._received:
            ready, _, _ = select.select([self._answers], [], [], _PATIENCE)
            more = os.read(self._answers, 1 << 20) if ready else b""
            assert more, "the browser says nothing"
            self._received += more
        line, _, self._received = self._received.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        method, parameters = message.get("method", ""), message.get("params", {})
        self._loaded = self._loaded or method == "Page.loadEventFired"
        if method == "Log.entryAdded":
            self.complaints.append(parameters["entry"]["text"])
        elif method in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown"):
            self.complaints.append(json.dumps(parameters))
        elif method == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])
        return message


@contextmanager
def opened(path: str, profile: Path) -> Iterator[Tab]:
    """Start the browser at ``path`` with a new profile, give a tab, and wait until the browser has ended."""
    theirs, commands = os.pipe()
    answers, ours = os.pipe()
    words = [path, *_FLAGS, f"--user-data-dir={profile}", "about:blank"]
    # The pipe is where the protocol wants it: commands at 3, answers at 4.
    shell = ["bash", "-c", f'exec "$@" 3<&{theirs} 4>&{ours}', "bash", *words]
    null = subprocess.DEVNULL
    try:
        with subprocess.Popen(shell, pass_fds=(theirs, ours), stdin=null, stdout=null, stderr=null) as process:
            os.close(theirs)
            os.close(ours)
            try:
                tab = Tab(commands, answers)
                yield tab
                os.write(commands, b'{"id": 0, "method": "Browser.close"}\0')
                process.wait(_PATIENCE)
            finally:
                process.terminate()
    finally:
        os.close(commands)
        os.close(answers)
