"""The one place where the service asks for evidence: pictures of faces, heatmaps, overlay video, HTML report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from faceproof.evidence import texts
from faceproof.service.files import Files, room_needed

if TYPE_CHECKING:
    from faceproof.batch import ScanOptions
    from faceproof.detectors.detector import Crop, Detector
    from faceproof.media import Limits
    from faceproof.results import Report

MOMENTS = 3
# Formats that every browser shows, and turns as their EXIF says. WebP is shown everywhere and turned by none but us.
SHOWN_AS_THEY_ARE = frozenset({"jpeg", "mpo", "png", "gif", "bmp"})
_FACE_SIDE = 288
_PREVIEW_SIDE = 1920


def make_evidence(
    files: Files, job_id: str, media: Path, report: Report, detector: Detector, options: ScanOptions
) -> None:
    """Write ``evidence/<job>/``: ``report.html``, ``words.json``, ``faces/`` and ``heatmaps/`` by person, and of pictures
    that browsers show otherwise than they were judged, or not at all, ``preview.jpg``.

    Runs in a worker process. Raises :class:`faceproof.errors.OutputError` when there is no room and
    :class:`faceproof.errors.EvidenceError` when the file cannot be shown.
    """
    from faceproof.evidence.gathering import gather
    from faceproof.evidence.heatmap import blend
    from faceproof.evidence.page import page
    from faceproof.evidence.page_facts import how_measured, how_sure, provenance_rows

    if report.media.kind == "image" and report.media.codec not in SHOWN_AS_THEY_ARE:
        _put(files, f"evidence/{job_id}/preview.jpg", _preview(media, options.limits))
    # Without a map of its own every heatmap costs dozens of runs of the network: then one for each person.
    moments = MOMENTS if detector.spec.output.heatmap is not None else 1
    evidence = gather(report, detector, media, options=options, per_track=moments)
    for track, shown in evidence.shown.moments.items():
        best = next((moment for moment in shown if moment.best), None)
        if best is None:
            continue
        _put(files, f"evidence/{job_id}/faces/{track}.jpg", _jpeg(best.crop))
        if best.heat is not None:
            _put(files, f"evidence/{job_id}/heatmaps/{track}.jpg", _jpeg(blend(best.crop, best.heat.heat)))
    words = {
        "sure": how_sure(evidence),
        "measured": how_measured(evidence),
        "provenance": provenance_rows(evidence.provenance),
        "command": evidence.command(),
    }
    _put(files, f"evidence/{job_id}/words.json", json.dumps(words).encode())
    _put(files, f"evidence/{job_id}/report.html", page(evidence).encode())


def make_overlay(files: Files, job_id: str, media: Path, report: Report, detector: Detector) -> None:
    """Write ``evidence/<job>/overlay.mp4``: boxes, curve and, where the network has a map, heat.

    Runs in a worker process. Raises :class:`faceproof.errors.MediaError` for pictures and broken files and
    :class:`faceproof.errors.OutputError` when there is no room.
    """
    from faceproof.evidence.overlay import write_overlay

    path = files.incoming().with_suffix(".mp4")
    try:
        heat = detector.spec.output.heatmap is not None
        frame_threshold = detector.spec.verdict.frame_threshold
        write_overlay(report, media, path, detector=detector, heat=heat, frame_threshold=frame_threshold)
        files.keep(path, f"evidence/{job_id}/overlay.mp4")
    finally:
        path.unlink(missing_ok=True)


def read_words(files: Files, job_id: str, report: Report) -> dict[str, Any]:
    """The sentences that explain a result, for the page; those made from the file itself are empty without evidence."""
    made: dict[str, Any] = {"sure": [], "measured": [], "provenance": [], "command": ""}
    name = f"evidence/{job_id}/words.json"
    size = files.size(name)
    if size is not None:
        made |= json.loads(b"".join(files.chunks(name, 0, size)))
    meaning = [line.format(media=texts.MEDIA[report.media.kind]) for line in texts.MEANING[report.verdict]]
    return {"meaning": meaning, "limits": texts.LIMITS, **made}


def _put(files: Files, name: str, data: bytes) -> None:
    path = files.incoming()
    try:
        with room_needed():
            path.write_bytes(data)
        files.keep(path, name)
    finally:
        path.unlink(missing_ok=True)


def _preview(media: Path, limits: Limits | None) -> bytes:
    """The picture as it was judged: decoded, upright, at most 1920 pixels on its longer side."""
    from faceproof.media import Limits, probe, read_frames

    limits = limits or Limits()
    (frame,) = read_frames(probe(media, limits=limits), [0], limits=limits)
    return _jpeg(frame.image, _PREVIEW_SIDE)


def _jpeg(picture: Crop, side: int = _FACE_SIDE) -> bytes:
    import cv2

    height, width = picture.shape[:2]
    scale = min(1.0, side / max(height, width))
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    data: bytes = cv2.imencode(".jpg", picture[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])[1].tobytes()
    return data
