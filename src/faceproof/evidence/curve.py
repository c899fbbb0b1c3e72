"""The suspicion curve: one dark panel, drawn once; the cursor moves over it frame by frame.

It looks as the documented system's does (dark ground, red fill, orange line, dashed threshold, title) and differs where
that one failed: it fits portrait frames, is drawn once instead of anew for each frame, and shows a gap where no face
was seen instead of a score of nought.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image as Picture
from PIL import ImageDraw

from faceproof.evidence import texts
from faceproof.evidence.canvas import font
from faceproof.results import Report
from faceproof.wording import clock

FILL = (0xFF, 0x41, 0x36)
LINE = (0xFF, 0x85, 0x1B)
ASPECT = 6 / 2.5
_LOW, _HIGH = -0.05, 1.05
# Drawn this much larger and then reduced, for smooth edges.
_FINE = 3


@dataclass(frozen=True)
class Curve:
    """The file's score over time, as sampled: ``times`` in seconds, ascending; ``scores`` None where nobody who was
    judged is seen."""

    times: Sequence[float]
    scores: Sequence[float | None]
    duration: float
    threshold: float = 0.5

    @classmethod
    def of(cls, report: Report, threshold: float = 0.5) -> Curve:
        """The highest face of every sampled frame, of people who were judged."""
        frames = report.frame_predictions
        judged = {track.id for track in report.tracks if track.score is not None}
        scores = [max((face.p_fake for face in f.faces if face.track in judged), default=None) for f in frames]
        last = frames[-1].time if frames else 0.0
        return cls([f.time for f in frames], scores, max(report.media.duration or 0.0, last), threshold)

    def at(self, time: float) -> float | None:
        """The score at a time: between two sampled frames on the line between them, None next to one without a face."""
        if not self.times:
            return None
        after = bisect_right(self.times, time)
        left = self.scores[max(after - 1, 0)]
        right = self.scores[min(after, len(self.times) - 1)]
        if after == 0 or after == len(self.times) or self.times[after - 1] == time:
            return left if after else right
        if left is None or right is None:
            near_left = time - self.times[after - 1] <= self.times[after] - time
            return left if near_left else right
        share = (time - self.times[after - 1]) / (self.times[after] - self.times[after - 1])
        return left + share * (right - left)

    def runs(self) -> list[list[tuple[float, float]]]:
        """Stretches of neighbouring sampled frames with a score, as (time, score) points."""
        runs: list[list[tuple[float, float]]] = [[]]
        for time, score in zip(self.times, self.scores, strict=True):
            if score is None:
                runs.append([])
            else:
                runs[-1].append((time, score))
        return [run for run in runs if run]


@dataclass(frozen=True)
class Panel:
    """The drawn curve. image: uint8 RGB ``[h, w, 3]``; the plot spans columns ``x0`` to ``x1`` and rows ``y0`` to ``y1``."""

    image: npt.NDArray[np.uint8]
    x0: int
    x1: int
    y0: int
    y1: int
    duration: float

    def column(self, time: float) -> int:
        share = min(max(time / self.duration, 0.0), 1.0) if self.duration > 0 else 0.0
        return round(self.x0 + share * (self.x1 - self.x0))

    def row(self, score: float) -> int:
        return round(self.y1 - (score - _LOW) / (_HIGH - _LOW) * (self.y1 - self.y0))


def panel_size(width: int, height: int, margin: int) -> tuple[int, int]:
    """Width and height of the panel on a picture: 30 % of its height, never wider than the picture."""
    panel_height = round(0.3 * height)
    panel_width = min(round(panel_height * ASPECT), width - 2 * margin)
    return max(panel_width, 2), max(min(panel_height, round(panel_width / ASPECT)), 2)


def draw_panel(curve: Curve, width: int, height: int) -> Panel:
    """Draw the curve once, ``width`` × ``height`` pixels. Words and numbers are left out where they would not be legible."""
    words = height >= 60
    text = max(7, round(height * 0.085))
    left = round(text * 2.6) if words else max(2, width // 40)
    top = round(text * 2.0) if words else max(2, height // 20)
    bottom = round(text * 1.9) if words else max(2, height // 20)
    right = max(2, round(text * 1.2)) if words else max(2, width // 40)
    panel = Panel(np.empty(0, np.uint8), left, width - right - 1, top, height - bottom - 1, curve.duration)

    picture = Picture.new("RGBA", (width * _FINE, height * _FINE), (0, 0, 0, 255))
    shade = Picture.new("RGBA", picture.size, (0, 0, 0, 0))
    fill, line = ImageDraw.Draw(shade), ImageDraw.Draw(picture)

    def place(time: float, score: float) -> tuple[int, int]:
        return panel.column(time) * _FINE, panel.row(score) * _FINE

    for run in curve.runs():
        points = [place(*point) for point in run]
        if len(points) > 1:
            ground = place(0, 0.0)[1]
            fill.polygon([(points[0][0], ground), *points, (points[-1][0], ground)], fill=(*FILL, 102))
    picture.alpha_composite(shade)
    thick = max(2, round(height / 108)) * _FINE
    for run in curve.runs():
        points = [place(*point) for point in run]
        if len(points) > 1:
            line.line(points, fill=LINE, width=thick, joint="curve")
        radius = thick
        for x, y in points if len(run) == 1 else ():
            line.ellipse((x - radius, y - radius, x + radius, y + radius), fill=LINE)
    dash = max(3, width // 90) * _FINE
    row = place(0, curve.threshold)[1]
    for x in range(panel.x0 * _FINE, panel.x1 * _FINE, 2 * dash):
        line.line([(x, row), (min(x + dash, panel.x1 * _FINE), row)], fill=(178, 178, 178), width=_FINE)
    line.rectangle(
        (panel.x0 * _FINE, panel.y0 * _FINE, panel.x1 * _FINE, panel.y1 * _FINE), outline=(120, 120, 120), width=_FINE
    )
    image = picture.convert("RGB").resize((width, height), Picture.Resampling.BOX)
    if words:
        _write(image, panel, text)
    return Panel(np.array(image, np.uint8), panel.x0, panel.x1, panel.y0, panel.y1, curve.duration)


def _write(image: Picture.Image, panel: Panel, size: int) -> None:
    draw = ImageDraw.Draw(image)
    ink = (255, 255, 255)
    title_size = round(size * 1.15)
    middle = (panel.x0 + panel.x1) / 2
    if font(title_size).getlength(texts.CURVE_TITLE) <= image.width - 4:
        draw.text((middle, panel.y0 / 2), texts.CURVE_TITLE, font=font(title_size), fill=ink, anchor="mm")
    for score in (0.0, 0.5, 1.0):
        draw.text((panel.x0 - 4, panel.row(score)), f"{score:.1f}", font=font(size), fill=ink, anchor="rm")
    below = (panel.y1 + image.height) / 2
    end = clock(panel.duration) if panel.duration >= 10 else f"0:{panel.duration:04.1f}"
    draw.text((panel.x0, below), clock(0), font=font(size), fill=ink, anchor="lm")
    draw.text((panel.x1, below), end, font=font(size), fill=ink, anchor="rm")
