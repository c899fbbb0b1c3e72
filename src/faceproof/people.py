"""What each person's faces add up to: their score and verdict, and the verdict of the file they are in."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from faceproof.detectors.aggregate import FaceTable, aggregate
from faceproof.detectors.calibration import calibrate
from faceproof.detectors.quality import Quality, bits_per_pixel
from faceproof.detectors.spec import DetectorSpec
from faceproof.detectors.verdict import Opinion, doubted, judge_nothing, judge_score, unqualified
from faceproof.results import Box, EnsembleFacts, FaceScore, MediaFacts, Reason, Span, TrackScore, Verdict


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
    tracks = []
    for number in sorted(seen):
        faces = seen[number]
        side = float(np.median([face.side for _, face in faces]))
        sharpness = float(np.median([face.sharpness for _, face in faces]))
        suspicious = _suspicious_spans(faces, frames, spec.verdict.frame_threshold)
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
    faces: Sequence[tuple[JudgedFrame, JudgedFace]], frames: Sequence[JudgedFrame], threshold: float
) -> list[tuple[int, Span]]:
    """Runs of sampled frames whose face scores above the threshold, each reaching half-way to its neighbours in time, with
    the number of faces."""
    times = [frame.time for frame in frames]
    place = {frame.index: number for number, frame in enumerate(frames)}  # two frames may bear one time
    spans: list[list[int]] = []
    for frame, face in faces:
        here = place[frame.index]
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


def deciding_person(qualified: Sequence[TrackScore]) -> TrackScore:
    """Whose verdict is the file's: the gravest one's, among those the highest score's. Where bands depend on quality a
    doubtful small face never hides a clear large one, nor does a higher score without a sign hide suspicious moments."""
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
        decided = deciding_person(qualified)
        return Opinion(decided.verdict, highest_score(qualified), decided.reason, decided.band)
    rows = table.where(np.isin(table.track, np.asarray([track.id for track in qualified])))
    score = calibrate(aggregate(rows, spec.aggregate.file), spec.calibration)
    return judge_score(score, spec.verdict, quality_of(qualified, bits, len(rows)))


@dataclass(frozen=True)
class Judgement:
    """Everyone's verdict, the file's, and how an ensemble came to them."""

    tracks: Sequence[TrackScore]
    opinion: Opinion
    ensemble: EnsembleFacts | None = None


def judge(frames: Sequence[JudgedFrame], spec: DetectorSpec, media: MediaFacts) -> Judgement:
    """Everyone's verdict and the file's, from frames in time order whose faces are all scored."""
    table, bits = face_table(frames), compression(media)
    # A published system, which knows no doubt of a face, judges what it finds.
    turned = media.turned is not None and spec.verdict.min_detection > 0
    tracks = judge_tracks(frames, table, spec, bits, turned=turned)
    return Judgement(tracks, judge_file(tracks, table, spec, bits, turned=turned))
