"""Area averages of a frame, any size and any number of them, from one table of running sums.

The published cascade shrinks by averaging whole pixels: an output pixel is the plain mean of every input pixel it touches
(torch's adaptive average pooling, ``interpolate(mode="area")``). OpenCV's INTER_AREA weights the pixels at a cell's edge
instead, which moves boxes near a threshold across it. With running sums each mean costs four look-ups, whatever
its size, so the levels of a pyramid and hundreds of crops come out exact and no slower than a resize each.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]
_ROWS = 64
_CROPS = 32


class AreaSums:
    """Running sums of a uint8 frame ``[H, W, 3]``.

    Sums are int32 and may wrap around in frames above 8 megapixels; differences of them do not, as no mean taken here
    covers that much.
    """

    def __init__(self, image: npt.NDArray[np.uint8]) -> None:
        self.height, self.width = image.shape[:2]
        self._sums = np.empty((3, self.height + 1, self.width + 1), dtype=np.int32)
        for plane, channel in zip(self._sums, cv2.split(image), strict=True):
            cv2.integral(channel, plane, sdepth=cv2.CV_32S)

    def shrink(self, out: Floats) -> None:
        """Fill ``out``, float32 ``[3, h, w]``, with the whole frame at that size."""
        _, height, width = out.shape
        top, bottom = _bins(self.height, height)
        left, right = _bins(self.width, width)
        share = np.float32(1) / ((bottom - top)[:, None] * (right - left)[None, :]).astype(np.float32)
        for plane, sums in zip(out, self._sums, strict=True):
            # Some rows at a time stay in the cache between the four steps.
            for start in range(0, height, _ROWS):
                rows = slice(start, start + _ROWS)
                bands = sums.take(bottom[rows], axis=0, mode="clip")
                bands -= sums.take(top[rows], axis=0, mode="clip")
                cells = bands.take(right, axis=1, mode="clip")
                cells -= bands.take(left, axis=1, mode="clip")
                np.multiply(cells, share[rows], out=plane[rows], casting="unsafe")

    def crops(self, low: Integers, high: Integers, size: int) -> Floats:
        """Rectangles from ``low`` to ``high`` (x and y, ``[N, 2]``, ends exclusive) as float32 ``[N, 3, size, size]``."""
        out = np.empty((len(low), 3, size, size), dtype=np.float32)
        flat = self._sums.reshape(3, -1)
        stride = self.width + 1
        for start in range(0, len(low), _CROPS):
            some = slice(start, start + _CROPS)
            span = high[some] - low[some]
            begin, end = _bins(span[:, :, None], size)
            begin, end = begin + low[some, :, None], end + low[some, :, None]
            left, right = begin[:, None, 0], end[:, None, 0]
            top, bottom = begin[:, 1, :, None] * stride, end[:, 1, :, None] * stride
            share = np.float32(1) / ((right - left) * ((bottom - top) // stride)).astype(np.float32)
            for channel, sums in enumerate(flat):
                cells = sums.take(bottom + right, mode="clip")
                cells -= sums.take(bottom + left, mode="clip")
                cells -= sums.take(top + right, mode="clip")
                cells += sums.take(top + left, mode="clip")
                np.multiply(cells, share, out=out[some, channel], casting="unsafe")
        return out


def _bins(length: int | Integers, count: int) -> tuple[Integers, Integers]:
    """First and past-the-last input pixel under each of ``count`` output pixels: neighbours may share one."""
    steps = np.arange(count)
    return steps * length // count, -(-(steps + 1) * length // count)
