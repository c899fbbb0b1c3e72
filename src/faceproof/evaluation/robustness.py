"""Where a detector breaks: its AUROC and its false alarms as the material gets worse.

Every file is degraded and scanned like any other file, faces searched anew. Of a video a short run of frames is used,
untouched as the first point of every curve, so that a curve shows the damage and nothing else.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
from pydantic import BaseModel, ConfigDict

from faceproof.batch import Outcome, ScanOptions, failed_input, scan_one
from faceproof.detectors.detector import Detector
from faceproof.errors import EvaluationError, MediaCorruptError, MediaError, OptionError
from faceproof.evaluation import metrics
from faceproof.evaluation.bootstrap import Estimate, auroc_estimate
from faceproof.evaluation.cache import ScoreCache, media_sha256
from faceproof.evaluation.degradations import DEGRADATIONS, Frames, encode_lossless
from faceproof.evaluation.harness import tabulate
from faceproof.evaluation.manifest import Manifest
from faceproof.evaluation.scores import ScoreTable
from faceproof.media import probe, read_frames
from faceproof.results import Report
from faceproof.runtime.cpu import usable_cores

RUN = 24
"""Frames of a video that are degraded: consecutive ones, so that codecs do what they do."""
SAMPLED = 6
"""Frames of the run that are scanned."""

Cell = tuple[str, float]
UNTOUCHED: Cell = ("untouched", 0.0)


class CurvePoint(BaseModel):
    """One severity. ``scored`` is the share of files still scored; face side and bits per pixel are medians."""

    model_config = ConfigDict(extra="forbid")

    severity: float | None
    auroc: Estimate
    false_alarm_rate: float | None
    miss_rate: float | None
    scored: float
    face_side: float | None
    bits_per_pixel: float | None


class Curve(BaseModel):
    """A degradation's points, the untouched material first. ``chance_from`` is the severity from which on the AUROC's
    interval holds one half: there the detector is not shown to be better than chance. None when it never gets there."""

    model_config = ConfigDict(extra="forbid")

    name: str
    title: str
    unit: str
    words: str
    files: int
    points: list[CurvePoint]
    chance_from: float | None
    chance_untouched: bool


def cells_of(names: Sequence[str]) -> list[Cell]:
    """The untouched cell and every severity of the named degradations (all of them for an empty sequence).

    Raises :class:`OptionError` for an unknown name.
    """
    unknown = [name for name in names if name not in DEGRADATIONS]
    if unknown:
        raise OptionError(f"unknown degradation {', '.join(unknown)}", remedy=f"Known are {', '.join(DEGRADATIONS)}.")
    chosen = names or tuple(DEGRADATIONS)
    return [UNTOUCHED, *((name, severity) for name in chosen for severity in DEGRADATIONS[name].severities)]


@dataclass(frozen=True)
class Sweep:
    """One table of files per cell."""

    tables: dict[Cell, ScoreTable]

    def curves(self, *, threshold: float, resamples: int = 300, seed: int = 0) -> list[Curve]:
        """A curve per degradation swept. Intervals resample the same source videos at every severity."""
        names = [name for name in DEGRADATIONS if any(cell[0] == name for cell in self.tables)]
        start = _point(None, self.tables[UNTOUCHED], threshold, resamples, seed)
        curves = []
        for name in names:
            kind = DEGRADATIONS[name]
            points = [start] + [
                _point(severity, self.tables[name, severity], threshold, resamples, seed)
                for severity in kind.severities
                if (name, severity) in self.tables
            ]
            curves.append(
                Curve(
                    name=name,
                    title=kind.title,
                    unit=kind.unit,
                    words=kind.words,
                    files=len(self.tables[UNTOUCHED]),
                    points=points,
                    chance_from=_chance_from(points),
                    chance_untouched=not _beats_chance(start),
                )
            )
        return curves


def _point(severity: float | None, table: ScoreTable, threshold: float, resamples: int, seed: int) -> CurvePoint:
    seen = table.select(table.scored)

    def known(value: float) -> float | None:
        return float(value) if np.isfinite(value) else None

    def median(name: str) -> float | None:
        values = table.quality[name][np.isfinite(table.quality[name])]
        return float(np.median(values)) if len(values) else None

    return CurvePoint(
        severity=severity,
        auroc=auroc_estimate(seen.label, seen.score, seen.groups(), resamples=resamples, seed=seed),
        false_alarm_rate=known(metrics.false_alarm_rate(seen.label, seen.score, threshold)),
        miss_rate=known(metrics.miss_rate(seen.label, seen.score, threshold)),
        scored=len(seen) / max(1, len(table)),
        face_side=median("face_side"),
        bits_per_pixel=median("bits_per_pixel"),
    )


def _beats_chance(point: CurvePoint) -> bool:
    return point.auroc.low is not None and point.auroc.low > 0.5


def _chance_from(points: Sequence[CurvePoint]) -> float | None:
    """The mildest severity with nothing better than chance at it and beyond."""
    mildest = None
    for point in reversed(points[1:]):
        if _beats_chance(point):
            break
        mildest = point.severity
    return mildest


def sweep(
    manifest: Manifest,
    cells: Sequence[Cell],
    options: ScanOptions,
    *,
    detector: Detector | None = None,
    jobs: int = 1,
    cache: ScoreCache | None = None,
    on_progress: Callable[[int, int, Path], None] | None = None,
) -> Sweep:
    """Degrade and scan every file in every cell. What ``cache`` holds is not done again; interrupted, it goes on.

    ``jobs`` processes share the cores, a file each; a loaded ``detector`` is used in this process instead. Raises
    :class:`EvaluationError` when a process dies, and as :func:`faceproof.detectors.detector.load_detector`.
    """
    settings = replace(options, frames=str(SAMPLED))
    found: dict[Path, dict[Cell, Outcome]] = {}
    keys: dict[Path, dict[Cell, str]] = {}
    work: list[tuple[Path, list[Cell]]] = []
    total = len(manifest)

    def done(path: Path, outcomes: dict[Cell, Outcome]) -> None:
        for cell, outcome in outcomes.items():
            if cache is not None and cell in keys.get(path, {}) and isinstance(outcome, Report):
                cache.put(keys[path][cell], "video", outcome)
        found.setdefault(path, {}).update(outcomes)
        if on_progress is not None and len(found[path]) == len(cells):
            on_progress(sum(len(done) == len(cells) for done in found.values()), total, path)

    for entry in manifest.entries:
        known: dict[Cell, Outcome] = {}
        media = media_sha256(entry.path) if cache is not None else None
        if cache is not None and media is not None:
            keys[entry.path] = {cell: cell_key(media, cell) for cell in cells}
            known = {
                cell: report for cell in cells if (report := cache.get(keys[entry.path][cell], "video")) is not None
            }
        done(entry.path, known)
        missing = [cell for cell in cells if cell not in known]
        if missing:
            work.append((entry.path, missing))
    for path, outcomes in _run(work, settings, detector, jobs):
        done(path, outcomes)
    tables = {cell: tabulate(manifest, [found[entry.path][cell] for entry in manifest.entries]).video for cell in cells}
    return Sweep(tables)


def cell_key(media: str, cell: Cell) -> str:
    """What a degraded file is filed under in the cache: its original's hash and what was done to it."""
    return hashlib.sha256(f"{media}|{cell[0]}|{cell[1]:g}|{RUN}|{SAMPLED}".encode()).hexdigest()


def _run(
    work: Sequence[tuple[Path, list[Cell]]], options: ScanOptions, detector: Detector | None, jobs: int
) -> Iterator[tuple[Path, dict[Cell, Outcome]]]:
    if not work:
        return
    if detector is not None or jobs == 1:
        loaded = detector or options.load()
        for path, cells in work:
            for cell, outcome in sweep_file(path, cells, loaded, options):
                yield path, {cell: outcome}
        return
    shared = replace(options, threads=options.threads or max(1, usable_cores() // jobs))
    context = get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_start, initargs=(shared,)) as pool:
        try:
            running = {pool.submit(_work, os.fspath(path), cells): path for path, cells in work}
            for future in as_completed(running):
                yield running[future], future.result()
        except BrokenProcessPool as error:
            raise EvaluationError(
                "a process of the sweep was killed", remedy="Run again with fewer --jobs; finished files are kept."
            ) from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


# Set once in each worker process by _start.
_worker: tuple[Detector, ScanOptions] | None = None


def _start(options: ScanOptions) -> None:
    global _worker
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _worker = (options.load(), options)


def _work(path: str, cells: list[Cell]) -> dict[Cell, Outcome]:
    assert _worker is not None
    return dict(sweep_file(Path(path), cells, *_worker))


def sweep_file(
    path: Path, cells: Sequence[Cell], detector: Detector, options: ScanOptions
) -> Iterator[tuple[Cell, Outcome]]:
    """One file in every cell: decoded once, degraded, written where nobody else looks, scanned and forgotten."""
    try:
        frames, still = read_run(path)
    except MediaError as error:
        yield from ((cell, failed_input(path, error)) for cell in cells)
        return
    with tempfile.TemporaryDirectory(prefix="faceproof-") as folder:
        for number, cell in enumerate(cells):
            data, suffix = degrade(frames, cell, still=still)
            place = Path(folder) / f"{number}{suffix}"
            place.write_bytes(data)
            outcome = scan_one(place, detector, options)
            place.unlink()
            yield cell, outcome


def read_run(path: Path) -> tuple[Frames, bool]:
    """The frames to degrade and whether they are a still: a picture, or :data:`RUN` consecutive frames from a quarter of
    the way into a video (at most 100 frames in). Raises :class:`MediaError`."""
    info = probe(path)
    start = min((info.frame_count or 0) // 4, 100)
    indices = [0] if info.kind == "image" else list(range(start, start + RUN))
    if info.frame_count:
        indices = [index for index in indices if index < info.frame_count]
    frames = [frame.image for frame in read_frames(info, indices)]
    if not frames:
        raise MediaCorruptError(f"nothing of {path.name} decodes")
    return frames, info.kind == "image"


def degrade(frames: Frames, cell: Cell, *, still: bool) -> tuple[bytes, str]:
    """The degraded file's bytes and suffix. Codecs give the clip they encoded; everything else is stored without loss."""
    name, severity = cell
    kind = DEGRADATIONS.get(name)
    if kind is not None and kind.encode is not None and not still:
        return kind.encode(frames, severity), ".mp4"
    if kind is None or kind.encode is None:
        # Only the frames that will be scanned need to be touched.
        chosen = np.unique(np.linspace(0, len(frames) - 1, SAMPLED).round().astype(int))
        frames = [frames[index] for index in chosen]
    if kind is not None:
        frames = kind.apply(frames, severity)
    if still:
        _, png = cv2.imencode(".png", frames[0][:, :, ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])
        return png.tobytes(), ".png"
    return encode_lossless(frames), ".mkv"
