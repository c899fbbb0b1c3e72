"""What counts as the same face again."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from faceproof.faces.stillness import Stillness, difference

BOX = (10.0, 10.0, 110.0, 110.0)

FACE = np.random.default_rng(4).integers(0, 256, (16, 16, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)


def noisy(level: float, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, level, FACE.shape)
    return np.clip(FACE + noise, 0, 255).astype(np.uint8)


def test_the_same_picture_and_a_codec_s_noise_are_still() -> None:
    still: Stillness[str] = Stillness()
    assert still.like(1, BOX, FACE, "first") is None
    assert still.like(1, BOX, FACE, "second") == "first"
    assert still.like(1, BOX, noisy(2.0), "third") == "first"


def test_a_mouth_that_moves_in_a_face_that_does_not_is_no_stillness() -> None:
    still: Stillness[str] = Stillness()
    still.like(1, BOX, FACE, "first")
    talking = FACE.copy()
    talking[96:112, 48:80] //= 2
    assert still.like(1, BOX, talking, "second") is None


def test_another_person_and_another_place_are_no_repeats() -> None:
    still: Stillness[str] = Stillness()
    still.like(1, BOX, FACE, "first")
    assert still.like(2, BOX, FACE, "second") is None
    x0, y0, x1, y1 = BOX
    assert still.like(1, (x0 + 3, y0 + 3, x1 + 3, y1 + 3), FACE, "third") is None


def test_small_changes_do_not_add_up() -> None:
    """A slow fade: each step is invisible, and yet new scores are taken on the way."""
    still = Stillness()
    taken = sum(still.like(1, BOX, (FACE // 2 + step).astype(np.uint8), step) is None for step in range(40))
    assert 15 <= taken <= 25


@given(seed=st.integers(0, 100))
def test_difference_is_a_distance(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b, c = (rng.uniform(0, 255, (32, 32)).astype(np.float32) for _ in range(3))
    assert difference(a, a) == 0
    assert difference(a, b) == difference(b, a) > 0
    assert difference(a, c) <= difference(a, b) + difference(b, c) + 1e-3
