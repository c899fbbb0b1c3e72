"""The page as people meet it: in Chromium, by keyboard, on a phone, in the dark and on paper."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from faceproof.evidence.gathering import gather
from faceproof.evidence.page import write_page
from tests.evidence.made_reports import Boxes, made_report, toy_detector, wave

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
]
DETECTOR = toy_detector()

pytestmark = [pytest.mark.xdist_group("chromium"), pytest.mark.timeout(120)]


@pytest.fixture(scope="module", autouse=True)
def browser_is_here() -> None:
    if CHROMIUM is None or DRIVER is None:
        message = "chromium and chromedriver are not installed"
        if os.environ.get("CI", "").lower() in ("1", "true"):
            pytest.fail(message)
        pytest.skip(message)


def two_people(index: int) -> Boxes:
    return {1: (110, 60, 210, 190), **({2: (10, 10, 90, 110)} if 20 <= index < 60 else {})}


@pytest.fixture(scope="module")
def folder(clip_mp4: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page beside its video (``with``) and one alone (``without``)."""
    folder = tmp_path_factory.mktemp("pages")
    evidence = gather(made_report(clip_mp4, DETECTOR, scores=wave, boxes=two_people), DETECTOR, clip_mp4)
    for name in ("with", "without"):
        (folder / name).mkdir()
        write_page(evidence, folder / name / "report.html")
    shutil.copy(clip_mp4, folder / "with" / "clip.mp4")
    return folder


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in [*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}", "--window-size=1200,1000"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


def media(browser: Any, **features: str) -> None:
    listed = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": listed})


def test_the_timeline_is_moved_by_keyboard_and_says_so(browser: Any, folder: Path) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    browser.get((folder / "without" / "report.html").as_uri())
    slider = browser.find_element(By.ID, "slider")
    for _ in range(30):
        browser.switch_to.active_element.send_keys(Keys.TAB)
        if browser.switch_to.active_element == slider:
            break
    else:
        pytest.fail("the timeline cannot be reached with Tab")
    slider.send_keys(Keys.HOME)
    assert slider.get_attribute("aria-valuenow") == "0.000"
    slider.send_keys(Keys.ARROW_RIGHT)
    assert float(slider.get_attribute("aria-valuenow")) == pytest.approx(5 * 1001 / 30000, abs=0.002)
    assert "person 1 0." in slider.get_attribute("aria-valuetext")
    assert "person 2" not in browser.find_element(By.ID, "readout").text  # only who is seen at that moment
    slider.send_keys(Keys.ARROW_LEFT)
    assert slider.get_attribute("aria-valuenow") == "0.000"
    slider.send_keys(Keys.END)
    assert float(slider.get_attribute("aria-valuenow")) == pytest.approx(3.003, abs=0.01)
    assert not errors(browser)


def errors(browser: Any) -> list[str]:
    """What the console complains about, a video that is not there aside."""
    return [e["message"] for e in browser.get_log("browser") if "clip.mp4" not in e["message"]]


def test_the_video_beside_the_page_follows(browser: Any, folder: Path) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.ui import WebDriverWait

    browser.get((folder / "with" / "report.html").as_uri())
    WebDriverWait(browser, 20).until(lambda d: d.find_element(By.ID, "player").is_displayed())
    assert not browser.find_element(By.ID, "scene").is_displayed()
    slider = browser.find_element(By.ID, "slider")
    slider.send_keys(Keys.HOME, Keys.PAGE_UP)
    where = "return document.querySelector('video').currentTime"
    WebDriverWait(browser, 20).until(lambda d: abs(d.execute_script(where) - 0.3) < 0.05)
    assert len(browser.find_elements(By.CSS_SELECTOR, "#boxes rect")) == 2
    browser.find_elements(By.CSS_SELECTOR, "button[data-time]")[-1].click()
    assert browser.execute_script(where) > 0.7
    assert not errors(browser)


def test_without_the_video_the_page_says_what_to_do(browser: Any, folder: Path) -> None:
    from selenium.webdriver.common.by import By

    browser.get((folder / "without" / "report.html").as_uri())
    assert not browser.find_element(By.ID, "player").is_displayed()
    assert browser.find_element(By.ID, "scene").is_displayed()
    assert "clip.mp4" in browser.find_element(By.ID, "hint").text


@pytest.mark.parametrize("width", [320, 375, 768, 1200])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_any_screen_and_can_be_read(browser: Any, folder: Path, width: int, scheme: str) -> None:
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False},
    )
    media(browser, prefers_color_scheme=scheme)
    browser.get((folder / "without" / "report.html").as_uri())
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    ground = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert ground == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(21, 24, 28)")
    worst = browser.execute_script(CONTRAST)
    assert worst["ratio"] >= 4.5, worst
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


# The lowest contrast of any text against the ground behind it, by the formula of WCAG 2.
CONTRAST = """
const light = (c) => c.map((v) => { v /= 255; return v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; })
  .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
const parse = (text) => {
  const n = text.match(/[\\d.]+/g).map(Number);
  return n.length > 3 && n[3] === 0 ? null : n.slice(0, 3);
};
let worst = {ratio: 99};
for (const element of document.querySelectorAll("body *:not(script):not(svg *)")) {
  if (![...element.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim())) continue;
  if (!element.offsetParent || element.className === "skip") continue;
  let ground = null;
  for (let at = element; at && !ground; at = at.parentElement) ground = parse(getComputedStyle(at).backgroundColor);
  const [a, b] = [light(parse(getComputedStyle(element).color)), light(ground || [255, 255, 255])];
  const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
  if (ratio < worst.ratio) worst = {ratio, text: element.textContent.slice(0, 60)};
}
return worst;
"""


def test_a_screen_reader_finds_names_for_everything(browser: Any, folder: Path) -> None:
    browser.get((folder / "without" / "report.html").as_uri())
    nodes = browser.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    named = {"image", "slider", "button", "link", "article", "region", "table", "img", "group"}
    for node in nodes:
        role = node.get("role", {}).get("value")
        if not node.get("ignored") and role in named - {"group"}:
            assert node.get("name", {}).get("value"), (role, json.dumps(node)[:300])
    headings = [n["name"]["value"] for n in nodes if n.get("role", {}).get("value") == "heading"]
    assert headings[0].startswith("Signs of manipulation")


def test_it_prints_on_two_sides(folder: Path, tmp_path: Path) -> None:
    assert CHROMIUM is not None
    out = tmp_path / "page.pdf"
    subprocess.run(
        [
            CHROMIUM,
            *FLAGS,
            f"--user-data-dir={tmp_path / 'profile'}",
            "--no-pdf-header-footer",
            f"--print-to-pdf={out}",
            (folder / "with" / "report.html").as_uri(),
        ],
        check=True,
        capture_output=True,
        timeout=100,
    )
    content = out.read_bytes()
    assert content.count(b"/Type /Page\n") + content.count(b"/Type /Page ") == 2
