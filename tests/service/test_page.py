"""The page in a real browser, as a person uses it: with a mouse, with a keyboard, on a phone."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from browsing import By, Site, find, result_of, upload, webdriver
from selenium.webdriver.common.keys import Keys
from service_under_test import make_clip, make_picture, wait_for

from faceproof.detectors.calibration import calibrate
from faceproof.results import AppliedCalibration
from faceproof.service import keys
from faceproof.service.app import WEB

pytestmark = [pytest.mark.xdist_group("page"), pytest.mark.usefixtures("quiet_console")]


def test_from_dropping_a_file_to_the_verdict(browser: Any, page: Site, tmp_path: Path) -> None:
    result_of(browser, page, tmp_path, make_clip(1, frames=30), "holiday <b>.mp4")
    assert find(browser, ".verdict h1").text == "Signs of manipulation"
    assert "A score is evidence, not proof." in find(browser, ".verdict .finding").text
    assert find(browser, ".verdict .file").text == "holiday <b>.mp4"
    assert len(browser.find_elements(By.CSS_SELECTOR, ".person")) == 1
    for picture in browser.find_elements(By.CSS_SELECTOR, ".person img"):
        wait_for(lambda p=picture: p.get_property("naturalWidth"), what="a face's picture")
        assert picture.get_attribute("alt")
    wait_for(lambda: find(browser, "video").get_property("readyState") >= 1, what="the video")
    headings = [h.text for h in browser.find_elements(By.CSS_SELECTOR, ".explain h2")]
    assert headings == ["What this means", "How sure", "What it cannot see", "Repeat it", "Provenance"]


def test_boxes_are_calibrated_as_people_are(browser: Any, page: Site, tmp_path: Path) -> None:
    """The page's own arithmetic against the package's."""
    browser.get(page.url)
    ways: list[dict[str, Any]] = [
        {"method": "none"},
        {"method": "temperature", "a": 1.7},
        {"method": "platt", "a": 1.23, "b": 0.17},
        {"method": "isotonic", "points": [[0.1, 0.2], [0.5, 0.4], [0.9, 0.95]]},
    ]
    scores = [0.0, 0.05, 0.1, 0.3, 0.5, 0.77, 0.9, 0.99, 1.0]
    told = browser.execute_async_script(
        "const [ways, scores, done] = arguments;"
        "import('/static/boxes.js').then(({ onOneScale }) => done("
        "ways.map((way) => scores.map((p) => onOneScale(p, { detector: { calibration: way } })))))",
        [{"a": 1, "b": 0, "points": [], **way} for way in ways],
        scores,
    )
    for way, shown in zip(ways, told, strict=True):
        assert shown == pytest.approx([calibrate(p, AppliedCalibration(**way)) for p in scores], abs=1e-9)


def test_the_timeline_moves_the_video_by_keyboard_and_mouse(browser: Any, page: Site, tmp_path: Path) -> None:
    result_of(browser, page, tmp_path, make_clip(2, frames=30), "keys.mp4")
    video, seek = find(browser, "video"), find(browser, "#seek")
    wait_for(lambda: video.get_property("readyState") >= 1)

    def now() -> float:
        return float(video.get_property("currentTime"))

    seek.send_keys(Keys.END)
    wait_for(lambda: now() > 2.5)
    seek.send_keys(Keys.HOME)
    wait_for(lambda: now() == 0)
    seek.send_keys(Keys.ARROW_RIGHT)
    wait_for(lambda: now() > 0)
    assert seek.get_attribute("role") == "slider"
    wait_for(lambda: float(seek.get_attribute("aria-valuenow")) > 0)
    webdriver.ActionChains(browser).move_to_element(find(browser, ".curve")).click().perform()
    wait_for(lambda: 1 < now() < 2)
    # The table behind the drawing says the same to those who cannot see it.
    assert browser.find_elements(By.CSS_SELECTOR, ".timeline table tbody tr")


def test_what_someone_knows_is_said_changed_and_taken_back(browser: Any, page: Site, tmp_path: Path) -> None:
    result_of(browser, page, tmp_path, make_clip(8), "known.mp4")
    right, wrong = (find(browser, f"#feedback [data-truth={truth}]") for truth in ("fake", "real"))
    assert right.text == "The verdict is right: it is manipulated"
    wrong.send_keys(Keys.ENTER)
    wait_for(lambda: find(browser, "#feedback-said").text == "You said: genuine.")
    browser.refresh()
    assert find(browser, "#feedback-said").text == "You said: genuine."
    find(browser, "#feedback [data-truth=fake]").click()
    wait_for(lambda: find(browser, "#feedback-said").text == "You said: manipulated.")
    assert find(browser, "#feedback [data-truth=real]").get_attribute("aria-pressed") == "false"
    find(browser, "#feedback-back").click()
    wait_for(lambda: find(browser, "#feedback-said").text == "Taken back.")
    assert not find(browser, "#feedback-back").is_displayed()


def test_everything_is_reached_by_tab(browser: Any, page: Site, tmp_path: Path) -> None:
    result_of(browser, page, tmp_path, make_clip(3), "tab.mp4")
    body, seen = find(browser, "body"), []
    for _ in range(40):
        browser.switch_to.active_element.send_keys(Keys.TAB)
        active = browser.switch_to.active_element
        if active == body:
            break
        seen.append(active.get_attribute("id") or active.get_attribute("class") or active.tag_name)
    for wanted in ("skip", "medium", "show-boxes", "seek", "delete"):
        assert wanted in seen


def test_a_file_that_cannot_be_judged_says_why_and_what_helps(browser: Any, page: Site, tmp_path: Path) -> None:
    result_of(browser, page, tmp_path, make_clip(4)[:400], "broken.mp4")
    assert find(browser, ".verdict h1").text == "Could not be judged"
    assert "What helps:" in find(browser, ".remedy").text
    assert "No score was given" in find(browser, ".note").text
    assert not find(browser, "body").text.count("media/")


def test_a_file_that_is_no_media_is_refused_in_words(browser: Any, page: Site, tmp_path: Path) -> None:
    path = tmp_path / "letter.mp4"
    path.write_text("Dear editor")
    upload(browser, page, path)
    assert "not a picture or video" in find(browser, "#sending .warning").text
    browser.get_log("browser")  # the refused request


def test_pictures_history_search_compare_and_delete(browser: Any, page: Site, tmp_path: Path) -> None:
    result_of(browser, page, tmp_path, make_picture(5), "portrait.png")
    find(browser, "#compare select").find_element(By.CSS_SELECTOR, "option").click()
    find(browser, "#compare button").click()
    wait_for(lambda: "/compare/" in browser.current_url)
    wait_for(lambda: len(browser.find_elements(By.CSS_SELECTOR, ".sides .verdict h2")) == 2)
    wait_for(lambda: not browser.find_elements(By.CSS_SELECTOR, ".pending"), what="both opinions")
    browser.get(f"{page.url}/history?q=portrait")
    rows = browser.find_elements(By.CSS_SELECTOR, ".rows li")
    assert len(rows) == 2
    rows[0].find_element(By.CSS_SELECTOR, "a").click()
    find(browser, "#delete").click()
    browser.switch_to.alert.accept()
    wait_for(lambda: browser.current_url.rstrip("/") == page.url)
    browser.get(f"{page.url}/history?q=portrait")
    assert len(browser.find_elements(By.CSS_SELECTOR, ".rows li")) == 1
    browser.get(f"{page.url}/history?q=nothing-like-it")
    assert "Nothing here that fits" in find(browser, "main").text


def test_a_picture_that_no_browser_shows_is_seen_all_the_same(browser: Any, page: Site, tmp_path: Path) -> None:
    result_of(browser, page, tmp_path, make_picture(41, "TIFF"), "scan.tif")
    seen = find(browser, "#medium")
    wait_for(lambda: seen.get_property("naturalWidth") == 64, what="the picture")
    assert find(browser, "#viewer-note").text == ""
    assert "as it was judged" in find(browser, ".switches").text


def test_labels_of_neighbours_do_not_cover_each_other(browser: Any, page: Site) -> None:
    """Six small faces side by side and one below: the labels that the page draws, as rectangles."""
    browser.get(page.url)
    taken = browser.execute_async_script(
        """const done = arguments[0];
        import('/static/boxes.js').then(({ Boxes }) => {
          const drawer = Object.create(Boxes.prototype), taken = [], pen = document.createElement('canvas').getContext('2d');
          drawer.isVideo = false;
          for (let i = 0; i < 7; i++) {
            const box = i < 6 ? [40 * i + 10, 60, 40 * i + 45, 100] : [20, 102, 60, 150];
            drawer.label(pen, { track: { id: i + 1, score: 0.5 }, box, p: 0.5 }, 1, 1, taken, [340, 180]);
          }
          done(taken);
        });"""
    )
    assert len(taken) == 7
    for number, (x, y, width, height) in enumerate(taken):
        assert x >= 0
        assert y >= 0
        assert x + width <= 340
        assert y + height <= 180
        for a, b, w, h in taken[:number]:
            assert x + width <= a or x >= a + w or y + height <= b or y >= b + h


def test_a_second_is_no_nothing(browser: Any, page: Site, tmp_path: Path) -> None:
    result_of(browser, page, tmp_path, make_clip(43, frames=8), "short.mp4")
    assert "0:00.8" in find(browser, ".verdict .facts").text
    assert find(browser, ".axis span:last-child").text == "0:00.8"
    assert "96×64 · 10 fps · 0.8 s · H.264" in find(browser, ".plain-facts").text


def test_history_deletes_without_opening(browser: Any, page: Site, tmp_path: Path) -> None:
    name = "gone & <away>.png"
    result_of(browser, page, tmp_path, make_picture(15), name)
    result = browser.current_url
    browser.get(f"{page.url}/history?q=gone")
    find(browser, f"[aria-label='Delete {name}']").send_keys(Keys.ENTER)
    assert name in browser.switch_to.alert.text
    browser.switch_to.alert.accept()
    wait_for(lambda: find(browser, "#said").text == f"{name} is deleted.")
    assert not browser.find_elements(By.CSS_SELECTOR, ".rows li")
    browser.get(result)
    assert "nothing by that name" in find(browser, "h1").text
    browser.get_log("browser")  # the page that is gone


def test_what_was_sent_beside_a_refused_file_is_one_click_away(browser: Any, page: Site, tmp_path: Path) -> None:
    good, bad = tmp_path / "good.png", tmp_path / "bad.png"
    good.write_bytes(make_picture(16))
    bad.write_text("no picture")
    browser.get(page.url)
    find(browser, "#file").send_keys(f"{good}\n{bad}")
    find(browser, "#sending .warning")
    link = find(browser, "#sending a")
    assert link.text == "good.png"
    link.click()
    wait_for(lambda: "/jobs/" in browser.current_url)
    browser.get_log("browser")  # the refused request


def test_a_server_that_went_away_is_noticed_and_its_return_too(browser: Any, tmp_path: Path) -> None:
    site = Site(tmp_path / "away", workers=0)
    path = tmp_path / "clip.mp4"
    path.write_bytes(make_clip(17))
    upload(browser, site, path)
    find(browser, "#cancel")
    site.app.state.closing = True
    site.stop()
    wait_for(lambda: "does not answer" in find(browser, "#stage").text)
    again = Site(tmp_path / "away", workers=1, port=int(site.url.rpartition(":")[2]))
    try:
        wait_for(lambda: browser.find_elements(By.CSS_SELECTOR, ".verdict h1"), what="the result")
    finally:
        again.stop()
        browser.get("about:blank")
        browser.get_log("browser")  # what did not answer meanwhile


def test_nothing_sticks_out_on_a_phone(browser: Any, page: Site, tmp_path: Path) -> None:
    result_of(browser, page, tmp_path, make_clip(6), f"{'a-very-long-name-' * 8}.mp4")
    result = browser.current_url
    phone = {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    try:
        for address in (result, page.url, f"{page.url}/history", f"{page.url}/detectors"):
            browser.get(address)
            assert browser.execute_script("return document.documentElement.scrollWidth") <= 360, address
        browser.get(result)
        verdict, viewer = find(browser, ".verdict"), find(browser, ".viewer")
        assert verdict.location["y"] < viewer.location["y"]
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_every_page_has_a_language_one_heading_and_named_controls(browser: Any, page: Site, tmp_path: Path) -> None:
    result_of(browser, page, tmp_path, make_clip(7), "named.mp4")
    for address in (browser.current_url, page.url, f"{page.url}/history", f"{page.url}/detectors"):
        browser.get(address)
        assert find(browser, "html").get_attribute("lang") == "en"
        assert len(browser.find_elements(By.CSS_SELECTOR, "h1")) == 1
        browser.execute_script("for (const one of document.querySelectorAll('details')) one.open = true")
        for control in browser.find_elements(
            By.CSS_SELECTOR, "a, button, input:not([type=hidden]), select, [role=slider]"
        ):
            if control.is_displayed():  # browsers give hidden controls no name
                assert control.accessible_name.strip(), control.get_attribute("outerHTML")
        for picture in browser.find_elements(By.CSS_SELECTOR, "img"):
            assert picture.get_attribute("alt")


def test_signing_in_and_out(browser: Any, tmp_path: Path) -> None:
    site = Site(tmp_path / "guarded", workers=0, auth="keys")
    try:
        _, key = keys.create(site.app.state.site.store, "someone")
        browser.get(site.url)
        find(browser, "#key").send_keys("fp_wrong_key", Keys.ENTER)
        assert "not known" in find(browser, "#wrong").text
        find(browser, "#key").send_keys(key, Keys.ENTER)
        find(browser, "#upload")
        path = tmp_path / "clip.mp4"
        path.write_bytes(make_clip(1))
        find(browser, "#file").send_keys(str(path))
        find(browser, "#cancel").click()
        wait_for(lambda: browser.find_elements(By.CSS_SELECTOR, ".verdict h1"))
        assert find(browser, ".verdict h1").text == "Stopped"
        find(browser, "nav button").click()
        find(browser, "#key")
        browser.get(f"{site.url}/history")
        assert browser.current_url.endswith("/sign-in")
    finally:
        site.stop()


def _luminance(colour: str) -> float:
    digits = colour.lstrip("#")
    digits = "".join(c * 2 for c in digits) if len(digits) == 3 else digits
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    r, g, b = (c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_text_stands_out_from_its_ground(theme: int) -> None:
    text = (WEB / "static" / "faceproof.css").read_text()
    colours = {}
    for block in re.findall(r":root \{(.*?)\}", text, re.S)[: theme + 1]:
        colours.update(re.findall(r"--([a-z-]+): (#[0-9a-f]+)", block))
    for ink in ("ink", "soft", "fake", "real", "unsure", "accent"):
        for ground in ("paper", "card", "wash"):
            high, low = sorted((_luminance(colours[ink]), _luminance(colours[ground])), reverse=True)
            assert (high + 0.05) / (low + 0.05) >= 4.5, (ink, ground)


def test_pages_load_nothing_from_elsewhere_and_hold_no_script() -> None:
    for path in (WEB / "templates").glob("*.html"):
        text = path.read_text()
        assert not re.search(r"(?:src|href)=\"(?:https?:)?//", text), path
        assert not re.search(r"\son[a-z]+=|style=\"|<style|javascript:", text), path
        for script in re.findall(r"<script[^>]*>(.*?)</script>", text, re.S):
            assert script == "", path
