"""Named protocols of published benchmarks, so that rows can stand under their tables.

DeepfakeBench (Yan et al., NeurIPS 2023): 32 evenly spaced frames, the largest face of each, AUROC over frames. Its
video AUROC averages frames by the name of their folder alone, so that in FaceForensics++ the clips ``000_003`` of four
forgery methods become one video. Both groupings are given, side by side.

What differs from the published pipeline, and cannot be had from a report: faces are found by Faceproof's cascade, not
by dlib, and not warped to its five points. The checkpoint of its tables was chosen on the test sets; ours was not.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict

from faceproof.batch import Outcome
from faceproof.evaluation import metrics
from faceproof.evaluation.bootstrap import Estimate, auroc_estimate
from faceproof.evaluation.manifest import Manifest
from faceproof.evaluation.scores import ScoreTable
from faceproof.results import FrameScore, Report

DEEPFAKEBENCH_FRAMES = "32"
_FACEFORENSICS_CLIP = re.compile(r"(?:^|_)(\d{3}(?:_\d{3})?)$")


PUBLISHED: dict[str, dict[str, float]] = {
    "FaceForensics++ c23": {
        "Meso4": 0.6077,
        "MesoIncep": 0.7583,
        "Xception": 0.9637,
        "EfficientNet-B4": 0.9567,
        "Face X-ray": 0.9592,
        "UCF": 0.9705,
    },
    "FaceForensics++ c40": {
        "Meso4": 0.5920,
        "MesoIncep": 0.7278,
        "Xception": 0.8261,
        "EfficientNet-B4": 0.8150,
        "Face X-ray": 0.7925,
        "UCF": 0.8399,
    },
    "Celeb-DF v2": {
        "Meso4": 0.6091,
        "MesoIncep": 0.6966,
        "Xception": 0.7365,
        "EfficientNet-B4": 0.7487,
        "Face X-ray": 0.6786,
        "UCF": 0.7527,
    },
    "DFDC": {
        "Meso4": 0.5560,
        "MesoIncep": 0.6226,
        "Xception": 0.7077,
        "EfficientNet-B4": 0.6955,
        "Face X-ray": 0.6326,
        "UCF": 0.7191,
    },
}
"""Frame AUROCs that others published under this protocol: Yan et al. 2023, arXiv:2307.01426, the table of results in the
benchmark's README. All were trained on FaceForensics++ c23, fakes included, and measured on its own test clips."""


class GroupedAuroc(BaseModel):
    """A video AUROC under one way to say which frames are one video."""

    model_config = ConfigDict(extra="forbid")

    videos: int
    fakes: int
    reals: int
    auroc: Estimate


class ProtocolRow(BaseModel):
    """One dataset under the protocol. Frame metrics are as published; ``merged`` groups by folder name as the benchmark
    does, ``corrected`` by file. ``uncovered`` counts files without a scored frame: the benchmark leaves them out."""

    model_config = ConfigDict(extra="forbid")

    dataset: str
    frames: int
    files: int
    uncovered: int
    frame_auroc: Estimate
    frame_eer: float
    frame_average_precision: float
    frame_accuracy: float
    merged: GroupedAuroc
    corrected: GroupedAuroc


class ProtocolResult(BaseModel):
    """Rows by dataset, and what was not as published."""

    model_config = ConfigDict(extra="forbid")

    name: str
    rows: list[ProtocolRow]
    differences: list[str]


DIFFERENCES = [
    "Faces are found by Faceproof's cascade and cut by the detector's own spec, not aligned with dlib's landmarks.",
    "The checkpoint was not chosen on these test sets; those of the published tables were.",
    "Files without a scored frame are counted here; the benchmark leaves them out.",
]


def deepfakebench(
    manifest: Manifest, outcomes: Sequence[Outcome], *, resamples: int = 500, seed: int = 0
) -> ProtocolResult:
    """The protocol's rows from reports made with 32 frames; ``outcomes`` in the manifest's order."""
    table, clips = _largest_faces(manifest, outcomes)
    rows = []
    for dataset in sorted({str(name) for name in table.dataset}):
        here = table.dataset == dataset
        seen = here & table.scored
        part = table.select(seen)
        if not metrics.has_both(part.label):
            continue
        files = np.unique(table.path[here].astype(str))
        rows.append(
            ProtocolRow(
                dataset=dataset or "all",
                frames=len(part),
                files=len(files),
                uncovered=len(files) - len(np.unique(part.path.astype(str))),
                frame_auroc=auroc_estimate(part.label, part.score, part.groups(), resamples=resamples, seed=seed),
                frame_eer=their_equal_error_rate(part),
                frame_average_precision=metrics.average_precision(part.label, part.score),
                frame_accuracy=metrics.accuracy(part.label, part.score, 0.5),
                merged=_grouped(part, clips[seen], resamples=resamples, seed=seed),
                corrected=_grouped(part, part.path, resamples=resamples, seed=seed),
            )
        )
    return ProtocolResult(name="DeepfakeBench", rows=rows, differences=list(DIFFERENCES))


def their_equal_error_rate(table: ScoreTable) -> float:
    """The benchmark's EER: the false-positive rate at the point of the curve where it is nearest to the miss rate."""
    fpr, tpr, _ = metrics.roc(table.label, table.score)
    return float(fpr[np.nanargmin(np.abs(1 - tpr - fpr))])


def clip_name(path: str, dataset: str) -> str:
    """The folder name that the benchmark would give a clip's frames: in FaceForensics++ the numbers alone."""
    stem = path.rsplit("/", 1)[-1].rsplit(".", 1)[0]
    found = _FACEFORENSICS_CLIP.search(stem) if dataset.startswith("FaceForensics") else None
    return found[1] if found else stem


def _grouped(frames: ScoreTable, key: object, *, resamples: int, seed: int) -> GroupedAuroc:
    codes, names = pd.factorize(np.asarray(key, dtype=object))
    size = len(names)
    counts = np.bincount(codes, minlength=size)
    score = np.bincount(codes, weights=frames.score, minlength=size) / counts
    # Merged clips of one name carry one label; where they do not, the benchmark's average is rounded.
    label = np.round(np.bincount(codes, weights=frames.label, minlength=size) / counts).astype(np.int64)
    first = np.unique(codes, return_index=True)[1]
    groups = frames.groups()[first]
    return GroupedAuroc(
        videos=size,
        fakes=int(label.sum()),
        reals=int(np.sum(label == 0)),
        auroc=auroc_estimate(label, score, groups, resamples=resamples, seed=seed),
    )


def _largest_faces(manifest: Manifest, outcomes: Sequence[Outcome]) -> tuple[ScoreTable, np.ndarray]:
    rows: list[tuple[str, int, float, int, str, str, str]] = []
    for entry, outcome in zip(manifest.entries, outcomes, strict=True):
        name = manifest.relative(entry)
        facts = (entry.dataset, entry.method, entry.source_video)
        frames = outcome.frame_predictions if isinstance(outcome, Report) else []
        rows += [(name, entry.label, largest_face(frame), frame.index, *facts) for frame in frames]
        if not frames:
            rows.append((name, entry.label, np.nan, -1, *facts))
    table = ScoreTable.of(
        [row[0] for row in rows],
        [row[1] for row in rows],
        [row[2] for row in rows],
        frame=[row[3] for row in rows],
        dataset=[row[4] for row in rows],
        method=[row[5] for row in rows],
        source_video=[row[6] for row in rows],
    )
    clips = [clip_name(str(p), str(d)) for p, d in zip(table.path, table.dataset, strict=True)]
    return table, np.array(clips, dtype=object)


def largest_face(frame: FrameScore) -> float:
    """P(fake) of the face with the largest box, NaN in a frame without faces."""
    if not frame.faces:
        return float("nan")
    return max(frame.faces, key=lambda face: (face.box[2] - face.box[0]) * (face.box[3] - face.box[1])).p_fake
