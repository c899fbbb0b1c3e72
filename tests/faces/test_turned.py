"""Which way up."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from faceproof.faces.mtcnn import Face, FaceDetector
from faceproof.faces.turned import SURE, Turn, turn_that_shows_a_face


class Certain:
    """A search that is this certain of a face where the marked corner is top left, and of none elsewhere."""

    def __init__(self, certainty: float) -> None:
        self.certainty = certainty

    def detect(self, image: np.ndarray, **_: Any) -> list[Face]:
        if not image[0, 0, 0]:
            return []
        return [Face((0, 0, 4, 4), self.certainty, np.zeros((5, 2), np.float32))]


def turned(quarters: int) -> np.ndarray:
    """A picture turned clockwise."""
    image = np.zeros((6, 9, 3), np.uint8)
    image[0, 0] = 255
    return np.ascontiguousarray(np.rot90(image, -quarters))


@given(quarters=st.integers(0, 3), certainty=st.floats(0, 1), before=st.floats(0, 1), count=st.integers(1, 4))
def test_it_is_turned_back_where_that_is_surer(quarters: int, certainty: float, before: float, count: int) -> None:
    search: Any = Certain(certainty)
    turn = turn_that_shows_a_face([turned(quarters)] * count, search, surer_than=before)
    back: dict[int, Turn | None] = {0: None, 1: 270, 2: 180, 3: 90}
    assert turn in (None, back[quarters])
    if quarters and certainty >= 0.999 and before <= 0.99:
        assert turn == back[quarters]
    if certainty < SURE or certainty <= before:
        assert turn is None


@pytest.mark.parametrize(("lying", "turn"), [(3, 90), (2, 90), (1, None), (0, None)])
def test_most_frames_have_to_agree(lying: int, turn: int | None) -> None:
    search: Any = Certain(0.9999)
    assert turn_that_shows_a_face([turned(3)] * lying + [turned(0)] * (3 - lying), search) == turn


def test_a_real_face(astronaut: np.ndarray) -> None:
    search = FaceDetector(mode="fast")
    for quarters, turn in ((1, 270), (2, 180), (3, 90)):
        assert turn_that_shows_a_face([np.rot90(astronaut, -quarters)], search) == turn
    assert turn_that_shows_a_face([np.full((200, 300, 3), 90, np.uint8)], search) is None
