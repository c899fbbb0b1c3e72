"""Stacking learns who is worth hearing, measures itself on strangers, and says when there is too little."""

import numpy as np
import pytest

from faceproof.detectors.ensemble import EnsembleMember, EnsembleSpec, parse_ensemble
from faceproof.detectors.fusion import FusionMethod, Stacked
from faceproof.errors import DatasetError
from faceproof.ops.stacking import ensemble_toml, fit_stacked, stacked_spec

SPEC = EnsembleSpec(
    schema_version=1,
    name="pair",
    summary='Two "members"',
    members=(EnsembleMember(detector="good", weight=2), EnsembleMember(detector="noise", view="flip")),
    method=FusionMethod.ATTENTION_FUSION,
    numbers={"temperature": 0.5},
)


def made(number: int = 400, seed: int = 0) -> tuple[dict[str, list[float | None]], list[int], list[str]]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, number)
    good = 1 / (1 + np.exp(-(2 * labels - 1 + rng.normal(0, 1.2, number))))
    return (
        {"good": good.tolist(), "noise/flip": rng.random(number).tolist()},
        labels.tolist(),
        [str(i // 2) for i in range(number)],
    )


def test_the_good_member_is_heard_and_the_noisy_one_is_not() -> None:
    fit = fit_stacked(*made(), data="made up")
    assert fit.model.coefficients["good"] > 5 * abs(fit.model.coefficients["noise/flip"])
    assert fit.auroc == pytest.approx(fit.member_auroc["good"], abs=0.02)
    assert fit.member_auroc["noise/flip"] == pytest.approx(0.5, abs=0.08)
    assert (fit.files, fit.left_out, fit.model.data) == (400, 0, "made up")
    assert len(fit.model.data_sha256) == 64
    model = Stacked(fit.model.coefficients, fit.model.centre, fit.model.intercept)
    assert model.score({"good": 0.9, "noise/flip": 0.5}) > 0.5 > model.score({"good": 0.1, "noise/flip": 0.5})


def test_the_rarer_class_weighs_as_much() -> None:
    """With 9 of 10 files forged a member that says nothing was heard as "forged"."""
    scores, labels, groups = made(4000)
    kept = [i for i, label in enumerate(labels) if label or i % 9 == 0]
    fit = fit_stacked(
        {n: [s[i] for i in kept] for n, s in scores.items()}, [labels[i] for i in kept], [groups[i] for i in kept]
    )
    model = Stacked(fit.model.coefficients, fit.model.centre, fit.model.intercept)
    assert model.score({"good": 0.5, "noise/flip": 0.5}) == pytest.approx(0.5, abs=0.06)


def test_members_of_noise_are_not_flattered_by_their_own_fit() -> None:
    scores, _, groups = made()
    labels = np.random.default_rng(9).integers(0, 2, 400).tolist()
    assert fit_stacked(scores, labels, groups).auroc == pytest.approx(0.5, abs=0.1)


def test_files_without_every_opinion_are_counted_out() -> None:
    scores, labels, groups = made()
    scores["good"][:10] = [None] * 10
    fit = fit_stacked(scores, labels, groups)
    assert (fit.files, fit.left_out) == (390, 10)


def test_too_little_is_refused() -> None:
    scores, labels, groups = made(30)
    for wrong in ([1] * 30, None):
        with pytest.raises(DatasetError, match="too few"):
            fit_stacked(
                {k: v[:10] for k, v in scores.items()} if wrong is None else scores,
                labels[:10] if wrong is None else wrong,
                groups[:10] if wrong is None else groups,
            )


def test_an_ensemble_is_written_as_it_is_read() -> None:
    assert parse_ensemble(ensemble_toml(SPEC)) == SPEC
    fitted = stacked_spec(SPEC, fit_stacked(*made()).model, name="fitted")
    assert fitted.method is FusionMethod.STACKED
    assert parse_ensemble(ensemble_toml(fitted)) == fitted
