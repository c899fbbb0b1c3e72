"""From a face's box to what a network sees: cut, resize, pad, normalise, exactly as the detector's spec says.

Weights only mean something together with the recipe they were trained on, so rounding is part of it: boxes become whole
pixels by truncation, margins of ``thirds`` by integer division, sizes by truncation and centring by integer division.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from faceproof.detectors.spec import Input, Margin

Image = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Box = tuple[float, float, float, float]
Edges = tuple[int, int, int, int]

_KERNELS = {
    "cubic": cv2.INTER_CUBIC,
    "linear": cv2.INTER_LINEAR,
    "area": cv2.INTER_AREA,
    "nearest": cv2.INTER_NEAREST,
}
SHARPNESS_SIDE = 128


def cut(image: Image, box: Box, margin: Margin) -> Image:
    """The crop around a face: a new uint8 array ``[h, w, 3]``, at least one pixel.

    ``image`` is the whole frame, uint8 ``[H, W, 3]``; ``box`` is x0, y0, x1, y1 in its pixels.
    """
    height, width = image.shape[:2]
    if not (height and width):
        raise ValueError("cannot cut a crop out of an empty frame")
    if not np.isfinite(box).all():
        raise ValueError(f"a box has four finite numbers, not {box}")
    if margin.kind == "square":
        return _cut_square(image, box, margin.value)
    x0, y0, x1, y1 = _EDGES[margin.kind](box, margin.value)
    # A box that lies outside or has no extent still gives its nearest pixel.
    x0, y0 = min(max(x0, 0), width - 1), min(max(y0, 0), height - 1)
    x1, y1 = max(min(x1, width), x0 + 1), max(min(y1, height), y0 + 1)
    return image[y0:y1, x0:x1].copy()


def fit(crop: Image, recipe: Input) -> Image:
    """A crop of any size as uint8 RGB ``[size, size, 3]``: what the network sees, before colour order and scaling."""
    if crop.dtype != np.uint8 or crop.ndim != 3 or crop.shape[2] != 3 or crop.size == 0:
        raise ValueError(f"a crop is uint8 [h, w, 3] with pixels in it, not {crop.dtype} {crop.shape}")
    fitted = _RESIZES[recipe.resize](crop, recipe)
    if recipe.denoise:
        fitted = cv2.addWeighted(fitted, 1 - recipe.denoise, cv2.medianBlur(fitted, 3), recipe.denoise, 0)
    return np.asarray(fitted, dtype=np.uint8)


def batch(crops: Sequence[Image], recipe: Input) -> Floats:
    """Crops of any sizes as the network's float32 ``[N, 3, size, size]``."""
    size = recipe.size
    out = np.empty((len(crops), 3, size, size), dtype=np.float32)
    tables = _tables(recipe.scale, recipe.mean, recipe.std)
    order = (2, 1, 0) if recipe.colour == "BGR" else (0, 1, 2)
    for planes, crop in zip(out, crops, strict=True):
        channels = cv2.split(fit(crop, recipe))
        for place, channel in enumerate(order):
            cv2.LUT(channels[channel], tables[place], planes[place])
    return out


def sharpness(crop: Image) -> float:
    """Variance of the Laplacian of the grey crop at 128 × 128 pixels. Under about 20 little is left to judge."""
    side = SHARPNESS_SIDE
    if crop.shape[:2] != (side, side):
        crop = np.asarray(_resize(crop, side, side, "linear", "area"), dtype=np.uint8)
    grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)
    return float(cv2.Laplacian(grey, cv2.CV_32F).var(dtype=np.float64))


# ── margins: from a float box to whole-pixel edges, not yet clamped to the frame ──────────────────────────────────────


def _none(box: Box, _: float) -> Edges:
    x0, y0, x1, y1 = box
    return int(x0), int(y0), int(x1), int(y1)


def _grow(box: Box, across: int, down: int) -> Edges:
    x0, y0, x1, y1 = _none(box, 0)
    return x0 - across, y0 - down, x1 + across, y1 + down


def _thirds(box: Box, _: float) -> Edges:
    x0, y0, x1, y1 = _none(box, 0)
    return _grow(box, (x1 - x0) // 3, (y1 - y0) // 3)


def _fraction(box: Box, value: float) -> Edges:
    x0, y0, x1, y1 = _none(box, 0)
    return _grow(box, int((x1 - x0) * value), int((y1 - y0) * value))


def _pixels(box: Box, value: float) -> Edges:
    return _grow(box, int(value), int(value))


def _square_short(box: Box, _: float) -> Edges:
    x0, y0, x1, y1 = _none(box, 0)
    width, height = x1 - x0, y1 - y0
    return _grow(box, max(0, height - width) // 2, max(0, width - height) // 2)


def _blaze(box: Box, value: float) -> Edges:
    x0, y0, x1, y1 = box
    offset = round(value * (y1 - y0))
    # Clamped before truncation, as truncation would round a negative edge the other way.
    return int(max(x0 - offset, 0)), int(max(y0 - 2 * offset, 0)), int(x1 + offset), int(y1 + offset)


_EDGES: dict[str, Callable[[Box, float], Edges]] = {
    "none": _none,
    "thirds": _thirds,
    "fraction": _fraction,
    "pixels": _pixels,
    "square_short": _square_short,
    "blaze": _blaze,
}


def _cut_square(image: Image, box: Box, value: float) -> Image:
    x0, y0, x1, y1 = box
    side = max(1, int(max(x1 - x0, y1 - y0) * value))
    left, top = int(np.floor((x0 + x1 - side) / 2)), int(np.floor((y0 + y1 - side) / 2))
    height, width = image.shape[:2]
    if left >= 0 and top >= 0 and left + side <= width and top + side <= height:
        return image[top : top + side, left : left + side].copy()
    rows, columns = _reflect(top, side, height), _reflect(left, side, width)
    return np.ascontiguousarray(image[rows[:, None], columns[None, :]])


def _reflect(start: int, count: int, length: int) -> npt.NDArray[np.intp]:
    """Indices ``start … start + count`` folded back into ``0 … length``, the edge pixel not repeated."""
    period = max(1, 2 * (length - 1))
    folded = np.arange(start, start + count) % period
    return np.minimum(folded, period - folded) if length > 1 else np.zeros(count, dtype=np.intp)


# ── resizing ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _isotropic(crop: Image, recipe: Input) -> Image:
    size = recipe.size
    height, width = crop.shape[:2]
    scale = size / max(height, width)
    if scale != 1:
        new_width = size if width > height else max(1, int(width * scale))
        new_height = max(1, int(height * scale)) if width > height else size
        crop = _resize(crop, new_width, new_height, recipe.enlarge, recipe.reduce, enlarging=scale > 1)
    height, width = crop.shape[:2]
    canvas = np.full((size, size, 3), recipe.pad, dtype=np.uint8)
    top, left = (size - height) // 2, (size - width) // 2
    canvas[top : top + height, left : left + width] = crop
    return canvas


def _stretch(crop: Image, recipe: Input) -> Image:
    return _resize(crop, recipe.size, recipe.size, recipe.enlarge, recipe.reduce)


def _centre_crop(crop: Image, recipe: Input) -> Image:
    size = recipe.size
    height, width = crop.shape[:2]
    shorter = min(height, width)
    if shorter != size:
        new_width, new_height = size * width // shorter, size * height // shorter
        crop = _resize(crop, new_width, new_height, recipe.enlarge, recipe.reduce, enlarging=size > shorter)
    top, left = (crop.shape[0] - size) // 2, (crop.shape[1] - size) // 2
    return crop[top : top + size, left : left + size].copy()


_RESIZES: dict[str, Callable[[Image, Input], Image]] = {
    "isotropic": _isotropic,
    "stretch": _stretch,
    "centre_crop": _centre_crop,
}


def _resize(crop: Image, width: int, height: int, enlarge: str, reduce: str, *, enlarging: bool | None = None) -> Image:
    if crop.shape[:2] == (height, width):
        return crop.copy()
    if enlarging is None:
        enlarging = crop.shape[1] <= width and crop.shape[0] <= height
    kernel = _KERNELS[enlarge if enlarging else reduce]
    return np.asarray(cv2.resize(crop, (width, height), interpolation=kernel), dtype=np.uint8)


@lru_cache(maxsize=16)
def _tables(scale: float, mean: tuple[float, float, float], std: tuple[float, float, float]) -> Floats:
    """For each channel the float32 value of each of the 256 pixel values: the same on every machine."""
    pixels = np.arange(256, dtype=np.float64) * scale
    return np.stack([(pixels - m) / s for m, s in zip(mean, std, strict=True)]).astype(np.float32)
