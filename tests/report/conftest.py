import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vidmamba.video.writer import VideoWriter

CHROMIUM, DRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")

PATIENCE = 60
"""Seconds after which something that should happen has not: ample for a machine that is busy."""


class Browser:
    """A headless Chromium with what these tests ask of it."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def open(self, page: Path, *, width: int = 1280, height: int = 800, dark: bool = False) -> None:
        """Load a page in a window of this size; forgets what was logged before."""
        command = self.driver.execute_cdp_cmd
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        command("Emulation.setDeviceMetricsOverride", size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        command("Emulation.setEmulatedMedia", {"features": [scheme]})
        self.driver.get("about:blank")
        for log in ("browser", "performance"):
            self.driver.get_log(log)
        self.driver.get(page.as_uri())

    def wait(self, condition: str, *arguments: Any) -> Any:
        """Wait until a JavaScript expression holds; its value."""
        stop = time.monotonic() + PATIENCE
        while not (value := self.run(f"return {condition}", *arguments)):
            assert time.monotonic() < stop, f"{PATIENCE} s without {condition}"
            time.sleep(0.03)
        return value

    def ready(self) -> None:
        """Wait until the video can be played and searched through."""
        self.wait("document.querySelector('video').readyState >= 2")

    def seek(self, time: float) -> None:
        self.run("document.querySelector('video').currentTime = arguments[0]", time)
        self.wait("!document.querySelector('video').seeking")

    def press(self, key: str) -> None:
        """Press one key: a character or a name of KeyboardEvent.key's."""
        codes = {"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}
        codes |= {"Home": 36, "End": 35, "Enter": 13}
        event: dict[str, Any] = {"key": key}
        # a key that writes is told by its text, another by its code
        event |= {"windowsVirtualKeyCode": codes[key]} if key in codes else {"text": key}
        event |= {"text": "\r"} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            self.driver.execute_cdp_cmd("Input.dispatchKeyEvent", {"type": kind} | event)
            event.pop("text", None)

    def click(self, selector: str) -> None:
        """Press the mouse in the middle of an element that is scrolled into view."""
        x, y = self.run(
            "const node = document.querySelector(arguments[0]);"
            "node.scrollIntoView({ block: 'nearest', inline: 'nearest' });"
            "const box = node.getBoundingClientRect();"
            "return [box.left + box.width / 2, box.top + box.height / 2]",
            selector,
        )
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            event = {"type": kind, "x": x, "y": y, "button": "left", "clickCount": 1}
            self.driver.execute_cdp_cmd("Input.dispatchMouseEvent", event)

    def now(self) -> float:
        self.wait("!document.querySelector('video').seeking")
        return float(self.run("return document.querySelector('video').currentTime"))

    def current(self) -> list[str]:
        """Names of the rows that are marked in the list of segments."""
        rows: list[str] = self.run(
            "return [...document.querySelectorAll('#segments [aria-current] .name > span')]"
            ".map((node) => node.textContent)"
        )
        return rows

    def complaints(self) -> list[str]:
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """Every address that was asked for since `open`."""
        messages = [
            json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")
        ]
        return [
            message["params"]["request"]["url"]
            for message in messages
            if message["method"] == "Network.requestWillBeSent"
        ]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One browser for all tests."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    if not (CHROMIUM.exists() and DRIVER.exists()):
        pytest.skip(f"no {CHROMIUM} and {DRIVER}")
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    # --no-sandbox: containers run as root; the pages are our own
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(str(DRIVER)))
    try:
        yield Browser(driver)
    finally:
        driver.quit()


def write_clip(path: Path, *, seconds: float = 6.0, fps: int = 10, **options: Any) -> Path:
    """A small film whose brightness grows with time."""
    with VideoWriter(path, width=160, height=120, fps=fps, **options) as writer:
        for k in range(round(seconds * fps)):
            frame = np.full((120, 160, 3), 40, np.uint8)
            frame[:, : 1 + int(159 * k / (seconds * fps))] = 220
            writer.write(frame)
    return path


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six seconds of H.264 in mp4."""
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4")
