"""Intervals by resampling source videos, not rows: frames of one video, and forgeries of one original, fall together.

Resampling groups only changes how often each row counts, so nothing is ever copied or sorted twice: scores are
sorted once, and a resample is a vector of weights whose running sums give every rank metric in O(N).
Percentile intervals (Efron and Tibshirani 1993, ch. 13), resampled by cluster (Field and Welsh 2007).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from pydantic import BaseModel, ConfigDict
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from faceproof.evaluation import metrics
from faceproof.evaluation.scores import FloatArray, IntArray

RANK_METRICS = ("auroc", "average_precision", "eer", "tpr_at_fpr_1", "tpr_at_fpr_0.1")


class Estimate(BaseModel):
    """A measured value and its 95 % interval. ``None`` where the data cannot give it; ``undefined`` counts the
    resamples in which it could not be computed (one class only)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    value: float | None = None
    low: float | None = None
    high: float | None = None
    undefined: int = 0

    def __str__(self) -> str:
        if self.value is None:
            return "not defined"
        if self.low is None or self.high is None:
            return f"{self.value:.3f}"
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def estimate(value: float, draws: FloatArray | None, level: float = 0.95) -> Estimate:
    """An :class:`Estimate` from a value and its bootstrap ``draws`` (NaN where undefined)."""
    if not np.isfinite(value):
        return Estimate()
    if draws is None:
        return Estimate(value=float(value))
    known = draws[np.isfinite(draws)]
    undefined = len(draws) - len(known)
    if len(known) < 2:
        return Estimate(value=float(value), undefined=undefined)
    low, high = np.percentile(known, [50 * (1 - level), 50 * (1 + level)])
    return Estimate(value=float(value), low=float(low), high=float(high), undefined=undefined)


class RankCurve:
    """Labels and scores sorted once, for rank metrics under any whole-number row weights.

    ``order`` (int64 [N]) is the ranking, most suspicious first; weights are given in that order.
    """

    def __init__(self, label: IntArray, score: FloatArray) -> None:
        self.order = np.argsort(-score, kind="stable")
        self._fake = label[self.order].astype(np.float64)
        ranked = score[self.order]
        # A threshold can only fall between different scores, so tied rows are summed before anything else.
        starts = np.flatnonzero(np.append(True, ranked[1:] != ranked[:-1])) if len(ranked) else np.zeros(0, int)
        self._blocks = None if len(starts) == len(ranked) else starts

    def measure(self, weight: FloatArray) -> FloatArray:
        """:data:`RANK_METRICS` with each ranked row counted ``weight`` times, float64 ``[5]``; NaN without both
        classes."""
        weight, hits = self._tied(weight)
        true, flagged = np.cumsum(hits), np.cumsum(weight)
        false = flagged - true
        if len(true) == 0 or true[-1] <= 0 or false[-1] <= 0:
            return np.full(len(RANK_METRICS), np.nan)
        fakes, reals = float(true[-1]), float(false[-1])
        area = np.dot(weight - hits, true - hits / 2) / (fakes * reals)
        precision = np.dot(hits, true / np.maximum(flagged, 1)) / fakes
        caught = []
        for limit in (0.01, 0.001):
            last = int(np.searchsorted(false, limit * reals * (1 + 1e-12), side="right")) - 1
            caught.append(true[last] / fakes if last >= 0 else 0.0)
        return np.array([area, precision, _equal_error(true / fakes, false / reals), *caught])

    def auroc(self, weight: FloatArray) -> float:
        """The AUROC alone, at a third of the cost of :meth:`measure`."""
        weight, hits = self._tied(weight)
        true, misses = np.cumsum(hits), weight - hits
        pairs = float(true[-1]) * float(misses.sum()) if len(true) else 0.0
        return float(np.dot(misses, true - hits / 2)) / pairs if pairs > 0 else np.nan

    def _tied(self, weight: FloatArray) -> tuple[FloatArray, FloatArray]:
        hits = weight * self._fake
        if self._blocks is None:
            return weight, hits
        return np.add.reduceat(weight, self._blocks), np.add.reduceat(hits, self._blocks)


def _equal_error(tpr: FloatArray, fpr: FloatArray) -> float:
    return metrics.crossing(np.append(0.0, fpr), np.append(1.0, 1 - tpr))


def resample_counts(groups: int, resamples: int, seed: int) -> Iterator[FloatArray]:
    """How often each of ``groups`` is drawn, float64 ``[groups]`` per resample; the same for the same seed."""
    generator = np.random.default_rng(seed)
    for _ in range(resamples):
        drawn = generator.integers(0, groups, groups, dtype=np.int32)
        yield np.bincount(drawn, minlength=groups).astype(np.float64)


def bootstrap(
    label: IntArray,
    score: FloatArray,
    group: IntArray,
    sums: FloatArray | None = None,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[FloatArray, FloatArray]:
    """Resample groups: :data:`RANK_METRICS` of every resample, float64 ``[resamples, 5]``, and in the same resamples
    the column sums of the rows ``sums`` ``[N, K]``, float64 ``[resamples, K]``.

    Any ratio of sums (an accuracy, a rate, a mean loss) follows from the latter.
    """
    curve = RankCurve(label, score)
    codes, size = _number_in_order(group, curve.order)
    ranked = codes[curve.order]
    columns = np.zeros((len(label), 0)) if sums is None else sums
    totals = np.zeros((size, columns.shape[1]))
    for column in range(columns.shape[1]):
        totals[:, column] = np.bincount(codes, weights=columns[:, column], minlength=size)
    ranks = np.empty((resamples, len(RANK_METRICS)))
    drawn = np.empty((resamples, columns.shape[1]))
    # The products are short: BLAS threads cost more than they save, and spin against whatever else is running.
    with threadpool_limits(limits=1, user_api="blas"):
        for row, counts in enumerate(resample_counts(size, resamples, seed)):
            ranks[row] = curve.measure(counts[ranked])
            drawn[row] = counts @ totals
    return ranks, drawn


def auroc_estimate(
    label: IntArray, score: FloatArray, group: IntArray, *, resamples: int = 1000, seed: int = 0
) -> Estimate:
    """AUROC with its grouped interval; without an interval where fewer than two groups can be resampled."""
    value = metrics.auroc(label, score)
    if resamples == 0 or len(np.unique(group)) < 2:
        return estimate(value, None)
    curve = RankCurve(label, score)
    codes, size = _number_in_order(group, curve.order)
    ranked = codes[curve.order]
    with threadpool_limits(limits=1, user_api="blas"):
        draws = [curve.auroc(counts[ranked]) for counts in resample_counts(size, resamples, seed)]
    return estimate(value, np.array(draws))


def _number_in_order(group: IntArray, order: IntArray) -> tuple[IntArray, int]:
    """Groups renumbered by their first row in ``order``, so that reading their counts walks through memory once."""
    values, first, codes = np.unique(group[order], return_index=True, return_inverse=True)
    rank = np.empty(len(values), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(values))
    numbered = np.empty(len(group), dtype=np.int64)
    numbered[order] = rank[codes]
    return numbered, len(values)


def measure_all(
    label: IntArray,
    score: FloatArray,
    group: IntArray,
    *,
    threshold: float = 0.5,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Estimate]:
    """Every metric with its grouped interval, by name. ``score`` has no NaN; ``resamples=0`` leaves intervals out.

    With fewer than two groups there is nothing to resample, and no interval is given.
    """
    values = point_metrics(label, score, threshold)
    if resamples == 0 or len(np.unique(group)) < 2:
        return {name: estimate(value, None) for name, value in values.items()}
    rows = _summable(label, score, threshold)
    ranks, sums = bootstrap(label, score, group, rows, resamples=resamples, seed=seed)
    draws: dict[str, FloatArray] = {name: ranks[:, column] for column, name in enumerate(RANK_METRICS)}
    draws |= _ratios(sums)
    for name in ("ece", "ece_even"):
        # A mean of distances only grows with the noise of a resample: that bias is taken out, the spread is kept.
        known = draws[name][np.isfinite(draws[name])]
        draws[name] = np.maximum(draws[name] + (values[name] - known.mean() if len(known) else 0.0), 0)
    found = {name: estimate(value, draws[name]) for name, value in values.items()}
    for name, kind in (("false_alarm_rate", 0), ("miss_rate", 1)):
        found[name] = _never_or_always(found[name], len(np.unique(group[label == kind])))
    return found


def _never_or_always(rate: Estimate, sources: int) -> Estimate:
    """A rate of 0 or 1 has no spread to resample; the rule of three bounds it (Hanley and Lippman-Hand 1983)."""
    if rate.low is None or rate.low != rate.high or rate.value not in (0.0, 1.0):
        return rate
    reach = min(1.0, 3 / max(1, sources))
    ends = {"low": 0.0, "high": reach} if rate.value == 0.0 else {"low": 1 - reach, "high": 1.0}
    return rate.model_copy(update=ends)


def point_metrics(label: IntArray, score: FloatArray, threshold: float) -> dict[str, float]:
    """Every metric's value, by name; NaN where it is not defined."""
    return {
        "auroc": metrics.auroc(label, score),
        "average_precision": metrics.average_precision(label, score),
        "eer": metrics.equal_error_rate(label, score),
        "tpr_at_fpr_1": metrics.tpr_at_fpr(label, score, 0.01),
        "tpr_at_fpr_0.1": metrics.tpr_at_fpr(label, score, 0.001),
        "accuracy": metrics.accuracy(label, score, threshold),
        "balanced_accuracy": metrics.balanced_accuracy(label, score, threshold),
        "false_alarm_rate": metrics.false_alarm_rate(label, score, threshold),
        "miss_rate": metrics.miss_rate(label, score, threshold),
        "log_loss": metrics.log_loss(label, score),
        "brier": metrics.brier(label, score),
        "ece": metrics.expected_calibration_error(label, score),
        "ece_even": metrics.even_calibration_error(label, score),
    }


def _summable(label: IntArray, score: FloatArray, threshold: float) -> FloatArray:
    """What each row adds to the sums that :func:`_ratios` divides, float64 ``[N, 6 + 2 × bins]``."""
    fake, flagged = label == 1, score > threshold
    clipped = np.clip(score, 1e-7, 1 - 1e-7)
    bins = metrics.RELIABILITY_BINS
    rows = np.zeros((len(label), 6 + 2 * bins))
    rows[:, 0], rows[:, 1] = fake, ~fake
    rows[:, 2], rows[:, 3] = fake & ~flagged, ~fake & flagged
    rows[:, 4] = -np.log(np.where(fake, clipped, 1 - clipped))
    rows[:, 5] = (score - label) ** 2
    rows[np.arange(len(label)), 6 + np.where(fake, 0, bins) + metrics.reliability_bin(score)] = score - label
    return rows


def _ratios(sums: FloatArray) -> dict[str, FloatArray]:
    fakes, reals, missed, alarmed, nats, squares = sums[:, :6].T
    total = fakes + reals
    of_fakes, of_reals = np.split(sums[:, 6:], 2, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        misses, alarms = missed / fakes, alarmed / reals
        return {
            "accuracy": 1 - (missed + alarmed) / total,
            "balanced_accuracy": 1 - (misses + alarms) / 2,
            "false_alarm_rate": alarms,
            "miss_rate": misses,
            "log_loss": nats / total,
            "brier": squares / total,
            "ece": np.abs(of_fakes + of_reals).sum(axis=1) / total,
            "ece_even": np.abs((of_fakes.T / fakes + of_reals.T / reals) / 2).sum(axis=0),
        }
