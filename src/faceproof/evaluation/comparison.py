"""Two detectors side by side as a page."""

from __future__ import annotations

from faceproof.evaluation import plots
from faceproof.evaluation.document import Block, Figure, Heading, Paragraph, Table
from faceproof.evaluation.evaluation import Evaluation
from faceproof.evaluation.significance import Comparison


def comparison_document(found: Comparison, a: Evaluation | None = None, b: Evaluation | None = None) -> list[Block]:
    """Two detectors side by side. With both evaluations their ROC curves are drawn over each other."""
    rows = [
        (f"AUROC of {found.name_a}", str(found.auroc_a)),
        (f"AUROC of {found.name_b}", str(found.auroc_b)),
        ("difference, paired bootstrap by source", str(found.difference)),
    ]
    if found.delong is not None:
        test = found.delong
        rows.append(
            (
                "difference, DeLong clustered by source",
                f"{test.difference:.3f} [{test.low:.3f}, {test.high:.3f}], p = {test.p_value:.3g}",
            )
        )
    single = found.mcnemar
    rows.append(
        (
            "judged right by one only (McNemar)",
            f"{single.only_a_right} by {found.name_a}, {single.only_b_right} by {found.name_b}, p = {single.p_value:.3g}",
        )
    )
    blocks: list[Block] = [
        Heading(f"{found.name_a} and {found.name_b}", 1),
        Paragraph(f"**{found.conclusion}**"),
        Paragraph(
            f"On {found.files:,} files that both scored ({found.fakes:,} fake, {found.reals:,} real, {found.groups:,} "
            f"sources). {found.only_a:,} more were scored by {found.name_a} alone, "
            f"{found.only_b:,} by {found.name_b} alone."
        ),
        Table(("", "value [95 %]"), tuple(rows)),
    ]
    if found.by_method:
        methods = tuple((method, str(estimate)) for method, estimate in found.by_method.items())
        blocks += [
            Heading("Difference by method", 2),
            Table(("method", f"AUROC {found.name_a} minus {found.name_b}"), methods),
        ]
    if a is not None and b is not None and a.drawn is not None and b.drawn is not None:
        svg = plots.roc([(found.name_a, a.drawn, found.auroc_a), (found.name_b, b.drawn, found.auroc_b)])
        blocks += [
            Heading("Curves", 2),
            Figure("compare-roc", svg, "ROC curves of both, on all files that each of them scored."),
        ]
    return blocks
