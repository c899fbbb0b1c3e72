"""Which files to judge, what they are, and which of them belong together.

A manifest is a CSV with the columns ``path,label,dataset,method,source_video,identity,split``. Only ``path`` and
``label`` are required; paths are relative to the manifest. ``source_video`` is what the bootstrap resamples and what
leakage is checked on: clips forged from one original share it.
"""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from faceproof.errors import DatasetError
from faceproof.evaluation.problems import ProblemLog
from faceproof.media.files import media_kind

COLUMNS = ("path", "label", "dataset", "method", "source_video", "identity", "split")
FAKE_WORDS = frozenset({"fake", "1", "1.0", "deepfake", "manipulated", "forged", "synthetic", "spoof", "altered"})
REAL_WORDS = frozenset({"real", "0", "0.0", "original", "genuine", "pristine", "authentic", "bonafide"})


def read_label(text: object) -> int | None:
    """1 for fake, 0 for real, None for a word that is neither."""
    word = str(text).strip().lower()
    if word in FAKE_WORDS:
        return 1
    return 0 if word in REAL_WORDS else None


@dataclass(frozen=True, slots=True)
class Entry:
    """One file to judge. ``label`` is 1 for fake; an empty string means unknown."""

    path: Path
    label: int
    dataset: str = ""
    method: str = ""
    source_video: str = ""
    identity: str = ""
    split: str = ""


@dataclass(frozen=True)
class Manifest:
    """Files to judge, and what was wrong with the rows that are not among them."""

    entries: tuple[Entry, ...]
    root: Path
    problems: ProblemLog = field(default_factory=ProblemLog)

    def __len__(self) -> int:
        return len(self.entries)

    def relative(self, entry: Entry) -> str:
        """The entry's path as the manifest writes it: relative to its folder where it lies inside."""
        try:
            return entry.path.relative_to(self.root).as_posix()
        except ValueError:
            return str(entry.path)

    def only(self, *, split: str | None = None, media: str | None = None) -> Manifest:
        """The entries of one ``split``, or of one kind of ``media`` ("image" or "video")."""
        kept = [
            entry
            for entry in self.entries
            if (split is None or entry.split == split) and (media is None or media_kind(entry.path) == media)
        ]
        return Manifest(tuple(kept), self.root, self.problems)

    def sample(self, per_method: int) -> Manifest:
        """At most ``per_method`` fakes of each method of each dataset, and as many reals as those methods together,
        chosen by a hash of the path: the same files every time, on every machine, in whatever order they are listed."""
        methods: dict[str, set[str]] = {}
        for entry in self.entries:
            methods.setdefault(entry.dataset, set())
            if entry.label:
                methods[entry.dataset].add(entry.method)
        taken: dict[tuple[str, str | None], int] = {}
        kept: list[Entry] = []
        for entry in sorted(self.entries, key=self._stable_order):
            part = (entry.dataset, entry.method if entry.label else None)
            room = per_method if entry.label else per_method * max(1, len(methods[entry.dataset]))
            if taken.get(part, 0) < room:
                taken[part] = taken.get(part, 0) + 1
                kept.append(entry)
        return Manifest(tuple(sorted(kept, key=lambda entry: str(entry.path))), self.root, self.problems)

    def _stable_order(self, entry: Entry) -> str:
        return hashlib.sha256(self.relative(entry).encode("utf-8", "surrogateescape")).hexdigest()


_REPORTS_LACK = "It looks like reports of a scan, which do not say what is really forged. "


def read_manifest(path: Path, *, check_files: bool = True) -> Manifest:
    """Read a manifest CSV.

    Rows with an unknown label, without a path, twice in the file, or whose file does not exist are counted in
    ``problems`` and left out. Raises :class:`DatasetError` when the file cannot be read, lacks a required
    column, or holds no usable row.
    """
    if (kind := media_kind(path)) is not None:
        raise DatasetError(
            f"{path} is {'a picture' if kind == 'image' else 'a video'}, and measuring needs labelled ones",
            remedy="Give a folder with real/ and fake/ in it, or a manifest CSV; `faceproof scan` judges a single file.",
        )
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            reader = csv.DictReader(file)
            columns = [str(name).strip().lower() for name in reader.fieldnames or ()]
            reader.fieldnames = columns
            missing = [name for name in ("path", "label") if name not in columns]
            if missing:
                reports = columns and columns[0].startswith("{")
                form = f"A manifest has the columns {','.join(COLUMNS)}; only path and label are required."
                raise DatasetError(
                    f"{path} lacks the column {' and '.join(missing)}",
                    remedy=f"{_REPORTS_LACK}{form}" if reports else form,
                )
            rows = list(reader)
    except (OSError, csv.Error) as error:
        raise DatasetError(f"cannot read {path}: {error}", remedy="Give a manifest CSV.") from error
    return _collect(rows, path, check_files=check_files)


def _collect(rows: Sequence[dict[str, str]], path: Path, *, check_files: bool) -> Manifest:
    root = path.parent.resolve()
    problems = ProblemLog()
    entries: dict[Path, Entry] = {}
    conflicting: set[Path] = set()
    for line, row in enumerate(rows, start=2):
        cells = {name: (row.get(name) or "").strip() for name in COLUMNS}
        if not cells["path"]:
            problems.add("missing_path", f"line {line}")
            continue
        label = read_label(cells["label"])
        if label is None:
            problems.add("unknown_label", f"{cells['path']} ({cells['label'] or 'empty'})")
            continue
        file = Path(os.path.normpath(root / cells["path"]))
        if file in entries:
            if entries[file].label == label:
                problems.add("duplicate_row", cells["path"])
            else:
                conflicting.add(file)
            continue
        if check_files and not file.is_file():
            problems.add("missing_file", cells["path"])
            continue
        rest = {name: cells[name] for name in COLUMNS[2:]}
        entries[file] = Entry(file, label, **rest)
    problems.add("conflicting_rows", *sorted(str(file) for file in conflicting))
    kept = tuple(entry for file, entry in entries.items() if file not in conflicting)
    if not kept:
        found = "; ".join(problem.sentence for problem in problems.problems) or "it holds no row"
        raise DatasetError(f"{path} names no file to judge: {found}", remedy="Correct the rows named above.")
    return Manifest(kept, root, problems)


def write_manifest(manifest: Manifest, path: Path) -> None:
    """Write the manifest CSV, with paths relative to its folder where they can be. Raises :class:`DatasetError`."""
    root = path.parent.resolve()
    try:
        with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            writer.writerows(_cells(entry, root) for entry in manifest.entries)
    except OSError as error:
        raise DatasetError(f"cannot write {path}: {error}", remedy="Choose a folder you may write to.") from error


def _cells(entry: Entry, root: Path) -> Iterable[str]:
    place = entry.path.relative_to(root).as_posix() if entry.path.is_relative_to(root) else str(entry.path)
    return (
        place,
        "fake" if entry.label else "real",
        entry.dataset,
        entry.method,
        entry.source_video,
        entry.identity,
        entry.split,
    )
