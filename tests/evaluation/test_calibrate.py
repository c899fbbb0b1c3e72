from __future__ import annotations

import numpy as np
import pytest

from faceproof.detectors.calibration import calibrate, with_prior
from faceproof.detectors.spec import VerdictRule, parse_spec
from faceproof.errors import EvaluationError, SpecError
from faceproof.evaluation.calibrate import METHODS, Method, apply, cross_check, fit, store
from faceproof.evaluation.conformal import fit_band, sources_needed
from faceproof.evaluation.metrics import even_calibration_error
from faceproof.evaluation.scores import ScoreTable
from tests.evaluation.tables import gaussian_table


def overconfident(seed: int, size: int = 3000, *, times: float = 3.0, share: float = 0.5) -> ScoreTable:
    """Logits of calibrated scores multiplied: right order, far too sure."""
    table = gaussian_table(seed, size, apart=1, share_of_fakes=share)
    sure = 1 / (1 + np.exp(-times * np.log(table.score / (1 - table.score))))
    return ScoreTable.of(table.path, table.label, sure, source_video=table.source_video)


@pytest.mark.parametrize("method", METHODS)
def test_overconfidence_is_mended_on_files_not_seen(method: Method) -> None:
    fitted = fit(overconfident(0), method, data="made")
    fresh = overconfident(1)
    before = even_calibration_error(fresh.label, fresh.score)
    after = even_calibration_error(fresh.label, apply(fresh.score, fitted))
    assert before > 0.15
    assert after < 0.05
    assert fitted.data == "made"
    assert fitted.data_sha256 == overconfident(0).sha256()


def test_temperature_is_found() -> None:
    # Two unit normals 1 apart have log odds equal to x: multiplied by 3, the temperature is 3.
    assert fit(overconfident(0, 20000), "temperature").a == pytest.approx(3, rel=0.1)


@pytest.mark.parametrize("method", METHODS)
def test_the_fit_is_of_an_even_mixture_whatever_the_set(method: Method) -> None:
    lopsided = fit(overconfident(0, 6000, share=0.9), method)
    fresh = overconfident(1, 6000, share=0.5)
    assert even_calibration_error(fresh.label, apply(fresh.score, lopsided)) < 0.06


def test_posterior_under_another_prior_is_calibrated_there() -> None:
    fitted = fit(overconfident(0, 6000), "platt")
    rare = overconfident(2, 20000, share=0.1)
    p = np.array([with_prior(value, 0.1) for value in apply(rare.score, fitted)])
    bold = p > 0.3
    assert p[bold].mean() == pytest.approx(rare.label[bold].mean(), abs=0.05)


@pytest.mark.parametrize("method", METHODS)
def test_what_is_fitted_here_is_what_a_scan_applies(method: Method) -> None:
    fitted = fit(overconfident(0, 300), method)
    score = np.array([0.0, 1e-9, 0.1, 0.5, 0.9, 1.0, np.nan])
    applied = apply(score, fitted)
    assert applied[:-1] == pytest.approx([calibrate(float(value), fitted) for value in score[:-1]], abs=1e-12)
    assert np.isnan(applied[-1])


def test_polarity_and_one_class_are_refused() -> None:
    table = gaussian_table(0, 400, apart=-2)
    for method in METHODS:
        with pytest.raises(EvaluationError, match="turn the scores round"):
            fit(table, method)
    with pytest.raises(EvaluationError, match="scored fakes and scored reals"):
        fit(table.select(table.label == 1), "platt")


def test_separable_scores_stay_finite() -> None:
    table = ScoreTable.of([str(row) for row in range(20)], np.repeat([0, 1], 10), np.repeat([0.2, 0.8], 10))
    for method in ("platt", "isotonic"):
        assert 0.8 < apply(np.array([0.8]), fit(table, method))[0] < 1


def test_cross_check_judges_only_what_it_did_not_fit() -> None:
    found = cross_check(overconfident(0, 800), "platt")
    assert found.ece_after < found.ece_before
    assert found.log_loss_after < found.log_loss_before
    with pytest.raises(EvaluationError, match="two source videos"):
        cross_check(gaussian_table(0, 50, per_source=50), "platt")


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.2])
def test_false_alarms_stay_below_the_rate_chosen(rate: float) -> None:
    """The promise is about the average over calibration sets: exchangeable scores, many sets, files of a source alike."""
    alarms, misses, sets = 0.0, 0.0, 150
    for seed in range(sets):
        table = gaussian_table(seed, 600, apart=1.5, per_source=2, within=1.0)
        fresh = gaussian_table(10_000 + seed, 200, apart=1.5, per_source=2, within=1.0)
        band = fit_band(table, max_false_alarms=rate)
        alarms += np.mean(fresh.score[fresh.label == 0] >= band.high) / sets
        misses += np.mean(fresh.score[fresh.label == 1] <= band.low) / sets
    error = 3 * np.sqrt(rate / (100 * sets)) * 2
    assert alarms <= rate + error
    assert misses <= rate + error
    # And the promise is not kept by never speaking: the bound is tight to a factor.
    assert alarms >= rate / 2 - error


def test_tied_scores_keep_the_promise() -> None:
    label = np.repeat([0, 1], 50)
    table = ScoreTable.of([str(row) for row in range(100)], label, np.where(np.arange(100) % 2, 0.7, 0.3))
    band = fit_band(table, max_false_alarms=0.1)
    assert 0.7 < band.high < 0.7001
    assert 0.2999 < band.low < 0.3
    assert band.inconclusive == 1


def test_a_promise_too_strict_for_the_data_is_not_made() -> None:
    band = fit_band(gaussian_table(0, 60), max_false_alarms=0.01)
    assert not band.enough_reals
    assert band.high == 1
    assert sources_needed(0.01) == 99
    sure = ScoreTable.of([str(row) for row in range(198)], np.repeat([0, 1], 99), np.repeat([0.1, 0.9], 99))
    assert fit_band(sure, max_false_alarms=0.01).enough_reals
    with pytest.raises(EvaluationError, match="cannot be promised"):
        fit_band(sure, max_false_alarms=0)


def test_classes_far_apart_need_no_band() -> None:
    label = np.repeat([0, 1], 200)
    table = ScoreTable.of([str(row) for row in range(400)], label, np.where(label, 0.9, 0.1))
    band = fit_band(table, max_false_alarms=0.05)
    assert band.low == band.high == pytest.approx(0.5)
    assert band.inconclusive == 0


SPEC = """# Written by hand.
schema_version = 1
name = "made"
version = "1.0"
summary = "A spec [with brackets]."
[licence]
weights = "MIT"
code = "MIT"
commercial = true
origin = "here"
[verdict]
# the house rule
threshold = 0.5
band = [0.4, 0.6]
min_side = 32
[calibration]
method = "temperature"
a = 2.0
[input]
size = 64
[output]
fake_is = "high"
"""


@pytest.mark.parametrize("method", METHODS)
def test_spec_keeps_everything_but_calibration_and_band(method: Method) -> None:
    calibration = fit(gaussian_table(0, 200), method, data='a "set"\nof clips')
    rule = VerdictRule(threshold=0.55, band=(0.3, 0.7))
    text = store(SPEC, calibration, rule)
    spec = parse_spec(text)
    assert spec.calibration == calibration
    assert spec.calibration.data == 'a "set"\\nof clips'
    assert (spec.verdict.threshold, spec.verdict.band, spec.verdict.min_side) == (0.55, (0.3, 0.7), 32)
    assert text.startswith("# Written by hand.")
    assert "# the house rule" in text
    assert text.count("[calibration]") == text.count("band =") == 1
    assert store(text, calibration, rule) == text


def test_spec_without_tables_gets_them_and_bad_ones_are_refused() -> None:
    bare = SPEC[: SPEC.index("[verdict]")] + '[input]\nsize = 64\n[output]\nfake_is = "high"\n'
    calibration = fit(gaussian_table(0, 200), "platt")
    spec = parse_spec(store(bare, calibration, VerdictRule(threshold=0.5, band=(0.2, 0.8))))
    assert spec.verdict.band == (0.2, 0.8)
    with pytest.raises(SpecError):
        store("no = spec", calibration)
