"""Fitting the map from scores to probabilities. :mod:`faceproof.detectors.calibration` applies what is fitted here.

Both classes get half the weight, so that the fitted probability is that of an even mixture, whatever the calibration
set's; :func:`faceproof.detectors.calibration.with_prior` moves it to another one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
from pydantic import BaseModel, ConfigDict
from scipy import optimize
from sklearn.isotonic import IsotonicRegression
from sklearn.model_selection import GroupKFold

from faceproof.detectors.spec import Calibration, Fitted, QualityBands, VerdictRule, parse_spec
from faceproof.detectors.spec_text import toml_value
from faceproof.errors import EvaluationError
from faceproof.evaluation.metrics import even_calibration_error, has_both
from faceproof.evaluation.problems import printable
from faceproof.evaluation.scores import FloatArray, IntArray, ScoreTable

Method = Literal["temperature", "platt", "isotonic"]
METHODS: tuple[Method, ...] = get_args(Method)
EDGE = 1e-6


def logit(score: FloatArray) -> FloatArray:
    """Log odds of scores, kept :data:`EDGE` away from 0 and 1 as the calibration that is applied later does."""
    clipped = np.clip(score, EDGE, 1 - EDGE)
    return np.asarray(np.log(clipped) - np.log1p(-clipped))


def fit(table: ScoreTable, method: Method, *, data: str = "") -> Calibration:
    """Fit ``method`` to the scored rows of ``table``, one row a file.

    ``temperature`` (Guo et al., ICML 2017) only makes scores bolder or humbler; ``platt`` (Platt 1999, with his
    smoothed targets) also moves them; ``isotonic`` (Zadrozny and Elkan, KDD 2002) follows any rising curve and wants
    hundreds of files. ``data`` names the set; its hash is stored beside it. Raises :class:`EvaluationError` without
    both classes, or when the best fit would turn the scores round.
    """
    seen = table.select(table.scored)
    if not has_both(seen.label):
        raise EvaluationError(
            "calibration needs scored fakes and scored reals", remedy="Give a calibration split that holds both."
        )
    fitted = _FITTERS[method](seen.label, seen.score)
    return fitted.model_copy(update={"data": printable(data) or None, "data_sha256": seen.sha256()})


def _weights(label: IntArray) -> FloatArray:
    return np.asarray(np.where(label == 1, 0.5 / np.sum(label == 1), 0.5 / np.sum(label == 0)))


def _fit_temperature(label: IntArray, score: FloatArray) -> Calibration:
    x, weight, sign = logit(score), _weights(label), np.where(label == 1, -1.0, 1.0)

    def loss(log_temperature: float) -> float:
        return float(np.sum(weight * np.logaddexp(0, sign * x / np.exp(log_temperature))))

    best = optimize.minimize_scalar(loss, bounds=(-4, 6), method="bounded")
    if best.x > 5.9:
        raise _turned_round("an ever higher temperature fits best")
    return Calibration(method="temperature", a=float(np.exp(best.x)))


def _fit_platt(label: IntArray, score: FloatArray) -> Calibration:
    x, weight = logit(score), _weights(label)
    fakes, reals = np.sum(label == 1), np.sum(label == 0)
    # Platt's targets: as if one more example of each class had been seen, so that separable data stay finite.
    target = np.where(label == 1, (fakes + 1) / (fakes + 2), 1 / (reals + 2))

    def loss(numbers: FloatArray) -> tuple[float, FloatArray]:
        z = numbers[0] * x + numbers[1]
        off = weight * (1 / (1 + np.exp(-np.clip(z, -700, 700))) - target)
        return float(np.sum(weight * (np.logaddexp(0, z) - target * z))), np.array([np.sum(off * x), np.sum(off)])

    best = optimize.minimize(loss, np.array([1.0, 0.0]), jac=True, method="BFGS")
    a, b = (float(value) for value in best.x)
    if a <= 0:
        raise _turned_round(f"the fitted slope is {a:.3g}")
    return Calibration(method="platt", a=a, b=b)


def _fit_isotonic(label: IntArray, score: FloatArray) -> Calibration:
    # Nobody is certain: with n files of a class no share beyond that of one more file is claimed.
    floor, ceiling = 1 / (np.sum(label == 0) + 2), 1 - 1 / (np.sum(label == 1) + 2)
    model = IsotonicRegression(y_min=floor, y_max=ceiling, out_of_bounds="clip")
    model.fit(score, label, sample_weight=_weights(label))
    x, y = model.X_thresholds_, model.y_thresholds_
    if len(x) < 2 or y[-1] - y[0] < EDGE:
        raise _turned_round("no rising curve fits better than a flat one")
    return Calibration(method="isotonic", points=tuple((float(a), float(b)) for a, b in zip(x, y, strict=True)))


def _turned_round(why: str) -> EvaluationError:
    return EvaluationError(
        f"calibration would turn the scores round or flatten them ({why})",
        remedy="Check the polarity: on this set fakes do not score higher than reals.",
    )


_FITTERS: dict[Method, Callable[[IntArray, FloatArray], Calibration]] = {
    "temperature": _fit_temperature,
    "platt": _fit_platt,
    "isotonic": _fit_isotonic,
}


def apply(score: FloatArray, calibration: Calibration) -> FloatArray:
    """Calibrated P(fake) of each score, NaN kept: :func:`faceproof.detectors.calibration.calibrate` for arrays, to which a
    test holds it."""
    match calibration.method:
        case "none":
            return score.copy()
        case "temperature":
            return _sigmoid(logit(score) / calibration.a)
        case "platt":
            return _sigmoid(calibration.a * logit(score) + calibration.b)
        case "isotonic":
            x, y = zip(*calibration.points, strict=True)
            return np.asarray(np.where(np.isnan(score), np.nan, np.interp(score, x, y)))


def _sigmoid(x: FloatArray) -> FloatArray:
    return np.asarray(0.5 * (1 + np.tanh(x / 2)))


class CalibrationQuality(BaseModel):
    """Error of the probabilities before and after, on files that the fit did not see (grouped folds), each class
    weighing half. ``log_loss`` in nats; the base-rate answer (always one half) has 0.693."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: Method
    files: int
    ece_before: float
    ece_after: float
    log_loss_before: float
    log_loss_after: float


def cross_check(table: ScoreTable, method: Method, *, folds: int = 5) -> CalibrationQuality:
    """Fit on all but one fold of source videos, judge on that fold, for every fold.

    Raises :class:`EvaluationError` with fewer than two groups, or as :func:`fit` does for a fold.
    """
    seen = table.select(table.scored)
    groups = seen.groups()
    count = min(folds, len(np.unique(groups)))
    if count < 2:
        raise EvaluationError("cross-checking a calibration needs two source videos", remedy="Add files.")
    after = np.empty(len(seen))
    for train, test in GroupKFold(count).split(seen.score, groups=groups):
        if not has_both(seen.label[train]):
            raise EvaluationError("one class lies in a single source video", remedy="Add files of that class.")
        after[test] = apply(seen.score[test], _FITTERS[method](seen.label[train], seen.score[train]))
    return CalibrationQuality(
        method=method,
        files=len(seen),
        ece_before=even_calibration_error(seen.label, seen.score),
        ece_after=even_calibration_error(seen.label, after),
        log_loss_before=even_log_loss(seen.label, seen.score),
        log_loss_after=even_log_loss(seen.label, after),
    )


def even_log_loss(label: IntArray, score: FloatArray) -> float:
    """Log loss in nats with each class weighing half."""
    clipped = np.clip(score, EDGE, 1 - EDGE)
    return float(-np.sum(_weights(label) * np.log(np.where(label == 1, clipped, 1 - clipped))))


def store(text: str, calibration: Calibration, rule: VerdictRule | None = None) -> str:
    """A spec's TOML text with a new ``[calibration]`` and, from ``rule``, new thresholds and bands in its ``[verdict]``,
    ``[verdict.quality]`` and ``[verdict.fitted]``.

    Everything else, comments included, stays as it is. Raises :class:`faceproof.errors.SpecError` for a text that
    is no spec.
    """
    before = parse_spec(text)
    text = _without_table(text, "calibration").rstrip("\n") + "\n\n" + _calibration_table(calibration)
    wanted = before.verdict
    if rule is not None:
        text = _with_verdict(text, rule)
        wanted = wanted.model_copy(update={name: getattr(rule, name) for name in (*_VERDICT_KEYS, *_VERDICT_TABLES)})
    after = parse_spec(text)
    if after != before.model_copy(update={"calibration": calibration, "verdict": wanted}):
        raise EvaluationError(
            "the spec's TOML could not be rewritten", remedy="Write [calibration] and [verdict] by hand."
        )
    return text


def _calibration_table(calibration: Calibration) -> str:
    lines = ["[calibration]", f'method = "{calibration.method}"']
    if calibration.method in ("temperature", "platt"):
        lines.append(f"a = {calibration.a!r}")
    if calibration.method == "platt":
        lines.append(f"b = {calibration.b!r}")
    if calibration.points:
        lines.append(f"points = [{', '.join(f'[{x!r}, {y!r}]' for x, y in calibration.points)}]")
    for name in ("data", "data_sha256"):
        value = getattr(calibration, name)
        if value is not None:
            lines.append(f"{name} = {toml_value(value)}")
    return "\n".join(lines) + "\n"


_HEADER = r"^\[{name}\][^\n]*\n"
_BODY = r"(?:(?!\[)[^\n]*\n?)*"


def _without_table(text: str, name: str) -> str:
    return re.sub(_HEADER.format(name=name) + _BODY, "", text, flags=re.MULTILINE)


_VERDICT_KEYS = ("threshold", "band", "frame_threshold")
_VERDICT_TABLES = ("quality", "fitted")


def _with_verdict(text: str, rule: VerdictRule) -> str:
    tables = [
        f"[verdict.{name}]\n{_rows(table)}" for name in _VERDICT_TABLES if (table := getattr(rule, name)) is not None
    ]
    for name in _VERDICT_TABLES:
        text = _without_table(text, rf"verdict\.{name}")
    keys = [f"{name} = {toml_value(value)}" for name in _VERDICT_KEYS if (value := getattr(rule, name)) is not None]
    found = re.search(_HEADER.format(name="verdict") + _BODY, text, flags=re.MULTILINE)
    if found is None:
        return "\n\n".join([text.rstrip("\n"), "[verdict]\n" + "\n".join(keys), *tables]) + "\n"
    header, _, body = found.group().partition("\n")
    replaced = "|".join((*_VERDICT_KEYS, *_VERDICT_TABLES))
    body = re.sub(rf"^(?:{replaced})\s*=[^\n]*\n?", "", body, flags=re.MULTILINE)
    whole = "\n\n".join(["\n".join([header, *keys, body.rstrip("\n")]).rstrip("\n"), *tables])
    return text[: found.start()] + whole + "\n\n" + text[found.end() :].lstrip("\n")


def _rows(table: QualityBands | Fitted) -> str:
    lines = []
    for name in type(table).model_fields:
        value = getattr(table, name)
        if value is None or value == ():
            continue
        if isinstance(value, tuple):
            points = [f"  {{ at = {p.at!r}, low = {p.low!r}, high = {p.high!r} }},\n" for p in value]
            lines.append(f"{name} = [\n{''.join(points)}]")
        else:
            lines.append(f"{name} = {toml_value(value)}")
    return "\n".join(lines)
