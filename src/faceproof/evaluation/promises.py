"""Whether a conformal band keeps its promise on source videos it was not fitted to."""

from __future__ import annotations

import numpy as np
from pydantic import BaseModel, ConfigDict

from faceproof.errors import EvaluationError
from faceproof.evaluation.conformal import Band, fit_band
from faceproof.evaluation.scores import Mask, ScoreTable

CALIBRATION_SPLITS = frozenset({"calibration", "val", "validation"})


class BandCheck(BaseModel):
    """A band fitted to all calibration files, and what such a band did on files that it was not fitted to.

    Rates are shares of the ``reals`` and ``fakes`` judged: called FAKE, called REAL, left INCONCLUSIVE.
    ``how`` says which files those were.
    """

    model_config = ConfigDict(extra="forbid")

    band: Band
    how: str
    reals: int
    fakes: int
    false_alarm_rate: float
    miss_rate: float
    inconclusive_reals: float
    inconclusive_fakes: float


def check_band(video: ScoreTable, max_false_alarms: float, max_misses: float | None = None) -> BandCheck | None:
    """Fit on the calibration split and judge the rest; without one, fit on half of the sources and judge the other
    half, both ways. None when neither can be done."""
    seen = video.select(video.scored)
    rates = {"max_false_alarms": max_false_alarms, "max_misses": max_misses}
    fitting = np.isin(seen.split, tuple(CALIBRATION_SPLITS))
    try:
        if fitting.any() and not fitting.all():
            band = fit_band(seen.select(fitting), **rates)  # type: ignore[arg-type]
            return _check(band, seen, [(band, ~fitting)], "fitted to the calibration split, judged on the rest")
        half = _one_half(seen)
        ways = [(fit_band(seen.select(fit), **rates), ~fit) for fit in (half, ~half)]  # type: ignore[arg-type]
        band = fit_band(seen, **rates)  # type: ignore[arg-type]
    except EvaluationError:
        return None
    return _check(band, seen, ways, "fitted to one half of the source videos and judged on the other, both ways")


def _one_half(table: ScoreTable) -> Mask:
    """Half of the source videos of either class, drawn by lot: in a table that alternates between the classes every other
    source is a forgery."""
    groups = table.groups()
    size = int(groups.max()) + 1 if len(groups) else 0
    fakes = np.bincount(groups, weights=table.label, minlength=size)
    holds = np.where(fakes == 0, 0, np.where(fakes == np.bincount(groups, minlength=size), 2, 1))
    part = np.empty(size, dtype=np.int64)
    part[np.lexsort((np.random.default_rng(0).permutation(size), holds))] = np.arange(size)
    return np.asarray(part[groups] % 2 == 0)


def _check(band: Band, seen: ScoreTable, ways: list[tuple[Band, Mask]], how: str) -> BandCheck:
    calls = np.full(len(seen), "", dtype=object)
    for used, rows in ways:
        above = seen.score >= used.high if used.low < used.high else seen.score > used.threshold
        below = seen.score <= used.low
        calls[rows] = np.where(above, "FAKE", np.where(below, "REAL", "INCONCLUSIVE"))[rows]
    judged = calls != ""
    reals, fakes = judged & (seen.label == 0), judged & (seen.label == 1)

    def share(rows: Mask, word: str) -> float:
        return float(np.mean(calls[rows] == word)) if rows.any() else float("nan")

    return BandCheck(
        band=band,
        how=how,
        reals=int(reals.sum()),
        fakes=int(fakes.sum()),
        false_alarm_rate=share(reals, "FAKE"),
        miss_rate=share(fakes, "REAL"),
        inconclusive_reals=share(reals, "INCONCLUSIVE"),
        inconclusive_fakes=share(fakes, "INCONCLUSIVE"),
    )
