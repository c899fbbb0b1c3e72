"""The curve says nothing where nothing was seen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from faceproof.evidence.curve import LINE, Curve, draw_panel, panel_size
from tests.evidence.made_reports import made_report, toy_detector


def test_between_samples_the_score_lies_on_the_line() -> None:
    curve = Curve([0.0, 1.0, 2.0], [0.2, 0.6, 0.4], 2.5)
    assert curve.at(0.5) == pytest.approx(0.4)
    assert curve.at(1.0) == 0.6
    assert curve.at(2.4) == 0.4


def test_a_frame_without_a_face_has_no_score() -> None:
    curve = Curve([0.0, 1.0, 2.0], [0.2, None, 0.4], 2.5)
    assert curve.at(1.0) is None
    assert curve.at(0.9) is None
    assert curve.at(0.1) == 0.2
    assert Curve([], [], 1.0).at(0.5) is None
    assert curve.runs() == [[(0.0, 0.2)], [(2.0, 0.4)]]


@pytest.mark.parametrize("size", [(1920, 1080), (1080, 1920), (240, 1000), (320, 240), (240, 240)])
def test_the_panel_never_leaves_the_picture(size: tuple[int, int]) -> None:
    width, height = panel_size(*size, 10)
    assert 0 < width <= size[0] - 20
    assert 0 < height <= 0.3 * size[1] + 1
    if size == (1920, 1080):
        assert (width, height) == (778, 324)


def test_the_line_is_drawn_at_the_scores_height() -> None:
    panel = draw_panel(Curve([0.0, 10.0], [0.8, 0.8], 10.0), 480, 200)
    column = panel.image[:, (panel.x0 + panel.x1) // 2].astype(int)
    orange = np.abs(column - LINE).sum(axis=1) < 60
    assert orange.any()
    assert abs(np.flatnonzero(orange).mean() - panel.row(0.8)) <= 2
    assert panel.image[5, 5].tolist() == [0, 0, 0]


def test_a_tiny_panel_is_drawn_without_words() -> None:
    panel = draw_panel(Curve([0.0], [0.5], 0.0), 40, 16)
    assert panel.image.shape == (16, 40, 3)
    assert panel.column(0.0) == panel.x0


def test_who_was_not_judged_does_not_raise_the_curve(clip_mp4: Path) -> None:
    report = made_report(
        clip_mp4,
        toy_detector(),
        boxes=lambda index: {1: (110, 60, 210, 190), 2: (10, 10, 90, 110)},
        scores=lambda index, track: 0.2 if track == 1 else 0.9,
    )
    assert set(Curve.of(report).scores) == {0.9}
    report.tracks[1].score = None
    assert set(Curve.of(report).scores) == {0.2}
    report.tracks[0].score = None
    assert set(Curve.of(report).scores) == {None}
