"""The timeline of a report as shapes: one lane a person, drawn as SVG and told as a table."""

from __future__ import annotations

from dataclasses import dataclass

from faceproof.detectors.calibration import on_one_scale
from faceproof.results import FaceScore, FrameScore, Report, TrackScore

WIDTH = 1000
HEIGHT = 44
MOST_POINTS = 400
MOST_MISSING = 2


@dataclass(frozen=True)
class Lane:
    """One person. Coordinates are those of a ``WIDTH`` × ``HEIGHT`` drawing; times are seconds.

    ``area``: SVG path under the curve of scores. ``spans``: suspicious stretches as (x, width).
    ``rows``: (time, score) for the table behind the drawing.
    """

    track: TrackScore
    length: float
    area: str
    line: str
    spans: list[tuple[float, float]]
    rows: list[tuple[float, float]]
    threshold_y: float

    @property
    def starts(self) -> float:
        return _x(self.track.start, self.length)

    @property
    def wide(self) -> float:
        return max(2.0, _x(self.track.end, self.length) - self.starts)


def lanes(report: Report) -> list[Lane]:
    """A lane for each person, the most suspicious first; empty for whoever could not be judged."""
    report = on_one_scale(report)
    length = report.media.duration or max((frame.time for frame in report.frame_predictions), default=0.0) or 1.0
    seen: dict[int, list[tuple[FrameScore, FaceScore]]] = {}
    for frame in report.frame_predictions:
        for face in frame.faces:
            seen.setdefault(face.track, []).append((frame, face))
    place = {frame.index: number for number, frame in enumerate(report.frame_predictions)}
    ordered = sorted(report.tracks, key=lambda track: (track.score is None, -(track.score or 0.0), track.id))
    facts = report.detector
    threshold = facts.threshold if facts.frame_threshold is None else facts.frame_threshold
    return [
        _lane(track, seen.get(track.id, []) if track.score is not None else [], place, length, threshold)
        for track in ordered
    ]


def _runs(rows: list[tuple[int, float, float]]) -> list[list[tuple[float, float]]]:
    """Stretches in which the person was never missing for more than :data:`MOST_MISSING` looks: between them nothing
    was seen, so no line is drawn."""
    runs: list[list[tuple[float, float]]] = []
    before = None
    for place, time, p in rows:
        if before is None or place - before > MOST_MISSING + 1:
            runs.append([])
        runs[-1].append((time, p))
        before = place
    return runs


def _lane(
    track: TrackScore,
    faces: list[tuple[FrameScore, FaceScore]],
    place: dict[int, int],
    length: float,
    threshold: float,
) -> Lane:
    step = max(1, -(-len(faces) // MOST_POINTS))
    chosen = [max(faces[i : i + step], key=lambda pair: pair[1].p_fake) for i in range(0, len(faces), step)]
    rows = [(frame.time, face.p_fake) for frame, face in chosen]
    lines, areas = [], []
    for run in _runs([(place[frame.index] // step, frame.time, face.p_fake) for frame, face in chosen]):
        points = [(_x(time, length), _y(p)) for time, p in run]
        if len(points) == 1:
            points = [(max(0.0, points[0][0] - 4), points[0][1]), (min(WIDTH, points[0][0] + 4), points[0][1])]
        lines.append(" ".join(f"{'M' if i == 0 else 'L'}{x:.1f} {y:.1f}" for i, (x, y) in enumerate(points)))
        areas.append(f"{lines[-1]} L{points[-1][0]:.1f} {HEIGHT} L{points[0][0]:.1f} {HEIGHT} Z")
    suspicious = track.suspicious if track.score is not None else []
    spans = [(_x(s.start, length), max(3.0, _x(s.end, length) - _x(s.start, length))) for s in suspicious]
    return Lane(track, length, " ".join(areas), " ".join(lines), spans, rows, _y(threshold))


def _x(time: float, length: float) -> float:
    return round(min(1.0, max(0.0, time / length)) * WIDTH, 1)


def _y(p: float) -> float:
    return round(HEIGHT - 2 - p * (HEIGHT - 4), 1)
