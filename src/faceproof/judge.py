"""From the faces of a scan to its report: who was there, what each person's faces add up to, and the file's verdict."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from faceproof import __version__, wording
from faceproof.detectors.aggregate import FaceTable, aggregate
from faceproof.detectors.calibration import calibrate
from faceproof.detectors.detector import Detector
from faceproof.detectors.quality import Quality, band_of, bits_per_pixel
from faceproof.detectors.spec import DetectorSpec, VerdictRule, spec_sha256
from faceproof.detectors.verdict import Opinion, doubted, judge_nothing, judge_score, unqualified
from faceproof.errors import OptionError
from faceproof.faces.turned import Turn
from faceproof.media import MediaInfo
from faceproof.results import (
    AppliedCalibration,
    Box,
    DetectorFacts,
    EnsembleFacts,
    FaceScore,
    FrameScore,
    MediaFacts,
    Metrics,
    Reason,
    Report,
    Span,
    TrackScore,
    Verdict,
)


@dataclass(slots=True)
class JudgedFace:
    """One face of one frame. ``p`` is filled once the network has spoken, ``votes`` by the members of an ensemble (NaN
    for one that could not); sides and sharpness as in ``FaceScore``."""

    box: Box
    track: int
    detection_score: float
    side: float
    sharpness: float
    fallback: bool = False
    p: float = float("nan")
    votes: tuple[float, ...] = ()

    @classmethod
    def of(cls, told: FaceScore) -> JudgedFace:
        """The face that a report tells of."""
        facts = (told.box, told.track, told.detection_score, told.side, told.sharpness, told.fallback)
        return cls(*facts, p=told.p_fake)

    def told(self) -> FaceScore:
        """The face as a report tells of it."""
        return FaceScore(
            box=self.box,
            track=self.track,
            p_fake=self.p,
            detection_score=self.detection_score,
            side=self.side,
            sharpness=self.sharpness,
            fallback=self.fallback,
        )


@dataclass(slots=True)
class JudgedFrame:
    """One sampled frame. ``cell`` is the frame that called for it in a second look, otherwise itself."""

    index: int
    time: float
    cell: int
    faces: list[JudgedFace] = field(default_factory=list)


def face_table(frames: Iterable[JudgedFrame]) -> FaceTable:
    """Every judged face as aggregators take them, second looks pooled with the frame that called for them."""
    rows = [(frame.index, face.track, face.p) for frame in frames for face in frame.faces]
    table = FaceTable.of(rows)
    cells = {frame.index: frame.cell for frame in frames if frame.cell != frame.index}
    return table.pooled(cells) if cells else table


def compression(media: MediaFacts) -> float:
    """Bits per pixel of a video, by which bands may widen; NaN for a picture, whose formats spend them otherwise."""
    return bits_per_pixel(media) if media.kind == "video" else float("nan")


def judge_tracks(
    frames: Sequence[JudgedFrame],
    table: FaceTable,
    spec: DetectorSpec,
    bits: float = float("nan"),
    *,
    turned: bool = False,
) -> list[TrackScore]:
    """One entry per person, in order of number; ``bits`` is the file's :func:`compression`. Of a file that is ``turned``
    nobody found is judged."""
    seen: dict[int, list[tuple[JudgedFrame, JudgedFace]]] = defaultdict(list)
    for frame in frames:
        for face in frame.faces:
            seen[face.track].append((frame, face))
    times = [frame.time for frame in frames]
    tracks = []
    for number in sorted(seen):
        faces = seen[number]
        side = float(np.median([face.side for _, face in faces]))
        sharpness = float(np.median([face.sharpness for _, face in faces]))
        suspicious = _suspicious_spans(faces, times, spec.verdict.frame_threshold)
        runs = [(count, part.end - part.start) for count, part in suspicious]
        # What is judged in place of a face was never detected.
        found = [face.detection_score for _, face in faces if not face.fallback]
        certainty = float(np.median(found)) if found else 1.0
        reason = unqualified(len(faces), side, sharpness, spec.verdict, frames=len(frames), median_detection=certainty)
        if turned and found:
            reason = Reason.TURNED
        if reason is None:
            rows = table.where(table.track == number)
            score = calibrate(aggregate(rows, spec.aggregate.track), spec.calibration)
            opinion = judge_score(score, spec.verdict, Quality(side, sharpness, bits, len(rows)))
            opinion = doubted(opinion, runs, spec.verdict)
        else:
            opinion = Opinion(Verdict.NOT_ASSESSED, None, reason)
        best_frame, best_face = _most_telling(faces, opinion)
        tracks.append(
            TrackScore(
                id=number,
                start=faces[0][0].time,
                end=faces[-1][0].time,
                faces=len(faces),
                score=opinion.score,
                verdict=opinion.verdict,
                reason=opinion.reason,
                best_face_box=best_face.box,
                best_frame=best_frame.index,
                best_time=best_frame.time,
                median_side=side,
                median_sharpness=sharpness,
                suspicious=[part for _, part in suspicious],
                band=opinion.band,
            )
        )
    return tracks


def _most_telling(faces: Sequence[tuple[JudgedFrame, JudgedFace]], opinion: Opinion) -> tuple[JudgedFrame, JudgedFace]:
    """The face to show: the most suspicious one of a FAKE person, otherwise the largest sharp one."""
    if opinion.verdict is Verdict.FAKE:
        return max(faces, key=lambda pair: (pair[1].p, pair[1].side))
    return max(faces, key=lambda pair: pair[1].side * (pair[1].sharpness + 1) ** 0.25)


def _suspicious_spans(
    faces: Sequence[tuple[JudgedFrame, JudgedFace]], times: Sequence[float], threshold: float
) -> list[tuple[int, Span]]:
    """Runs of sampled frames whose face scores above the threshold, each reaching half-way to its neighbours in time, with
    the number of faces."""
    place = {time: number for number, time in enumerate(times)}
    spans: list[list[int]] = []
    for frame, face in faces:
        here = place[frame.time]
        if face.p <= threshold:
            continue
        if spans and spans[-1][1] == here - 1:
            spans[-1][1] = here
        else:
            spans.append([here, here])
    return [
        (
            b - a + 1,
            Span(
                start=times[a] if a == 0 else (times[a] + times[a - 1]) / 2,
                end=times[b] if b == len(times) - 1 else (times[b] + times[b + 1]) / 2,
            ),
        )
        for a, b in spans
    ]


_GRAVITY = (Verdict.NOT_ASSESSED, Verdict.REAL, Verdict.INCONCLUSIVE, Verdict.FAKE)


def deciding_person(qualified: Sequence[TrackScore], rule: VerdictRule) -> TrackScore:
    """Whose verdict is the file's: the highest score. Where bands depend on quality the gravest verdict comes first,
    so that a doubtful small face never hides a clear large one."""
    if rule.quality is None:
        return max(qualified, key=lambda track: track.score or 0.0)
    return max(qualified, key=lambda track: (_GRAVITY.index(track.verdict), track.score or 0.0))


def highest_score(qualified: Iterable[TrackScore]) -> float:
    """The score of the most suspicious person, whatever their verdict: no band changes how files are ranked."""
    return max(track.score for track in qualified if track.score is not None)


def quality_of(tracks: Sequence[TrackScore], bits: float, faces: int) -> Quality:
    """Quality of a file whose ``faces`` are judged together: that of its most prominent person."""
    main = max(tracks, key=prominence, default=None)
    side, sharpness = (float("nan"),) * 2 if main is None else (main.median_side, main.median_sharpness)
    return Quality(side, sharpness, bits, faces)


def prominence(track: TrackScore) -> float:
    """How much there is of a person: faces times their size."""
    return track.faces * track.median_side


def judge_file(
    tracks: Sequence[TrackScore],
    table: FaceTable,
    spec: DetectorSpec,
    bits: float = float("nan"),
    *,
    turned: bool = False,
) -> Opinion:
    """The file's outcome: its worst qualified person, or the published rule over the whole table."""
    qualified = [track for track in tracks if track.score is not None]
    if not qualified:
        largest_first = sorted(tracks, key=lambda track: -prominence(track))
        reasons = [track.reason or Reason.TOO_FEW_FACES for track in largest_first]
        return judge_nothing(reasons or [Reason.TURNED] * turned, spec.verdict)
    if spec.aggregate.file.method == "worst_track":
        decided = deciding_person(qualified, spec.verdict)
        return Opinion(decided.verdict, highest_score(qualified), decided.reason, decided.band)
    rows = table.where(np.isin(table.track, np.asarray([track.id for track in qualified])))
    score = calibrate(aggregate(rows, spec.aggregate.file), spec.calibration)
    return judge_score(score, spec.verdict, quality_of(qualified, bits, len(rows)))


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


@dataclass(frozen=True)
class Judgement:
    """Everyone's verdict, the file's, and how an ensemble came to them."""

    tracks: Sequence[TrackScore]
    opinion: Opinion
    ensemble: EnsembleFacts | None = None


def _judge(frames: Sequence[JudgedFrame], spec: DetectorSpec, media: MediaFacts) -> Judgement:
    table, bits = face_table(frames), compression(media)
    # A published system, which knows no doubt of a face, judges what it finds.
    turned = media.turned is not None and spec.verdict.min_detection > 0
    tracks = judge_tracks(frames, table, spec, bits, turned=turned)
    return Judgement(tracks, judge_file(tracks, table, spec, bits, turned=turned))


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
        judged or _judge(frames, detector.spec, media),
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
        _judge(frames, spec, report.media),
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
        reasons = sorted({wording.REASONS[track.reason] for track in unjudged if track.reason})
        parts.append(f"{len(unjudged)} of {len(tracks)} people not judged: {'; '.join(reasons)}.")
    if opinion.band is not None and opinion.band.widened_by:
        parts.append(wording.wider_band(opinion.band))
    if opinion.reason is Reason.NO_FACE and opinion.score is not None:
        parts.append("No face was found; the score is this detector's published answer to that, not a measurement.")
    if frames_failed:
        parts.append(f"{frames_failed} frames could not be decoded and were left out.")
    return " ".join(parts) or None
