"""From faces to verdicts: who counts, what worst means, and that nothing is invented."""

from fractions import Fraction
from pathlib import Path

import pytest

from faceproof.detectors.detector import Detector
from faceproof.detectors.spec import Aggregate, DetectorSpec, Method, VerdictRule, parse_spec
from faceproof.judge import JudgedFace, JudgedFrame, make_report, shown_path
from faceproof.media import MediaInfo
from faceproof.results import Reason, Report, Verdict
from faceproof.runtime import FakeNetwork

from .detectors.test_spec import MINIMAL

INFO = MediaInfo(
    path=Path("clip.mp4"),
    sha256="0" * 64,
    kind="video",
    width=640,
    height=480,
    fps=Fraction(30000, 1001),
    duration=10.0,
    frame_count=300,
    codec="h264",
    container="mov,mp4",
    bit_rate=1_000_000,
    size_bytes=1_250_000,
    rotation=0,
)


def spec(**rule: object) -> DetectorSpec:
    return parse_spec(MINIMAL).model_copy(update={"verdict": VerdictRule(**rule)})  # type: ignore[arg-type]


def face(track: int, p: float, side: float = 100, sharpness: float = 100, fallback: bool = False) -> JudgedFace:
    return JudgedFace((10, 10, 10 + side, 10 + side), track, 0.99, side, sharpness, fallback, p)


def frames(*rows: list[JudgedFace]) -> list[JudgedFrame]:
    return [JudgedFrame(i * 10, i * 10 / 30, i * 10, list(row)) for i, row in enumerate(rows)]


def report(judged: list[JudgedFrame], spec_: DetectorSpec | None = None, **facts: object) -> Report:
    detector = Detector(spec_ or spec(), FakeNetwork())
    given = {"frames_failed": 0, "processing_time": 1.0, "timings": {}} | facts
    return make_report(INFO, judged, detector, **given)  # type: ignore[arg-type]


def test_the_file_is_as_suspicious_as_its_worst_person() -> None:
    result = report(frames([face(1, 0.1), face(2, 0.9)], [face(1, 0.1), face(2, 0.8)], [face(3, 0.2)]))
    assert result.verdict is Verdict.FAKE
    assert result.score == pytest.approx(0.85)
    assert result.confidence == pytest.approx(0.85)
    assert [(t.id, t.verdict) for t in result.tracks] == [(1, "REAL"), (2, "FAKE"), (3, "REAL")]
    assert result.metrics.total_faces_detected == 5
    assert result.metrics.suspicious_frames_count == 2
    assert result.metrics.average_face_score == pytest.approx((0.1 + 0.9 + 0.1 + 0.8 + 0.2) / 5)


def test_confidence_of_real_is_the_probability_of_real() -> None:
    result = report(frames([face(1, 0.2)]))
    assert (result.verdict, result.prediction) == (Verdict.REAL, "REAL")
    assert result.score == pytest.approx(0.2)
    assert result.confidence == pytest.approx(0.8)


def test_no_face_is_not_assessed_and_has_no_score() -> None:
    result = report(frames([], []))
    assert (result.verdict, result.reason) == (Verdict.NOT_ASSESSED, Reason.NO_FACE)
    assert result.score is result.confidence is result.prediction is None
    assert result.metrics.final_average_score is None
    assert [f.score for f in result.frame_predictions] == [None, None]


def test_people_too_small_are_named_and_do_not_decide() -> None:
    result = report(frames([face(1, 0.1), face(2, 0.99, side=12)]), spec(min_side=30))
    assert result.verdict is Verdict.REAL
    assert result.tracks[1].verdict is Verdict.NOT_ASSESSED
    assert result.tracks[1].reason is Reason.FACES_TOO_SMALL
    assert result.tracks[1].score is None
    assert result.note is not None
    assert "1 of 2 people not judged" in result.note


def test_when_nobody_qualifies_the_most_prominent_persons_reason_is_given() -> None:
    judged = frames([face(1, 0.9, sharpness=1), face(2, 0.9, side=12)], [face(1, 0.9, sharpness=1)])
    result = report(judged, spec(min_side=30, min_sharpness=10))
    assert (result.verdict, result.reason, result.score) == (Verdict.NOT_ASSESSED, Reason.FACES_TOO_BLURRED, None)


def test_inside_the_band_there_is_a_score_but_no_prediction() -> None:
    result = report(frames([face(1, 0.5)]), spec(threshold=0.5, band=(0.3, 0.7)))
    assert (result.verdict, result.reason, result.prediction) == (Verdict.INCONCLUSIVE, Reason.INSIDE_BAND, None)
    assert result.score == pytest.approx(0.5)
    assert result.confidence is None


def test_a_published_rule_over_all_faces_decides_the_file() -> None:
    pooled = parse_spec(MINIMAL).model_copy(update={"aggregate": Aggregate(file=Method(method="mean"))})
    result = report(frames([face(1, 0.0), face(2, 0.9)]), pooled)
    assert result.score == pytest.approx(0.45)
    assert [t.score for t in result.tracks] == [0.0, pytest.approx(0.9)]


def test_suspicious_spans_reach_half_way_to_their_neighbours() -> None:
    result = report(frames(*[[face(1, p)] for p in (0.1, 0.9, 0.9, 0.1, 0.1, 0.8)]))
    spans = [(s.start, s.end) for s in result.tracks[0].suspicious]
    step = 10 / 30
    assert spans == [
        (pytest.approx(0.5 * step), pytest.approx(2.5 * step)),
        (pytest.approx(4.5 * step), pytest.approx(5 * step)),
    ]


def test_a_second_look_refines_an_opinion_and_does_not_outvote_the_rest() -> None:
    first = frames([face(1, 0.1)], [face(1, 0.9)], [face(1, 0.1)])
    extra = [JudgedFrame(9, 0.3, 10, [face(1, 0.9)]), JudgedFrame(11, 0.37, 10, [face(1, 0.9)])]
    judged = sorted(first + extra, key=lambda f: f.index)
    assert report(judged).score == pytest.approx(report(first).score)


def test_a_judged_fallback_is_flagged_and_counts_as_no_face() -> None:
    result = report(frames([face(0, 0.7, fallback=True)]))
    assert result.metrics.total_faces_detected == 0
    assert result.note is not None
    assert "centre of the frame" in result.note


def test_frames_that_failed_are_said() -> None:
    result = report(frames([face(1, 0.2)]), frames_failed=3)
    assert result.frames_failed == 3
    assert result.note is not None
    assert "3 frames could not be decoded" in result.note


def test_the_json_has_no_nan_and_reads_back() -> None:
    result = report(frames([face(1, 0.2)], []))
    assert Report.model_validate_json(result.model_dump_json()) == result
    assert "NaN" not in result.model_dump_json()


def test_the_schema_is_exportable_and_strict() -> None:
    schema = Report.model_json_schema()
    assert schema["additionalProperties"] is False
    assert {"verdict", "score", "tracks", "frame_predictions", "detector"} <= set(schema["required"])


def test_paths_that_are_not_text_are_shown_as_text() -> None:
    shown = shown_path(b"caf\xe9 clip.mp4".decode("utf-8", "surrogateescape"))
    assert shown == "caf\\xe9 clip.mp4"
    shown.encode("utf-8")
