"""Every detector of bad science, each on a planted case and on a sound one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from faceproof.evaluation.bootstrap import auroc_estimate
from faceproof.evaluation.claims import Claim, ClassRow, check_claim, least_auroc_for_accuracy, read_claim
from faceproof.evaluation.duplicates import find_duplicates, near_duplicates, perceptual_hash
from faceproof.evaluation.manifest import Entry, Manifest
from faceproof.evaluation.scores import ScoreTable
from faceproof.evaluation.soundness import Finding, inspect, leakage, threshold_from_test
from tests.evaluation.tables import gaussian_table


def codes(findings: list[Finding]) -> set[str]:
    return {finding.code for finding in findings}


def test_a_sound_evaluation_is_left_in_peace() -> None:
    assert codes(inspect(gaussian_table(0, 3000, apart=2))) == set()


def test_inverted_polarity() -> None:
    table = gaussian_table(0, 400, apart=-2)
    (found,) = [finding for finding in inspect(table) if finding.code == "inverted_polarity"]
    assert found.severity == "error"
    assert found.numbers["high"] < 0.5


def test_one_inverted_dataset_among_sound_ones() -> None:
    sound, inverted = gaussian_table(0, 600, apart=3), gaussian_table(1, 200, apart=-3)
    table = ScoreTable.of(
        [f"{row}" for row in range(800)],
        np.concatenate([sound.label, inverted.label]),
        np.concatenate([sound.score, inverted.score]),
        dataset=["A"] * 600 + ["B"] * 200,
        source_video=[str(row) for row in range(800)],
    )
    found = {finding.code: finding for finding in inspect(table)}
    assert "inverted_polarity" not in found
    assert "On B" in found["inverted_dataset"].message


def test_shuffled_predictions() -> None:
    generator = np.random.default_rng(0)
    label = (generator.random(1000) < 0.85).astype(np.int64)
    sure = np.where(label == 1, 0.98, 0.03) + generator.uniform(-0.02, 0.02, 1000)
    order = generator.permutation(1000)
    paths, sources = [f"{row}" for row in range(1000)], [f"{row}" for row in range(1000)]
    shuffled = ScoreTable.of(paths, label, sure[order], source_video=sources)
    assert "shuffled_labels" in codes(inspect(shuffled))
    assert "shuffled_labels" not in codes(inspect(ScoreTable.of(paths, label, sure, source_video=sources)))
    # A detector that has learnt nothing is not accused of it.
    unsure = ScoreTable.of(paths, label, np.clip(0.6 + 0.1 * generator.normal(size=1000), 0, 1), source_video=sources)
    assert "shuffled_labels" not in codes(inspect(unsure))


def test_verdicts_right_and_scores_at_chance() -> None:
    generator = np.random.default_rng(0)
    label = generator.integers(0, 2, 300)
    verdict = np.where(label == 1, "FAKE", "REAL")
    table = ScoreTable.of([f"{row}" for row in range(300)], label, generator.random(300), verdict=verdict)
    found = {finding.code: finding for finding in inspect(table)}
    assert found["verdicts_against_scores"].numbers["least_auroc"] == 1


def test_below_majority() -> None:
    table = gaussian_table(0, 500, apart=0.2, share_of_fakes=0.9)
    assert "below_majority" in codes(inspect(table))
    assert "below_majority" not in codes(inspect(gaussian_table(0, 500, apart=3, share_of_fakes=0.5)))


def test_threshold_chosen_on_the_test_set() -> None:
    table = gaussian_table(0, 400, apart=1)
    cuts = np.unique(table.score)
    accuracy = [np.mean((table.score > cut) == table.label) for cut in cuts]
    best = float(cuts[int(np.argmax(accuracy))])
    (found,) = threshold_from_test(table.label, table.score, best, "given")
    assert "best for accuracy" in found.message
    assert threshold_from_test(table.label, table.score, 0.5, "the detector's spec") == []
    (declared,) = threshold_from_test(table.label, table.score, 0.5, "test")
    assert declared.severity == "error"


def test_leakage_of_sources_and_of_people() -> None:
    split = np.array(["train", "train", "test", "test"], dtype=object)
    source = np.array(["a", "b", "b", "c"], dtype=object)
    identity = np.array(["ann", "bob+eve", "dan", "eve+ann"], dtype=object)
    found = {finding.code: finding for finding in leakage(split, source, identity)}
    assert "(b)" in found["leaked_source"].message
    assert found["leaked_identity"].numbers["shared"] == 2
    nothing = np.array([""] * 4, dtype=object)
    assert leakage(nothing, source, identity) == []
    assert leakage(split, np.array(["a", "a", "b", "c"], dtype=object), nothing) == []


def test_datasets_that_number_their_clips_alike_share_nothing() -> None:
    columns = {"source_video": ["000", "000"], "identity": ["id0", "id0"], "split": ["train", "test"]}
    for datasets, leaks in (
        (["DFD", "UADFV"], set()),
        (["Celeb-DF v1", "Celeb-DF v2"], {"leaked_source", "leaked_identity"}),
    ):
        table = ScoreTable.of(["a", "b"], [0, 1], [0.1, 0.9], dataset=datasets, **columns)
        assert {code for code in codes(inspect(table)) if code.startswith("leaked")} == leaks


def test_too_few_videos_for_the_claim() -> None:
    found = {finding.code: finding for finding in inspect(gaussian_table(0, 24, apart=1))}
    assert {"too_few_videos", "too_few_reals"} <= set(found)
    assert "at least 100 independent real videos" in found["too_few_reals"].message


def test_many_frames_of_few_videos_are_few() -> None:
    of_video = np.array([0.2, 0.7, 0.4, 0.3, 0.6, 0.8, 0.5, 0.9])
    label, score = np.repeat([0, 0, 0, 0, 1, 1, 1, 1], 250), np.repeat(of_video, 250)
    names = [f"{row}" for row in range(2000)]
    apart = ScoreTable.of(names, label, score, source_video=[str(row) for row in range(2000)])
    together = ScoreTable.of(names, label, score, source_video=[str(row // 250) for row in range(2000)])
    assert "too_few_videos" not in codes(inspect(apart))
    assert "too_few_videos" in codes(inspect(together))


def test_perfect_separation_of_few_is_not_certainty() -> None:
    label = np.repeat([0, 1], 10)
    table = ScoreTable.of(
        [f"{row}" for row in range(20)], label, 0.1 + 0.8 * label, source_video=[f"{r}" for r in range(20)]
    )
    found = {finding.code: finding for finding in inspect(table)}
    assert "30%" in found["interval_without_width"].message


def test_lifeless_scores_of_weights_that_were_not_loaded() -> None:
    generator = np.random.default_rng(0)
    score = generator.uniform(0.3, 0.45, 200)
    table = ScoreTable.of([f"{row}" for row in range(200)], generator.integers(0, 2, 200), score)
    assert "lifeless_scores" in codes(inspect(table))


def test_uneven_coverage() -> None:
    table = gaussian_table(0, 400, apart=1)
    refused = (table.label == 1) & (np.arange(400) % 2 == 0)
    table.score[refused] = np.nan
    found = {finding.code: finding for finding in inspect(table)}
    assert "of the reals were scored" in found["uneven_coverage"].message


def test_a_fact_of_the_file_that_gives_the_label_away() -> None:
    table = gaussian_table(0, 400, apart=0.5)
    bit_rate = np.where(table.label == 1, 1e6, 2e6) + np.random.default_rng(0).normal(size=400) * 2e5
    given = ScoreTable.of(
        table.path, table.label, table.score, source_video=table.source_video, quality={"bit_rate": bit_rate}
    )
    found = {finding.code: finding for finding in inspect(given)}
    assert "more than the detector reaches" in found["shortcut"].message


def test_unknown_sources_are_said() -> None:
    table = ScoreTable.of([f"{row}" for row in range(100)], np.arange(100) % 2, np.linspace(0, 1, 100))
    assert "unknown_sources" in codes(inspect(table))


def test_a_number_saved_is_the_number_used() -> None:
    table = gaussian_table(0, 400, apart=-2)
    area = auroc_estimate(table.label, table.score, table.groups(), resamples=100)
    assert str(area) in inspect(table, auroc=area)[0].message


# A published model card reports accuracy 99.37 % beside AUC 0.4695; this is its table, typed in.
DOCUMENT_002 = Claim(
    name="Keras EfficientNet-B4 model card",
    accuracy=0.9937,
    auroc=0.4695,
    fake=ClassRow(precision=0.85, recall=0.85, f1=0.85, support=2025),
    real=ClassRow(precision=0.14, recall=0.14, f1=0.14, support=360),
)


def test_the_impossible_table_is_flagged_with_the_reason() -> None:
    found = {finding.code: finding for finding in check_claim(DOCUMENT_002)}
    assert {"accuracy_against_auroc", "accuracy_against_recall", "shuffled_labels", "worse_than_chance"} <= set(found)
    assert found["accuracy_against_auroc"].numbers["least_auroc"] == pytest.approx(0.93, abs=0.01)
    assert "shuffled predictions" in found["accuracy_against_auroc"].message
    # 2025/2385 and 360/2385 are the precisions and recalls of the table; .744 is the weighted average it prints as .74.
    assert found["shuffled_labels"].numbers["fakes"] == pytest.approx(0.849, abs=1e-3)
    assert found["shuffled_labels"].numbers["chance_agreement"] == pytest.approx(0.744, abs=2e-3)
    assert found["accuracy_against_recall"].numbers["implied"] == pytest.approx(0.743, abs=1e-3)
    assert "below_majority" in found


def test_a_small_table_is_called_small_not_shuffled() -> None:
    row = ClassRow(recall=0.7, support=10)
    (found,) = check_claim(Claim(fake=row, real=row))
    assert (found.code, found.severity) == ("too_few_files", "warning")
    assert (
        check_claim(Claim(fake=row.model_copy(update={"support": 100}), real=row.model_copy(update={"support": 100})))
        == []
    )


def test_a_possible_table_passes() -> None:
    claim = Claim(
        accuracy=0.8,
        auroc=0.87,
        fake=ClassRow(precision=0.8, recall=0.8, f1=0.8, support=1000),
        real=ClassRow(precision=0.8, recall=0.8, f1=0.8, support=1000),
        videos=2000,
        split_by="identity",
        threshold_chosen_on="calibration",
        selected_on="validation",
    )
    assert check_claim(claim) == []


def test_smallest_auroc_for_an_accuracy() -> None:
    assert least_auroc_for_accuracy(1, 0.3) == pytest.approx(1)
    assert least_auroc_for_accuracy(0.75, 0.5) == pytest.approx(0.5)
    # Below the majority any AUROC will do.
    assert least_auroc_for_accuracy(0.8, 0.85) == 0


@pytest.mark.parametrize("seed", range(20))
def test_no_real_predictions_break_the_bound(seed: int) -> None:
    from faceproof.evaluation import metrics

    generator = np.random.default_rng(seed)
    label = (generator.random(50) < generator.uniform(0.2, 0.8)).astype(np.int64)
    score = generator.random(50) * (1 + label * generator.random())
    score /= score.max()
    threshold = generator.random()
    least = least_auroc_for_accuracy(metrics.accuracy(label, score, threshold), float(label.mean()))
    assert metrics.auroc(label, score) >= least - 1e-9


def test_bad_practice_in_a_claim(tmp_path: Path) -> None:
    path = tmp_path / "claim.toml"
    path.write_text(
        'accuracy = 0.96\nvideos = 40\nsplit_by = "random"\nthreshold_chosen_on = "test"\nselected_on = "test"\n'
        "[fake]\nprecision = 0.9\nrecall = 0.5\nf1 = 0.9\n"
    )
    found = codes(check_claim(read_claim(path)))
    assert found == {"leaked_source", "threshold_from_test", "selected_on_test", "too_few_videos", "f1_against_parts"}


def picture(seed: int) -> np.ndarray:
    import cv2

    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    return cv2.resize(coarse, (160, 120), interpolation=cv2.INTER_CUBIC)


def test_perceptual_hash_survives_compression_and_tells_scenes_apart() -> None:
    import cv2

    image = picture(0)
    _, jpeg = cv2.imencode(".jpg", cv2.resize(image, (80, 60)), [cv2.IMWRITE_JPEG_QUALITY, 40])
    again = cv2.imdecode(jpeg, cv2.IMREAD_COLOR)
    assert (perceptual_hash(image) ^ perceptual_hash(again)).bit_count() <= 4
    apart = [(perceptual_hash(image) ^ perceptual_hash(picture(seed))).bit_count() for seed in range(1, 20)]
    assert min(apart) > 10


def test_near_duplicates_across_blocks() -> None:
    values = np.random.default_rng(0).integers(0, 2**63, 5000).tolist()
    values[4990] = values[3] ^ 0b101
    (pair,) = near_duplicates(values, list(range(5000)))
    assert (pair.first, pair.second, pair.distance) == (3, 4990, 2)


def test_one_scene_on_both_sides_of_a_split(tmp_path: Path) -> None:
    import cv2

    entries = []
    for number, (seed, split, quality) in enumerate(
        [(0, "train", 95), (1, "train", 95), (0, "test", 50), (2, "test", 95)]
    ):
        path = tmp_path / f"{number}.jpg"
        cv2.imwrite(str(path), picture(seed), [cv2.IMWRITE_JPEG_QUALITY, quality])
        entries.append(Entry(path, number % 2, "made", source_video=str(number), split=split))
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    entries.append(Entry(tmp_path / "broken.jpg", 0))
    findings, problems = find_duplicates(Manifest(tuple(entries), tmp_path))
    (found,) = findings
    assert (found.code, found.numbers["pairs"]) == ("duplicate_across_splits", 1)
    assert "0.jpg and 2.jpg" in found.message
    assert problems["failed"] == 1
