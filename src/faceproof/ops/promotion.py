"""May a candidate replace the detector in use? Only when files with known answers do not speak against it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from faceproof.errors import OptionError


class Gate(BaseModel):
    """The verdict on a candidate. ``difference`` is its AUROC less the incumbent's, on the same files, with the interval of
    a paired bootstrap over source videos; ``coverage_lost`` is the share of files the incumbent judged and it did not."""

    model_config = ConfigDict(extra="forbid")

    passed: bool
    reason: str
    candidate: str
    incumbent: str
    files: int
    groups: int
    difference: float
    low: float
    high: float
    coverage_lost: float
    rule: Literal["not_worse", "better"]
    manifest_sha256: str = ""


def judge_candidate(
    *,
    candidate: str,
    incumbent: str,
    difference: float,
    low: float | None,
    high: float | None,
    files: int,
    groups: int,
    coverage_lost: float = 0.0,
    rule: Literal["not_worse", "better"] = "not_worse",
    margin: float = 0.02,
    max_coverage_lost: float = 0.01,
    manifest_sha256: str = "",
) -> Gate:
    """Decide from a measured difference (AUROC, -1 to 1) and its 95 % interval.

    ``not_worse``: the whole interval lies above ``-margin``, so that a candidate passes because it was shown not to be
    worse, never because too little was measured. ``better``: it lies above 0. A candidate that refuses files the incumbent
    judged does not pass by that. Raises :class:`OptionError` without an interval: too few source videos to decide.
    """
    if low is None or high is None:
        raise OptionError(
            f"{groups} source videos are too few to compare {candidate} with {incumbent}",
            remedy="Measure on a larger manifest.",
        )
    if not low <= difference <= high:
        raise OptionError("a difference must lie inside its interval")
    needed = -margin if rule == "not_worse" else 0.0
    words = f"AUROC {difference:+.3f} ({low:+.3f} to {high:+.3f}) against {incumbent} on {files} files"
    if coverage_lost > max_coverage_lost:
        passed, reason = False, f"it gives no score for {coverage_lost:.1%} of the files that {incumbent} scores"
    elif high < 0:
        passed, reason = False, f"it is worse: {words}"
    elif low <= needed:
        passed, reason = False, f"it was not shown to be {'better' if rule == 'better' else 'as good'}: {words}"
    else:
        passed, reason = True, words
    return Gate(
        passed=passed,
        reason=reason,
        candidate=candidate,
        incumbent=incumbent,
        files=files,
        groups=groups,
        difference=difference,
        low=low,
        high=high,
        coverage_lost=coverage_lost,
        rule=rule,
        manifest_sha256=manifest_sha256,
    )
