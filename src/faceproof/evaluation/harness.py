"""A detector over a manifest: reports, and from them tables of scores per file, per person and per frame."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faceproof.batch import Outcome, ScanOptions, scan_many, scan_one
from faceproof.detectors.detector import Detector
from faceproof.detectors.quality import Quality, bits_per_pixel
from faceproof.evaluation.cache import ScoreCache, media_sha256
from faceproof.evaluation.manifest import Entry, Manifest
from faceproof.evaluation.problems import ProblemLog
from faceproof.evaluation.scores import ScoreTable
from faceproof.judge import quality_of
from faceproof.media.files import media_kind
from faceproof.results import FailedInput, Reason, Report

Progress = Callable[[int, int, Path], None]


def judge(
    manifest: Manifest,
    options: ScanOptions,
    *,
    detector: Detector | None = None,
    jobs: int = 1,
    cache: ScoreCache | None = None,
    on_progress: Progress | None = None,
) -> list[Outcome]:
    """Scan every file of the manifest, in its order; what ``cache`` holds is not scanned again.

    Interrupted, it loses the files in flight only: every finished report is in the cache. A loaded ``detector`` is used
    in this process instead of the one that ``options`` name. ``on_progress`` is called with the number done,
    the number of files and the file just finished. Raises as :func:`faceproof.batch.scan_many` does.
    """
    total = len(manifest)
    outcomes: dict[Path, Outcome] = {}
    hashes: dict[Path, str | None] = {}

    def done(path: Path, outcome: Outcome) -> None:
        outcomes[path] = outcome
        if on_progress is not None:
            on_progress(len(outcomes), total, path)

    for entry in manifest.entries if cache is not None else ():
        assert cache is not None
        media = hashes[entry.path] = media_sha256(entry.path)
        known = cache.get(media, media_kind(entry.path) or "video") if media is not None else None
        if known is not None:
            done(entry.path, known)
    missing = [entry.path for entry in manifest.entries if entry.path not in outcomes]
    for path, outcome in _scan(missing, options, detector, jobs):
        media = hashes.get(path)
        if cache is not None and media is not None and isinstance(outcome, Report):
            cache.put(media, media_kind(path) or "video", outcome)
        done(path, outcome)
    return [outcomes[entry.path] for entry in manifest.entries]


def _scan(
    paths: Sequence[Path], options: ScanOptions, detector: Detector | None, jobs: int
) -> Iterator[tuple[Path, Outcome]]:
    if not paths:
        return
    if detector is None:
        yield from scan_many(paths, options, jobs=jobs)
        return
    for path in paths:
        yield path, scan_one(path, detector, options)


@dataclass(frozen=True)
class Judged:
    """What a detector said of a manifest. ``video`` has one row per file, failed ones included; ``track`` one per person;
    ``frame`` one per sampled frame, its score the highest of its faces. Rows without a score are NaN, never left out."""

    video: ScoreTable
    track: ScoreTable
    frame: ScoreTable
    problems: ProblemLog


def tabulate(manifest: Manifest, outcomes: Sequence[Outcome]) -> Judged:
    """Turn outcomes, in the manifest's order, into tables. Failures become rows without a score and are counted."""
    problems = ProblemLog(manifest.problems.problems)
    videos, tracks, frames = _Rows(), _Rows(), _Rows()
    for entry, outcome in zip(manifest.entries, outcomes, strict=True):
        name = manifest.relative(entry)
        if isinstance(outcome, FailedInput):
            problems.add("failed", f"{name} ({outcome.error}: {outcome.message})")
            videos.add(entry, name, None, "FAILED", outcome.error, Quality())
            continue
        quality = measure_quality(outcome)
        reason = outcome.reason.value if outcome.reason else ""
        videos.add(entry, name, outcome.score, outcome.verdict.value, reason, quality)
        for person in outcome.tracks:
            seen = Quality(person.median_side, person.median_sharpness, quality.bits_per_pixel)
            why = person.reason.value if person.reason else ""
            tracks.add(entry, name, person.score, person.verdict.value, why, seen, track=person.id)
        for frame in outcome.frame_predictions:
            frames.add(entry, name, frame.score, "", "", quality, frame=frame.index)
    return Judged(videos.table(), tracks.table(), frames.table(), problems)


def measure_quality(report: Report) -> Quality:
    """Quality of the largest person of a report, and of its file."""
    largest = max((track.faces for track in report.tracks), default=0)
    return quality_of(report.tracks, bits_per_pixel(report.media), largest)


def answered_without_face(table: ScoreTable) -> int:
    """Files whose score is a published system's fixed answer to "no face", not a measurement."""
    return int((table.scored & (table.reason == Reason.NO_FACE.value)).sum())


class _Rows:
    """Columns of a table while it is being filled."""

    def __init__(self) -> None:
        self._columns: dict[str, list[Any]] = {name: [] for name in _COLUMNS}

    def add(
        self,
        entry: Entry,
        name: str,
        score: float | None,
        verdict: str,
        reason: str,
        quality: Quality,
        *,
        frame: int = -1,
        track: int = -1,
    ) -> None:
        row = (
            *(name, entry.label, math.nan if score is None else score, frame, track, verdict, reason),
            *(entry.dataset, entry.method, entry.source_video, entry.identity, entry.split),
            *(quality.face_side, quality.sharpness, quality.bits_per_pixel),
        )
        for column, value in zip(self._columns.values(), row, strict=True):
            column.append(value)

    def table(self) -> ScoreTable:
        columns = dict(self._columns)
        path, label, score = (columns.pop(name) for name in ("path", "label", "score"))
        quality = {name: columns.pop(name) for name in ("face_side", "sharpness", "bits_per_pixel")}
        return ScoreTable.of(path, label, score, quality=quality, **columns)


_COLUMNS = (
    *("path", "label", "score", "frame", "track", "verdict", "reason"),
    *("dataset", "method", "source_video", "identity", "split"),
    *("face_side", "sharpness", "bits_per_pixel"),
)
