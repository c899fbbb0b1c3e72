"""Where a forgery lives: landmark regions turned into soft blending masks.

Every face is described by one array of `POINTS` landmarks, in pixels of the picture they belong to
(x right, y down). They come either from a dense face mesh (`from_mesh`) or, where only the five
points of a face detector are known, from an average face laid over them (`from_five`).

Masks are float32 `[side, side]` in [0, 1]; 1 means "taken from the source".
Regions and soft edges follow the idea of self-blended images (Shiohara & Yamasaki, CVPR 2022) and
Face X-ray (Li et al., CVPR 2020); the code is our own.
"""

from __future__ import annotations

import cv2
import numpy as np

#: Indices into the 468-point face mesh of MediaPipe (Kartynnik et al., 2019), part by part.
_MESH = {
    "oval": [
        10,
        338,
        297,
        332,
        284,
        251,
        389,
        356,
        454,
        323,
        361,
        288,
        397,
        365,
        379,
        378,
        400,
        377,
        152,
        148,
        176,
        149,
        150,
        136,
        172,
        58,
        132,
        93,
        234,
        127,
        162,
        21,
        54,
        103,
        67,
        109,
    ],
    "lips": [61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185],
    "left_eye": [33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246],
    "right_eye": [362, 382, 381, 380, 374, 373, 390, 249, 263, 466, 388, 387, 386, 385, 384, 398],
    "left_brow": [70, 63, 105, 66, 107, 55, 65, 52, 53, 46],
    "right_brow": [336, 296, 334, 293, 300, 276, 283, 282, 295, 285],
    "nose": [168, 6, 197, 195, 5, 4, 1, 2, 98, 327],
}
#: Name of each part and the rows of the landmark array it owns.
PARTS: dict[str, slice] = {}
_start = 0
for _name, _indices in _MESH.items():
    PARTS[_name] = slice(_start, _start + len(_indices))
    _start += len(_indices)
#: Number of landmarks of a face.
POINTS = _start
MESH_ROWS = np.array([i for indices in _MESH.values() for i in indices])

#: Five detector points (left eye, right eye, nose tip, left and right mouth corner) of the average face:
#: origin between the eyes, unit = distance between the eyes.
_FIVE = np.array([[-0.5, 0.0], [0.5, 0.0], [0.0, 0.62], [-0.42, 1.1], [0.42, 1.1]], np.float32)


def _ellipse(cx: float, cy: float, rx: float, ry: float, n: int, start: float = 180.0) -> np.ndarray:
    angle = np.radians(start - np.arange(n) * 360.0 / n)
    return np.stack([cx + rx * np.cos(angle), cy + ry * np.sin(angle)], 1)


def _average_face() -> np.ndarray:
    """The average frontal face as `[POINTS, 2]` in the frame of `_FIVE`; ellipses are close enough for hulls."""
    oval = _ellipse(0, 0.48, 1.0, 1.42, 36, start=-90.0)
    oval[:, 0] *= np.where(oval[:, 1] > 0.9, 1.0 - 0.18 * (oval[:, 1] - 0.9), 1.0)  # jaws are narrower than brows
    brow = np.stack([np.linspace(-0.85, -0.15, 5), [-0.28, -0.4, -0.43, -0.4, -0.32]], 1)
    left_brow = np.concatenate([brow, brow[::-1] + np.array([0, 0.08])])
    right_brow = left_brow * [-1, 1]
    nose = np.array(
        [
            [0, 0],
            [0, 0.15],
            [0, 0.3],
            [0, 0.42],
            [0, 0.55],
            [0, 0.62],
            [0, 0.68],
            [0, 0.76],
            [-0.22, 0.68],
            [0.22, 0.68],
        ],
        np.float64,
    )
    return np.concatenate([
        oval, _ellipse(0, 1.1, 0.43, 0.2, 20),
        _ellipse(-0.5, 0, 0.24, 0.1, 16), _ellipse(0.5, 0, 0.24, 0.1, 16),
        left_brow, right_brow, nose,
    ]).astype(np.float32)  # fmt: skip


_AVERAGE = _average_face()


def from_mesh(mesh: np.ndarray) -> np.ndarray:
    """Pick our landmarks out of a dense mesh, `[468, 2]` → float32 `[POINTS, 2]`."""
    return np.asarray(mesh, np.float32)[MESH_ROWS]


def from_five(five: np.ndarray) -> np.ndarray:
    """Lay the average face over five detector points, `[5, 2]` → float32 `[POINTS, 2]`.

    An affine map (not only a similarity) lets a turned head squeeze the face sideways.
    """
    five = np.asarray(five, np.float32)
    system = np.concatenate([_FIVE, np.ones((5, 1), np.float32)], 1)
    fit, *_ = np.linalg.lstsq(system, five, rcond=None)
    return np.concatenate([_AVERAGE, np.ones((POINTS, 1), np.float32)], 1) @ fit.astype(np.float32)


def _select(points: np.ndarray, *names: str) -> np.ndarray:
    return np.concatenate([points[PARTS[name]] for name in names])


def _grow(points: np.ndarray, x: float, y: float | None = None) -> np.ndarray:
    centre = points.mean(0)
    return (points - centre) * np.array([x, x if y is None else y], np.float32) + centre


def region(points: np.ndarray, rng: np.random.Generator, kind: str | None = None) -> np.ndarray:
    """Corner points of one forged region, float32 `[k, 2]`, before its hull is taken.

    `kind` is one of `KINDS`; None draws one with the odds listed there.
    """
    if kind is None:
        kind = str(rng.choice(list(KINDS), p=list(KINDS.values())))
    oval = points[PARTS["oval"]]
    if kind == "face":
        return _grow(oval, rng.uniform(0.82, 1.04), rng.uniform(0.85, 1.04))
    brows = _select(points, "left_brow", "right_brow")
    if kind == "brows_to_chin":
        # most swaps stop at the brows: keep the outline below them and close it along the brows
        below = oval[oval[:, 1] > brows[:, 1].mean()]
        return _grow(np.concatenate([below, brows]), rng.uniform(0.8, 1.02))
    if kind == "inner":
        return _grow(
            _select(points, "left_brow", "right_brow", "lips", "nose"), rng.uniform(0.95, 1.3), rng.uniform(0.9, 1.2)
        )
    if kind == "lower":
        nose_tip = points[PARTS["nose"]][6]
        cut = nose_tip[1] + rng.uniform(-0.6, 0.1) * np.ptp(points[PARTS["nose"]][:, 1])
        below = oval[oval[:, 1] > cut]
        return _grow(np.concatenate([below, nose_tip[None], points[PARTS["lips"]]]), rng.uniform(0.8, 1.0))
    if kind == "mouth":
        return _grow(points[PARTS["lips"]], rng.uniform(1.2, 2.0), rng.uniform(1.3, 2.6))
    if kind == "eyes":
        return _grow(
            _select(points, "left_brow", "right_brow", "left_eye", "right_eye"),
            rng.uniform(1.0, 1.25),
            rng.uniform(1.0, 1.5),
        )
    if kind == "nose_mouth":
        return _grow(_select(points, "nose", "lips"), rng.uniform(1.0, 1.4), rng.uniform(1.0, 1.3))
    if kind == "random":
        chosen = rng.choice(len(points), size=int(rng.integers(5, 14)), replace=False)
        return points[chosen]
    raise ValueError(f"unknown mask kind {kind!r}; known: {', '.join(KINDS)}")


#: Kinds of region and how often each is drawn.
KINDS = {
    "face": 0.3, "brows_to_chin": 0.2, "inner": 0.12, "lower": 0.12, "mouth": 0.08,
    "eyes": 0.06, "nose_mouth": 0.04, "random": 0.08,
}  # fmt: skip


def hull(corners: np.ndarray, side: int, rng: np.random.Generator | None = None) -> np.ndarray:
    """Fill the convex hull of `corners`; float32 `[side, side]` of 0 and 1. `rng` jitters the corners by 2 %."""
    corners = np.asarray(corners, np.float32)
    if rng is not None:
        corners = corners + rng.normal(0, 0.02 * max(1.0, float(np.ptp(corners, 0).max())), corners.shape).astype(
            np.float32
        )
    mask = np.zeros((side, side), np.float32)
    # four sub-pixel bits: at 80 px a whole pixel is already a visible shift of the edge
    cv2.fillConvexPoly(
        mask, np.round(cv2.convexHull(corners.astype(np.float32)) * 16).astype(np.int32), 1.0, cv2.LINE_8, 4
    )
    return mask


def displacement(side: int, amplitude: float, cells: int, rng: np.random.Generator) -> np.ndarray:
    """A smooth random displacement field in pixels, float32 `[side, side, 2]`, standard deviation `amplitude`."""
    coarse = rng.normal(0, amplitude, (cells, cells, 2)).astype(np.float32)
    return cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)


_GRIDS: dict[int, tuple[np.ndarray, np.ndarray]] = {}


def remap(image: np.ndarray, field: np.ndarray) -> np.ndarray:
    """Sample `image` at pixel + `field` (float32 `[H, W, 2]`), cubic, mirrored at the border.

    Bilinear sampling would blur every moved face a little, and the blur would give it away.
    """
    side = image.shape[0]
    if side not in _GRIDS:
        grid = np.mgrid[0:side, 0:side].astype(np.float32)
        _GRIDS[side] = (grid[1], grid[0])
    x, y = _GRIDS[side]
    return cv2.remap(image, x + field[..., 0], y + field[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)


def soften(mask: np.ndarray, rng: np.random.Generator, hard: float = 0.1) -> np.ndarray:
    """Bend the outline and feather it; float32 `[side, side]` in [0, 1] with a maximum of 1 unless the mask is empty.

    Half of the masks are feathered inwards only, so that nothing outside the region changes: real
    swaps do both. A share `hard` keeps a nearly hard edge.
    """
    side = mask.shape[0]
    mask = remap(mask, displacement(side, side * rng.uniform(0.004, 0.02), int(rng.integers(5, 12)), rng))
    mask = np.clip(mask, 0, 1)  # cubic sampling overshoots at edges
    if rng.random() >= hard:
        mask = cv2.GaussianBlur(mask, (0, 0), side * rng.uniform(0.008, 0.03))
        if rng.random() < 0.5:
            mask = np.where(mask < rng.uniform(0.6, 0.98), 0.0, mask).astype(np.float32)
        mask = cv2.GaussianBlur(mask, (0, 0), side * rng.uniform(0.005, 0.045))
    else:
        mask = cv2.GaussianBlur(mask, (0, 0), 0.6)
    peak = float(mask.max())
    return np.clip(mask / peak, 0, 1) if peak > 1e-3 else np.zeros_like(mask)
