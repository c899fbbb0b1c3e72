"""From faces to verdicts: who counts, what worst means, and that nothing is invented."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from faceproof import wording
from faceproof.detectors.detector import Detector
from faceproof.detectors.spec import (
    Aggregate,
    BandPoint,
    Calibration,
    DetectorSpec,
    Method,
    QualityBands,
    VerdictRule,
    parse_spec,
)
from faceproof.judge import JudgedFace, JudgedFrame, judge_again, make_report, shown_path
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


def test_a_pattern_found_as_a_face_is_listed_and_does_not_decide() -> None:
    pattern = [replace(face(2, 0.99), detection_score=0.93) for _ in range(3)]
    # One doubtful sighting of a person does not make them a pattern.
    person = [replace(face(1, 0.1), detection_score=certainty) for certainty in (0.8, 1.0, 1.0)]
    judged = frames(*([one, other] for one, other in zip(person, pattern, strict=True)))
    assert report(judged, spec()).verdict is Verdict.FAKE
    result = report(judged, spec(min_detection=0.95))
    assert result.verdict is Verdict.REAL
    assert [(track.verdict, track.reason) for track in result.tracks] == [
        (Verdict.REAL, None),
        (Verdict.NOT_ASSESSED, Reason.PERHAPS_NO_FACE),
    ]
    assert "1 of 2 people not judged: this may not be a face." in (result.note or "")


def test_nobody_is_judged_in_a_picture_that_lies_on_its_side() -> None:
    doubtful = spec(min_detection=0.95)
    judged = frames([replace(face(1, 0.9), detection_score=0.97)])
    for faces in (judged, frames([])):
        result = report(faces, doubtful, turned=270)
        assert (result.verdict, result.reason, result.score) == (Verdict.NOT_ASSESSED, Reason.TURNED, None)
        assert result.media.turned == 270
        assert "a quarter to the left" in (result.note or "")
        assert judge_again(Report.model_validate_json(result.model_dump_json()), doubtful) == result
    # A published system judges what it finds.
    assert judge_again(report(judged, doubtful, turned=270), spec()).verdict is Verdict.FAKE


def test_what_is_judged_in_place_of_a_face_needs_no_certainty_of_one() -> None:
    judged = frames([replace(face(0, 0.9, fallback=True), detection_score=0.0)])
    assert report(judged, spec(min_detection=0.95)).verdict is Verdict.FAKE


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


MOMENT = [0.05] * 8 + [0.8] * 4 + [0.05] * 8


def test_a_mean_over_minutes_does_not_hide_a_moment() -> None:
    rule = {"threshold": 0.6, "band": (0.4, 0.8), "frame_threshold": 0.6}
    judged = frames(*[[face(1, p), face(2, 0.05)] for p in MOMENT])
    assert report(judged, spec(**rule)).verdict is Verdict.REAL
    result = report(judged, spec(**rule, suspicious_run=4))
    assert (result.verdict, result.reason) == (Verdict.INCONCLUSIVE, Reason.SUSPICIOUS_MOMENTS)
    assert [track.verdict for track in result.tracks] == [Verdict.INCONCLUSIVE, Verdict.REAL]
    assert result.score == report(judged, spec(**rule)).score, "no score is made up for it"
    assert wording.headline(result).startswith("Cannot tell about person 1: some moments look manipulated")
    assert wording.when(result) == "Person 1 at 0:02–0:04."
    assert wording.track_line(result.tracks[0]) == "cannot tell: suspicious 0:02–0:04"


def test_a_moment_is_not_hidden_by_somebody_with_a_higher_score() -> None:
    rule = spec(threshold=0.6, band=(0.4, 0.8), frame_threshold=0.6, suspicious_run=4)
    result = report(frames(*[[face(1, p), face(2, 0.35)] for p in MOMENT]), rule)
    assert [track.verdict for track in result.tracks] == [Verdict.INCONCLUSIVE, Verdict.REAL]
    assert (result.verdict, result.reason) == (Verdict.INCONCLUSIVE, Reason.SUSPICIOUS_MOMENTS)


def test_frames_that_bear_one_time_are_two_frames() -> None:
    judged = frames(*[[face(1, 0.9)] for _ in range(4)])
    judged[2].time = judged[1].time
    assert [(s.start, s.end) for s in report(judged).tracks[0].suspicious] == [(0, judged[3].time)]


def test_a_moment_is_a_run_of_faces_and_half_a_second() -> None:
    rule = {"threshold": 0.6, "band": (0.4, 0.8), "frame_threshold": 0.6, "suspicious_run": 4}
    apart = [0.05, 0.9] * 4 + [0.05] * 16
    assert report(frames(*[[face(1, p)] for p in apart]), spec(**rule)).verdict is Verdict.REAL
    short = [JudgedFrame(i, i / 30, i, [face(1, p)]) for i, p in enumerate(MOMENT)]
    assert report(short, spec(**rule)).verdict is Verdict.REAL
    called = frames(*[[face(1, 0.9)] for _ in range(6)])
    assert report(called, spec(**rule)).verdict is Verdict.FAKE, "who is FAKE already stays so"


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


SIZES = QualityBands(
    false_alarms=0.01,
    misses=0.2,
    face_side=(BandPoint(at=160, low=0.4, high=0.6), BandPoint(at=40, low=0.2, high=0.9)),
)


def test_a_small_face_needs_more_than_a_large_one_and_the_report_says_so() -> None:
    rule = spec(band=(0.4, 0.6), quality=SIZES)
    large, small = (report(frames([face(1, 0.8, side=side)]), rule) for side in (200, 40))
    assert (large.verdict, large.note) == (Verdict.FAKE, None)
    assert large.band is not None
    assert (large.band.low, large.band.high, large.band.widened_by) == (0.4, 0.6, {})
    assert (small.verdict, small.reason) == (Verdict.INCONCLUSIVE, Reason.INSIDE_BAND)
    assert small.band == small.tracks[0].band
    assert small.band is not None
    assert small.band.widened_by == {"face_side": 40}
    assert small.detector.band == (0.4, 0.6)
    assert small.note is not None
    assert "between 0.20 and 0.90" in small.note
    assert "because the face is only 40 pixels wide" in small.note


def test_a_doubtful_small_face_does_not_hide_a_clear_large_one() -> None:
    result = report(frames([face(1, 0.8, side=200), face(2, 0.85, side=40)]), spec(band=(0.4, 0.6), quality=SIZES))
    assert [track.verdict for track in result.tracks] == [Verdict.FAKE, Verdict.INCONCLUSIVE]
    assert result.verdict is Verdict.FAKE
    # Files are ranked by their highest score, whatever the bands.
    assert result.score == pytest.approx(0.85)
    assert result.band == result.tracks[0].band


def test_a_few_faces_and_strong_compression_widen_the_band_of_a_video() -> None:
    axes = {"faces": (BandPoint(at=8, low=0.4, high=0.6), BandPoint(at=1, low=0.3, high=0.75))}
    rule = spec(band=(0.4, 0.6), quality=QualityBands(false_alarms=0.01, misses=0.2, **axes))
    one, eight = (report(frames(*[[face(1, 0.7)]] * count), rule) for count in (1, 8))
    assert (one.verdict, eight.verdict) == (Verdict.INCONCLUSIVE, Verdict.FAKE)
    squeezed = {"bits_per_pixel": (BandPoint(at=1, low=0.4, high=0.6), BandPoint(at=0.01, low=0.3, high=0.75))}
    rule = spec(band=(0.4, 0.6), quality=QualityBands(false_alarms=0.01, misses=0.2, **squeezed))
    # INFO holds a tenth of a bit per pixel.
    result = report(frames([face(1, 0.65)]), rule)
    assert result.band is not None
    assert result.band.widened_by["bits_per_pixel"] == pytest.approx(1_000_000 / (640 * 480) / (30000 / 1001))
    assert result.verdict is Verdict.INCONCLUSIVE


def test_a_rule_over_all_faces_is_widened_by_the_most_prominent_person() -> None:
    pooled = spec(band=(0.4, 0.6), quality=SIZES).model_copy(
        update={"aggregate": Aggregate(file=Method(method="mean"))}
    )
    result = report(frames([face(1, 0.8, side=200), face(2, 0.8, side=40)]), pooled)
    assert (result.verdict, result.band.widened_by if result.band else None) == (Verdict.FAKE, {})


def test_without_the_table_nothing_is_said_of_it() -> None:
    result = report(frames([face(1, 0.8, side=40)]), spec(band=(0.4, 0.6)))
    assert result.band is None
    assert result.tracks[0].band is None


def test_judged_again_by_the_same_record_a_report_is_the_same() -> None:
    judged = frames([face(1, 0.1), face(2, 0.9)], [face(1, 0.2)], [face(2, 0.8, side=30)], [])
    judged.insert(2, JudgedFrame(15, 0.5, 10, [face(1, 0.6)]))
    for rule in (spec(), spec(band=(0.4, 0.6), quality=SIZES), spec(min_side=50, no_face="half")):
        first = report(judged, rule)
        assert judge_again(first, rule) == first
        assert judge_again(Report.model_validate_json(first.model_dump_json()), rule) == first


def test_judged_again_by_another_record_a_report_is_what_that_one_would_have_given() -> None:
    judged = frames([face(1, 0.3), face(2, 0.7)], [face(1, 0.2)], [face(2, 0.8)])
    other = spec(band=(0.1, 0.9), frame_threshold=0.75).model_copy(
        update={"calibration": Calibration(method="temperature", a=2.0)}
    )
    assert judge_again(report(judged), other) == report(judged, other)
