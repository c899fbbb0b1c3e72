"""Fusion methods: worked cases, the laws all of them keep, and what is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from faceproof.detectors.fusion import (
    METHODS,
    FusionMethod,
    Stacked,
    check_numbers,
    fuse,
    logits,
    uncertainty,
)
from faceproof.errors import OptionError, SpecError

WORKED = {
    FusionMethod.MEAN: 0.6,
    FusionMethod.WEIGHTED_AVERAGE: 0.45,
    FusionMethod.LOGIT_MEAN: 1 / (1 + np.exp(-(2 * np.log(0.3 / 0.7) + np.log(0.6 / 0.4) + np.log(0.9 / 0.1)) / 4)),
    FusionMethod.MEDIAN: 0.45,
    FusionMethod.MAJORITY_VOTING: 0.5,
    FusionMethod.MAX: 0.9,
    FusionMethod.MIN: 0.3,
    FusionMethod.MAX_CONFIDENCE: 0.9,
    FusionMethod.MIN_CONFIDENCE: 0.6,
}
SYMMETRIC = set(METHODS) - {FusionMethod.MAX, FusionMethod.MIN, FusionMethod.MAJORITY_VOTING}
MONOTONE = set(METHODS) - {
    FusionMethod.ATTENTION_FUSION,
    FusionMethod.MAX_CONFIDENCE,
    FusionMethod.MIN_CONFIDENCE,
}

opinions = st.lists(st.tuples(st.floats(0, 1, allow_subnormal=False), st.floats(0.01, 10)), min_size=1, max_size=7).map(
    lambda pairs: (np.asarray([p for p, _ in pairs]), np.asarray([w for _, w in pairs]))
)


@pytest.mark.parametrize("method", WORKED)
def test_worked_case(method: FusionMethod) -> None:
    if method is FusionMethod.WEIGHTED_AVERAGE:
        assert fuse([0.3, 0.6, 0.6], [2, 1, 1], method) == pytest.approx(WORKED[method])
    else:
        assert fuse([0.3, 0.6, 0.9], [2, 1, 1], method) == pytest.approx(WORKED[method])


def test_attention_hears_the_surest_at_low_temperature_and_all_alike_at_high() -> None:
    p, weights = [0.99, 0.4, 0.45], [1, 1, 1]
    assert fuse(p, weights, FusionMethod.ATTENTION_FUSION, temperature=0.01) == pytest.approx(0.99, abs=1e-3)
    assert fuse(p, weights, FusionMethod.ATTENTION_FUSION, temperature=1e6) == pytest.approx(np.mean(p), abs=1e-4)


def test_soft_voting_is_the_weighted_average() -> None:
    assert FusionMethod("soft_voting") is FusionMethod.WEIGHTED_AVERAGE


@given(opinions, st.sampled_from(sorted(METHODS)))
def test_the_answer_lies_between_the_lowest_and_the_highest(pair: tuple, method: FusionMethod) -> None:
    p, weights = pair
    fused = fuse(p, weights, method)
    if method is FusionMethod.MAJORITY_VOTING:
        assert 0 <= fused <= 1
    else:
        assert p.min() - 1e-6 <= fused <= p.max() + 1e-6


@given(opinions, st.sampled_from(sorted(SYMMETRIC)))
def test_turning_every_opinion_turns_the_answer(pair: tuple, method: FusionMethod) -> None:
    p, weights = pair
    doubt = np.abs(p - 0.5)
    if len(np.unique(np.round(doubt, 9))) < len(doubt):
        return  # equally sure members: which one is heard is a choice, not a law
    assert fuse(1 - p, weights, method) == pytest.approx(1 - fuse(p, weights, method), abs=1e-6)


@given(opinions, st.sampled_from(sorted(MONOTONE)), st.integers(0, 6), st.floats(0, 1))
def test_more_suspicion_never_lowers_the_answer(pair: tuple, method: FusionMethod, place: int, by: float) -> None:
    p, weights = pair
    raised = p.copy()
    raised[place % len(p)] += by * (1 - raised[place % len(p)])
    assert fuse(raised, weights, method) >= fuse(p, weights, method) - 1e-9


@given(opinions, st.sampled_from(sorted(METHODS)), st.floats(0.1, 10))
def test_only_the_ratio_of_weights_counts(pair: tuple, method: FusionMethod, factor: float) -> None:
    p, weights = pair
    assert fuse(p, weights * factor, method) == pytest.approx(fuse(p, weights, method), abs=1e-6)


@given(opinions, st.sampled_from(sorted(METHODS)), st.floats(0, 1))
def test_a_member_of_no_weight_is_not_heard(pair: tuple, method: FusionMethod, stranger: float) -> None:
    p, weights = pair
    if method is FusionMethod.ATTENTION_FUSION:
        return  # its softmax is shifted by the stranger's confidence, which only rounding notices
    assert fuse([*p, stranger], [*weights, 0], method) == pytest.approx(fuse(p, weights, method), abs=1e-9)


@given(opinions)
def test_uncertainty_stays_in_its_ranges(pair: tuple) -> None:
    p, weights = pair
    u = uncertainty(p, weights)
    assert 0 <= u.std <= 0.5 + 1e-9
    assert 0 <= u.disagreement <= 0.5 + 1e-9
    assert 0 <= u.mutual_information <= u.entropy + 1e-9 <= 1 + 2e-9


def test_uncertainty_worked() -> None:
    u = uncertainty([0.0, 1.0], [1, 1])
    assert (u.std, u.entropy, u.disagreement, u.mutual_information) == pytest.approx((0.5, 1.0, 0.5, 1.0))
    same = uncertainty([0.8, 0.8, 0.8], [1, 2, 3])
    assert (same.std, same.disagreement) == pytest.approx((0, 0))
    assert same.mutual_information == pytest.approx(0, abs=1e-12)
    assert same.entropy == pytest.approx(0.7219, abs=1e-4)


@pytest.mark.parametrize("weights", [[0, 0], [-1, 2], [float("nan"), 1], []])
def test_weights_that_mean_nothing_are_refused(weights: list[float]) -> None:
    with pytest.raises(OptionError):
        fuse([0.5] * len(weights), weights)


def test_an_opinion_that_is_missing_must_be_left_out_not_passed() -> None:
    with pytest.raises(OptionError):
        fuse([0.5, float("nan")], [1, 1])
    with pytest.raises(OptionError):
        fuse([0.5], [1, 1])


def test_numbers_are_checked() -> None:
    check_numbers(FusionMethod.ATTENTION_FUSION, {"temperature": 0.5})
    for method, numbers in [
        (FusionMethod.MEAN, {"temperature": 1.0}),
        (FusionMethod.ATTENTION_FUSION, {"temperature": 0.0}),
        (FusionMethod.MAJORITY_VOTING, {"threshold": 1.0}),
    ]:
        with pytest.raises(SpecError):
            check_numbers(method, numbers)


def test_stacked_takes_the_centre_of_a_silent_member() -> None:
    model = Stacked({"a": 1.0, "b": 2.0}, {"a": 0.0, "b": 0.5}, intercept=-0.25)
    a = float(logits(np.asarray([0.7]))[0])
    assert model.score({"a": 0.7}) == pytest.approx(1 / (1 + np.exp(-(a + 2 * 0.5 - 0.25))))
    assert model.score({"a": 0.7, "b": 0.9}) > model.score({"a": 0.7, "b": 0.1})
    with pytest.raises(OptionError):
        model.score({"c": 0.5})
    with pytest.raises(OptionError):
        fuse([0.5], [1], FusionMethod.STACKED)
