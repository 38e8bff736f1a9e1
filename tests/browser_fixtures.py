"""A headless Chromium, driven over the WebDriver protocol (W3C) by the standard library."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

import pytest

ENTER, ESCAPE, TAB, SHIFT = "\ue007", "\ue00c", "\ue004", "\ue008"
LEFT, UP, RIGHT, DOWN = "\ue012", "\ue013", "\ue014", "\ue015"
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
_SWITCHES = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync "
    "--disable-dev-shm-usage --no-proxy-server"
).split()


class Browser:
    """A browser with one page.

    Args:
        driver: address of a running chromedriver. profile: an empty folder.
    """

    def __init__(self, driver: str, profile: Path) -> None:
        self._session = driver
        options = {"args": [*_SWITCHES, f"--user-data-dir={profile}"]}
        binary = shutil.which("chromium") or shutil.which("google-chrome")
        if binary:
            options["binary"] = binary
        wanted = {
            "alwaysMatch": {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        }
        made = self.call("POST", "/session", {"capabilities": wanted})
        self._session = f"{driver}/session/{made['sessionId']}"

    def call(self, method: str, path: str, body: Optional[dict[str, Any]] = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._session + path, data, method=method)
        request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
                request
            ) as reply:
                return json.load(reply)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(json.load(error)["value"]["message"]) from None

    def go(self, url: str) -> None:
        self.call("POST", "/url", {"url": url})

    def run(self, code: str, *arguments: Any) -> Any:
        """Return what JavaScript returns; ``arguments[0]`` and so on stand in it."""
        return self.call("POST", "/execute/sync", {"script": code, "args": list(arguments)})

    def wait(self, code: str, *arguments: Any, seconds: float = 60) -> Any:
        """Return what JavaScript returns as soon as that is true."""
        end = time.monotonic() + seconds
        while not (found := self.run(f"return ({code})", *arguments)):
            assert time.monotonic() < end, f"never true: {code}"
            time.sleep(0.02)
        return found

    def type(self, text: str) -> None:
        """Type into whatever has the focus."""
        element = self.call("GET", "/element/active")[_ELEMENT]
        self.call("POST", f"/element/{element}/value", {"text": text})

    def devtools(self, command: str, **parameters: Any) -> Any:
        return self.call("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def complaints(self) -> list[str]:
        """Return what the browser's console has been told since the last call."""
        return [entry["message"] for entry in self.call("POST", "/se/log", {"type": "browser"})]

    def screenshot(self) -> bytes:
        return base64.b64decode(self.call("GET", "/screenshot"))

    def close(self) -> None:
        self.call("DELETE", "")


def driven(profile: Path) -> Iterator[Browser]:
    """Yield a browser, and end it and its driver afterwards."""
    driver = shutil.which("chromedriver")
    assert driver is not None
    with subprocess.Popen([driver, "--port=0"], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            port = next(
                match[1]
                for line in process.stdout
                if (match := re.search(r"successfully on port (\d+)", line))
            )
            found = Browser(f"http://127.0.0.1:{port}", profile)
            try:
                yield found
            finally:
                found.close()
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A headless Chromium; tests are skipped where there is none."""
    if not shutil.which("chromedriver"):
        pytest.skip("no chromedriver here (Debian packages chromium and chromium-driver)")
    yield from driven(tmp_path_factory.mktemp("profile"))


@pytest.fixture
def browser(chromium: Browser) -> Browser:
    """The same Chromium for all tests of a file, as if newly started."""
    chromium.go("about:blank")
    chromium.devtools("Emulation.clearDeviceMetricsOverride")
    chromium.devtools("Emulation.setEmulatedMedia", features=[])
    chromium.complaints()
    return chromium
