"""Drawing on a video's own YUV planes: what is not drawn on keeps exactly its pixels, and no frame is converted to RGB.

Positions are whole pixels of the canvas, x right, y down. Pictures to be drawn are RGB; they are converted once, when
made. Pixels are 8-bit limited range, 4:2:0.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image as Picture
from PIL import ImageDraw, ImageFont

Plane = npt.NDArray[np.uint8]
Image = npt.NDArray[np.uint8]
Opacity = npt.NDArray[np.float32]
Colour = tuple[int, int, int]

# Kr, Kb of the two matrices that matter.
_WEIGHTS = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722)}


def yuv_of(rgb: npt.NDArray[Any], matrix: str) -> npt.NDArray[np.uint8]:
    """RGB ``[..., 3]`` in 0…255 to limited-range YUV uint8 of the same shape. ``matrix`` is bt601 or bt709."""
    kr, kb = _WEIGHTS[matrix]
    r, g, b = (rgb[..., i].astype(np.float32) / 255 for i in range(3))
    y = kr * r + (1 - kr - kb) * g + kb * b
    u, v = (b - y) / (2 * (1 - kb)), (r - y) / (2 * (1 - kr))
    yuv = np.stack([16 + 219 * y, 128 + 224 * u, 128 + 224 * v], axis=-1)
    return np.asarray(np.clip(np.round(yuv), 0, 255), np.uint8)


@dataclass(frozen=True)
class Sprite:
    """A picture ready to be laid on a canvas at even positions.

    y: uint8 ``[h, w]``, h and w even; u, v: uint8 ``[h/2, w/2]``; opacity: of each pixel, float32 planes for y and for u and
    v, or one number for all of it.
    """

    y: Plane
    u: Plane
    v: Plane
    opacity: tuple[Opacity, Opacity] | float = 1.0

    @classmethod
    def of(cls, rgb: Image, matrix: str, opacity: float = 1.0) -> Sprite:
        """From uint8 RGB ``[h, w, 3]``; an odd side is filled up by repeating its last row or column."""
        rgb = np.pad(rgb, ((0, rgb.shape[0] % 2), (0, rgb.shape[1] % 2), (0, 0)), mode="edge")
        yuv = yuv_of(rgb, matrix)
        half = (rgb.shape[1] // 2, rgb.shape[0] // 2)
        u, v = (cv2.resize(np.ascontiguousarray(yuv[..., i]), half, interpolation=cv2.INTER_AREA) for i in (1, 2))
        return cls(np.ascontiguousarray(yuv[..., 0]), np.asarray(u, np.uint8), np.asarray(v, np.uint8), opacity)

    @classmethod
    def of_levels(cls, levels: Plane, ramp: npt.NDArray[np.uint8], opacity: Opacity) -> Sprite:
        """From levels uint8 ``[h, w]``, the YUV colour of each level ``[256, 3]`` and its opacity ``[256]``."""
        levels = np.pad(levels, ((0, levels.shape[0] % 2), (0, levels.shape[1] % 2)), mode="edge")
        half = np.asarray(
            cv2.resize(levels, (levels.shape[1] // 2, levels.shape[0] // 2), interpolation=cv2.INTER_AREA), np.uint8
        )
        tables = [np.ascontiguousarray(ramp[:, i]) for i in range(3)]
        y, u, v = (
            np.asarray(cv2.LUT(plane, table), np.uint8)
            for plane, table in zip((levels, half, half), tables, strict=True)
        )
        full, reduced = (np.asarray(cv2.LUT(plane, opacity), np.float32) for plane in (levels, half))
        return cls(y, u, v, (full, reduced))

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.y.shape[1], self.y.shape[0]


@dataclass(frozen=True)
class Canvas:
    """One frame to draw on. y: uint8 ``[H, W]``, both even; u, v: uint8 ``[H/2, W/2]``; all are changed in place."""

    y: Plane
    u: Plane
    v: Plane
    matrix: str

    @property
    def width(self) -> int:
        return int(self.y.shape[1])

    @property
    def height(self) -> int:
        return int(self.y.shape[0])

    def fill(self, x0: int, y0: int, x1: int, y1: int, colour: Colour) -> None:
        """A filled rectangle, clipped to the canvas."""
        x0, y0, x1, y1 = max(x0, 0), max(y0, 0), min(x1, self.width), min(y1, self.height)
        if x0 >= x1 or y0 >= y1:
            return
        y, u, v = _colour(colour, self.matrix)
        self.y[y0:y1, x0:x1] = y
        half = (slice(y0 // 2, (y1 + 1) // 2), slice(x0 // 2, (x1 + 1) // 2))
        self.u[half] = u
        self.v[half] = v

    def outline(self, x0: int, y0: int, x1: int, y1: int, colour: Colour, thickness: int) -> None:
        """A rectangle's frame, drawn inwards."""
        t = thickness
        self.fill(x0, y0, x1, y0 + t, colour)
        self.fill(x0, y1 - t, x1, y1, colour)
        self.fill(x0, y0 + t, x0 + t, y1 - t, colour)
        self.fill(x1 - t, y0 + t, x1, y1 - t, colour)

    def lay(self, sprite: Sprite, x: int, y: int) -> None:
        """Lay a sprite with its top left corner at the even position nearest to (x, y); what falls off is lost."""
        x, y = x - x % 2, y - y % 2
        width, height = sprite.size
        x0, y0, x1, y1 = max(x, 0), max(y, 0), min(x + width, self.width), min(y + height, self.height)
        if x0 >= x1 or y0 >= y1:
            return
        full = (slice(y0, y1), slice(x0, x1)), (slice(y0 - y, y1 - y), slice(x0 - x, x1 - x))
        half = tuple(tuple(slice(s.start // 2, s.stop // 2) for s in pair) for pair in full)
        for number, (plane, drawn) in enumerate(((self.y, sprite.y), (self.u, sprite.u), (self.v, sprite.v))):
            there, here = full if number == 0 else half
            share = sprite.opacity
            if isinstance(share, tuple):
                weight = share[min(number, 1)][here]
                plane[there] = cv2.blendLinear(drawn[here], plane[there], weight, 1 - weight)
            elif share == 1:
                plane[there] = drawn[here]
            else:
                plane[there] = cv2.addWeighted(drawn[here], share, plane[there], 1 - share, 0)


@lru_cache(maxsize=512)
def _colour(colour: Colour, matrix: str) -> tuple[int, int, int]:
    y, u, v = (int(value) for value in yuv_of(np.asarray(colour, np.float32), matrix))
    return y, u, v


@lru_cache(maxsize=16)
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The font that ships with Pillow, so that overlays look the same on every machine."""
    return ImageFont.load_default(size=max(size, 6))


@lru_cache(maxsize=512)
def label(text: str, size: int, ink: Colour, paper: Colour, matrix: str) -> Sprite:
    """One line of text of ``size`` pixels on a plain ground."""
    left, top, right, bottom = font(size).getbbox("Ag0")
    width = int(np.ceil(font(size).getlength(text)))
    pad = max(2, size // 4)
    picture = Picture.new("RGB", (width + 2 * pad, int(bottom - top) + 2 * pad), paper)
    ImageDraw.Draw(picture).text((pad, pad - top), text, font=font(size), fill=ink)
    del left, right
    return Sprite.of(np.asarray(picture, np.uint8), matrix)


def copy_picture(canvas: Canvas, planes: tuple[Plane, Plane, Plane], scale: int) -> None:
    """Lay a picture's planes (luma of any size, chroma half of it rounded up) on the canvas's top left corner.

    ``scale`` enlarges by a whole factor. An odd last row or column is repeated, so that the canvas is covered evenly.
    """
    for there, here, half in zip((canvas.y, canvas.u, canvas.v), planes, (1, 2, 2), strict=True):
        if scale > 1:
            # Chroma of odd pictures stands for one pixel more than there is; its own size times the scale would drift.
            size = (here.shape[1] * scale, here.shape[0] * scale)
            here = np.asarray(cv2.resize(here, size, interpolation=cv2.INTER_CUBIC), np.uint8)
        height, width = min(here.shape[0], there.shape[0]), min(here.shape[1], there.shape[1])
        there[:height, :width] = here[:height, :width]
        if half == 1:
            # Only the picture's own odd edge is filled: the strip below it is drawn by others.
            if width < there.shape[1]:
                there[:height, width:] = here[:height, width - 1 : width]
            if height % 2 and height < there.shape[0]:
                there[height] = there[height - 1]
