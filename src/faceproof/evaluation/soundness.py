"""Detectors of bad science: what makes a good-looking number worthless, looked for in every evaluation.

Each check returns its findings; an empty list means that it found nothing, not that there is nothing.
:mod:`faceproof.evaluation.claims` checks published tables in the same words.
"""

from __future__ import annotations

from enum import StrEnum

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from scipy import stats

from faceproof.detectors.spec import Calibration
from faceproof.evaluation import metrics
from faceproof.evaluation.bootstrap import Estimate, auroc_estimate
from faceproof.evaluation.problems import printable
from faceproof.evaluation.scores import FloatArray, IntArray, ScoreTable, Strings


class Severity(StrEnum):
    """``error``: the number does not mean what it says; ``warning``: it is optimistic or unsure; ``note``: know it."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


class Finding(BaseModel):
    """One thing that is wrong with an evaluation: a stable ``code``, the reason in words, and its numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    code: str
    severity: Severity
    message: str
    numbers: dict[str, float] = Field(default_factory=dict)


def inspect(
    table: ScoreTable,
    *,
    threshold: float = 0.5,
    threshold_source: str = "the detector's spec",
    auroc: Estimate | None = None,
    seed: int = 0,
) -> list[Finding]:
    """Every check that a table of one row per file allows. ``auroc`` saves computing it again."""
    seen = table.select(table.scored)
    label, score, group = seen.label, seen.score, seen.groups()
    area = auroc or auroc_estimate(label, score, group, resamples=500, seed=seed)
    return [
        *inverted_polarity(area),
        *inverted_datasets(seen, seed=seed),
        *shuffled_predictions(label, score, area, threshold),
        *verdicts_against_scores(seen),
        *below_majority(label, score, threshold),
        *threshold_from_test(label, score, threshold, threshold_source),
        *leakage(table.split, table.source_video, table.identity, table.dataset_family()),
        *too_few_videos(label, group, area),
        *lifeless_scores(score),
        *uneven_coverage(table),
        *shortcuts(seen, area, seed=seed),
        *unknown_sources(table),
    ]


def inverted_polarity(area: Estimate) -> list[Finding]:
    """Scores that separate the classes backwards: the whole interval of the AUROC lies below one half."""
    if area.value is None or area.high is None or area.high >= 0.5:
        return []
    return [
        Finding(
            code="inverted_polarity",
            severity=Severity.ERROR,
            message=(
                f"The scores run backwards: AUROC {area}. Real files score higher than fakes, so a high score means "
                f"real here; read the file with --fake-is low, or turn the spec's fake_is round "
                f"(AUROC would be {1 - area.value:.3f})."
            ),
            numbers={"auroc": area.value, "high": area.high},
        )
    ]


def inverted_datasets(table: ScoreTable, *, seed: int = 0) -> list[Finding]:
    """Datasets whose scores run backwards although the whole table's may not."""
    names = sorted({str(name) for name in table.dataset if name})
    found = []
    for name in names if len(names) > 1 else ():
        part = table.select(table.dataset == name)
        area = auroc_estimate(part.label, part.score, part.groups(), resamples=200, seed=seed)
        if area.high is not None and area.high < 0.5:
            found.append(
                Finding(
                    code="inverted_dataset",
                    severity=Severity.WARNING,
                    message=f"On {printable(name)} the scores run backwards (AUROC {area}): the labels of this dataset "
                    "may be inverted, or the detector is fooled by it systematically.",
                    numbers={"auroc": area.value or np.nan},
                )
            )
    return found


def shuffled_predictions(label: IntArray, score: FloatArray, area: Estimate, threshold: float) -> list[Finding]:
    """Confident scores in the right proportion that know nothing of the labels: the mark of shuffled rows.

    A detector that has learnt nothing is unsure, or calls everything the same. One that is sure, flags as many as there
    are fakes, and flags the wrong ones, was paired with the wrong labels.
    """
    if not metrics.has_both(label) or area.low is None or area.high is None or not area.low <= 0.5 <= area.high:
        return []
    confidence = float(np.mean(np.abs(score - threshold) / np.where(score > threshold, 1 - threshold, threshold or 1)))
    share, flagged = float(label.mean()), float(np.mean(score > threshold))
    error = 3 * np.sqrt(share * (1 - share) / len(label))
    if confidence < 0.7 or abs(share - flagged) > error or min(share, 1 - share) * len(label) < 10:
        return []
    return [
        Finding(
            code="shuffled_labels",
            severity=Severity.ERROR,
            message=(
                f"Accuracy and AUROC disagree. The scores are sure of themselves (mean {confidence:.2f} of the way from "
                f"the threshold to certainty) and flag {flagged:.1%} where {share:.1%} are fake, yet AUROC is {area}: "
                "the order of the rows tells nothing. Scores and labels were probably paired in different orders."
            ),
            numbers={"confidence": confidence, "flagged": flagged, "fakes": share, "auroc": area.value or np.nan},
        )
    ]


def verdicts_against_scores(table: ScoreTable) -> list[Finding]:
    """Verdicts whose accuracy the scores beside them cannot give at any threshold."""
    decided = np.isin(table.verdict, ("FAKE", "REAL"))
    label, score = table.label[decided], table.score[decided]
    if not metrics.has_both(label):
        return []
    called_fake = table.verdict[decided] == "FAKE"
    caught, alarms = float(np.mean(called_fake[label == 1])), float(np.mean(called_fake[label == 0]))
    area, least = metrics.auroc(label, score), least_auroc(caught, alarms)
    if area >= least - 1e-9:
        return []
    accuracy = float(np.mean(called_fake == (label == 1)))
    return [
        Finding(
            code="verdicts_against_scores",
            severity=Severity.ERROR,
            message=(
                f"The verdicts are right {accuracy:.1%} of the time, which needs an AUROC of at least {least:.3f}; the "
                f"scores beside them have {area:.3f}. Scores and verdicts are not of the same files in the same order."
            ),
            numbers={"accuracy": accuracy, "auroc": area, "least_auroc": least},
        )
    ]


def least_auroc(tpr: float, fpr: float) -> float:
    """The smallest AUROC of any curve through (``fpr``, ``tpr``): zero up to the point, flat after it."""
    return tpr * (1 - fpr)


def below_majority(label: IntArray, score: FloatArray, threshold: float) -> list[Finding]:
    """Accuracy that naming the commoner class every time would beat."""
    if not len(label):
        return []
    reached = metrics.accuracy(label, score, threshold)
    share = float(label.mean())
    majority, word = (share, "fake") if share >= 0.5 else (1 - share, "real")
    if reached >= majority:
        return []
    return [
        Finding(
            code="below_majority",
            severity=Severity.WARNING,
            message=(
                f"Accuracy {reached:.3f} at threshold {threshold:g} is below what calling every file {word} gives "
                f"({majority:.3f}). On this mixture accuracy says nothing for the detector; read the balanced accuracy."
            ),
            numbers={"accuracy": reached, "majority": majority},
        )
    ]


def threshold_from_test(label: IntArray, score: FloatArray, threshold: float, source: str) -> list[Finding]:
    """A threshold that was chosen on the very files it is judged on.

    Found when the caller says so, or when it lies between the same two scores as the threshold that is best here for
    accuracy, for balanced accuracy or for equal errors and has more decimals than a person would choose.
    """
    declared = source == "test"
    best = "" if declared or not metrics.has_both(label) else _best_for(label, score, threshold)
    if not declared and (not best or abs(threshold * 100 - round(threshold * 100)) < 1e-9):
        return []
    why = "was chosen on these files" if declared else f"is the one that is best for {best} on these very files"
    return [
        Finding(
            code="threshold_from_test",
            severity=Severity.ERROR if declared else Severity.WARNING,
            message=(
                f"Threshold {threshold:.6g} {why}. Accuracy, false alarms and misses at it are optimistic; choose it on "
                "a calibration split (`faceproof calibrate`)."
            ),
            numbers={"threshold": threshold},
        )
    ]


def _best_for(label: IntArray, score: FloatArray, threshold: float) -> str:
    fpr, tpr, thresholds = metrics.roc(label, score)
    # A threshold flags what lies above it: the same files as the next score above it does.
    at = np.searchsorted(-thresholds, -threshold, side="left") - 1
    share = label.mean()
    aims = {
        "accuracy": share * tpr + (1 - share) * (1 - fpr),
        "balanced accuracy": tpr - fpr,
        "equal errors": -np.abs(fpr - (1 - tpr)),
    }
    for name, values in aims.items():
        if np.isclose(values[at], values.max(), rtol=0, atol=1e-12) and len(label) >= 20:
            return name
    return ""


def leakage(split: Strings, source_video: Strings, identity: Strings, family: Strings | None = None) -> list[Finding]:
    """Source videos and people (``identity``, joined by ``+``) that occur in more than one split.

    ``family`` is the dataset's: names are those of one family, as datasets number their clips alike.
    """
    found = []
    whose = np.full(len(split), "", dtype=object) if family is None else family
    people = [str(names).split("+") if names else [] for names in identity]
    sources = [[str(name)] if name else [] for name in source_video]
    for what, code, named in (("source video", "leaked_source", sources), ("person", "leaked_identity", people)):
        places: dict[tuple[str, str], set[str]] = {}
        for names, part, dataset in zip(named, split, whose, strict=True):
            for name in names if part else ():
                places.setdefault((str(dataset), name), set()).add(str(part))
        shared = sorted(name for name, parts in places.items() if len(parts) > 1)
        if shared:
            parts = sorted(set().union(*(places[name] for name in shared)))
            shown = ", ".join(printable(name) for _, name in shared[:5]) + (", …" if len(shared) > 5 else "")
            found.append(
                Finding(
                    code=code,
                    severity=Severity.ERROR,
                    message=f"{len(shared):,} of {len(places):,} times a {what} stands in more than one of the splits "
                    f"{', '.join(parts)} ({shown}): what was learnt or tuned on one is recognised in the other.",
                    numbers={"shared": len(shared), "known": len(places)},
                )
            )
    return found


def too_few_videos(label: IntArray, group: IntArray, area: Estimate, widest: float = 0.2) -> list[Finding]:
    """Claims that this many independent source videos cannot carry."""
    fakes, reals = len(np.unique(group[label == 1])), len(np.unique(group[label == 0]))
    found = []
    if area.low is not None and area.high is not None and area.high - area.low > widest:
        found.append(
            Finding(
                code="too_few_videos",
                severity=Severity.WARNING,
                message=(
                    f"{fakes} source videos of fakes and {reals} of reals leave the AUROC anywhere in "
                    f"[{area.low:.2f}, {area.high:.2f}]. Detectors closer than that cannot be ranked by it."
                ),
                numbers={"fakes": fakes, "reals": reals, "width": area.high - area.low},
            )
        )
    if area.low is not None and area.low == area.high and min(fakes, reals) > 0:
        bound = 3 / min(fakes, reals)
        found.append(
            Finding(
                code="interval_without_width",
                severity=Severity.WARNING,
                message=(
                    f"Every resample gives AUROC {area.value:.3f}, so the interval has no width. With {min(fakes, reals)} "
                    f"source videos of a class, an error rate up to {min(bound, 1):.0%} cannot be excluded (rule of three)."
                ),
                numbers={"bound": bound},
            )
        )
    for limit, text in ((0.01, "1 %"), (0.001, "0.1 %")):
        if 0 < reals < 1 / limit:
            found.append(
                Finding(
                    code="too_few_reals",
                    severity=Severity.WARNING,
                    message=(
                        f"A false-alarm rate of {text} needs at least {round(1 / limit):,} independent real videos to be "
                        f"seen once; there are {reals}. Its TPR only says how many fakes score above every real."
                    ),
                    numbers={"reals": reals, "needed": 1 / limit},
                )
            )
            break
    return found


def lifeless_scores(score: FloatArray, narrowest: float = 0.2) -> list[Finding]:
    """Scores that hardly move: the usual mark of weights that were not loaded."""
    if len(score) < 20:
        return []
    low, high = np.percentile(score, [1, 99])
    if high - low >= narrowest:
        return []
    return [
        Finding(
            code="lifeless_scores",
            severity=Severity.WARNING,
            message=(
                f"98 % of the scores lie between {low:.3f} and {high:.3f}. Weights that were not loaded, or loaded into "
                "the wrong network, look like this."
            ),
            numbers={"low": float(low), "high": float(high)},
        )
    ]


def uneven_coverage(table: ScoreTable) -> list[Finding]:
    """A detector that refuses one class more than the other: what is left is no fair sample."""
    scored = table.scored
    counts = np.array([[np.sum(scored & (table.label == c)), np.sum(~scored & (table.label == c))] for c in (1, 0)])
    if counts.sum(axis=1).min() == 0 or counts[:, 1].sum() == 0:
        return []
    p_value = float(stats.fisher_exact(counts).pvalue)
    fakes, reals = counts[:, 0] / counts.sum(axis=1)
    if p_value >= 0.01 or abs(fakes - reals) < 0.05:
        return []
    return [
        Finding(
            code="uneven_coverage",
            severity=Severity.WARNING,
            message=(
                f"{fakes:.1%} of the fakes but {reals:.1%} of the reals were scored (Fisher p = {p_value:.2g}). Whether a "
                "file is scored at all tells its label, and metrics on the scored files are not those of all files."
            ),
            numbers={"fakes": float(fakes), "reals": float(reals), "p_value": p_value},
        )
    ]


def shortcuts(table: ScoreTable, area: Estimate, *, strong: float = 0.65, seed: int = 0) -> list[Finding]:
    """Facts about the file that give the label away by themselves: a detector may have learnt those instead."""
    found = []
    for name, values in table.quality.items():
        known = np.isfinite(values)
        label = table.label[known]
        if not metrics.has_both(label) or known.mean() < 0.5:
            continue
        group = table.select(known).groups()
        alone = auroc_estimate(label, _ranks(values[known]), group, resamples=200, seed=seed)
        if alone.value is None or alone.low is None or alone.high is None or alone.low <= 0.5 <= alone.high:
            continue
        separation = max(alone.value, 1 - alone.value)
        if separation >= strong:
            more = " That is more than the detector reaches." if separation >= (area.value or 0) else ""
            found.append(
                Finding(
                    code="shortcut",
                    severity=Severity.WARNING,
                    message=(
                        f"The {name.replace('_', ' ')} alone separates fakes from reals with AUROC {separation:.3f}: in "
                        f"this set the classes were not made or compressed alike.{more}"
                    ),
                    numbers={"auroc": separation},
                )
            )
    return found


def _ranks(values: FloatArray) -> FloatArray:
    return np.asarray(stats.rankdata(values) / (len(values) + 1), dtype=np.float64)


def unknown_sources(table: ScoreTable) -> list[Finding]:
    """Files whose source video is unknown are resampled one by one, as if they were independent."""
    unknown = int(np.sum(table.source_video == ""))
    if unknown == 0:
        return []
    return [
        Finding(
            code="unknown_sources",
            severity=Severity.NOTE,
            message=(
                f"The source video of {unknown:,} of {len(table):,} files is unknown. Each was resampled by itself; if "
                "they come from fewer videos, the true intervals are wider."
            ),
            numbers={"unknown": unknown},
        )
    ]


def calibrated_on_test(calibration: Calibration, data_sha256: str) -> list[Finding]:
    """A detector whose calibration was fitted to the very scores it is judged on."""
    if calibration.data_sha256 is None or calibration.data_sha256 != data_sha256:
        return []
    return [
        Finding(
            code="calibrated_on_test",
            severity=Severity.ERROR,
            message="The detector's calibration was fitted to these very scores; its calibration error here means nothing.",
        )
    ]
