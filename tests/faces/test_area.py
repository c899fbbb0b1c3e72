"""Area averages from running sums: the plain mean of every pixel touched."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faceproof.faces.area import AreaSums


def mean_of_touched_pixels(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """One output pixel at a time, in float64: ``[3, height, width]``."""
    rows, columns = image.shape[:2]
    out = np.empty((3, height, width))
    for y in range(height):
        for x in range(width):
            top, bottom = math.floor(y * rows / height), math.ceil((y + 1) * rows / height)
            left, right = math.floor(x * columns / width), math.ceil((x + 1) * columns / width)
            out[:, y, x] = image[top:bottom, left:right].reshape(-1, 3).mean(axis=0)
    return out


@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    out=st.tuples(st.integers(1, 45), st.integers(1, 45)),
    seed=st.integers(0, 2**16),
)
@settings(max_examples=40, deadline=None)
def test_whole_frame_at_any_size(size, out, seed):
    image = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    ours = np.empty((3, *out), np.float32)
    AreaSums(image).shrink(out[1], out[0], [(0, ours)])
    np.testing.assert_allclose(ours, mean_of_touched_pixels(image, out[1], out[0]), rtol=1e-5, atol=1e-4)


@given(seed=st.integers(0, 2**16), count=st.integers(0, 40))
@settings(max_examples=20, deadline=None)
def test_crops_at_any_place_and_size(seed, count):
    draw = np.random.default_rng(seed)
    image = draw.integers(0, 256, (50, 70, 3), dtype=np.uint8)
    low = draw.integers((0, 0), (69, 49), (count, 2))
    high = draw.integers(low + 1, (71, 51))
    ours = AreaSums(image).crops(low, high, 12)
    assert ours.shape == (count, 3, 12, 12)
    for crop, (x0, y0), (x1, y1) in zip(ours, low, high, strict=True):
        np.testing.assert_allclose(crop, mean_of_touched_pixels(image[y0:y1, x0:x1], 12, 12), rtol=1e-5, atol=1e-4)


@given(seed=st.integers(0, 2**16))
@settings(max_examples=8, deadline=None)
def test_crops_far_larger_than_they_come_out(seed):
    """One of their pixels covers more than 16 bits can sum up; bright ones, so that none would by chance."""
    draw = np.random.default_rng(seed)
    image = draw.integers(200, 256, (400, 500, 3), dtype=np.uint8)
    low = draw.integers((0, 0), (300, 200), (6, 2))
    high = np.minimum(low + draw.integers(60, 500, (6, 2)), (500, 400))
    ours = AreaSums(image).crops(low, high, 6)
    for crop, (x0, y0), (x1, y1) in zip(ours, low, high, strict=True):
        np.testing.assert_allclose(crop, mean_of_touched_pixels(image[y0:y1, x0:x1], 6, 6), rtol=1e-5, atol=1e-3)


def test_sums_that_wrap_around_still_give_the_right_means():
    image = np.full((3000, 4000, 3), 255, np.uint8)  # 12 megapixels of white: the sum is far past 16 bits
    image[2500:, 3000:] = 7
    out = np.empty((3, 30, 40), np.float32)
    AreaSums(image).shrink(40, 30, [(0, out)])
    assert out[0, -1, -1] == pytest.approx(7)
    assert out[0, 0, 0] == pytest.approx(255)
    assert out.min() == pytest.approx(7)
    assert out.max() == pytest.approx(255)


def test_equals_the_published_resampling(astronaut):
    torch = pytest.importorskip("torch")
    out = np.empty((3, 217, 309), np.float32)
    AreaSums(astronaut).shrink(309, 217, [(0, out)])
    pixels = torch.from_numpy(astronaut.copy()).permute(2, 0, 1)[None].float()
    theirs = torch.nn.functional.interpolate(pixels, size=(217, 309), mode="area")[0].numpy()
    np.testing.assert_allclose(out, theirs, rtol=1e-5, atol=1e-3)
