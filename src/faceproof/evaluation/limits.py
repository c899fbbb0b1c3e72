"""Where a detector is not shown to work, in plain sentences."""

from __future__ import annotations

from collections.abc import Iterator

from faceproof.evaluation.bootstrap import Estimate
from faceproof.evaluation.conformal import beyond_chance
from faceproof.evaluation.evaluation import Evaluation
from faceproof.evaluation.robustness import Curve
from faceproof.evaluation.slices import Slice


def percent(estimate: Estimate) -> str:
    """A share as percent with its interval."""
    if estimate.value is None:
        return "an unknown share"
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.0%}"
    return f"{estimate.value:.0%} [{estimate.low:.0%}, {estimate.high:.0%}]"


def percent_of(part: int, whole: int) -> str:
    """One number as percent of another."""
    return f"{part / whole:.0%}" if whole else "none"


def share_text(value: float | None) -> str:
    """A share as percent, a dash where it is unknown."""
    return "–" if value is None else f"{value:.0%}"


def failures(evaluation: Evaluation) -> Iterator[str]:
    """Plain sentences about every place where the detector is not shown to work."""
    area = evaluation.main.metrics["auroc"]
    if area.low is not None and area.low <= 0.5:
        yield f"On this set as a whole it is **not shown to be better than chance** (AUROC {area})."
    blind = [part for part in evaluation.slices if _blind(part) and part.by in ("dataset", "method")]
    for part in blind:
        yield f"On {part.name} it is **not shown to be better than chance**: AUROC {part.auroc} ({part.scored} files)."
    worst = _worst_method(evaluation.slices)
    if worst is not None and not _blind(worst):
        yield f"It is weakest on {worst.name}: AUROC {worst.auroc}, {share_text(worst.miss_rate)} of those fakes missed."
    alarms, misses = evaluation.main.metrics["false_alarm_rate"], evaluation.main.metrics["miss_rate"]
    if alarms.value is not None and alarms.value > 0.05:
        yield f"It flags {percent(alarms)} of genuine files at its threshold: on its own it must not accuse anybody."
    if misses.value is not None and misses.value > 0.2:
        yield f"It misses {percent(misses)} of the fakes at its threshold: “no sign found” is not “genuine”."
    yield from _broken_promises(evaluation)
    cover = evaluation.coverage
    if cover.files and cover.scored / cover.files < 0.95:
        yield f"It gives no score for {percent_of(cover.files - cover.scored, cover.files)} of the files."
    yield from _breaking_points(evaluation.robustness)


def promises(evaluation: Evaluation) -> Iterator[tuple[str, int, int, float]]:
    """What the detector's verdicts were promised to do and did: in words, how many, of how many judged, at what rate."""
    fitted, cover = evaluation.fitted, evaluation.coverage
    if fitted is None:
        return
    sides = (
        ("genuine files called FAKE", cover.real, "FAKE", fitted.false_alarms),
        ("forgeries called REAL", cover.fake, "REAL", fitted.misses),
    )
    for words, counts, wrong, rate in sides:
        judged = sum(counts.get(outcome, 0) for outcome in ("FAKE", "REAL", "INCONCLUSIVE"))
        yield words, counts.get(wrong, 0), judged, rate


def _broken_promises(evaluation: Evaluation) -> Iterator[str]:
    for words, count, judged, rate in promises(evaluation):
        if beyond_chance(count, judged, rate):
            yield (
                f"Its band **does not keep its promise here**: {count:,} of {judged:,} {words} ({count / judged:.1%}), "
                f"where at most {rate:.1%} were promised on people like those it was fitted to."
            )


def _blind(part: Slice) -> bool:
    return part.auroc.low is not None and part.auroc.low <= 0.5


def _worst_method(parts: list[Slice]) -> Slice | None:
    methods = [part for part in parts if part.by == "method" and part.auroc.value is not None]
    return min(methods, key=lambda part: part.auroc.value or 0.0) if len(methods) > 1 else None


def _breaking_points(curves: list[Curve]) -> Iterator[str]:
    if curves and curves[0].chance_untouched:
        start = curves[0].points[0].auroc
        yield (
            f"In the robustness sweep it is not shown to be better than chance even on untouched material "
            f"({curves[0].files} files, AUROC {start}): the curves below cannot say where it breaks."
        )
        return
    broken = [
        f"{curve.title} ({curve.words.format(curve.chance_from)})" for curve in curves if curve.chance_from is not None
    ]
    if broken:
        yield f"It is no longer shown to be better than chance from here on: {', '.join(broken)}."
