"""Tables of scores: from Faceproof's own reports or from any other tool's CSV or Parquet.

``score`` is P(fake) in [0, 1] and ``label`` is 1 for fake, whatever the file called them. A row without ``frame``
and ``track`` speaks for a whole file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Literal, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from faceproof.errors import EvaluationError
from faceproof.evaluation.manifest import read_label
from faceproof.evaluation.problems import ProblemLog

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Strings = npt.NDArray[np.object_]
Mask = npt.NDArray[np.bool_]

Aggregation = Literal["mean", "max", "median"]
Scale = Literal["probability", "logit"]

TEXT_COLUMNS = ("dataset", "method", "source_video", "identity", "split", "verdict", "reason")
QUALITY_COLUMNS = ("face_side", "sharpness", "bits_per_pixel", "bit_rate")
ALIASES = {
    "path": ("path", "file", "filename", "file_name", "video", "video_path", "image", "image_path", "media", "name"),
    "label": ("label", "target", "y_true", "ground_truth", "gt", "class"),
    "score": ("score", "p_fake", "prob", "probability", "y_score", "fake_prob", "prediction_score", "logit", "pred"),
    "source_video": ("source_video", "source", "original", "group"),
    "frame": ("frame", "frame_index", "frame_id"),
    "track": ("track", "track_id", "person"),
    "face_side": ("face_side", "side"),
    "bit_rate": ("bit_rate", "bitrate"),
}


@dataclass(frozen=True)
class ScoreTable:
    """N scores and what they are of. All arrays have length N.

    ``label`` int64, 1 fake, 0 real; ``score`` float64 in [0, 1], NaN where nothing was scored; ``frame`` and ``track``
    int64, -1 where the row speaks for more; ``verdict`` a :class:`faceproof.results.Verdict` value or "" when the
    tool gives none; ``quality`` float64 columns by name (pixels, squared grey levels, bits per second), NaN unknown.
    """

    path: Strings
    label: IntArray
    score: FloatArray
    frame: IntArray
    track: IntArray
    dataset: Strings
    method: Strings
    source_video: Strings
    identity: Strings
    split: Strings
    verdict: Strings
    reason: Strings
    quality: Mapping[str, FloatArray] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        path: npt.ArrayLike,
        label: npt.ArrayLike,
        score: npt.ArrayLike,
        *,
        quality: Mapping[str, npt.ArrayLike] | None = None,
        **columns: npt.ArrayLike,
    ) -> Self:
        """Build a table; columns left out are unknown. Raises :class:`EvaluationError` for unequal lengths."""
        labels = np.asarray(label, dtype=np.int64)
        size = len(labels)
        known = {column.name for column in fields(cls)} - {"quality"}
        if unknown := set(columns) - known:
            raise TypeError(f"unknown columns: {sorted(unknown)}")
        table = cls(
            path=_strings(path),
            label=labels,
            score=np.asarray(score, dtype=np.float64),
            frame=np.asarray(columns.get("frame", np.full(size, -1)), dtype=np.int64),
            track=np.asarray(columns.get("track", np.full(size, -1)), dtype=np.int64),
            quality={name: np.asarray(values, dtype=np.float64) for name, values in (quality or {}).items()},
            **{name: _strings(columns.get(name, np.full(size, ""))) for name in TEXT_COLUMNS},
        )
        lengths = {len(getattr(table, name)) for name in known} | {len(values) for values in table.quality.values()}
        if lengths != {size}:
            raise EvaluationError(f"columns of unequal length: {sorted(lengths)}", remedy="Give one value per row.")
        return table

    def __len__(self) -> int:
        return len(self.label)

    @property
    def scored(self) -> Mask:
        """Rows that carry a score."""
        return np.isfinite(self.score)

    @property
    def level(self) -> Literal["frame", "track", "video"]:
        """What a row speaks for: one face or frame, one person, or a file."""
        if np.any(self.frame >= 0):
            return "frame"
        return "track" if np.any(self.track >= 0) else "video"

    def select(self, rows: Mask | IntArray) -> ScoreTable:
        """The table of ``rows`` (a mask or indices) only."""
        columns = {item.name: getattr(self, item.name)[rows] for item in fields(self) if item.name != "quality"}
        return ScoreTable(**columns, quality={name: values[rows] for name, values in self.quality.items()})

    def groups(self) -> IntArray:
        """The bootstrap's units, int64 [N], numbered from 0: rows of one dataset's source video, or of one file where
        its source is unknown."""
        named = self.source_video != ""
        keys = np.where(named, self.dataset_family() + "\0" + self.source_video, "\0" + self.path)
        codes, _ = pd.factorize(keys)
        return np.asarray(codes, dtype=np.int64)

    def dataset_family(self) -> Strings:
        """The dataset's name without its compression or edition ("FaceForensics++ c40" → "FaceForensics++"): one original
        at two qualities is still one original."""
        return families(self.dataset)

    def videos(self, aggregation: Aggregation = "mean") -> ScoreTable:
        """One row per file, its score the ``aggregation`` of its rows' scores; a file without any score keeps NaN. A file of
        which any row is fake is fake."""
        codes, paths = pd.factorize(self.path)
        # Of a clip that is forged in part the rows of its forgery say what the file is.
        order = np.lexsort((-self.label, codes))
        first = order[np.unique(codes[order], return_index=True)[1]]
        score = pd.Series(self.score).groupby(codes).agg(aggregation).to_numpy()
        quality = {name: pd.Series(values).groupby(codes).median().to_numpy() for name, values in self.quality.items()}
        table = self.select(first)
        alone = np.full(len(paths), -1, dtype=np.int64)
        verdicts = table.verdict if self.level == "video" else _strings(np.full(len(paths), ""))
        return replace(table, score=score, frame=alone, track=alone, quality=quality, verdict=verdicts)

    def sha256(self) -> str:
        """Hash of the paths, labels and scores, in whatever order they stand."""
        order = np.lexsort((self.track, self.frame, self.path.astype(str)))
        digest = hashlib.sha256()
        for row in order:
            line = f"{self.path[row]}\0{self.frame[row]}\0{self.track[row]}\0{self.label[row]}\0{self.score[row]:.9g}\n"
            digest.update(line.encode("utf-8", "surrogateescape"))
        return digest.hexdigest()


def _strings(values: npt.ArrayLike) -> Strings:
    array = np.asarray(values, dtype=object)
    missing = np.asarray(pd.isna(array))
    return np.asarray(np.where(missing, "", array), dtype=object) if missing.any() else array


def families(dataset: Strings) -> Strings:
    """Each dataset's name ``[N]`` without its compression or edition."""
    names, inverse = np.unique(dataset.astype(str), return_inverse=True)
    return np.asarray(np.array([_family(name) for name in names], dtype=object)[inverse], dtype=object)


def _family(name: str) -> str:
    head, _, last = name.rpartition(" ")
    return head if head and last.lower() in ("raw", "c0", "c23", "c40", "hq", "lq", "v1", "v2") else name


def read_scores(
    path: Path, *, scale: Scale = "probability", fake_is: Literal["high", "low"] = "high"
) -> tuple[ScoreTable, ProblemLog]:
    """Read a CSV or Parquet of scores from any tool.

    Column names may be any of :data:`ALIASES`. ``scale="logit"`` passes the scores through a sigmoid;
    ``fake_is="low"`` turns a tool's P(real) round. Rows with unknown labels or contradictory duplicates are left out,
    repeated ones kept once, missing scores kept as not assessed: all are counted in the returned log. Raises
    :class:`EvaluationError` when the file cannot be read, lacks path, label or score, holds no usable row, or when
    scores lie outside [0, 1].
    """
    frame = _read_table(path)
    problems = ProblemLog()
    columns = _find_columns(frame, path)
    paths = frame[columns["path"]].astype(str).to_numpy(dtype=object)
    named = frame[columns["path"]].notna().to_numpy() & (paths != "")
    labels, bad_label = _read_labels(frame[columns["label"]])
    problems.add("missing_path", *(f"row {row + 2}" for row in np.flatnonzero(~named)[:5]), count=int((~named).sum()))
    bad = np.flatnonzero(bad_label & named)
    problems.add("unknown_label", *(f"{paths[r]} ({frame[columns['label']].iloc[r]})" for r in bad[:5]), count=len(bad))
    scores = pd.to_numeric(frame[columns["score"]], errors="coerce").to_numpy(dtype=np.float64)
    scores = np.where(np.isfinite(scores), scores, np.nan)
    scores = _to_p_fake(scores, path, scale=scale, fake_is=fake_is)
    text = {
        name: frame[columns[name]].astype(object).fillna("").astype(str).to_numpy(dtype=object)
        for name in TEXT_COLUMNS
        if name in columns
    }
    numbers, bad_number = _read_numbers(frame, columns)
    problems.add("bad_frame", *(str(paths[row]) for row in np.flatnonzero(bad_number)[:5]), count=int(bad_number.sum()))
    quality = {
        name: pd.to_numeric(frame[columns[name]], errors="coerce").to_numpy(dtype=np.float64)
        for name in QUALITY_COLUMNS
        if name in columns
    }
    table = ScoreTable.of(paths, labels, scores, quality=quality, **text, **numbers)
    table = _without_duplicates(table.select(named & ~bad_label & ~bad_number), problems)
    unscored = ~table.scored & ~np.isin(table.verdict, ("NOT_ASSESSED", "FAILED"))
    problems.add("nan_score", *map(str, table.path[unscored][:5]), count=int(unscored.sum()))
    if len(table) == 0:
        found = "; ".join(problem.sentence for problem in problems.problems) or "it holds no row"
        raise EvaluationError(f"{path} holds no score to evaluate: {found}", remedy="Correct the rows named above.")
    return table, problems


def _read_table(path: Path) -> pd.DataFrame:
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            return pd.read_parquet(path)
        return pd.read_csv(path, low_memory=False, encoding_errors="surrogateescape", na_values=["nan", "NaN", "None"])
    except (OSError, ValueError, UnicodeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise EvaluationError(f"cannot read {path}: {reason}", remedy="Give a CSV or a Parquet file.") from error


def _find_columns(frame: pd.DataFrame, path: Path) -> dict[str, str]:
    present = {str(name).strip().lower(): str(name) for name in frame.columns}
    found = {}
    for name in ("path", "label", "score", "frame", "track", *TEXT_COLUMNS, *QUALITY_COLUMNS):
        for alias in ALIASES.get(name, (name,)):
            if alias in present:
                found[name] = present[alias]
                break
    if missing := [name for name in ("path", "label", "score") if name not in found]:
        raise EvaluationError(
            f"{path} lacks the column {' and '.join(missing)} (it has {', '.join(present) or 'none'})",
            remedy="Scores need path, label and score; source_video, dataset, method, split and frame help.",
        )
    return found


def _read_labels(column: pd.Series) -> tuple[IntArray, Mask]:
    codes, words = pd.factorize(column.astype(str))
    meaning = np.array([-1 if (label := read_label(word)) is None else label for word in words], dtype=np.int64)
    labels = meaning[codes] if len(words) else np.zeros(0, dtype=np.int64)
    return np.where(labels < 0, 0, labels), labels < 0


def _to_p_fake(scores: FloatArray, path: Path, *, scale: Scale, fake_is: str) -> FloatArray:
    if scale == "logit":
        scores = 1 / (1 + np.exp(-np.clip(scores, -700, 700)))
    outside = (scores < 0) | (scores > 1)
    if np.any(outside):
        raise EvaluationError(
            f"{int(outside.sum()):,} scores in {path} lie outside 0 to 1 (from {np.nanmin(scores):.4g} to "
            f"{np.nanmax(scores):.4g})",
            remedy="Say --scale logit if they are logits.",
        )
    return 1 - scores if fake_is == "low" else scores


def _read_numbers(frame: pd.DataFrame, columns: Mapping[str, str]) -> tuple[dict[str, IntArray], Mask]:
    numbers: dict[str, IntArray] = {}
    bad = np.zeros(len(frame), dtype=bool)
    for name in ("frame", "track"):
        if name not in columns:
            continue
        column = frame[columns[name]]
        values = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64)
        wrong = (np.isnan(values) & column.notna().to_numpy()) | (np.floor(values) != values) & ~np.isnan(values)
        numbers[name] = np.where(np.isnan(values) | wrong, -1, values).astype(np.int64)
        bad |= wrong
    return numbers, bad


def _without_duplicates(table: ScoreTable, problems: ProblemLog) -> ScoreTable:
    keys = pd.DataFrame({"path": table.path, "frame": table.frame, "track": table.track})
    again = keys.duplicated(keep=False).to_numpy()
    if not again.any():
        return table
    content = keys.assign(label=table.label, score=np.nan_to_num(table.score, nan=-1))
    distinct = content[again].groupby(["path", "frame", "track"])[["label", "score"]].nunique().max(axis=1)
    at_odds = set(distinct.index[distinct > 1])
    conflict = np.zeros(len(table), dtype=bool)
    rows = np.flatnonzero(again)
    conflict[rows] = [key in at_odds for key in keys.iloc[rows].itertuples(index=False, name=None)]
    repeated = keys.duplicated(keep="first").to_numpy() & ~conflict
    problems.add("conflicting_rows", *map(str, table.path[conflict][:5]), count=int(conflict.sum()))
    problems.add("duplicate_row", *map(str, table.path[repeated][:5]), count=int(repeated.sum()))
    return table.select(~conflict & ~repeated)


def write_scores(table: ScoreTable, path: Path) -> None:
    """Write a CSV or, by the suffix, a Parquet that :func:`read_scores` reads back. Raises :class:`EvaluationError`."""
    columns: dict[str, object] = {"path": table.path, "label": np.where(table.label == 1, "fake", "real")}
    columns["score"] = table.score
    columns |= {name: getattr(table, name) for name in TEXT_COLUMNS}
    if table.level != "video":
        columns |= {"frame": table.frame, "track": table.track}
    columns |= dict(table.quality)
    frame = pd.DataFrame(columns)
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            frame.to_parquet(path, index=False)
        else:
            frame.to_csv(path, index=False, errors="surrogateescape", lineterminator="\n", float_format="%.9g")
    except OSError as error:
        raise EvaluationError(f"cannot write {path}: {error}", remedy="Choose a folder you may write to.") from error
