"""Clips of held-out people: as alike within as a clip is, equal but for the forgery, and the same every time."""

from pathlib import Path

import numpy as np
import pytest
from tests.training.conftest import write_shards

from faceproof.training import footage, pairs
from faceproof.training.footage import Clip, FootageOptions, held_out_footage, no_smaller_than
from faceproof.training.recipe import load_recipe
from faceproof.training.shards import FaceStore

OPTIONS = FootageOptions(faces=4, rounds=2, side=(48, 96))


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Clip, Clip]]:
    store = FaceStore(write_shards(tmp_path_factory.mktemp("held"), 8), "all")
    return list(held_out_footage(store, load_recipe("faceproof-small"), OPTIONS))


def test_every_picture_gives_a_genuine_and_a_forged_clip_each_round(clips: list[tuple[Clip, Clip]]) -> None:
    assert len(clips) == 16
    assert {(real.label, fake.label) for real, fake in clips} == {(0, 1)}
    assert all(real.source == fake.source for real, fake in clips)
    names = [clip.name for pair in clips for clip in pair]
    assert len(set(names)) == 32
    for real, fake in clips:
        assert real.frames.shape == fake.frames.shape
        assert real.frames.dtype == np.uint8
        assert real.frames.shape[0] == len(real.boxes) == 4
        side = real.frames.shape[1]
        assert (real.boxes >= 0).all()
        assert (real.boxes <= side).all()


def test_faces_are_where_the_boxes_say_and_as_large_as_asked(clips: list[tuple[Clip, Clip]]) -> None:
    sides = [float(np.median(real.boxes[:, 2] - real.boxes[:, 0])) for real, _ in clips]
    # Tiles are whole macroblocks, and a detector's box wanders.
    assert 36 < min(sides) < 70
    assert 70 < max(sides) < 115


def test_the_forged_clip_differs_from_its_twin_and_nowhere_by_its_damage(clips: list[tuple[Clip, Clip]]) -> None:
    away = [np.abs(real.frames.astype(int) - fake.frames).mean() for real, fake in clips]
    assert min(away) > 0
    # Corners lie outside every face: there only the encoder's choices differ.
    corner = [np.abs(real.frames[:, :8, :8].astype(int) - fake.frames[:, :8, :8]).mean() for real, fake in clips]
    assert np.median(corner) < 0.5 * np.median([np.abs(r.frames.astype(int) - f.frames).max() for r, f in clips])


def test_frames_of_a_clip_are_more_alike_than_clips_of_one_picture(clips: list[tuple[Clip, Clip]]) -> None:
    again = {real.source: [] for real, _ in clips}
    for real, _ in clips:
        again[real.source].append(real)
    within = [clip.frames.reshape(4, -1).mean(1).std() for both in again.values() for clip in both]
    between = [np.std([clip.frames.mean() for clip in both]) for both in again.values()]
    assert np.median(within) < np.median(between)


def test_the_same_seed_films_the_same(tmp_path: Path, clips: list[tuple[Clip, Clip]]) -> None:
    store = FaceStore(write_shards(tmp_path / "again", 8), "all")
    again = next(iter(held_out_footage(store, load_recipe("faceproof-small"), OPTIONS)))
    np.testing.assert_array_equal(again[1].frames, clips[0][1].frames)
    np.testing.assert_array_equal(again[1].boxes, clips[0][1].boxes)


def test_no_face_is_smaller_than_what_is_judged() -> None:
    assert no_smaller_than(FootageOptions(side=(48, 256)), 64).side == (64, 256)
    assert no_smaller_than(FootageOptions(side=(48, 256)), 16).side == (48, 256)


def test_clips_are_forged_and_encoded_as_the_recipe_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bands are only as honest as their forgeries: none of the recipe's kinds may be missing."""
    seen: list[pairs.PairOptions] = []

    def look(store: FaceStore, index: int, turn: int, how: pairs.PairOptions, options: FootageOptions) -> None:
        seen.append(how)

    monkeypatch.setattr(footage, "make_clips", look)
    store = FaceStore(write_shards(tmp_path / "some", 4), "all")
    recipe = load_recipe("faceproof-small", {"pairs.autoencoders": "painters.pt", "pairs.codec": 0.5})
    list(held_out_footage(store, recipe, OPTIONS))
    trained = pairs.pair_options(recipe)
    assert (seen[0].blend, seen[0].degrade) == (trained.blend, trained.degrade)
    assert seen[0].blend.autoencoders == "painters.pt"
