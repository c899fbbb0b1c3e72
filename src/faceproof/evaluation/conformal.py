"""Bands of scores in which the detector had better say nothing.

Split conformal prediction (Vovk et al. 2005; Lei et al. 2018): if a new real file is exchangeable with the
calibration set's, it is called FAKE with probability at most the rate the user chose, whatever the detector and
whatever the distribution. Files of one source video are not exchangeable with each other's absence, so each source
counts once, its files sharing the weight (Lee, Barber and Willett 2023, "Distribution-free inference with
hierarchical data").
"""

from __future__ import annotations

import math

import numpy as np
from pydantic import BaseModel, ConfigDict
from scipy import stats

from faceproof.detectors.spec import VerdictRule
from faceproof.errors import EvaluationError
from faceproof.evaluation.metrics import has_both
from faceproof.evaluation.scores import FloatArray, IntArray, ScoreTable


class Band(BaseModel):
    """Scores at or above ``high`` are FAKE, at or below ``low`` REAL, and between them INCONCLUSIVE.

    ``false_alarms`` and ``misses`` are the rates promised. A rate too strict for the number of source videos cannot be
    promised: then ``enough_reals`` or ``enough_fakes`` is False, the band reaches to the end of the scale, and only a
    score of exactly 1 or 0 is decided there. ``inconclusive`` is the share of the calibration files inside.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    low: float
    high: float
    threshold: float
    false_alarms: float
    misses: float
    real_sources: int
    fake_sources: int
    enough_reals: bool
    enough_fakes: bool
    inconclusive: float

    def rule(self, rule: VerdictRule) -> VerdictRule:
        """``rule`` with this band and threshold."""
        return rule.model_copy(update={"threshold": self.threshold, "band": (self.low, self.high)})


def fit_band(table: ScoreTable, *, max_false_alarms: float, max_misses: float | None = None) -> Band:
    """The band for which at most ``max_false_alarms`` of new reals are called FAKE and at most ``max_misses`` (by
    default the same) of new fakes REAL.

    ``table`` holds one calibrated row a file. Raises :class:`EvaluationError` for a rate outside (0, 1) or one class.
    """
    misses = max_false_alarms if max_misses is None else max_misses
    for rate in (max_false_alarms, misses):
        if not 0 < rate < 1:
            raise EvaluationError(f"a rate of {rate:g} cannot be promised", remedy="Choose one above 0 and below 1.")
    seen = table.select(table.scored)
    label, score, group = seen.label, seen.score, seen.groups()
    if not has_both(label):
        raise EvaluationError("a band needs scored fakes and scored reals", remedy="Give a set that holds both.")
    reals, fakes = label == 0, label == 1
    high = upper_bound(score[reals], group[reals], max_false_alarms)
    low = -upper_bound(-score[fakes], group[fakes], misses)
    enough_reals, enough_fakes = math.isfinite(high), math.isfinite(low)
    # The rule calls FAKE at the bound itself, the promise is for scores beyond it: one float further keeps it.
    high = min(float(np.nextafter(high, math.inf)), 1.0) if enough_reals else 1.0
    low = max(float(np.nextafter(low, -math.inf)), 0.0) if enough_fakes else 0.0
    if low >= high:
        # The classes are so far apart that both promises hold at any threshold between the bounds.
        low = high = (low + high) / 2
    return Band(
        low=low,
        high=high,
        threshold=(low + high) / 2,
        false_alarms=max_false_alarms,
        misses=misses,
        real_sources=len(np.unique(group[reals])),
        fake_sources=len(np.unique(group[fakes])),
        enough_reals=enough_reals,
        enough_fakes=enough_fakes,
        inconclusive=float(np.mean((score > low) & (score < high))),
    )


def upper_bound(score: FloatArray, group: IntArray, rate: float) -> float:
    """Smallest score that a new member's exceeds with probability at most ``rate``; infinity when there is none.

    Each of K groups weighs 1 / (K + 1), shared by its rows; the rest stands at infinity for the new group.
    """
    _, codes, sizes = np.unique(group, return_inverse=True, return_counts=True)
    weight = 1 / ((len(sizes) + 1) * sizes[codes])
    order = np.argsort(score, kind="stable")
    reached = np.cumsum(weight[order])
    enough = np.flatnonzero(reached >= 1 - rate - 1e-12)
    return float(score[order][enough[0]]) if len(enough) else math.inf


def beyond_chance(count: int, trials: int, rate: float) -> bool:
    """Whether ``count`` of ``trials`` is more than a rate of at most ``rate`` would give, at a level of 5 % (exact
    binomial test, one-sided)."""
    return bool(trials) and float(stats.binomtest(count, trials, rate, alternative="greater").pvalue) < 0.05


def sources_needed(rate: float) -> int:
    """How many source videos of a class a promise of ``rate`` needs at least."""
    return math.ceil(1 / rate - 1 - 1e-9)
