"""Learn how much each member of an ensemble is worth, from files whose truth is known."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from faceproof.detectors.ensemble import EnsembleSpec, StackedModel
from faceproof.detectors.fusion import FusionMethod, logits
from faceproof.detectors.spec_text import toml_value
from faceproof.errors import DatasetError, MissingExtraError

_FEWEST = 20


@dataclass(frozen=True)
class Fit:
    """A stacked model and what it is worth, measured on files it was not fitted to.

    ``auroc`` is cross-validated, no source on both sides; ``member_auroc`` are the members' own on the same files;
    ``left_out`` counts files that not every member scored.
    """

    model: StackedModel
    auroc: float
    member_auroc: dict[str, float]
    files: int
    left_out: int


def fit_stacked(
    scores: Mapping[str, Sequence[float | None]],
    labels: Sequence[int],
    groups: Sequence[str],
    *,
    folds: int = 5,
    data: str = "",
) -> Fit:
    """Fit a logistic regression (L2, C = 1) over the members' logits, each class weighing half: like every calibration here
    its P(fake) is that of an even mixture, whatever the files'.

    ``scores``: P(fake) by member's name, one a file, None without an opinion. ``labels``: 1 for fake. ``groups``: source
    videos, kept together when it is cross-validated. Raises :class:`DatasetError` with fewer than 20 files or 2 sources of
    each class, and :class:`MissingExtraError` without scikit-learn.
    """
    try:
        from sklearn.linear_model import LogisticRegression
        from sklearn.metrics import roc_auc_score
        from sklearn.model_selection import StratifiedGroupKFold
    except ImportError:
        raise MissingExtraError.of("Fitting an ensemble", "ops") from None
    names = sorted(scores)
    table = np.asarray([[np.nan if p is None else p for p in scores[name]] for name in names], np.float64).T
    whole = np.isfinite(table).all(axis=1)
    truth, source = np.asarray(labels)[whole], np.asarray(groups)[whole]
    x = logits(table[whole])
    sources = [len(np.unique(source[truth == label])) for label in (0, 1)]
    if len(x) < _FEWEST or min(sources) < 2:
        raise DatasetError(
            f"{len(x)} files that every member scored, from {sources[1]} sources of fakes and {sources[0]} of reals, "
            "are too few to fit an ensemble",
            remedy=f"Give at least {_FEWEST} files and 2 sources of each class.",
        )
    held_out = np.full(len(x), np.nan)
    split = StratifiedGroupKFold(min(folds, *sources), shuffle=True, random_state=0)
    for train, test in split.split(x, truth, source):
        if len(np.unique(truth[train])) == 2:
            held_out[test] = (
                LogisticRegression(C=1.0, class_weight="balanced")
                .fit(x[train], truth[train])
                .predict_proba(x[test])[:, 1]
            )
    judged = np.isfinite(held_out)
    fitted = LogisticRegression(C=1.0, class_weight="balanced").fit(x, truth)
    digest = hashlib.sha256(np.ascontiguousarray(np.column_stack([table[whole], truth])).tobytes()).hexdigest()
    model = StackedModel(
        coefficients={name: float(c) for name, c in zip(names, fitted.coef_[0], strict=True)},
        centre={name: float(c) for name, c in zip(names, x.mean(axis=0), strict=True)},
        intercept=float(fitted.intercept_[0]),
        data=data,
        data_sha256=digest,
    )
    return Fit(
        model=model,
        auroc=float(roc_auc_score(truth[judged], held_out[judged])),
        member_auroc={name: float(roc_auc_score(truth[judged], x[judged, place])) for place, name in enumerate(names)},
        files=len(x),
        left_out=int((~whole).sum()),
    )


def stacked_spec(spec: EnsembleSpec, model: StackedModel, *, name: str | None = None) -> EnsembleSpec:
    """The same members, fused by the fitted model."""
    update = {"method": FusionMethod.STACKED, "numbers": {}, "stacked": model.model_dump(), "name": name or spec.name}
    return EnsembleSpec.model_validate({**spec.model_dump(), **update})


def ensemble_toml(spec: EnsembleSpec) -> str:
    """TOML that reads back as an equal ensemble; keys at their defaults are left away."""
    given = spec.model_dump(mode="json", exclude_defaults=True)
    lines = [f"{key} = {toml_value(value)}" for key, value in given.items() if key not in ("members", "stacked")]
    for member in given["members"]:
        lines += ["", "[[members]]", *(f"{key} = {toml_value(value)}" for key, value in member.items())]
    if spec.stacked is not None:
        for key, value in given["stacked"].items():
            if isinstance(value, dict):
                # Members' names may hold what a bare key may not.
                rows = [f"{toml_value(name)} = {toml_value(number)}" for name, number in value.items()]
                lines += ["", f"[stacked.{key}]", *rows]
        plain = {key: value for key, value in given["stacked"].items() if not isinstance(value, dict)}
        lines += ["", "[stacked]", *(f"{key} = {toml_value(value)}" for key, value in plain.items())]
    return "\n".join(lines) + "\n"
