"""How far the bfloat16 screens of the face cascade err: what justifies the margin ``DOUBT`` in ``faces/cascade.py``.

    python -m benchmarks.screening FOLDER_OR_FILE… [--frames 4] [--min-face 20] [--files N]

Shows every window of every frame at several sizes to the P-Net, and every box that passes it to the R-Net, both
in fp32 and in bfloat16. Prints the largest amount in log-odds by which bfloat16 understates one, over all and over those
that pass in fp32 (only they could be lost), and how many would be lost at the margin in use. Exit code 1 where any is.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from faceproof.faces import FaceDetector, cascade
from faceproof.faces.area import AreaSums
from faceproof.faces.boxes import square
from faceproof.faces.pyramid import paint, plan
from faceproof.media import read_frames, walk
from faceproof.runtime.cpu import computes_bf16

SHARES = (1.0, 0.7, 0.4)


@dataclass
class Errors:
    """Of one screen: understatements in log-odds."""

    threshold: float
    seen: int = 0
    passed: int = 0
    lost: int = 0
    worst: float = 0.0
    passing: list[float] = field(default_factory=list)

    def add(self, exact: Any, coarse: Any) -> None:
        """Probabilities of the exact network, log-odds of its screen."""
        exact, coarse = np.ravel(exact), np.ravel(coarse)
        under = cascade.log_odds(exact) - coarse
        passes = exact >= self.threshold
        self.seen += exact.size
        self.passed += int(passes.sum())
        self.lost += int((passes & (coarse < cascade.doubtful_from(self.threshold))).sum())
        # Far from the threshold nothing is decided, and sigmoids saturate.
        self.worst = max(self.worst, float(under[exact > 0.01].max(initial=0.0)))
        self.passing += under[passes & (exact < 0.999)].tolist()

    def told(self, name: str) -> str:
        values = np.asarray(self.passing or [0.0])
        return (
            f"{name}: {self.seen} seen, {self.passed} pass; understated by up to {self.worst:.3f} (from 0.01 on), "
            f"those that pass by up to {values.max():.3f} (one in a thousand over {np.quantile(values, 0.999):.3f}); "
            f"{self.lost} lost at {cascade.DOUBT}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", type=Path, nargs="+")
    parser.add_argument("--frames", type=int, default=4, help="of each file, evenly")
    parser.add_argument("--files", type=int, help="no more than so many, evenly taken")
    parser.add_argument("--min-face", type=float, default=20)
    options = parser.parse_args()
    if not computes_bf16():
        raise SystemExit("this CPU has no bfloat16 instructions, and without them nothing is screened")
    files = list(walk(options.paths))
    if options.files and options.files < len(files):
        files = [files[round(i * (len(files) - 1) / max(1, options.files - 1))] for i in range(options.files)]
    exact = FaceDetector()
    first, second = Errors(exact.thresholds[0]), Errors(exact.thresholds[1])
    frames = 0
    for path in files:
        for frame in read_frames(path, str(options.frames)):
            for share in SHARES:
                height, width = (int(side * share) for side in frame.image.shape[:2])
                image = cv2.resize(frame.image, (width, height), interpolation=cv2.INTER_AREA)
                frames += 1
                measure(np.asarray(image, np.uint8), options.min_face, exact, first, second)
        print(f"{path.name}: {frames} frames so far, worst {first.worst:.3f} and {second.worst:.3f}", flush=True)
    print(f"{frames} frames of {len(files)} files at {len(SHARES)} sizes")
    print(first.told("P-Net"))
    print(second.told("R-Net"))
    if first.lost or second.lost:
        raise SystemExit(1)


def measure(image: Any, min_face: float, exact: FaceDetector, first: Errors, second: Errors) -> None:
    """One uint8 RGB frame through both networks and their screens."""
    height, width = image.shape[:2]
    layout = plan(width, height, min_face, exact.factor)
    if not layout.levels:
        return
    sums = AreaSums(image)
    canvas = paint(sums, layout)
    pnet, rnet, _ = exact._load()
    pnet16, rnet16 = exact._network("pnet_screen", "bf16"), exact._network("rnet", "bf16")
    for _, strip in cascade.strips(canvas, layout):
        first.add(pnet.run(strip)["prob"], pnet16.run(strip)["logit"])
    # The boxes as the cascade squares them; those that would be thinned out are looked at too.
    boxes, _, shifts = cascade.propose(canvas, layout, pnet, exact.thresholds[0])
    sides = boxes[:, 2:] - boxes[:, :2]
    boxes = np.trunc(square(boxes + shifts * np.concatenate([sides, sides], axis=1))).astype(np.int64)
    low = np.maximum(boxes[:, :2], 1) - 1
    high = np.minimum(boxes[:, 2:], (width, height))
    usable = (high > low).all(axis=1)
    if usable.any():
        crops = sums.crops(low[usable], high[usable], 24)
        second.add(cascade.answers(rnet, crops)["prob"], cascade.log_odds(cascade.answers(rnet16, crops)["prob"]))


if __name__ == "__main__":
    main()
