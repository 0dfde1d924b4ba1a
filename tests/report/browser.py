"""One headless Chromium, driven by selenium, and what tests ask it about a page."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from axe_core_python.selenium import Axe
from selenium.webdriver import Chrome
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

DESKTOP, PHONE = 1280, 360
"""Widths in CSS pixels."""
_SWITCHES = (
    "--headless=new",
    "--no-sandbox",  # which root has to do without
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
)
_REPORTED = {"resultTypes": ["violations", "incomplete"]}
_OVERFLOWING = """
const edge = document.documentElement.clientWidth;
if (document.documentElement.scrollWidth > edge) return ["the page scrolls sideways"];
const scrolls = (one) => one.closest(".scroll") && !one.matches(".scroll");
return [...document.body.querySelectorAll("*")]
    .filter((one) => !scrolls(one) && one.getClientRects().length)
    .filter((one) => one.getBoundingClientRect().right > edge + 0.5)
    .map((one) => one.outerHTML.slice(0, 120));
"""


class Browser:
    """A window with one page in it, in a width and a colour scheme."""

    def __init__(self, driver: Chrome, folder: Path) -> None:
        self.driver, self._folder = driver, folder
        self.axe = Axe()

    def open(self, page: str, width: int = DESKTOP, *, dark: bool = False) -> None:
        """Open a page from disk; what the one before it had logged is forgotten."""
        self.media(dark=dark)
        self.resize(width)
        path = self._folder / "page.html"
        path.write_text(page, encoding="utf-8")
        self.driver.get("about:blank")
        self.console(), self.asked()
        self.driver.get(path.as_uri())

    def resize(self, width: int) -> None:
        """Give the window a width, and a phone's viewport where it is narrow."""
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def media(self, kind: str = "screen", *, dark: bool = False) -> None:
        """Show the page on a screen or as it is printed, in the colours that the system asks."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd(
            "Emulation.setEmulatedMedia", {"media": kind, "features": [scheme]}
        )

    def ask(self, script: str, *arguments: Any) -> Any:
        """What a script returns."""
        return self.driver.execute_script(script, *arguments)

    def colour(self, selector: str, name: str = "background-color") -> str:
        """A computed colour of the first element."""
        script = "return getComputedStyle(document.querySelector(arguments[0]))[arguments[1]]"
        return str(self.ask(script, selector, name))

    def violations(self) -> list[str]:
        """The rules of axe that the page breaks, or may break in its contrast, with where.

        Text within a drawing is left to `tests/report/plots/test_style.py`: axe cannot tell its
        ground.
        """
        found = self.axe.run(self.driver, {"exclude": [["svg > *"]]}, _REPORTED)
        unsure = [one for one in found["incomplete"] if one["id"] == "color-contrast"]
        return [
            f"{one['id']}: {node['html'][:120]} {node.get('any', [{}])[:1]}"
            for one in [*found["violations"], *unsure]
            for node in one["nodes"]
        ]

    def overflowing(self) -> list[str]:
        """What sticks out of the window sideways, but for what a box of its own scrolls."""
        return list(self.ask(_OVERFLOWING))

    def console(self) -> list[str]:
        """What was logged since it was last asked."""
        return [one["message"] for one in self.driver.get_log("browser")]

    def asked(self) -> list[str]:
        """What the page has asked for but itself, as addresses, since it was last asked."""
        events = [json.loads(one["message"]) for one in self.driver.get_log("performance")]
        urls = [
            event["message"]["params"]["request"]["url"]
            for event in events
            if event["message"]["method"] == "Network.requestWillBeSent"
        ]
        return [url for url in urls if not url.endswith("/page.html") and url != "about:blank"]


@contextmanager
def browser_in(folder: Path) -> Iterator[Browser]:
    """A browser that keeps its page in `folder`; skips the test where none is installed."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("needs Chromium and its driver: apt install chromium chromium-driver")
    options = Options()
    options.binary_location = chromium
    for switch in _SWITCHES:
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    quiet = {**os.environ, "SE_OFFLINE": "true", "SE_AVOID_STATS": "true"}
    chrome = Chrome(options=options, service=Service(driver, env=quiet))
    try:
        yield Browser(chrome, folder)
    finally:
        chrome.quit()
