"""The opponent: the pipeline of the documents and of public repositories, for the speed page to race against.

facenet-pytorch's MTCNN on every frame, a crop, and the torch network, eager, fp32, batch 1. Nothing of Faceproof's runs here
but the network's layers. Needs facenet-pytorch (installed without its pins) and torch.

python -m benchmarks.naive CLIP [--frames 8] [--network efficientnet-b7-dfdc]
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np


def frames_of(clip: Path, most: int) -> Iterator[np.ndarray]:
    """OpenCV's reader, every frame turned to RGB."""
    reader = cv2.VideoCapture(str(clip))
    try:
        for _ in range(most):
            there, frame = reader.read()
            if not there:
                return
            yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
    finally:
        reader.release()


def run(clip: Path, most: int, network: str, cascade: Any, model: Any, size: int) -> dict[str, float]:
    """Seconds by stage over the first ``most`` frames."""
    import torch

    mean, std = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)
    seconds = {"decode": 0.0, "detect": 0.0, "crop": 0.0, "score": 0.0}
    frames = faces = 0
    began = last = time.perf_counter()

    def passed(stage: str) -> None:
        nonlocal last
        now = time.perf_counter()
        seconds[stage] += now - last
        last = now

    for image in frames_of(clip, most):
        frames += 1
        passed("decode")
        boxes, _ = cascade.detect(image)
        passed("detect")
        for x0, y0, x1, y1 in [] if boxes is None else boxes:
            across, down = (x1 - x0) / 3, (y1 - y0) / 3
            left, top = max(0, int(x0 - across)), max(0, int(y0 - down))
            crop = image[top : int(y1 + down), left : int(x1 + across)]
            if 0 in crop.shape:
                continue
            face = (cv2.resize(crop, (size, size)).astype(np.float32) / 255 - mean) / std
            batch = torch.from_numpy(np.ascontiguousarray(face.transpose(2, 0, 1)))[None]
            passed("crop")
            with torch.no_grad():
                torch.sigmoid(model(batch)[0])
            passed("score")
            faces += 1
    return {"seconds": time.perf_counter() - began, "frames": frames, "faces": faces, **seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clip", type=Path)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--network", default="efficientnet-b7-dfdc")
    options = parser.parse_args()
    started = time.perf_counter()
    import torch
    from facenet_pytorch import MTCNN

    from faceproof.training.systems import build, plan_of

    torch.manual_seed(0)
    cascade = MTCNN(keep_all=True, thresholds=[0.7, 0.8, 0.8], min_face_size=20, device="cpu")
    model, size = build(options.network).eval(), plan_of(options.network).image_size
    loaded = time.perf_counter() - started
    run(options.clip, 1, options.network, cascade, model, size)  # the first of everything is slower
    result = run(options.clip, options.frames, options.network, cascade, model, size)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({**result, "load": loaded, "mb": peak}))


if __name__ == "__main__":
    main()
