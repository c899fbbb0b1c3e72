import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.training.conftest import FIVE

from faceproof.training import masks

SIDES = st.integers(64, 320)
SEEDS = st.integers(0, 2**32 - 1)


@settings(max_examples=60, deadline=None)
@given(SEEDS, SIDES, st.sampled_from(list(masks.KINDS)))
def test_a_mask_is_soft_bounded_and_finite(seed, side, kind):
    rng = np.random.default_rng(seed)
    points = masks.from_five(FIVE * side)
    hard = masks.hull(masks.region(points, rng, kind), side, rng)
    assert set(np.unique(hard)) <= {0.0, 1.0}
    assert hard.any()
    soft = masks.soften(hard, rng)
    assert soft.shape == (side, side)
    assert soft.dtype == np.float32
    assert np.isfinite(soft).all()
    assert 0 <= soft.min() <= soft.max() <= 1
    assert soft.max() in (pytest.approx(1.0, abs=1e-5), 0.0)


@settings(max_examples=30, deadline=None)
@given(SEEDS, SIDES)
def test_the_same_seed_gives_the_same_mask(seed, side):
    made = []
    for _ in range(2):
        rng = np.random.default_rng(seed)
        points = masks.from_five(FIVE * side)
        made.append(masks.soften(masks.hull(masks.region(points, rng), side, rng), rng))
    np.testing.assert_array_equal(*made)


@settings(max_examples=30, deadline=None)
@given(st.floats(0.5, 2), st.floats(-20, 20), st.floats(-20, 20))
def test_the_average_face_follows_its_five_points(scale, dx, dy):
    plain = masks.from_five(FIVE * 100)
    moved = masks.from_five(FIVE * 100 * scale + [dx, dy])
    np.testing.assert_allclose(moved, plain * scale + np.array([dx, dy]), atol=0.05)


def test_parts_lie_where_their_names_say():
    points = masks.from_five(FIVE * 200)
    part = {name: points[rows].mean(0) for name, rows in masks.PARTS.items()}
    assert part["left_eye"][0] < part["nose"][0] < part["right_eye"][0]
    assert part["left_brow"][1] < part["left_eye"][1] < part["nose"][1] < part["lips"][1]
    assert len(points) == masks.POINTS


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="unknown mask kind"):
        masks.region(masks.from_five(FIVE * 100), np.random.default_rng(0), "beard")
