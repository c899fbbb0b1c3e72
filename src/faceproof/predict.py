"""One picture, one answer: the call that the documented single-image detectors offer.

>>> from faceproof.predict import predict                      # doctest: +SKIP
>>> answer = predict("portrait.jpg", "efficientnet-b4-mobile")  # doctest: +SKIP
>>> answer.is_deepfake, answer.confidence                      # doctest: +SKIP
(True, 0.91)
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image as Picture

from faceproof.detectors.aggregate import FaceTable, aggregate
from faceproof.detectors.calibration import calibrate
from faceproof.detectors.detector import Detector, load_detector
from faceproof.detectors.verdict import judge_score
from faceproof.errors import OptionError, OutputError
from faceproof.evidence.heatmap import blend, crop_place, on_crop
from faceproof.faces import FaceDetector
from faceproof.media import read_frames
from faceproof.results import Verdict

Image = npt.NDArray[np.uint8]
Heat = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Prediction:
    """The answer for one picture.

    Attributes
    ----------
    is_deepfake: the opinion, or None when there is none: no face, or a score inside the detector's band.
    confidence: probability of that opinion (not the raw score), None without one.
    inference_time: seconds in the network, finding faces not included.
    attention_maps: float32 ``[H, W]`` of the picture's size in [0, 1], bright where the detector saw signs; None when it
        has no map or there is no face. Never silently missing for want of gradients: the map is part of the network.
    score: P(fake) in [0, 1], None without a face.
    verdict: one of the four outcomes.
    """

    is_deepfake: bool | None
    confidence: float | None
    inference_time: float
    attention_maps: Heat | None
    score: float | None
    verdict: Verdict
    model_name: str
    metadata: dict[str, Any] = field(default_factory=dict)


def predict(
    image: str | os.PathLike[str] | Picture.Image | Image, detector: Detector | str | None = None
) -> Prediction:
    """Judge the faces of one picture; the file's score is the detector's own rule, or its most suspicious face's.

    ``image``: a path, a PIL picture, or uint8 RGB ``[H, W, 3]``. ``detector``: loaded, a name, or None for the default.
    Raises :class:`faceproof.errors.MediaError` for a file that is no picture, :class:`faceproof.errors.WeightsError` for
    a detector without weights: a random network is never asked.
    """
    if not isinstance(detector, Detector):
        detector = load_detector(detector)
    pixels = _pixels(image)
    spec = detector.spec
    boxes = _boxes(pixels, detector)
    if not boxes:
        return Prediction(None, None, 0.0, None, None, Verdict.NOT_ASSESSED, spec.name, {"reason": "no_face"})
    crops = [pixels if box is None else detector.cut(pixels, box) for box in boxes]
    started = time.perf_counter()
    scores, heats = detector.score_with_heat(crops)
    seconds = time.perf_counter() - started
    table = FaceTable.of([(0, number, float(p)) for number, p in enumerate(scores)])
    worst = spec.aggregate.file.method == "worst_track"
    raw = float(scores.max()) if worst else aggregate(table, spec.aggregate.file)
    opinion = judge_score(calibrate(raw, spec.calibration), spec.verdict)
    fake = {"FAKE": True, "REAL": False}.get(opinion.prediction or "")
    return Prediction(
        fake,
        opinion.confidence,
        seconds,
        None if heats is None else _map(pixels, boxes, crops, heats, detector),
        opinion.score,
        opinion.verdict,
        spec.name,
        {"faces": [{"box": box, "p_fake": float(p)} for box, p in zip(boxes, scores, strict=True)]},
    )


def visualize_attention_map(
    image: str | os.PathLike[str] | Picture.Image | Image, attention: Heat, path: str | Path
) -> None:
    """Write the picture under its map as PNG or JPEG. Raises :class:`OptionError` when their sizes differ."""
    pixels = _pixels(image)
    if attention.shape != pixels.shape[:2]:
        raise OptionError(f"the map is {attention.shape}, the picture {pixels.shape[:2]}")
    try:
        Picture.fromarray(blend(pixels, attention)).save(path)
    except (OSError, ValueError) as error:
        raise OutputError(f"cannot write {path}: {error}") from error


def _pixels(image: str | os.PathLike[str] | Picture.Image | Image) -> Image:
    if isinstance(image, Picture.Image):
        return np.asarray(image.convert("RGB"))
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise OptionError("a picture must be a uint8 array [height, width, 3] in RGB")
        return np.ascontiguousarray(image)
    return next(iter(read_frames(Path(os.fspath(image)), "1"))).image


def _boxes(pixels: Image, detector: Detector) -> list[tuple[float, float, float, float] | None]:
    """The faces to judge; None stands for the whole picture."""
    rule = detector.spec.faces
    if rule.keep == "none":
        return [None]
    finder = FaceDetector(thresholds=rule.thresholds, min_face=rule.min_face, factor=rule.factor, scale=rule.scale)
    found = finder.detect(pixels, still=True)
    if rule.keep != "all":
        key = (lambda face: face.score) if rule.keep == "best" else (lambda face: 0.0)
        found = sorted(found, key=key, reverse=True)[:1]
    return [tuple(float(v) for v in face.box) for face in found]  # type: ignore[misc]


def _map(
    pixels: Image,
    boxes: list[tuple[float, float, float, float] | None],
    crops: Sequence[Any],
    heats: Heat,
    detector: Detector,
) -> Heat:
    whole = np.zeros(pixels.shape[:2], np.float32)
    for box, crop, heat in zip(boxes, crops, heats, strict=True):
        # An ensemble's map is its first member's, and so is the crop it lies on.
        seen = crop[0] if isinstance(crop, tuple) else crop
        laid = on_crop(heat, seen.shape[:2], detector.spec.input)
        if box is None:
            return laid
        place = crop_place(pixels.shape[:2], box, detector.spec.faces.margin)
        part = whole[place.y0 : place.y1, place.x0 : place.x1]
        np.maximum(part, place.heat_in_frame(laid), out=part)
    return whole


__all__ = ["Prediction", "predict", "visualize_attention_map"]
