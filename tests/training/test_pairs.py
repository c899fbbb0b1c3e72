from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.training.conftest import FIVE, draw_face, write_shards

from faceproof.errors import DatasetError
from faceproof.training import degrade, masks, pairs, selfblend, warps
from faceproof.training.shards import FaceStore, held_out

OPTIONS = pairs.PairOptions(size=96, heatmap=12, degrade=degrade.DegradeOptions(tile=(80, 112)))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["self", "swap", "reenact"]))
def test_real_and_fake_differ_only_inside_the_mask(seed, kind):
    rng = np.random.default_rng(seed)
    image, points = draw_face(1, 128), masks.from_five(FIVE * 128)
    if kind == "self":
        real, fake, mask = selfblend.self_blend(image, points, rng)
    elif kind == "swap":
        real, fake, mask = selfblend.swap(image, points, draw_face(2, 128), points, rng)
    else:
        real, fake, mask = selfblend.reenact(image, points, rng)
    outside = mask == 0
    np.testing.assert_array_equal(real[outside], fake[outside])
    assert real.shape == fake.shape == (128, 128, 3)
    assert mask.max() <= 1


def test_a_forgery_changes_something():
    rng = np.random.default_rng(3)
    image, points = draw_face(1, 128), masks.from_five(FIVE * 128)
    changed = [np.abs(np.subtract(*selfblend.make_pair(image, points, rng)[:2], dtype=int)).max() for _ in range(20)]
    assert np.median(changed) > 10


def test_a_group_is_decided_by_seed_and_number(shards):
    store = FaceStore(shards, "all")
    first, again, other = (pairs.make_group(store, 5, n, OPTIONS) for n in (7, 7, 8))
    for key in first:
        np.testing.assert_array_equal(first[key], again[key])
    assert not np.array_equal(first["image"], other["image"])


def test_what_was_encoded_before_changes_nothing(shards):
    store = FaceStore(shards, "held_out", 0.25)
    small = pairs.PairOptions(
        size=64, heatmap=8, group=2, degrade=degrade.DegradeOptions(tile=(64, 80), codec=1.0, codecs={"libx264": 1.0})
    )
    first = [pairs.make_group(store, 2**31, n, small)["image"] for n in range(30)]
    for _ in range(4):
        for number, image in enumerate(first):
            np.testing.assert_array_equal(image, pairs.make_group(store, 2**31, number, small)["image"])


def test_a_group_has_the_promised_shape(shards):
    group = pairs.make_group(FaceStore(shards, "all"), 0, 0, OPTIONS)
    assert group["image"].shape == (8, 96, 96, 3)
    assert group["image"].dtype == np.uint8
    assert group["label"].tolist() == [0, 1] * 4
    assert group["mask"].shape == (8, 12, 12)
    assert group["mask"][::2].max() == 0
    assert group["mask"][1::2].max() > 0.1


def test_a_close_up_looks_below_the_middle_and_always_shows_its_forgery(shards, monkeypatch):
    seen = []
    frame = pairs.frame_face

    def watched(image, points, box_side, centre, *rest):
        seen.append((points[masks.PARTS["lips"]].mean(0) - centre) / box_side)
        return frame(image, points, box_side, centre, *rest)

    monkeypatch.setattr(pairs, "frame_face", watched)
    close = replace(OPTIONS, crop=(0.6, 0.7), down=0.24)
    groups = [pairs.make_group(FaceStore(shards, "all"), 1, number, close) for number in range(12)]
    assert np.abs(seen).max() < 0.06  # the drawn mouth is the crop's centre
    assert min(group["mask"][1::2].max((1, 2)).min() for group in groups) > 0.02


def test_a_softened_face_keeps_its_outlines_and_loses_its_pores():
    rng = np.random.default_rng(0)
    image, points = draw_face(1, 128), masks.from_five(FIVE * 128)
    drawn = selfblend.draw_anew(image, points, rng, selfblend.BlendOptions(blur=1.0))
    fine = [float(np.abs(picture.astype(int)[:, 1:] - picture[:, :-1]).mean()) for picture in (image, drawn)]
    assert fine[1] < 0.8 * fine[0]
    assert np.corrcoef(cv2.blur(image, (9, 9)).ravel(), cv2.blur(drawn, (9, 9)).ravel())[0, 1] > 0.99


def test_pairs_stay_alike_through_camera_and_encoder():
    # the same picture as real and fake must come out the same, or the net could tell them by the treatment alone
    rng = np.random.default_rng(0)
    picture = draw_face(4, 128 + degrade.SLACK)
    one, two = degrade.sensor([picture, picture.copy()], rng, degrade.DegradeOptions(blur=1, noise=1, jpeg=1))
    np.testing.assert_array_equal(one, two)
    tiles = np.stack([picture, picture] * 2)
    out, offsets = degrade.film(tiles, rng, degrade.DegradeOptions(codec=0, jpeg=1))
    np.testing.assert_array_equal(out[0], out[1])
    np.testing.assert_array_equal(offsets[0], offsets[1])


def test_every_tile_comes_back_in_its_own_place():
    options, side = degrade.DegradeOptions(codec=1.0, crf=(20, 24)), 64
    for seed in range(12):
        colours = np.random.default_rng(seed).integers(40, 216, (8, 1, 1, 3))
        tiles = np.broadcast_to(colours, (8, side + degrade.SLACK, side + degrade.SLACK, 3)).astype(np.uint8)
        out, _ = degrade.film(tiles, np.random.default_rng(seed), options)
        assert np.abs(out.mean((1, 2)) - colours[:, 0, 0]).max() < 12


@pytest.mark.parametrize("codec", ["libx264", "libx265", "mpeg4"])
@pytest.mark.parametrize("keep", [0, 3])
def test_the_encoder_returns_the_frame_asked_for(codec, keep):
    if codec not in degrade.available_codecs():
        pytest.skip(f"this PyAV has no {codec}")
    frames = np.stack([np.roll(draw_face(0, 128), 4 * shift, 1) for shift in range(4)])
    decoded = degrade.codec_round_trip(frames, codec, 23, keep)
    errors = [np.abs(decoded.astype(int) - frame).mean() for frame in frames]
    assert int(np.argmin(errors)) == keep
    assert 0 < errors[keep] < 12


def test_stronger_compression_loses_more():
    if "libx264" not in degrade.available_codecs():
        pytest.skip("this PyAV has no libx264")
    frames = np.stack([draw_face(0, 128)] * 2)
    lost = [
        np.abs(degrade.codec_round_trip(frames, "libx264", crf, 1).astype(int) - frames[1]).mean() for crf in (18, 40)
    ]
    assert lost[0] < lost[1]


def test_expression_moves_the_mouth_and_spares_the_background():
    image, points = draw_face(0, 160), masks.from_five(FIVE * 160)
    changed = warps.change_expression(image, points, np.random.default_rng(0)).astype(int) - image
    assert np.abs(changed[96:130, 60:100]).mean() > 5 * np.abs(changed[:16]).mean()


def test_mirroring_twice_changes_nothing():
    points = masks.from_five(FIVE * 100)
    np.testing.assert_allclose(pairs.mirror(pairs.mirror(points, 100), 100), points, atol=1e-4)


def test_nobody_is_on_both_sides(shards):
    train, held = FaceStore(shards, "train", 0.25), FaceStore(shards, "held_out", 0.25)
    assert not set(train.identities) & set(held.identities)
    assert len(train) + len(held) == 48
    assert held_out("drawn/person_1", 1.0)


def test_unreadable_pictures_are_counted_and_listed(tmp_path):
    store = FaceStore(write_shards(tmp_path / "s", 3, broken=2), "all")
    assert len(store) == 3
    assert store.unreadable == 2
    assert store.unreadable_names == ["faces-00.tar/000003.jpg", "faces-00.tar/000004.jpg"]


def test_a_folder_without_faces_is_refused(tmp_path):
    with pytest.raises(DatasetError, match=r"faces\.csv"):
        FaceStore(tmp_path)
    with pytest.raises(DatasetError, match="No usable face"):
        FaceStore(write_shards(tmp_path / "broken", 0, broken=2), "all")
