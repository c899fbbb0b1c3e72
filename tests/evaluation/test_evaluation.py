from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from faceproof.batch import ScanOptions
from faceproof.detectors.detector import Detector
from faceproof.detectors.spec import Fitted
from faceproof.errors import EvaluationError
from faceproof.evaluation.bootstrap import auroc_estimate
from faceproof.evaluation.certainty import protocol
from faceproof.evaluation.comparison import comparison_document
from faceproof.evaluation.document import (
    Bullets,
    Callout,
    Code,
    Figure,
    Heading,
    Paragraph,
    Table,
    to_html,
    to_markdown,
)
from faceproof.evaluation.evaluation import Evaluation, Settings, evaluate
from faceproof.evaluation.harness import judge, tabulate
from faceproof.evaluation.limits import failures, promises
from faceproof.evaluation.manifest import Manifest
from faceproof.evaluation.promises import check_band
from faceproof.evaluation.protocols import GroupedAuroc, ProtocolResult, ProtocolRow, clip_name, deepfakebench
from faceproof.evaluation.quality import fit_quality_bands
from faceproof.evaluation.report import document
from faceproof.evaluation.robustness import UNTOUCHED, Sweep
from faceproof.evaluation.scores import ScoreTable
from faceproof.evaluation.significance import Contender, compare
from tests.evaluation.tables import gaussian_table

FAST = Settings(resamples=100, max_false_alarms=0.05)


@pytest.fixture(scope="module")
def rich() -> Evaluation:
    """Everything at once: methods, datasets, quality, refusals, problems, robustness, bands."""
    generator = np.random.default_rng(0)
    table = gaussian_table(
        0,
        600,
        apart=2,
        per_source=3,
        dataset=["FF++ c23"] * 300 + ["Celeb-DF"] * 300,
        method=["swap", "reenact"] * 300,
        verdict=["FAKE", "REAL", "INCONCLUSIVE"] * 200,
        reason=["", "", "score_inside_band"] * 200,
        quality={"face_side": generator.uniform(30, 300, 600), "bits_per_pixel": generator.uniform(0.01, 0.3, 600)},
    )
    table.score[::17] = np.nan
    table.verdict[::17] = "NOT_ASSESSED"
    table.reason[::17] = "no_face"
    cells = {
        UNTOUCHED: 2.0,
        ("downscale", 0.5): 1.0,
        ("downscale", 0.25): 0.0,
        ("jpeg", 90.0): 2.0,
        ("jpeg", 50.0): 1.8,
    }
    sides = {cell: np.full(200, 100 * (cell[1] if cell[0] == "downscale" else 1)) for cell in cells}
    swept = Sweep(
        {
            cell: gaussian_table(7, 200, apart=apart, quality={"face_side": sides[cell], "bits_per_pixel": sides[cell]})
            for cell, apart in cells.items()
        }
    )
    found = evaluate("toy <1>", table, frame=table, settings=FAST, data="made | up")
    return found.model_copy(
        update={
            "robustness": swept.curves(threshold=0.5, resamples=50),
            "quality_bands": fit_quality_bands(swept, max_false_alarms=0.1),
        }
    )


def test_nothing_is_dropped_from_coverage(rich: Evaluation) -> None:
    cover = rich.coverage
    assert cover.files == 600
    assert sum(cover.fake.values()) + sum(cover.real.values()) == 600
    assert cover.scored == 600 - len(range(0, 600, 17))
    assert cover.reasons["no_face"] == 36
    main = rich.main
    assert main.auroc_all is not None
    assert main.auroc_all < (main.metrics["auroc"].value or 0)


def test_json_round_trip(rich: Evaluation) -> None:
    text = rich.model_dump_json()
    assert Evaluation.model_validate_json(text) == rich
    assert "NaN" not in text


def test_base_rate_is_what_always_fake_gets() -> None:
    table = gaussian_table(0, 300, share_of_fakes=0.85)
    base = evaluate("x", table, settings=FAST).main.base_rate
    assert base is not None
    assert base.always_fake_accuracy == pytest.approx(table.label.mean())
    assert base.chance_average_precision == pytest.approx(table.label.mean())


def test_slices_by_method_keep_all_reals_of_their_dataset(rich: Evaluation) -> None:
    parts = {(part.by, part.name): part for part in rich.slices}
    assert {by for by, _ in parts} == {"dataset", "method", "face size", "bits per pixel"}
    swap = parts["method", "Celeb-DF · swap"]
    dataset = parts["dataset", "Celeb-DF"]
    assert swap.reals == dataset.reals
    assert swap.fakes < dataset.fakes
    assert sum(part.files for (by, _), part in parts.items() if by == "face size") == 600


def test_what_a_verdict_is_worth_by_prior() -> None:
    found = evaluate("x", gaussian_table(0, 4000, apart=2), settings=FAST)
    by_prior = {item.prior: item for item in found.posteriors}
    alarms = found.main.metrics["false_alarm_rate"].value or 0
    caught = 1 - (found.main.metrics["miss_rate"].value or 0)
    expected = 0.01 * caught / (0.01 * caught + 0.99 * alarms)
    assert by_prior[0.01].fake_right.value == pytest.approx(expected)
    assert (by_prior[0.01].fake_right.value or 1) < 0.2 < (by_prior[0.5].fake_right.value or 0)
    interval = by_prior[0.01].fake_right
    assert (interval.low or 1) < expected < (interval.high or 0)


def test_one_class_or_nothing_scored_is_no_evaluation() -> None:
    table = gaussian_table(0, 50)
    with pytest.raises(EvaluationError, match=r"no real file has a score \(0 listed"):
        evaluate("x", table.select(table.label == 1))
    table.score[:] = np.nan
    with pytest.raises(EvaluationError, match="0 of 50 files scored"):
        evaluate("x", table)


def test_band_is_fitted_on_the_calibration_split_only() -> None:
    table = gaussian_table(0, 800, apart=2, split=["calibration"] * 400 + ["test"] * 400)
    check = check_band(table, 0.05)
    assert check is not None
    assert "calibration split" in check.how
    assert check.reals + check.fakes == 400
    assert check.false_alarm_rate < 0.12
    halves = check_band(gaussian_table(0, 800, apart=2), 0.05)
    assert halves is not None
    assert halves.reals + halves.fakes == 800
    turns = np.arange(800) % 2
    scores = np.clip(np.random.default_rng(0).normal(0.3 + 0.4 * turns, 0.15), 0, 1)
    assert check_band(ScoreTable.of([f"{row:03d}" for row in range(800)], turns, scores), 0.05) is not None


def test_a_promise_is_held_against_the_verdicts_and_chance_is_not_called_a_breach() -> None:
    origin = Fitted(
        data="x",
        data_sha256="0" * 64,
        reals=200,
        fakes=200,
        false_alarms=0.01,
        misses=0.2,
        command="faceproof calibrate",
    )
    good = evaluate("good", gaussian_table(0, 400, apart=8), settings=FAST)
    cover = good.coverage.model_copy(
        update={"real": {"FAKE": 3, "REAL": 100, "INCONCLUSIVE": 97, "FAILED": 9}, "fake": {"FAKE": 100, "REAL": 45}}
    )
    found = good.model_copy(update={"fitted": origin, "coverage": cover})
    assert [(count, judged) for _, count, judged, _ in promises(found)] == [(3, 200), (45, 145)]
    (said,) = [sentence for sentence in failures(found) if "promise" in sentence]
    assert "45 of 145 forgeries called REAL (31.0%), where at most 20.0%" in said
    assert not list(promises(good))


def test_failures_are_said_plainly() -> None:
    blind = evaluate("x", gaussian_table(1, 60, apart=0), settings=FAST)
    sentences = " ".join(failures(blind))
    assert "not shown to be better than chance" in sentences
    assert "must not accuse" in sentences
    good = evaluate("x", gaussian_table(1, 3000, apart=8), settings=FAST)
    assert list(failures(good)) == []


def test_page_shows_everything_and_loads_nothing(rich: Evaluation, tmp_path: Path) -> None:
    page = to_html("toy <1>", document(rich, command="faceproof evaluate made"))
    for heading in ("Where it fails", "Numbers", "What became of every file", "Robustness", "Model card section"):
        assert heading in page
    assert page.count('<img src="data:image/svg+xml;base64,') == 5
    assert not re.search(r'(?:src|href)="(?!data:)', page)
    assert "<script" not in page
    assert "toy &lt;1&gt;" in page
    text = to_markdown(document(rich), figures="figures")
    assert "![" in text
    assert "toy &lt;1&gt; on made | up" in text
    assert all(line.count("|") - line.count("\\|") > 1 for line in text.splitlines() if line.startswith("|"))


def test_comparison_page() -> None:
    a, b = gaussian_table(0, 300, apart=2, method=["swap"] * 300), gaussian_table(0, 300, apart=0.5)
    found = compare(Contender("a", a), Contender("b", b), resamples=100)
    page = to_html(
        "a and b", comparison_document(found, evaluate("a", a, settings=FAST), evaluate("b", b, settings=FAST))
    )
    assert "a separates these files better than b" in page
    assert page.count("<img") == 1
    assert "Difference by method" in page


def test_hostile_names_stay_text() -> None:
    nasty = 'a|b<script>alert(1)</script>"\n# head\x1b[31m'
    blocks = [Heading(nasty), Paragraph(nasty), Bullets((nasty,)), Callout("error", nasty)]
    blocks += [Table((nasty, "x"), ((nasty, nasty),)), Figure("f", "<svg/>", nasty)]
    page, text = to_html(nasty, [*blocks, Code(nasty)]), to_markdown(blocks)
    assert "<script" not in page
    assert "<script" not in text
    assert "\x1b" not in page + text
    assert "\n# head" not in text


def test_drawings_are_the_same_every_time(rich: Evaluation) -> None:
    first = [block.svg for block in document(rich) if isinstance(block, Figure)]
    assert first == [block.svg for block in document(rich) if isinstance(block, Figure)]


def test_clip_names_of_the_benchmark() -> None:
    assert clip_name("Deepfakes/c23/videos/000_003.mp4", "FaceForensics++ c23") == "000_003"
    assert clip_name("videos/ffpp_c40_FaceSwap_183_253.mp4", "FaceForensics++ c40") == "183_253"
    assert clip_name("videos/ffpp_c40_original_183.mp4", "FaceForensics++ c40") == "183"
    assert clip_name("Celeb-synthesis/id0_id1_0000.mp4", "Celeb-DF v2") == "id0_id1_0000"


def test_benchmark_protocol_shows_both_groupings(lit_set: Manifest, toy: ScanOptions, toy_loaded: Detector) -> None:
    outcomes = judge(lit_set, toy, detector=toy_loaded)
    rows = {row.dataset: row for row in deepfakebench(lit_set, outcomes, resamples=20).rows}
    assert rows["clips"].frames == 8
    assert rows["clips"].uncovered == 1
    assert rows["stills"].corrected.videos == 8
    assert rows["stills"].frame_auroc.value == 1


def test_merging_by_name_changes_the_video_count() -> None:
    from faceproof.evaluation.protocols import _grouped

    names = [f"{method}/{clip}.mp4" for method in ("A", "B", "C") for clip in ("000_003", "001_002")] + [
        "o/000.mp4",
        "o/001.mp4",
    ]
    table = ScoreTable.of(names, [1] * 6 + [0] * 2, np.linspace(1, 0, 8), dataset=["FaceForensics++ c23"] * 8)
    merged = _grouped(table, [clip_name(name, "FaceForensics++ c23") for name in names], resamples=0, seed=0)
    assert (merged.videos, merged.fakes, merged.reals) == (4, 2, 2)
    assert _grouped(table, table.path, resamples=0, seed=0).videos == 8


def test_a_real_evaluation_from_scan_to_page(lit_set: Manifest, toy: ScanOptions, toy_loaded: Detector) -> None:
    judged = tabulate(lit_set, judge(lit_set, toy, detector=toy_loaded))
    found = evaluate(
        "toy", judged.video, track=judged.track, frame=judged.frame, settings=FAST, problems=judged.problems
    )
    assert [level.level for level in found.levels] == ["video", "track", "frame"]
    assert found.main.metrics["auroc"].value == 1
    assert found.coverage.fake["FAILED"] == 1
    assert found.problems[0].kind == "failed"
    assert "broken.mp4" in to_markdown(document(found))
    json.loads(found.model_dump_json())


def test_published_rows_stand_apart_and_name_their_source() -> None:
    auroc = auroc_estimate(np.array([0, 1]), np.array([0.1, 0.9]), np.array([0, 1]), resamples=0, seed=0)
    group = GroupedAuroc(videos=2, fakes=1, reals=1, auroc=auroc)
    numbers = {
        "frames": 2,
        "files": 2,
        "uncovered": 0,
        "frame_eer": 0,
        "frame_average_precision": 1,
        "frame_accuracy": 1,
    }
    row = ProtocolRow(dataset="FaceForensics++ c40", frame_auroc=auroc, merged=group, corrected=group, **numbers)
    other = row.model_copy(update={"dataset": "mine"})
    page = to_markdown(protocol(ProtocolResult(name="DeepfakeBench", rows=[row, other], differences=[])))
    ours, _, theirs = page.partition("Published by others")
    assert "Xception" not in ours
    assert "arXiv:2307.01426" in theirs
    assert "not measured here" in theirs
    assert "| Xception | 0.826 |" in theirs
    assert "mine" not in theirs
