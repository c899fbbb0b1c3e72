"""A folder of real people becomes shards that the pairs are made of."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from faceproof.cli import app
from faceproof.errors import DatasetError
from faceproof.faces import FaceDetector
from faceproof.training import gather, pairs
from faceproof.training.gather import gather_faces
from faceproof.training.shards import FaceStore


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, astronaut_png: Path, clip_mp4: Path) -> Path:
    """Two people with folders of their own, one of them in a video, a picture of nobody, and a broken file."""
    place = tmp_path_factory.mktemp("people")
    for name in ("Eileen", "Ünal Ö"):
        (place / name).mkdir()
        shutil.copy(astronaut_png, place / name / "portrait 1.png")
    shutil.copy(clip_mp4, place / "Eileen" / "clip.mp4")
    Image.fromarray(np.full((120, 160, 3), 90, np.uint8)).save(place / "wall.png")
    (place / "broken.jpg").write_bytes(b"\xff\xd8\xff no picture")
    return place


@pytest.fixture(scope="module")
def gathered(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, gather.Gathered]:
    out = tmp_path_factory.mktemp("shards") / "out"
    return out, gather_faces([folder], out, per_video=3, min_side=40)


def test_everybody_is_found_once_a_picture_and_the_rest_is_told(gathered: tuple[Path, gather.Gathered]) -> None:
    out, found = gathered
    assert found.people == 2
    assert found.faces >= 2
    assert [Path(name).name for name in found.unreadable] == ["broken.jpg"]
    assert [Path(name).name for name in found.faceless] == ["wall.png"]
    with (out / "faces.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == found.faces
    assert {row["identity"] for row in rows} == {"Eileen", "Ünal Ö"}


def test_boxes_and_landmarks_are_the_crops_own(gathered: tuple[Path, gather.Gathered]) -> None:
    store = FaceStore(gathered[0], "all")
    for face in (store[index] for index in range(len(store))):
        side = face.image.shape[0]
        assert side <= gather.LARGEST
        assert side / face.box_side == pytest.approx(gather.CROP, abs=0.1)
        again = max(FaceDetector(min_face=32).detect(face.image), key=lambda one: one.side)
        centre = (again.box[0] + again.box[2]) / 2, (again.box[1] + again.box[3]) / 2
        assert np.hypot(centre[0] - face.centre[0], centre[1] - face.centre[1]) < 0.1 * face.box_side


def test_pairs_are_made_of_them(gathered: tuple[Path, gather.Gathered]) -> None:
    options = pairs.PairOptions(size=64, heatmap=8, group=2)
    group = pairs.make_group(FaceStore(gathered[0], "all"), 0, 0, options)
    assert group["image"].shape == (4, 64, 64, 3)
    assert group["mask"][1::2].max() > 0


def test_shards_stay_small(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gather, "_SHARD_BYTES", 30_000)
    found = gather_faces([folder / "Eileen", folder / "Ünal Ö"], tmp_path / "out", per_video=2, min_side=40)
    assert len(list((tmp_path / "out").glob("faces-*.tar"))) > 1
    assert len(FaceStore(tmp_path / "out", "all")) == found.faces


def test_nothing_is_left_of_a_collection_without_faces(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="No face of 64 pixels"):
        gather_faces([folder / "wall.png"], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "kept.txt").write_text("mine")
    with pytest.raises(DatasetError, match="not empty"):
        gather_faces([folder], tmp_path / "used")
    assert (tmp_path / "used" / "kept.txt").read_text() == "mine"


def test_the_command_says_what_it_found(folder: Path, tmp_path: Path) -> None:
    answer = CliRunner().invoke(
        app, ["train", "gather", str(folder), "--out", str(tmp_path / "out"), "--min-side", "40"]
    )
    assert answer.exit_code == 1, "a file was unreadable"
    assert "of 2 people" in answer.output
    assert "broken.jpg" in answer.output
    assert "1 without a face" in answer.output
