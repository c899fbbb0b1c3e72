"""What looks are made of: histograms whose bins blend, the same however they are taken."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faceproof.faces.appearance import colour_shares

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
