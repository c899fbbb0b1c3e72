from __future__ import annotations

import numpy as np
import pytest

from faceproof.errors import EvaluationError
from faceproof.evaluation.scores import ScoreTable
from faceproof.evaluation.significance import (
    Contender,
    bootstrap_difference,
    compare,
    delong,
    delong_covariance,
    mcnemar,
)
from tests.evaluation.tables import gaussian_table


def test_delong_by_hand() -> None:
    """Fakes .8 .6, reals .7 .1: each fake's share of reals below it is 1 and 1/2, each real's share of fakes above it
    1/2 and 1. Both have mean 3/4 and variance 1/8, so the AUROC's variance is (1/8)/2 + (1/8)/2 = 1/8."""
    areas, covariance = delong_covariance(np.array([1, 1, 0, 0]), np.array([[0.8], [0.6], [0.7], [0.1]]))
    assert areas == pytest.approx([0.75])
    assert covariance == pytest.approx(np.array([[0.125]]))


def test_paired_delong_by_hand() -> None:
    """A as above. B ranks all four right, so it has no variance and no covariance: z = -1/4 / sqrt(1/8)."""
    label = np.array([1, 1, 0, 0])
    found = delong(label, np.array([0.8, 0.6, 0.7, 0.1]), np.array([0.9, 0.8, 0.2, 0.1]))
    assert found.difference == pytest.approx(-0.25)
    assert found.z == pytest.approx(-0.25 / np.sqrt(0.125))
    assert found.p_value == pytest.approx(0.4795, abs=1e-4)


def test_clustered_delong_with_single_rows_is_delong() -> None:
    table, other = gaussian_table(0, 80), gaussian_table(1, 80)
    plain = delong(table.label, table.score, other.score)
    grouped = delong(table.label, table.score, other.score, np.arange(80))
    # Obuchowski divides by m(m-1) too; with one row a cluster the two agree but for the mixed term, which is small.
    assert grouped.difference == plain.difference
    assert grouped.z == pytest.approx(plain.z, rel=0.05)


def test_clustered_delong_is_wider_when_copies_are_counted() -> None:
    label = np.repeat(np.array([1, 0] * 20), 5)
    generator = np.random.default_rng(0)
    a = np.repeat(generator.random(40) + 0.3 * np.array([1, 0] * 20), 5)
    b = np.repeat(generator.random(40), 5)
    plain, grouped = delong(label, a, b), delong(label, a, b, np.repeat(np.arange(40), 5))
    assert grouped.high - grouped.low > 2 * (plain.high - plain.low)


def test_identical_detectors_do_not_differ() -> None:
    table = gaussian_table(0, 60)
    found = delong(table.label, table.score, table.score)
    assert (found.difference, found.p_value) == (0, 1)
    difference = bootstrap_difference(table.label, table.score, table.score, table.groups(), resamples=50)
    assert (difference.low, difference.high) == (0, 0)


def test_delong_and_bootstrap_agree() -> None:
    good, label = gaussian_table(0, 400, apart=2), gaussian_table(0, 400, apart=2).label
    noise = np.random.default_rng(9).normal(size=400)
    worse = np.clip(good.score + 0.3 * noise, 0, 1)
    test = delong(label, good.score, worse)
    boot = bootstrap_difference(label, good.score, worse, np.arange(400), resamples=500)
    assert boot.low == pytest.approx(test.low, abs=0.01)
    assert boot.high == pytest.approx(test.high, abs=0.01)


def test_mcnemar_by_hand() -> None:
    # Five discordant files, all for A: 2 * (1/2)^5.
    right_a, right_b = np.array([True] * 8), np.array([True] * 3 + [False] * 5)
    assert mcnemar(right_a, right_b).p_value == pytest.approx(0.0625)
    assert mcnemar(right_a, right_a).p_value == 1


def test_mcnemar_takes_a_source_for_one_witness() -> None:
    right_a, right_b = np.array([True] * 10), np.array([False] * 10)
    assert mcnemar(right_a, right_b).p_value == pytest.approx(2 * 0.5**10)
    assert mcnemar(right_a, right_b, np.repeat([0, 1], 5)).p_value == pytest.approx(0.5)
    assert mcnemar(right_a, right_b, np.arange(10)).p_value == pytest.approx(2 * 0.5**10)
    # 3 and 1 for A, 1 for B: of the 8 signs of (3, 1, 1) those that reach 3 or -3 are all but 3 - 1 - 1 and its mirror.
    right_a = np.array([True, True, True, True, False])
    assert mcnemar(right_a, ~right_a, np.array([0, 0, 0, 1, 2])).p_value == pytest.approx(6 / 8)


def test_mcnemar_keeps_its_level_where_files_fall_together() -> None:
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(40), 5)
    low = 0
    for _ in range(400):
        shared, own, noise = rng.normal(size=40), rng.normal(0, 1.5, (2, 40)), rng.normal(0, 0.5, (2, 200))
        right_a, right_b = (shared + own)[:, group] + noise > -0.3
        low += mcnemar(right_a, right_b, group).p_value < 0.05
    assert low <= 0.08 * 400


def test_compare_counts_what_only_one_of_them_judged() -> None:
    a, b = gaussian_table(0, 200, apart=3), gaussian_table(0, 200, apart=0.2)
    b.score[:10] = np.nan
    b = b.select(np.arange(150))
    found = compare(Contender("a", a), Contender("b", b), resamples=100)
    assert (found.files, found.only_a, found.only_b) == (140, 60, 0)
    assert found.conclusion.startswith("a separates")
    assert compare(Contender("a", a), Contender("a2", a), resamples=50).conclusion.startswith("These files do not show")


def test_compare_refuses_opposite_labels_and_strangers() -> None:
    a = gaussian_table(0, 50)
    flipped = ScoreTable.of(a.path, 1 - a.label, a.score)
    with pytest.raises(EvaluationError, match="labelled differently"):
        compare(Contender("a", a), Contender("b", flipped))
    other = ScoreTable.of([f"other{row}" for row in range(50)], a.label, a.score)
    with pytest.raises(EvaluationError, match="share no scored file"):
        compare(Contender("a", a), Contender("b", other))
