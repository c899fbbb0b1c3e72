"""Area averages of a frame, any size and any number of them, from one table of running sums.

The published cascade shrinks by averaging whole pixels: an output pixel is the plain mean of every input pixel it touches
(torch's adaptive average pooling, ``interpolate(mode="area")``). OpenCV's INTER_AREA weights the pixels at a cell's edge
instead, which moves boxes near a threshold across it. With running sums each mean costs four look-ups, whatever
its size, so the levels of a pyramid and hundreds of crops come out exact and no slower than a resize each.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import cv2
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]
Sums = npt.NDArray[np.uint16]
_ROWS = 32
_CROPS = 32
# Sums of up to so many pixels come out exact from 16 bits: 257 · 255 is the largest number in them. More are added up
# from parts.
_PIXELS_IN_16_BITS = 257


class AreaSums:
    """Running sums of a uint8 frame ``[H, W, 3]``.

    Of each sum the low 16 bits are kept, and differences of them are exact where few pixels lie between. The channels of a
    pixel lie together with an idle fourth one, so that one look-up of 8 bytes gives them all. They take the memory of
    ``before``, sums of a frame of the same size that nobody needs any more: to get as much anew costs more than summing up.
    """

    _sums: Sums

    def __init__(self, image: npt.NDArray[np.uint8], before: AreaSums | None = None) -> None:
        self.height, self.width = image.shape[:2]
        if before is not None and (before.height, before.width) == (self.height, self.width):
            self._sums = before._sums
        else:
            self._sums = np.empty((self.height + 1, self.width + 1, 4), np.uint16)
        self._sums[0] = 0
        # Some rows at a time stay in the cache between the steps.
        four = np.empty((_ROWS, self.width, 4), np.uint8)
        wide = np.empty((_ROWS + 1, self.width + 1, 4), np.int32)
        for start in range(0, self.height, _ROWS):
            some = image[start : start + _ROWS]
            count = len(some)
            cv2.cvtColor(some, cv2.COLOR_RGB2RGBA, dst=four[:count])
            cv2.integral(four[:count], wide[: count + 1], sdepth=cv2.CV_32S)
            rows = self._sums[start + 1 : start + count + 1]
            np.copyto(rows, wide[1 : count + 1], casting="unsafe")
            rows += self._sums[start]

    def shrink(self, width: int, height: int, parts: Sequence[tuple[int, Floats]]) -> None:
        """The whole frame at that size, in parts: each a first column and where its columns go, float32
        ``[3, height, w]``."""
        top, bottom = _bins(self.height, height)
        left, right = _bins(self.width, width)
        # Cells differ in height by a pixel or two, so rows have few different shares.
        heights, kinds = np.unique(bottom - top, return_inverse=True)
        shares = np.float32(1) / (heights[:, None] * (right - left)[None, :]).astype(np.float32)
        pieces = int(_pieces(heights.max(), (right - left).max()))
        pixels = _as_pixels(self._sums)
        bands, others = np.empty((2, _ROWS, self.width + 1), pixels.dtype)
        cells, besides = np.empty((2, _ROWS, width), pixels.dtype)
        totals = np.empty((_ROWS, width, 4), np.int32) if pieces > 1 else cells.view(np.uint16).reshape(_ROWS, width, 4)
        planes = np.empty((4, _ROWS, width), totals.dtype)
        means, share = np.empty((2, _ROWS, width), np.float32)
        for start in range(0, height, _ROWS):
            rows = slice(start, start + _ROWS)
            count = len(top[rows])
            if pieces > 1:
                totals[:count] = 0
            for upper, lower in _split(top[rows], bottom[rows], pieces):
                pixels.take(lower, axis=0, mode="clip", out=bands[:count])
                pixels.take(upper, axis=0, mode="clip", out=others[:count])
                band = bands[:count].view(np.uint16)
                band -= others[:count].view(np.uint16)
                for first, last in _split(left, right, pieces):
                    bands[:count].take(last, axis=1, mode="clip", out=cells[:count])
                    bands[:count].take(first, axis=1, mode="clip", out=besides[:count])
                    cell = cells[:count].view(np.uint16)
                    cell -= besides[:count].view(np.uint16)
                    if pieces > 1:
                        totals[:count] += cell.reshape(count, width, 4)
            cv2.split(totals[:count], list(planes[:, :count]))
            shares.take(kinds[rows], axis=0, mode="clip", out=share[:count])
            for channel in range(3):
                means[:count] = planes[channel, :count]
                for begin, out in parts:
                    columns = slice(begin, begin + out.shape[2])
                    np.multiply(means[:count, columns], share[:count, columns], out=out[channel, rows])

    def crops(self, low: Integers, high: Integers, size: int) -> Floats:
        """Rectangles from ``low`` to ``high`` (x and y, ``[N, 2]``, ends exclusive) as float32 ``[N, 3, size, size]``."""
        out = np.empty((len(low), 3, size, size), dtype=np.float32)
        largest = (high - low - 1) // size + 2
        pieces = _pieces(largest[:, 0], largest[:, 1])
        for each in np.unique(pieces):
            alike = np.flatnonzero(pieces == each)
            for start in range(0, len(alike), _CROPS):
                some = alike[start : start + _CROPS]
                out[some] = self._some_crops(low[some], high[some], size, int(each))
        return out

    def _some_crops(self, low: Integers, high: Integers, size: int, pieces: int) -> Floats:
        pixels = _as_pixels(self._sums).reshape(-1)
        stride = self.width + 1
        begin, end = (edge + low[:, :, None] for edge in _bins((high - low)[:, :, None], size))
        left, right = begin[:, None, 0], end[:, None, 0]
        top, bottom = begin[:, 1, :, None], end[:, 1, :, None]
        totals: Sums | npt.NDArray[np.int32] = np.zeros((len(low) * size, size, 4), np.int32)
        for upper, lower in _split(top * stride, bottom * stride, pieces, stride):
            for first, last in _split(left, right, pieces):
                cells = pixels.take(lower + last, mode="clip").view(np.uint16)
                cells -= pixels.take(lower + first, mode="clip").view(np.uint16)
                cells -= pixels.take(upper + last, mode="clip").view(np.uint16)
                cells += pixels.take(upper + first, mode="clip").view(np.uint16)
                sums = cells.reshape(len(low) * size, size, 4)
                totals = sums if pieces == 1 else totals + sums
        share = np.float32(1) / ((right - left) * (bottom - top)).astype(np.float32)
        out = np.empty((len(low), 3, size, size), np.float32)
        for channel, plane in enumerate(cv2.split(totals)[:3]):
            np.multiply(plane.astype(np.float32).reshape(share.shape), share, out=out[:, channel])
        return out


def _as_pixels(sums: Sums) -> npt.NDArray[np.float64]:
    """``[H, W, 4]`` as ``[H, W]`` of numbers as large as four: NumPy moves those at once."""
    return sums.view(np.float64)[:, :, 0]


def _bins(length: int | Integers, count: int) -> tuple[Integers, Integers]:
    """First and past-the-last input pixel under each of ``count`` output pixels: neighbours may share one."""
    steps = np.arange(count)
    return steps * length // count, -(-(steps + 1) * length // count)


def _pieces(height: npt.ArrayLike, width: npt.ArrayLike) -> Integers:
    """Into how many rows, and as many columns, cells up to this size are cut so that 16 bits hold the sum of a piece."""
    height, width = np.asarray(height), np.asarray(width)
    pieces = np.ones(np.broadcast(height, width).shape, np.int64)
    while (too_large := -(-height // pieces) * -(-width // pieces) > _PIXELS_IN_16_BITS).any():
        pieces += too_large
    return pieces


def _split(begin: Integers, end: Integers, pieces: int, step: int = 1) -> Iterator[tuple[Integers, Integers]]:
    """Ranges cut into ``pieces`` that differ by a pixel at most; ends are counted in ``step``."""
    if pieces == 1:
        yield begin, end
        return
    pixels = (end - begin) // step
    edges = [begin + step * (pixels * number // pieces) for number in range(pieces + 1)]
    yield from itertools.pairwise(edges)
