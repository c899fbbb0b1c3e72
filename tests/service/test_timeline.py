"""The timeline's shapes, without a browser."""

from __future__ import annotations

from tests.ops.made_reports import made_report

from faceproof import wording
from faceproof.results import AppliedCalibration, FaceScore, FrameScore, Reason, Report, Span, Verdict
from faceproof.service.pages import finding
from faceproof.service.timeline import lanes


def two_people() -> Report:
    report = made_report(score=0.4)
    report.frame_predictions = [
        FrameScore(
            index=i,
            time=i / 10,
            score=0.5,
            prediction="REAL",
            faces=[
                FaceScore(box=(0, 0, 90, 90), track=track, p_fake=0.5, detection_score=1, side=90, sharpness=90)
                for track in (1, 2)
            ],
        )
        for i in range(10)
    ]
    blurred = report.tracks[0].model_copy(
        update={"id": 2, "score": None, "reason": Reason.FACES_TOO_BLURRED, "suspicious": [Span(start=0, end=0.5)]}
    )
    report.tracks.append(blurred)
    return report


def test_whoever_was_not_judged_has_no_curve_and_no_suspicion() -> None:
    judged, blurred = lanes(two_people())
    assert judged.line
    assert judged.rows
    assert (blurred.line, blurred.area, blurred.rows, blurred.spans) == ("", "", [], [])


def test_moments_and_their_threshold_stand_on_the_scale_of_people() -> None:
    report = two_people()
    report.detector.frame_threshold = 0.5
    report.detector.calibration = AppliedCalibration(method="platt", a=1.0, b=1.0)
    lane = lanes(report)[0]
    assert {round(p, 3) for _, p in lane.rows} == {0.731}
    assert f" {lane.threshold_y:.1f}" in lane.line, "a face at the threshold lies on the dashed line"


def test_the_line_below_the_verdict_names_the_times_that_stand_beside_the_people() -> None:
    report = two_people()
    person = report.tracks[0]
    report.media.kind, report.verdict = "video", Verdict.FAKE
    person.verdict, person.start, person.end, person.suspicious = Verdict.FAKE, 0.0, 9.9, [Span(start=2.0, end=5.8)]
    assert "0:02–0:06" in finding(report)
    assert "0:02–0:06" in wording.track_line(person)
    report.verdict = person.verdict = Verdict.INCONCLUSIVE
    report.reason = person.reason = Reason.SUSPICIOUS_MOMENTS
    assert finding(report) == "Some moments look manipulated, most do not. Person 1 at 0:02–0:06."
    report.media.kind, report.verdict = "image", Verdict.FAKE
    person.verdict = Verdict.FAKE
    assert finding(report) == "Person 1."
