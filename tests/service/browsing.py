"""A server and a browser for tests that use the page as a person does."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from service_under_test import free_port, make_settings, wait_for

from faceproof.service.app import make_app
from servers import require

webdriver = pytest.importorskip("selenium.webdriver")
from selenium.webdriver.common.by import By  # noqa: E402


class Site:
    """A server in this process, on a port of its own."""

    def __init__(self, data: Path, **given: Any) -> None:
        port = given.pop("port", None) or free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.app = make_app(make_settings(data, port=port, **given))
        self._server = uvicorn.Server(uvicorn.Config(self.app, port=port, log_config=None, timeout_graceful_shutdown=2))
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        wait_for(lambda: self._server.started, what="the server")

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(30)


def start_browser() -> Any:
    """A browser without a window, of the tests' own."""
    options = webdriver.ChromeOptions()
    options.binary_location = require("chromium", "google-chrome")
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--disable-gpu",
        "--window-size=1200,900",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(require("chromedriver")))
    driver.set_page_load_timeout(30)
    return driver


def find(browser: Any, css: str) -> Any:
    return wait_for(lambda: browser.find_elements(By.CSS_SELECTOR, css), what=css)[0]


def upload(browser: Any, page: Site, path: Path) -> None:
    browser.get(page.url)
    find(browser, "#file").send_keys(str(path))


def result_of(browser: Any, page: Site, tmp_path: Path, content: bytes, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    upload(browser, page, path)
    wait_for(lambda: browser.find_elements(By.CSS_SELECTOR, ".verdict, #result"), what="the result")
