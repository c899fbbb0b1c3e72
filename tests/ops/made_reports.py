"""Reports without a scan, with exactly the numbers a test is about."""

from __future__ import annotations

import hashlib

from faceproof.results import DetectorFacts, MediaFacts, Metrics, Reason, Report, TrackScore, Verdict


def made_report(
    name: str = "clip.mp4",
    score: float | None = 0.2,
    *,
    detector: str = "toy",
    version: str = "1.0",
    side: float = 120.0,
    sharpness: float = 80.0,
    bit_rate: int | None = 1_000_000,
    height: int = 720,
    seconds: float = 0.5,
) -> Report:
    verdict = Verdict.NOT_ASSESSED if score is None else Verdict.FAKE if score > 0.5 else Verdict.REAL
    prediction = None if score is None else verdict.value
    confidence = None if score is None else max(score, 1 - score)
    tracks = []
    if score is not None:
        tracks = [
            TrackScore(
                id=1,
                start=0,
                end=1,
                faces=8,
                score=score,
                verdict=verdict,
                best_face_box=(0, 0, side, side),
                best_frame=0,
                best_time=0,
                median_side=side,
                median_sharpness=sharpness,
            )
        ]
    return Report(
        faceproof_version="0",
        media=MediaFacts(
            path=name,
            sha256=hashlib.sha256(name.encode()).hexdigest(),
            kind="video",
            width=height * 16 // 9,
            height=height,
            bit_rate=bit_rate,
        ),
        verdict=verdict,
        reason=Reason.NO_FACE if score is None else None,
        prediction=prediction,
        score=score,
        confidence=confidence,
        frames_analyzed=8,
        frames_failed=0,
        frame_predictions=[],
        tracks=tracks,
        metrics=Metrics(
            total_faces_detected=0 if score is None else 8,
            average_face_score=score,
            suspicious_frames_count=0,
            final_average_score=score,
        ),
        detector=DetectorFacts(
            name=detector,
            version=version,
            weights_sha256="0" * 64,
            spec_sha256="1" * 64,
            runtime="fake",
            precision="fp32",
            calibrated=False,
            threshold=0.5,
            band=(0.5, 0.5),
        ),
        processing_time=seconds,
        timings={},
    )
