"""What an evaluation found, in the short form that a detector carries beside its spec for report pages."""

from __future__ import annotations

from collections.abc import Sequence

from faceproof import __version__
from faceproof.errors import EvaluationError
from faceproof.evaluation.evaluation import Evaluation
from faceproof.evaluation.slices import Slice
from faceproof.evidence.measured import MeasuredLimits, MeasuredPart, MeasuredSet


def carried(evaluations: Sequence[tuple[str, Evaluation]], *, command: str, chosen_here: bool) -> MeasuredLimits:
    """Several evaluations of one detector, each with its kind of media ("video", "image").

    Raises :class:`EvaluationError` when they are not of one detector with the same weights and settings.
    """
    facts = [evaluation.detector for _, evaluation in evaluations]
    first = facts[0] if facts else None
    if first is None or any(
        other is None or (other.weights_sha256, other.spec_sha256) != (first.weights_sha256, first.spec_sha256)
        for other in facts
    ):
        raise EvaluationError("these are not evaluations of one detector with the same weights and settings")
    return MeasuredLimits(
        faceproof_version=__version__,
        detector=first.name,
        weights_sha256=first.weights_sha256,
        spec_sha256=first.spec_sha256,
        command=command,
        sets=[
            MeasuredSet(
                data=evaluation.data,
                data_sha256=evaluation.data_sha256,
                media="video" if kind == "video" else "image",
                chosen_here=chosen_here,
                fake=evaluation.coverage.fake,
                real=evaluation.coverage.real,
                parts=[part for cut in evaluation.slices if (part := _part(cut)) is not None],
            )
            for kind, evaluation in evaluations
        ],
    )


def _part(cut: Slice) -> MeasuredPart | None:
    area = cut.auroc
    if cut.by not in ("face size", "bits per pixel", "method") or area.value is None:
        return None
    return MeasuredPart(
        by=cut.by,  # type: ignore[arg-type]
        name=cut.name,
        low=cut.low,
        high=cut.high,
        fakes=cut.fakes,
        reals=cut.reals,
        auroc=area.value,
        auroc_low=area.value if area.low is None else area.low,
        auroc_high=area.value if area.high is None else area.high,
    )
