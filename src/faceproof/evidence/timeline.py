"""The timeline of a page: one lane a person, as shapes in a box of 1000 × 100, and the numbers behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from faceproof.results import Report, TrackScore
from faceproof.wording import clock, person

WIDTH, HEIGHT = 1000, 100
# More points than this a lane are thinned; the highest of each stretch stays.
MOST_POINTS = 1500
MOST_ROWS = 60
# Samples further apart than this share of the whole (and never less than a second) are not joined by a line.
_JOINED = 0.08


@dataclass(frozen=True)
class Point:
    """One face: time in seconds, P(fake), box in pixels of the frame."""

    time: float
    p: float
    box: tuple[float, float, float, float]


@dataclass(frozen=True)
class Lane:
    """One person. lines, areas: SVG paths; dots: (x, y) of faces without neighbours; spans: (x, width) of suspicion;
    here: (x, width) of where the person is seen."""

    track: TrackScore
    name: str
    points: list[Point]
    lines: list[str]
    areas: list[str]
    dots: list[tuple[float, float]]
    spans: list[tuple[float, float]]
    here: tuple[float, float]


@dataclass(frozen=True)
class Row:
    """One interval of the table: its start in seconds and each lane's highest score, None where not seen."""

    time: float
    scores: list[float | None]


def duration_of(report: Report) -> float:
    """Length of the timeline in seconds; 0 for pictures."""
    last = report.frame_predictions[-1].time if report.frame_predictions else 0.0
    return max(report.media.duration or 0.0, last)


def fine_clock(time: float, duration: float) -> str:
    """0:07 in long videos, 0:07.3 in those under half a minute."""
    return clock(time) if duration >= 30 else f"{int(time) // 60}:{time % 60:04.1f}"


def lanes_of(report: Report) -> list[Lane]:
    """A lane for every person that was judged, in order of number; the others have no score to draw."""
    duration = duration_of(report)
    return [_lane(report, track, duration) for track in report.tracks if track.score is not None]


def _lane(report: Report, track: TrackScore, duration: float) -> Lane:
    points = [
        Point(frame.time, face.p_fake, face.box)
        for frame in report.frame_predictions
        for face in frame.faces
        if face.track == track.id
    ]
    kept = thinned(points, MOST_POINTS)
    spacing = duration / max(len(report.frame_predictions), 1)
    reach = max(1.0, _JOINED * duration, 2.5 * spacing)
    runs: list[list[tuple[float, float]]] = []
    for before, point in zip([None, *kept], kept, strict=False):
        place = (_x(point.time, duration), round((1 - point.p) * HEIGHT, 2))
        if before is None or point.time - before.time > reach:
            runs.append([])
        runs[-1].append(place)
    long = [run for run in runs if len(run) > 1]
    return Lane(
        track=track,
        name=person(track),
        points=kept,
        lines=[_path(run) for run in long],
        areas=[f"{_path(run)}L{run[-1][0]} {HEIGHT}L{run[0][0]} {HEIGHT}Z" for run in long],
        dots=[run[0] for run in runs if len(run) == 1],
        spans=[_stretch(span.start, span.end, duration) for span in track.suspicious],
        here=_stretch(track.start, track.end, duration),
    )


def thinned(points: Sequence[Point], most: int) -> list[Point]:
    """At most ``most`` points: the highest of each of as many equal stretches, the first and the last."""
    if len(points) <= most:
        return list(points)
    step = len(points) / (most - 2)
    groups = (points[int(i * step) : max(int((i + 1) * step), int(i * step) + 1)] for i in range(most - 2))
    return [points[0], *(max(group, key=lambda point: point.p) for group in groups if group), points[-1]]


def rows_of(report: Report, lanes: Sequence[Lane]) -> list[Row]:
    """The timeline as a table: every sampled frame, or the highest of each of 60 equal intervals."""
    times = [frame.time for frame in report.frame_predictions]
    if not times:
        return []
    duration = max(duration_of(report), 1e-9)
    if len(times) <= MOST_ROWS:
        cells = {time: number for number, time in enumerate(times)}
        starts = times
    else:
        starts = [duration * number / MOST_ROWS for number in range(MOST_ROWS)]
        cells = {time: min(int(time / duration * MOST_ROWS), MOST_ROWS - 1) for time in times}
    table: list[list[float | None]] = [[None] * len(lanes) for _ in starts]
    column = {lane.track.id: number for number, lane in enumerate(lanes)}
    for frame in report.frame_predictions:
        row = table[cells[frame.time]]
        for face in frame.faces:
            if face.track in column:
                row[column[face.track]] = max(row[column[face.track]] or 0.0, face.p_fake)
    return [Row(start, scores) for start, scores in zip(starts, table, strict=True)]


def _x(time: float, duration: float) -> float:
    return round(min(max(time / duration, 0.0), 1.0) * WIDTH, 2) if duration > 0 else 0.0


def _stretch(start: float, end: float, duration: float) -> tuple[float, float]:
    x = _x(start, duration)
    return x, max(round(_x(end, duration) - x, 2), 2.0)


def _path(run: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x} {y}" for x, y in run)
