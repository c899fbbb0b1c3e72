"""Made clips for measuring: scikit-image's astronaut (public domain) at any size, length and number of faces."""

from __future__ import annotations

import math
from pathlib import Path

import av
import cv2
import numpy as np


def make_clip(
    path: Path, *, width: int = 1920, height: int = 1080, seconds: float = 10, faces: int = 1, rate: int = 30
) -> Path:
    """H.264. Each face sways a little and is an eighth of the frame's height, or less where many must fit."""
    from skimage import data

    person = data.astronaut()[:300, 80:380]
    scene = cv2.resize(data.coffee(), (width, height), interpolation=cv2.INTER_AREA)
    across = max(1, math.ceil(math.sqrt(faces * width / height)))
    down = max(1, math.ceil(faces / across))
    side = min(width // across, height // down, height // 2)
    small = cv2.resize(person, (side - 8, side - 8), interpolation=cv2.INTER_AREA)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"preset": "veryfast", "crf": "23"}
        for number in range(round(seconds * rate)):
            frame = scene.copy()
            for face in range(faces):
                x = (face % across) * side + round(4 + 4 * math.sin(number / 9 + face))
                y = (face // across) * side + round(4 + 4 * math.cos(number / 11 + face))
                frame[y : y + side - 8, x : x + side - 8] = small
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode(None))
    return path
