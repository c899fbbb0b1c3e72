"""An evaluation as a page: what holds, what does not, and how it was measured."""

from __future__ import annotations

from collections.abc import Iterator

from faceproof.evaluation import plots
from faceproof.evaluation.bootstrap import Estimate
from faceproof.evaluation.certainty import certainty, protocol
from faceproof.evaluation.document import Block, Bullets, Callout, Code, Figure, Heading, Paragraph, Table
from faceproof.evaluation.evaluation import Evaluation, Level
from faceproof.evaluation.limits import failures, percent, percent_of, share_text
from faceproof.evaluation.robustness import Curve, CurvePoint

NAMES = {
    "auroc": "AUROC",
    "average_precision": "Average precision",
    "eer": "Equal error rate",
    "tpr_at_fpr_1": "Fakes caught at 1 % false alarms",
    "tpr_at_fpr_0.1": "Fakes caught at 0.1 % false alarms",
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "false_alarm_rate": "Reals flagged (false alarms)",
    "miss_rate": "Fakes missed",
    "log_loss": "Log loss (nats)",
    "brier": "Brier score",
    "ece": "Calibration error (this mixture)",
    "ece_even": "Calibration error (even mixture)",
}
LEVELS = {"video": "Files", "track": "People", "frame": "Frames"}
OUTCOMES = ("FAKE", "REAL", "INCONCLUSIVE", "NOT_ASSESSED", "FAILED", "SCORED", "UNSCORED")


def document(evaluation: Evaluation, *, command: str | None = None, level: int = 1) -> list[Block]:
    """The whole page. ``level`` is the heading level it starts at; ``command`` is what produced it, word for word."""
    return [
        Heading(f"{evaluation.name} on {evaluation.data or 'these scores'}", level),
        Paragraph(summary(evaluation)),
        *_findings(evaluation),
        *_deeper(level, _fails(evaluation)),
        *_sections(evaluation, level),
        *_deeper(level, [*_bad_input(evaluation), *model_card(evaluation), *_method(evaluation, command)]),
    ]


def measured_sections(evaluation: Evaluation, *, level: int) -> list[Block]:
    """Summary, findings and every measured section, for a page that holds several evaluations."""
    return [Paragraph(summary(evaluation)), *_findings(evaluation), *_sections(evaluation, level)]


def _sections(evaluation: Evaluation, level: int) -> Iterator[Block]:
    yield from _deeper(level, [*_numbers(evaluation), *_coverage(evaluation), *_drawings(evaluation)])
    yield from _deeper(level, [*_slices(evaluation), *_robustness(evaluation.robustness)])
    yield from _deeper(level, [*certainty(evaluation), *protocol(evaluation.protocol)])


def _deeper(level: int, blocks: list[Block]) -> Iterator[Block]:
    for block in blocks:
        yield Heading(block.text, block.level + level - 1) if isinstance(block, Heading) else block


def summary(evaluation: Evaluation) -> str:
    """The evaluation in three sentences."""
    main, cover = evaluation.main, evaluation.coverage
    alarms, misses = main.metrics["false_alarm_rate"], main.metrics["miss_rate"]
    return (
        f"AUROC {main.metrics['auroc']} on {main.scored:,} of {cover.files:,} files ({main.fakes:,} fake, {main.reals:,} "
        f"real) from {main.sources:,} independent sources. At its threshold of {evaluation.threshold:.3g} it flags "
        f"{percent(alarms)} of the reals and misses {percent(misses)} of the fakes. "
        f"{percent_of(cover.scored, cover.files)} of the files were scored; the others are counted below, not dropped."
    )


def _findings(evaluation: Evaluation) -> list[Block]:
    order = {"error": 0, "warning": 1, "note": 2}
    found = sorted(evaluation.findings, key=lambda finding: order[finding.severity.value])
    return [Callout(finding.severity.value, finding.message) for finding in found]


def _fails(evaluation: Evaluation) -> list[Block]:
    items = tuple(failures(evaluation))
    if not items:
        return []
    return [Heading("Where it fails", 2), Bullets(items)]


def _numbers(evaluation: Evaluation) -> list[Block]:
    levels = evaluation.levels
    rows = [
        (
            NAMES[name],
            *(str(level.metrics[name]) if name in level.metrics else "–" for level in levels),
            _no_skill(name, levels[0]),
        )
        for name in NAMES
    ]
    rows.append(
        (
            "AUROC, unscored counted as coin tosses",
            *("–" if level.auroc_all is None else f"{level.auroc_all:.3f}" for level in levels),
            "0.500",
        )
    )
    header = ("", *(f"{LEVELS[level.level]} ({level.scored:,} of {level.rows:,})" for level in levels), "no skill")
    return [
        Heading("Numbers", 2),
        Table(header, tuple(rows)),
        Paragraph(
            "In brackets: 95 % intervals, resampled by source video. “No skill” is what calling every file fake gets, or a "
            "score that knows nothing. A person carries the file's label, so that in a forged file with several "
            "people the genuine ones count as fakes; frames carry the highest score of their faces."
        ),
    ]


def _no_skill(name: str, level: Level) -> str:
    base = level.base_rate
    if base is None:
        return "–"
    fixed = {
        "auroc": 0.5,
        "average_precision": base.chance_average_precision,
        "eer": 0.5,
        "tpr_at_fpr_1": 0.01,
        "tpr_at_fpr_0.1": 0.001,
        "accuracy": base.always_fake_accuracy,
        "balanced_accuracy": 0.5,
        "false_alarm_rate": 1.0,
        "miss_rate": 0.0,
        "log_loss": base.constant_log_loss,
        "brier": base.share_of_fakes * (1 - base.share_of_fakes),
    }
    return f"{fixed[name]:.3f}" if name in fixed else "–"


def _coverage(evaluation: Evaluation) -> list[Block]:
    cover = evaluation.coverage
    used = [word for word in OUTCOMES if cover.fake.get(word) or cover.real.get(word)]
    rows = []
    for name, counts in (("fake", cover.fake), ("real", cover.real)):
        total = sum(counts.values())
        rows.append(
            (name, *(f"{counts.get(w, 0):,} ({percent_of(counts.get(w, 0), total)})" for w in used), f"{total:,}")
        )
    blocks: list[Block] = [
        Heading("What became of every file", 2),
        Table(("really", *(word.replace("_", " ").lower() for word in used), "files"), tuple(rows)),
    ]
    if cover.reasons:
        listed = ", ".join(f"{reason.replace('_', ' ')} {count:,}" for reason, count in cover.reasons.items())
        blocks.append(Paragraph(f"Why files were not judged or not decided: {listed}."))
    if cover.answered_without_face:
        blocks.append(
            Callout(
                "warning",
                f"{cover.answered_without_face:,} files have no face and carry this detector's fixed answer to that, which "
                "is not a measurement.",
            )
        )
    return blocks


def _drawings(evaluation: Evaluation) -> list[Block]:
    drawn, main = evaluation.drawn, evaluation.main
    if drawn is None:
        return []
    facts = evaluation.detector
    band = (facts.band[0], facts.band[1]) if facts is not None else None
    area = main.metrics["auroc"]
    return [
        Heading("Curves", 2),
        Figure("roc", plots.roc([(evaluation.name, drawn, area)]), f"ROC curve; AUROC {area}, chance is the diagonal."),
        Figure(
            "scores",
            plots.histogram(drawn, evaluation.threshold, band),
            "Scores of fakes (above) and of reals (below), each as a share of its class. Where they overlap, no threshold "
            "tells them apart.",
        ),
        Figure(
            "reliability",
            plots.reliability(drawn),
            f"Reliability: how often files of a score are fake; on the dashed line they "
            f"would be calibrated. Calibration error {main.metrics['ece']} on this mixture.",
        ),
    ]


def _slices(evaluation: Evaluation) -> list[Block]:
    if not evaluation.slices:
        return []
    rows = tuple(
        (
            f"{part.by}: {part.name}",
            f"{part.scored:,} of {part.files:,}",
            f"{part.sources:,}",
            str(part.auroc),
            share_text(part.false_alarm_rate),
            share_text(part.miss_rate),
        )
        for part in evaluation.slices
    )
    blocks: list[Block] = [
        Heading("By dataset, method and quality", 2),
        Table(("part", "scored", "sources", "AUROC", "reals flagged", "fakes missed"), rows),
    ]
    svg = plots.slices(evaluation)
    if svg is not None:
        blocks.append(
            Figure(
                "slices", svg, "AUROC of every part with its interval; hollow grey ones are not shown to beat chance."
            )
        )
    return blocks


def _robustness(curves: list[Curve]) -> list[Block]:
    if not curves:
        return []
    rows = []
    for curve in curves:
        last = curve.points[-1]
        found = "never here" if curve.chance_from is None else curve.words.format(curve.chance_from)
        rows.append(
            (
                f"{curve.title} ({curve.unit})",
                *(f"{p.severity:g}: {_short(p.auroc)}" for p in _some(curve)),
                share_text(last.false_alarm_rate),
                share_text(last.scored),
                "already untouched" if curve.chance_untouched else found,
            )
        )
    start = curves[0].points[0]
    header = (
        "damage",
        "mild",
        "middle",
        "severe",
        "reals flagged, severe",
        "scored, severe",
        "no better than chance from",
    )
    return [
        Heading("Robustness", 2),
        Paragraph(
            f"{curves[0].files:,} files, degraded and scanned anew. Untouched: AUROC {start.auroc}, "
            f"{share_text(start.false_alarm_rate)} of the reals flagged, {share_text(start.scored)} scored. Of a video, "
            "a short run of consecutive frames stands for the whole, so this start may differ from the numbers above."
        ),
        Table(header, tuple(rows)),
        Figure(
            "robustness",
            plots.robustness(curves),
            "AUROC (blue, with its interval), share of reals flagged (dashed orange) and of files scored (dotted) as each "
            "damage grows; hatched: not shown to be better than chance.",
        ),
    ]


def _some(curve: Curve) -> list[CurvePoint]:
    points = curve.points[1:]
    return (
        [points[0], points[len(points) // 2], points[-1]]
        if len(points) >= 3
        else [*points, *points[-1:] * (3 - len(points))]
    )


def _short(estimate: Estimate) -> str:
    return "–" if estimate.value is None else f"{estimate.value:.2f}"


def _bad_input(evaluation: Evaluation) -> list[Block]:
    if not evaluation.problems:
        return []
    return [Heading("Bad input", 2), Bullets(tuple(problem.sentence for problem in evaluation.problems))]


def model_card(evaluation: Evaluation) -> list[Block]:
    """The section that a model card quotes: what was measured, on what, and what it must not be used for."""
    main, facts = evaluation.main, evaluation.detector
    name = f"{facts.name} {facts.version}" if facts is not None else evaluation.name
    shown = ("auroc", "balanced_accuracy", "eer", "false_alarm_rate", "miss_rate", "ece_even")
    rows = tuple((NAMES[metric], str(main.metrics[metric])) for metric in shown if metric in main.metrics)
    weights = f" Weights sha256 `{facts.weights_sha256[:16]}…`." if facts is not None and facts.weights_sha256 else ""
    limits = tuple(failures(evaluation)) or ("None was seen on this set, which is no proof that there is none.",)
    return [
        Heading("Model card section", 2),
        Paragraph(
            f"**{name}** measured on {evaluation.data or 'a table of scores'}: {main.scored:,} files from {main.sources:,} "
            f"sources, data sha256 `{evaluation.data_sha256[:16]}…`.{weights}"
        ),
        Table(("metric", "value [95 %]"), rows),
        Paragraph("Limits seen in this measurement:"),
        Bullets(limits),
    ]


def _method(evaluation: Evaluation, command: str | None) -> list[Block]:
    facts = evaluation.detector
    items = [f"Faceproof {evaluation.faceproof_version}; data sha256 `{evaluation.data_sha256}`."]
    if facts is not None:
        items.append(
            f"Detector {facts.name} {facts.version}: spec sha256 `{facts.spec_sha256}`, weights sha256 "
            f"`{facts.weights_sha256}`, {facts.runtime} in {facts.precision}."
        )
    settings = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in evaluation.settings.items())
    items.append(f"Threshold {evaluation.threshold:.6g}, from {evaluation.threshold_source}; {settings}.")
    if evaluation.seconds:
        spent = ", ".join(f"{name} {value:.1f} s" for name, value in evaluation.seconds.items())
        items.append(f"Time: {spent}.")
    blocks: list[Block] = [Heading("How this was measured", 2), Bullets(tuple(items))]
    if command:
        blocks.append(Code(command))
    return blocks
