"""Pictures that occur twice: the same scene on both sides of a split is a leak that no file name shows.

Perceptual hashes: the signs of the 64 lowest frequencies of a 32×32 grey thumbnail's cosine transform against their
median (Zauner 2010). They survive re-compression, scaling and small edits; a swapped face hardly moves them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from faceproof.errors import MediaError
from faceproof.evaluation.manifest import Manifest
from faceproof.evaluation.problems import ProblemLog, printable
from faceproof.evaluation.soundness import Finding, Severity
from faceproof.media import read_frames

HashArray = npt.NDArray[np.uint64]
BLOCK = 2048
FRAMES_PER_VIDEO = "4"


def perceptual_hash(image: npt.NDArray[np.uint8]) -> int:
    """64-bit hash of an RGB or grey uint8 picture of any size."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if image.ndim == 3 else image
    small = cv2.resize(grey, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32)
    low = cv2.dct(small)[:8, :8].ravel()
    bits = low > np.median(low[1:])
    return int(np.packbits(bits).view(">u8")[0])


@dataclass(frozen=True)
class Pair:
    """Two rows (``first`` < ``second``) whose hashes differ in ``distance`` bits."""

    first: int
    second: int
    distance: int


def near_duplicates(hashes: Sequence[int], owner: Sequence[int], *, distance: int = 4) -> list[Pair]:
    """Pairs of different owners with hashes at most ``distance`` bits apart, the closest pair of each two owners.

    ``owner`` numbers the file each hash belongs to; hashes of one file are never compared. Compares all pairs in
    blocks: about a second for 20,000 hashes, memory of one block.
    """
    values = np.asarray(hashes, dtype=np.uint64)
    owners = np.asarray(owner, dtype=np.int64)
    best: dict[tuple[int, int], int] = {}
    for top in range(0, len(values), BLOCK):
        for left in range(top, len(values), BLOCK):
            rows, columns = values[top : top + BLOCK], values[left : left + BLOCK]
            apart = np.bitwise_count(rows[:, None] ^ columns[None, :])
            for row, column in zip(*np.nonzero(apart <= distance), strict=True):
                first, second = int(owners[top + row]), int(owners[left + column])
                if first != second:
                    key = (min(first, second), max(first, second))
                    best[key] = min(best.get(key, 64), int(apart[row, column]))
    return [Pair(first, second, apart) for (first, second), apart in sorted(best.items())]


def find_duplicates(manifest: Manifest, *, distance: int = 4) -> tuple[list[Finding], ProblemLog]:
    """Files of a manifest that show the same picture: across splits an error, across declared sources a warning.

    Forgeries of one original look alike by nature, so pairs with the same ``source_video`` count only across splits.
    Unreadable files are counted in the returned log.
    """
    problems = ProblemLog()
    hashes: list[int] = []
    owner: list[int] = []
    for row, entry in enumerate(manifest.entries):
        try:
            for value in hash_media(entry.path):
                hashes.append(value)
                owner.append(row)
        except MediaError as error:
            problems.add("failed", f"{manifest.relative(entry)} ({error.code})")
    across, apart = [], []
    for pair in near_duplicates(hashes, owner, distance=distance):
        first, second = manifest.entries[pair.first], manifest.entries[pair.second]
        if first.split and second.split and first.split != second.split:
            across.append(pair)
        elif not first.source_video or (first.dataset, first.source_video) != (second.dataset, second.source_video):
            apart.append(pair)
    findings = [
        *_found(manifest, across, "duplicate_across_splits", Severity.ERROR, "stand in different splits"),
        *_found(manifest, apart, "near_duplicates", Severity.WARNING, "are counted as independent"),
    ]
    return findings, problems


def hash_media(path: Path) -> Iterable[int]:
    """Hashes of a picture, or of a few frames of a video. Raises :class:`MediaError`."""
    return [perceptual_hash(frame.image) for frame in read_frames(path, FRAMES_PER_VIDEO)]


def _found(manifest: Manifest, pairs: Sequence[Pair], code: str, severity: Severity, what: str) -> list[Finding]:
    if not pairs:
        return []
    shown = "; ".join(
        f"{printable(manifest.relative(manifest.entries[pair.first]))} and "
        f"{printable(manifest.relative(manifest.entries[pair.second]))}"
        for pair in pairs[:3]
    )
    more = "; …" if len(pairs) > 3 else ""
    return [
        Finding(
            code=code,
            severity=severity,
            message=f"{len(pairs):,} pairs of files show nearly the same picture and {what}: {shown}{more}.",
            numbers={"pairs": len(pairs)},
        )
    ]
