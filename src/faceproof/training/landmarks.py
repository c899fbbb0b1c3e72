"""Dense landmarks for a shard folder, made once with MediaPipe's face mesh and kept in one file.

Five detector points place an average face; the mesh follows the real outline, open mouths and turned
heads, and masks become as varied as real ones. MediaPipe is not a dependency: install it in any
environment that suits it and run this module's verb there (`faceproof train landmarks`).
"""

from __future__ import annotations

import csv
import tarfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from faceproof.errors import DatasetError, MissingExtraError

_FIVE_EYES = (("left_eye", (33, 133)), ("right_eye", (362, 263)))


def write_landmarks(folder: str | Path, out: str | Path) -> tuple[int, int]:
    """Find the mesh in every crop of a shard folder and write `points`, `ok`, `name` to `out` (.npz).

    Returns (found, all). A mesh whose eyes lie more than a third of the eye distance from the table's
    landmarks belongs to another face or is wrong, and is marked not ok.
    """
    try:
        from mediapipe.python.solutions import face_mesh  # type: ignore[import-not-found]
    except ImportError as error:
        raise MissingExtraError(
            "Dense landmarks need MediaPipe",
            remedy="pip install mediapipe==0.10.21, in an environment of its own if need be.",
        ) from error
    folder = Path(folder)
    if not (folder / "faces.csv").is_file():
        raise DatasetError(f"{folder} has no faces.csv")
    points, ok, names = [], [], []
    with face_mesh.FaceMesh(
        static_image_mode=True, max_num_faces=1, refine_landmarks=False, min_detection_confidence=0.3
    ) as finder:
        for row, image in _pictures(folder):
            mesh = np.zeros((468, 2), np.float16)
            good = False
            answer = None if image is None else finder.process(image)
            if image is not None and answer is not None and answer.multi_face_landmarks:
                found = np.array([(p.x, p.y) for p in answer.multi_face_landmarks[0].landmark], np.float64) * [
                    image.shape[1],
                    image.shape[0],
                ]
                good, mesh = _agrees(found, row), found.astype(np.float16)
            points.append(mesh)
            ok.append(good)
            names.append(f"{row['shard']}/{row['name']}")
    np.savez(out, points=np.stack(points), ok=np.array(ok), name=np.array(names))
    return int(sum(ok)), len(ok)


def _agrees(mesh: np.ndarray, row: dict[str, str]) -> bool:
    table = {name: np.array([float(row[f"{name}_x"]), float(row[f"{name}_y"])], np.float64) for name, _ in _FIVE_EYES}
    distance = float(np.hypot(*(table["right_eye"] - table["left_eye"])))
    return all(
        float(np.hypot(*(mesh[list(corners)].mean(0) - table[name]))) < 0.35 * distance for name, corners in _FIVE_EYES
    )


def _pictures(folder: Path) -> Iterator[tuple[dict[str, str], np.ndarray | None]]:
    shards: dict[str, tarfile.TarFile] = {}
    try:
        with (folder / "faces.csv").open(newline="") as file:
            for row in csv.DictReader(file):
                if row["shard"] not in shards:
                    shards[row["shard"]] = tarfile.open(folder / row["shard"])  # noqa: SIM115 - closed below
                member = shards[row["shard"]].extractfile(row["name"])
                image = cv2.imdecode(np.frombuffer(member.read(), np.uint8), cv2.IMREAD_COLOR) if member else None
                yield row, None if image is None else np.ascontiguousarray(image[..., ::-1])
    finally:
        for shard in shards.values():
            shard.close()
