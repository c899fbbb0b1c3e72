"""A whole service in a temporary folder: real database, real files, real worker processes, a network without weights."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import structlog

HERE = Path(__file__).parent
structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
sys.path.insert(0, str(HERE))
# Worker processes find the detectors without weights by name.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH", "")]))

from fastapi.testclient import TestClient  # noqa: E402
from service_under_test import make_settings  # noqa: E402

from faceproof.service.app import make_app  # noqa: E402
from faceproof.service.site import Site  # noqa: E402
from servers import PostgreSQL, Redis  # noqa: E402

if TYPE_CHECKING:
    import browsing


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """Database and files without any process around them."""
    opened = Site.open(make_settings(tmp_path / "data", workers=0))
    yield opened
    opened.close()


@pytest.fixture
def idle(tmp_path: Path) -> Iterator[TestClient]:
    """A service whose queue nobody works off."""
    with TestClient(make_app(make_settings(tmp_path / "data", workers=0))) as client:
        yield client


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A service with one worker process, shared by a module's tests."""
    with TestClient(make_app(make_settings(tmp_path_factory.mktemp("service"), workers=1))) as opened:
        yield opened


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    server = PostgreSQL()
    yield server
    server.stop()


@pytest.fixture
def redis() -> Iterator[Redis]:
    server = Redis()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[browsing.Site]:
    """The page of a service with one worker process, shared by a module's tests."""
    from browsing import Site as Served

    served = Served(tmp_path_factory.mktemp("page"), workers=1)
    yield served
    served.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from browsing import start_browser

    driver = start_browser()
    yield driver
    driver.quit()


@pytest.fixture
def quiet_console(browser: Any) -> Iterator[None]:
    """The browser's console stays empty: no blocked script, no missing file, no error."""
    browser.get_log("browser")
    yield
    said = [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    # A key that is refused is answered with 401, which the browser notes.
    assert [one for one in said if "401" not in one] == []
