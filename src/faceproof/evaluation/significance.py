"""Whether one detector really is better than another on the same files."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel, ConfigDict
from scipy import stats
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from faceproof.errors import EvaluationError
from faceproof.evaluation.bootstrap import Estimate, RankCurve, auroc_estimate, estimate, resample_counts
from faceproof.evaluation.metrics import auroc, has_both
from faceproof.evaluation.scores import FloatArray, IntArray, Mask, ScoreTable

_EXACT_UP_TO = 10_000_000
"""Sources times their surplus: beyond, the sum of so many coins is normal."""


class Delong(BaseModel):
    """Result of DeLong's test. ``difference`` is AUROC A minus AUROC B with its 95 % interval; ``p_value`` two-sided."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    auroc_a: float
    auroc_b: float
    difference: float
    low: float
    high: float
    z: float
    p_value: float


def delong_covariance(
    label: IntArray, scores: FloatArray, group: IntArray | None = None
) -> tuple[FloatArray, FloatArray]:
    """AUROCs ``[K]`` of K score columns ``[N, K]`` on the same rows, and their covariance ``[K, K]``.

    Placement values by midranks (DeLong 1988; Sun and Xu 2014). With ``group`` rows of one group are taken together
    (Obuchowski 1997): forgeries of one original are no independent witnesses. Raises :class:`EvaluationError`
    without two rows (or, grouped, two groups) of each class.
    """
    fakes, reals = scores[label == 1], scores[label == 0]
    many, few = len(fakes), len(reals)
    if many < 2 or few < 2:
        raise EvaluationError("DeLong's test needs two fakes and two reals", remedy="Evaluate more files.")
    pooled = stats.rankdata(np.concatenate([fakes, reals]), axis=0)
    of_fakes = (pooled[:many] - stats.rankdata(fakes, axis=0)) / few
    of_reals = 1 - (pooled[many:] - stats.rankdata(reals, axis=0)) / many
    areas = of_fakes.mean(axis=0)
    if group is None:
        return areas, np.atleast_2d(np.cov(of_fakes.T) / many + np.cov(of_reals.T) / few)
    return areas, _clustered(areas, of_fakes, of_reals, group[label == 1], group[label == 0])


def _clustered(
    areas: FloatArray, of_fakes: FloatArray, of_reals: FloatArray, fake_group: IntArray, real_group: IntArray
) -> FloatArray:
    groups, codes = np.unique(np.concatenate([fake_group, real_group]), return_inverse=True)
    fake_codes, real_codes = codes[: len(fake_group)], codes[len(fake_group) :]

    def total(codes: IntArray, values: FloatArray) -> FloatArray:
        sums = np.zeros((len(groups), values.shape[1]))
        np.add.at(sums, codes, values - areas)
        return sums

    with_fake, with_real = len(np.unique(fake_codes)), len(np.unique(real_codes))
    if with_fake < 2 or with_real < 2:
        raise EvaluationError("DeLong's test needs two source videos of each class", remedy="Evaluate more files.")
    fake_sums, real_sums = total(fake_codes, of_fakes), total(real_codes, of_reals)
    many, few, size = len(fake_codes), len(real_codes), len(groups)
    fake_part = with_fake / (with_fake - 1) * fake_sums.T @ fake_sums / many**2
    real_part = with_real / (with_real - 1) * real_sums.T @ real_sums / few**2
    mixed = size / (size - 1) * fake_sums.T @ real_sums / (many * few)
    return np.asarray(fake_part + real_part + mixed + mixed.T)


def delong(label: IntArray, a: FloatArray, b: FloatArray, group: IntArray | None = None) -> Delong:
    """DeLong's paired test of two score columns on the same rows, clustered where ``group`` is given.

    Two identical columns differ by 0 with p = 1. Raises as :func:`delong_covariance`.
    """
    areas, covariance = delong_covariance(label, np.stack([a, b], axis=1), group)
    difference = float(areas[0] - areas[1])
    spread = float(np.sqrt(max(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1], 0.0)))
    if spread < 1e-12:
        z = 0.0 if abs(difference) < 1e-12 else float(np.copysign(np.inf, difference))
    else:
        z = difference / spread
    reach = float(stats.norm.ppf(0.975)) * spread
    return Delong(
        auroc_a=float(areas[0]),
        auroc_b=float(areas[1]),
        difference=difference,
        low=difference - reach,
        high=difference + reach,
        z=z,
        p_value=float(2 * stats.norm.sf(abs(z))),
    )


class McNemar(BaseModel):
    """McNemar's test on decisions at each detector's own threshold: files only A, or only B, judged right. ``p_value`` takes
    the files of one source video together."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    only_a_right: int
    only_b_right: int
    p_value: float


def mcnemar(right_a: Mask, right_b: Mask, group: IntArray | None = None) -> McNemar:
    """The exact two-sided test; with no discordant row p is 1.

    Were the detectors alike, either would be the better one on a source video as likely as the other: each group's
    surplus keeps its size and takes either sign. With one row a group that is the binomial test on the discordant rows.
    Rows of a group taken for independent rejected 30 of 100 times at 5 %.
    """
    only_a, only_b = int(np.sum(right_a & ~right_b)), int(np.sum(~right_a & right_b))
    apart = right_a.astype(np.int64) - right_b.astype(np.int64)
    codes = np.arange(len(apart)) if group is None else np.unique(group, return_inverse=True)[1]
    surplus = np.rint(np.abs(np.bincount(codes, weights=apart))).astype(np.int64)
    p_value = _either_sign(surplus[surplus > 0], abs(only_a - only_b))
    return McNemar(only_a_right=only_a, only_b_right=only_b, p_value=p_value)


def _either_sign(steps: IntArray, reached: int) -> float:
    """Probability that ``steps``, each with a sign of its own by the toss of a coin, add up to ``reached`` or further."""
    if reached == 0:
        return 1.0
    total = int(steps.sum())
    if steps.max() == 1:
        return float(stats.binomtest((total + reached) // 2, total, 0.5).pvalue)
    if len(steps) * total > _EXACT_UP_TO:
        return float(2 * stats.norm.sf(reached / np.sqrt(np.sum(steps.astype(np.float64) ** 2))))
    chance = np.ones(1)
    for step in steps:
        blank = np.zeros(step)
        chance = (np.concatenate([chance, blank]) + np.concatenate([blank, chance])) / 2
    return float(min(chance[np.abs(2 * np.arange(total + 1) - total) >= reached].sum(), 1.0))


def bootstrap_difference(
    label: IntArray, a: FloatArray, b: FloatArray, group: IntArray, *, resamples: int = 1000, seed: int = 0
) -> Estimate:
    """AUROC A minus AUROC B with its interval, both computed in the same resamples of groups."""
    value = auroc(label, a) - auroc(label, b)
    values, codes = np.unique(group, return_inverse=True)
    if len(values) < 2:
        return estimate(value, None)
    curves = RankCurve(label, a), RankCurve(label, b)
    orders = [codes[curve.order] for curve in curves]
    draws = np.empty(resamples)
    with threadpool_limits(limits=1, user_api="blas"):
        for row, counts in enumerate(resample_counts(len(values), resamples, seed)):
            first, second = (curve.auroc(counts[order]) for curve, order in zip(curves, orders, strict=True))
            draws[row] = first - second
    return estimate(value, draws)


class Comparison(BaseModel):
    """Two detectors on the files that both of them scored.

    ``only_a`` and ``only_b`` count files that one of them judged and the other refused or never saw: a detector that
    refuses the hard files would otherwise win by it.
    """

    model_config = ConfigDict(extra="forbid")

    name_a: str
    name_b: str
    files: int
    groups: int
    fakes: int
    reals: int
    only_a: int
    only_b: int
    auroc_a: Estimate
    auroc_b: Estimate
    difference: Estimate
    delong: Delong | None
    mcnemar: McNemar
    by_method: dict[str, Estimate]
    conclusion: str


@dataclass(frozen=True)
class Contender:
    """One side of a comparison: its ``name``, one row per file, and the ``threshold`` it decides at."""

    name: str
    table: ScoreTable
    threshold: float = 0.5


def compare(a: Contender, b: Contender, *, resamples: int = 1000, seed: int = 0) -> Comparison:
    """Compare two detectors on the files they share, by path.

    Raises :class:`EvaluationError` when they share no scored file of each class or disagree about a file's label.
    """
    first, second, only_a, only_b = _align(a, b)
    label, group = first.label, first.groups()
    if not has_both(label):
        raise EvaluationError(
            f"{a.name} and {b.name} share no scored file of each class ({len(label)} files in common)",
            remedy="Evaluate both on the same manifest.",
        )
    shared = {"resamples": resamples, "seed": seed}
    difference = bootstrap_difference(label, first.score, second.score, group, **shared)
    try:
        test = delong(label, first.score, second.score, group)
    except EvaluationError:
        test = None
    methods = {}
    for method in sorted({str(name) for name in first.method[label == 1] if name}):
        rows = (label == 0) | (first.method == method)
        methods[method] = bootstrap_difference(
            label[rows], first.score[rows], second.score[rows], group[rows], **shared
        )
    right_a = (first.score > a.threshold) == (label == 1)
    right_b = (second.score > b.threshold) == (label == 1)
    return Comparison(
        name_a=a.name,
        name_b=b.name,
        files=len(label),
        groups=len(np.unique(group)),
        fakes=int(label.sum()),
        reals=int((label == 0).sum()),
        only_a=only_a,
        only_b=only_b,
        auroc_a=auroc_estimate(label, first.score, group, **shared),
        auroc_b=auroc_estimate(label, second.score, group, **shared),
        difference=difference,
        delong=test,
        mcnemar=mcnemar(right_a, right_b, group),
        by_method=methods,
        conclusion=_conclude(a.name, b.name, difference),
    )


def _align(a: Contender, b: Contender) -> tuple[ScoreTable, ScoreTable, int, int]:
    place = {str(path): row for row, path in enumerate(b.table.path)}
    pairs = [(row, place[str(path)]) for row, path in enumerate(a.table.path) if str(path) in place]
    rows_a = np.array([pair[0] for pair in pairs], dtype=np.int64)
    rows_b = np.array([pair[1] for pair in pairs], dtype=np.int64)
    first, second = a.table.select(rows_a), b.table.select(rows_b)
    at_odds = first.label != second.label
    if at_odds.any():
        raise EvaluationError(
            f"{int(at_odds.sum())} files are labelled differently in {a.name} and {b.name}, "
            f"for instance {first.path[at_odds][0]}",
            remedy="Correct the labels; one of the two may be inverted.",
        )
    both = first.scored & second.scored
    only_a = int(a.table.scored.sum() - both.sum())
    only_b = int(b.table.scored.sum() - both.sum())
    return first.select(both), second.select(both), only_a, only_b


def _conclude(a: str, b: str, difference: Estimate) -> str:
    if difference.low is None or difference.high is None:
        return "Too few source videos to say which is better."
    if difference.low > 0:
        return f"{a} separates these files better than {b}."
    if difference.high < 0:
        return f"{b} separates these files better than {a}."
    return "These files do not show that one is better than the other."
