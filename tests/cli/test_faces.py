import csv
from pathlib import Path

import pytest
from PIL import Image

from .conftest import Run


def test_faces_are_written_by_frame_and_person(run: Run, clip_two_people_mp4: Path, tmp_path: Path) -> None:
    ran = run("faces", clip_two_people_mp4, "--out", tmp_path / "crops", "--frames", "3")
    assert ran.code == 0, ran.err
    names = sorted(path.name for path in (tmp_path / "crops").glob("*.png"))
    assert names == [f"two-people_f{index:06d}_p{person}.png" for index in (0, 29, 59) for person in (1, 2)]
    with Image.open(tmp_path / "crops" / names[0]) as image:
        assert image.width == image.height > 30
    with (tmp_path / "crops" / "faces.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert sorted(row["name"] for row in table) == names
    assert "6 faces of 2 people" in ran.out


def test_a_folder_that_cannot_be_made_is_an_output_error(run: Run, clip_mp4: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    ran = run("faces", clip_mp4, "--out", tmp_path / "file" / "crops")
    assert ran.code == 1
    assert "cannot write" in ran.err


@pytest.mark.parametrize("args", [("--frames", "few"), ("--faces", "sloppy"), ("--margin", "0.5")])
def test_wrong_options(run: Run, clip_mp4: Path, tmp_path: Path, args: tuple[str, str]) -> None:
    assert run("faces", clip_mp4, "--out", tmp_path, *args).code == 2


def test_a_stopped_run_leaves_a_table_of_what_is_there(
    run: Run, clip_mp4: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from faceproof import media

    real = media.read_frames

    def stopped(*args, **options):
        for number, frame in enumerate(real(*args, **options)):
            if number == 2:
                raise KeyboardInterrupt
            yield frame

    monkeypatch.setattr(media, "read_frames", stopped)
    assert run("faces", clip_mp4, "--out", tmp_path / "crops", "--frames", "4").code == 130
    with (tmp_path / "crops" / "faces.csv").open(newline="") as file:
        names = [row["name"] for row in csv.DictReader(file)]
    assert names
    assert sorted(names) == sorted(path.name for path in (tmp_path / "crops").glob("*.png"))


def test_no_face_is_said_in_words(run: Run, clip_noface_mp4: Path, tmp_path: Path) -> None:
    assert "No face was found" in run("faces", clip_noface_mp4, "--out", tmp_path / "crops", "--frames", "2").out
