"""Faces drawn on the spot, and a shard folder made of them: no person's picture is in the tests."""

from __future__ import annotations

import csv
import io
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("timm")
pytest.importorskip("lightning_fabric")

FIVE = np.array([[0.38, 0.42], [0.62, 0.42], [0.5, 0.56], [0.41, 0.68], [0.59, 0.68]])


def draw_face(seed: int, side: int = 160) -> np.ndarray:
    """A cartoon with skin texture, RGB uint8 `[side, side, 3]`; landmarks lie at FIVE × side."""
    rng = np.random.default_rng(seed)
    image = np.full((side, side, 3), rng.uniform(30, 220, 3), np.float32)
    image += cv2.resize(rng.normal(0, 25, (6, 6, 3)).astype(np.float32), (side, side), interpolation=cv2.INTER_CUBIC)
    skin = rng.uniform(90, 220) * np.array([1.0, 0.8, 0.7])
    cv2.ellipse(
        image, (side // 2, int(side * 0.53)), (int(side * 0.25), int(side * 0.33)), 0, 0, 360, skin.tolist(), -1
    )
    for x, y in FIVE[:2] * side:
        cv2.circle(image, (int(x), int(y)), side // 28, (30, 30, 60), -1)
    cv2.line(image, *((FIVE[3:] * side).astype(int).tolist()), (120, 30, 40), side // 40)
    image += rng.normal(0, 9, image.shape)  # pores: what a blend disturbs
    return np.clip(image, 0, 255).astype(np.uint8)


def write_shards(folder: Path, count: int, side: int = 160, broken: int = 0) -> Path:
    """A shard folder of `count` drawn faces of `count` people; `broken` more are not pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    names = ["shard", "name", "source", "identity", "side", "x0", "y0", "x1", "y1"]
    names += [f"{p}_{a}" for p in ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right") for a in "xy"]
    with tarfile.open(folder / "faces-00.tar", "w") as tar, (folder / "faces.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        for number in range(count + broken):
            data = cv2.imencode(".jpg", draw_face(number, side)[..., ::-1])[1].tobytes() if number < count else b"junk"
            info = tarfile.TarInfo(f"{number:06d}.jpg")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
            box = [side * 0.22, side * 0.2, side * 0.78, side * 0.84]
            writer.writerow(
                ["faces-00.tar", info.name, "drawn", f"person_{number}", side, *box, *(FIVE * side).ravel()]
            )
    return folder


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shards(tmp_path_factory.mktemp("shards"), 48)
