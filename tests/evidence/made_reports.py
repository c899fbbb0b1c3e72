"""Reports made by hand over made media, and a detector without weights: brightness is suspicion."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from faceproof.detectors.detector import Detector
from faceproof.detectors.spec import DetectorSpec, parse_spec
from faceproof.judge import JudgedFace, JudgedFrame, make_report
from faceproof.media import probe, read_frames
from faceproof.results import Report
from faceproof.runtime import FakeNetwork
from tests.toy_detector import TOY_SPEC


def toy_spec(**changes: object) -> DetectorSpec:
    spec = parse_spec(TOY_SPEC.format(name="toy", sha256="0" * 64, size=1, fake_is="high"))
    return spec.model_copy(update=changes)


def toy_detector(pivot: float = 0.45, **changes: object) -> Detector:
    return Detector(toy_spec(**changes), FakeNetwork(lambda batch: 20 * (batch.mean(axis=(1, 2, 3)) - pivot)))


Boxes = dict[int, tuple[float, float, float, float]]


def made_report(
    path: Path,
    detector: Detector,
    *,
    every: int = 5,
    boxes: Callable[[int], Boxes] = lambda index: {1: (110.0, 60.0, 210.0, 190.0)},
    scores: Callable[[int, int], float] | None = None,
) -> Report:
    """A report over every ``every``-th frame; ``boxes`` says who is where, ``scores`` (index, track) what they score.

    Without ``scores`` the crops are scored by the detector, as a scan would.
    """
    from faceproof.faces import cut, sharpness

    info = probe(path)
    judged: list[JudgedFrame] = []
    sampling: str | Sequence[int] = "all" if info.kind == "image" else f"every:{every}"
    for frame in read_frames(info, sampling):
        one = JudgedFrame(frame.index, frame.time, frame.index)
        for track, box in boxes(frame.index).items():
            crop = cut(frame.image, box, detector.spec.faces.margin)
            p = scores(frame.index, track) if scores is not None else float(detector.score([crop])[0])
            side = max(box[2] - box[0], box[3] - box[1])
            one.faces.append(JudgedFace(box, track, 0.99, side, max(sharpness(crop), 1.0), p=p))
        judged.append(one)
    return make_report(info, judged, detector, frames_failed=0, processing_time=0.1, timings={"score": 0.1})


def wave(index: int, track: int) -> float:
    """A score that rises and falls, one person later than the other."""
    return float(np.clip(0.5 + 0.45 * np.sin(index / 12 + 2 * track), 0, 1))
