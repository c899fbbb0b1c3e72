"""What is measured, each as a function of labels (int, 1 fake) and scores (P(fake) in [0, 1]), both of length N.

Scikit-learn computes wherever it has the metric. A metric that the data cannot give (one class only, no row) is
NaN, never a number that looks like one. :mod:`faceproof.evaluation.bootstrap` computes the same metrics under row
weights; a test holds the two equal.
"""

from __future__ import annotations

from typing import cast

import numpy as np
from sklearn import metrics as sk

from faceproof.evaluation.scores import FloatArray, IntArray

RELIABILITY_BINS = 15


def auroc(label: IntArray, score: FloatArray) -> float:
    """Probability that a fake scores above a real one, ties counting half."""
    return float(sk.roc_auc_score(label, score)) if has_both(label) else np.nan


def average_precision(label: IntArray, score: FloatArray) -> float:
    """Mean precision over recall, without interpolation. What chance gets is the share of fakes, not one half."""
    return float(sk.average_precision_score(label, score)) if has_both(label) else np.nan


def roc(label: IntArray, score: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """False-positive rates, true-positive rates and the thresholds they hold at (score ≥ threshold), rising from (0, 0)."""
    fpr, tpr, thresholds = sk.roc_curve(label, score, drop_intermediate=False)
    return cast(FloatArray, fpr), cast(FloatArray, tpr), cast(FloatArray, thresholds)


def equal_error_rate(label: IntArray, score: FloatArray) -> float:
    """Where false alarms and misses are equal, on the straight lines between the curve's points."""
    if not has_both(label):
        return np.nan
    fpr, tpr, _ = roc(label, score)
    return crossing(fpr, 1 - tpr)


def crossing(fpr: FloatArray, fnr: FloatArray) -> float:
    """Rate at which the rising ``fpr`` meets the falling ``fnr``. Both start at a curve's strict end: fpr 0, fnr 1."""
    after = int(np.argmax(fpr >= fnr))
    if after == 0 or fpr[after] == fnr[after]:
        return float(fpr[after])
    gap_before, gap_after = fnr[after - 1] - fpr[after - 1], fpr[after] - fnr[after]
    share = gap_before / (gap_before + gap_after)
    return float(fpr[after - 1] + share * (fpr[after] - fpr[after - 1]))


def tpr_at_fpr(label: IntArray, score: FloatArray, limit: float) -> float:
    """Highest share of fakes caught by any threshold that flags at most ``limit`` of the reals."""
    if not has_both(label):
        return np.nan
    fpr, tpr, _ = roc(label, score)
    return float(tpr[fpr <= limit].max())


def accuracy(label: IntArray, score: FloatArray, threshold: float) -> float:
    """Share of rows on the right side of ``threshold`` (above it is called fake, as in a spec without a band)."""
    return float(sk.accuracy_score(label, score > threshold)) if len(label) else np.nan


def balanced_accuracy(label: IntArray, score: FloatArray, threshold: float) -> float:
    """Mean of the shares of fakes and of reals judged right: one half for "always fake", whatever the mixture."""
    return float(sk.balanced_accuracy_score(label, score > threshold)) if has_both(label) else np.nan


def false_alarm_rate(label: IntArray, score: FloatArray, threshold: float) -> float:
    """Share of the reals called fake."""
    reals = label == 0
    return float(np.mean(score[reals] > threshold)) if reals.any() else np.nan


def miss_rate(label: IntArray, score: FloatArray, threshold: float) -> float:
    """Share of the fakes called real."""
    fakes = label == 1
    return float(np.mean(score[fakes] <= threshold)) if fakes.any() else np.nan


def log_loss(label: IntArray, score: FloatArray) -> float:
    """Mean negative log-likelihood in nats. Scores are kept 1e-7 away from 0 and 1."""
    return float(sk.log_loss(label, np.clip(score, 1e-7, 1 - 1e-7), labels=[0, 1])) if len(label) else np.nan


def brier(label: IntArray, score: FloatArray) -> float:
    """Mean squared distance between score and label."""
    return float(np.mean((score - label) ** 2)) if len(label) else np.nan


def reliability(
    label: IntArray, score: FloatArray, bins: int = RELIABILITY_BINS
) -> tuple[IntArray, FloatArray, FloatArray]:
    """Per equal-width bin of the score: rows, mean score, share of fakes (NaN in empty bins); each of length ``bins``."""
    place = reliability_bin(score, bins)
    rows = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        mean = np.bincount(place, weights=score, minlength=bins) / rows
        fakes = np.bincount(place, weights=label, minlength=bins) / rows
    return rows.astype(np.int64), mean, fakes


def reliability_bin(score: FloatArray, bins: int = RELIABILITY_BINS) -> IntArray:
    """The equal-width bin of each score, 0 to ``bins`` - 1."""
    return np.minimum((score * bins).astype(np.int64), bins - 1)


def expected_calibration_error(label: IntArray, score: FloatArray, bins: int = RELIABILITY_BINS) -> float:
    """Mean distance between score and share of fakes over equal-width bins, weighted by rows (Guo et al., ICML 2017)."""
    if len(label) == 0:
        return np.nan
    rows, mean, fakes = reliability(label, score, bins)
    full = rows > 0
    return float(np.sum(rows[full] * np.abs(mean[full] - fakes[full])) / rows.sum())


def even_calibration_error(label: IntArray, score: FloatArray, bins: int = RELIABILITY_BINS) -> float:
    """:func:`expected_calibration_error` with each class given half the weight: what calibration is worth apart from
    how many fakes this set happens to hold."""
    if not has_both(label):
        return np.nan
    place, off = reliability_bin(score, bins), score - label
    sums = [
        np.bincount(place[label == c], weights=off[label == c], minlength=bins) / np.sum(label == c) for c in (0, 1)
    ]
    return float(np.abs(sums[0] + sums[1]).sum() / 2)


def coin_toss_auroc(value: float, fakes_scored: float, reals_scored: float) -> float:
    """AUROC over all files when every pair with an unscored file counts as a coin toss.

    ``fakes_scored`` and ``reals_scored`` are the shares of each class that have a score. Refusing the hard files
    can raise the plain AUROC; it cannot raise this one.
    """
    pairs = fakes_scored * reals_scored
    return 0.5 if pairs == 0 else value * pairs + 0.5 * (1 - pairs)


def has_both(label: IntArray) -> bool:
    """Whether both classes occur."""
    return bool(np.any(label == 1) and np.any(label == 0))
