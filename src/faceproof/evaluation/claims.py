"""Published tables, typed in and checked for what cannot be true.

A claim is a TOML file::

    name = "some model card"
    accuracy = 0.9937
    auroc = 0.4695
    [fake]
    precision = 0.85
    recall = 0.85
    f1 = 0.85
    support = 2025
    [real]
    ...

Give what the table gives; every check that its numbers allow is made.
"""

from __future__ import annotations

import math
import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from scipy import stats

from faceproof.errors import EvaluationError
from faceproof.evaluation.soundness import Finding, Severity

Unit = Annotated[float, Field(ge=0, le=1)]


class ClassRow(BaseModel):
    """One class's row of a classification report. Shares lie in [0, 1]; ``support`` is its number of files."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    precision: Unit | None = None
    recall: Unit | None = None
    f1: Unit | None = None
    support: Annotated[int, Field(ge=0)] | None = None


class Claim(BaseModel):
    """What somebody reports. ``videos`` is the number of independent test videos; ``split_by``, ``threshold_chosen_on``
    and ``selected_on`` say how the data were divided and on which split the threshold and the checkpoint were chosen.
    ``rounding`` is half the last printed digit."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = "claim"
    accuracy: Unit | None = None
    auroc: Unit | None = None
    fake: ClassRow = ClassRow()
    real: ClassRow = ClassRow()
    videos: Annotated[int, Field(gt=0)] | None = None
    split_by: Literal["identity", "source_video", "video", "file", "frame", "random"] | None = None
    threshold_chosen_on: Literal["train", "validation", "calibration", "test"] | None = None
    selected_on: Literal["train", "validation", "calibration", "test"] | None = None
    rounding: Unit = 0.005

    @property
    def share_of_fakes(self) -> float | None:
        if not self.fake.support or not self.real.support:
            return None
        return self.fake.support / (self.fake.support + self.real.support)


def read_claim(path: Path) -> Claim:
    """Read a claim's TOML. Raises :class:`EvaluationError` that names every wrong key."""
    try:
        return Claim.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise EvaluationError(f"cannot read {path}: {error}", remedy="Give a claim as TOML.") from error
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise EvaluationError(
            f"{path}: {wrong}", remedy="Shares lie between 0 and 1; see docs/evaluation.md."
        ) from error


def check_claim(claim: Claim) -> list[Finding]:
    """Everything in the claim that contradicts itself, arithmetic or good practice."""
    return [
        *_accuracy_against_auroc(claim),
        *_accuracy_against_recall(claim),
        *_independent_predictions(claim),
        *_below_majority(claim),
        *_worse_than_chance(claim),
        *_f1_against_parts(claim),
        *_protocol(claim),
        *_too_few_videos(claim),
    ]


def least_auroc_for_accuracy(accuracy: float, share_of_fakes: float) -> float:
    """The smallest AUROC with which any threshold reaches ``accuracy`` on this mixture.

    An accuracy fixes share × TPR + (1 - share) × (1 - FPR), and the AUROC is at least TPR × (1 - FPR); that product is
    smallest at an end of the line, where one of the two is 1, or 0 when the line leaves the unit square.
    """
    reals = 1 - share_of_fakes
    ends = []
    for whole, rest in ((share_of_fakes, reals), (reals, share_of_fakes)):
        other = (accuracy - whole) / rest if rest > 0 else 1.0
        ends.append(max(other, 0.0))
    return min(ends)


def _accuracy_against_auroc(claim: Claim) -> list[Finding]:
    share = claim.share_of_fakes
    if claim.accuracy is None or claim.auroc is None or share is None:
        return []
    least = least_auroc_for_accuracy(claim.accuracy - claim.rounding, share)
    if claim.auroc + claim.rounding >= least:
        return []
    return [
        Finding(
            code="accuracy_against_auroc",
            severity=Severity.ERROR,
            message=(
                f"Accuracy {claim.accuracy:.4g} and AUROC {claim.auroc:.4g} cannot be of the same predictions: with "
                f"{share:.1%} fakes that accuracy needs an AUROC of at least {least:.3f}. The usual cause is that one of "
                "them was computed on shuffled predictions, whose order no longer matches the labels."
            ),
            numbers={"accuracy": claim.accuracy, "auroc": claim.auroc, "least_auroc": least},
        )
    ]


def _accuracy_against_recall(claim: Claim) -> list[Finding]:
    share = claim.share_of_fakes
    if claim.accuracy is None or share is None or claim.fake.recall is None or claim.real.recall is None:
        return []
    implied = share * claim.fake.recall + (1 - share) * claim.real.recall
    if abs(implied - claim.accuracy) <= 2 * claim.rounding:
        return []
    return [
        Finding(
            code="accuracy_against_recall",
            severity=Severity.ERROR,
            message=(
                f"The recalls of the two classes give an accuracy of {implied:.3f}, not the {claim.accuracy:.4g} reported: "
                "the table and the accuracy are not of the same predictions."
            ),
            numbers={"implied": implied, "accuracy": claim.accuracy},
        )
    ]


def _independent_predictions(claim: Claim) -> list[Finding]:
    share = claim.share_of_fakes
    fake, real = claim.fake, claim.real
    if share is None or fake.recall is None or real.recall is None or not fake.support or not real.support:
        return []
    informed = fake.recall + real.recall - 1
    counts = [
        [fake.recall * fake.support, (1 - fake.recall) * fake.support],
        [(1 - real.recall) * real.support, real.recall * real.support],
    ]
    if min(map(sum, zip(*counts, strict=True))) <= 0:
        return []
    p_value = float(stats.chi2_contingency(counts, correction=False).pvalue)
    if abs(informed) > 4 * claim.rounding:
        return [] if p_value < 0.05 else [_perhaps_chance(fake, real, informed, p_value)]
    flagged = share * fake.recall + (1 - share) * (1 - real.recall)
    agreement = share * flagged + (1 - share) * (1 - flagged)
    proportion = ""
    if abs(flagged - share) <= 3 * claim.rounding:
        proportion = " It flags the right number of files: predictions read in a shuffled order give just this."
    return [
        Finding(
            code="shuffled_labels",
            severity=Severity.ERROR,
            message=(
                f"Predictions and labels are independent: {fake.recall:.0%} of the fakes and {1 - real.recall:.0%} of the "
                f"reals are called fake (chi-squared p = {p_value:.2g}). Precision and recall are just the base rates "
                f"({share:.3f} and {1 - share:.3f}), and {agreement:.3f} is what chance agreement gives.{proportion}"
            ),
            numbers={"informedness": informed, "p_value": p_value, "chance_agreement": agreement, "fakes": share},
        )
    ]


def _perhaps_chance(fake: ClassRow, real: ClassRow, informed: float, p_value: float) -> Finding:
    files = (fake.support or 0) + (real.support or 0)
    return Finding(
        code="too_few_files",
        severity=Severity.WARNING,
        message=(
            f"Recalls of {fake.recall:.0%} and {real.recall:.0%} on {files:,} files may be chance (chi-squared p = "
            f"{p_value:.2g}): too few files show that the predictions know anything of the labels."
        ),
        numbers={"informedness": informed, "p_value": p_value, "files": files},
    )


def _below_majority(claim: Claim) -> list[Finding]:
    share = claim.share_of_fakes
    if share is None:
        return []
    majority = max(share, 1 - share)
    accuracies = [] if claim.accuracy is None else [claim.accuracy]
    if claim.fake.recall is not None and claim.real.recall is not None:
        accuracies.append(share * claim.fake.recall + (1 - share) * claim.real.recall)
    low = [value for value in accuracies if value < majority - claim.rounding]
    if not low:
        return []
    return [
        Finding(
            code="below_majority",
            severity=Severity.WARNING,
            message=f"An accuracy of {min(low):.3f} is below naming the commoner class every time ({majority:.3f}).",
            numbers={"accuracy": min(low), "majority": majority},
        )
    ]


def _worse_than_chance(claim: Claim) -> list[Finding]:
    if claim.auroc is None or claim.auroc >= 0.5:
        return []
    spread = math.nan
    if claim.fake.support and claim.real.support:
        many, few = claim.fake.support, claim.real.support
        spread = math.sqrt((many + few + 1) / (12 * many * few))
    below = (0.5 - claim.auroc) / spread if spread > 0 else math.nan
    word = "inverted scores" if below > 3 else "scores that know nothing of the labels"
    return [
        Finding(
            code="worse_than_chance",
            severity=Severity.ERROR,
            message=f"AUROC {claim.auroc:.4g} is below one half, which means {word}.",
            numbers={"auroc": claim.auroc} | ({} if math.isnan(below) else {"standard_errors": below}),
        )
    ]


def _f1_against_parts(claim: Claim) -> list[Finding]:
    found = []
    for name, row in (("fake", claim.fake), ("real", claim.real)):
        if row.precision is None or row.recall is None or row.f1 is None or row.precision + row.recall == 0:
            continue
        implied = 2 * row.precision * row.recall / (row.precision + row.recall)
        if abs(implied - row.f1) > 3 * claim.rounding:
            found.append(
                Finding(
                    code="f1_against_parts",
                    severity=Severity.ERROR,
                    message=f"Precision and recall of {name} give F1 {implied:.3f}, not {row.f1:.3g}.",
                    numbers={"implied": implied, "f1": row.f1},
                )
            )
    return found


def _protocol(claim: Claim) -> list[Finding]:
    found = []
    if claim.split_by in ("file", "frame", "random"):
        found.append(
            Finding(
                code="leaked_source",
                severity=Severity.ERROR,
                message=f"The data were split by {claim.split_by}: frames of one video stand on both sides, and the "
                "test measures memory.",
            )
        )
    if claim.threshold_chosen_on == "test":
        found.append(
            Finding(
                code="threshold_from_test",
                severity=Severity.ERROR,
                message="The threshold was chosen on the test set; the accuracy at it is optimistic.",
            )
        )
    if claim.selected_on == "test":
        found.append(
            Finding(
                code="selected_on_test",
                severity=Severity.ERROR,
                message="The checkpoint was chosen on the test set, so the test set is a validation set.",
            )
        )
    return found


def _too_few_videos(claim: Claim) -> list[Finding]:
    if claim.accuracy is None or claim.videos is None:
        return []
    right = round(claim.accuracy * claim.videos)
    interval = stats.binomtest(right, claim.videos).proportion_ci(method="wilson")
    if interval.high - interval.low <= 0.1:
        return []
    return [
        Finding(
            code="too_few_videos",
            severity=Severity.WARNING,
            message=(
                f"Accuracy {claim.accuracy:.3g} on {claim.videos} videos lies anywhere in [{interval.low:.2f}, "
                f"{interval.high:.2f}] (Wilson, 95 %)."
            ),
            numbers={"low": float(interval.low), "high": float(interval.high)},
        )
    ]
