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

from faceproof.detectors.detector import Detector, load_detector
from faceproof.detectors.spec import Margin
from faceproof.errors import MediaCorruptError, MediaUnsupportedError, OptionError, OutputError
from faceproof.evidence.heatmap import blend, crop_place, on_crop
from faceproof.faces import cut, sharpness
from faceproof.judge import JudgedFace, JudgedFrame, face_table, judge_file, judge_tracks
from faceproof.loading import face_search, wanted_faces
from faceproof.media import probe, read_frames
from faceproof.media.files import shown
from faceproof.media.pictures import DAMAGE, reason_of, upright_rgb
from faceproof.results import Reason, Verdict
from faceproof.scanning import how_turned

Image = npt.NDArray[np.uint8]
Heat = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Prediction:
    """The answer for one picture.

    Attributes
    ----------
    is_deepfake: the opinion, or None when there is none: no face that can be judged, or a score inside the detector's band.
    confidence: probability of that opinion (not the raw score), None without one.
    inference_time: seconds in the network, finding faces not included.
    attention_maps: float32 ``[H, W]`` of the picture's size in [0, 1], bright where the detector saw signs; None when it
        has no map or there is no face. Never silently missing for want of gradients: the map is part of the network.
    score: P(fake) in [0, 1], None without a face.
    verdict: one of the four outcomes; ``metadata["reason"]`` says why there is no opinion.
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
    """Judge the faces of one picture as a scan does; the file's score is the detector's own rule, or its most suspicious
    face's. Faces too small, too blurred or too uncertain to judge have no opinion, nor has a picture that lies on its side.

    ``image``: a path, a PIL picture (stood up as its EXIF says), or uint8 RGB ``[H, W, 3]``. ``detector``: loaded, a name,
    or None for the default. Raises :class:`faceproof.errors.MediaError` for a file that is no picture,
    :class:`faceproof.errors.WeightsError` for a detector without weights: a random network is never asked.
    """
    if not isinstance(detector, Detector):
        detector = load_detector(detector)
    pixels = pixels_of(image)
    spec = detector.spec
    found = _found(pixels, detector)
    frame = JudgedFrame(0, 0.0, 0, found)
    turned = how_turned([pixels], [frame], spec, None) is not None
    if not found:
        reason = Reason.TURNED if turned else Reason.NO_FACE
        return Prediction(None, None, 0.0, None, None, Verdict.NOT_ASSESSED, spec.name, {"reason": reason.value})
    boxes = [None if face.fallback else face.box for face in found]
    crops = [pixels if box is None else detector.cut(pixels, box) for box in boxes]
    started = time.perf_counter()
    scores, heats = detector.score_with_heat(crops)
    seconds = time.perf_counter() - started
    for face, p in zip(found, scores, strict=True):
        face.p = float(p)
    table = face_table([frame])
    tracks = judge_tracks([frame], table, spec, turned=turned)
    opinion = judge_file(tracks, table, spec, turned=turned)
    told: dict[str, Any] = {"faces": [{"box": box, "p_fake": face.p} for box, face in zip(boxes, found, strict=True)]}
    if opinion.reason is not None:
        told["reason"] = opinion.reason.value
    return Prediction(
        {"FAKE": True, "REAL": False}.get(opinion.prediction or ""),
        opinion.confidence,
        seconds,
        None if heats is None else _map(pixels, boxes, crops, heats, detector),
        opinion.score,
        opinion.verdict,
        spec.name,
        told,
    )


def visualize_attention_map(
    image: str | os.PathLike[str] | Picture.Image | Image, attention: Heat, path: str | Path
) -> None:
    """Write the picture under its map as PNG or JPEG. Raises :class:`OptionError` when their sizes differ."""
    pixels = pixels_of(image)
    if attention.shape != pixels.shape[:2]:
        raise OptionError(f"the map is {attention.shape}, the picture {pixels.shape[:2]}")
    try:
        Picture.fromarray(blend(pixels, attention)).save(path)
    except (OSError, ValueError) as error:
        raise OutputError(f"cannot write {path}: {error}") from error


def pixels_of(image: str | os.PathLike[str] | Picture.Image | Image) -> Image:
    """A picture's upright pixels, uint8 RGB ``[H, W, 3]``, from what :func:`predict` takes. Raises as it does, and
    :class:`OptionError` for anything else."""
    if isinstance(image, Picture.Image):
        try:
            return upright_rgb(image)
        except DAMAGE as error:
            raise MediaCorruptError(f"the picture does not decode ({reason_of(error)})") from error
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise OptionError("a picture must be a uint8 array [height, width, 3] in RGB")
        return np.ascontiguousarray(image)
    if not isinstance(image, str | os.PathLike):
        raise OptionError("a picture is a path, a PIL picture or a uint8 array [height, width, 3] in RGB")
    info = probe(Path(os.fspath(image)))
    if info.kind != "image":
        raise MediaUnsupportedError(
            f"{shown(info.path)} is a video, and this judges one picture", remedy="Use faceproof.scan(path)."
        )
    return next(iter(read_frames(info, "1"))).image


def _found(pixels: Image, detector: Detector) -> list[JudgedFace]:
    """The faces to judge, not scored yet; where a detector looks for none, the whole picture."""
    rule = detector.spec.faces
    height, width = pixels.shape[:2]
    if rule.keep == "none":
        whole = (0.0, 0.0, float(width), float(height))
        return [JudgedFace(whole, 0, 0.0, float(max(height, width)), sharpness(pixels), fallback=True)]
    found = face_search(rule, "thorough", None, 0).detect(pixels, still=True)
    return [
        JudgedFace(face.box, number, face.score, face.side, sharpness(cut(pixels, face.box, Margin())))
        for number, face in enumerate(wanted_faces(rule, found), 1)
    ]


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
