"""Forgeries that are not swaps: a moved mouth, a changed expression, a re-rendered skin.

Face2Face and NeuralTextures keep the person and replace the expression, so there is no second face
and often no colour seam: what remains is bent geometry and texture that went through a renderer.
All pictures are RGB uint8 `[side, side, 3]`; landmarks as in `masks`.
"""

from __future__ import annotations

import cv2
import numpy as np

from faceproof.training.masks import PARTS, remap


def _pull(centres: np.ndarray, moves: np.ndarray, widths: np.ndarray, side: int) -> np.ndarray:
    """Displacement field `[side, side, 2]` of soft local pulls: at each centre the picture moves by `moves`."""
    cells = 32  # the field is smooth: 32 x 32 nodes are exact enough and 50 times cheaper than every pixel
    node = (np.arange(cells, dtype=np.float32) + 0.5) * side / cells
    x, y = np.meshgrid(node, node)
    field = np.zeros((cells, cells, 2), np.float32)
    for (cx, cy), move, width in zip(centres, moves, widths, strict=True):
        weight = np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * width * width))
        field -= weight[..., None] * move  # remap() looks backwards: the source of a pixel lies against the move
    return cv2.resize(field, (side, side), interpolation=cv2.INTER_CUBIC)


def change_expression(image: np.ndarray, points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Move mouth corners, lower lip, jaw, brows and lids by a few per cent of the face; RGB uint8 in and out."""
    side = image.shape[0]
    face = float(np.ptp(points[PARTS["oval"]][:, 1]))
    lips, nose = points[PARTS["lips"]], points[PARTS["nose"]]
    left, right = lips[lips[:, 0].argmin()], lips[lips[:, 0].argmax()]
    bottom = lips[lips[:, 1].argmax()]
    chin = points[PARTS["oval"]][points[PARTS["oval"]][:, 1].argmax()]
    out = right - left
    out = out / max(float(np.hypot(*out)), 1e-3)
    down = np.array([-out[1], out[0]], np.float32)
    smile, widen, jaw = rng.normal(0, 0.02, 2) * face, rng.normal(0, 0.02) * face, rng.normal(0, 0.03) * face
    centres = [left, right, bottom, chin, nose[7]]
    moves = [
        -out * widen - down * smile[0], out * widen - down * smile[1],
        down * jaw, down * jaw * rng.uniform(0.3, 0.9), down * rng.normal(0, 0.006) * face,
    ]  # fmt: skip
    widths = [0.07 * face, 0.07 * face, 0.07 * face, 0.12 * face, 0.06 * face]
    if rng.random() < 0.5:
        lift, lids = rng.normal(0, 0.012) * face, rng.normal(0, 0.008) * face
        for brow, eye in (("left_brow", "left_eye"), ("right_brow", "right_eye")):
            centres += [points[PARTS[brow]].mean(0), points[PARTS[eye]].mean(0)]
            moves += [down * lift, down * lids]
            widths += [0.08 * face, 0.05 * face]
    return remap(
        image, _pull(np.array(centres, np.float32), np.array(moves, np.float32), np.array(widths, np.float32), side)
    )


def rerender(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Pass a face through something like a generator's decoder; RGB uint8 in and out.

    A face network works at 64 to 256 pixels, forgets the finest texture and paints its own: the
    picture is shrunk and grown again with a random kernel, then smoothed the way networks smooth
    (edges stay, pores go), or stripped of its weak frequencies.
    """
    side = image.shape[0]
    small = max(24, int(side / rng.uniform(1.1, 2.0)))
    shrink = cv2.INTER_AREA if rng.random() < 0.7 else cv2.INTER_LINEAR
    grow = int(rng.choice([cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4], p=[0.5, 0.4, 0.1]))
    code = cv2.resize(image, (small, small), interpolation=shrink)
    kind = rng.random()
    if kind < 0.3:
        code = cv2.bilateralFilter(code, 5, float(rng.uniform(10, 40)), 2.0)
    elif kind < 0.5:
        code = cv2.medianBlur(code, 3)
    elif kind < 0.75:
        code = _drop_weak_frequencies(code, rng.uniform(4, 18))
    out = cv2.resize(code, (side, side), interpolation=grow)
    if rng.random() < 0.3:  # decoders that upsample by transposed convolution leave a faint grid
        out = out.astype(np.float32)
        out[::2] *= 1 + rng.uniform(-0.012, 0.012)
        out[:, ::2] *= 1 + rng.uniform(-0.012, 0.012)
        out = np.clip(out, 0, 255).astype(np.uint8)
    return out


def _drop_weak_frequencies(image: np.ndarray, threshold: float) -> np.ndarray:
    """Damp every cosine coefficient of the whole picture below `threshold`: fine texture goes, edges stay, no blocks."""
    height, width = image.shape[:2]
    ycc = cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb).astype(np.float32)
    for channel in range(3):
        plane = cv2.copyMakeBorder(ycc[..., channel], 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
        spectrum = cv2.dct(plane)
        weak = np.abs(spectrum) < threshold * 4
        spectrum[weak] *= 0.15
        ycc[..., channel] = cv2.idct(spectrum)[:height, :width]
    return cv2.cvtColor(np.clip(ycc, 0, 255).astype(np.uint8), cv2.COLOR_YCrCb2RGB)


def rasterise(image: np.ndarray, points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw a face the way a graphics engine draws a textured mesh; RGB uint8 in and out.

    Face2Face and FaceSwap look every pixel up in a texture of about the face's own resolution, without
    area filtering: where mesh and pixel grid disagree, edges turn into steps and fine lines double. Here the
    picture is stored as a slightly turned and stretched texture and looked up again, often by nearest neighbour,
    and half of the time lit anew.
    """
    side = image.shape[0]
    centre = points.mean(0)
    turn, stretch = rng.uniform(-12, 12), rng.uniform(0.65, 1.0)  # a finer texture would give every pixel back
    forth = cv2.getRotationMatrix2D((float(centre[0]), float(centre[1])), turn, stretch)
    forth[0, :2] *= rng.uniform(0.92, 1.08)
    stored = cv2.warpAffine(
        image, forth, (side, side),
        flags=int(rng.choice([cv2.INTER_NEAREST, cv2.INTER_LINEAR], p=[0.6, 0.4])), borderMode=cv2.BORDER_REFLECT_101,
    )  # fmt: skip
    drawn = cv2.warpAffine(
        stored, cv2.invertAffineTransform(forth), (side, side),
        flags=int(rng.choice([cv2.INTER_NEAREST, cv2.INTER_LINEAR], p=[0.6, 0.4])), borderMode=cv2.BORDER_REFLECT_101,
    )  # fmt: skip
    return relight(drawn, rng) if rng.random() < 0.5 else drawn


def relight(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Multiply a picture by a smooth random shading (up to second order, about 10 %); RGB uint8 in and out.

    Renderers estimate the light with a few spherical harmonics (Ramamoorthi & Hanrahan, 2001) and miss the rest.
    """
    grid = np.linspace(-1, 1, 16, dtype=np.float32)
    x, y = np.meshgrid(grid, grid)
    terms = np.stack([x, y, x * y, x * x - y * y, x * x + y * y - 1])
    shade = 1 + np.tensordot(rng.normal(0, 0.05, len(terms)).astype(np.float32), terms, 1)
    full = cv2.resize(shade, image.shape[1::-1], interpolation=cv2.INTER_CUBIC)[..., None]
    return np.clip(image * full + 0.5, 0, 255).astype(np.uint8)
