"""Makes the pictures of docs/gallery.md: ``make gallery`` (needs chromium, chromedriver and poppler).

Everything shown is made of scikit-image's astronaut (NASA, public domain): a clip of two people, the right one with a blend
planted on the lower half of the face between the second and the fourth second.
"""

from __future__ import annotations

import base64
import io
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from PIL import Image
from skimage import data

from faceproof import scan
from faceproof.batch import ScanOptions
from faceproof.detectors.detector import Detector, load_detector
from faceproof.evidence.gathering import gather
from faceproof.evidence.overlay import write_overlay
from faceproof.evidence.page import write_page
from faceproof.results import Report, Span, Verdict
from tests.conftest import FACE, window, write_video
from tests.evidence.planted_blends import plant

OUT = Path(__file__).parents[2] / "docs" / "gallery"
FPS, SECONDS, SIZE = 25, 6, (1280, 720)
FLAGS = [
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --hide-scrollbars",
    "--disable-background-networking --disable-component-update --disable-sync",
]


def two_people() -> list[np.ndarray]:
    """Two views of the same person, swaying; from 2 s to 4 s the right one's face is blended."""
    astronaut = data.astronaut()
    box = (176.0, 62.0, 276.0, 190.0)
    forged = plant(astronaut, box, "lower", np.random.default_rng(11)).frame
    forged = plant(forged, box, "upper", np.random.default_rng(12)).frame
    frames = []
    for number in range(FPS * SECONDS):
        turn = 2 * np.pi * number / 75
        second = number / FPS
        right = forged if 2 <= second < 4 else astronaut
        frame = np.empty((SIZE[1], SIZE[0], 3), np.uint8)
        for place, picture, phase in ((0, astronaut, 0.0), (640, right[:, ::-1], 1.3)):
            x = FACE[0] if place == 0 else 511 - FACE[0]
            centre = (x + 18 * np.sin(turn + phase), FACE[1] + 8 * np.cos(turn + phase))
            frame[:, place : place + 640] = window(
                np.ascontiguousarray(picture), centre, 1.75 + 0.1 * np.sin(turn / 2), (640, 720)
            )
        frames.append(frame)
    return frames


def portrait() -> list[np.ndarray]:
    return [window(data.astronaut(), (FACE[0] + i / 4, FACE[1] + 20), 1.5, (406, 720)) for i in range(50)]


def invented(report: Report, path: str) -> Report:
    """The report with made-up scores: the second person suspicious from 2 s to 4 s."""
    made = report.model_copy(deep=True)
    made.media.path = path
    for frame in made.frame_predictions:
        for face in frame.faces:
            face.p_fake = 0.93 if face.track == 2 and 2 <= frame.time < 4 else 0.12
        frame.score = max((face.p_fake for face in frame.faces), default=None)
    made.verdict, made.prediction, made.score, made.confidence = Verdict.FAKE, "FAKE", 0.88, 0.88
    for track in made.tracks:
        forged = track.id == 2
        track.score, track.verdict = (0.88, Verdict.FAKE) if forged else (0.1, Verdict.REAL)
        track.suspicious = [Span(start=2, end=4)] if forged else []
    return made


def frame_at(path: Path, seconds: float) -> np.ndarray:
    with av.open(str(path)) as container:
        frames = (f for f in container.decode(video=0) if f.pts * f.time_base >= Fraction(seconds))
        return next(frames).to_ndarray(format="rgb24")


def save(name: str, image: np.ndarray, width: int) -> None:
    height = round(image.shape[0] * width / image.shape[1])
    reduced = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    Image.fromarray(reduced).save(OUT / name, quality=86)


@contextmanager
def browser() -> Iterator[Any]:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        sys.exit("chromium and chromedriver are not installed")
    with tempfile.TemporaryDirectory() as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = chromium
        for flag in [*" ".join(FLAGS).split(), f"--user-data-dir={profile}"]:
            options.add_argument(flag)
        opened = webdriver.Chrome(options=options, service=Service(driver))
        try:
            yield opened
        finally:
            opened.quit()


def shot(opened: Any, page: Path, name: str, width: int, *, dark: bool = False, most: int = 10_000) -> None:
    """The whole page at ``width`` pixels, or its upper ``most``."""
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    opened.get(page.as_uri())
    height = min(opened.execute_script("return document.documentElement.scrollHeight"), most)
    clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
    taken = opened.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip})
    Image.open(io.BytesIO(base64.b64decode(taken["data"]))).convert("RGB").save(OUT / name, quality=84)


def printed(opened: Any, page: Path, name: str, folder: Path) -> None:
    """All sides of the page on paper, next to each other."""
    opened.get(page.as_uri())
    made = opened.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True})
    (folder / "page.pdf").write_bytes(base64.b64decode(made["data"]))
    subprocess.run(["pdftoppm", "-r", "72", "-png", folder / "page.pdf", folder / "side"], check=True)
    sides = [np.asarray(Image.open(path).convert("RGB")) for path in sorted(folder.glob("side-*.png"))]
    save(name, np.hstack(sides), sum(side.shape[1] for side in sides))


def main() -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    detector: Detector = load_detector()
    with tempfile.TemporaryDirectory() as folder:
        clip = write_video(Path(folder) / "two-people.mp4", two_people(), rate=FPS, options={"crf": "20"}, audio=True)
        options = ScanOptions(detector=detector.spec.name, frames="every:4")
        report = scan(clip, detector=detector, frames=options.frames)
        print(report.verdict, report.score, [(t.id, t.score, t.verdict.value) for t in report.tracks])
        for heat in (False, True):
            made = write_overlay(report, clip, Path(folder) / f"o{heat}.mp4", detector=detector, heat=heat)
            save(f"overlay{'-heat' if heat else ''}.jpg", frame_at(made.path, 3.0), 960)
        upright = write_video(Path(folder) / "portrait.mp4", portrait(), rate=FPS)
        seen = scan(upright, detector=detector, frames="every:4")
        made = write_overlay(seen, upright, Path(folder) / "p.mp4", detector=detector)
        save("overlay-portrait.jpg", frame_at(made.path, 1.0), 360)
        # The page alone, as it is sent by mail: without the video beside it.
        page = Path(folder) / "mail" / "report.html"
        page.parent.mkdir()
        write_page(gather(report, detector, clip, options=options), page)
        # What the other verdict looks like: the same clip with made-up scores, and named so.
        made_up = Path(folder) / "made-up-scores.mp4"
        shutil.copy(clip, made_up)
        fake = invented(report, str(made_up))
        page_fake = Path(folder) / "mail" / "made-up.html"
        write_page(gather(fake, detector, made_up, options=options), page_fake)
        with browser() as opened:
            shot(opened, page, "report-light.jpg", 1100)
            shot(opened, page_fake, "report-dark.jpg", 1100, dark=True, most=1250)
            shot(opened, page_fake, "report-phone.jpg", 390, most=1900)
            printed(opened, page, "report-print.jpg", Path(folder))


if __name__ == "__main__":
    main()
