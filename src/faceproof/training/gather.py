"""Your own pictures and videos of real people as a shard folder: what recipes that need no fakes are trained on.

Each crop is a square of 1.6 face boxes around the largest face, never enlarged, at most 256 px, kept as JPEG in tar
shards with boxes and landmarks in `faces.csv` (read by `shards.FaceStore`). People are told apart by the sub-folder they
lie in, otherwise by file: give each person a folder of their own, or one person may be trained on and held out.
"""

from __future__ import annotations

import csv
import io
import math
import shutil
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from faceproof.detectors.spec import Margin
from faceproof.errors import DatasetError, FaceproofError
from faceproof.faces import Face, FaceDetector, cut
from faceproof.media import probe, read_frames, walk

#: Side of a crop in face boxes, and the largest one in pixels.
CROP, LARGEST = 1.6, 256
_SHARD_BYTES = 45 << 20
_QUALITY = 95
_COLUMNS = (
    "shard", "name", "source", "identity", "side", "x0", "y0", "x1", "y1",
    *(f"{point}_{axis}" for point in ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right") for axis in "xy"),
)  # fmt: skip


@dataclass
class Gathered:
    """faces: crops written. people: identities among them. unreadable: files and why; faceless: files without a face
    large enough."""

    faces: int = 0
    people: int = 0
    unreadable: dict[str, str] = field(default_factory=dict)
    faceless: list[str] = field(default_factory=list)


def gather_faces(
    folders: Iterable[str | Path],
    out: str | Path,
    *,
    per_video: int = 8,
    min_side: int = 64,
    source: str = "own",
    on_file: Callable[[int, Path], None] = lambda number, path: None,
) -> Gathered:
    """Write the largest face of every picture, and of `per_video` frames of every video, to the new folder `out`.

    min_side: longer side of the smallest face box kept, in pixels. source: what the collection is called in the model
    card. A file that cannot be read is listed and the rest goes on. Raises DatasetError when `out` is in use or no face
    is left; then nothing is written.
    """  # fmt: skip
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DatasetError(f"{out} is not empty", remedy="Choose a new folder.")
    found, people = Gathered(), set[str]()
    finder, margin = FaceDetector(min_face=min_side), Margin(kind="square", value=CROP)
    out.mkdir(parents=True, exist_ok=True)
    try:
        with _Shards(out) as shards:
            for number, (root, path) in enumerate(_files(folders), 1):
                on_file(number, path)
                try:
                    seen = list(_largest_faces(path, finder, per_video, min_side))
                except FaceproofError as error:
                    found.unreadable[str(path)] = error.message
                    continue
                if not seen:
                    found.faceless.append(str(path))
                identity = _identity(path, root)
                for image, face in seen:
                    crop, scale, left, top = _crop(image, face, margin)
                    box = (np.array(face.box) - (left, top, left, top)) * scale
                    points = (np.asarray(face.landmarks) - (left, top)) * scale
                    shards.add(crop, [source, identity], [*box, *points.ravel()])
                    people.add(identity)
            found.faces, found.people = shards.count, len(people)
        if not found.faces:
            raise DatasetError(
                f"No face of {min_side} pixels or more was found ({len(found.unreadable)} files unreadable)",
                remedy="Check the folder, or lower --min-side.",
            )
    except BaseException:  # Ctrl-C too: half a collection would train without a word
        shutil.rmtree(out, ignore_errors=True)
        raise
    return found


def _files(folders: Iterable[str | Path]) -> Iterator[tuple[Path, Path]]:
    """Every file with the folder it was found under."""
    for folder in map(Path, folders):
        for path in walk([folder]):
            yield (folder if folder.is_dir() else folder.parent), path


def _identity(path: Path, root: Path) -> str:
    inside = path.relative_to(root) if path.is_relative_to(root) else Path(path.name)
    return inside.parts[0] if len(inside.parts) > 1 else inside.stem


def _largest_faces(path: Path, finder: FaceDetector, per_video: int, least: int) -> Iterator[tuple[np.ndarray, Face]]:
    info = probe(path)
    for frame in read_frames(info, str(per_video) if info.kind == "video" else "all"):
        face = max(finder.detect(frame.image), key=lambda one: one.side, default=None)
        if face is not None and face.side >= least:
            yield frame.image, face


def _crop(image: np.ndarray, face: Face, margin: Margin) -> tuple[np.ndarray, float, float, float]:
    """The crop, its scale, and where its left upper corner lies in the picture."""
    crop = cut(image, face.box, margin)
    x0, y0, x1, y1 = face.box
    side = crop.shape[0]
    left, top = math.floor((x0 + x1 - side) / 2), math.floor((y0 + y1 - side) / 2)
    scale = min(1.0, LARGEST / side)
    if scale < 1:
        crop = np.asarray(cv2.resize(crop, (LARGEST, LARGEST), interpolation=cv2.INTER_AREA), np.uint8)
    return crop, scale, left, top


class _Shards:
    """Writes JPEGs into tar files of a bounded size, and their table."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.count = folder, 0
        self._shard, self._bytes = -1, _SHARD_BYTES

    def __enter__(self) -> _Shards:
        self._table = (self.folder / "faces.csv").open("w", newline="", encoding="utf-8")
        self._rows = csv.writer(self._table)
        self._rows.writerow(_COLUMNS)
        self._tar: tarfile.TarFile | None = None
        return self

    def __exit__(self, *_: object) -> None:
        self._table.close()
        if self._tar is not None:
            self._tar.close()

    def add(self, crop: np.ndarray, whose: list[str], numbers: list[float]) -> None:
        """crop: uint8 RGB `[S, S, 3]`; numbers: box and landmarks in its pixels."""
        _, encoded = cv2.imencode(".jpg", crop[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
        data = encoded.tobytes()
        if self._tar is None or self._bytes + len(data) > _SHARD_BYTES:
            if self._tar is not None:
                self._tar.close()
            self._shard, self._bytes = self._shard + 1, 0
            self._tar = tarfile.open(self.folder / self._name, "w")  # noqa: SIM115 - closed by the next one or on leaving
        info = tarfile.TarInfo(f"{self.count:06d}.jpg")
        info.size = len(data)
        self._tar.addfile(info, io.BytesIO(data))
        self._rows.writerow([self._name, info.name, *whose, crop.shape[0], *(f"{value:.1f}" for value in numbers)])
        self._bytes += len(data) + 1024
        self.count += 1

    @property
    def _name(self) -> str:
        return f"faces-{self._shard:02d}.tar"
