"""The overlay video: the same film with a box on every face, its score, the curve with a cursor and a bar below.

Everything streams; the sound is kept, every frame keeps its own time. Between two sampled frames boxes and scores are
drawn on the line between them, also where a face was missed in between, unless somebody else was seen in its place; where
nothing was sampled nearby, or no face was seen, nothing is claimed.
"""

from __future__ import annotations

import os
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import numpy.typing as npt

from faceproof.detectors.calibration import on_one_scale, shown_threshold
from faceproof.detectors.detector import Detector
from faceproof.errors import EvidenceError, OptionError
from faceproof.evidence import texts
from faceproof.evidence.canvas import Canvas, Colour, Sprite, copy_picture, label, yuv_of
from faceproof.evidence.curve import LINE, Curve, Panel, draw_panel, panel_size
from faceproof.evidence.encoding import VideoFormat, VideoWriter, first_sound, no_pictures
from faceproof.evidence.heatmap import OPACITY, RAMP, crop_place, face_heats, heat_levels
from faceproof.evidence.labels import place_labels
from faceproof.evidence.planes import OpenAnimation, OpenVideo, UprightPicture, matrix_of, open_video
from faceproof.faces import cut
from faceproof.media import Limits, probe
from faceproof.results import Box, Report, TrackScore
from faceproof.wording import person

# Okabe and Ito's colours that no verdict uses: told apart by colour-blind eyes, one person each, in turn.
TRACK_COLOURS: tuple[Colour, ...] = (
    (0x56, 0xB4, 0xE9),
    (0xF0, 0xE4, 0x42),
    (0xCC, 0x79, 0xA7),
    (0x00, 0x9E, 0x73),
    (0xE6, 0x9F, 0x00),
    (0xFF, 0xFF, 0xFF),
)
_INK: Colour = (0, 0, 0)
_NO_SCORE: Colour = (0x8A, 0x8A, 0x8A)
# Boxes are drawn on the line between two samples at most this far apart, and held this long past a lone one (seconds), no
# further than half-way to the next frame that was looked at.
BRIDGED = 1.0
HELD = 0.2
# A face that overlaps a line's box by this much of their union is in its place.
_IN_ITS_PLACE = 0.3
# Shorter sides than this are enlarged by a whole factor, or nobody could read the numbers.
_LEGIBLE = 240
_LARGEST_ENLARGED = 1920
PROGRESS_EVERY = 50
_PANEL_OPACITY = 0.8

Progress = Callable[[int, int | None], None]


@dataclass(frozen=True)
class Overlaid:
    """What was written; frames, width and height are the new video's. encoder: ``libx264`` or ``libvpx-vp9``."""

    path: Path
    frames: int
    encoder: str
    width: int
    height: int


def sampling_for_overlay(fps: Fraction | float | None) -> str:
    """About six looks a second: boxes follow faces, and the scan stays affordable."""
    return f"every:{max(1, round(float(fps or 25) / 6))}"


def write_overlay(
    report: Report,
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    detector: Detector | None = None,
    heat: bool = False,
    frame_threshold: float | None = None,
    limits: Limits | None = None,
    on_progress: Progress | None = None,
) -> Overlaid:
    """Draw a report over its video.

    Parameters
    ----------
    path: where the reported video lies; its sha256 must be the report's.
    out: ``.mp4``, ``.mov``, ``.mkv`` or ``.webm``; written under another name until it is whole.
    detector: the report's detector; needed for ``heat`` only.
    heat: blend every sampled face's heat into the picture until the person's next sample.
    frame_threshold: of faces, the dashed line; by default the report's own, .5 where it names none. It and all faces are
        drawn on the scale of people's scores (:func:`faceproof.detectors.calibration.on_one_scale`).
    on_progress: called with (frames written, frames in all) every :data:`PROGRESS_EVERY` frames.

    Raises
    ------
    :class:`EvidenceError` when the file is not the one reported on, :class:`OptionError` for ``heat`` without a detector,
    :class:`faceproof.errors.NoVideoStreamError` for a picture, :class:`faceproof.errors.OutputError` when it cannot be
    written, and other :class:`faceproof.errors.MediaError`.
    """
    out = Path(out)
    if heat and detector is None:
        raise OptionError("heat needs the detector")
    limits = limits or Limits()
    info = probe(path, limits=limits)
    if info.kind != "video":
        raise no_pictures(info.path)
    if info.sha256 != report.media.sha256:
        raise EvidenceError(f"{info.path.name!r} is not the file of the report", remedy="Scan it again.")
    if out.exists() and out.samefile(info.path):
        raise OptionError("the overlay would replace its own video", remedy="Give another name with -o.")
    if frame_threshold is None:
        named = report.detector.frame_threshold
        frame_threshold = 0.5 if named is None else named
    frame_threshold = shown_threshold(frame_threshold, report)
    report = on_one_scale(report)
    with open_video(info, limits) as video:
        drawing: _Drawing | None = None
        writer: VideoWriter | None = None
        start = min([Fraction(video.timeline.ticks[0]) * video.timeline.time_base, *_sound_start(video)])
        start = max(start, Fraction(0))
        first_ticks = round(start / video.timeline.time_base)
        count = 0
        written = -1
        pictures = video.pictures()
        try:
            for picture in pictures:
                if drawing is None or writer is None:
                    drawing = _Drawing(report, picture, detector if heat else None, frame_threshold)
                    form = VideoFormat(
                        drawing.width,
                        drawing.height,
                        video.timeline.time_base,
                        info.fps,
                        picture.picture,
                        video.aspect,
                    )
                    writer = VideoWriter(out, form, video.sound)
                    writer.start_at(start)
                pts = picture.ticks - first_ticks
                if pts <= written:
                    continue  # two frames for one moment: players show the first
                frame = drawing.frame(picture)
                frame.pts, frame.time_base = pts, video.timeline.time_base
                writer.write(frame)
                written = pts
                count += 1
                if on_progress is not None and count % PROGRESS_EVERY == 0:
                    on_progress(count, info.frame_count)
        except BaseException as error:
            if writer is not None:
                writer.__exit__(type(error), error, error.__traceback__)
            raise
        finally:
            pictures.close()  # type: ignore[attr-defined]
        assert drawing is not None
        assert writer is not None
        writer.__exit__(None, None, None)
    return Overlaid(out, count, writer.encoder, drawing.width, drawing.height)


def _sound_start(video: OpenVideo | OpenAnimation) -> list[Fraction]:
    start = None if video.sound is None else first_sound(video.sound)
    return [] if start is None else [start]


@dataclass
class _Path:
    """Where one person was seen: parallel lists in order of time. looks: the times of all sampled frames. broken: the
    places from which no line leads on, because somebody else was seen on it."""

    track: TrackScore
    looks: list[float]
    times: list[float] = field(default_factory=list)
    boxes: list[Box] = field(default_factory=list)
    p: list[float] = field(default_factory=list)
    broken: set[int] = field(default_factory=set)

    def at(self, time: float) -> tuple[Box, float] | None:
        """Box and P(fake) at a time, None where the person is not seen."""
        after = bisect_right(self.times, time + 1e-6)
        before = after - 1
        if self.bridges(before) and before not in self.broken:
            share = (time - self.times[before]) / (self.times[after] - self.times[before])
            return self.between(before, share), self.p[before] + share * (self.p[after] - self.p[before])
        near = [i for i in (before, after) if 0 <= i < len(self.times) and self._held(i, time)]
        if not near:
            return None
        closest = min(near, key=lambda i: abs(self.times[i] - time))
        return self.boxes[closest], self.p[closest]

    def bridges(self, place: int) -> bool:
        """Whether the next sample is close enough for a line to it."""
        return 0 <= place < len(self.times) - 1 and self.times[place + 1] - self.times[place] <= BRIDGED

    def between(self, place: int, share: float) -> Box:
        """The box on the line from one sample to the next."""
        old, new = np.asarray(self.boxes[place]), np.asarray(self.boxes[place + 1])
        x0, y0, x1, y1 = (float(v) for v in old + share * (new - old))
        return x0, y0, x1, y1

    def _held(self, place: int, time: float) -> bool:
        seen = self.times[place]
        here = bisect_right(self.looks, seen + 1e-6)
        # The look before this one or the one behind it, whichever the time lies towards.
        other = here if time >= seen else here - 2
        reach = HELD
        if 0 <= other < len(self.looks):
            reach = min(reach, abs(self.looks[other] - seen) / 2)
        return abs(time - seen) <= reach + 1e-6


def paths_of(report: Report) -> list[_Path]:
    """Every person's way through the sampled frames, in order of number."""
    looks = [frame.time for frame in report.frame_predictions]
    paths = {track.id: _Path(track, looks) for track in report.tracks}
    for frame in report.frame_predictions:
        for face in frame.faces:
            if face.track in paths:
                one = paths[face.track]
                one.times.append(frame.time)
                one.boxes.append(face.box)
                one.p.append(face.p_fake)
    for one in paths.values():
        one.broken = {place for place in range(len(one.times)) if one.bridges(place) and _is_taken(report, one, place)}
    return list(paths.values())


def _is_taken(report: Report, one: _Path, place: int) -> bool:
    """Whether a frame between two samples of a person shows somebody else where the line between them would draw them."""
    start, end = one.times[place], one.times[place + 1]
    for frame in report.frame_predictions[bisect_right(one.looks, start) : bisect_left(one.looks, end)]:
        box = one.between(place, (frame.time - start) / (end - start))
        if any(face.track != one.track.id and _overlap(face.box, box) >= _IN_ITS_PLACE for face in frame.faces):
            return True
    return False


def _overlap(a: Box, b: Box) -> float:
    """Intersection over union."""
    across = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    down = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - across * down
    return across * down / union if union > 0 else 0.0


@dataclass(frozen=True)
class _HeldHeat:
    """A sampled face's heat as levels of the ramp (uint8 ``[h, w]``), and where it lies measured from the face's box, in
    shares of the box's sides."""

    levels: npt.NDArray[np.uint8]
    x0: float
    y0: float
    x1: float
    y1: float
    until: float


class _Drawing:
    """All that is drawn, prepared once for one size of picture."""

    def __init__(self, report: Report, first: UprightPicture, detector: Detector | None, threshold: float) -> None:
        height, width = first.planes[0].shape
        wanted, room = -(-_LEGIBLE // min(height, width)), _LARGEST_ENLARGED // max(height, width)
        self.scale = max(1, min(wanted, room))
        self.matrix = matrix_of(first.picture, height)
        self.width = _even(width * self.scale)
        self.picture_height = _even(height * self.scale)
        # The bar lies below the picture, not on it: what it would cover may be the chin that matters.
        self.bar = _even(min(max(round(self.picture_height * 0.037), 24), 96))
        self.height = self.picture_height + self.bar
        short = min(self.width, self.picture_height)
        self.thickness = max(2, _even(round(short / 270)))
        self.text = max(11, round(short / 42))
        self.margin = max(4, round(short / 108))
        self.curve = Curve.of(report, threshold)
        self.panel: Panel = draw_panel(self.curve, *panel_size(self.width, self.picture_height, self.margin))
        self.panel_sprite = Sprite.of(self.panel.image, self.matrix, _PANEL_OPACITY)
        self.paths = paths_of(report)
        self.judged = [one for one in self.paths if one.track.score is not None]
        self.detector = detector
        self.sampled = {frame.index: frame for frame in report.frame_predictions} if detector is not None else {}
        self.heats: dict[int, _HeldHeat] = {}
        # On which side of their face everybody's label was in the frame before.
        self.sides: dict[int, int] = {}

    def frame(self, picture: UprightPicture) -> Any:
        """A new ``av.VideoFrame`` (yuv420p, ``width`` × ``height``) with everything drawn on it."""
        frame = av.VideoFrame(self.width, self.height, "yuv420p")
        y, u, v = (
            np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: plane.height, : plane.width]
            for plane in frame.planes
        )
        canvas = Canvas(y, u, v, self.matrix)
        image = Canvas(
            y[: self.picture_height], u[: self.picture_height // 2], v[: self.picture_height // 2], self.matrix
        )
        copy_picture(image, picture.planes, self.scale)
        if self.detector is not None:
            self._look(picture)
        boxes = self._boxes(picture.time)
        for track, (box, _) in boxes.items():
            self._draw_heat(image, track, box, picture.time)
        self._draw_panel(image, picture.time)
        # After the panel: a face below it keeps its box and its number.
        self._draw_boxes(image, boxes)
        self._draw_bar(canvas, boxes, picture.time)
        return frame

    def _looked_at(self, time: float) -> bool:
        """Whether the frames sampled around this time speak for it, by the rule that boxes are drawn by."""
        times = self.curve.times
        after = bisect_right(times, time + 1e-6)
        if 0 < after < len(times) and times[after] - times[after - 1] <= BRIDGED:
            return True
        return any(abs(times[i] - time) <= HELD for i in (after - 1, after) if 0 <= i < len(times))

    def _boxes(self, time: float) -> dict[int, tuple[Box, float]]:
        found = ((one.track.id, one.at(time)) for one in self.paths)
        return {track: place for track, place in found if place is not None}

    def _draw_boxes(self, canvas: Canvas, boxes: dict[int, tuple[Box, float]]) -> None:
        seen = [one.track for one in self.paths if one.track.id in boxes]
        drawn, tags = [], []
        for track in seen:
            box, p = boxes[track.id]
            colour = TRACK_COLOURS[(track.id - 1) % len(TRACK_COLOURS)]
            x0, y0, x1, y1 = (round(value * self.scale) for value in box)
            x0, y0, x1, y1 = x0 - x0 % 2, y0 - y0 % 2, x1 + x1 % 2, y1 + y1 % 2
            canvas.outline(x0, y0, x1, y1, colour, self.thickness)
            drawn.append((float(x0), float(y0), float(x1), float(y1)))
            # Whoever could not be judged has no score, in no picture either.
            words = texts.BOX_UNJUDGED if track.score is None else texts.BOX_LABEL
            tags.append(label(words.format(person=person(track), score=p), self.text, _INK, colour, self.matrix))
        places = place_labels(
            drawn,
            [(float(tag.size[0]), float(tag.size[1])) for tag in tags],
            (canvas.width, canvas.height),
            [self.sides.get(track.id) for track in seen],
        )
        self.sides = {track.id: side for track, (_, _, side) in zip(seen, places, strict=True)}
        for tag, (x, y, _) in zip(tags, places, strict=True):
            canvas.lay(tag, round(x), round(y))

    def _draw_panel(self, canvas: Canvas, time: float) -> None:
        width, _ = self.panel_sprite.size
        x, y = canvas.width - width - self.margin, self.margin
        x, y = max(x - x % 2, 0), y - y % 2
        canvas.lay(self.panel_sprite, x, y)
        column = x + self.panel.column(time)
        column -= column % 2
        canvas.fill(column, y + self.panel.y0, column + 2, y + self.panel.y1, (255, 255, 255))
        score = self.curve.at(time)
        if score is not None:
            half = max(2, self.panel_sprite.size[1] // 54)
            row = y + self.panel.row(score)
            canvas.fill(column + 1 - half, row - half, column + 1 + half, row + half, LINE)

    def _draw_bar(self, canvas: Canvas, boxes: dict[int, tuple[Box, float]], time: float) -> None:
        """The highest number drawn on a face of this frame, so that bar and boxes never differ."""
        score = max((boxes[one.track.id][1] for one in self.judged if one.track.id in boxes), default=None)
        colour = _NO_SCORE if score is None else (round(255 * score), round(255 * (1 - score)), 0)
        canvas.fill(0, self.picture_height, canvas.width, canvas.height, colour)
        nothing = (
            texts.BAR_UNJUDGED if boxes else texts.BAR_NO_FACE if self._looked_at(time) else texts.BAR_NOT_LOOKED_AT
        )
        text = nothing if score is None else texts.BAR.format(score=score)
        size = min(round(self.bar * 0.6), round(self.width / 13))
        tag = label(text, size, _INK, colour, self.matrix)
        canvas.lay(tag, min(self.margin + 4, canvas.width), self.picture_height + (self.bar - tag.size[1]) // 2)

    # -- heat ---------------------------------------------------------------------------------------------------

    def _look(self, picture: UprightPicture) -> None:
        """Heat of the faces sampled in this very frame; kept until each person's next sample."""
        sampled = self.sampled.get(picture.index)
        if sampled is None or not sampled.faces or self.detector is None:
            return
        image = picture.rgb()
        margin = self.detector.spec.faces.margin
        heats = face_heats(self.detector, [cut(image, face.box, margin) for face in sampled.faces])
        for face, heat in zip(sampled.faces, heats, strict=True):
            place = crop_place(image.shape[:2], face.box, margin)
            x0, y0, x1, y1 = face.box
            across, down = max(x1 - x0, 1), max(y1 - y0, 1)
            self.heats[face.track] = _HeldHeat(
                np.ascontiguousarray(heat_levels(place.heat_in_frame(heat.heat))),
                (place.x0 - x0) / across,
                (place.y0 - y0) / down,
                (place.x1 - x0) / across,
                (place.y1 - y0) / down,
                picture.time + BRIDGED,
            )

    def _draw_heat(self, canvas: Canvas, track: int, box: Box, time: float) -> None:
        held = self.heats.get(track)
        if held is None or time > held.until:
            return
        x0, y0, x1, y1 = (value * self.scale for value in box)
        across, down = x1 - x0, y1 - y0
        left, top = round(x0 + held.x0 * across), round(y0 + held.y0 * down)
        size = (max(2, round((held.x1 - held.x0) * across)), max(2, round((held.y1 - held.y0) * down)))
        levels = np.asarray(cv2.resize(held.levels, size, interpolation=cv2.INTER_LINEAR), np.uint8)
        canvas.lay(Sprite.of_levels(levels, _ramp(self.matrix), OPACITY), left, top)


@lru_cache(maxsize=2)
def _ramp(matrix: str) -> npt.NDArray[np.uint8]:
    return yuv_of(RAMP, matrix)


def _even(value: int) -> int:
    return value + value % 2
