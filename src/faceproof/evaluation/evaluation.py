"""One evaluation: everything that was measured, in the form that is written to JSON and drawn in reports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from faceproof import __version__
from faceproof.detectors.spec import Fitted, QualityBands
from faceproof.errors import EvaluationError
from faceproof.evaluation import metrics
from faceproof.evaluation.bootstrap import Estimate, measure_all
from faceproof.evaluation.calibrate import METHODS, CalibrationQuality, cross_check
from faceproof.evaluation.problems import Problem, ProblemLog
from faceproof.evaluation.promises import BandCheck, check_band
from faceproof.evaluation.protocols import ProtocolResult
from faceproof.evaluation.robustness import Curve
from faceproof.evaluation.scores import FloatArray, IntArray, ScoreTable
from faceproof.evaluation.slices import Slice, slice_all
from faceproof.evaluation.soundness import Finding, inspect
from faceproof.results import DetectorFacts

EVALUATION_SCHEMA = "1.0"
CURVE_POINTS = 200
HISTOGRAM_BINS = 25


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", protected_namespaces=(), ser_json_inf_nan="null")


class Coverage(_Model):
    """What became of every file, by class: ``fake`` and ``real`` map FAKE, REAL, INCONCLUSIVE, NOT_ASSESSED, FAILED (or,
    for a tool that gives no verdict, SCORED and UNSCORED) to numbers of files. ``reasons`` counts why files were not
    judged."""

    files: int
    scored: int
    fake: dict[str, int]
    real: dict[str, int]
    reasons: dict[str, int] = Field(default_factory=dict)
    answered_without_face: int = 0


class BaseRate(_Model):
    """What no skill at all would get here."""

    share_of_fakes: float
    always_fake_accuracy: float
    majority_accuracy: float
    chance_average_precision: float
    constant_log_loss: float


class Level(_Model):
    """Metrics over frames, people or files. ``auroc_all`` counts every pair with an unscored row as a coin toss."""

    level: str
    rows: int
    scored: int
    fakes: int
    reals: int
    sources: int
    metrics: dict[str, Estimate]
    auroc_all: float | None
    base_rate: BaseRate | None


class ReliabilityBin(_Model):
    """One bin of the reliability diagram: rows in it, their mean score and the share that is fake."""

    rows: int
    score: float | None
    fakes: float | None


class Drawn(_Model):
    """What the plots need: the ROC thinned to a few hundred points, reliability bins, and score histograms by class."""

    fpr: list[float]
    tpr: list[float]
    reliability: list[ReliabilityBin]
    histogram_fake: list[int]
    histogram_real: list[int]


class Posterior(_Model):
    """What verdicts are worth where a share ``prior`` of all files is fake. ``fake_right`` is the share of FAKE verdicts
    that are right, ``real_right`` of REAL ones, at the threshold, both with the ends that the intervals allow."""

    prior: float
    fake_right: Estimate
    real_right: Estimate


class Evaluation(_Model):
    """Everything measured of one detector on one set. ``fitted`` says what its verdicts were promised to do."""

    schema_version: str = EVALUATION_SCHEMA
    faceproof_version: str = __version__
    name: str
    detector: DetectorFacts | None
    data: str
    data_sha256: str
    settings: dict[str, str | int | float | None]
    threshold: float
    threshold_source: str
    coverage: Coverage
    levels: list[Level]
    slices: list[Slice]
    drawn: Drawn | None
    findings: list[Finding]
    problems: list[Problem]
    calibration: list[CalibrationQuality] = Field(default_factory=list)
    band: BandCheck | None = None
    posteriors: list[Posterior] = Field(default_factory=list)
    robustness: list[Curve] = Field(default_factory=list)
    quality_bands: QualityBands | None = None
    fitted: Fitted | None = None
    protocol: ProtocolResult | None = None
    seconds: dict[str, float] = Field(default_factory=dict)

    @property
    def main(self) -> Level:
        """The level of files, or the finest there is."""
        return next((level for level in self.levels if level.level == "video"), self.levels[0])


@dataclass(frozen=True)
class Settings:
    """How to evaluate. ``threshold_source`` says where the threshold comes from; "test" is called bad science."""

    threshold: float = 0.5
    threshold_source: str = "the default 0.5"
    resamples: int = 1000
    seed: int = 0
    priors: tuple[float, ...] = (0.5, 0.1, 0.01)
    max_false_alarms: float | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


def evaluate(
    name: str,
    video: ScoreTable,
    *,
    track: ScoreTable | None = None,
    frame: ScoreTable | None = None,
    settings: Settings | None = None,
    problems: ProblemLog | None = None,
    detector: DetectorFacts | None = None,
    data: str = "",
) -> Evaluation:
    """Measure everything that the tables allow. ``video`` has one row per file, unscored ones included.

    Raises :class:`EvaluationError` when no file is scored, or when only one class has a scored file: no detector can be
    judged on that.
    """
    settings = settings or Settings()
    seen = video.select(video.scored)
    for word, label in (("fake", 1), ("real", 0)):
        if not np.any(seen.label == label):
            listed = int(np.sum(video.label == label))
            raise EvaluationError(
                f"no {word} file has a score ({listed} listed, {len(seen)} of {len(video)} files scored): one class alone "
                "tells nothing about a detector",
                remedy="Add files of the other class; `faceproof scan` shows why files are not assessed.",
            )
    levels = [
        _measure_level(word, table, settings)
        for word, table in (("video", video), ("track", track), ("frame", frame))
        if table is not None and len(table)
    ]
    area = levels[0].metrics["auroc"]
    return Evaluation(
        name=name,
        detector=detector,
        data=data,
        data_sha256=video.sha256(),
        settings={"resamples": settings.resamples, "seed": settings.seed, **settings.extra},
        threshold=settings.threshold,
        threshold_source=settings.threshold_source,
        coverage=_cover(video),
        levels=levels,
        slices=slice_all(
            video, threshold=settings.threshold, resamples=min(settings.resamples, 500), seed=settings.seed
        ),
        drawn=_draw(seen),
        findings=inspect(
            video,
            threshold=settings.threshold,
            threshold_source=settings.threshold_source,
            auroc=area,
            seed=settings.seed,
        ),
        problems=problems.problems if problems is not None else [],
        calibration=_cross_checks(video),
        band=None if settings.max_false_alarms is None else check_band(video, settings.max_false_alarms),
        posteriors=[_posterior(prior, levels[0].metrics) for prior in settings.priors],
    )


def _measure_level(word: str, table: ScoreTable, settings: Settings) -> Level:
    seen = table.select(table.scored)
    measured = measure_all(
        seen.label,
        seen.score,
        seen.groups(),
        threshold=settings.threshold,
        resamples=settings.resamples,
        seed=settings.seed,
    )
    area = measured["auroc"].value
    shares = [
        float(table.scored[table.label == label].mean()) if np.any(table.label == label) else 0.0 for label in (1, 0)
    ]
    return Level(
        level=word,
        rows=len(table),
        scored=len(seen),
        fakes=int(seen.label.sum()),
        reals=int(np.sum(seen.label == 0)),
        sources=len(np.unique(seen.groups())),
        metrics=measured,
        auroc_all=None if area is None else metrics.coin_toss_auroc(area, *shares),
        base_rate=_base_rate(seen.label) if len(seen) else None,
    )


def _base_rate(label: IntArray) -> BaseRate:
    share = float(label.mean())
    spread = [p * np.log(p) for p in (share, 1 - share) if p > 0]
    return BaseRate(
        share_of_fakes=share,
        always_fake_accuracy=share,
        majority_accuracy=max(share, 1 - share),
        chance_average_precision=share,
        constant_log_loss=float(-sum(spread)),
    )


def _cover(table: ScoreTable) -> Coverage:
    by_class: dict[int, dict[str, int]] = {1: {}, 0: {}}
    told = np.any(table.verdict != "")
    outcome = table.verdict if told else np.where(table.scored, "SCORED", "UNSCORED")
    for label, counts in by_class.items():
        words, numbers = np.unique(outcome[table.label == label].astype(str), return_counts=True)
        counts.update({str(word) or "UNSCORED": int(number) for word, number in zip(words, numbers, strict=True)})
    unjudged = np.isin(outcome, ("INCONCLUSIVE", "NOT_ASSESSED", "FAILED", "UNSCORED"))
    reasons, numbers = np.unique(table.reason[unjudged & (table.reason != "")].astype(str), return_counts=True)
    return Coverage(
        files=len(table),
        scored=int(table.scored.sum()),
        fake=by_class[1],
        real=by_class[0],
        reasons={str(reason): int(number) for reason, number in zip(reasons, numbers, strict=True)},
        answered_without_face=int((table.scored & (table.reason == "no_face")).sum()),
    )


def _draw(seen: ScoreTable) -> Drawn:
    fpr, tpr, _ = metrics.roc(seen.label, seen.score)
    kept = _thin(fpr, tpr)
    rows, mean, share = metrics.reliability(seen.label, seen.score)
    bins = [
        ReliabilityBin(rows=int(n), score=None if n == 0 else float(s), fakes=None if n == 0 else float(f))
        for n, s, f in zip(rows, mean, share, strict=True)
    ]
    edges = np.linspace(0, 1, HISTOGRAM_BINS + 1)
    counts = [np.histogram(seen.score[seen.label == label], edges)[0].tolist() for label in (1, 0)]
    return Drawn(
        fpr=fpr[kept].tolist(),
        tpr=tpr[kept].tolist(),
        reliability=bins,
        histogram_fake=counts[0],
        histogram_real=counts[1],
    )


def _thin(fpr: FloatArray, tpr: FloatArray) -> IntArray:
    """Points of the curve at even steps along it, both ends kept."""
    along = np.concatenate([[0], np.cumsum(np.abs(np.diff(fpr)) + np.abs(np.diff(tpr)))])
    wanted = np.searchsorted(along, np.linspace(0, along[-1], CURVE_POINTS))
    return np.unique(np.concatenate([[0], np.minimum(wanted, len(fpr) - 1), [len(fpr) - 1]]))


def _cross_checks(video: ScoreTable) -> list[CalibrationQuality]:
    found = []
    for method in METHODS:
        try:
            found.append(cross_check(video, method))
        except EvaluationError:
            # Too few sources, or scores without order: the findings say so; there is no calibration to show.
            continue
    return found


def _posterior(prior: float, measured: Mapping[str, Estimate]) -> Posterior:
    alarms, misses = measured["false_alarm_rate"], measured["miss_rate"]
    return Posterior(
        prior=prior, fake_right=_bayes(prior, misses, alarms), real_right=_bayes(1 - prior, alarms, misses)
    )


def _bayes(share: float, missed: Estimate, wrong: Estimate) -> Estimate:
    """Share of verdicts that are right when ``share`` of the files are of their class, of which ``missed`` do not get
    it, while ``wrong`` of the others do. The ends pair the worse ends of both rates, so they are no tighter than 95 %."""

    def right(miss: float | None, error: float | None) -> float | None:
        if miss is None or error is None:
            return None
        given = share * (1 - miss) + (1 - share) * error
        return share * (1 - miss) / given if given > 0 else None

    return Estimate(
        value=right(missed.value, wrong.value), low=right(missed.high, wrong.high), high=right(missed.low, wrong.low)
    )
