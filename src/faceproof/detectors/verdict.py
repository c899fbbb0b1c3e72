"""From scores to one of four outcomes, by the rule in the detector's spec."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from faceproof.detectors.quality import Quality, band_at, band_of
from faceproof.detectors.spec import VerdictRule
from faceproof.results import AppliedBand, Reason, Verdict

_MOMENT = 0.5  # seconds: shorter runs of neighbouring frames are one look, not several


@dataclass(frozen=True)
class Opinion:
    """A verdict with what belongs to it. ``confidence`` is the probability of the verdict; only FAKE and REAL have one.
    ``band`` is the one that was applied, where the rule has bands by quality."""

    verdict: Verdict
    score: float | None
    reason: Reason | None = None
    band: AppliedBand | None = None

    @property
    def prediction(self) -> Literal["FAKE", "REAL"] | None:
        if self.verdict is Verdict.FAKE:
            return "FAKE"
        return "REAL" if self.verdict is Verdict.REAL else None

    @property
    def confidence(self) -> float | None:
        if self.score is None or self.prediction is None:
            return None
        return self.score if self.verdict is Verdict.FAKE else 1 - self.score


def judge_score(score: float, rule: VerdictRule, quality: Quality | None = None) -> Opinion:
    """FAKE above the band, REAL below, INCONCLUSIVE strictly inside. Without a band: FAKE above the threshold.

    Where the rule has bands by quality, the one for material of this ``quality`` is applied.
    """
    applied = band_at(rule, quality or Quality()) if rule.quality is not None else None
    low, high = band_of(rule) if applied is None else (applied.low, applied.high)
    if low < score < high:
        return Opinion(Verdict.INCONCLUSIVE, score, Reason.INSIDE_BAND, applied)
    is_fake = score > rule.threshold if low == high else score >= high
    return Opinion(Verdict.FAKE if is_fake else Verdict.REAL, score, None, applied)


def doubted(opinion: Opinion, runs: Sequence[tuple[int, float]], rule: VerdictRule) -> Opinion:
    """The opinion, or INCONCLUSIVE where a REAL person has a moment that a mean over all their faces hides.

    ``runs``: of each suspicious span the number of faces and its length in seconds.
    """
    if opinion.verdict is not Verdict.REAL or not rule.suspicious_run:
        return opinion
    if any(faces >= rule.suspicious_run and seconds >= _MOMENT for faces, seconds in runs):
        return replace(opinion, verdict=Verdict.INCONCLUSIVE, reason=Reason.SUSPICIOUS_MOMENTS)
    return opinion


def unqualified(
    faces: int,
    median_side: float,
    median_sharpness: float,
    rule: VerdictRule,
    *,
    frames: int,
    median_detection: float = 1.0,
) -> Reason | None:
    """Why a person cannot be judged, or None when they can. Sides in pixels, sharpness and detection as in ``FaceScore``.

    Of ``frames`` looked at, a person needs to be in no more than there are: a picture asks for one face.
    """
    if median_detection < rule.min_detection:
        return Reason.PERHAPS_NO_FACE
    if median_side < rule.min_side:
        return Reason.FACES_TOO_SMALL
    if median_sharpness < rule.min_sharpness:
        return Reason.FACES_TOO_BLURRED
    if faces < min(rule.min_faces, frames):
        return Reason.TOO_FEW_FACES
    return None


def judge_nothing(reasons: Sequence[Reason], rule: VerdictRule) -> Opinion:
    """The outcome when no person qualified: ``reasons`` of those seen, largest appearance first; none seen means no face.

    A spec may keep a published system's own answer to "no face"; the default never turns it into a score.
    """
    if reasons:
        return Opinion(Verdict.NOT_ASSESSED, None, reasons[0])
    match rule.no_face:
        case "real_0.99":
            return Opinion(Verdict.REAL, 0.01, Reason.NO_FACE)
        case "real_0.0":
            return Opinion(Verdict.REAL, 0.0, Reason.NO_FACE)
        case "half":
            return Opinion(judge_score(0.5, rule).verdict, 0.5, Reason.NO_FACE)
        case "not_assessed":
            return Opinion(Verdict.NOT_ASSESSED, None, Reason.NO_FACE)
