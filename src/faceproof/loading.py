"""A scan's detector and its face search, read in side by side: a cold process waits for both.

Reading compiled networks in is the engine's own work, so a second core takes the smaller part of it.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

from faceproof.detectors import catalog
from faceproof.detectors.detector import Detector, load_detector
from faceproof.detectors.spec import Faces
from faceproof.errors import FaceproofError
from faceproof.faces import Face, FaceDetector, shared_detector
from faceproof.media.files import MediaKind, media_kind
from faceproof.runtime.cpu import usable_cores
from faceproof.runtime.network import Precision, Runtime

# Each search holds a frame and the cascade's working memory, about 100 MB at 1080p.
_MOST_SEARCHED_AT_ONCE = 4

FaceMode = Literal["fast", "thorough"]


def searches_at_once(kind: MediaKind, threads: int | None) -> int:
    """How many frames of a file are searched side by side; 0 means in the scan's own thread."""
    cores = threads or usable_cores()
    if kind == "image" or cores == 1:
        return 0
    # One core each is the most that a search makes good use of; from four on, two: decoding and scoring take their share.
    return min(max(2, cores // 2), _MOST_SEARCHED_AT_ONCE)


def face_search(rule: Faces, mode: FaceMode, threads: int | None, at_once: int) -> FaceDetector:
    """This process's face search for files of such a kind."""
    return shared_detector(rule.thresholds, rule.min_face, rule.factor, rule.scale, mode, threads, max(1, at_once))


def wanted_faces(rule: Faces, found: list[Face]) -> list[Face]:
    """Of a frame's faces, the largest first, those that a detector judges."""
    if rule.keep == "largest":
        return found[:1]
    if rule.keep == "best":
        return sorted(found, key=lambda face: -face.score)[:1]
    return found


def load_for_scanning(
    name: str | None = None,
    *,
    faces: FaceMode = "thorough",
    device: str = "auto",
    precision: Precision = "auto",
    runtime: Runtime = "auto",
    threads: int | None = None,
    path: Path | None = None,
) -> Detector:
    """As :func:`faceproof.detectors.detector.load_detector`; with the networks of its face search read in meanwhile, for the
    kind of file that ``path`` is by its name."""
    with ThreadPoolExecutor(1, thread_name_prefix="faceproof-load") as beside:
        if (threads or usable_cores()) > 1:
            kind = media_kind(path) if path is not None else None
            beside.submit(_load_face_search, name or catalog.DEFAULT_DETECTOR, faces, threads, kind or "image")
        return load_detector(name, device=device, precision=precision, runtime=runtime, threads=threads)


def _load_face_search(name: str, mode: FaceMode, threads: int | None, kind: MediaKind) -> None:
    """What goes wrong here goes wrong again, and is told, where the search is used."""
    try:
        rule = catalog.find_spec(name).spec.faces
    except FaceproofError:
        return
    if rule.keep != "none":
        face_search(rule, mode, threads, searches_at_once(kind, threads)).load()
