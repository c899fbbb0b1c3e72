"""From the opinions of several detectors to one: named fusion methods and what they leave uncertain.

Every function takes ``p``, the members' P(fake) in [0, 1], ``[M]``, M ≥ 1, and their ``weights`` ``[M]``, not negative and
not all zero. A member without an opinion is not in ``p``: it is left out, never counted as real.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from faceproof.errors import OptionError, SpecError

Opinions = npt.NDArray[np.float64]

_EDGE = 1e-7


class FusionMethod(StrEnum):
    """How opinions become one. ``weighted_average`` is also called soft voting."""

    MEAN = "mean"
    WEIGHTED_AVERAGE = "weighted_average"
    LOGIT_MEAN = "logit_mean"
    MEDIAN = "median"
    MAJORITY_VOTING = "majority_voting"
    MAX = "max"
    MIN = "min"
    MAX_CONFIDENCE = "max_confidence"
    MIN_CONFIDENCE = "min_confidence"
    ATTENTION_FUSION = "attention_fusion"
    STACKED = "stacked"

    @classmethod
    def _missing_(cls, value: object) -> FusionMethod | None:
        return cls.WEIGHTED_AVERAGE if value == "soft_voting" else None


def logits(p: Opinions) -> Opinions:
    """log(p / (1 - p)), with p held 1e-7 away from 0 and 1."""
    held = np.clip(p, _EDGE, 1 - _EDGE)
    return np.asarray(np.log(held) - np.log1p(-held), np.float64)


def _sigmoid(x: float) -> float:
    return float(1 / (1 + np.exp(-np.clip(x, -700, 700))))


def mean(p: Opinions, weights: Opinions) -> float:
    """Plain mean, whatever the weights, of the members whose weight is not zero."""
    return float(p[weights > 0].mean())


def weighted_average(p: Opinions, weights: Opinions) -> float:
    """Mean by weight."""
    return float(np.average(p, weights=weights))


def logit_mean(p: Opinions, weights: Opinions) -> float:
    """Sigmoid of the weighted mean logit: a logarithmic opinion pool (Genest & Zidek, 1986)."""
    return _sigmoid(float(np.average(logits(p), weights=weights)))


def median(p: Opinions, weights: Opinions) -> float:
    """Weighted median: the opinion at half the weight; half-way between two opinions when it falls between them."""
    order = np.argsort(p, kind="stable")
    below = np.cumsum(weights[order])
    half = below[-1] / 2
    place = int(np.searchsorted(below, half * (1 - 1e-12)))
    low = p[order[place]]
    if below[place] <= half * (1 + 1e-12):
        # Exactly half the weight lies at or below this opinion; the next one that weighs anything shares the middle.
        above = order[place + 1 :][weights[order[place + 1 :]] > 0]
        return float((low + p[above[0]]) / 2) if len(above) else float(low)
    return float(low)


def majority_voting(p: Opinions, weights: Opinions, threshold: npt.ArrayLike = 0.5) -> float:
    """The share of the weight that votes fake, each member by ``p > threshold`` (one number, or ``[M]``). A tie is .5."""
    return float(weights[p > np.asarray(threshold)].sum() / weights.sum())


def maximum(p: Opinions, weights: Opinions) -> float:
    """The most suspicious member whose weight is not zero."""
    return float(p[weights > 0].max())


def minimum(p: Opinions, weights: Opinions) -> float:
    """The least suspicious member whose weight is not zero."""
    return float(p[weights > 0].min())


def max_confidence(p: Opinions, weights: Opinions) -> float:
    """The member furthest from .5, whatever it says; the first of equals."""
    kept = p[weights > 0]
    return float(kept[np.argmax(np.abs(kept - 0.5))])


def min_confidence(p: Opinions, weights: Opinions) -> float:
    """The member nearest to .5, whatever it says; the first of equals."""
    kept = p[weights > 0]
    return float(kept[np.argmin(np.abs(kept - 0.5))])


def attention_fusion(p: Opinions, weights: Opinions, temperature: float = 1.0) -> float:
    """Mean by weight times a softmax over confidence ``2·|p - .5|``: the surer a member, the more it is heard.

    ``temperature`` above 0; small ones hear the surest member alone, large ones give the weighted average.
    """
    confidence = 2 * np.abs(p - 0.5) / temperature
    attention = weights * np.exp(confidence - confidence.max())
    return float(np.average(p, weights=attention))


METHODS: dict[FusionMethod, Callable[..., float]] = {
    FusionMethod.MEAN: mean,
    FusionMethod.WEIGHTED_AVERAGE: weighted_average,
    FusionMethod.LOGIT_MEAN: logit_mean,
    FusionMethod.MEDIAN: median,
    FusionMethod.MAJORITY_VOTING: majority_voting,
    FusionMethod.MAX: maximum,
    FusionMethod.MIN: minimum,
    FusionMethod.MAX_CONFIDENCE: max_confidence,
    FusionMethod.MIN_CONFIDENCE: min_confidence,
    FusionMethod.ATTENTION_FUSION: attention_fusion,
}


def numbers_of(method: FusionMethod) -> frozenset[str]:
    """The names of the numbers a method takes, for instance ``temperature``."""
    if method is FusionMethod.STACKED:
        return frozenset()
    return frozenset(inspect.signature(METHODS[method]).parameters) - {"p", "weights"}


def check_numbers(method: FusionMethod, numbers: Mapping[str, float]) -> None:
    """Raise :class:`SpecError` for a number the method does not take or that is out of its range."""
    surplus = set(numbers) - numbers_of(method)
    if surplus:
        raise SpecError(f"fusion method {method} takes no {', '.join(sorted(surplus))}")
    if numbers.get("temperature", 1.0) <= 0:
        raise SpecError("temperature must be above 0")
    if not 0 <= numbers.get("threshold", 0.5) < 1:
        raise SpecError("threshold must be at least 0 and below 1")


def check_weights(weights: npt.ArrayLike) -> Opinions:
    """Weights as float64 ``[M]``. Raises :class:`OptionError` for negative ones or a total of zero."""
    checked = np.asarray(weights, np.float64)
    if checked.ndim != 1 or not len(checked):
        raise OptionError("an ensemble needs at least one member")
    if not np.isfinite(checked).all() or checked.min() < 0:
        raise OptionError("an ensemble's weights must be numbers from 0")
    if checked.sum() <= 0:
        raise OptionError("the weights of the ensemble add up to zero", remedy="Give at least one member a weight.")
    return checked


def fuse(
    p: npt.ArrayLike, weights: npt.ArrayLike, method: FusionMethod = FusionMethod.WEIGHTED_AVERAGE, **numbers: Any
) -> float:
    """One P(fake) from the members' ``[M]``.

    Raises :class:`OptionError` for weights that add up to zero and for opinions that are not probabilities: a member
    without an opinion must be left out by the caller, with its weight.
    """
    if method is FusionMethod.STACKED:
        raise OptionError("stacked fusion needs a fitted model", remedy="Fit one with `faceproof ensemble fit`.")
    opinions, heard = np.asarray(p, np.float64), check_weights(weights)
    if opinions.shape != heard.shape:
        raise OptionError(f"{len(heard)} weights for {opinions.size} opinions")
    if not ((opinions >= 0) & (opinions <= 1)).all():
        raise OptionError("opinions must be probabilities from 0 to 1")
    return min(max(METHODS[method](opinions, heard, **numbers), 0.0), 1.0)


@dataclass(frozen=True)
class Stacked:
    """A logistic regression over the members' logits (Wolpert's stacking, 1992).

    ``coefficients`` and ``centre`` by member's name; ``centre`` is the member's mean logit where the model was fitted. A
    member that is left out takes its centre, so that its silence moves the answer neither way.
    """

    coefficients: Mapping[str, float]
    centre: Mapping[str, float]
    intercept: float

    def score(self, p: Mapping[str, float]) -> float:
        """P(fake) from the opinions of those members that have one. Raises :class:`OptionError` for strangers."""
        strangers = set(p) - set(self.coefficients)
        if strangers:
            raise OptionError(
                f"the stacked model was not fitted with {', '.join(sorted(strangers))}",
                remedy="Fit it again with `faceproof ensemble fit`.",
            )
        heard = {name: float(logits(np.asarray([value]))[0]) for name, value in p.items()}
        return _sigmoid(
            self.intercept
            + sum(weight * heard.get(name, self.centre[name]) for name, weight in self.coefficients.items())
        )


@dataclass(frozen=True)
class Uncertainty:
    """How far the members' opinions leave the question open.

    Attributes
    ----------
    std: weighted standard deviation of the opinions, 0 to .5.
    entropy: of the mean opinion, in bits, 0 to 1: all uncertainty, whatever its origin.
    mutual_information: entropy of the mean less the mean entropy, in bits: the part that the members' disagreement makes
        (Houlsby et al., 2011; Lakshminarayanan et al., 2017).
    disagreement: share of the weight that votes against the majority, 0 to .5.
    """

    std: float
    entropy: float
    disagreement: float
    mutual_information: float


def _bits(p: Opinions) -> Opinions:
    held = np.clip(p, 1e-300, 1.0)
    other = np.clip(1 - p, 1e-300, 1.0)
    return np.asarray(-(p * np.log2(held) + (1 - p) * np.log2(other)), np.float64)


def uncertainty(p: npt.ArrayLike, weights: npt.ArrayLike, *, threshold: npt.ArrayLike = 0.5) -> Uncertainty:
    """Measure the spread of the members' opinions ``[M]``; all zero but the entropy for a single member.

    ``threshold``: above it a member votes fake; one number, or one a member.
    """
    opinions, heard = np.asarray(p, np.float64), check_weights(weights)
    share = heard / heard.sum()
    middle = float(share @ opinions)
    fake = float(share[opinions > np.asarray(threshold)].sum())
    whole = float(_bits(np.asarray([middle]))[0])
    return Uncertainty(
        std=float(np.sqrt(share @ (opinions - middle) ** 2)),
        entropy=whole,
        disagreement=min(fake, 1 - fake) if 0 < fake < 1 else 0.0,
        mutual_information=max(whole - float(share @ _bits(opinions)), 0.0),
    )
