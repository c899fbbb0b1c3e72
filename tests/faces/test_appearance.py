"""What looks are made of: histograms whose bins blend, the same however they are taken."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import data

from faceproof.faces import Face
from faceproof.faces.appearance import _portrait, colour_shares, describe, likeness

BINS = st.tuples(*[st.integers(1, 9)] * 3)


def shares_one_by_one(lab: np.ndarray, bins: tuple[int, int, int], mask: np.ndarray | None) -> np.ndarray:
    """Half of each count stays in its bin, a quarter goes to each side; at an end what would leave stays."""
    strong = np.clip(lab, [0, 88, 88], [255, 167, 167]).astype(np.uint8)
    counts = cv2.calcHist([strong], [0, 1, 2], mask, list(bins), [0, 256, 88, 168, 88, 168]).astype(np.float64)
    for axis, count in enumerate(bins):
        spread = np.zeros_like(counts)
        for start in range(count):
            here = [slice(None)] * 3
            here[axis] = slice(start, start + 1)
            for step, share in ((-1, 0.25), (0, 0.5), (1, 0.25)):
                there = [slice(None)] * 3
                place = min(max(start + step, 0), count - 1)
                there[axis] = slice(place, place + 1)
                spread[tuple(there)] += share * counts[tuple(here)]
        counts = spread
    return (counts.astype(np.float32) / np.float32(max(counts.sum(), 1.0))).ravel()


@given(
    BINS,
    st.integers(0, 2**32 - 1),
    st.sampled_from([None, 0.0, 0.5, 1.0]),
    st.tuples(st.integers(1, 60), st.integers(1, 60)),
)
@settings(max_examples=60, deadline=None)
def test_shares_are_exactly_those_of_blending_bin_by_bin(bins, seed, seen, size):
    draw = np.random.default_rng(seed)
    lab = draw.integers(0, 256, (*size, 3), dtype=np.uint8)
    mask = None if seen is None else (draw.random(size) < seen).astype(np.uint8)
    found = colour_shares(lab, bins, mask)
    assert found.dtype == np.float32
    assert np.array_equal(found, shares_one_by_one(lab, bins, mask))
    assert found.sum() == pytest.approx(0 if mask is not None and not mask.any() else 1, abs=1e-5)


# The astronaut's face in a picture of 512 × 512.
_FACE = (176.0, 68.0, 268.0, 183.0)
_MARKS = np.array([[204, 101], [247, 104], [225, 128], [202, 140], [245, 142]], np.float32)


def enlarged(times: float, shift: int = 0) -> tuple[np.ndarray, Face]:
    """The astronaut so many times as large, her face with her; ``shift`` pixels are cut off at the left and the top."""
    picture = cv2.resize(data.astronaut(), None, fx=times, fy=times, interpolation=cv2.INTER_CUBIC)
    box = tuple(times * edge - shift for edge in _FACE)
    return picture[shift:, shift:], Face(box, 1.0, (times * _MARKS - shift).astype(np.float32))


@pytest.mark.parametrize("times", [0.4, 0.69, 0.7, 0.9, 1.39, 1.4, 2.0, 2.79, 2.8, 4.0, 7.5])
@pytest.mark.parametrize("shift", [0, 1, 3])
def test_a_look_does_not_hang_on_the_size_of_the_face(times, shift):
    usual, small = enlarged(0.5), enlarged(times, shift)
    assert likeness(describe(*usual), describe(*small)) > 5.3


@pytest.mark.parametrize("side", [30, 79, 81, 120, 161, 200, 330, 700, 1500])
def test_a_portrait_skips_no_pixel(side):
    """Fine noise averages out: where pixels were skipped it would stay."""
    noise = np.random.default_rng(side).integers(0, 256, (5 * side, 4 * side, 3), dtype=np.uint8)
    face = Face((1.5 * side, 1.5 * side, 2.5 * side, 2.5 * side), 1.0, _MARKS)
    portrait, seen, _ = _portrait(noise, face)
    assert portrait.shape == (140, 120, 3)
    assert seen.all()
    # Evenly weighted, so many pixels each leave this of the noise; placing weights them less evenly.
    assert portrait.std() < 2.5 * 256 / 12**0.5 / max(1.0, side / 40)
