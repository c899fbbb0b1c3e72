"""Heat lies where it belongs: from the network's input back to the crop and to the frame."""

from __future__ import annotations

import numpy as np
import pytest

from faceproof.detectors.detector import Detector
from faceproof.detectors.spec import Input, Margin, Output
from faceproof.errors import OptionError
from faceproof.evidence.heatmap import (
    blend,
    crop_place,
    face_heats,
    hottest_place,
    occlusion_heat,
    on_crop,
    place_in_words,
)
from faceproof.faces import cut, fit
from faceproof.runtime import FakeNetwork
from tests.evidence.made_reports import toy_detector, toy_spec


@pytest.mark.parametrize("resize", ["stretch", "isotropic", "centre_crop"])
@pytest.mark.parametrize("size", [(90, 60), (60, 90), (200, 200)])
def test_heat_returns_to_the_pixels_it_came_from(resize: str, size: tuple[int, int]) -> None:
    height, width = size
    crop = np.zeros((height, width, 3), np.uint8)
    row, column = height // 2 - 8, width // 2 + 6
    crop[row - 5 : row + 5, column - 5 : column + 5] = 255
    recipe = Input(size=64, resize=resize)  # type: ignore[arg-type]
    seen = fit(crop, recipe)[..., 0].astype(np.float32) / 255
    heat = on_crop(seen, (height, width), recipe)
    assert heat.shape == (height, width)
    assert heat.dtype == np.float32
    across, down = hottest_place(heat)
    assert abs(down * height - row) <= 5
    assert abs(across * width - column) <= 5


@pytest.mark.parametrize(
    "margin",
    [
        Margin(),
        Margin(kind="thirds"),
        Margin(kind="fraction", value=0.2),
        Margin(kind="pixels", value=12),
        Margin(kind="square", value=1.3),
        Margin(kind="square_short"),
        Margin(kind="blaze", value=0.1),
    ],
)
@pytest.mark.parametrize("box", [(40.2, 30.7, 90.1, 95.5), (-5.0, -3.0, 40.0, 50.0), (100.0, 60.0, 170.0, 130.0)])
def test_a_crops_place_agrees_with_the_cut(margin: Margin, box: tuple[float, float, float, float]) -> None:
    frame = np.random.default_rng(3).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    crop = cut(frame, box, margin)
    place = crop_place(frame.shape[:2], box, margin)
    inside = place.heat_in_frame(crop)  # type: ignore[arg-type]
    assert np.array_equal(inside, frame[place.y0 : place.y1, place.x0 : place.x1])


def test_occlusion_finds_the_one_spot_that_matters() -> None:
    crop = np.full((96, 96, 3), 40, np.uint8)
    crop[60:76, 20:36] = 255

    def spot(batch: np.ndarray) -> np.ndarray:
        # A network that only looks at the lower left: rows 20-25 and columns 7-12 of its 32 x 32 input.
        return 8 * batch[:, :, 20:26, 7:13].mean(axis=(1, 2, 3)) - 4

    spec = toy_spec(output=Output(fake_is="high"))
    found = face_heats(Detector(spec, FakeNetwork(spot)), [crop])[0]
    assert found.method == "occlusion"
    across, down = hottest_place(found.heat)
    assert 20 / 96 - 0.06 <= across <= 36 / 96 + 0.06
    assert 60 / 96 - 0.06 <= down <= 76 / 96 + 0.06
    assert found.heat[:20].max() < 0.05
    assert place_in_words(found.heat).startswith("strongest at the lower left")


def test_occlusion_marks_only_what_speaks_for_manipulation() -> None:
    crop = np.full((64, 64, 3), 40, np.uint8)
    crop[20:40, 20:40] = 255
    against = Detector(toy_spec(), FakeNetwork(lambda batch: -20 * batch.mean(axis=(1, 2, 3))))
    found = occlusion_heat(against, crop)
    assert found.heat[25:35, 25:35].max() < 0.01


def test_the_graphs_own_map_is_used_where_there_is_one() -> None:
    crop = np.zeros((50, 40, 3), np.uint8)
    crop[5:15, 25:35] = 250
    found = face_heats(toy_detector(), [crop])[0]
    assert found.method == "graph"
    assert found.heat.shape == (50, 40)
    assert place_in_words(found.heat).startswith("strongest at the upper right")


def test_asking_for_a_map_the_network_lacks_is_an_error() -> None:
    detector = toy_detector(output=Output(fake_is="high"))
    with pytest.raises(OptionError, match="no heatmap"):
        face_heats(detector, [np.zeros((8, 8, 3), np.uint8)], method="graph")


def test_cold_parts_leave_the_face_as_it_is() -> None:
    crop = np.random.default_rng(1).integers(0, 256, (30, 30, 3), dtype=np.uint8)
    heat = np.zeros((30, 30), np.float32)
    heat[10:20, 10:20] = 1
    shown = blend(crop, heat)
    assert np.array_equal(shown[:10], crop[:10])
    assert not np.array_equal(shown[10:20, 10:20], crop[10:20, 10:20])
    assert place_in_words(np.zeros((9, 9), np.float32)) == "no part of the face stands out"
