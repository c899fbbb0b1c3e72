"""Face detection beside facenet-pytorch, on the same frames in the same run.

    python benchmarks/faces.py CLIP_OR_PICTURE [--frames 8] [--rounds 3] [--min-face 20] [--threads N]

The two take turns on every frame, so that a busy machine slows both. Prints the median milliseconds of a frame, the
ratio, and how many of facenet-pytorch's faces are found at an overlap of 0.7 or more (0.5 for fast, whose boxes come from a
smaller frame), by the size of the face. Needs facenet-pytorch, which needs torch.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from facenet_pytorch import MTCNN

from faceproof.faces import FaceDetector
from faceproof.faces.boxes import overlaps
from faceproof.media import read_frames
from faceproof.runtime.cpu import usable_cores

THRESHOLDS = (0.7, 0.8, 0.8)


SIZES = ((0, 40), (40, 80), (80, 100_000))


def timed(function: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    result = function()
    return result, 1000 * (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--min-face", type=int, default=20)
    parser.add_argument("--threads", type=int, default=usable_cores())
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    frames = [frame.image for frame in read_frames(options.clip, str(options.frames))]
    reference = MTCNN(keep_all=True, thresholds=list(THRESHOLDS), min_face_size=options.min_face, device="cpu")
    common = {"thresholds": THRESHOLDS, "min_face": options.min_face, "threads": options.threads}
    ours = {
        "thorough, fp32": FaceDetector(**common),
        "thorough, bf16 where the CPU has it": FaceDetector(**common, precision="auto"),
        "half size": FaceDetector(**common, scale=0.5),
        "fast": FaceDetector(**common, mode="fast"),
    }
    times: dict[str, list[float]] = {name: [] for name in ("facenet-pytorch", *ours)}
    found = {(name, size): 0 for name in ours for size in SIZES}
    expected = dict.fromkeys(SIZES, 0)
    for detector in ours.values():
        detector.detect(frames[0])
    for frame in frames * options.rounds:
        (boxes, _), spent = timed(lambda: reference.detect(frame))  # noqa: B023 - called at once
        times["facenet-pytorch"].append(spent)
        height, width = frame.shape[:2]
        truth = np.zeros((0, 4), np.float32) if boxes is None else np.asarray(boxes, np.float32)
        truth = np.clip(truth, 0, np.array([width, height, width, height], np.float32))
        sides = (truth[:, 2:] - truth[:, :2]).max(axis=1) if len(truth) else np.zeros(0, np.float32)
        for low, high in SIZES:
            expected[low, high] += int(((sides >= low) & (sides < high)).sum())
        for name, detector in ours.items():
            faces, spent = timed(lambda: detector.detect(frame))  # noqa: B023
            times[name].append(spent)
            if len(truth) and faces:
                shares = overlaps(truth, np.array([face.box for face in faces], np.float32))
                hit = shares.max(axis=1) >= (0.5 if name == "fast" else 0.7)
                for low, high in SIZES:
                    found[name, (low, high)] += int((hit & (sides >= low) & (sides < high)).sum())
    height, width = frames[0].shape[:2]
    slowest = statistics.median(times["facenet-pytorch"])
    print(f"{options.clip.name}: {width}×{height}, {len(frames)} frames × {options.rounds}, {options.threads} threads")
    for name, spent_times in times.items():
        median = statistics.median(spent_times)
        recall = "".join(
            f"  {found[name, size]}/{expected[size]} of {size[0]} px and more" for size in SIZES if name in ours
        )
        print(f"{name:36} {median:8.1f} ms  {slowest / median:5.1f}×{recall}")


if __name__ == "__main__":
    main()
