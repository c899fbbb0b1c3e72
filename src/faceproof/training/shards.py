"""Real faces kept in memory as JPEG bytes: tar shards with a CSV of boxes and landmarks.

The CSV has the columns shard, name, source, identity, side, x0, y0, x1, y1 and the five landmarks
(`left_eye_x` … `mouth_right_y`), all in pixels of the crop. A file `landmarks.npz` beside it, or
given by name, may add dense landmarks (`points` `[n, 468, 2]`, `ok` `[n]`, `name` `[n]` as
"shard/name"), see `faceproof train landmarks`.
"""

from __future__ import annotations

import csv
import hashlib
import tarfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from faceproof.errors import DatasetError
from faceproof.training import masks

_FIVE = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")


@dataclass(frozen=True)
class Face:
    """One real face. image: uint8 RGB `[side, side, 3]`; points: float32 `[masks.POINTS, 2]`."""

    image: np.ndarray
    points: np.ndarray
    box_side: float
    centre: tuple[float, float]
    identity: str


def held_out(identity: str, share: float) -> bool:
    """Whether an identity belongs to the held-out part; depends on the name alone, so no list has to be kept."""
    return int(hashlib.sha256(identity.encode()).hexdigest()[:8], 16) / 16**8 < share


def look_for_shards(folder: str | Path, known: Collection[str] = ()) -> tuple[list[str], list[str]]:
    """Which shards of a folder are whole and which are not there yet, or not all of them, both in the order of faces.csv.

    Whole is a tar that holds every picture that faces.csv names; those in `known` are not opened again. Raises
    DatasetError without faces.csv.
    """
    folder = Path(folder)
    names: dict[str, set[str]] = {}
    for row in _rows(folder):
        names.setdefault(row["shard"], set()).add(row["name"])
    whole = [shard for shard, inside in names.items() if shard in known or _is_whole(folder / shard, inside)]
    return whole, [shard for shard in names if shard not in set(whole)]


def _is_whole(path: Path, names: set[str]) -> bool:
    try:
        with tarfile.open(path) as tar:  # goes through all headers, and raises where a picture's end is missing
            return names <= set(tar.getnames())
    except (OSError, EOFError, tarfile.TarError):
        return False


def _rows(folder: Path) -> list[dict[str, str]]:
    table = folder / "faces.csv"
    if not table.is_file():
        raise DatasetError(f"{folder} has no faces.csv; give the folder that holds faces.csv and its tar shards.")
    with table.open(newline="") as file:
        return list(csv.DictReader(file))


class FaceStore:
    """All faces of one part ("train", "held_out" or "all") of a shard folder, or of those of its `shards` that are named.

    Raises DatasetError when the folder or a shard is missing, or no face is left. Unreadable pictures
    are counted in `unreadable` and listed in `unreadable_names`, never used.
    """

    def __init__(
        self,
        folder: str | Path,
        part: str = "train",
        share: float = 0.04,
        landmarks: str | Path | None = None,
        limit: int | None = None,
        *,
        shards: Collection[str] | None = None,
    ) -> None:
        folder = Path(folder)
        if part not in ("train", "held_out", "all"):
            raise ValueError(f"part must be train, held_out or all, not {part!r}")
        rows = [row for row in _rows(folder) if shards is None or row["shard"] in shards]
        dense = _dense_landmarks(
            Path(landmarks) if landmarks else folder / "landmarks.npz", required=landmarks is not None
        )
        self.unreadable_names: list[str] = []
        self._bytes: list[bytes] = []
        self._points: list[np.ndarray] = []
        self._boxes: list[tuple[float, float, float]] = []
        self.identities: list[str] = []
        self.sources: list[str] = []
        tars: dict[str, tarfile.TarFile] = {}
        try:
            for row in rows:
                # people of different collections may share a name
                identity = f"{row['source']}/{row['identity']}"
                if part != "all" and held_out(identity, share) != (part == "held_out"):
                    continue
                key = f"{row['shard']}/{row['name']}"
                data = _read(folder, row["shard"], row["name"], tars)
                if data is None or not data.startswith(b"\xff\xd8"):
                    self.unreadable_names.append(key)
                    continue
                five = np.array([[float(row[f"{p}_x"]), float(row[f"{p}_y"])] for p in _FIVE], np.float32)
                x0, y0, x1, y1 = (float(row[c]) for c in ("x0", "y0", "x1", "y1"))
                self._bytes.append(data)
                self._points.append(dense[key] if key in dense else masks.from_five(five))
                self._boxes.append((max(x1 - x0, y1 - y0), (x0 + x1) / 2, (y0 + y1) / 2))
                self.identities.append(identity)
                self.sources.append(row["source"])
                if limit and len(self._bytes) >= limit:
                    break
        finally:
            for tar in tars.values():
                tar.close()
        if not self._bytes:
            raise DatasetError(f"No usable face in {folder} (part {part!r}, {len(self.unreadable_names)} unreadable).")

    @property
    def unreadable(self) -> int:
        return len(self.unreadable_names)

    def __len__(self) -> int:
        return len(self._bytes)

    def __getitem__(self, index: int) -> Face:
        image = cv2.imdecode(np.frombuffer(self._bytes[index], np.uint8), cv2.IMREAD_COLOR)
        if image is None:
            raise DatasetError(f"Face {index} ({self.identities[index]}) is not a readable JPEG.")
        side, x, y = self._boxes[index]
        return Face(np.ascontiguousarray(image[..., ::-1]), self._points[index], side, (x, y), self.identities[index])

    def draw(self, rng: np.random.Generator) -> Face:
        """A random face."""
        return self[int(rng.integers(len(self)))]

    def digest(self) -> str:
        """SHA-256 over all pictures in order: goes into checkpoints, so that a resume on other data is noticed."""
        total = hashlib.sha256()
        for data in self._bytes:
            total.update(hashlib.sha256(data).digest())
        return total.hexdigest()


def _read(folder: Path, shard: str, name: str, shards: dict[str, tarfile.TarFile]) -> bytes | None:
    if shard not in shards:
        if not (folder / shard).is_file():
            raise DatasetError(
                f"Shard {shard} named in faces.csv is missing from {folder}",
                remedy="Copy it there; while shards still arrive, train with --growing.",
            )
        shards[shard] = tarfile.open(folder / shard)  # noqa: SIM115 - closed by the caller with all others
    try:
        member = shards[shard].extractfile(name)
    except KeyError:
        return None
    return member.read() if member else None


def _dense_landmarks(path: Path, required: bool) -> dict[str, np.ndarray]:
    if not path.is_file():
        if required:
            raise DatasetError(f"Landmark file {path} does not exist; make it with: faceproof train landmarks")
        return {}
    with np.load(path, allow_pickle=False) as stored:
        points, ok, names = stored["points"], stored["ok"], stored["name"]
    return {str(n): masks.from_mesh(p) for n, p, good in zip(names, points, ok, strict=True) if good}
