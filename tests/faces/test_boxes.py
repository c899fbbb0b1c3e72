from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from faceproof.faces.boxes import correct, overlaps, square, suppress, suppress_nested


def area(box, plus=0):
    return max(0, box[2] - box[0] + plus) * max(0, box[3] - box[1] + plus)


def shared(one, other, plus=0):
    low, high = np.maximum(one[:2], other[:2]), np.minimum(one[2:], other[2:])
    return area([*low, *high], plus)


def union_share(one, other):
    union = area(one) + area(other) - shared(one, other)
    return shared(one, other) / union if union else 0.0


def smaller_share(one, other):
    return shared(one, other, 1) / min(area(one, 1), area(other, 1))


def greedy(boxes, scores, overlap, share):
    kept = []
    for index in sorted(range(len(boxes)), key=lambda i: -scores[i]):
        if all(share(boxes[index], boxes[other]) <= overlap for other in kept):
            kept.append(index)
    return kept


@st.composite
def scored_boxes(draw):
    count = draw(st.integers(0, 25))
    corners = draw(arrays.arrays(np.int64, (count, 2), elements=st.integers(-20, 60)))
    sides = draw(arrays.arrays(np.int64, (count, 2), elements=st.integers(1, 40)))
    order = draw(st.permutations(range(count)))
    scores = (np.array(order, dtype=np.float32) + 1) / (count + 1)
    return np.concatenate([corners, corners + sides], axis=1).astype(np.float32), scores


@given(scored_boxes(), st.sampled_from([0.3, 0.5, 0.7]))
@settings(max_examples=150, deadline=None)
def test_suppression_is_the_greedy_one(case, overlap):
    boxes, scores = case
    wide = boxes.astype(np.float64)
    assert suppress(boxes, scores, overlap).tolist() == greedy(wide, scores, overlap, union_share)
    assert suppress_nested(boxes, scores, overlap).tolist() == greedy(wide, scores, overlap, smaller_share)


@given(scored_boxes(), scored_boxes())
@settings(max_examples=50, deadline=None)
def test_overlaps_of_all_pairs(one, other):
    table = overlaps(one[0], other[0])
    assert table.shape == (len(one[0]), len(other[0]))
    for row, a in enumerate(one[0]):
        for column, b in enumerate(other[0]):
            assert abs(table[row, column] - union_share(a, b)) < 1e-5


def test_empty_boxes_overlap_nothing():
    assert overlaps(np.zeros((2, 4), np.float32), np.zeros((3, 4), np.float32)).tolist() == [[0, 0, 0], [0, 0, 0]]


def test_square_keeps_centre_and_longer_side():
    assert square(np.array([[0, 0, 10, 20]], np.float32)).tolist() == [[-5, 0, 15, 20]]


def test_correction_is_in_shares_of_the_side_counting_its_last_pixel():
    moved = correct(np.array([[0, 0, 9, 19]], np.float32), np.array([[0.1, 0.1, -0.1, 0]], np.float32))
    np.testing.assert_allclose(moved, [[1, 2, 8, 19]])
