"""Aggregators: laws they all keep, and each published rule against an independent wording of it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from faceproof.detectors.aggregate import METHODS, FaceTable, aggregate, check_method
from faceproof.detectors.spec import Method
from faceproof.errors import SpecError

rows = st.lists(
    st.tuples(st.integers(0, 40), st.integers(1, 4), st.floats(0, 1, allow_nan=False)), min_size=1, max_size=60
)
every_method = pytest.mark.parametrize("name", sorted(METHODS))


@every_method
@given(rows=rows)
def test_the_score_lies_between_the_lowest_and_the_highest_face(name: str, rows: list) -> None:
    table = FaceTable.of(rows)
    assert table.p.min() - 1e-6 <= aggregate(table, Method(method=name)) <= table.p.max() + 1e-6


@every_method
@given(p=st.floats(0, 1), count=st.integers(1, 40))
def test_equal_faces_keep_their_score(name: str, p: float, count: int) -> None:
    table = FaceTable.of([(i, 1, p) for i in range(count)])
    assert aggregate(table, Method(method=name)) == pytest.approx(p, abs=2e-7)


@pytest.mark.parametrize(
    "name", ["mean", "max", "median", "logit_mean", "trimmed_mean", "topk", "quantile", "frame_max"]
)
@given(rows=rows, place=st.integers(0, 59), more=st.floats(0, 1))
def test_a_more_suspicious_face_never_lowers_a_plain_score(name: str, rows: list, place: int, more: float) -> None:
    place %= len(rows)
    frame, track, p = rows[place]
    raised = [*rows[:place], (frame, track, max(p, more)), *rows[place + 1 :]]
    method = Method(method=name)
    assert aggregate(FaceTable.of(raised), method) >= aggregate(FaceTable.of(rows), method) - 1e-9


@pytest.mark.parametrize(
    "name", ["mean", "max", "median", "logit_mean", "trimmed_mean", "topk", "quantile", "confident", "frame_max"]
)
@given(rows=rows, seed=st.integers(0, 1000))
def test_order_does_not_matter_to_rules_that_do_not_name_it(name: str, rows: list, seed: int) -> None:
    shuffled = [rows[i] for i in np.random.default_rng(seed).permutation(len(rows))]
    method = Method(method=name)
    assert aggregate(FaceTable.of(rows), method) == pytest.approx(aggregate(FaceTable.of(shuffled), method), abs=1e-9)


def published_confident(pred: list[float], t: float = 0.8) -> float:
    """selimsef's rule as REFERENCE words it, in plain Python."""
    size = len(pred)
    fakes = [x for x in pred if x > t]
    if len(fakes) > size // 2.5 and len(fakes) > 11:
        return sum(fakes) / len(fakes)
    reals = [x for x in pred if x < 0.2]
    if len(reals) > 0.9 * size:
        return sum(reals) / len(reals)
    return sum(pred) / size


@given(p=st.lists(st.one_of(st.floats(0, 1), st.sampled_from([0.05, 0.9, 0.8, 0.2])), min_size=1, max_size=80))
def test_confident_is_the_published_rule(p: list[float]) -> None:
    table = FaceTable.of([(i, 1, x) for i, x in enumerate(p)])
    assert aggregate(table, Method(method="confident")) == pytest.approx(published_confident(p), abs=1e-9)


def test_confident_needs_twelve_fakes() -> None:
    eleven = FaceTable.of([(i, 1, 0.9) for i in range(11)] + [(11, 1, 0.5)])
    twelve = FaceTable.of([(i, 1, 0.9) for i in range(12)] + [(12, 1, 0.5)])
    assert aggregate(eleven, Method(method="confident")) == pytest.approx((11 * 0.9 + 0.5) / 12)
    assert aggregate(twelve, Method(method="confident")) == pytest.approx(0.9)


def test_early_exit_takes_the_first_suspicious_person_in_order_of_appearance() -> None:
    table = FaceTable.of([(0, 7, 0.2), (0, 3, 0.6), (1, 3, 0.6), (1, 5, 0.9)])
    assert aggregate(table, Method(method="early_exit")) == pytest.approx(0.6)
    assert aggregate(table, Method(method="early_exit", threshold=0.7)) == pytest.approx(0.9)
    assert aggregate(table, Method(method="early_exit", threshold=0.95)) == pytest.approx((0.2 + 0.6 + 0.9) / 3)


def test_early_exit_by_face_is_the_documents_rule() -> None:
    rule = Method(method="early_exit", threshold=0.65, by="face")
    assert aggregate(FaceTable.of([(0, 1, 0.1), (1, 1, 0.72), (2, 1, 0.99)]), rule) == pytest.approx(0.72)
    assert aggregate(FaceTable.of([(0, 1, 0.1), (1, 1, 0.5)]), rule) == pytest.approx(0.3)


def test_frame_max_is_the_mean_of_each_frames_highest_face() -> None:
    table = FaceTable.of([(0, 1, 0.2), (0, 2, 0.8), (5, 1, 0.4), (9, 2, 0.1), (9, 1, 0.3)])
    assert aggregate(table, Method(method="frame_max")) == pytest.approx((0.8 + 0.4 + 0.3) / 3)


def test_trimmed_mean_topk_and_quantile_by_hand() -> None:
    table = FaceTable.of([(i, 1, p) for i, p in enumerate([0.0, 0.2, 0.4, 0.6, 1.0])])
    assert aggregate(table, Method(method="trimmed_mean", trim=0.2)) == pytest.approx(0.4)
    assert aggregate(table, Method(method="topk", k=2)) == pytest.approx(0.8)
    assert aggregate(table, Method(method="quantile", q=0.75)) == pytest.approx(0.6)


def test_second_looks_are_one_opinion_with_the_frame_that_called_for_them() -> None:
    table = FaceTable.of([(0, 1, 0.1), (10, 1, 0.9), (8, 1, 0.3), (12, 1, 0.3), (10, 2, 0.4)])
    pooled = table.pooled({8: 10, 12: 10})
    assert sorted(zip(pooled.frame, pooled.track, pooled.p, strict=True)) == [
        (0, 1, pytest.approx(0.1)),
        (10, 1, pytest.approx(0.5)),
        (10, 2, pytest.approx(0.4)),
    ]


@given(rows=rows)
def test_pooling_without_second_looks_changes_nothing_but_doubles(rows: list) -> None:
    once = {(frame, track): (frame, track, p) for frame, track, p in rows}
    table = FaceTable.of(list(once.values()))
    pooled = table.pooled({})
    np.testing.assert_array_equal(pooled.p, table.p)
    np.testing.assert_array_equal(pooled.track, table.track)


@pytest.mark.parametrize(
    "method",
    [
        Method(method="average"),
        Method(method="mean", k=3),
        Method(method="topk", k=0),
        Method(method="topk", k=2.5),
        Method(method="trimmed_mean", trim=0.5),
        Method(method="quantile", q=1.5),
        Method(method="early_exit", by="frame"),
    ],
)
def test_wrong_methods_are_refused(method: Method) -> None:
    with pytest.raises(SpecError):
        check_method(method)


def test_an_empty_table_has_no_score() -> None:
    with pytest.raises(ValueError, match="empty"):
        aggregate(FaceTable.of([]), Method(method="mean"))
