"""From what the user names (a folder, a manifest, a table of scores, a detector) to an evaluation and its files."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from faceproof.batch import Outcome, ScanOptions
from faceproof.detectors.catalog import DEFAULT_DETECTOR, find_spec
from faceproof.detectors.ensemble import EnsembleSpec, find_ensemble
from faceproof.detectors.spec import Calibration, DetectorSpec
from faceproof.errors import DatasetError, EvaluationError, OutputError
from faceproof.evaluation.cache import ScoreCache
from faceproof.evaluation.choosing import Person, people_of
from faceproof.evaluation.document import Block, Figure, to_html, to_markdown
from faceproof.evaluation.evaluation import Evaluation, Settings, evaluate
from faceproof.evaluation.harness import Judged, Progress, judge, tabulate
from faceproof.evaluation.layouts import read_layout
from faceproof.evaluation.manifest import Manifest, read_manifest
from faceproof.evaluation.problems import ProblemLog
from faceproof.evaluation.protocols import DEEPFAKEBENCH_FRAMES, deepfakebench
from faceproof.evaluation.quality import SWEPT, fit_quality_bands
from faceproof.evaluation.report import document
from faceproof.evaluation.robustness import cells_of, sweep
from faceproof.evaluation.scores import ALIASES, Aggregation, Scale, ScoreTable, read_scores, write_scores
from faceproof.evaluation.significance import Contender
from faceproof.evaluation.soundness import calibrated_on_test
from faceproof.result_files import write_whole
from faceproof.results import DetectorFacts, Report

SCORES_FILE = "scores.csv"
EVALUATION_FILE = "evaluation.json"

Announce = Callable[[str], Progress | None]


def holds_scores(path: Path) -> bool:
    """Whether a file is a table of scores: a Parquet, or a CSV with a column that :data:`ALIASES` knows as score."""
    if path.suffix.lower() in (".parquet", ".pq"):
        return True
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            names = {name.strip().lower() for name in next(csv.reader(file), [])}
    except (OSError, csv.Error) as error:
        raise DatasetError(f"cannot read {path}: {error}", remedy="Give a folder, a manifest or scores.") from error
    return bool(names & set(ALIASES["score"]))


def open_manifest(path: Path, layout: str = "auto") -> Manifest:
    """The manifest at ``path``: a CSV, a folder with a ``manifest.csv``, or a dataset's folder.

    Raises :class:`DatasetError`.
    """
    if path.is_dir():
        inside = path / "manifest.csv"
        return read_manifest(inside) if layout == "auto" and inside.is_file() else read_layout(path, layout)
    if not path.exists():
        raise DatasetError(f"{path} does not exist", remedy="Give a folder, a manifest or scores.")
    return read_manifest(path)


def evaluate_scores(
    path: Path,
    *,
    settings: Settings,
    scale: Scale = "probability",
    polarity: str = "high",
    aggregation: Aggregation = "mean",
) -> tuple[Evaluation, Judged]:
    """Evaluate any tool's scores; rows of one file are pooled by ``aggregation`` for the level of files.

    ``polarity`` is ``high`` where a high score says fake, ``low`` where it says real. Raises as :func:`read_scores` and
    :func:`evaluate`.
    """
    table, problems = read_scores(path, scale=scale, fake_is="low" if polarity == "low" else "high")
    video = table.videos(aggregation)
    track = table if table.level == "track" else None
    frame = table if table.level == "frame" else None
    found = evaluate(path.stem, video, track=track, frame=frame, settings=settings, problems=problems, data=path.name)
    return found, Judged(video, track or video, frame or video, problems)


@dataclass(frozen=True)
class DetectorRun:
    """How to run a detector over a manifest. ``robustness`` names degradations (``("all",)`` for every one), swept on at
    most ``robustness_files`` fakes of each method and as many reals; ``cache`` is the folder of the score cache."""

    options: ScanOptions = field(default_factory=ScanOptions)
    jobs: int = 1
    cache: Path | None = None
    robustness: tuple[str, ...] = ()
    robustness_files: int = 10
    deepfakebench: bool = False


def evaluate_detector(
    manifest: Manifest,
    run: DetectorRun,
    *,
    settings: Settings,
    data: str,
    announce: Announce = lambda stage: None,
) -> tuple[Evaluation, Judged]:
    """Scan, measure and, where asked for, sweep and add the benchmark's protocol.

    The threshold is the spec's unless ``settings`` name their own source. ``announce`` is told each stage and may give
    a progress callback for it. Raises as :func:`judge`, :func:`evaluate` and :func:`sweep`.
    """
    name = run.options.detector or DEFAULT_DETECTOR
    spec = record_of(name)
    seconds: dict[str, float] = {}
    started = time.perf_counter()
    outcomes = _judge(manifest, run, run.options, announce(f"{name} on {len(manifest)} files"))
    seconds["scanning"] = time.perf_counter() - started
    if settings.threshold_source == Settings.threshold_source:
        settings = replace(settings, threshold=spec.verdict.threshold, threshold_source="the detector's spec")
    settings = replace(settings, extra={"frames": run.options.frames, "faces": run.options.faces, **settings.extra})
    started = time.perf_counter()
    judged = tabulate(manifest, outcomes)
    found = evaluate(
        name,
        judged.video,
        track=judged.track,
        frame=judged.frame,
        settings=settings,
        problems=judged.problems,
        detector=_facts(outcomes),
        data=data,
    )
    found.fitted = spec.verdict.fitted
    found.findings.extend(calibrated_on_test(spec.calibration, found.data_sha256))
    seconds["measuring"] = time.perf_counter() - started
    if run.deepfakebench:
        started = time.perf_counter()
        with_32 = replace(run.options, frames=DEEPFAKEBENCH_FRAMES)
        frames = _judge(manifest, run, with_32, announce(f"{name}, 32 frames of {len(manifest)} files"))
        found.protocol = deepfakebench(manifest, frames, resamples=min(settings.resamples, 500), seed=settings.seed)
        seconds["protocol"] = time.perf_counter() - started
    if run.robustness:
        started = time.perf_counter()
        _add_robustness(found, manifest, run, settings, announce)
        seconds["robustness"] = time.perf_counter() - started
    found.seconds = {stage: round(value, 1) for stage, value in seconds.items()}
    return found, judged


def scan_people(
    manifest: Manifest, run: DetectorRun, *, announce: Announce = lambda stage: None
) -> tuple[list[Person], ProblemLog]:
    """What the detector of ``run`` says of everybody in the manifest, for choosing its bands; and what went wrong.

    Raises as :func:`judge`.
    """
    name = run.options.detector or DEFAULT_DETECTOR
    outcomes = _judge(manifest, run, run.options, announce(f"{name} on {len(manifest)} files"))
    method = find_spec(name).spec.aggregate.track
    return people_of(manifest, outcomes, method), tabulate(manifest, outcomes).problems


def _judge(manifest: Manifest, run: DetectorRun, options: ScanOptions, progress: Progress | None) -> list[Outcome]:
    return judge(manifest, options, jobs=run.jobs, cache=_cache(run, options), on_progress=progress)


def _cache(run: DetectorRun, options: ScanOptions) -> ScoreCache | None:
    if run.cache is None:
        return None
    return ScoreCache(run.cache, record_of(options.detector), options)


def record_of(name: str | None) -> DetectorSpec | EnsembleSpec:
    """The record of the installed detector or ensemble of that name, of the default detector without one.

    Raises :class:`faceproof.errors.UnknownDetectorError`.
    """
    return (find_ensemble(name) if name else None) or find_spec(name or DEFAULT_DETECTOR).spec


def _facts(outcomes: Sequence[Outcome]) -> DetectorFacts | None:
    return next((outcome.detector for outcome in outcomes if isinstance(outcome, Report)), None)


def _add_robustness(
    found: Evaluation, manifest: Manifest, run: DetectorRun, settings: Settings, announce: Announce
) -> None:
    cells = cells_of([] if "all" in run.robustness else run.robustness)
    some = manifest.sample(run.robustness_files)
    progress = announce(f"{found.name}, {len(cells)} kinds of damage on {len(some)} files")
    swept = sweep(some, cells, run.options, jobs=run.jobs, cache=_cache(run, run.options), on_progress=progress)
    found.robustness = swept.curves(
        threshold=settings.threshold, resamples=min(settings.resamples, 300), seed=settings.seed
    )
    if settings.max_false_alarms is not None and any(cell[0] in SWEPT.values() for cell in cells):
        found.quality_bands = fit_quality_bands(swept, max_false_alarms=settings.max_false_alarms)


def write_results(folder: Path, evaluation: Evaluation, judged: Judged, *, command: str | None = None) -> list[Path]:
    """Write ``evaluation.json``, ``.md`` with its drawings, ``.html``, and the scores. Raises :class:`OutputError`."""
    blocks = document(evaluation, command=command)
    written = [folder / EVALUATION_FILE, folder / "evaluation.html", folder / "evaluation.md", folder / SCORES_FILE]
    make_folder(folder)
    write_whole(written[0], evaluation.model_dump_json(indent=2) + "\n")
    write_whole(written[1], to_html(f"{evaluation.name} on {evaluation.data}", blocks))
    write_page(written[2], blocks, figures=folder / "figures")
    try:
        write_scores(judged.video, written[3])
        if judged.frame is not judged.video:
            write_scores(judged.frame, folder / "frames.parquet")
    except EvaluationError as error:
        raise OutputError(error.message) from error
    return written


def write_page(path: Path, blocks: Sequence[Block], *, figures: Path) -> None:
    """Write a Markdown page and its drawings as SVG files into ``figures``, which lies beside or below the page."""
    drawings = [block for block in blocks if isinstance(block, Figure)]
    if drawings:
        make_folder(figures)
    for drawing in drawings:
        write_whole(figures / f"{drawing.name}.svg", drawing.svg)
    write_whole(path, to_markdown(blocks, figures=figures.relative_to(path.parent).as_posix()))


def make_folder(folder: Path) -> None:
    """Make a folder and those above it. Raises :class:`OutputError`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make {folder}: {error.strerror}") from error


def read_contender(path: Path) -> tuple[Contender, Evaluation | None]:
    """One side of a comparison: a folder that :func:`write_results` wrote, or a table of scores.

    Raises :class:`EvaluationError`.
    """
    if path.is_dir():
        table, _ = read_scores(path / SCORES_FILE)
        try:
            text = (path / EVALUATION_FILE).read_text(encoding="utf-8")
            found = Evaluation.model_validate_json(text)
        except (OSError, ValueError) as error:
            raise EvaluationError(
                f"{path} holds no evaluation: {error}", remedy="Run `faceproof evaluate` again."
            ) from error
        return Contender(found.name, table, found.threshold), found
    table, _ = read_scores(path)
    video = table.videos()
    return Contender(path.stem, video), evaluate(path.stem, video, settings=Settings(resamples=0), data=path.name)


def table_for_calibration(path: Path, split: str | None) -> ScoreTable:
    """One row a file of the scores at ``path`` (a table or an evaluation's folder), of one split if named.

    Raises :class:`EvaluationError` when that split is empty, or when an evaluation's scores are calibrated already.
    """
    if path.is_dir():
        contender, found = read_contender(path)
        if found is not None and found.detector is not None and found.detector.calibrated:
            raise EvaluationError(
                f"the scores in {path} are calibrated already",
                remedy="Evaluate a spec whose [calibration] has method none, then calibrate on that.",
            )
        table = contender.table
    else:
        table = read_scores(path)[0].videos()
    if split is None:
        return table
    chosen = table.select(table.split == split)
    if len(chosen) == 0:
        raise EvaluationError(f"no row of {path} is of the split {split!r}", remedy="Name a split that is in the file.")
    return chosen


def describe(calibration: Calibration) -> str:
    """A fitted calibration in a few words."""
    match calibration.method:
        case "temperature":
            return f"temperature {calibration.a:.4g}"
        case "platt":
            return f"Platt, slope {calibration.a:.4g} and offset {calibration.b:.4g}"
        case "isotonic":
            return f"isotonic, {len(calibration.points)} points"
        case "none":
            return "none"
