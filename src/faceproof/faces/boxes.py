"""Arithmetic on boxes: float arrays ``[N, 4]`` of x0 y0 x1 y1."""

from __future__ import annotations

from typing import Any, cast

import cv2
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.intp]


def suppress(boxes: Floats, scores: Floats, overlap: float) -> Indices:
    """Non-maximum suppression: indices of the kept boxes, best score first.

    A box goes when its intersection over union with a better kept one is above ``overlap``.
    """
    if len(boxes) == 0:
        return np.empty(0, dtype=np.intp)
    sides = boxes.astype(np.float64)
    sides[:, 2:] -= sides[:, :2]
    kept = cv2.dnn.NMSBoxes(cast(Any, sides), cast(Any, scores), 0.0, overlap)
    return np.asarray(kept, dtype=np.intp).reshape(-1)


def suppress_nested(boxes: Floats, scores: Floats, overlap: float) -> Indices:
    """The same with the intersection over the smaller of the two boxes, so that a box inside a better one goes too.

    Sides count their last pixel (+ 1), as in the published cascade.
    """
    areas = (boxes[:, 2] - boxes[:, 0] + 1) * (boxes[:, 3] - boxes[:, 1] + 1)
    order = np.argsort(-scores, kind="stable")
    kept = []
    while order.size:
        best, rest = order[0], order[1:]
        kept.append(best)
        low = np.maximum(boxes[best, :2], boxes[rest, :2])
        high = np.minimum(boxes[best, 2:], boxes[rest, 2:])
        shared = np.prod(np.maximum(0, high - low + 1), axis=1)
        order = rest[shared <= overlap * np.minimum(areas[best], areas[rest])]
    return np.asarray(kept, dtype=np.intp)


def square(boxes: Floats) -> Floats:
    """Squares of the longer side around the same centres."""
    sides = boxes[:, 2:] - boxes[:, :2]
    longest = sides.max(axis=1, keepdims=True)
    corners = boxes[:, :2] + sides * np.float32(0.5) - longest * np.float32(0.5)
    return np.concatenate([corners, corners + longest], axis=1)


def correct(boxes: Floats, shares: Floats) -> Floats:
    """Move each edge by a share of the box's side (+ 1)."""
    sides = boxes[:, 2:] - boxes[:, :2] + 1
    moved: Floats = boxes + shares * np.concatenate([sides, sides], axis=1)
    return moved


def overlaps(boxes: Floats, others: Floats) -> Floats:
    """Intersection over union of every box with every other: float32 ``[N, M]``; 0 where either is empty."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=2)
    union = _areas(boxes)[:, None] + _areas(others)[None, :] - shared
    shares: Floats = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0).astype(np.float32, copy=False)
    return shares


def _areas(boxes: Floats) -> Floats:
    return np.asarray(np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1), dtype=np.float32)
