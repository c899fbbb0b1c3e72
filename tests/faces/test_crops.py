"""Crops, bit for bit: each recipe is written here a second time, in the words of the published pipelines."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faceproof.detectors.spec import Input, Margin
from faceproof.faces import batch, cut, fit, sharpness

SELIMSEF = Input(size=380, resize="isotropic", enlarge="cubic", reduce="area")
COCCOMINI = Input(
    size=224, colour="BGR", resize="isotropic", enlarge="cubic", reduce="area", scale=1, mean=(0, 0, 0), std=(1, 1, 1)
)
FRAME = np.random.default_rng(5).integers(0, 256, (90, 130, 3), dtype=np.uint8)
IMAGENET = np.array([(0.485, 0.456, 0.406), (0.229, 0.224, 0.225)])
numbers = st.floats(-30, 160, allow_nan=False, width=32)
boxes = st.tuples(numbers, numbers, numbers, numbers)


# ── cutting ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def published_thirds(frame, box):
    xmin, ymin, xmax, ymax = (int(side) for side in box)
    w, h = xmax - xmin, ymax - ymin
    p_h, p_w = h // 3, w // 3
    return frame[max(ymin - p_h, 0) : ymax + p_h, max(xmin - p_w, 0) : xmax + p_w]


def published_short_side(frame, box):
    xmin, ymin, xmax, ymax = (int(side) for side in box)
    w, h = xmax - xmin, ymax - ymin
    p_h = p_w = 0
    if h > w:
        p_w = int((h - w) / 2)
    elif h < w:
        p_h = int((w - h) / 2)
    return frame[max(ymin - p_h, 0) : ymax + p_h, max(xmin - p_w, 0) : xmax + p_w]


def published_blaze(frame, box, margin):
    xmin, ymin, xmax, ymax = box
    offset = np.round(margin * (ymax - ymin))
    top, left = max(ymin - offset * 2, 0), max(xmin - offset, 0)
    bottom, right = min(ymax + offset, frame.shape[0]), min(xmax + offset, frame.shape[1])
    return frame[int(top) : int(bottom), int(left) : int(right)]


def reflected_square(frame, box, value):
    x0, y0, x1, y1 = box
    side = int(max(x1 - x0, y1 - y0) * value)
    pad = 220
    wide = np.pad(frame, ((pad, pad), (pad, pad), (0, 0)), mode="reflect")
    left, top = math.floor((x0 + x1 - side) / 2) + pad, math.floor((y0 + y1 - side) / 2) + pad
    return wide[top : top + side, left : left + side]


inside = st.builds(
    lambda x, y, w, h: (x, y, min(x + w, 130.0), min(y + h, 90.0)),
    st.floats(0, 120, width=32),
    st.floats(0, 80, width=32),
    st.floats(3, 100, width=32),
    st.floats(3, 100, width=32),
)


@given(inside)
@settings(max_examples=80, deadline=None)
def test_margins_are_the_published_ones(box):
    np.testing.assert_array_equal(cut(FRAME, box, Margin(kind="thirds")), published_thirds(FRAME, box))
    np.testing.assert_array_equal(cut(FRAME, box, Margin(kind="square_short")), published_short_side(FRAME, box))
    np.testing.assert_array_equal(cut(FRAME, box, Margin(kind="blaze", value=0.2)), published_blaze(FRAME, box, 0.2))
    for value in (1.0, 1.3, 2.1):
        np.testing.assert_array_equal(
            cut(FRAME, box, Margin(kind="square", value=value)), reflected_square(FRAME, box, value)
        )


def test_simple_margins():
    box = (20.9, 30.9, 60.2, 80.2)  # whole pixels by truncation: 20, 30, 60, 80
    np.testing.assert_array_equal(cut(FRAME, box, Margin()), FRAME[30:80, 20:60])
    np.testing.assert_array_equal(cut(FRAME, box, Margin(kind="fraction", value=0.1)), FRAME[25:85, 16:64])
    np.testing.assert_array_equal(cut(FRAME, box, Margin(kind="pixels", value=40)), FRAME[0:90, 0:100])


@given(boxes, st.sampled_from(["none", "thirds", "fraction", "pixels", "square", "square_short", "blaze"]))
@settings(max_examples=300, deadline=None)
def test_any_box_gives_a_crop_of_its_own(box, kind):
    crop = cut(FRAME, box, Margin(kind=kind, value=0.5))
    assert crop.dtype == np.uint8
    assert crop.ndim == 3
    assert crop.shape[2] == 3
    assert min(crop.shape) >= 1
    assert not np.shares_memory(crop, FRAME)
    assert crop.flags["C_CONTIGUOUS"]


def test_boxes_and_frames_without_sense_are_refused():
    with pytest.raises(ValueError):
        cut(FRAME, (0, 0, float("nan"), 5), Margin())
    with pytest.raises(ValueError):
        cut(np.zeros((0, 5, 3), np.uint8), (0, 0, 1, 1), Margin())


def test_square_of_a_one_pixel_frame():
    crop = cut(np.full((1, 1, 3), 9, np.uint8), (0, 0, 1, 1), Margin(kind="square", value=5))
    assert crop.shape == (5, 5, 3)
    assert (crop == 9).all()


# ── resizing ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def published_isotropic(img, size):
    """Resize the longer side to ``size``, then put to the centre of a black square."""
    h, w = img.shape[:2]
    if max(w, h) != size:
        if w > h:
            scale = size / w
            h, w = h * scale, size
        else:
            scale = size / h
            w, h = w * scale, size
        kernel = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
        img = cv2.resize(img, (int(w), int(h)), interpolation=kernel)
    image = np.zeros((size, size, 3), dtype=np.uint8)
    start_w, start_h = (size - img.shape[1]) // 2, (size - img.shape[0]) // 2
    image[start_h : start_h + img.shape[0], start_w : start_w + img.shape[1]] = img
    return image


@pytest.mark.parametrize(
    "size", [(380, 380), (380, 211), (211, 380), (379, 380), (500, 411), (97, 131), (1200, 900), (37, 36)]
)
def test_isotropic_is_the_published_one(size, astronaut):
    crop = cv2.resize(astronaut, (size[1], size[0]), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(fit(crop, SELIMSEF), published_isotropic(crop, 380))
    np.testing.assert_array_equal(fit(crop, COCCOMINI), published_isotropic(crop, 224))


@given(st.integers(1, 90), st.integers(1, 90), st.sampled_from(["isotropic", "stretch", "centre_crop"]), st.booleans())
@settings(max_examples=150, deadline=None)
def test_any_crop_fits(height, width, resize, denoise):
    crop = FRAME[:height, :width]
    recipe = Input(size=40, resize=resize, pad=7, denoise=0.25 if denoise else 0.0)
    fitted = fit(crop, recipe)
    assert fitted.shape == (40, 40, 3)
    assert fitted.dtype == np.uint8
    assert not np.shares_memory(fitted, crop)
    if height == width == 40 and not denoise:
        np.testing.assert_array_equal(fitted, crop)


def test_stretch_and_centre_crop():
    np.testing.assert_array_equal(fit(FRAME, Input(size=64)), cv2.resize(FRAME, (64, 64), interpolation=cv2.INTER_AREA))
    small = FRAME[:20, :30]
    np.testing.assert_array_equal(
        fit(small, Input(size=64)), cv2.resize(small, (64, 64), interpolation=cv2.INTER_LINEAR)
    )
    centre = cv2.resize(FRAME, (65, 45), interpolation=cv2.INTER_AREA)[:, 10:55]
    np.testing.assert_array_equal(fit(FRAME, Input(size=45, resize="centre_crop")), centre)


def test_denoise_blends_in_a_median():
    plain, median = fit(FRAME, Input(size=64)), fit(FRAME, Input(size=64, denoise=1.0))
    np.testing.assert_array_equal(median, cv2.medianBlur(plain, 3))
    blended = fit(FRAME, Input(size=64, denoise=0.5)).astype(int)
    assert np.abs(blended - (plain.astype(int) + median) / 2).max() <= 0.5


@pytest.mark.parametrize("crop", [np.zeros((0, 4, 3), np.uint8), np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3))])
def test_crops_without_sense_are_refused(crop):
    with pytest.raises(ValueError):
        fit(crop, SELIMSEF)


# ── batches ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_batch_scales_by_channel_in_the_networks_order():
    crops = [FRAME, FRAME[:50, 10:40], FRAME[:3, :7]]
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    rgb = batch(crops, Input(size=48, mean=mean, std=std))
    bgr = batch(crops, Input(size=48, colour="BGR", mean=mean, std=std))
    assert rgb.shape == (3, 3, 48, 48)
    assert rgb.dtype == np.float32
    assert rgb.flags["C_CONTIGUOUS"]
    for index, crop in enumerate(crops):
        pixels = fit(crop, Input(size=48)).astype(np.float64)
        np.testing.assert_allclose(rgb[index].transpose(1, 2, 0), (pixels / 255 - mean) / std, atol=1e-6)
        np.testing.assert_allclose(bgr[index].transpose(1, 2, 0), (pixels[:, :, ::-1] / 255 - mean) / std, atol=1e-6)


def test_recipe_without_normalisation_keeps_whole_pixel_values():
    out = batch([FRAME], COCCOMINI)
    np.testing.assert_array_equal(out[0].transpose(1, 2, 0)[:, :, ::-1], fit(FRAME, COCCOMINI))


def test_empty_batch():
    assert batch([], SELIMSEF).shape == (0, 3, 380, 380)


GOLDEN = Path(__file__).parent / "golden_crops.npz"
GOLDEN_BOX = (40.0, 12.0, 97.0, 83.0)


def published_crops(astronaut: np.ndarray) -> dict[str, np.ndarray]:
    """What the recipes as written in this file give; ``golden_crops.npz`` holds it."""
    frame = np.ascontiguousarray(astronaut[60:150, 150:280])
    thirds = published_thirds(frame, GOLDEN_BOX)
    pixels = published_isotropic(thirds, 40).astype(np.float64)
    return {
        "thirds": thirds,
        "square_short": published_short_side(frame, GOLDEN_BOX),
        "blaze": published_blaze(frame, GOLDEN_BOX, 0.2),
        "square": reflected_square(frame, GOLDEN_BOX, 1.6),
        "reduced": published_isotropic(thirds, 40),
        "enlarged": published_isotropic(thirds[:20, :27], 40),
        "input_rgb": ((pixels / 255 - IMAGENET[0]) / IMAGENET[1]).transpose(2, 0, 1).astype(np.float32),
        "input_bgr": pixels[:, :, ::-1].transpose(2, 0, 1).astype(np.float32),
    }


def test_golden_crops(astronaut):
    frame = np.ascontiguousarray(astronaut[60:150, 150:280])
    golden = np.load(GOLDEN)
    for kind, value in (("thirds", 0), ("square_short", 0), ("blaze", 0.2), ("square", 1.6)):
        np.testing.assert_array_equal(cut(frame, GOLDEN_BOX, Margin(kind=kind, value=value)), golden[kind])
    selimsef = SELIMSEF.model_copy(update={"size": 40})
    coccomini = COCCOMINI.model_copy(update={"size": 40})
    # One grey level of freedom: OpenCV's kernels may round differently on another processor.
    thirds = golden["thirds"]
    np.testing.assert_allclose(fit(thirds, selimsef).astype(int), golden["reduced"].astype(int), atol=1)
    np.testing.assert_allclose(fit(thirds[:20, :27], selimsef).astype(int), golden["enlarged"].astype(int), atol=1)
    np.testing.assert_allclose(batch([thirds], selimsef)[0], golden["input_rgb"], atol=0.02)
    np.testing.assert_allclose(batch([thirds], coccomini)[0], golden["input_bgr"], atol=1)


# ── sharpness ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_sharpness_falls_with_blur_and_not_with_size(astronaut):
    face = astronaut[60:200, 160:300]
    values = [sharpness(face), *(sharpness(cv2.GaussianBlur(face, (0, 0), sigma)) for sigma in (1, 2, 4))]
    assert values == sorted(values, reverse=True)
    assert values[0] > 10 * values[-1]
    assert sharpness(cv2.resize(face, (280, 280), interpolation=cv2.INTER_CUBIC)) == pytest.approx(values[0], rel=0.5)
    assert sharpness(np.full((128, 128, 3), 77, np.uint8)) == 0
    assert sharpness(face[:1, :1]) == 0
