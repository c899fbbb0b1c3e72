"""The part of the page about how far to believe a score: calibration, bands, priors, and published protocols."""

from __future__ import annotations

from faceproof.detectors.spec import QualityBands
from faceproof.evaluation.document import Block, Bullets, Callout, Heading, Paragraph, Table
from faceproof.evaluation.evaluation import Evaluation
from faceproof.evaluation.limits import percent
from faceproof.evaluation.promises import BandCheck
from faceproof.evaluation.protocols import PUBLISHED, ProtocolResult


def certainty(evaluation: Evaluation) -> list[Block]:
    """Calibration before and after, the conformal band, bands by quality, and what verdicts are worth by prior."""
    blocks: list[Block] = []
    if evaluation.calibration:
        first = evaluation.calibration[0]
        rows = [("as it is", f"{first.ece_before:.3f}", f"{first.log_loss_before:.3f}")]
        rows += [(f"after {q.method}", f"{q.ece_after:.3f}", f"{q.log_loss_after:.3f}") for q in evaluation.calibration]
        blocks += [
            Table(("score read as a probability", "calibration error", "log loss"), tuple(rows)),
            Paragraph(
                "Even mixture of fakes and reals; every file judged by a calibration that was fitted without its source "
                "video. Knowing nothing has log loss 0.693."
            ),
        ]
    if evaluation.band is not None:
        blocks += _band(evaluation.band)
    if evaluation.quality_bands is not None:
        blocks += _quality_bands(evaluation.quality_bands)
    if evaluation.posteriors:
        rows3 = tuple((f"{p.prior:.3g}", percent(p.fake_right), percent(p.real_right)) for p in evaluation.posteriors)
        blocks += [
            Paragraph("What a verdict at the threshold is worth depends on how common fakes are where you use it:"),
            Table(
                ("share of fakes among your files", "flagged files that are fake", "passed files that are real"), rows3
            ),
        ]
    return [Heading("How far to believe a score", 2), *blocks] if blocks else []


def _band(check: BandCheck) -> list[Block]:
    band = check.band
    blocks: list[Block] = []
    for enough, word, rate, number in (
        (band.enough_reals, "real", band.false_alarms, band.real_sources),
        (band.enough_fakes, "fake", band.misses, band.fake_sources),
    ):
        if not enough:
            blocks.append(
                Callout(
                    "warning",
                    f"{number:,} {word} source videos cannot carry a promise of {rate:.1%}: the band reaches the end of the "
                    "scale on that side.",
                )
            )
    blocks.append(
        Paragraph(
            f"A band for at most {band.false_alarms:.1%} false alarms and {band.misses:.1%} misses is {band.low:.3f} to "
            f"{band.high:.3f} ({check.how}). There, {check.false_alarm_rate:.1%} of {check.reals:,} reals were called fake, "
            f"{check.miss_rate:.1%} of {check.fakes:,} fakes real, and {check.inconclusive_reals:.0%} of the reals and "
            f"{check.inconclusive_fakes:.0%} of the fakes got no verdict."
        )
    )
    return blocks


def _quality_bands(bands: QualityBands) -> list[Block]:
    rows = [(f"face of {point.at:.0f} px", f"{point.low:.2f} to {point.high:.2f}") for point in bands.face_side]
    rows += [
        (f"{point.at:.3g} bit per pixel", f"{point.low:.2f} to {point.high:.2f}") for point in bands.bits_per_pixel
    ]
    return [
        Paragraph(
            f"Bands at measured quality for at most {bands.false_alarms:.1%} false alarms; worse material, wider band:"
        ),
        Table(("at", "no verdict between"), tuple(rows)),
    ]


def protocol(result: ProtocolResult | None) -> list[Block]:
    """The rows of a published protocol, both groupings side by side."""
    if result is None or not result.rows:
        return []
    rows = tuple(
        (
            row.dataset,
            f"{row.frames:,}",
            str(row.frame_auroc),
            f"{row.frame_eer:.3f}",
            f"{row.frame_average_precision:.3f}",
            f"{row.merged.auroc} ({row.merged.videos:,})",
            f"{row.corrected.auroc} ({row.corrected.videos:,})",
            f"{row.uncovered:,}",
        )
        for row in result.rows
    )
    header = (
        *("dataset", "frames", "frame AUROC", "frame EER", "frame AP"),
        *("video AUROC, as published (videos)", "video AUROC, corrected (videos)", "files without a face"),
    )
    return [
        Heading(f"Under the {result.name} protocol", 2),
        Table(header, rows),
        Paragraph(
            "32 frames, the largest face of each. “As published” averages frames by folder name alone, which merges clips "
            "of the same name from different methods; “corrected” keeps files apart."
        ),
        Bullets(tuple(result.differences)),
        *_published(result),
    ]


def _published(result: ProtocolResult) -> list[Block]:
    """What others published under the same protocol, never in one table with what was measured."""
    blocks: list[Block] = []
    for name in (row.dataset for row in result.rows if row.dataset in PUBLISHED):
        rows = tuple((detector, f"{value:.3f}") for detector, value in PUBLISHED[name].items())
        blocks += [
            Paragraph(
                f"Published by others, **on other clips of {name}** and not measured here (Yan et al. 2023, "
                "arXiv:2307.01426): detectors trained on fakes of FaceForensics++ c23, on the benchmark's own test split."
            ),
            Table((f"published, {name}", "frame AUROC"), rows),
        ]
    return blocks
