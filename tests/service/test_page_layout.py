"""Where things stand on the page: boxes on their faces, on screens and on paper, and how many sheets it takes."""

from __future__ import annotations

import base64
import re
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from browsing import By, Site, find, result_of
from PIL import Image
from service_under_test import make_clip, make_picture, submit, wait_for

from faceproof.service import keys

pytestmark = [pytest.mark.xdist_group("page"), pytest.mark.usefixtures("quiet_console")]

PHONE = {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True}


def shown_as(browser: Any, selector: str) -> tuple[float, float, float, float]:
    """Where the content of a fitted element lies in the window: left, top, width, height."""
    return tuple(
        browser.execute_script(
            """const one = document.querySelector(arguments[0]), box = one.getBoundingClientRect();
            const wide = one.naturalWidth || one.width, high = one.naturalHeight || one.height;
            if (getComputedStyle(one).objectFit !== "contain") return [box.left, box.top, box.width, box.height];
            const scale = Math.min(box.width / wide, box.height / high);
            const [width, height] = [wide * scale, high * scale];
            return [box.left + (box.width - width) / 2, box.top + (box.height - height) / 2, width, height];""",
            selector,
        )
    )


@pytest.mark.parametrize("size", [(640, 150), (150, 640), (320, 240)], ids=["wide", "tall", "plain"])
def test_boxes_lie_on_the_picture_whatever_its_shape(
    browser: Any, page: Site, tmp_path: Path, size: tuple[int, int]
) -> None:
    target = BytesIO()
    pixels = np.random.default_rng(size[0]).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(target, "PNG")
    result_of(browser, page, tmp_path, target.getvalue(), "shape.png")
    for device in ({"width": 1280, "height": 900, "deviceScaleFactor": 1, "mobile": False}, PHONE):
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", device)
        try:
            wait_for(lambda: shown_as(browser, "#boxes") == pytest.approx(shown_as(browser, "#medium"), abs=1.5))
        finally:
            browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_it_prints_on_two_sides_with_what_it_does_not_mean(browser: Any, page: Site, tmp_path: Path) -> None:
    for name, content in (("clip.mp4", make_clip(1, frames=30)), ("picture.png", make_picture(5))):
        result_of(browser, page, tmp_path, content, name)
        made = browser.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True})
        assert len(re.findall(rb"/Type\s*/Page\b(?!s)", base64.b64decode(made["data"]))) <= 2, name
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
        try:
            assert "not proof" in find(browser, "footer").text
            for gone in (".bar", ".actions", ".feedback"):
                assert not browser.find_element(By.CSS_SELECTOR, gone).is_displayed()
        finally:
            browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_names_that_differ_at_their_end_can_be_told_apart_on_a_phone(browser: Any, page: Site, tmp_path: Path) -> None:
    for number in (1, 2):
        result_of(browser, page, tmp_path, make_clip(50 + number), f"Bundespressekonferenz-Aufzeichnung-{number}.mp4")
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", PHONE)
    try:
        browser.get(f"{page.url}/history?q=Bundespresse")
        for name in browser.find_elements(By.CSS_SELECTOR, ".rows .name"):
            assert name.get_property("scrollWidth") <= name.get_property("clientWidth")
            assert name.get_property("scrollHeight") <= name.get_property("clientHeight") + 1
        assert browser.execute_script("return document.documentElement.scrollWidth") <= 360
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_a_server_that_is_away_is_said_in_words(browser: Any, page: Site, tmp_path: Path) -> None:
    result_of(browser, page, tmp_path, make_clip(60), "away.mp4")
    wait_for(lambda: find(browser, "#boxes").get_property("width"))
    browser.execute_cdp_cmd("Network.enable", {})
    browser.execute_cdp_cmd("Network.setBlockedURLs", {"urls": ["*/v1/*"]})
    try:
        find(browser, "#show-heat").click()
        wait_for(lambda: "does not answer" in find(browser, "#viewer-note").text)
        assert not find(browser, "#show-heat").is_selected()
        find(browser, "#feedback [data-truth=fake]").click()
        wait_for(lambda: "does not answer" in find(browser, "#problem").text)
        browser.refresh()
        wait_for(lambda: "does not answer" in find(browser, "#problem").text)
    finally:
        browser.execute_cdp_cmd("Network.setBlockedURLs", {"urls": []})
        browser.get_log("browser")  # what was blocked


def test_a_session_that_is_over_is_said_without_a_header(browser: Any, tmp_path: Path) -> None:
    site = Site(tmp_path / "guarded", workers=1, auth="keys")
    try:
        who, key = keys.create(site.app.state.site.store, "someone")
        browser.get(site.url)
        find(browser, "#key").send_keys(key + "\n")
        find(browser, "#upload")
        result_of(browser, site, tmp_path, make_clip(61), "over.mp4")
        find(browser, "#feedback")
        keys.revoke(site.app.state.site.store, who)
        find(browser, "#feedback [data-truth=fake]").click()
        wait_for(lambda: find(browser, "#problem").text == "Your session is over. Reload the page to sign in again.")
    finally:
        site.stop()
        browser.get_log("browser")


def test_a_side_of_a_comparison_that_is_erased_is_not_waited_for(browser: Any, tmp_path: Path) -> None:
    site = Site(tmp_path / "idle", workers=0)
    try:
        with httpx.Client(base_url=site.url) as client:
            first, second = (submit(client, make_clip(seed))["id"] for seed in (70, 71))
            browser.get(f"{site.url}/compare/{first}/{second}")
            assert len(browser.find_elements(By.CSS_SELECTOR, ".pending")) == 2
            client.delete(f"/v1/jobs/{second}").raise_for_status()
            wait_for(lambda: "nothing by that name" in find(browser, "h1").text, seconds=30)
    finally:
        browser.get("about:blank")
        site.stop()
        browser.get_log("browser")  # what is not there any more


def test_screen_readers_are_told_a_stage_once(browser: Any, page: Site, tmp_path: Path) -> None:
    with httpx.Client(base_url=page.url) as client:
        job = submit(client, make_clip(72, frames=40), detector="fake-slow", frames="all")
    browser.get(f"{page.url}/jobs/{job['id']}")
    browser.execute_script(
        """window.said = []; window.counted = new Set();
        const watch = (id, seen) => { const one = document.getElementById(id);
          new MutationObserver(() => seen(one.textContent))
            .observe(one, { childList: true, characterData: true, subtree: true }); };
        watch("stage", (words) => said.push(words)); watch("frames", (words) => counted.add(words));"""
    )
    wait_for(lambda: browser.execute_script("return window.counted?.size > 3"), what="progress")
    said = browser.execute_script("return window.said")
    assert all(a != b for a, b in pairwise(said)), said
    browser.get("about:blank")


def test_screen_readers_are_not_told_every_per_cent_of_an_upload(browser: Any, page: Site, tmp_path: Path) -> None:
    browser.get(page.url)
    browser.execute_script(
        """XMLHttpRequest.prototype.send = function () {
          this.upload.onprogress(new ProgressEvent("progress", { lengthComputable: true, loaded: 41, total: 100 })); };"""
    )
    path = tmp_path / "half.mp4"
    path.write_bytes(make_clip(73))
    find(browser, "#file").send_keys(str(path))
    wait_for(lambda: "41 %" in find(browser, "#sending").text)
    spoken = browser.execute_script(
        "return [...document.querySelectorAll('#sending span:not([aria-hidden])')].map((one) => one.textContent)"
    )
    assert spoken == ["half.mp4"]
    assert find(browser, "#sending progress").get_attribute("aria-label") == "Sending half.mp4"
