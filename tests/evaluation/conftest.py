"""A small set of bright (forged) and dark (genuine) clips of the astronaut, and the toy detector that tells them apart."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from faceproof.batch import ScanOptions
from faceproof.detectors.detector import Detector
from faceproof.evaluation.manifest import Entry, Manifest
from tests.toy_detector import write_toy_detector


@pytest.fixture(scope="session")
def toy_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    write_toy_detector(home, pivot=0.45)
    write_toy_detector(home, name="toy-inverted", pivot=0.45, fake_is="low")
    return home


@pytest.fixture
def toy(toy_home: Path, monkeypatch: pytest.MonkeyPatch) -> ScanOptions:
    """Options that name the toy detector, installed for this test and the processes it starts."""
    monkeypatch.setenv("FACEPROOF_HOME", str(toy_home))
    return ScanOptions(detector="toy", frames="4", threads=1)


@pytest.fixture(scope="session")
def toy_loaded(toy_home: Path) -> Iterator[Detector]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACEPROOF_HOME", str(toy_home))
        yield ScanOptions(detector="toy", threads=1).load()


@pytest.fixture(scope="session")
def lit_set(tmp_path_factory: pytest.TempPathFactory, astronaut: np.ndarray, clip_frames: list, make_video) -> Manifest:  # type: ignore[no-untyped-def]
    """Two clips and eight stills, half of them brightened ("fake"), a picture without a face and a broken file."""
    root = tmp_path_factory.mktemp("lit")
    entries = []
    face = np.ascontiguousarray(astronaut[20:260, 100:360])
    for number in range(8):
        fake = number % 2
        light = (1.25 if fake else 0.75) + 0.03 * (number // 2)
        path = root / f"still{number}.png"
        Image.fromarray(np.clip(face * light, 0, 255).astype(np.uint8)).save(path)
        entries.append(Entry(path, fake, "stills", "lit" if fake else "original", f"s{number // 2}"))
    for fake in (0, 1):
        light = 1.25 if fake else 0.8
        frames = [np.clip(cv2.convertScaleAbs(frame, alpha=light), 0, 255) for frame in clip_frames[:12]]
        path = make_video(root / f"clip{fake}.mp4", frames, options={"crf": "20"})
        entries.append(Entry(path, fake, "clips", "lit" if fake else "original", "c0"))
    Image.fromarray(np.full((120, 120, 3), 90, np.uint8)).save(root / "noface.png")
    (root / "broken.mp4").write_bytes(b"no clip at all" * 100)
    entries += [
        Entry(root / "noface.png", 0, "stills", "original", "n"),
        Entry(root / "broken.mp4", 1, "clips", "lit", "b"),
    ]
    return Manifest(tuple(entries), root)
