"""Where a blend was planted, there the heat is: the default detector on faces whose altered region is known."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.stats import binom

from faceproof.detectors.catalog import DEFAULT_DETECTOR, find_spec
from faceproof.detectors.detector import Detector, load_detector
from faceproof.errors import UnknownDetectorError
from faceproof.evidence.usual_heat import UsualHeat, usual_heat
from faceproof.runtime import FakeNetwork
from tests.evidence import planted_blends
from tests.evidence.made_reports import toy_spec
from tests.evidence.planted_blends import (
    SPOTS,
    PointingGame,
    astronaut_face,
    held_out_faces,
    plant,
    planted_faces,
    play,
)

_, ASTRONAUT_BOX = astronaut_face()
PLAYS = 120


def has_default_weights() -> bool:
    try:
        return find_spec(DEFAULT_DETECTOR).has_weights
    except UnknownDetectorError:
        return False


def test_a_blend_changes_its_region_and_nothing_else(astronaut: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    planted = plant(astronaut, ASTRONAUT_BOX, "mouth", np.random.default_rng(5))
    assert 0.02 < (planted.mask > 0.2)[62:190, 176:276].mean() < 0.4
    assert np.abs(planted.frame.astype(int) - astronaut)[planted.mask == 0].max() > 0, (
        "it is compressed like any picture"
    )

    # Compression changes everything a little; without it, what is left is the blend.
    monkeypatch.setattr(planted_blends, "_degraded", lambda frame, rng: frame)
    planted = plant(astronaut, ASTRONAUT_BOX, "mouth", np.random.default_rng(5))
    changed = np.abs(planted.frame.astype(int) - astronaut).mean(axis=2)
    assert changed[planted.mask == 0].max() == 0
    assert changed[planted.mask > 0.5].mean() > 4


def test_the_game_can_be_won_and_lost(astronaut: np.ndarray) -> None:
    """A map that points at the planted region wins every time, one that points at a corner never."""
    faces = list(planted_faces([(astronaut, ASTRONAUT_BOX)], 12, SPOTS))
    margin = toy_spec().faces.margin
    from faceproof.faces import cut

    # The first look only asks how fine the map is.
    shown = [cut(f.mask[..., None].repeat(3, 2), f.box, margin)[..., 0] for f in faces]  # type: ignore[arg-type]
    masks = iter([np.zeros((9, 9), np.float32), *shown])

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
    masks = iter([np.zeros((9, 9), np.float32)] * 13)
    lost = play(Detector(toy_spec(), Pointing(corner=True)), faces)
    assert lost.rate == 0.0
    assert 0.05 < lost.chance < 0.4


@pytest.mark.skipif(not has_default_weights(), reason="the default detector has no weights here")
def test_the_default_detector_points_at_planted_blends(astronaut: np.ndarray) -> None:
    game = play(load_detector(), planted_faces([astronaut_face()], PLAYS))
    print(f"sides of one face, varied: {game}")
    # 120 plays cannot tell 0.69 from 0.71: the bar counts as missed when they rule it out.
    assert game.against(0.7) != "missed", str(game)
    assert game.interval[0] > game.best_fixed, str(game)


@pytest.mark.data
@pytest.mark.skipif(not has_default_weights(), reason="the default detector has no weights here")
def test_the_default_detector_points_at_planted_blends_in_many_people() -> None:
    folder = Path(os.environ.get("FACEPROOF_DATA", Path(__file__).parents[3] / "shared" / "data")) / "real_faces"
    if not (folder / "faces.csv").is_file():
        pytest.skip(f"there are no labelled faces in {folder}")
    faces = held_out_faces(folder, PLAYS, share=0.04)
    game = play(load_detector(), planted_faces(faces, len(faces)))
    print(f"sides of {len(faces)} people's faces: {game}")
    print(f"small spots: {play(load_detector(), planted_faces(faces, len(faces), SPOTS))}")
    assert game.interval[0] > game.best_fixed, str(game)


def test_the_interval_of_a_rate_holds_what_the_hits_do_not_rule_out() -> None:
    game = PointingGame(84, 120, 0.2, 0.5, {})
    low, high = game.interval
    # Tails of the binomial distribution at the interval's ends.
    assert binom.sf(83, 120, low) == pytest.approx(0.025, abs=1e-6)
    assert binom.cdf(84, 120, high) == pytest.approx(0.025, abs=1e-6)
    assert game.against(0.7) == "not decided"
    assert game.against(0.6) == "reached"
    assert game.against(0.8) == "missed"
    assert PointingGame(0, 10, 0, 0, {}).interval[0] == 0
    assert PointingGame(10, 10, 0, 0, {}).interval[1] == 1


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
