"""How good the material is, and the band that it deserves.

A detector's false alarms on a face of 50 pixels are not those on one of 200. A spec may hold bands for measured
quality; a score is then judged by the widest of the rule's own band and those at its own quality, so that worse
material is never judged more boldly than better.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from faceproof.detectors.spec import AXES, BandPoint, QualityBands, VerdictRule
from faceproof.results import AppliedBand, MediaFacts, QualityAxis


@dataclass(frozen=True)
class Quality:
    """How good the material is: median longer side of the face in pixels, median sharpness (as in ``FaceScore``),
    compressed bits per pixel, and how many faces were averaged. NaN where nothing is known."""

    face_side: float = math.nan
    sharpness: float = math.nan
    bits_per_pixel: float = math.nan
    faces: float = math.nan


def bits_per_pixel(media: MediaFacts) -> float:
    """Compressed bits per pixel of a picture, or per pixel and frame of a video; NaN when the container tells nothing.

    A bit rate means little without the size and the frame rate it is spent on.
    """
    pixels = media.width * media.height
    if media.kind == "image":
        return media.size_bytes * 8 / pixels if media.size_bytes else math.nan
    rate = float(Fraction(media.fps)) if media.fps else 0.0
    return media.bit_rate / (pixels * rate) if media.bit_rate and rate else math.nan


def band_of(rule: VerdictRule) -> tuple[float, float]:
    """The scores between which there is no verdict on good material; of no width when the spec sets none."""
    return rule.band or (rule.threshold, rule.threshold)


def band_at(rule: VerdictRule, quality: Quality) -> AppliedBand:
    """The band for material of this quality: the rule's own, widened by every axis that asks for more.

    Each axis is interpolated in the logarithm of the quality; beyond its ends the nearest point holds. An axis that
    was not measured widens nothing.
    """
    low, high = own_low, own_high = band_of(rule)
    asked = {axis: _at(points, getattr(quality, axis)) for axis, points in _axes(rule.quality)}
    known = {axis: band for axis, band in asked.items() if band is not None}
    for at_low, at_high in known.values():
        low, high = min(low, at_low), max(high, at_high)
    widened = {
        axis: getattr(quality, axis)
        for axis, (at_low, at_high) in known.items()
        if (at_low == low < own_low) or (at_high == high > own_high)
    }
    return AppliedBand(low=low, high=high, widened_by=widened)


def _axes(bands: QualityBands | None) -> list[tuple[QualityAxis, Sequence[BandPoint]]]:
    return [] if bands is None else [(axis, getattr(bands, axis)) for axis in AXES]


def _at(points: Sequence[BandPoint], value: float) -> tuple[float, float] | None:
    if not points or not math.isfinite(value) or value <= 0:
        return None
    rising = points[::-1]
    place = np.log([point.at for point in rising])
    # Rounding in the interpolation must not leave the points' own range, or worse could narrow by a hair.
    low = float(np.clip(np.interp(np.log(value), place, [p.low for p in rising]), points[-1].low, points[0].low))
    high = float(np.clip(np.interp(np.log(value), place, [p.high for p in rising]), points[0].high, points[-1].high))
    return low, high
