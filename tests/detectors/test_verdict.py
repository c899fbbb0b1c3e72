import pytest
from hypothesis import given
from hypothesis import strategies as st

from faceproof.detectors.spec import VerdictRule
from faceproof.detectors.verdict import judge_nothing, judge_score, unqualified
from faceproof.results import Reason, Verdict

unit = st.floats(0, 1)


@given(score=unit, threshold=unit)
def test_without_a_band_every_score_has_a_verdict(score: float, threshold: float) -> None:
    opinion = judge_score(score, VerdictRule(threshold=threshold))
    assert opinion.verdict is (Verdict.FAKE if score > threshold else Verdict.REAL)
    assert opinion.confidence == pytest.approx(score if opinion.verdict is Verdict.FAKE else 1 - score)


@given(score=unit, numbers=st.tuples(unit, unit, unit))
def test_scores_strictly_inside_the_band_are_inconclusive(score: float, numbers: tuple[float, ...]) -> None:
    low, threshold, high = sorted(numbers)
    opinion = judge_score(score, VerdictRule(threshold=threshold, band=(low, high)))
    if low < score < high:
        assert (opinion.verdict, opinion.reason) == (Verdict.INCONCLUSIVE, Reason.INSIDE_BAND)
        assert opinion.prediction is None
        assert opinion.confidence is None
    else:
        assert opinion.verdict in (Verdict.FAKE, Verdict.REAL)


@pytest.mark.parametrize(
    ("faces", "side", "sharpness", "expected"),
    [
        (5, 80, 50, None),
        (5, 39, 50, Reason.FACES_TOO_SMALL),
        (5, 80, 4, Reason.FACES_TOO_BLURRED),
        (1, 80, 50, Reason.TOO_FEW_FACES),
    ],
)
def test_who_qualifies(faces: int, side: float, sharpness: float, expected: Reason | None) -> None:
    assert (
        unqualified(faces, side, sharpness, VerdictRule(min_side=40, min_sharpness=5, min_faces=2), frames=9)
        is expected
    )


@pytest.mark.parametrize(
    ("policy", "verdict", "score"),
    [
        ("not_assessed", Verdict.NOT_ASSESSED, None),
        ("real_0.99", Verdict.REAL, 0.01),
        ("real_0.0", Verdict.REAL, 0.0),
        ("half", Verdict.REAL, 0.5),
    ],
)
def test_no_face_is_a_reason_and_published_answers_are_named_policies(
    policy: str, verdict: Verdict, score: float | None
) -> None:
    opinion = judge_nothing([], VerdictRule(no_face=policy))
    assert (opinion.verdict, opinion.score, opinion.reason) == (verdict, score, Reason.NO_FACE)


def test_no_policy_turns_unjudgeable_faces_into_a_score() -> None:
    opinion = judge_nothing([Reason.FACES_TOO_SMALL], VerdictRule(no_face="real_0.99"))
    assert (opinion.verdict, opinion.score) == (Verdict.NOT_ASSESSED, None)


def test_a_picture_asks_for_one_face_only() -> None:
    rule = VerdictRule(min_faces=3)
    assert unqualified(1, 80, 50, rule, frames=1) is None
    assert unqualified(2, 80, 50, rule, frames=2) is None
    assert unqualified(2, 80, 50, rule, frames=32) is Reason.TOO_FEW_FACES
