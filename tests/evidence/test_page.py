"""The page: self-contained, honest, and safe to open whatever the file is called."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from faceproof.detectors.catalog import find_spec
from faceproof.detectors.detector import Detector
from faceproof.detectors.spec import Calibration, spec_sha256
from faceproof.evidence import texts
from faceproof.evidence.gathering import Evidence, gather
from faceproof.evidence.measured import MeasuredLimits, MeasuredPart, MeasuredSet, told_limits, write_limits
from faceproof.evidence.moments import pick_moments, score_ranges
from faceproof.evidence.page import page, write_page
from faceproof.evidence.timeline import Point, lanes_of, rows_of, thinned
from faceproof.judge import frames_of, make_report
from faceproof.media import probe
from faceproof.results import Reason
from faceproof.wording import HEADLINES, SECOND_LINES
from tests.evidence.made_reports import Boxes, made_report, toy_detector, wave
from tests.toy_detector import write_toy_detector

DETECTOR = toy_detector()


def two_people(index: int) -> Boxes:
    return {1: (110, 60, 210, 190), **({2: (10, 10, 90, 110)} if 20 <= index < 60 else {})}


def evidence_of(path: Path, **options: object) -> Evidence:
    report = made_report(path, DETECTOR, **{"scores": wave, "boxes": two_people, **options})  # type: ignore[arg-type]
    return gather(report, DETECTOR, path)


@pytest.fixture(scope="module")
def text(clip_mp4: Path) -> str:
    return page(evidence_of(clip_mp4))


class Outward(HTMLParser):
    """Collects every address a browser might follow by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.scripts = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        assert not [name for name, _ in attrs if name.startswith("on")]
        assert "style" not in dict(attrs)
        if tag != "a":
            self.addresses += [v or "" for k, v in attrs if k in ("src", "href", "data", "srcset", "poster", "action")]


def test_nothing_is_loaded_from_anywhere(text: str) -> None:
    found = Outward()
    found.feed(text)
    assert [a for a in found.addresses if not a.startswith("data:image/")] == ["./clip.mp4"]
    assert "@import" not in text
    assert "url(http" not in text
    assert re.search(
        r"default-src 'none'; img-src data:; media-src 'self' file:; style-src 'sha256-", text.replace("&#39;", "'")
    )


def test_the_verdict_is_in_plain_words_with_what_it_does_not_mean(text: str, clip_mp4: Path) -> None:
    report = evidence_of(clip_mp4).report
    assert HEADLINES[report.verdict] in text
    assert SECOND_LINES[report.verdict] in text
    for line in texts.MEANING[report.verdict]:
        assert line in text
    assert not re.search(r"\d+(\.\d+)? ?% (fake|real)", text, re.IGNORECASE)


def test_everything_a_reader_needs_is_there(text: str, clip_mp4: Path) -> None:
    report = evidence_of(clip_mp4).report
    for needed in (report.media.sha256, report.detector.spec_sha256, report.detector.weights_sha256, "29.97 fps"):
        assert needed in text
    assert "faceproof scan clip.mp4 --detector toy" in text
    assert text.count("data:image/jpeg") > 10
    assert "person 2" in text
    assert 'role="slider"' in text
    assert "<caption>" in text


@pytest.mark.parametrize(
    "name",
    [
        "<script>alert(1)</script>.mp4",
        '"><img src=x onerror=alert(1)>.mp4',
        "{{ 7*7 }}{% raw %}.mp4",
        "javascript:alert(1).mp4",
        "-rf $(touch x) 'a'.mp4",
        "a%2f..%2fb?#c&amp;.mp4",
        "\u202egnp.mp4",
        "</script><!--.mp4",
    ],
)
def test_file_names_cannot_act(name: str, clip_mp4: Path, tmp_path: Path) -> None:
    name = name.replace("/", "∕")
    path = tmp_path / name
    path.write_bytes(clip_mp4.read_bytes())
    made = page(evidence_of(path))
    found = Outward()
    found.feed(made)
    assert found.scripts == 2
    assert "<img src=x" not in made
    assert "49" not in made.partition("<title>")[2].partition("</title>")[0]
    source = next(a for a in found.addresses if not a.startswith("data:"))
    assert re.fullmatch(r"\./[A-Za-z0-9_.~%-]+", source)
    assert "\u202e" not in made


def test_hostile_tags_cannot_act(astronaut: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "tags.jpg"
    exif = Image.Exif()
    exif[0x0131] = "<svg onload=alert(1)>"
    Image.fromarray(astronaut).save(path, exif=exif)
    made = page(evidence_of(path, boxes=lambda index: {1: (170, 60, 280, 190)}))
    assert "<svg onload" not in made
    assert "&lt;svg onload" in made


def test_a_file_without_faces_still_gets_its_page(clip_noface_mp4: Path) -> None:
    made = page(evidence_of(clip_noface_mp4, boxes=lambda index: {}))
    assert "Nothing to judge: no face was found" in made
    assert texts.PAGE["no_people"] in made
    assert 'role="slider"' not in made
    assert not re.search(r"score [01]\.\d\d", made)


def test_whoever_was_not_judged_has_no_score_anywhere(clip_mp4: Path) -> None:
    spec = DETECTOR.spec
    strict = Detector(
        spec.model_copy(update={"verdict": spec.verdict.model_copy(update={"min_side": 110})}), DETECTOR.network
    )
    report = made_report(clip_mp4, strict, scores=lambda i, t: 0.77 if t == 2 else 0.1, boxes=two_people)
    assert [track.score is None for track in report.tracks] == [False, True]
    made = page(gather(report, strict, clip_mp4))
    assert not re.search(r"(?<![\d.])0\.77(?!\d)", made)
    assert "person 2  not judged" in made
    assert [lane.name for lane in lanes_of(report)] == ["person 1"]


def test_a_picture_has_no_timeline(astronaut_png: Path) -> None:
    made = page(evidence_of(astronaut_png, boxes=lambda index: {1: (170, 60, 280, 190)}))
    assert 'role="slider"' not in made
    assert "<video" not in made
    assert texts.PAGE["one_face"] in made


def test_uncalibrated_scores_are_never_called_probabilities(text: str) -> None:
    assert texts.SURE["uncalibrated"] in text
    assert "robability of this verdict" not in text


def test_the_page_is_written_whole(clip_mp4: Path, tmp_path: Path) -> None:
    write_page(evidence_of(clip_mp4), tmp_path / "r.html")
    assert (tmp_path / "r.html").read_text(encoding="utf-8").rstrip().endswith("</html>")
    assert [p.name for p in tmp_path.iterdir()] == ["r.html"]


def test_moments_are_spread_and_hold_the_best(clip_mp4: Path) -> None:
    report = made_report(clip_mp4, DETECTOR, scores=wave, every=1)
    track = report.tracks[0]
    picked = pick_moments(report, track, 5)
    assert sum(best for _, _, best in picked) == 1
    indices = [index for index, _, _ in picked]
    assert indices == sorted(indices)
    assert min(np.diff(indices)) >= 8
    assert len(pick_moments(report, track, 1)) == 1


def test_ranges_hold_the_score_and_shrink_with_agreement(clip_mp4: Path) -> None:
    wild = made_report(clip_mp4, DETECTOR, scores=lambda i, t: float(i % 10 > 4))
    calm = made_report(clip_mp4, DETECTOR, scores=lambda i, t: 0.5)
    low, high = score_ranges(wild, DETECTOR.spec)[1]
    assert wild.tracks[0].score is not None
    assert low < wild.tracks[0].score < high
    assert score_ranges(calm, DETECTOR.spec)[1] == (0.5, 0.5)
    assert score_ranges(wild, DETECTOR.spec) == score_ranges(wild, DETECTOR.spec)


def test_the_table_behind_the_timeline_holds_every_score(clip_mp4: Path) -> None:
    report = made_report(clip_mp4, DETECTOR, scores=wave, boxes=two_people)
    lanes = lanes_of(report)
    rows = rows_of(report, lanes)
    assert [row.scores[0] for row in rows] == [f.faces[0].p_fake for f in report.frame_predictions]
    assert rows[0].scores[1] is None
    many = made_report(clip_mp4, DETECTOR, scores=wave, every=1)
    assert len(rows_of(many, lanes_of(many))) == 60


def test_thinning_keeps_the_peaks() -> None:
    points = [Point(i / 30, 1.0 if i == 4321 else 0.2, (0, 0, 1, 1)) for i in range(20_000)]
    kept = thinned(points, 1500)
    assert len(kept) <= 1500
    assert max(point.p for point in kept) == 1.0
    assert kept[-1] is points[-1]


def test_measured_limits_are_told_for_the_very_detector_and_this_quality_only(
    clip_mp4: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_toy_detector(tmp_path)
    monkeypatch.setenv("FACEPROOF_HOME", str(tmp_path))
    spec = find_spec("toy").spec
    report = made_report(clip_mp4, DETECTOR, scores=wave)  # a face of 130 pixels
    assert told_limits(report, spec) == []
    numbers = {"auroc": 0.734, "auroc_low": 0.6, "auroc_high": 0.85}
    limits = MeasuredLimits(
        faceproof_version="1",
        detector="toy",
        weights_sha256=spec.weights.sha256 or "",
        spec_sha256=spec_sha256(spec),
        command="faceproof accuracy <b>",
        sets=[
            MeasuredSet(
                data="<b>clips</b>",
                data_sha256="0" * 64,
                media=media,
                chosen_here=media == "video",
                fake={"FAKE": 7, "REAL": 2, "INCONCLUSIVE": 11},
                real={"FAKE": 1, "REAL": 9},
                parts=[
                    MeasuredPart(by="face size", name="96 to 160 px", low=96, high=160, fakes=20, reals=10, **numbers),
                    MeasuredPart(by="face size", name="below 48 px", high=48, fakes=20, reals=10, **numbers),
                    MeasuredPart(by="method", name="Swap", fakes=20, reals=3, **numbers),
                ],
            )
            for media in ("video", "image")
        ],
    )
    assert write_limits(limits, find_spec("toy").source).parent == folder
    told = told_limits(report, spec)
    assert told == [
        "Tested on <b>clips</b>: of 10 genuine files it called 1 manipulated and 9 without a sign, and left 0 open; of "
        "20 forged ones it called 7 manipulated and 2 without a sign, and left 11 open.",
        texts.SURE["measured_chosen"],
        "Among those like this one (face size 96 to 160 px; 10 genuine, 20 forged) the forged one of a pair scored higher "
        "in 73 of 100 pairs (95 % interval 60 to 85; 50 is chance).",
    ]
    # Other settings, other weights, or a file that holds anything unknown: nothing is told.
    assert told_limits(report, spec.model_copy(update={"version": "2"})) == []
    made = page(gather(report, DETECTOR, clip_mp4))
    assert texts.SURE["no_card"] in made
    text = find_spec("toy").source.with_suffix(".measured.json")
    text.write_text(text.read_text().replace('"command"', '"rumour": 1, "command"'))
    assert told_limits(report, spec) == []


def test_who_may_be_no_face_is_said_in_plain_words(clip_mp4: Path) -> None:
    spec = DETECTOR.spec
    rule = spec.verdict.model_copy(update={"min_detection": 0.95})
    strict = Detector(spec.model_copy(update={"verdict": rule}), DETECTOR.network)

    def doubtful(at: Path, tracks: set[int]) -> str:
        report = made_report(at, strict, scores=wave, boxes=two_people)
        frames = frames_of(report)
        for face in (face for frame in frames for face in frame.faces if face.track in tracks):
            face.detection_score = 0.9
        info = probe(at)
        report = make_report(info, frames, strict, frames_failed=0, processing_time=0.1, timings={})
        return page(gather(report, strict, at))

    one = doubtful(clip_mp4, {2})
    assert "Person 2 may not be a face: the face search is less sure of it than 0.95" in one
    assert "Only faces of which the face search is at least 0.95 sure are judged" in one
    both = doubtful(clip_mp4, {1, 2})
    assert "Person 1 and person 2 may not be faces" in both
    assert "may not be a face" not in page(evidence_of(clip_mp4))


def test_every_word_of_the_page_is_used() -> None:
    source = "".join(
        path.read_text(encoding="utf-8")
        for path in Path(texts.__file__).parent.rglob("*")
        if path.suffix in (".py", ".j2") and path.name != "texts.py"
    )
    unused = [key for key in texts.PAGE if f"t.{key}" not in source and f'"{key}"' not in source]
    assert not [key for key in unused if not key.startswith("heat_")]


def test_the_dashed_line_is_where_moments_count_as_suspicious(clip_mp4: Path) -> None:
    evidence = evidence_of(clip_mp4)
    rule = evidence.spec.verdict.model_copy(update={"frame_threshold": 0.7})
    changed = replace(evidence, spec=evidence.spec.model_copy(update={"verdict": rule}))
    made = page(changed)
    assert re.search(r'class="threshold" x1="0" x2="1000" y1="30\.0', made)
    assert "Dashed: 0.70" in made


def test_one_scale_for_people_and_moments(clip_mp4: Path) -> None:
    scaled = toy_detector(calibration=Calibration(method="platt", a=1.0, b=1.0))
    report = made_report(clip_mp4, scaled, scores=lambda i, t: 0.5, boxes=two_people)
    made = page(gather(report, scaled, clip_mp4))
    # Every face scores one half, every person and every moment what becomes of that.
    assert set(re.findall(r"score (0\.\d\d)", made)) == {"0.73"}
    assert texts.SURE["one_scale"].replace("'", "&#39;") in made
    assert report.frame_predictions[0].faces[0].p_fake == 0.5


def test_a_picture_is_not_called_a_video(astronaut_png: Path) -> None:
    evidence = evidence_of(
        astronaut_png, boxes=lambda index: {1: (110.0, 60.0, 210.0, 190.0)}, scores=lambda i, t: 0.02
    )
    made = page(evidence)
    assert "the picture is genuine" in made
    assert "video" not in made.split("<main>")[1].split("<script")[0]
    # One number for one person: the score beside the face is the one in the picture.
    assert made.count(f"person 1  {evidence.report.tracks[0].score:.2f}") == 1


def test_whoever_was_not_judged_has_no_heat_and_no_card_beside_those_who_were(clip_mp4: Path) -> None:
    evidence = evidence_of(
        clip_mp4, boxes=lambda i: {1: (110, 60, 210, 190), **({2: (10, 10, 22, 22)} if i < 12 else {})}
    )
    strict = evidence.report.model_copy(deep=True)
    strict.tracks[1].score, strict.tracks[1].reason = None, Reason.FACES_TOO_SMALL
    again = gather(strict, DETECTOR, clip_mp4)
    assert all(moment.heat is None for moment in again.shown.moments[2])
    assert all(moment.heat is not None for moment in again.shown.moments[1])
    made = page(again)
    assert made.count("<article") == 1
    assert "person 2: the faces are too small to judge" in made


def test_the_peak_is_shown_even_beside_the_best_face(clip_mp4: Path) -> None:
    report = made_report(clip_mp4, DETECTOR, scores=lambda i, t: 0.9 if i == 7 else 0.3, every=1)
    track = report.tracks[0].model_copy(update={"best_frame": 6})
    shown = [index for index, _, _ in pick_moments(report, track, 5)]
    assert {6, 7} <= set(shown)
    assert len(shown) == 5
    assert [index for index, _, best in pick_moments(report, track, 1) if best] == [6]
