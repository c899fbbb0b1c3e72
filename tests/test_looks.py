"""When a video has been looked at enough."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from faceproof.detectors.aggregate import FaceTable
from faceproof.detectors.spec import DetectorSpec, Method
from faceproof.judge import JudgedFrame
from faceproof.looks import (
    FINER_FRAMES,
    FIRST_LOOK,
    MOST_OF_THE_FRAMES,
    OpenQuestions,
    first_looks,
    last_look_plan,
    open_questions,
    score_interval,
)

from .test_judge import face, frames
from .test_judge import spec as spec_with

JUDGE = spec_with(threshold=0.5, band=(0.4, 0.6), frame_threshold=0.6, min_faces=3, min_side=0)


def is_settled(looked: list[JudgedFrame], spec: DetectorSpec, *, of: int) -> bool:
    return not open_questions(looked, spec, of=of)


def looked_at(*tracks: list[float], every: int = 10) -> list[JudgedFrame]:
    """Frames in which each person has one face, with these scores."""
    made = frames(*[[face(number, p) for number, p in enumerate(row, 1)] for row in zip(*tracks, strict=True)])
    for place, frame in enumerate(made):
        frame.index = frame.cell = place * every
    return made


@given(count=st.integers(1, 5000), aside=st.booleans())
def test_looks_are_the_even_frames_once_each(count: int, aside: bool) -> None:
    looks = [list(look.indices(count)) for look in first_looks(count, aside=aside)]
    together = sorted(index for look in looks for index in look)
    assert together == sorted(set(together))
    assert len(together) == min(count, FIRST_LOOK)
    assert looks[0][-1] == count - 1, "damage at the end would go unseen"
    assert all(look == sorted(look) for look in looks)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_a_steady_score_far_from_every_edge_is_settled(p: float) -> None:
    assert is_settled(looked_at([p + 0.01 * (i % 3) for i in range(16)]), JUDGE, of=300)


@pytest.mark.parametrize("p", [0.39, 0.41, 0.59, 0.61])
def test_a_score_at_an_edge_is_not(p: float) -> None:
    assert not is_settled(looked_at([p + 0.05 * (-1) ** i for i in range(16)]), JUDGE, of=300)


def test_a_suspicious_moment_of_a_person_called_real_is_looked_at_more_closely() -> None:
    steady = [0.05] * 15
    assert is_settled(looked_at([*steady, 0.05]), JUDGE, of=300)
    assert not is_settled(looked_at([*steady, 0.7]), JUDGE, of=300)


def test_one_settled_forgery_settles_the_file_whatever_the_others_are() -> None:
    fake, open_question = [0.95] * 16, [0.4 + 0.1 * (-1) ** i for i in range(16)]
    assert is_settled(looked_at(fake, open_question), JUDGE, of=300)
    assert not is_settled(looked_at(open_question, [0.1] * 16), JUDGE, of=300)


def test_nobody_judged_and_somebody_seen_too_rarely_are_open_questions() -> None:
    assert not is_settled(frames(*[[] for _ in range(16)]), JUDGE, of=300)
    passing = looked_at([0.1] * 16)
    passing[3].faces.append(face(2, 0.1))
    assert not is_settled(passing, JUDGE, of=300)


@pytest.mark.parametrize("method", ["max", "topk", "median", "quantile", "confident", "early_exit"])
def test_scores_whose_spread_is_not_known_are_never_settled_early(method: str) -> None:
    spec = JUDGE.model_copy(update={"aggregate": JUDGE.aggregate.model_copy(update={"track": Method(method=method)})})
    assert not is_settled(looked_at([0.1] * 16), spec, of=300)


def test_all_frames_leave_no_doubt() -> None:
    table = FaceTable.of([(i, 1, p) for i, p in enumerate(np.linspace(0.1, 0.9, 20))])
    low, high = score_interval(table, JUDGE, seen=1.0, error_rate=0.01)
    assert low == high == pytest.approx(0.5)


@pytest.mark.parametrize("method", ["mean", "trimmed_mean", "logit_mean"])
def test_intervals_miss_the_score_of_all_frames_no_more_often_than_promised(method: str) -> None:
    """Long made videos whose scores wander as faces do; looked at in 16 even frames."""
    spec = JUDGE.model_copy(update={"aggregate": JUDGE.aggregate.model_copy(update={"track": Method(method=method)})})
    rng = np.random.default_rng(5)
    missed, rounds, rate = 0, 300, 0.05
    for _ in range(rounds):
        noise = rng.normal(0, 1, 480)
        smooth = np.convolve(noise, np.ones(12) / np.sqrt(12), "same")  # neighbours within half a second are alike
        p = 1 / (1 + np.exp(-(rng.normal(0, 1) + smooth)))
        whole = FaceTable.of([(i, 1, float(v)) for i, v in enumerate(p)])
        truth, _ = score_interval(whole, spec, seen=1.0, error_rate=rate)
        part = whole.where(whole.frame % 30 == 15)
        low, high = score_interval(part, spec, seen=16 / 480, error_rate=rate)
        missed += not low <= truth <= high
    # Of 300 rounds 15 may miss; 25 would come of chance once in a hundred times.
    assert missed <= 25


# -- the last look ----------------------------------------------------------------------------------------------


def test_what_is_open_says_what_kind_of_frames_are_missing() -> None:
    at_the_edge = looked_at([0.38 + 0.05 * (-1) ** i for i in range(32)])
    assert open_questions(at_the_edge, JUDGE, of=600) == OpenQuestions(edge=True)
    assert open_questions(looked_at([0.1] * 31 + [0.7]), JUDGE, of=600).moments
    passing = looked_at([0.1] * 32)
    passing[30].faces.append(face(2, 0.5))
    assert open_questions(passing, JUDGE, of=600) == OpenQuestions(rarely_seen=(2,))


def test_somebody_seen_too_rarely_is_looked_at_around_where_they_were_seen() -> None:
    passing = looked_at([0.1] * 32)
    passing[20].faces.append(face(2, 0.5))
    plan = last_look_plan(passing, 0.6, OpenQuestions(rarely_seen=(2,)), of=320)
    assert sorted(plan) == [195, 198, 202, 205]
    assert set(plan.values()) == {200}


def test_suspicious_moments_call_before_anything_else() -> None:
    steady = looked_at([*([0.1] * 20), 0.9, *([0.1] * 11)])
    plan = last_look_plan(steady, 0.6, OpenQuestions(edge=True), of=3200)
    assert {index for index, caller in plan.items() if caller == 200} == {195, 198, 202, 205}
    assert len(plan) <= 4 + FINER_FRAMES


@given(total=st.integers(33, 3000), share=st.floats(0.05, 1))
def test_finer_frames_are_new_even_and_within_the_budget(total: int, share: float) -> None:
    even = list(first_looks(10_000)[0].indices(max(33, int(total * share))))
    looked = looked_at([0.4] * len(even))
    for frame, index in zip(looked, even, strict=True):
        frame.index = frame.cell = index
    plan = last_look_plan(looked, 0.6, OpenQuestions(edge=True), of=total)
    assert all(index == caller for index, caller in plan.items())
    assert not set(plan) & set(even)
    assert len(plan) + len(even) <= max(len(even), MOST_OF_THE_FRAMES * total)
    assert len(plan) <= FINER_FRAMES
    gaps = [sum(low < index < high for index in plan) for low, high in pairwise(even)]
    wide = [count for count, (low, high) in zip(gaps, pairwise(even), strict=True) if high - low > 3]
    assert not wide or max(wide) - min(wide) <= 1


def test_no_gap_no_finer_frame() -> None:
    assert last_look_plan(looked_at([0.4] * 32, every=1), 0.6, OpenQuestions(edge=True), of=10_000) == {}
