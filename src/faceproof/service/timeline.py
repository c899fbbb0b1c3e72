"""The timeline of a report as shapes: one lane a person, drawn as SVG and told as a table."""

from __future__ import annotations

from dataclasses import dataclass

from faceproof.results import FaceScore, FrameScore, Report, TrackScore

WIDTH = 1000
HEIGHT = 44
MOST_POINTS = 400


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
    """A lane for each person, the most suspicious first."""
    length = report.media.duration or max((frame.time for frame in report.frame_predictions), default=0.0) or 1.0
    seen: dict[int, list[tuple[FrameScore, FaceScore]]] = {}
    for frame in report.frame_predictions:
        for face in frame.faces:
            seen.setdefault(face.track, []).append((frame, face))
    ordered = sorted(report.tracks, key=lambda track: (track.score is None, -(track.score or 0.0), track.id))
    return [_lane(track, seen.get(track.id, []), length, report.detector.threshold) for track in ordered]


def _lane(track: TrackScore, faces: list[tuple[FrameScore, FaceScore]], length: float, threshold: float) -> Lane:
    step = max(1, -(-len(faces) // MOST_POINTS))
    chosen = [max(faces[i : i + step], key=lambda pair: pair[1].p_fake) for i in range(0, len(faces), step)]
    rows = [(frame.time, face.p_fake) for frame, face in chosen]
    points = [(_x(time, length), _y(p)) for time, p in rows]
    if len(points) == 1:
        points = [(max(0.0, points[0][0] - 4), points[0][1]), (min(WIDTH, points[0][0] + 4), points[0][1])]
    line = " ".join(f"{'M' if i == 0 else 'L'}{x:.1f} {y:.1f}" for i, (x, y) in enumerate(points))
    area = f"{line} L{points[-1][0]:.1f} {HEIGHT} L{points[0][0]:.1f} {HEIGHT} Z" if points else ""
    spans = [(_x(s.start, length), max(3.0, _x(s.end, length) - _x(s.start, length))) for s in track.suspicious]
    return Lane(track, length, area, line, spans, rows, _y(threshold))


def _x(time: float, length: float) -> float:
    return round(min(1.0, max(0.0, time / length)) * WIDTH, 1)


def _y(p: float) -> float:
    return round(HEIGHT - 2 - p * (HEIGHT - 4), 1)
