from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from faceproof.evaluation import metrics
from faceproof.evaluation.bootstrap import RANK_METRICS, RankCurve, bootstrap, measure_all, point_metrics

pairs = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 20)), min_size=2, max_size=60).filter(
    lambda rows: len({label for label, _ in rows}) == 2
)


def arrays(rows: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([label for label, _ in rows]), np.array([score / 20 for _, score in rows])


@settings(max_examples=60, deadline=None)
@given(pairs)
def test_values_are_those_of_scikit_learn(rows: list[tuple[int, int]]) -> None:
    label, score = arrays(rows)
    values = point_metrics(label, score, 0.5)
    called = score > 0.5
    assert values["auroc"] == pytest.approx(sk.roc_auc_score(label, score))
    assert values["average_precision"] == pytest.approx(sk.average_precision_score(label, score))
    assert values["accuracy"] == pytest.approx(sk.accuracy_score(label, called))
    assert values["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(label, called))
    assert values["brier"] == pytest.approx(sk.brier_score_loss(label, score))
    assert values["log_loss"] == pytest.approx(sk.log_loss(label, np.clip(score, 1e-7, 1 - 1e-7)))
    assert values["miss_rate"] == pytest.approx(1 - sk.recall_score(label, called))


@settings(max_examples=60, deadline=None)
@given(pairs, st.integers(0, 2**32 - 1))
def test_weighted_rank_metrics_equal_those_of_repeated_rows(rows: list[tuple[int, int]], seed: int) -> None:
    label, score = arrays(rows)
    counts = np.random.default_rng(seed).integers(0, 4, len(label))
    again_label, again_score = np.repeat(label, counts), np.repeat(score, counts)
    curve = RankCurve(label, score)
    measured = curve.measure(counts[curve.order].astype(float))
    if not metrics.has_both(again_label):
        assert np.isnan(measured).all()
        return
    assert curve.auroc(counts[curve.order].astype(float)) == pytest.approx(measured[0])
    plain = point_metrics(again_label, again_score, 0.5)
    assert measured == pytest.approx([plain[name] for name in RANK_METRICS], abs=1e-12)


def test_equal_error_rate_by_hand() -> None:
    # Falling order: fake .9, real .8, fake .7, fake .6, real .3, real .2. After .7 one of three reals is flagged
    # and one of three fakes missed.
    label, score = np.array([1, 0, 1, 1, 0, 0]), np.array([0.9, 0.8, 0.7, 0.6, 0.3, 0.2])
    assert metrics.equal_error_rate(label, score) == pytest.approx(1 / 3)


def test_equal_error_rate_between_two_points_of_the_curve() -> None:
    # One tied block of one fake and one real above the rest: from (0, 0) straight to (1/2, 1/2), then (1/2, 1).
    label, score = np.array([1, 0, 1, 0]), np.array([0.9, 0.9, 0.5, 0.1])
    # On the first stretch false alarms are t/2 and misses 1 - t/2 (never equal); on the upright at 1/2 misses fall
    # from 1/2 to 0, so they meet at 1/2.
    assert metrics.equal_error_rate(label, score) == pytest.approx(0.5)
    # All tied: chance.
    assert metrics.equal_error_rate(label, np.full(4, 0.5)) == pytest.approx(0.5)


def test_true_positives_at_few_false_alarms() -> None:
    score = np.concatenate([np.linspace(0.5, 0.99, 100), np.linspace(0, 0.6, 100)])
    label = np.repeat([1, 0], 100)
    assert metrics.tpr_at_fpr(label, score, 0.0) == pytest.approx(np.mean(score[:100] > 0.6))
    assert metrics.tpr_at_fpr(label, score, 0.01) == pytest.approx(np.mean(score[:100] > score[100:][-2]))


@pytest.mark.parametrize("label", [[1, 1, 1], [0, 0], []])
def test_one_class_gives_no_number(label: list[int]) -> None:
    labels, score = np.array(label, dtype=np.int64), np.linspace(0.1, 0.9, len(label))
    values = point_metrics(labels, score, 0.5)
    assert np.isnan([values[name] for name in RANK_METRICS]).all()
    assert np.isnan(values["balanced_accuracy"])
    measured = measure_all(labels, score, np.arange(len(label)), resamples=20)
    assert measured["auroc"].value is None


def test_calibration_error_by_hand() -> None:
    score, label = np.array([0.05, 0.05, 0.95, 0.95]), np.array([0, 1, 1, 1])
    # Lowest bin: mean score .05 but half are fake; highest: .95 and all are.
    assert metrics.expected_calibration_error(label, score) == pytest.approx(0.5 * 0.45 + 0.5 * 0.05)


def test_always_one_half_is_calibrated_on_an_even_mixture_only() -> None:
    label, score = np.array([1, 1, 1, 0]), np.full(4, 0.5)
    assert metrics.expected_calibration_error(label, score) == pytest.approx(0.25)
    assert metrics.even_calibration_error(label, score) == pytest.approx(0)


def test_refusing_hard_files_cannot_raise_the_coin_toss_auroc() -> None:
    generator = np.random.default_rng(3)
    label = generator.integers(0, 2, 500)
    score = np.clip(0.5 + 0.2 * (label - 0.5) + 0.2 * generator.normal(size=500), 0, 1)
    everything = metrics.auroc(label, score)
    kept = np.abs(score - 0.5) > 0.2
    plain = metrics.auroc(label[kept], score[kept])
    shares = kept[label == 1].mean(), kept[label == 0].mean()
    assert plain > everything > metrics.coin_toss_auroc(plain, *shares)
    assert metrics.coin_toss_auroc(0.9, 0, 1) == 0.5


def test_interval_covers_the_truth_when_rows_of_a_source_move_together() -> None:
    """Resampling rows would claim far too much: here every source's ten frames share one score."""
    truth, inside_grouped, inside_rows = 0.76025, 0, 0  # P(N(1,1) > N(0,1)) = Phi(1 / sqrt(2))
    for seed in range(60):
        generator = np.random.default_rng(seed)
        of_source = generator.integers(0, 2, 60)
        score = np.repeat(1 / (1 + np.exp(-(of_source + generator.normal(size=60)))), 10)
        label, source = np.repeat(of_source, 10), np.repeat(np.arange(60), 10)
        grouped = np.percentile(bootstrap(label, score, source, resamples=200, seed=seed)[0][:, 0], [2.5, 97.5])
        rows = np.percentile(bootstrap(label, score, np.arange(600), resamples=200, seed=seed)[0][:, 0], [2.5, 97.5])
        inside_grouped += grouped[0] <= truth <= grouped[1]
        inside_rows += rows[0] <= truth <= rows[1]
    assert inside_grouped >= 52
    assert inside_rows <= 40


def test_same_seed_same_interval() -> None:
    generator = np.random.default_rng(0)
    label, score = generator.integers(0, 2, 200), generator.random(200)
    first = measure_all(label, score, np.arange(200) // 4, resamples=50, seed=7)
    assert first == measure_all(label, score, np.arange(200) // 4, resamples=50, seed=7)
    assert first != measure_all(label, score, np.arange(200) // 4, resamples=50, seed=8)


def test_intervals_hold_their_values_and_one_group_has_none() -> None:
    generator = np.random.default_rng(1)
    label = generator.integers(0, 2, 300)
    score = np.clip(0.5 + 0.3 * (label - 0.5) + 0.2 * generator.normal(size=300), 0, 1)
    for name, found in measure_all(label, score, np.arange(300), resamples=300).items():
        assert found.value is not None
        assert found.low is not None
        assert found.high is not None
        assert found.low <= found.value <= found.high, name
    alone = measure_all(label, score, np.zeros(300, dtype=np.int64), resamples=50)
    assert alone["auroc"].low is None


def test_no_false_alarm_among_ten_is_not_never() -> None:
    label = np.repeat([0, 1], 10)
    measured = measure_all(label, np.where(label, 0.9, 0.1), np.arange(20), resamples=50)
    assert (measured["false_alarm_rate"].low, measured["false_alarm_rate"].high) == (0, pytest.approx(0.3))
    always = measure_all(label, np.full(20, 0.9), np.arange(20), resamples=50)["false_alarm_rate"]
    assert (always.low, always.high) == (pytest.approx(0.7), 1)
