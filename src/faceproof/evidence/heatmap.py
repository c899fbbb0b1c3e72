"""Where in a face the suspicion lies: the graph's own map, or what hiding parts of the face does to the score.

A heatmap is float32 in [0, 1], row 0 at the top. It says where the detector looked, not what was forged there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from faceproof.detectors.detector import Detector
from faceproof.detectors.spec import Input, Margin
from faceproof.errors import OptionError
from faceproof.evidence import texts
from faceproof.evidence.usual_heat import usual_heat
from faceproof.faces import cut

Image = npt.NDArray[np.uint8]
Heat = npt.NDArray[np.float32]
HeatMethod = Literal["graph", "occlusion"]

_EDGE = 1e-6
# A difference of this much log-odds when one patch is hidden counts as full heat; weaker effects stay pale.
FULL_EFFECT = 2.0


@dataclass(frozen=True)
class FaceHeat:
    """One face's heat.

    heat: float32 ``[h, w]`` in [0, 1], laid over the crop it belongs to, of the same height and width.
    p_fake: the face's P(fake) as scored for this map.
    method: ``graph`` (the network's own output) or ``occlusion``.
    """

    heat: Heat
    p_fake: float
    method: HeatMethod


def face_heats(detector: Detector, crops: Sequence[Image], *, method: HeatMethod | None = None) -> list[FaceHeat]:
    """Heat for each crop (uint8 RGB ``[h, w, 3]``, as cut from the frame).

    Without a ``method`` the graph's own map is used where it has one, occlusion otherwise. A mask is shown as it differs
    from genuine faces' where that was measured, see :mod:`faceproof.evidence.usual_heat`. Raises
    :class:`OptionError` for ``graph`` when the network has no map.
    """
    if method is None:
        method = "graph" if detector.spec.output.heatmap is not None else "occlusion"
    if not crops:
        return []
    if method == "occlusion":
        return [occlusion_heat(detector, crop) for crop in crops]
    scores, heats = detector.score_with_heat(crops)
    if heats is None:
        raise OptionError(f"{detector.spec.name} has no heatmap of its own", remedy="Use --method occlusion.")
    usual = usual_heat(detector.spec.weights.sha256) if detector.spec.output.heatmap_kind == "mask" else None
    if usual is not None:
        heats = usual.unusual(heats)
    return [
        FaceHeat(on_crop(heat, crop.shape[:2], detector.spec.input), float(p), "graph")
        for heat, crop, p in zip(heats, crops, scores, strict=True)
    ]


def occlusion_heat(detector: Detector, crop: Image, *, grid: int = 9) -> FaceHeat:
    """Black-box heat for any detector: blur one patch after another and see how much the log-odds of P(fake) fall.

    ``grid`` × ``grid`` patches that overlap by half are tried, so the network runs ``grid² + 1`` times. Only falls
    count: heat marks what speaks *for* manipulation. A fall of :data:`FULL_EFFECT` or more is 1. The map says nothing
    about parts that matter only together.
    """
    if grid < 2:
        raise OptionError("the occlusion grid needs at least 2 patches a side")
    height, width = crop.shape[:2]
    # Blurred rather than grey: a grey square is itself a sign of manipulation to many networks.
    blurred = cv2.GaussianBlur(crop, (0, 0), max(1.0, 0.08 * max(height, width)))
    rows = _patches(height, grid)
    columns = _patches(width, grid)
    places = [(row, column) for row in rows for column in columns]
    base = _log_odds(detector.score([crop]))[0]
    falls = np.zeros(len(places), np.float64)
    for start in range(0, len(places), 16):
        hidden = []
        for (y0, y1), (x0, x1) in places[start : start + 16]:
            one = crop.copy()
            one[y0:y1, x0:x1] = blurred[y0:y1, x0:x1]
            hidden.append(one)
        falls[start : start + len(hidden)] = base - _log_odds(detector.score(hidden))
    total = np.zeros((height, width), np.float64)
    count = np.zeros((height, width), np.float64)
    for ((y0, y1), (x0, x1)), fall in zip(places, np.maximum(falls, 0), strict=True):
        total[y0:y1, x0:x1] += fall
        count[y0:y1, x0:x1] += 1
    heat = np.clip(total / np.maximum(count, 1) / FULL_EFFECT, 0, 1)
    return FaceHeat(heat.astype(np.float32), float(1 / (1 + np.exp(-base))), "occlusion")


def _patches(length: int, grid: int) -> list[tuple[int, int]]:
    """``grid`` stretches that cover ``length`` pixels, each reaching over half of its neighbours."""
    step = length / (grid + 1)
    return [(int(i * step), max(int(i * step) + 1, round((i + 2) * step))) for i in range(grid)]


def _log_odds(p: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    clipped = np.clip(p.astype(np.float64), _EDGE, 1 - _EDGE)
    return np.asarray(np.log(clipped) - np.log1p(-clipped), np.float64)


# -- where a map lies ---------------------------------------------------------------------------------------------


def on_crop(heat: Heat, crop_size: Sequence[int], recipe: Input) -> Heat:
    """The network's map ``[h, w]`` laid over the crop it was made from: float32 of ``crop_size`` (height, width).

    Undoes the spec's resizing: padding is cut away, and what a centre crop never showed the network stays 0.
    """
    height, width = crop_size
    size = recipe.size
    if recipe.resize == "isotropic":
        scale = size / max(height, width)
        seen_height, seen_width = max(1, int(height * scale)), max(1, int(width * scale))
        top, left = (size - seen_height) // 2, (size - seen_width) // 2
        seen = _enlarged(heat, size, size)[top : top + seen_height, left : left + seen_width]
        return _enlarged(seen, height, width)
    if recipe.resize == "centre_crop":
        side = min(height, width)
        out = np.zeros((height, width), np.float32)
        top, left = (height - side) // 2, (width - side) // 2
        out[top : top + side, left : left + side] = _enlarged(heat, side, side)
        return out
    return _enlarged(heat, height, width)


def _enlarged(heat: Heat, height: int, width: int) -> Heat:
    resized = cv2.resize(np.ascontiguousarray(heat, np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    return np.clip(np.asarray(resized, np.float32), 0, 1)


@dataclass(frozen=True)
class CropPlace:
    """Where a crop lies in its frame: rows ``y0:y1`` and columns ``x0:x1`` of the frame (pixels, inside it) show what
    rows ``top:top + y1 - y0`` and columns ``left:left + x1 - x0`` of the crop show."""

    x0: int
    y0: int
    x1: int
    y1: int
    left: int
    top: int

    def heat_in_frame(self, heat: Heat) -> Heat:
        """The part of a crop's heat that lies on the frame: float32 ``[y1 - y0, x1 - x0]``."""
        return heat[self.top : self.top + self.y1 - self.y0, self.left : self.left + self.x1 - self.x0]


def crop_place(frame_size: Sequence[int], box: tuple[float, float, float, float], margin: Margin) -> CropPlace:
    """Where :func:`faceproof.faces.cut` takes a crop from, in a frame of ``frame_size`` (height, width) pixels.

    Asked of ``cut`` itself, so that it can never disagree: what it cuts is the number of each row and column.
    """
    height, width = frame_size
    # Broadcast views: a frame's worth of numbers without a frame's worth of memory.
    rows = cut(np.broadcast_to(np.arange(height)[:, None, None], (height, width, 1)), box, margin)[:, 0, 0]
    columns = cut(np.broadcast_to(np.arange(width)[None, :, None], (height, width, 1)), box, margin)[0, :, 0]
    top, y0, y1 = _true_run(rows)
    left, x0, x1 = _true_run(columns)
    return CropPlace(x0, y0, x1, y1, left, top)


def _true_run(numbers: npt.NDArray[np.integer]) -> tuple[int, int, int]:
    """The longest stretch that counts upwards: (its place, first number, last number + 1). The rest is mirrored."""
    breaks = np.flatnonzero(np.diff(numbers) != 1) + 1
    edges = np.concatenate([[0], breaks, [len(numbers)]])
    longest = int(np.argmax(np.diff(edges)))
    start, stop = int(edges[longest]), int(edges[longest + 1])
    return start, int(numbers[start]), int(numbers[stop - 1]) + 1


# -- what it looks like -------------------------------------------------------------------------------------------

_ramp = cv2.applyColorMap(np.arange(256, dtype=np.uint8).reshape(-1, 1), cv2.COLORMAP_INFERNO)[:, 0, ::-1]
# uint8 RGB [256, 3]: dark to bright, told apart without hue.
RAMP: Image = np.ascontiguousarray(_ramp, np.uint8)


# float32 [256]: how much of the colour covers the face at each level; cold parts leave the face as it is.
OPACITY: Heat = (0.75 * np.sqrt(np.linspace(0, 1, 256)) * (np.arange(256) > 5)).astype(np.float32)


def heat_levels(heat: Heat) -> Image:
    """Heat as rows of :data:`RAMP` and :data:`OPACITY`: uint8 ``[h, w]``."""
    return np.asarray(np.clip(np.nan_to_num(heat), 0, 1) * 255 + 0.5, np.uint8)


def blend(crop: Image, heat: Heat) -> Image:
    """The crop under its heat: uint8 RGB ``[h, w, 3]``."""
    levels = heat_levels(heat)
    share = OPACITY[levels][..., None]
    return np.asarray(crop * (1 - share) + RAMP[levels] * share + 0.5, np.uint8)


def hottest_place(heat: Heat) -> tuple[float, float]:
    """Centre of the hottest spot as shares (across, down) of the crop, each in [0, 1]."""
    smooth = cv2.blur(heat, (max(1, heat.shape[1] // 12), max(1, heat.shape[0] // 12)))
    row, column = np.unravel_index(int(np.argmax(smooth)), smooth.shape)
    return (float(column) + 0.5) / heat.shape[1], (float(row) + 0.5) / heat.shape[0]


def place_in_words(heat: Heat) -> str:
    """Where the heat is strongest, by ninths of the crop as the viewer sees it; says so when there is none."""
    if float(heat.max(initial=0.0)) < 0.05:
        return texts.HEAT_NONE
    across, down = hottest_place(heat)
    row, column = min(int(down * 3), 2), min(int(across * 3), 2)
    return texts.HEAT_PLACE.format(place=texts.HEAT_PLACES[row][column])
