"""From the faces of a scan to its report, and from one report to what another record would have said."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from faceproof import __version__, wording
from faceproof.detectors.detector import Detector
from faceproof.detectors.quality import band_of
from faceproof.detectors.spec import DetectorSpec, spec_sha256
from faceproof.detectors.verdict import Opinion
from faceproof.errors import OptionError
from faceproof.faces.turned import Turn
from faceproof.media import MediaInfo
from faceproof.people import (
    JudgedFace,
    JudgedFrame,
    Judgement,
    compression,
    deciding_person,
    face_table,
    highest_score,
    judge,
    judge_file,
    judge_tracks,
    prominence,
    quality_of,
)
from faceproof.results import (
    AppliedCalibration,
    DetectorFacts,
    FrameScore,
    MediaFacts,
    Metrics,
    Reason,
    Report,
    TrackScore,
    Verdict,
)

__all__ = [
    "JudgedFace",
    "JudgedFrame",
    "Judgement",
    "compression",
    "deciding_person",
    "detector_facts",
    "face_table",
    "frames_of",
    "highest_score",
    "judge",
    "judge_again",
    "judge_file",
    "judge_tracks",
    "make_report",
    "media_facts",
    "prominence",
    "quality_of",
    "shown_path",
]


def shown_path(path: str | os.PathLike[str]) -> str:
    """The path as text that any file or terminal can hold: bytes that are not UTF-8 are written as ``\\xNN``."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def media_facts(info: MediaInfo, turned: Turn | None = None) -> MediaFacts:
    return MediaFacts(
        path=shown_path(info.path),
        sha256=info.sha256,
        kind=info.kind,
        width=info.width,
        height=info.height,
        fps=str(info.fps) if info.fps is not None else None,
        duration=info.duration,
        frame_count=info.frame_count,
        codec=info.codec,
        container=info.container,
        bit_rate=info.bit_rate,
        size_bytes=info.size_bytes,
        turned=turned,
    )


def detector_facts(detector: Detector) -> DetectorFacts:
    network = detector.network
    return _detector_facts(detector.spec, detector.spec_sha256, network.runtime, network.precision)


def _detector_facts(spec: DetectorSpec, sha256: str, runtime: str, precision: str) -> DetectorFacts:
    return DetectorFacts(
        name=spec.name,
        version=spec.version,
        weights_sha256=spec.weights.sha256 or "",
        spec_sha256=sha256,
        runtime=runtime,
        precision=precision,
        calibrated=spec.calibration.method != "none",
        threshold=spec.verdict.threshold,
        band=band_of(spec.verdict),
        frame_threshold=spec.verdict.frame_threshold,
        calibration=AppliedCalibration(
            method=spec.calibration.method, a=spec.calibration.a, b=spec.calibration.b, points=spec.calibration.points
        ),
    )


def make_report(
    info: MediaInfo,
    frames: Sequence[JudgedFrame],
    detector: Detector,
    *,
    frames_failed: int,
    faces_repeated: int = 0,
    processing_time: float,
    timings: dict[str, float],
    notes: Sequence[str] = (),
    judged: Judgement | None = None,
    turned: Turn | None = None,
) -> Report:
    """Judge ``frames`` (in time order, every face scored) and write the report; ``judged`` is what an ensemble's
    members came to, ``turned`` as in :class:`MediaFacts`."""
    media = media_facts(info, turned)
    return _report(
        frames,
        detector.spec,
        judged or judge(frames, detector.spec, media),
        notes,
        media=media,
        detector=detector_facts(detector),
        frames_failed=frames_failed,
        faces_repeated=faces_repeated,
        processing_time=processing_time,
        timings=timings,
    )


def frames_of(report: Report) -> list[JudgedFrame]:
    """The frames and faces that a report tells of."""
    return [
        JudgedFrame(
            told.index,
            told.time,
            told.index if told.called_by is None else told.called_by,
            [JudgedFace.of(face) for face in told.faces],
        )
        for told in report.frame_predictions
    ]


def judge_again(report: Report, spec: DetectorSpec) -> Report:
    """The report that ``spec`` would have given: the same faces and scores under its aggregation, calibration and bands.

    ``spec`` must score faces as the report's detector did (:func:`faceproof.detectors.spec.scoring_sha256`). What the scan
    itself noted is not told again. Raises :class:`OptionError` for a report of an ensemble, whose members'
    opinions of each face it does not hold.
    """
    if report.ensemble is not None:
        raise OptionError("a report of an ensemble cannot be judged again", remedy="Scan the file again.")
    frames, ran = frames_of(report), report.detector
    return _report(
        frames,
        spec,
        judge(frames, spec, report.media),
        (),
        media=report.media,
        detector=_detector_facts(spec, spec_sha256(spec), ran.runtime, ran.precision),
        frames_failed=report.frames_failed,
        faces_repeated=report.faces_repeated,
        processing_time=report.processing_time,
        timings=report.timings,
    )


def _report(
    frames: Sequence[JudgedFrame], spec: DetectorSpec, judged: Judgement, notes: Sequence[str], **facts: Any
) -> Report:
    tracks, opinion = judged.tracks, judged.opinion
    threshold = spec.verdict.frame_threshold
    frame_scores = [_frame_score(frame, threshold) for frame in frames]
    every_p = [face.p for frame in frames for face in frame.faces]
    return Report(
        faceproof_version=__version__,
        verdict=opinion.verdict,
        reason=opinion.reason,
        prediction=opinion.prediction,
        score=opinion.score,
        confidence=opinion.confidence,
        band=opinion.band,
        frames_analyzed=len(frames),
        frame_predictions=frame_scores,
        tracks=list(tracks),
        ensemble=judged.ensemble,
        metrics=Metrics(
            total_faces_detected=sum(not face.fallback for frame in frames for face in frame.faces),
            average_face_score=float(np.mean(every_p)) if every_p else None,
            suspicious_frames_count=sum(f.score is not None and f.score > threshold for f in frame_scores),
            final_average_score=opinion.score,
        ),
        note=_note(tracks, opinion, facts["frames_failed"], [*notes, *_told(frames, spec, facts["media"].turned)]),
        **facts,
    )


def _frame_score(frame: JudgedFrame, threshold: float) -> FrameScore:
    score = max((face.p for face in frame.faces), default=None)
    return FrameScore(
        index=frame.index,
        time=frame.time,
        score=score,
        prediction=None if score is None else "FAKE" if score > threshold else "REAL",
        faces=[face.told() for face in frame.faces],
        called_by=None if frame.cell == frame.index else frame.cell,
    )


def _told(frames: Sequence[JudgedFrame], spec: DetectorSpec, turned: Turn | None) -> list[str]:
    """How to turn the file, and what was judged although it is no face found."""
    if turned is not None:
        return [wording.TURNED[turned]]
    if not any(face.fallback for frame in frames for face in frame.faces):
        return []
    if spec.faces.keep == "none":
        return ["This detector judges whole frames and looks for no faces."]
    part = "the whole frame" if spec.faces.fallback == "frame" else "the centre of the frame"
    return [f"Where no face was found, {part} was judged instead."]


def _note(
    tracks: Sequence[TrackScore],
    opinion: Opinion,
    frames_failed: int,
    notes: Sequence[str],
) -> str | None:
    parts = list(notes)
    unjudged = [track for track in tracks if track.verdict is Verdict.NOT_ASSESSED]
    if unjudged and opinion.score is not None:
        reasons = sorted(
            {wording.OF_ONE.get(track.reason, wording.REASONS[track.reason]) for track in unjudged if track.reason}
        )
        parts.append(f"{len(unjudged)} of {len(tracks)} people not judged: {'; '.join(reasons)}.")
    if opinion.band is not None and opinion.band.widened_by:
        parts.append(wording.wider_band(opinion.band))
    if opinion.reason is Reason.NO_FACE and opinion.score is not None:
        parts.append("No face was found; the score is this detector's published answer to that, not a measurement.")
    if frames_failed:
        parts.append(f"{frames_failed} frames could not be decoded and were left out.")
    return " ".join(parts) or None
