"""Faces followed between searches: the same places, and a search at any doubt."""

from __future__ import annotations

import numpy as np
import pytest

from faceproof.faces import Face, FaceDetector, find_and_follow
from faceproof.faces.boxes import overlaps


class Counting(FaceDetector):
    searched = 0

    def detect(self, image: np.ndarray, *, still: bool = False) -> list[Face]:
        self.searched += 1
        return super().detect(image, still=still)


@pytest.fixture
def counting() -> Counting:
    return Counting(mode="fast")


def shifted(image: np.ndarray, by: int) -> np.ndarray:
    return np.ascontiguousarray(np.roll(image, (by // 2, by), axis=(0, 1)))


def test_everybody_is_followed_through_small_movements(crowd, counting, boxes_of):
    images = [shifted(crowd, 4 * i) for i in range(5)]
    followed = list(find_and_follow(counting, images))
    assert counting.searched == 1
    for image, faces in zip(images, followed, strict=True):
        searched = boxes_of(counting.detect(image))
        assert len(searched) == len(faces) >= 5
        assert overlaps(searched, boxes_of(faces)).max(axis=1).min() > 0.7
        assert all(face.landmarks.shape == (5, 2) and face.score > 0.8 for face in faces)


@pytest.mark.parametrize("what", ["gone", "elsewhere"])
def test_a_doubt_is_settled_by_a_search(astronaut, counting, what):
    # A cut to an empty scene, and one to the same person a face's width further on.
    after = np.full_like(astronaut, 90) if what == "gone" else shifted(astronaut, 90)
    first, second = find_and_follow(counting, [astronaut, after])
    assert counting.searched == 2
    assert len(first) == 1
    assert len(second) == (0 if what == "gone" else 1)


def test_two_faces_that_run_into_one_are_searched_for_again(astronaut, counting, monkeypatch):
    (face,) = counting.detect(astronaut)
    nearby = Face(tuple(v + 6 for v in face.box), face.score, face.landmarks)
    after = shifted(astronaut, 8)
    assert None not in counting.look_again(after, [face, nearby]), "both old places show the one face"
    answers = [[face, nearby], counting.detect(after)]
    monkeypatch.setattr(counting, "detect", lambda image, still=False: answers.pop(0))
    first, second = find_and_follow(counting, [astronaut, after])
    assert (len(first), len(second)) == (2, 1)


def test_a_face_that_holds_still_keeps_its_very_box(astronaut, counting):
    noise = np.random.default_rng(3).normal(0, 2, astronaut.shape)
    noisy = np.clip(astronaut + noise, 0, 255).astype(np.uint8)
    first, second, third = find_and_follow(counting, [astronaut, noisy, astronaut])
    assert first[0] is second[0] is third[0]
    assert counting.searched == 1


def test_a_frame_without_faces_costs_nothing_until_the_next_search(astronaut, counting):
    empty = np.full_like(astronaut, 90)
    assert list(find_and_follow(counting, [empty, empty, empty])) == [[], [], []]
    assert counting.searched == 1


def test_looking_again_at_a_face_at_the_edge_stays_in_the_frame(astronaut, counting):
    part = np.ascontiguousarray(astronaut[:, 210:])
    faces = counting.detect(part)
    assert faces
    for face in counting.look_again(part, faces):
        if face is not None:
            x0, y0, x1, y1 = face.box
            assert 0 <= x0 < x1 <= part.shape[1]
            assert 0 <= y0 < y1 <= part.shape[0]
    outside = Face((-50.0, -50.0, -10.0, -10.0), 0.9, np.zeros((5, 2), np.float32))
    assert counting.look_again(part, [outside]) == [None]
