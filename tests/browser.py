"""A real browser for tests: Chromium without a window, driven by the DevTools protocol over a pipe.

No driver program and no package: the protocol is JSON texts that end with a zero byte, on the file
descriptors 3 and 4 (`--remote-debugging-pipe`). `ensure_chromium` finds the browser or installs it.
"""

import base64
import functools
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_ANSWER_S = 30.0


class BrowserUnavailable(Exception):
    """There is no browser here; the message says what to install."""


@functools.cache
def ensure_chromium() -> str:
    """The browser's program: `$PROJECTOR_TEST_CHROMIUM`, one on the PATH, or Debian's, installed
    with apt where this user may. Raises BrowserUnavailable."""
    found = _find()
    if found is None and shutil.which("apt-get"):
        sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
        if not sudo or shutil.which("sudo"):
            install = ["apt-get", "install", "--yes", "--no-install-recommends"]
            environment = ["env", "DEBIAN_FRONTEND=noninteractive"]
            subprocess.run(
                [*sudo, *environment, *install, "chromium", "fonts-dejavu-core"],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
            )
            found = _find()
    if found is None:
        raise BrowserUnavailable("no Chromium or Chrome: install the package chromium")
    return found


def _find() -> str | None:
    named = os.environ.get("PROJECTOR_TEST_CHROMIUM")
    return named or next(filter(None, map(shutil.which, _NAMES)), None)


@contextmanager
def open_browser() -> Iterator["Browser"]:
    """A browser process with a profile of its own, ended afterwards."""
    to_browser, from_browser = os.pipe(), os.pipe()
    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as profile:
        # The shell moves our pipe ends to 3 and 4, whatever their numbers are.
        command = f'exec "$@" 3<&{to_browser[0]} 4>&{from_browser[1]}'
        process = subprocess.Popen(
            ["bash", "-c", command, "chromium", ensure_chromium(), *_options(profile)],
            pass_fds=(to_browser[0], from_browser[1]),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser[0])
        os.close(from_browser[1])
        browser = Browser(to_browser[1], from_browser[0])
        try:
            yield browser
        finally:
            browser.close()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _options(profile: str) -> list[str]:
    root = ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium refuses root otherwise
    return [
        "--headless=new",
        "--remote-debugging-pipe",
        f"--user-data-dir={profile}",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--no-first-run",
        "--hide-scrollbars",
        *root,
        "about:blank",
    ]


class Browser:
    """The browser's end of the protocol."""

    def __init__(self, writes: int, reads: int) -> None:
        self._writes, self._reads = writes, reads
        self._buffer = b""
        self._number = 0
        self.events: list[dict[str, Any]] = []

    def page(self, url: str, *, width: int = 1100, height: int = 900, dark: bool = False) -> "Page":
        """A new page at `url`, as large as said, in light or dark."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, session)
        for domain in ("Page", "Runtime", "Log", "Network"):
            page.call(f"{domain}.enable")
        page.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        page.call("Emulation.setEmulatedMedia", features=[scheme])
        page.call("Page.bringToFront")  # a page behind another one counts as hidden
        page.call("Page.navigate", url=url)
        page.wait_until("location.href !== 'about:blank' && document.readyState === 'complete'")
        return page

    def call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol and wait for its answer."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self._writes, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + _ANSWER_S
        while True:
            answer = self._read(deadline)
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise AssertionError(f"{method}: {answer['error']}")
                result: dict[str, Any] = answer["result"]
                return result
            self.events.append(answer)

    def _read(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            readable, _, _ = select.select([self._reads], [], [], deadline - time.monotonic())
            piece = os.read(self._reads, 1 << 20) if readable else b""
            if not piece:
                raise AssertionError("the browser does not answer")
            self._buffer += piece
        text, self._buffer = self._buffer.split(b"\0", 1)
        message: dict[str, Any] = json.loads(text)
        return message

    def close(self) -> None:
        """Ask the browser to end."""
        try:
            self.call("Browser.close")
        except (AssertionError, OSError):
            pass  # gone already
        os.close(self._writes)
        os.close(self._reads)


class Page:
    """A page in the browser."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser, self._session = browser, session

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol for this page."""
        return self._browser.call(method, self._session, **parameters)

    def ask(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait_until(self, expression: str, timeout_s: float = 15.0) -> None:
        """Wait until a JavaScript expression is true."""
        deadline = time.monotonic() + timeout_s
        while not self.ask(expression):
            text = self.ask("document.body?.innerText")
            assert time.monotonic() < deadline, f"never true: {expression}; the page says:\n{text}"
            time.sleep(0.05)

    def text(self, selector: str) -> str:
        """What people read in the first element that the selector finds."""
        return str(self.ask(f"document.querySelector({json.dumps(selector)}).innerText"))

    def complaints(self) -> list[str]:
        """Exceptions, console errors and violations of the content policy so far."""
        self.ask("0")  # whatever came before this answer has been read
        found = []
        for event in self._browser.events:
            if event.get("sessionId") != self._session:
                continue
            if event["method"] == "Runtime.exceptionThrown":
                found.append(str(event["params"]["exceptionDetails"]))
            if event["method"] == "Log.entryAdded" and event["params"]["entry"]["level"] == "error":
                found.append(event["params"]["entry"]["text"])
        return found

    def requested(self) -> set[str]:
        """The addresses that the page asked for, without queries."""
        self.ask("0")
        return {
            event["params"]["request"]["url"].split("?")[0]
            for event in self._browser.events
            if event.get("sessionId") == self._session
            and event["method"] == "Network.requestWillBeSent"
        }

    def screenshot(self, path: Path) -> None:
        """Save the whole page as PNG."""
        answer = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(answer["data"]))
