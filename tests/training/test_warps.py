import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.training.conftest import FIVE, draw_face

from faceproof.training import masks, warps

POINTS = masks.from_five(FIVE * 112)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_a_rasterised_face_stays_in_its_place(seed):
    image = draw_face(1, 112)
    drawn = warps.rasterise(image, POINTS, np.random.default_rng(seed))
    assert drawn.shape == image.shape
    assert drawn.dtype == np.uint8
    inner = slice(30, 82)
    moved = np.abs(drawn[inner, inner].astype(float) - image[inner, inner]).mean()
    assert 0 < moved < 30


def test_looking_a_texture_up_leaves_steps_where_filtering_leaves_none():
    # a slanted edge: nearest-neighbour lookup makes its position jump from row to row
    ramp = np.clip((np.arange(112)[None] - 0.3 * np.arange(112)[:, None] - 30) * 40, 0, 255).astype(np.uint8)
    image = np.repeat(ramp[..., None], 3, 2)

    def roughness(picture):
        edge = picture[20:92, :, 0].astype(float).sum(1) / 255
        return np.abs(np.diff(edge, 2)).mean()

    drawn = [warps.rasterise(image, POINTS, np.random.default_rng(s)) for s in range(20)]
    assert np.mean([roughness(d) for d in drawn]) > 3 * roughness(image)


def test_new_light_is_smooth_and_mild():
    grey = np.full((96, 96, 3), 128, np.uint8)
    for seed in range(20):
        lit = warps.relight(grey, np.random.default_rng(seed)).astype(float)[..., 0] / 128
        assert np.abs(np.diff(lit, axis=0)).max() < 0.05
        assert 0.5 < lit.min() <= lit.max() < 1.6


@pytest.mark.parametrize("side", [64, 97])
def test_any_side_goes_through_the_renderer(side):
    image = draw_face(1, side)
    assert warps.rerender(image, np.random.default_rng(0)).shape == image.shape
