"""From an aggregated score to a probability. Fitting lives in the evaluation room; this only applies what a spec holds."""

from __future__ import annotations

import math

import numpy as np

from faceproof.detectors.spec import Calibration
from faceproof.errors import OptionError
from faceproof.results import AppliedCalibration, Report

_EDGE = 1e-6


def _logit(p: float) -> float:
    p = min(max(p, _EDGE), 1 - _EDGE)
    return math.log(p) - math.log1p(-p)


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def calibrate(score: float, calibration: Calibration | AppliedCalibration) -> float:
    """Map an aggregated score in [0, 1] to a calibrated P(fake) in [0, 1]; never changes the order of two scores."""
    match calibration.method:
        case "none":
            return score
        case "temperature":
            return _sigmoid(_logit(score) / calibration.a)
        case "platt":
            return _sigmoid(calibration.a * _logit(score) + calibration.b)
        case "isotonic":
            x, y = zip(*calibration.points, strict=True)
            return float(np.interp(score, x, y))


def on_one_scale(report: Report) -> Report:
    """A copy of a report for showing, its faces on the scale of its people: calibrated as those are, like the threshold
    for faces. The order of faces stays. No change to a report of an ensemble, whose members have calibrations of their own.

    A calibration is fitted to people's scores. A single face's number is comparable on that scale, no probability.
    """
    facts = report.detector
    applied = facts.calibration
    if applied is None or applied.method == "none" or report.ensemble is not None:
        return report

    def scaled(p: float | None) -> float | None:
        return None if p is None else calibrate(p, applied)

    frames = [
        frame.model_copy(
            update={
                "score": scaled(frame.score),
                "faces": [face.model_copy(update={"p_fake": scaled(face.p_fake)}) for face in frame.faces],
            }
        )
        for frame in report.frame_predictions
    ]
    told = facts.model_copy(update={"calibration": None, "frame_threshold": scaled(facts.frame_threshold)})
    return report.model_copy(update={"frame_predictions": frames, "detector": told})


def shown_threshold(threshold: float, report: Report) -> float:
    """Where a threshold for faces lies among the faces of :func:`on_one_scale` of ``report``."""
    applied = report.detector.calibration
    return threshold if applied is None or report.ensemble is not None else calibrate(threshold, applied)


def with_prior(p: float, prior: float, *, fitted_prior: float = 0.5) -> float:
    """Posterior P(fake) when a share ``prior`` of the files to be judged is fake, by Bayes' rule on the odds.

    ``p`` is calibrated for a share ``fitted_prior``. Raises :class:`OptionError` unless both shares are inside (0, 1).
    """
    if not (0 < prior < 1 and 0 < fitted_prior < 1):
        raise OptionError("a prior must be above 0 and below 1")
    return _sigmoid(_logit(p) + _logit(prior) - _logit(fitted_prior))
