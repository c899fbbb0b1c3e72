"""Area averages of a frame, any size and any number of them, from one table of running sums.

The published cascade shrinks by averaging whole pixels: an output pixel is the plain mean of every input pixel it touches
(torch's adaptive average pooling, ``interpolate(mode="area")``). OpenCV's INTER_AREA weights the pixels at a cell's edge
instead, which moves boxes near a threshold across it. With running sums each mean costs four look-ups, whatever
its size, so the levels of a pyramid and hundreds of crops come out exact and no slower than a resize each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]
_ROWS = 32
_CROPS = 32
# Means of up to so many pixels come out exact from 16 bits of the sums: 257 · 255 is the largest number in them.
_PIXELS_IN_16_BITS = 257


class AreaSums:
    """Running sums of a uint8 frame ``[H, W, 3]``.

    Sums are int32 and may wrap around in frames above 8 megapixels; differences of them do not, as no mean taken here
    covers that much. The channels of a pixel lie together with an idle fourth one, so that one look-up of 16 bytes gives
    them all. They take the memory of ``before``, sums of a frame of the same size that nobody needs any more:
    to get as much anew costs more than summing up.
    """

    _four: npt.NDArray[np.uint8]
    _sums: npt.NDArray[np.int32]
    _low_bits: npt.NDArray[np.uint16] | None

    def __init__(self, image: npt.NDArray[np.uint8], before: AreaSums | None = None) -> None:
        self.height, self.width = image.shape[:2]
        if before is not None and (before.height, before.width) == (self.height, self.width):
            self._four, self._sums, self._low_bits = before._four, before._sums, before._low_bits
        else:
            self._four = np.empty((self.height, self.width, 4), np.uint8)
            self._sums = np.empty((self.height + 1, self.width + 1, 4), np.int32)
            self._low_bits = None
        cv2.cvtColor(image, cv2.COLOR_RGB2RGBA, dst=self._four)
        cv2.integral(self._four, self._sums, sdepth=cv2.CV_32S)
        self._low_bits_are_old = True

    def shrink(self, width: int, height: int, parts: Sequence[tuple[int, Floats]]) -> None:
        """The whole frame at that size, in parts: each a first column and where its columns go, float32
        ``[3, height, w]``."""
        top, bottom = _bins(self.height, height)
        left, right = _bins(self.width, width)
        # Cells differ in height by a pixel or two, so rows have few different shares.
        heights, kinds = np.unique(bottom - top, return_inverse=True)
        shares = np.float32(1) / (heights[:, None] * (right - left)[None, :]).astype(np.float32)
        sums: npt.NDArray[np.int32] | npt.NDArray[np.uint16] = self._sums
        if heights.max() * (right - left).max() <= _PIXELS_IN_16_BITS:
            sums = self._in_16_bits()
        pixels = _as_pixels(sums)
        # Some rows at a time stay in the cache between the steps.
        bands, others = np.empty((2, _ROWS, self.width + 1), pixels.dtype)
        cells, besides = np.empty((2, _ROWS, width), pixels.dtype)
        means, share = np.empty((2, _ROWS, width), np.float32)
        for start in range(0, height, _ROWS):
            rows = slice(start, start + _ROWS)
            count = len(top[rows])
            pixels.take(bottom[rows], axis=0, mode="clip", out=bands[:count])
            pixels.take(top[rows], axis=0, mode="clip", out=others[:count])
            band = bands[:count].view(sums.dtype)
            band -= others[:count].view(sums.dtype)
            bands[:count].take(right, axis=1, mode="clip", out=cells[:count])
            bands[:count].take(left, axis=1, mode="clip", out=besides[:count])
            cell = cells[:count].view(sums.dtype)
            cell -= besides[:count].view(sums.dtype)
            shares.take(kinds[rows], axis=0, mode="clip", out=share[:count])
            for channel, plane in enumerate(cv2.split(cell.reshape(count, width, 4))[:3]):
                means[:count] = plane
                for first, out in parts:
                    columns = slice(first, first + out.shape[2])
                    np.multiply(means[:count, columns], share[:count, columns], out=out[channel, rows])

    def crops(self, low: Integers, high: Integers, size: int) -> Floats:
        """Rectangles from ``low`` to ``high`` (x and y, ``[N, 2]``, ends exclusive) as float32 ``[N, 3, size, size]``."""
        out = np.empty((len(low), 3, size, size), dtype=np.float32)
        pixels = _as_pixels(self._sums).reshape(-1)
        stride = self.width + 1
        for start in range(0, len(low), _CROPS):
            some = slice(start, start + _CROPS)
            span = high[some] - low[some]
            begin, end = _bins(span[:, :, None], size)
            begin, end = begin + low[some, :, None], end + low[some, :, None]
            left, right = begin[:, None, 0], end[:, None, 0]
            top, bottom = begin[:, 1, :, None] * stride, end[:, 1, :, None] * stride
            share = np.float32(1) / ((right - left) * ((bottom - top) // stride)).astype(np.float32)
            cells = pixels.take(bottom + right, mode="clip").view(np.int32)
            cells -= pixels.take(bottom + left, mode="clip").view(np.int32)
            cells -= pixels.take(top + right, mode="clip").view(np.int32)
            cells += pixels.take(top + left, mode="clip").view(np.int32)
            means = cells.astype(np.float32).reshape(*share.shape, 4)
            for channel in range(3):
                np.multiply(means[..., channel], share, out=out[some, channel])
        return out

    def _in_16_bits(self) -> npt.NDArray[np.uint16]:
        if self._low_bits is None:
            self._low_bits = np.empty(self._sums.shape, np.uint16)
        if self._low_bits_are_old:
            np.copyto(self._low_bits, self._sums, casting="unsafe")
            self._low_bits_are_old = False
        return self._low_bits


def _as_pixels(sums: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """``[H, W, 4]`` as ``[H, W]`` of numbers as large as four: NumPy moves those at once."""
    return sums.view(np.complex128 if sums.itemsize == 4 else np.float64)[:, :, 0]


def _bins(length: int | Integers, count: int) -> tuple[Integers, Integers]:
    """First and past-the-last input pixel under each of ``count`` output pixels: neighbours may share one."""
    steps = np.arange(count)
    return steps * length // count, -(-(steps + 1) * length // count)
