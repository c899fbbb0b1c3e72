"""Faces with a blend planted in one known region, and the pointing game played on them.

The game (Zhang et al., 2018): a heatmap scores a hit when its highest point lies in the region, give or take half a
cell of the network's own map, which is all that a map of that resolution can tell (of one of 20 x 20 where it has none). Two
yardsticks come with it, because a map that always points at the middle of the face hits often: what a
point put anywhere in the crop would score, and what the best single point, the same for all faces, would.
"""

from __future__ import annotations

import csv
import tarfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from scipy.stats import beta
from skimage import data

from faceproof.detectors.detector import Detector
from faceproof.evidence.heatmap import HeatMethod, crop_place, face_heats
from faceproof.faces import FaceDetector, cut
from faceproof.training.shards import held_out

Image = npt.NDArray[np.uint8]
Box = tuple[float, float, float, float]

# Centre and radii as shares of the face box: across, down.
SIDES = {
    "left": ((0.21, 0.55), (0.16, 0.36)),
    "right": ((0.79, 0.55), (0.16, 0.36)),
    "upper": ((0.50, 0.25), (0.42, 0.15)),
    "lower": ((0.50, 0.83), (0.34, 0.15)),
}
SPOTS = {
    "left eye": ((0.30, 0.37), (0.17, 0.12)),
    "right eye": ((0.70, 0.37), (0.17, 0.12)),
    "nose": ((0.50, 0.55), (0.14, 0.16)),
    "mouth": ((0.50, 0.78), (0.24, 0.11)),
    "left cheek": ((0.20, 0.62), (0.14, 0.15)),
    "right cheek": ((0.80, 0.62), (0.14, 0.15)),
}
_REGIONS = {**SIDES, **SPOTS}


@dataclass(frozen=True)
class Planted:
    """A frame with one face, where its box is, and which part of it was blended (float32 ``[H, W]`` in [0, 1])."""

    frame: Image
    box: Box
    mask: npt.NDArray[np.float32]
    region: str


def plant(frame: Image, box: Box, region: str, rng: np.random.Generator) -> Planted:
    """Blend a shifted, scaled, recoloured and re-rendered copy of the face onto itself inside one region."""
    x0, y0, x1, y1 = box
    side = max(x1 - x0, y1 - y0)
    (cx, cy), (rx, ry) = _REGIONS[region]
    middle = (x0 + cx * (x1 - x0), y0 + cy * (y1 - y0))
    matrix = cv2.getRotationMatrix2D(middle, float(rng.uniform(-3, 3)), float(rng.uniform(1.03, 1.09)))
    matrix[:, 2] += rng.uniform(-0.025, 0.025, 2) * side
    source = cv2.warpAffine(frame, matrix, frame.shape[1::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    hsv = cv2.cvtColor(source, cv2.COLOR_RGB2HSV).astype(np.float32)
    hsv += (rng.uniform(-4, 4), rng.uniform(-18, 18), rng.uniform(-16, 16))
    source = cv2.cvtColor(np.clip(hsv, 0, (179, 255, 255)).astype(np.uint8), cv2.COLOR_HSV2RGB)
    small = max(24, int(side * rng.uniform(0.45, 0.75)))
    share = small / side
    reduced = cv2.resize(source, None, fx=share, fy=share, interpolation=cv2.INTER_AREA)
    source = cv2.resize(reduced, frame.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    mask = np.zeros(frame.shape[:2], np.float32)
    radii = (rx * (x1 - x0), ry * (y1 - y0))
    cv2.ellipse(mask, (tuple(map(float, middle)), tuple(2 * r for r in radii), 0.0), 1.0, -1)  # type: ignore[call-overload]
    mask = cv2.GaussianBlur(mask, (0, 0), max(1.0, 0.03 * side))
    blended = frame * (1 - mask[..., None]) + source * mask[..., None]
    return Planted(_degraded(np.round(blended).astype(np.uint8), rng), box, np.asarray(mask, np.float32), region)


def _degraded(frame: Image, rng: np.random.Generator) -> Image:
    _, encoded = cv2.imencode(".jpg", frame[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(75, 96))])
    return np.ascontiguousarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR)[..., ::-1])


def varied(frame: Image, box: Box, rng: np.random.Generator) -> tuple[Image, Box]:
    """The same face at another size, place, light and perhaps mirrored; the frame is 360 x 360."""
    x0, y0, x1, y1 = box
    zoom = float(rng.uniform(0.9, 1.7)) * 130 / max(x1 - x0, y1 - y0)
    centre = ((x0 + x1) / 2 + rng.uniform(-15, 15), (y0 + y1) / 2 + rng.uniform(-10, 10))
    matrix = np.array([[zoom, 0, 180 - zoom * centre[0]], [0, zoom, 180 - zoom * centre[1]]], np.float64)
    made = cv2.warpAffine(frame, matrix, (360, 360), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REFLECT)
    gain, lift = rng.uniform(0.8, 1.15), rng.uniform(-15, 15)
    made = np.clip(made * gain + lift, 0, 255).astype(np.uint8)
    left, top = (matrix @ (x0, y0, 1)).tolist()
    right, bottom = (matrix @ (x1, y1, 1)).tolist()
    if rng.random() < 0.5:
        made, left, right = np.ascontiguousarray(made[:, ::-1]), 360 - right, 360 - left
    return made, (left, top, right, bottom)


def planted_faces(
    faces: Sequence[tuple[Image, Box]], count: int, regions: Iterable[str] = SIDES, seed: int = 0
) -> Iterator[Planted]:
    """``count`` faces, each with a blend in one region, the regions in turn; boxes as a scan finds them."""
    names = list(regions)
    find = FaceDetector()
    for number in range(count):
        rng = np.random.default_rng((seed, number))
        frame, box = varied(*faces[number % len(faces)], rng)
        found = find.detect(frame)
        if found:
            x0, y0, x1, y1 = (float(v) for v in found[0].box)
            box = (x0, y0, x1, y1)
        yield plant(frame, box, names[number % len(names)], rng)


@dataclass(frozen=True)
class PointingGame:
    """hits of plays; the share that a random point and the best fixed point would hit; the share of hits by region."""

    hits: int
    plays: int
    chance: float
    best_fixed: float
    by_region: dict[str, float]

    @property
    def rate(self) -> float:
        return self.hits / self.plays

    @property
    def interval(self) -> tuple[float, float]:
        """The rates that this many hits of this many plays do not rule out at 95 % (Clopper and Pearson, 1934)."""
        low = beta.ppf(0.025, self.hits, self.plays - self.hits + 1) if self.hits else 0.0
        high = beta.ppf(0.975, self.hits + 1, self.plays - self.hits) if self.hits < self.plays else 1.0
        return float(low), float(high)

    def against(self, bar: float) -> str:
        """Whether the rate is shown to reach ``bar``, shown to fall short of it, or neither."""
        low, high = self.interval
        return "reached" if low >= bar else "missed" if high < bar else "not decided"

    def __str__(self) -> str:
        regions = ", ".join(f"{name} {rate:.2f}" for name, rate in self.by_region.items())
        return (
            f"{self.hits} of {self.plays} = {self.rate:.2f} [{self.interval[0]:.2f}, {self.interval[1]:.2f}] "
            f"(best fixed point {self.best_fixed:.2f}, random point {self.chance:.2f}); {regions}"
        )


def _cells(detector: Detector) -> int:
    """Cells along one side of the network's own map."""
    side = detector.spec.input.size
    _, heats = detector.score_with_heat([np.zeros((side, side, 3), np.uint8)])
    return 20 if heats is None else int(max(heats.shape[1:]))


def play(detector: Detector, faces: Iterable[Planted], *, method: HeatMethod | None = None) -> PointingGame:
    """Play the pointing game with a detector's heat."""
    hits: dict[str, list[bool]] = {}
    targets = []
    cells = _cells(detector) if method != "occlusion" else 20
    for planted in faces:
        margin = detector.spec.faces.margin
        heat = face_heats(detector, [cut(planted.frame, planted.box, margin)], method=method)[0].heat
        place = crop_place(planted.frame.shape[:2], planted.box, margin)
        seen = place.heat_in_frame(heat)
        target = (planted.mask[place.y0 : place.y1, place.x0 : place.x1] > 0.2).astype(np.uint8)
        reach = 2 * max(1, round(max(heat.shape) / cells / 2)) + 1
        near = cv2.dilate(target, np.ones((reach, reach), np.uint8)) > 0
        row, column = np.unravel_index(int(np.argmax(seen)), seen.shape)
        # A map without any heat points nowhere.
        hits.setdefault(planted.region, []).append(bool(near[row, column]) and float(seen.max()) > 0)
        targets.append(cv2.resize(near.astype(np.float32), (64, 64), interpolation=cv2.INTER_AREA))
    every = [hit for region in hits.values() for hit in region]
    often = np.mean(targets, axis=0)
    return PointingGame(
        sum(every),
        len(every),
        float(often.mean()),
        float(often.max()),
        {name: float(np.mean(found)) for name, found in hits.items()},
    )


def astronaut_face() -> tuple[Image, Box]:
    """scikit-image's astronaut (NASA, public domain) and her face's box."""
    return np.ascontiguousarray(data.astronaut()), (176.0, 62.0, 276.0, 190.0)


def held_out_faces(folder: Path, count: int, *, share: float, least_side: float = 200) -> list[tuple[Image, Box]]:
    """Up to ``count`` genuine people that training on ``folder`` holds out, one picture each.

    ``folder`` holds ``faces.csv`` and its archives; ``share`` is the recipe's ``held_out``. The order depends on nothing but
    people's names; faces have at least ``least_side`` pixels.
    """
    people: dict[str, dict[str, str]] = {}
    with (folder / "faces.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            name = f"{row['source']}/{row['identity']}"
            if float(row["side"]) >= least_side and held_out(name, share) and name not in people:
                people[name] = row
    names = np.random.default_rng(2).permutation(sorted(people))[:count]
    by_shard: dict[str, list[dict[str, str]]] = defaultdict(list)
    for name in names:
        by_shard[people[name]["shard"]].append(people[name])
    found: list[tuple[Image, Box]] = []
    for shard, rows in sorted(by_shard.items()):
        with tarfile.open(folder / shard) as archive:
            for row in rows:
                member = archive.extractfile(row["name"])
                assert member is not None
                image = cv2.imdecode(np.frombuffer(member.read(), np.uint8), cv2.IMREAD_COLOR)
                x0, y0, x1, y1 = (float(row[key]) for key in ("x0", "y0", "x1", "y1"))
                found.append((np.ascontiguousarray(image[..., ::-1]), (x0, y0, x1, y1)))
    return found
