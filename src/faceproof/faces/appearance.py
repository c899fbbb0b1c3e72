"""What a person looks like, small enough to keep and cheap enough to take at every face: no network.

A face's own pixels change with pose and light, so the surroundings that move with the head count too: hair and clothes.
Weights come from pairs of faces of the same and of different people in videos; they are deliberately round.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
import numpy.typing as npt

from faceproof.faces.mtcnn import Face

Floats = npt.NDArray[np.float32]
Image = npt.NDArray[np.uint8]

# The portrait: the face's longer side is 40 pixels, with hair above and clothes below.
_SIDE = 40
_WIDTH, _HEIGHT = 120, 140
_CENTRE = (60.0, 50.0)
_HAIR = (slice(10, 34), slice(35, 85))
_CLOTHES = (slice(95, 135), slice(25, 95))
# Where the five landmarks lie in the aligned patch of 32 × 36 pixels.
_PLACES = np.array([[9.5, 11], [22.5, 11], [16, 18.5], [11, 26], [21, 26]])
_PATCH = (32, 36)
_INNER = (slice(2, 34), slice(3, 29))
_UNKNOWN = 0.1
_WEAKEST = np.array([0, 88, 88], np.uint8)
_STRONGEST = np.array([255, 167, 167], np.uint8)


@dataclass(frozen=True, slots=True, eq=False)
class Appearance:
    """One face's look: brightness pattern, the same without broad shading, skin colour, hair and clothes histograms.

    A histogram is None where the frame shows too little of that region.
    """

    pattern: Floats
    detail: Floats
    skin: Floats
    hair: Floats | None
    clothes: Floats | None


def describe(image: Image, face: Face) -> Appearance:
    """The look of one face in a uint8 RGB frame."""
    portrait, seen, points = _portrait(image, face)
    aligned = _align(portrait, points)
    lab = cv2.cvtColor(aligned, cv2.COLOR_RGB2LAB).astype(np.float32)
    light = np.ascontiguousarray(lab[:, :, 0])
    detail = cv2.GaussianBlur(light, (0, 0), 1) - cv2.GaussianBlur(light, (0, 0), 5)
    colours = cv2.resize(lab, (3, 3), interpolation=cv2.INTER_AREA)[:, :, 1:]
    whole = cv2.cvtColor(portrait, cv2.COLOR_RGB2LAB)
    return Appearance(
        pattern=_unit(cv2.GaussianBlur(light, (3, 3), 0)[_INNER]),
        detail=_unit(detail[_INNER]),
        skin=np.ascontiguousarray(colours, dtype=np.float32).ravel(),
        hair=_histogram(whole[_HAIR], seen[_HAIR]),
        clothes=_histogram(whole[_CLOTHES], seen[_CLOTHES]),
    )


def likeness(one: Appearance, other: Appearance) -> float:
    """Log-odds that two looks are the same person's: around 5 for a neighbouring frame, below 0 for most strangers."""
    skin = float(np.sqrt(np.mean((one.skin - other.skin) ** 2))) / 5
    return (
        6.0
        - 5.0 * (1 - float(one.pattern @ other.pattern))
        - 2.0 * (1 - float(one.detail @ other.detail))
        - 1.2 * min(skin, 1.5)
        - 8.0 * _distance(one.hair, other.hair)
        - 12.0 * _distance(one.clothes, other.clothes)
    )


def _portrait(image: Image, face: Face) -> tuple[Image, Image, Floats]:
    """A small picture around the face, a mask of what of it lies inside the frame, and the landmarks in it."""
    x0, y0, x1, y1 = face.box
    scale = _SIDE / max(face.side, 1.0)
    shift = np.array([_CENTRE[0] - (x0 + x1) / 2 * scale, _CENTRE[1] - (y0 + y1) / 2 * scale])
    height, width = image.shape[:2]
    left, top = np.floor(-shift / scale).astype(int)
    right, bottom = np.ceil((np.array([_WIDTH, _HEIGHT]) - shift) / scale).astype(int)
    left, top = max(0, min(left, width - 1)), max(0, min(top, height - 1))
    right, bottom = min(max(right, left + 1), width), min(max(bottom, top + 1), height)
    part = image[top:bottom, left:right]
    # Large faces are first averaged down, so that nothing is skipped; then placed to a fraction of a pixel. Halving is what
    # OpenCV averages by fast; what is left is less than a half, where in-between values skip nothing either.
    reduced, across, down = 2 * scale, 1.0, 1.0
    while reduced <= 0.5 and min(part.shape[:2]) > 1:
        half = part.shape[0] // 2, part.shape[1] // 2
        part = cv2.resize(part[: 2 * half[0], : 2 * half[1]], half[::-1], interpolation=cv2.INTER_AREA)
        reduced, across, down = 2 * reduced, 2 * across, 2 * down
    if reduced < 1:
        small = (max(1, round(part.shape[1] * reduced)), max(1, round(part.shape[0] * reduced)))
        across, down = across * part.shape[1] / small[0], down * part.shape[0] / small[1]
        part = cv2.resize(part, small, interpolation=cv2.INTER_LINEAR)
    matrix = np.array(
        [[scale * across, 0, shift[0] + left * scale], [0, scale * down, shift[1] + top * scale]], dtype=np.float64
    )
    size = (_WIDTH, _HEIGHT)
    portrait = cv2.warpAffine(part, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    seen = cv2.warpAffine(np.full(part.shape[:2], 255, np.uint8), matrix, size)
    points = (face.landmarks * scale + shift).astype(np.float32)
    return np.asarray(portrait, np.uint8), np.asarray(seen, np.uint8), points


def _align(portrait: Image, points: Floats) -> Image:
    """Turn, scale and shift so that the landmarks lie as near to their places as they can (least squares)."""
    source = points[:, 0].astype(np.float64) + 1j * points[:, 1]
    target = _PLACES[:, 0] + 1j * _PLACES[:, 1]
    spread = source - source.mean()
    power = float((np.abs(spread) ** 2).sum())
    turn = complex((np.conj(spread) * (target - target.mean())).sum() / power) if power > 1e-6 else 1 + 0j
    offset = complex(target.mean() - turn * source.mean())
    matrix = np.array([[turn.real, -turn.imag, offset.real], [turn.imag, turn.real, offset.imag]])
    aligned = cv2.warpAffine(portrait, matrix, _PATCH, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(aligned, np.uint8)


def _unit(values: npt.NDArray[np.float32]) -> Floats:
    flat = values.ravel() - values.mean()
    return np.asarray(flat / (np.linalg.norm(flat) + 1e-6), dtype=np.float32)


def _histogram(lab: Image, seen: Image) -> Floats | None:
    """Square roots of the shares of 6 × 8 × 8 Lab bins, each colour shared with the bins beside it."""
    mask = (seen > 127).astype(np.uint8)
    if mask.mean() < 0.4:
        return None
    return np.sqrt(colour_shares(lab, (6, 8, 8), mask))


def _distance(one: Floats | None, other: Floats | None) -> float:
    """1 minus the Bhattacharyya coefficient; unseen regions say neither yes nor no."""
    return _UNKNOWN if one is None or other is None else 1 - float(one @ other)


def colour_shares(lab: Image, bins: tuple[int, int, int], mask: Image | None = None) -> Floats:
    """Shares of the pixels in each of the bins, flat. Very strong colours count as strong ones; bins blend into their
    neighbours, so that a colour on a border between two does not flip."""
    levels = np.clip(lab, _WEAKEST, _STRONGEST)
    counts = cv2.calcHist([levels], [0, 1, 2], mask, list(bins), [0, 256, 88, 168, 88, 168])
    # Quarters of whole numbers: float32 holds every one of these sums exactly, in whatever order they are taken.
    blended = _blend(bins[0]) @ (counts.reshape(bins[0], -1) @ _blend_both(bins[1], bins[2]))
    return np.asarray(blended / max(float(blended.sum()), 1.0), np.float32).ravel()


@cache
def _blend(count: int) -> Floats:
    """``[count, count]``: half of each bin stays, a quarter goes to each side; at the ends what would leave stays too."""
    spread = np.eye(count, dtype=np.float32) * np.float32(0.5)
    for step in (-1, 1):
        spread[np.arange(count), np.clip(np.arange(count) + step, 0, count - 1)] += 0.25
    return spread


@cache
def _blend_both(rows: int, columns: int) -> Floats:
    """The same along two axes at once, for what lies flat."""
    return np.ascontiguousarray(np.kron(_blend(rows), _blend(columns)).T, dtype=np.float32)
