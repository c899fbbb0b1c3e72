"""Bands that widen as the material gets worse.

A detector's false alarms at 300 kbit/s are not those at 5 Mbit/s. The sweep measures, for every face size (by
downscaling) and for every compression (by H.264), how wide the band must be to keep the promise there; a file is then
judged by the band at its own face size and bits per pixel, never by a narrower one than better material gets.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from faceproof.detectors.spec import VerdictRule
from faceproof.detectors.verdict import Opinion, band_of, judge_score
from faceproof.errors import EvaluationError
from faceproof.evaluation.conformal import fit_band
from faceproof.evaluation.harness import measure_quality
from faceproof.evaluation.manifest import media_kind
from faceproof.evaluation.metrics import auroc, has_both
from faceproof.evaluation.robustness import UNTOUCHED, Cell, Sweep
from faceproof.evaluation.scores import ScoreTable
from faceproof.results import Report, Verdict

AXES = {"face_side": "downscale", "bits_per_pixel": "h264"}


class BandPoint(BaseModel):
    """The band at one measured quality: ``at`` pixels of face side, or bits per pixel."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    at: float
    low: float
    high: float


class QualityBands(BaseModel):
    """Bands along each axis, best quality first; every point at least as wide as the one before it.

    ``false_alarms`` is the rate they were fitted for. Measured on the untouched material as well, so that the first
    points say what good material needs.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    false_alarms: float
    face_side: tuple[BandPoint, ...] = ()
    bits_per_pixel: tuple[BandPoint, ...] = ()

    def at(self, *, face_side: float | None, bits_per_pixel: float | None) -> tuple[float, float] | None:
        """The band for a file: the wider end of the two axes, each interpolated in the logarithm of the quality.

        None where nothing is known of either. Beyond the measured ends the nearest point holds.
        """
        bands = [
            _interpolate(points, value)
            for points, value in ((self.face_side, face_side), (self.bits_per_pixel, bits_per_pixel))
            if points and value is not None and np.isfinite(value) and value > 0
        ]
        if not bands:
            return None
        return min(low for low, _ in bands), max(high for _, high in bands)


def _interpolate(points: Sequence[BandPoint], value: float) -> tuple[float, float]:
    rising = sorted(points, key=lambda point: point.at)
    place = np.log([point.at for point in rising])
    low = np.interp(np.log(value), place, [point.low for point in rising])
    high = np.interp(np.log(value), place, [point.high for point in rising])
    return float(low), float(high)


def fit_quality_bands(sweep: Sweep, *, max_false_alarms: float) -> QualityBands:
    """Bands from a sweep over ``downscale`` and ``h264`` (either will do) at the rate the user chose.

    Raises :class:`EvaluationError` when the sweep holds neither.
    """
    axes = {axis: _along(sweep, axis, kind, max_false_alarms) for axis, kind in AXES.items()}
    if not any(axes.values()):
        raise EvaluationError(
            "quality bands need a sweep over downscale or h264", remedy="Add --robustness downscale,h264."
        )
    return QualityBands(false_alarms=max_false_alarms, **axes)


def _along(sweep: Sweep, axis: str, kind: str, rate: float) -> tuple[BandPoint, ...]:
    cells: list[Cell] = [cell for cell in sweep.tables if cell[0] == kind]
    if not cells:
        return ()
    measured = []
    for cell in [UNTOUCHED, *cells]:
        table = sweep.tables[cell]
        if axis == "bits_per_pixel":
            # A still is stored without loss after its turn through the codec: only clips tell how many bits it took.
            table = table.select(np.array([media_kind(Path(str(path))) == "video" for path in table.path], dtype=bool))
        # Bits per pixel of the lossless untouched run say nothing about a codec either.
        values = table.quality[axis][np.isfinite(table.quality[axis])]
        if len(values) and not (cell == UNTOUCHED and axis == "bits_per_pixel"):
            measured.append((float(np.median(values)), *_band(table, rate)))
    points: list[BandPoint] = []
    low, high = 1.0, 0.0
    for at, here_low, here_high in sorted(measured, reverse=True):
        low, high = min(low, here_low), max(high, here_high)
        points.append(BandPoint(at=at, low=low, high=high))
    return tuple(points)


def _band(table: ScoreTable, rate: float) -> tuple[float, float]:
    """The conformal band at one severity; all of the scale where the detector is blind or does not see faces."""
    seen = table.select(table.scored)
    if not has_both(seen.label) or auroc(seen.label, seen.score) <= 0.5:
        return 0.0, 1.0
    band = fit_band(seen, max_false_alarms=rate)
    return band.low, band.high


def judge_by_quality(report: Report, rule: VerdictRule, bands: QualityBands) -> Opinion:
    """The report's score judged by the wider of the spec's band and the band at the file's own quality.

    A file that was not assessed stays so.
    """
    if report.score is None or report.verdict is Verdict.NOT_ASSESSED:
        return Opinion(report.verdict, report.score, report.reason)
    quality = measure_quality(report)
    widened = bands.at(face_side=quality.face_side, bits_per_pixel=quality.bits_per_pixel)
    if widened is None:
        return judge_score(report.score, rule)
    low, high = band_of(rule)
    wide = (min(low, widened[0]), max(high, widened[1]))
    threshold = min(max(rule.threshold, wide[0]), wide[1])
    return judge_score(report.score, rule.model_copy(update={"band": wide, "threshold": threshold}))
