"""The canvas: packing levels together changes nothing about what the P-Net says of each."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from faceproof.faces.area import AreaSums
from faceproof.faces.mtcnn import WEIGHTS
from faceproof.faces.pyramid import SHARED, STEP, WINDOW, paint, plan
from faceproof.runtime import load_network

sizes = st.tuples(st.integers(1, 3000), st.integers(1, 3000))


@given(sizes, st.sampled_from([12, 20, 37.5, 60]), st.sampled_from([0.5, 0.709, 0.9]))
@settings(max_examples=80, deadline=None)
def test_layouts_hold_every_level_once(size, min_face, factor):
    layout = plan(*size, min_face, factor)
    if min(size) < min_face * 0.999:
        assert not layout.levels
    if not layout.levels:
        return
    taken = np.zeros((layout.height // 2, layout.width // 2), bool)
    for tile in layout.tiles:
        assert tile.x % STEP == tile.y % STEP == tile.left % STEP == 0
        spot = taken[tile.y // 2 : (tile.y + tile.height + 1) // 2, tile.x // 2 : (tile.x + tile.width + 1) // 2]
        assert spot.shape == ((tile.height + 1) // 2, (tile.width + 1) // 2)
        assert not spot.any()
        spot[:] = True
    for index, level in enumerate(layout.levels):
        covered = np.zeros(level.width, bool)
        for tile in layout.tiles:
            if tile.level == index:
                covered[tile.left : tile.left + tile.width] = True
                assert tile.height == level.height
        assert covered.all()


@given(sizes)
@settings(max_examples=60, deadline=None)
def test_strips_of_one_shape_show_every_window(size):
    layout = plan(*size, 20, 0.709)
    if not layout.levels:
        return
    windows = set()
    for top in layout.strips():
        assert top % STEP == 0
        assert top >= 0
        assert top + layout.strip <= layout.height
        windows.update(range(top, top + layout.strip - SHARED, STEP))
    assert windows == set(range(0, layout.height - SHARED, STEP))


def test_levels_follow_the_published_rule():
    layout = plan(640, 480, 20, 0.709)
    scale, sides = 12 / 20, []
    while 480 * scale >= WINDOW:
        sides.append((int(640 * scale + 1), int(480 * scale + 1)))
        scale *= 0.709
    assert [(level.width, level.height) for level in layout.levels] == sides


def test_cells_are_the_same_alone_and_on_the_canvas(astronaut):
    image = np.ascontiguousarray(astronaut[:301, :407])
    sums = AreaSums(image)
    layout = plan(407, 301, 20, 0.709)
    canvas = paint(sums, layout)
    pnet = load_network(WEIGHTS / "pnet.onnx", precision="fp32")
    whole = pnet.run(canvas[None])
    for tile in layout.tiles:
        alone = np.empty((3, tile.height, tile.width), np.float32)
        level = layout.levels[tile.level]
        sums.shrink(level.width, level.height, [(tile.left, alone)])
        expected = pnet.run(alone[None])
        across, down = tile.cells
        assert expected["prob"].shape[2:] == (down, across)
        # The last row and column of an odd level pool one repeated pixel more.
        rows, columns = down - tile.height % 2, across - tile.width % 2
        for name in ("prob", "bbreg"):
            ours = whole[name][:, :, tile.y // 2 :, tile.x // 2 :][:, :, :rows, :columns]
            np.testing.assert_allclose(ours, expected[name][:, :, :rows, :columns], atol=1e-4)
