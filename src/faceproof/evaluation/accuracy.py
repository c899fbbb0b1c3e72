"""``docs/accuracy.md``: every detector that has weights, measured on one folder, with where the default fails on top."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from faceproof.detectors.catalog import DEFAULT_DETECTOR, find_spec, installed_specs
from faceproof.errors import EvaluationError, WeightsError
from faceproof.evaluation.carried import carried
from faceproof.evaluation.document import Block, Bullets, Callout, Code, Figure, Heading, Paragraph, Table
from faceproof.evaluation.evaluation import Evaluation, Settings
from faceproof.evaluation.harness import Judged
from faceproof.evaluation.limits import failures, percent, percent_of, promises
from faceproof.evaluation.manifest import Manifest
from faceproof.evaluation.report import measured_sections
from faceproof.evaluation.runs import Announce, DetectorRun, evaluate_detector, make_folder, record_of, write_page
from faceproof.evaluation.significance import Contender, compare
from faceproof.evidence.measured import write_limits

KINDS = {"video": "videos", "image": "stills"}


@dataclass(frozen=True)
class Measured:
    """One detector on one kind of media."""

    detector: str
    kind: str
    evaluation: Evaluation
    judged: Judged


def detectors_with_weights() -> list[str]:
    """Names of installed detectors whose weights are there, the default first."""
    names = [installed.spec.name for installed in installed_specs() if installed.has_weights]
    return sorted(names, key=lambda name: (name != DEFAULT_DETECTOR, name))


def measure(
    manifest: Manifest,
    names: Sequence[str],
    run: DetectorRun,
    *,
    settings: Settings,
    data: str,
    robustness: Mapping[str, Sequence[str]] | None = None,
    announce: Announce = lambda stage: None,
) -> list[Measured]:
    """Every detector on the manifest's videos and on its stills, apart: they are different tasks.

    ``robustness`` names the degradations to sweep by kind ("video", "image") in place of those of ``run``: a clip
    costs as much as fifty stills.
    Raises :class:`WeightsError` without any detector, :class:`EvaluationError` when no kind can be evaluated.
    """
    if not names:
        raise WeightsError("no detector here has weights", remedy="`faceproof detectors list` shows what is missing.")
    for name in names:
        # A misspelt one must not be found out after the others were measured.
        record_of(name)
    found = []
    for name in names:
        for kind, word in KINDS.items():
            part = manifest.only(media=kind)
            if not len(part):
                continue
            swept = run.robustness if robustness is None else tuple(robustness.get(kind, ()))
            chosen = replace(run, options=replace(run.options, detector=name), robustness=swept)
            evaluation, judged = evaluate_detector(
                part, chosen, settings=settings, data=f"{data}, {len(part)} {word}", announce=announce
            )
            found.append(Measured(name, kind, evaluation, judged))
    if not found:
        raise EvaluationError(f"{data} holds neither pictures nor videos", remedy="Give a folder of labelled media.")
    return found


def page(
    measured: Sequence[Measured], manifest: Manifest, *, data: str, command: str, chosen_here: bool = False
) -> list[Block]:
    """The page. ``command`` is what prints it again; ``chosen_here`` says that checkpoints were chosen on this set."""
    first = measured[0].detector
    blocks: list[Block] = [
        Heading("Accuracy, measured", 1),
        Paragraph("This page is generated; do not edit it. Everything in it was printed by:"),
        Code(command),
        Heading(f"Where {first} fails", 2),
    ]
    for item in measured:
        if item.detector == first:
            listed = tuple(failures(item.evaluation)) or ("Nothing was seen to fail here, which proves little.",)
            blocks += [Paragraph(f"On {KINDS[item.kind]}:"), Bullets(listed)]
    blocks += [*_the_set(manifest, data, chosen_here), *_overview(measured), *_against_default(measured)]
    for item in measured:
        blocks += _sections(item)
    return blocks


def _the_set(manifest: Manifest, data: str, chosen_here: bool) -> list[Block]:
    counts: dict[tuple[str, str], list[int]] = {}
    for entry in manifest.entries:
        row = counts.setdefault((entry.dataset or "–", entry.method or "–"), [0, 0])
        row[entry.label] += 1
    rows = tuple(
        (f"{dataset} · {method}", f"{reals:,}", f"{fakes:,}") for (dataset, method), (reals, fakes) in counts.items()
    )
    warning = Callout(
        "warning",
        "The default detector's recipe and checkpoint were chosen by their scores on this set: its numbers here are "
        "optimistic, and a set that nobody has looked at may give less.",
    )
    return [
        Heading("The set", 2),
        *([warning] if chosen_here else []),
        Paragraph(
            f"{len(manifest):,} files ({data}). Nothing here was used to train a shipped detector or to calibrate it. Small "
            "sets give wide intervals: read those, not the third decimal."
        ),
        Table(("part", "real", "fake"), rows),
    ]


def _overview(measured: Sequence[Measured]) -> list[Block]:
    rows = []
    for item in measured:
        main, cover = item.evaluation.main, item.evaluation.coverage
        rows.append(
            (
                f"{item.detector}, {KINDS[item.kind]}",
                str(main.metrics["auroc"]),
                "–" if main.auroc_all is None else f"{main.auroc_all:.3f}",
                str(main.metrics["balanced_accuracy"]),
                percent(main.metrics["false_alarm_rate"]),
                percent(main.metrics["miss_rate"]),
                f"{main.metrics['ece_even'].value or 0:.3f}",
                percent_of(cover.scored, cover.files),
            )
        )
    base = measured[0].evaluation.main.base_rate
    if base is not None:
        rows.append(("calling everything fake", "0.500", "0.500", "0.500", "100%", "0%", "–", "100%"))
    header = (
        *("detector", "AUROC [95 %]", "AUROC, unscored as coin tosses", "balanced accuracy"),
        *("reals flagged", "fakes missed", "calibration error", "scored"),
    )
    return [Heading("Overview", 2), Table(header, tuple(rows))]


def _against_default(measured: Sequence[Measured]) -> list[Block]:
    rows = []
    for kind, word in KINDS.items():
        items = [item for item in measured if item.kind == kind]
        for other in items[1:]:
            a, b = (Contender(i.detector, i.judged.video, i.evaluation.threshold) for i in (items[0], other))
            try:
                found = compare(a, b)
            except EvaluationError:
                continue
            p_value = "–" if found.delong is None else f"{found.delong.p_value:.3g}"
            rows.append((f"{other.detector}, {word}", str(found.difference), p_value, f"{found.files:,}"))
    if not rows:
        return []
    header = ("compared with", f"AUROC of {measured[0].detector} minus theirs", "DeLong p", "files both scored")
    return [Heading("Against the default", 2), Table(header, tuple(rows))]


def _sections(item: Measured) -> Iterator[Block]:
    evaluation = item.evaluation
    yield Heading(f"{item.detector} on {KINDS[item.kind]}", 2)
    facts = evaluation.detector
    if facts is not None:
        fitted = record_of(item.detector).calibration.data
        calibration = f"calibrated on {fitted}" if fitted else "calibrated" if facts.calibrated else "not calibrated"
        yield Paragraph(
            f"Version {facts.version}, {calibration}; threshold {facts.threshold:.3g}, no verdict between "
            f"{facts.band[0]:.3g} and {facts.band[1]:.3g}; weights sha256 `{facts.weights_sha256}`, {facts.runtime} in "
            f"{facts.precision}."
        )
    origin = evaluation.fitted
    if origin is not None:
        kept = "; ".join(
            f"{count:,} of {judged:,} {words} ({percent_of(count, judged)}, at most {rate:.1%} promised)"
            for words, count, judged, rate in promises(evaluation)
        )
        sources = f"{origin.data}: {origin.reals:,} genuine and {origin.fakes:,} forged sources"
        yield Paragraph(f"The band was chosen on {sources}. Here: {kept}.")
    for problem in evaluation.problems:
        yield Callout("warning", problem.sentence)
    for block in measured_sections(evaluation, level=2):
        if isinstance(block, Figure):
            yield replace(block, name=f"{item.detector}-{KINDS[item.kind]}-{block.name}")
        else:
            yield block


def write_accuracy(path: Path, blocks: Sequence[Block]) -> None:
    """Write the page and, in a folder of its name beside it, its drawings.

    Raises :class:`faceproof.errors.OutputError`.
    """
    make_folder(path.parent)
    write_page(path, blocks, figures=path.parent / path.stem)


def keep_beside_specs(measured: Sequence[Measured], *, command: str, chosen_here: bool) -> list[Path]:
    """Write beside each detector's spec what report pages tell of it; returns the files. Raises
    :class:`faceproof.errors.OutputError`."""
    written = []
    for name in dict.fromkeys(item.detector for item in measured):
        own = [(item.kind, item.evaluation) for item in measured if item.detector == name]
        limits = carried(own, command=command, chosen_here=chosen_here)
        written.append(write_limits(limits, find_spec(name).source))
    return written
