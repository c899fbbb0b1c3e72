"""Labelled media turned into face crops: reading, extraction, splitting, and the checks that keep results honest.

`read_items` takes a folder with `real/` and `fake/` inside, or a CSV with the columns path, label and
optionally source_video, identity or group. What belongs together (clips forged from one original, or
pictures of one person) must fall on one side of a split; `split_groups` does so and `check_leakage`
refuses splits that do not. A swapped clip shows two people, joined by `+` in `identity`: it ties the files of
both together, and so on from file to file.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from faceproof.errors import DatasetError, FaceproofError

_FAKE = frozenset({"fake", "1", "deepfake", "manipulated", "forged"})
_REAL = frozenset({"real", "0", "original", "genuine", "pristine"})


@dataclass(frozen=True)
class Item:
    """One file. label: 1 = fake. group: what must stay together. kind: "image" or "video" once known."""

    path: Path
    label: int
    group: str
    method: str = ""


@dataclass
class CropTable:
    """Faces cut from items. pictures: uint8 `[N, S, S, 3]` RGB; labels float32 `[N]`; item: index of the file, int `[N]`.

    unreadable and faceless list the files that gave no face, with the reason for the former.
    """

    pictures: np.ndarray
    labels: np.ndarray
    item: np.ndarray
    is_video: np.ndarray
    items: list[Item]
    unreadable: dict[str, str] = field(default_factory=dict)
    faceless: list[str] = field(default_factory=list)

    def digest(self) -> str:
        """SHA-256 over pictures and labels."""
        total = hashlib.sha256(self.pictures.tobytes())
        total.update(self.labels.tobytes())
        return total.hexdigest()

    def part(self, groups: set[str]) -> CropTable:
        """The crops whose item's group is in `groups`."""
        keep = np.array([self.items[i].group in groups for i in self.item], bool)
        return CropTable(
            self.pictures[keep],
            self.labels[keep],
            self.item[keep],
            self.is_video[keep],
            self.items,
            self.unreadable,
            self.faceless,
        )


def read_items(data: str | Path) -> list[Item]:
    """Items of a folder or manifest, sorted by path. Raises DatasetError when there are none or only one class."""
    data = Path(data)
    if data.is_dir() and (data / "manifest.csv").is_file():
        data = data / "manifest.csv"
    if data.is_dir():
        items = []
        for name, label in (("real", 0), ("fake", 1)):
            for path in sorted((data / name).rglob("*")) if (data / name).is_dir() else []:
                if path.is_file() and not path.name.startswith("."):
                    # without a manifest the best guess at a source is the sub-folder, else the file itself
                    inside = path.relative_to(data / name)
                    group = str(inside.parent) if len(inside.parts) > 1 else f"{name}/{inside.stem}"
                    items.append(Item(path, label, group))
        if not items:
            raise DatasetError(
                f"{data} holds neither real/ and fake/ folders with files nor a manifest.csv",
                remedy="Put the media into real/ and fake/, or write a manifest with the columns path,label.",
            )
    elif data.is_file():
        items = _read_manifest(data)
    else:
        raise DatasetError(f"{data} does not exist")
    if len({item.label for item in items}) < 2:
        only = "fake" if items[0].label else "real"
        raise DatasetError(
            f"All {len(items)} files of {data} are {only}",
            remedy="Training needs both classes; without fakes use a pairs recipe.",
        )
    return items


def _read_manifest(path: Path) -> list[Item]:
    rows: list[tuple[Path, int, str, list[str]]] = []
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        missing = {"path", "label"} - set(reader.fieldnames or ())
        if missing:
            raise DatasetError(f"{path} lacks the column {', '.join(sorted(missing))}")
        for number, row in enumerate(reader, 2):
            word = (row["label"] or "").strip().lower()
            if word not in _FAKE | _REAL:
                raise DatasetError(f"{path} line {number}: label {row['label']!r} is neither real nor fake")
            rows.append((path.parent / row["path"], int(word in _FAKE), row.get("method") or "", _ties(row)))
    if not rows:
        raise DatasetError(f"{path} has no rows")
    together = _tied([ties for *_, ties in rows])
    items = [Item(file, label, together[ties[0]], method) for file, label, method, ties in rows]
    return sorted(items, key=lambda item: str(item.path))


def _ties(row: dict[str, str]) -> list[str]:
    """What a file shares with others, at least one name: a kind, a slash, and whose it is."""
    if row.get("group"):
        return [f"group/{row['group']}"]
    people = [f"identity/{name}" for name in (row.get("identity") or "").split("+") if name]
    source = [f"source/{row['source_video']}"] if row.get("source_video") else []
    return people + source or [f"path/{row['path']}"]


def _tied(files: Sequence[list[str]]) -> dict[str, str]:
    """The group of every name: names that a chain of files connects are one group, called after the first of them."""
    parent = {name: name for ties in files for name in ties}

    def root(name: str) -> str:
        while parent[name] != name:
            parent[name] = name = parent[parent[name]]
        return name

    for first, *others in files:
        for other in others:
            low, high = sorted((root(first), root(other)))
            parent[high] = low
    return {name: root(name).split("/", 1)[1] for name in parent}


def split_groups(items: Sequence[Item], share: float, seed: int) -> tuple[set[str], set[str]]:
    """Train and held-out groups, `share` of the groups held out (at least one each), independent of file order.

    Raises DatasetError when a side would have only one class: such a split measures nothing.
    """
    groups = sorted({item.group for item in items}, key=lambda g: hashlib.sha256(f"{seed}/{g}".encode()).hexdigest())
    if len(groups) < 2:
        raise DatasetError(
            "All files belong to one source, or swaps tie all their people together, so nothing can be held out",
            remedy="Add media of other people, or say in a column `group` what may not be parted.",
        )
    count = min(len(groups) - 1, max(1, round(share * len(groups))))
    classes = {g: {i.label for i in items if i.group == g} for g in groups}
    held: list[str] = []
    for group in groups:  # take in random order, but do not stop before both classes are there
        if len(held) >= count and set().union(*(classes[g] for g in held)) == {0, 1}:
            break
        held.append(group)
    train = [g for g in groups if g not in set(held)]
    for name, side in (("training", train), ("held-out", held)):
        if set().union(set(), *(classes[g] for g in side)) != {0, 1}:
            raise DatasetError(
                f"The {name} side of the split would have one class only", remedy="Add more sources of the rarer class."
            )
    return set(train), set(held)


def check_leakage(train: Sequence[Item], held_out: Sequence[Item]) -> None:
    """Refuse a split with a group, a path or the same bytes on both sides (DatasetError names up to five)."""
    shared = {i.group for i in train} & {i.group for i in held_out}
    if shared:
        raise DatasetError(
            f"{len(shared)} identities or sources are on both sides of the split: {', '.join(sorted(shared)[:5])}",
            remedy="Split by person or source video, never by file.",
        )
    seen = {_quick_digest(i.path): i.path for i in train if i.path.is_file()}
    twins = [
        f"{i.path.name} = {seen[d].name}" for i in held_out if i.path.is_file() and (d := _quick_digest(i.path)) in seen
    ]
    if twins:
        raise DatasetError(
            f"{len(twins)} files are on both sides of the split under different names: {', '.join(twins[:5])}"
        )


def _quick_digest(path: Path) -> str:
    # size and the first megabyte tell media files apart without reading a disk full of videos
    with path.open("rb") as file:
        return hashlib.sha256(path.stat().st_size.to_bytes(8, "big") + file.read(1 << 20)).hexdigest()


def extract(
    items: Sequence[Item],
    size: int,
    crop: float,
    cache: Path | None = None,
    per_video: int = 12,
    min_face: int = 40,
    down: float = 0.0,
) -> CropTable:
    """Cut the largest face of every picture and of `per_video` evenly spaced frames of every video.

    A picture without a findable face is used whole when it is roughly square (it is a face crop
    already), else listed in `faceless`. Files that cannot be decoded are listed in `unreadable`.
    down: how far below the box's centre to cut, in face boxes; a picture without a face is not used then.
    `cache` keeps the crops between runs. Raises DatasetError when no face is left.
    """
    key = hashlib.sha256(
        json.dumps(
            [[str(i.path), i.label, i.group, i.path.stat().st_mtime if i.path.exists() else 0] for i in items]
            + [size, crop, per_video, min_face, *([down] if down else [])]
        ).encode()
    ).hexdigest()[:16]
    stored = cache / f"crops-{key}.npz" if cache else None
    if stored and stored.is_file():
        with np.load(stored, allow_pickle=False) as kept:
            notes = json.loads(str(kept["notes"]))
            return CropTable(
                kept["pictures"],
                kept["labels"],
                kept["item"],
                kept["is_video"],
                list(items),
                notes["unreadable"],
                notes["faceless"],
            )
    from faceproof.detectors.spec import Margin
    from faceproof.faces import FaceDetector, crops
    from faceproof.media import probe, read_frames

    finder, margin = FaceDetector(min_face=min_face), Margin(kind="square", value=crop)
    pictures: list[np.ndarray] = []
    origin: list[tuple[int, bool]] = []
    unreadable: dict[str, str] = {}
    faceless: list[str] = []
    for number, item in enumerate(items):
        found = 0
        try:
            info = probe(item.path)
            video = info.kind == "video"
            for frame in read_frames(info, str(per_video) if video else "all"):
                faces = finder.detect(frame.image)
                if faces:
                    face = max(faces, key=lambda f: f.side)
                    x0, y0, x1, y1 = face.box
                    cutting = crops.cut(frame.image, (x0, y0 + down * face.side, x1, y1 + down * face.side), margin)
                elif not down and not video and 0.8 < frame.image.shape[0] / frame.image.shape[1] < 1.25:
                    cutting = frame.image
                else:
                    continue
                kernel = cv2.INTER_AREA if cutting.shape[0] > size else cv2.INTER_CUBIC
                pictures.append(cv2.resize(cutting, (size, size), interpolation=kernel))
                origin.append((number, video))
                found += 1
        except FaceproofError as error:
            unreadable[str(item.path)] = error.message
            continue
        if not found:
            faceless.append(str(item.path))
    if not pictures:
        raise DatasetError(
            f"No face was found in {len(items)} files ({len(unreadable)} unreadable)",
            remedy="Check the folder, and that faces are at least 40 pixels large.",
        )
    labels = np.array([items[n].label for n, _ in origin], np.float32)
    table = CropTable(
        np.stack(pictures),
        labels,
        np.array([n for n, _ in origin]),
        np.array([v for _, v in origin]),
        list(items),
        unreadable,
        faceless,
    )
    if stored:
        stored.parent.mkdir(parents=True, exist_ok=True)
        notes = json.dumps({"unreadable": unreadable, "faceless": faceless})
        np.savez(
            stored,
            pictures=table.pictures,
            labels=labels,
            item=table.item,
            is_video=table.is_video,
            notes=np.array(notes),
        )
    return table
