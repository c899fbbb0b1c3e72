"""The same metrics on parts of the set: by dataset, by forgery method, by how good the material is."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from pydantic import BaseModel, ConfigDict

from faceproof.evaluation import metrics
from faceproof.evaluation.bootstrap import Estimate, auroc_estimate
from faceproof.evaluation.scores import FloatArray, Mask, ScoreTable

FACE_SIDES = (48.0, 96.0, 160.0)
"""Edges of the face size slices, in pixels of the box's longer side."""


class Slice(BaseModel):
    """One part. ``by`` says how it was cut. Counts are of files; ``scored`` of those with a score. Rates are at the
    evaluation's threshold; a part with one class only has a rate but no AUROC. ``low`` and ``high`` are the edges of a part
    cut by quality, None where it has no end."""

    model_config = ConfigDict(extra="forbid")

    by: str
    name: str
    files: int
    scored: int
    fakes: int
    reals: int
    sources: int
    auroc: Estimate
    false_alarm_rate: float | None
    miss_rate: float | None
    low: float | None = None
    high: float | None = None


def slice_all(video: ScoreTable, *, threshold: float, resamples: int = 500, seed: int = 0) -> list[Slice]:
    """Every cut that the table's columns allow, of one row per file."""
    found = []
    by_name = ((*cut, None, None) for cut in (*_by_dataset(video), *_by_method(video)))
    for by, name, rows, low, high in (*by_name, *_by_quality(video)):
        part = video.select(rows)
        seen = part.select(part.scored)
        alarms = metrics.false_alarm_rate(seen.label, seen.score, threshold)
        misses = metrics.miss_rate(seen.label, seen.score, threshold)
        found.append(
            Slice(
                by=by,
                name=name,
                files=len(part),
                scored=len(seen),
                fakes=int(part.label.sum()),
                reals=int(np.sum(part.label == 0)),
                sources=len(np.unique(part.groups())),
                auroc=auroc_estimate(seen.label, seen.score, seen.groups(), resamples=resamples, seed=seed),
                false_alarm_rate=None if np.isnan(alarms) else alarms,
                miss_rate=None if np.isnan(misses) else misses,
                low=low,
                high=high,
            )
        )
    return found


def _by_dataset(table: ScoreTable) -> Iterator[tuple[str, str, Mask]]:
    names = _names(table.dataset)
    for name in names:
        yield "dataset", name, table.dataset == name


def _by_method(table: ScoreTable) -> Iterator[tuple[str, str, Mask]]:
    """The fakes of one method against all reals of the same dataset, as benchmarks do."""
    for dataset in _names(table.dataset) or [""]:
        here = table.dataset == dataset
        methods = _names(table.method[here & (table.label == 1)])
        for method in methods:
            rows = here & ((table.label == 0) | (table.method == method))
            yield "method", f"{dataset} · {method}" if dataset else method, rows


def _by_quality(table: ScoreTable) -> Iterator[tuple[str, str, Mask, float | None, float | None]]:
    if "face_side" in table.quality:
        yield from _between("face size", table.quality["face_side"], FACE_SIDES, " px")
    for name, unit in (("sharpness", ""), ("bits_per_pixel", " bit/px"), ("bit_rate", " bit/s")):
        values = table.quality.get(name)
        if values is not None and np.isfinite(values).sum() >= 6:
            thirds = tuple(float(edge) for edge in np.nanpercentile(values, [100 / 3, 200 / 3]))
            if thirds[0] < thirds[1]:
                yield from _between(name.replace("_", " "), values, thirds, unit)


def _between(
    by: str, values: FloatArray, edges: tuple[float, ...], unit: str
) -> Iterator[tuple[str, str, Mask, float | None, float | None]]:
    bounds = [-np.inf, *edges, np.inf]
    for low, high in pairwise(bounds):
        rows = (values >= low) & (values < high)
        if not rows.any():
            continue
        if low == -np.inf:
            name = f"below {high:.3g}{unit}"
        elif high == np.inf:
            name = f"{low:.3g}{unit} and more"
        else:
            name = f"{low:.3g} to {high:.3g}{unit}"
        yield by, name, rows, None if low == -np.inf else low, None if high == np.inf else high
    unknown = ~np.isfinite(values)
    if unknown.any():
        yield by, "not known", unknown, None, None


def _names(values: object) -> list[str]:
    return sorted({str(name) for name in np.asarray(values, dtype=object) if name})
