"""A headless Chromium driven by Selenium: real rendering and events, without a network."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking")


def missing() -> str:
    """Which of Chromium and its driver this machine lacks; empty where it has both."""
    if not any(map(shutil.which, NAMES)):
        return "chromium"
    return "" if shutil.which("chromedriver") else "chromedriver (Debian: chromium-driver)"


class Page:
    """One open page."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def load(self, path: Path, *, width: int = 1280, theme: str = "light") -> None:
        """Load a file as if it were the first time, with this width of the window and this theme of the system."""
        self.resize(width)
        self.theme(theme)
        if self.driver.current_url.startswith("file:"):
            self.run("localStorage.clear()")
        self.reports()
        self.driver.get(path.resolve().as_uri())

    def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        return self.driver.execute_script(f"return ({script})")

    def resize(self, width: int, height: int = 900) -> None:
        """Give the page a window of this size in CSS pixels; a phone's below 600."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def theme(self, name: str) -> None:
        """Say that the system is set to this theme, light or dark."""
        features = [{"name": "prefers-color-scheme", "value": name}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def press(self, key: str) -> None:
        """Press and release a key, by its name in `selenium.webdriver.Keys`."""
        ActionChains(self.driver).send_keys(getattr(Keys, key)).perform()

    def reports(self) -> list[dict[str, Any]]:
        """What the browser reported since the last call: requests, dialogues, log entries, exceptions."""
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        return [*events, *({"method": "Log", "params": entry} for entry in self.driver.get_log("browser"))]


@contextmanager
def opened() -> Iterator[Page]:
    """A fresh browser that is offline; it ends with the block."""
    options = webdriver.ChromeOptions()
    options.binary_location = next(filter(None, map(shutil.which, NAMES)))
    for flag in FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    driver = webdriver.Chrome(options, Service(shutil.which("chromedriver")))
    try:
        driver.set_network_conditions(offline=True, latency=0, throughput=0)
        yield Page(driver)
    finally:
        driver.quit()
