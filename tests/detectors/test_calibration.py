from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from faceproof.detectors.aggregate import FaceTable, aggregate
from faceproof.detectors.calibration import calibrate, on_one_scale, shown_threshold, with_prior
from faceproof.detectors.spec import Calibration, Method
from faceproof.errors import OptionError
from faceproof.results import AppliedCalibration, EnsembleFacts, FaceScore, FrameScore, Report

from ..ops.made_reports import made_report

calibrations = st.one_of(
    st.just(Calibration()),
    st.builds(Calibration, method=st.just("temperature"), a=st.floats(0.05, 20)),
    st.builds(Calibration, method=st.just("platt"), a=st.floats(0.05, 20), b=st.floats(-5, 5)),
    st.just(Calibration(method="isotonic", points=((0.0, 0.1), (0.5, 0.4), (1.0, 0.95)))),
)


@given(calibration=calibrations, p=st.floats(0, 1), q=st.floats(0, 1))
def test_calibration_gives_probabilities_and_never_swaps_two_scores(
    calibration: Calibration, p: float, q: float
) -> None:
    low, high = sorted((p, q))
    a, b = calibrate(low, calibration), calibrate(high, calibration)
    assert 0 <= a <= b <= 1


def test_temperature_and_platt_by_hand() -> None:
    # logit(.8) = ln 4; halved it is ln 2, whose sigmoid is 2/3.
    assert calibrate(0.8, Calibration(method="temperature", a=2)) == pytest.approx(2 / 3)
    assert calibrate(0.8, Calibration(method="platt", a=0.5)) == pytest.approx(2 / 3)
    assert calibrate(0.75, Calibration(method="isotonic", points=((0.5, 0.2), (1.0, 0.8)))) == pytest.approx(0.5)


@given(p=st.floats(0.001, 0.999), prior=st.floats(0.001, 0.999))
def test_the_posterior_is_bayes_rule(p: float, prior: float) -> None:
    fake, real = p * prior, (1 - p) * (1 - prior)
    assert with_prior(p, prior) == pytest.approx(fake / (fake + real), abs=1e-9)


@pytest.mark.parametrize("prior", [0, 1, -0.1, 1.5])
def test_a_certain_prior_is_refused(prior: float) -> None:
    with pytest.raises(OptionError):
        with_prior(0.5, prior)


def report_of(scores: list[float], calibration: Calibration) -> Report:
    """Person 1's faces, one a frame."""
    report = made_report()
    report.detector.frame_threshold = 0.6
    report.detector.calibration = AppliedCalibration(
        **calibration.model_dump(include={"method", "a", "b", "points"}),
    )
    report.frame_predictions = [
        FrameScore(
            index=i,
            time=i / 10,
            score=p,
            prediction="REAL",
            faces=[FaceScore(box=(0, 0, 9, 9), track=1, p_fake=p, detection_score=1, side=9, sharpness=9)],
        )
        for i, p in enumerate(scores)
    ]
    return report


@given(calibration=calibrations, scores=st.lists(st.floats(0.01, 0.99), min_size=1, max_size=9))
def test_faces_are_shown_on_the_scale_of_people(calibration: Calibration, scores: list[float]) -> None:
    report = report_of(scores, calibration)
    before = report.model_copy(deep=True)
    shown = on_one_scale(report)
    faces = [frame.faces[0].p_fake for frame in shown.frame_predictions]
    # What one face alone would give as a person is what it shows.
    for p, face in zip(scores, faces, strict=True):
        alone = FaceTable.of([(0, 1, p)])
        assert face == pytest.approx(calibrate(aggregate(alone, Method(method="mean")), calibration), abs=1e-6)
    # A person's mean lies among their faces as shown.
    person = calibrate(sum(scores) / len(scores), calibration)
    assert min(faces) - 1e-9 <= person <= max(faces) + 1e-9
    assert shown.detector.frame_threshold == shown_threshold(0.6, report) == calibrate(0.6, calibration)
    assert report == before, "the report itself keeps what the network said"
    assert on_one_scale(shown) == shown
    assert [frame.score for frame in shown.frame_predictions] == faces


def test_reports_without_a_calibration_of_their_own_are_shown_as_they_are() -> None:
    report = report_of([0.3], Calibration(method="platt", a=2, b=1))
    report.ensemble = EnsembleFacts(method="mean", members=[])
    assert on_one_scale(report) is report
    assert shown_threshold(0.6, report) == 0.6
    older = report_of([0.3], Calibration())
    older.detector.calibration = older.detector.frame_threshold = None
    assert on_one_scale(older) is older


@pytest.mark.parametrize(
    "numbers",
    [
        {"method": "isotonic", "points": ((0.0, 0.0), (0.9, 0.9), (0.5, 0.5))},
        {"method": "isotonic", "points": ((0.0, 0.5), (1.0, 0.2))},
        {"method": "platt", "a": float("nan")},
        {"method": "platt", "b": float("inf")},
    ],
)
def test_a_calibration_that_changes_the_order_of_scores_is_refused(numbers: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Calibration(**numbers)
