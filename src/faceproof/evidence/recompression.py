"""Signs that a picture was saved as JPEG more than once. A hint about its way here, not about manipulation: every
messenger saves again."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from faceproof.media import Limits
from faceproof.media.files import open_regular

# Low frequencies that hold enough non-zero coefficients in most pictures, as (row, column) of the 8 x 8 block.
_MODES = ((0, 1), (1, 0), (1, 1), (0, 2), (2, 0), (1, 2), (2, 1))
_REACH = 16
_LARGEST = 4096
# Above this the histograms have gaps that one compression does not make; see the test that measures it.
DOUBLE = 0.14


def quality_of(table: list[int]) -> int:
    """The libjpeg quality (1…100) whose luminance table is nearest to this one, in zigzag or natural order alike."""
    standard = np.sort(np.asarray(_STANDARD, np.float64))
    given = np.sort(np.asarray(table, np.float64))
    errors = []
    for quality in range(1, 101):
        scale = 5000 / quality if quality < 50 else 200 - 2 * quality
        errors.append(np.abs(np.clip(np.floor((standard * scale + 50) / 100), 1, 255) - given).sum())
    return int(np.argmin(errors)) + 1


def jpeg_history(path: Path, limits: Limits) -> tuple[int, float] | None:
    """Quality of the last JPEG compression, and how strongly the coefficients speak for an earlier, different one.

    The second number is in [0, 1]: the part of the coefficients' histograms that an estimate of the same picture saved
    once (the picture shifted by half a block and saved with the same table) does not explain. From :data:`DOUBLE` on
    an earlier compression at lower quality is likely. None for what is not a JPEG or too small to tell.
    """
    try:
        with open_regular(path) as file, Image.open(file) as picture:
            if picture.format != "JPEG" or picture.width * picture.height > limits.max_pixels:
                return None
            table = picture.quantization.get(0)  # type: ignore[attr-defined]
            picture.draft("L", (_LARGEST, _LARGEST))
            if min(picture.size) < 128 or table is None or picture.mode not in ("L", "YCbCr", "RGB"):
                return None
            grey = np.asarray(picture.convert("L"), np.float32)
            full = picture.size[0] <= _LARGEST and picture.size[1] <= _LARGEST
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    steps = np.asarray(table, np.float32).reshape(8, 8)
    quality = quality_of(list(table))
    if not full:
        return quality, 0.0
    here = _histograms(_coefficients(grey), steps)
    shifted = _coefficients(grey[4:, 4:])
    once = _saved(shifted, steps)
    there = _histograms(_coefficients(once), steps)
    gaps = [np.abs(a - b).sum() / 2 for a, b in zip(here, there, strict=True) if a.sum() > 0 and b.sum() > 0]
    return quality, float(np.mean(gaps)) if gaps else 0.0


def _coefficients(grey: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Blockwise DCT: float32 ``[rows, columns, 8, 8]`` of a grey picture cut to whole blocks."""
    rows, columns = grey.shape[0] // 8, grey.shape[1] // 8
    blocks = grey[: rows * 8, : columns * 8].reshape(rows, 8, columns, 8).transpose(0, 2, 1, 3) - 128
    transform = _dct_matrix()
    return np.asarray(transform @ blocks @ transform.T, np.float32)


def _saved(coefficients: npt.NDArray[np.float32], steps: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The grey picture after one compression with these quantiser steps."""
    rounded = np.round(coefficients / steps) * steps
    transform = _dct_matrix()
    blocks = np.clip(np.round(transform.T @ rounded @ transform + 128), 0, 255)
    rows, columns = blocks.shape[:2]
    return np.asarray(blocks.transpose(0, 2, 1, 3).reshape(rows * 8, columns * 8), np.float32)


def _dct_matrix() -> npt.NDArray[np.float32]:
    return np.asarray(cv2.dct(np.eye(8, dtype=np.float32), flags=cv2.DCT_ROWS).T, np.float32)


def _histograms(coefficients: npt.NDArray[np.float32], steps: npt.NDArray[np.float32]) -> list[npt.NDArray[np.float64]]:
    """For each mode the share of its non-zero coefficients at each multiple of the step up to :data:`_REACH`."""
    found = []
    for row, column in _MODES:
        level = np.round(np.abs(coefficients[..., row, column]) / steps[row, column]).astype(np.int64)
        level = level[(level > 0) & (level <= _REACH)]
        counts = np.bincount(level, minlength=_REACH + 1).astype(np.float64)
        found.append(counts / counts.sum() if counts.sum() >= 200 else np.zeros(_REACH + 1))
    return found


# The luminance table of the JPEG standard's Annex K.
_ANNEX_K = """
16 11 10 16 24 40 51 61 12 12 14 19 26 58 60 55 14 13 16 24 40 57 69 56 14 17 22 29 51 87 80 62
18 22 37 56 68 109 103 77 24 35 55 64 81 104 113 92 49 64 78 87 103 121 120 101 72 92 95 98 112 100 103 99
"""
_STANDARD = [int(step) for step in _ANNEX_K.split()]
