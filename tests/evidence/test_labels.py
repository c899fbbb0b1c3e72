"""Labels: none over another, none over somebody else's face while there is room."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from faceproof.evidence.labels import Rectangle, place_labels

FRAME = (1280.0, 720.0)
SIZE = (110.0, 24.0)


def overlap(a: Rectangle, b: Rectangle) -> bool:
    return min(a[2], b[2]) - max(a[0], b[0]) > 1e-6 and min(a[3], b[3]) - max(a[1], b[1]) > 1e-6


def rectangles(faces: list[Rectangle]) -> list[Rectangle]:
    return [(x, y, x + SIZE[0], y + SIZE[1]) for x, y, _ in place_labels(faces, [SIZE] * len(faces), FRAME)]


def test_one_face_alone_has_its_label_on_top() -> None:
    assert place_labels([(300, 200, 400, 330)], [SIZE], FRAME) == [(300, 176, 0)]


def test_neighbours_in_two_rows_do_not_cover_each_other() -> None:
    faces = [(520.0, 120.0, 600.0, 230.0), (580.0, 40.0, 655.0, 150.0), (610.0, 205.0, 690.0, 310.0)]
    labels = rectangles(faces)
    assert not any(overlap(a, b) for i, a in enumerate(labels) for b in labels[:i])
    assert not any(overlap(label, face) for i, label in enumerate(labels) for j, face in enumerate(faces) if i != j)


@given(
    st.lists(
        st.tuples(
            st.floats(-60, 1300, allow_nan=False),
            st.floats(-60, 760, allow_nan=False),
            st.floats(20, 300, allow_nan=False),
        ),
        min_size=1,
        max_size=12,
    )
)
def test_every_label_lies_in_the_frame(places: list[tuple[float, float, float]]) -> None:
    for x0, y0, x1, y1 in rectangles([(x, y, x + side, y + side) for x, y, side in places]):
        assert x0 >= 0
        assert y0 >= 0
        assert x1 <= FRAME[0] + 1e-6
        assert y1 <= FRAME[1] + 1e-6


def test_a_label_stays_on_its_side_while_that_costs_little() -> None:
    before = place_labels([(300, 200, 400, 330)], [SIZE], FRAME, [2])
    assert before == [(300, 330, 2)]
    # But not over another face.
    faces: list[Rectangle] = [(300, 200, 400, 330), (300, 320, 400, 450)]
    assert place_labels(faces, [SIZE] * 2, FRAME, [2, None])[0][2] in (0, 1)
