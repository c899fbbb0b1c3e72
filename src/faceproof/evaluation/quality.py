"""Fitting bands that widen as the material gets worse; :mod:`faceproof.detectors.quality` applies them.

A detector's false alarms at 300 kbit/s are not those at 5 Mbit/s. The sweep measures, for every face size (by
downscaling) and for every compression (by H.264), how wide the band must be to keep the promise there.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from faceproof.detectors.spec import BandPoint, QualityBands
from faceproof.errors import EvaluationError
from faceproof.evaluation.conformal import fit_band
from faceproof.evaluation.metrics import auroc, has_both
from faceproof.evaluation.robustness import UNTOUCHED, Cell, Sweep
from faceproof.evaluation.scores import ScoreTable
from faceproof.media.files import media_kind
from faceproof.results import QualityAxis

SWEPT: dict[QualityAxis, str] = {"face_side": "downscale", "bits_per_pixel": "h264"}
"""The degradation that measures each axis."""


def fit_quality_bands(sweep: Sweep, *, max_false_alarms: float, max_misses: float | None = None) -> QualityBands:
    """Bands from a sweep over ``downscale`` and ``h264`` (either will do) at the rates the user chose.

    Raises :class:`EvaluationError` when the sweep holds neither.
    """
    misses = max_false_alarms if max_misses is None else max_misses
    axes = {axis: _along(sweep, axis, kind, (max_false_alarms, misses)) for axis, kind in SWEPT.items()}
    if not any(axes.values()):
        raise EvaluationError(
            "quality bands need a sweep over downscale or h264", remedy="Add --robustness downscale,h264."
        )
    return QualityBands(false_alarms=max_false_alarms, misses=misses, **axes)


def _along(sweep: Sweep, axis: QualityAxis, kind: str, rates: tuple[float, float]) -> tuple[BandPoint, ...]:
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
            measured.append((float(np.median(values)), *band_or_all(table, rates)))
    return widening(measured)


def band_or_all(table: ScoreTable, rates: tuple[float, float]) -> tuple[float, float]:
    """The conformal band for ``rates`` of false alarms and misses; all of the scale where the detector is blind."""
    seen = table.select(table.scored)
    if not has_both(seen.label) or auroc(seen.label, seen.score) <= 0.5:
        return 0.0, 1.0
    band = fit_band(seen, max_false_alarms=rates[0], max_misses=rates[1])
    return band.low, band.high


def widening(measured: Iterable[tuple[float, float, float]]) -> tuple[BandPoint, ...]:
    """Points of an axis from ``(quality, low, high)``, best first, each widened to hold every better one's band."""
    points: dict[float, BandPoint] = {}
    low, high = 1.0, 0.0
    for at, here_low, here_high in sorted(measured, reverse=True):
        low, high = min(low, here_low), max(high, here_high)
        points[at] = BandPoint(at=at, low=low, high=high)
    return tuple(points.values())
