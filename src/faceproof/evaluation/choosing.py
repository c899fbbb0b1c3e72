"""Choosing a detector's calibration, bands and thresholds from what it says of people who are nobody's test set.

Scores of single faces scatter more than means of many, so a band for stills is wider than one for clips. Both are fitted
here by split conformal prediction: the rule's own band from everybody's whole clip, a wider one for fewer faces. Along
every other measured quality the people are cut into groups of equal size, and a group in which the own band breaks its
promise beyond chance gets one of its own (Mondrian: Vovk et al. 2005); all are made monotone. The promise therefore
holds over the whole mixture, and within a group as far as the data can tell. Whether it is kept is checked on people
not fitted to.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict

from faceproof.batch import Outcome
from faceproof.detectors.aggregate import FaceTable, aggregate
from faceproof.detectors.calibration import calibrate
from faceproof.detectors.detector import Detector
from faceproof.detectors.quality import Quality
from faceproof.detectors.spec import BandPoint, Calibration, Fitted, Margin, Method, QualityBands, VerdictRule
from faceproof.detectors.verdict import judge_score
from faceproof.errors import EvaluationError
from faceproof.evaluation.calibrate import Method as Fit
from faceproof.evaluation.calibrate import apply, fit
from faceproof.evaluation.conformal import beyond_chance, fit_band, sources_needed, upper_bound
from faceproof.evaluation.manifest import Manifest
from faceproof.evaluation.quality import band_or_all, widening
from faceproof.evaluation.scores import FloatArray, Mask, ScoreTable
from faceproof.faces import cut, sharpness
from faceproof.judge import compression, face_table, frames_of
from faceproof.results import QualityAxis, Report, Verdict

BINS = 4
"""At most so many groups of equal size along a measured quality."""
MEASURED: tuple[QualityAxis, ...] = ("face_side", "sharpness", "bits_per_pixel")


class Footage(Protocol):
    """A few frames of one person whose face was found: uint8 RGB ``[T, H, W, 3]``, boxes ``[T, 4]``, 1 for forged, whose
    face it is, and a name of its own."""

    @property
    def frames(self) -> np.ndarray: ...
    @property
    def boxes(self) -> np.ndarray: ...
    @property
    def label(self) -> int: ...
    @property
    def source(self) -> str: ...
    @property
    def name(self) -> str: ...


@dataclass(frozen=True)
class Person:
    """What a detector said of one person: raw P(fake) of each face ``[K]`` in order of time, how good the material is, and
    which source (person or video) the person comes from."""

    name: str
    label: int
    source: str
    p: FloatArray
    quality: Quality


def watch(detector: Detector, footage: Iterable[Footage]) -> Iterator[Person]:
    """Score clips whose faces are known, as a scan would once it has found them."""
    bare = Margin()
    for clip in footage:
        boxes = [(float(x0), float(y0), float(x1), float(y1)) for x0, y0, x1, y1 in clip.boxes]
        p = detector.score([detector.cut(frame, box) for frame, box in zip(clip.frames, boxes, strict=True)])
        sides = [max(x1 - x0, y1 - y0) for x0, y0, x1, y1 in boxes]
        sharp = [sharpness(cut(frame, box, bare)) for frame, box in zip(clip.frames, boxes, strict=True)]
        quality = Quality(float(np.median(sides)), float(np.median(sharp)), faces=len(p))
        yield Person(clip.name, clip.label, clip.source, p.astype(np.float64), quality)


def people_of(manifest: Manifest, outcomes: Sequence[Outcome], method: Method) -> list[Person]:
    """Everybody judged in reports, in the manifest's order: in a genuine file all of them, in a forged one the most
    suspicious by ``method``, because the others may be genuine."""
    found = []
    for entry, outcome in zip(manifest.entries, outcomes, strict=True):
        if not isinstance(outcome, Report):
            continue
        name = manifest.relative(entry)
        table = face_table(frames_of(outcome))
        source = f"{entry.dataset}\0{entry.source_video}" if entry.source_video else name
        here = []
        for track in outcome.tracks:
            if track.verdict is Verdict.NOT_ASSESSED:
                continue
            p = table.p[table.track == track.id]
            bits = compression(outcome.media)
            quality = Quality(track.median_side, track.median_sharpness, bits, len(p))
            here.append(Person(f"{name}#{track.id}", entry.label, source, p, quality))
        if entry.label == 1 and here:
            here = [max(here, key=lambda person: pool(person.p, method))]
        found += here
    return found


def pool(p: FloatArray, method: Method) -> float:
    """One person's faces as one raw score."""
    return aggregate(FaceTable(np.arange(len(p)), np.zeros(len(p), np.int64), p), method)


@dataclass(frozen=True)
class Rates:
    """What to promise: the share of genuine files called FAKE, of forgeries called REAL, and of genuine faces above the
    frame threshold."""

    false_alarms: float = 0.01
    misses: float = 0.2
    frame_alarms: float = 0.05


class Kept(BaseModel):
    """What a rule fitted to one half of the sources did on the other, both ways. Rates are shares of the genuine and of
    the forged."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    what: str
    reals: int
    fakes: int
    false_alarm_rate: float
    miss_rate: float
    inconclusive_reals: float
    inconclusive_fakes: float


@dataclass(frozen=True)
class Chosen:
    """A calibration, the rule that goes with it, how it kept its promises, and what could not be fitted."""

    calibration: Calibration
    rule: VerdictRule
    kept: list[Kept]
    warnings: list[str]


def choose(
    people: Sequence[Person],
    rule: VerdictRule,
    method: Method,
    rates: Rates,
    *,
    fit_method: Fit = "platt",
    data: str,
    command: str,
    check: bool = True,
) -> Chosen:
    """Calibration, band, bands by quality and frame threshold from ``people``; everything else stays as in ``rule``.

    ``method`` is the spec's for a person's faces; ``check`` measures the promises, which takes two more fits. Raises
    :class:`EvaluationError` without both classes, and as :func:`faceproof.evaluation.calibrate.fit`.
    """
    calibration, chosen, warnings = _choose(people, rule, method, rates, fit_method, data, command)
    kept = _check(people, rule, method, rates, fit_method) if check else []
    return Chosen(calibration, chosen, kept, warnings)


def _choose(
    people: Sequence[Person], rule: VerdictRule, method: Method, rates: Rates, fit_method: Fit, data: str, command: str
) -> tuple[Calibration, VerdictRule, list[str]]:
    both = rates.false_alarms, rates.misses
    raw = {count: _table(people, method, count) for count in _counts(people)}
    whole = _table(people, method, None)
    # One map for stills and clips: each of them weighs half.
    calibration = fit(_joined(raw[1], whole), fit_method, data=data)
    judged = _calibrated(whole, calibration)
    band = fit_band(judged, max_false_alarms=rates.false_alarms, max_misses=rates.misses)
    warnings = [
        f"{sources} {word} sources cannot carry a promise of {rate:g}, which needs {sources_needed(rate)}: the band reaches "
        "the end of the scale"
        for enough, word, sources, rate in (
            (band.enough_reals, "real", band.real_sources, rates.false_alarms),
            (band.enough_fakes, "fake", band.fake_sources, rates.misses),
        )
        if not enough
    ]
    axes: dict[QualityAxis, tuple[BandPoint, ...]] = {}
    if len(raw) > 1:
        axes["faces"] = _bands(
            (count, band_or_all(_calibrated(table, calibration), both)) for count, table in raw.items()
        )
    for axis in MEASURED:
        axes[axis] = _along(judged, axis, both, (band.low, band.high))
        if not axes[axis]:
            warnings.append(f"no band by {axis.replace('_', ' ')}: it is not known of enough people")
    # Where the best material needs more than the mixture, that is no matter of bad quality: everybody gets it.
    best = [(points[0].low, points[0].high) for points in axes.values() if points]
    low, high = _outward(band.low, band.high)
    low, high = min([low, *(one for one, _ in best)]), max([high, *(one for _, one in best)])
    axes = {axis: _beyond(points, low, high) for axis, points in axes.items()}
    singles = raw[1].select(raw[1].label == 0)
    limit = upper_bound(singles.score, singles.groups(), rates.frame_alarms)
    fitted = Fitted(
        data=data,
        data_sha256=calibration.data_sha256 or "",
        reals=band.real_sources,
        fakes=band.fake_sources,
        false_alarms=rates.false_alarms,
        misses=rates.misses,
        frame_alarms=rates.frame_alarms,
        command=command,
    )
    quality = QualityBands(false_alarms=rates.false_alarms, misses=rates.misses, **axes) if any(axes.values()) else None
    update = {
        "threshold": round((low + high) / 2, 4),
        "band": (low, high),
        "frame_threshold": _outward(0.0, min(limit, 1.0))[1],
        "quality": quality,
        "fitted": fitted,
    }
    return calibration, rule.model_copy(update=update), warnings


def _outward(low: float, high: float) -> tuple[float, float]:
    """Four decimals, never a narrower band; one of no width keeps none."""
    if low == high:
        return round(low, 4), round(low, 4)
    return math.floor(low * 10_000) / 10_000, min(1.0, math.ceil(high * 10_000) / 10_000)


def _beyond(points: Sequence[BandPoint], low: float, high: float) -> tuple[BandPoint, ...]:
    """The points made to hold the band for everybody; none when not one of them asks for more."""
    if all(low <= point.low and point.high <= high for point in points):
        return ()
    return widening((point.at, min(low, point.low), max(high, point.high)) for point in points)


def _bands(measured: Iterable[tuple[float, tuple[float, float]]]) -> tuple[BandPoint, ...]:
    return widening((float(f"{at:.4g}"), *_outward(*band)) for at, band in measured)


def _counts(people: Sequence[Person]) -> list[int]:
    """1, 2, 4 … faces, as long as nine people in ten have so many."""
    enough = np.quantile([len(person.p) for person in people], 0.1, method="lower") if people else 0
    counts = [1]
    while counts[-1] * 2 <= enough:
        counts.append(counts[-1] * 2)
    return counts


def _table(people: Sequence[Person], method: Method, count: int | None) -> ScoreTable:
    """One row a person: the raw score of their first ``count`` faces, or of all of them."""
    kept = [person for person in people if count is None or len(person.p) >= count]
    axes = ("face_side", "sharpness", "bits_per_pixel")
    return ScoreTable.of(
        [f"{person.name}@{'all' if count is None else count}" for person in kept],
        [person.label for person in kept],
        [pool(person.p[:count], method) for person in kept],
        source_video=[person.source for person in kept],
        quality={axis: [getattr(person.quality, axis) for person in kept] for axis in axes},
    )


def _joined(a: ScoreTable, b: ScoreTable) -> ScoreTable:
    path, label, score, source = (
        np.concatenate([getattr(a, name), getattr(b, name)]) for name in ("path", "label", "score", "source_video")
    )
    return ScoreTable.of(path, label, score, source_video=source)


def _calibrated(table: ScoreTable, calibration: Calibration) -> ScoreTable:
    return replace(table, score=apply(table.score, calibration))


def _along(
    table: ScoreTable, axis: QualityAxis, rates: tuple[float, float], own: tuple[float, float]
) -> tuple[BandPoint, ...]:
    """Bands in groups of equal size by ``axis``, as many as can each carry both promises; none below two groups. A group
    keeps an end of the ``own`` band unless it is broken there beyond chance."""
    values = table.quality[axis]
    known = np.isfinite(values) & (values > 0)
    least = [sources_needed(rate) for rate in rates]
    for bins in range(BINS, 1, -1):
        edges = np.quantile(values[known], np.linspace(0, 1, bins + 1)[1:-1]) if known.any() else np.zeros(0)
        place = np.where(known, np.searchsorted(edges, values, side="right"), -1)
        parts = [table.select(place == number) for number in range(bins)]
        carried = all(
            len(np.unique(part.groups()[part.label == label])) >= need
            for part in parts
            for label, need in zip((0, 1), least, strict=True)
        )
        middles = [float(np.median(part.quality[axis])) if len(part) else 0.0 for part in parts]
        if carried and len(set(middles)) == bins:
            return _bands((at, _where_broken(part, rates, own)) for at, part in zip(middles, parts, strict=True))
    return ()


def _where_broken(part: ScoreTable, rates: tuple[float, float], own: tuple[float, float]) -> tuple[float, float]:
    low, high = own
    here_low, here_high = band_or_all(part, rates)
    alarms = part.score[part.label == 0] >= high
    misses = part.score[part.label == 1] <= low
    if beyond_chance(int(alarms.sum()), len(alarms), rates[0]):
        high = max(high, here_high)
    if beyond_chance(int(misses.sum()), len(misses), rates[1]):
        low = min(low, here_low)
    return low, high


def _check(people: Sequence[Person], rule: VerdictRule, method: Method, rates: Rates, fit_method: Fit) -> list[Kept]:
    """Everybody judged by a rule that was fitted without their half of the sources: whole clips, and first faces alone."""
    sources = sorted({person.source for person in people})
    order = np.random.default_rng(0).permutation(len(sources))
    half = {sources[number]: place % 2 for place, number in enumerate(order)}
    verdicts: dict[str, list[tuple[int, Verdict]]] = {"stills": [], "clips": []}
    for part in (0, 1):
        fitting = [person for person in people if half[person.source] != part]
        try:
            calibration, chosen, _ = _choose(fitting, rule, method, rates, fit_method, "", "")
        except EvaluationError:
            return []
        for person in (person for person in people if half[person.source] == part):
            for what, count in (("stills", 1), ("clips", len(person.p))):
                if what == "clips" and count == 1:
                    continue
                score = calibrate(pool(person.p[:count], method), calibration)
                seen = judge_score(score, chosen, replace(person.quality, faces=count))
                verdicts[what].append((person.label, seen.verdict))
    return [_kept(what, seen) for what, seen in verdicts.items() if {label for label, _ in seen} == {0, 1}]


def _kept(what: str, seen: Sequence[tuple[int, Verdict]]) -> Kept:
    label = np.array([label for label, _ in seen])
    verdict = np.array([verdict.value for _, verdict in seen], dtype=object)

    def share(rows: Mask, word: Verdict) -> float:
        return float(np.mean(verdict[rows] == word.value))

    reals, fakes = label == 0, label == 1
    return Kept(
        what=what,
        reals=int(reals.sum()),
        fakes=int(fakes.sum()),
        false_alarm_rate=share(reals, Verdict.FAKE),
        miss_rate=share(fakes, Verdict.REAL),
        inconclusive_reals=share(reals, Verdict.INCONCLUSIVE),
        inconclusive_fakes=share(fakes, Verdict.INCONCLUSIVE),
    )
