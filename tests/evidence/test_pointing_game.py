"""Where a blend was planted, there the heat is: the default detector on faces whose altered region is known."""

from __future__ import annotations

import csv
import io
import os
import tarfile
from collections import defaultdict
from pathlib import Path

import cv2
import numpy as np
import pytest

from faceproof.detectors.catalog import DEFAULT_DETECTOR, find_spec
from faceproof.detectors.detector import Detector, load_detector
from faceproof.errors import UnknownDetectorError
from faceproof.evidence.usual_heat import UsualHeat, usual_heat
from faceproof.runtime import FakeNetwork
from tests.evidence.made_reports import toy_spec
from tests.evidence.planted_blends import SPOTS, Box, Image, plant, planted_faces, play

ASTRONAUT_BOX: Box = (176.0, 62.0, 276.0, 190.0)
PLAYS = 120


def has_default_weights() -> bool:
    try:
        return find_spec(DEFAULT_DETECTOR).has_weights
    except UnknownDetectorError:
        return False


def test_a_blend_changes_its_region_and_nothing_else(astronaut: np.ndarray) -> None:
    rng = np.random.default_rng(5)
    planted = plant(astronaut, ASTRONAUT_BOX, "mouth", rng)
    changed = np.abs(planted.frame.astype(int) - astronaut).mean(axis=2)
    # Recompression changes everything a little; the blend must stand out from it.
    assert changed[planted.mask > 0.5].mean() > 1.5 * changed[planted.mask == 0].mean()
    assert 0.02 < (planted.mask > 0.2)[62:190, 176:276].mean() < 0.4


def test_the_game_can_be_won_and_lost(astronaut: np.ndarray) -> None:
    """A map that points at the planted region wins every time, one that points at a corner never."""
    faces = list(planted_faces([(astronaut, ASTRONAUT_BOX)], 12, SPOTS))
    margin = toy_spec().faces.margin
    from faceproof.faces import cut

    masks = iter([cut(f.mask[..., None].repeat(3, 2), f.box, margin)[..., 0] for f in faces])  # type: ignore[arg-type]

    class Pointing(FakeNetwork):
        def __init__(self, corner: bool) -> None:
            super().__init__()
            self.corner = corner

        def run(self, batch: np.ndarray) -> dict[str, np.ndarray]:
            heat = cv2.resize(next(masks), (32, 32), interpolation=cv2.INTER_AREA)
            if self.corner:
                heat = np.zeros((32, 32), np.float32)
                heat[0, 0] = 1
            return {"logit": np.zeros(1, np.float32), "heatmap": heat[None].astype(np.float32)}

    won = play(Detector(toy_spec(), Pointing(corner=False)), faces)
    assert won.rate == 1.0
    masks = iter([np.zeros((9, 9), np.float32)] * 12)
    lost = play(Detector(toy_spec(), Pointing(corner=True)), faces)
    assert lost.rate == 0.0
    assert 0.05 < lost.chance < 0.4


@pytest.mark.skipif(not has_default_weights(), reason="the default detector has no weights here")
def test_the_default_detector_points_at_planted_blends(astronaut: np.ndarray) -> None:
    game = play(load_detector(), planted_faces([(astronaut, ASTRONAUT_BOX)], PLAYS))
    print(f"sides of one face, varied: {game}")
    assert game.rate >= 0.7, str(game)
    assert game.rate > game.best_fixed, str(game)


@pytest.mark.data
@pytest.mark.skipif(not has_default_weights(), reason="the default detector has no weights here")
def test_the_default_detector_points_at_planted_blends_in_many_people() -> None:
    faces = labelled_faces(PLAYS)
    game = play(load_detector(), planted_faces(faces, len(faces)))
    print(f"sides of {len(faces)} people's faces: {game}")
    print(f"small spots: {play(load_detector(), planted_faces(faces, len(faces), SPOTS))}")
    assert game.rate > game.best_fixed, str(game)


def test_what_is_usual_gives_no_heat() -> None:
    mean, spread = np.full((4, 4), -2.0, np.float32), np.full((4, 4), 0.5, np.float32)
    mean[0, 0] = -6  # not on the face
    usual = UsualHeat(mean, spread)
    ordinary = np.full((1, 4, 4), 0.12, np.float32)
    assert usual.unusual(ordinary).max() == 0
    ordinary[0, 2, 3] = ordinary[0, 0, 0] = 0.6
    heat = usual.unusual(ordinary)[0]
    assert heat[2, 3] > 0.6
    assert np.count_nonzero(heat) == 1
    assert usual_heat("no such weights") is None


def labelled_faces(count: int) -> list[tuple[Image, Box]]:
    """Real faces from the data beside the checkout, one a person, the largest first. Some may have been trained on."""
    folder = Path(os.environ.get("FACEPROOF_DATA", Path(__file__).parents[3] / "shared" / "data")) / "real_faces"
    if not (folder / "faces.csv").is_file():
        pytest.skip(f"there are no labelled faces in {folder}")
    people: dict[str, dict[str, str]] = {}
    with (folder / "faces.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            if float(row["side"]) >= 250 and row["identity"] not in people:
                people[row["identity"]] = row
    rng = np.random.default_rng(2)
    chosen = [people[name] for name in rng.permutation(sorted(people))[:count]]
    by_shard: dict[str, list[dict[str, str]]] = defaultdict(list)
    for row in chosen:
        by_shard[row["shard"]].append(row)
    found: list[tuple[Image, Box]] = []
    for shard, rows in by_shard.items():
        with tarfile.open(folder / shard) as archive:
            for row in rows:
                member = archive.extractfile(row["name"])
                assert member is not None
                image = cv2.imdecode(np.frombuffer(io.BytesIO(member.read()).read(), np.uint8), cv2.IMREAD_COLOR)
                x0, y0, x1, y1 = (float(row[key]) for key in ("x0", "y0", "x1", "y1"))
                found.append((np.ascontiguousarray(image[..., ::-1]), (x0, y0, x1, y1)))
    return found
