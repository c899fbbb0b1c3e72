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


def test_pieces_of_one_person_get_one_number_in_names_and_table(
    run: Run, clip_two_people_mp4: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from faceproof import faces

    class Restless(faces.Tracker):
        """Gives the person on the left another number in every frame, and knows better in the end."""

        def update(self, frame, found):
            self.count = getattr(self, "count", 0) + 1
            order = sorted(range(len(found)), key=lambda place: found[place].box[0])
            return [2 * self.count + 1 if place == order[0] else 2 for place in range(len(found))]

        def people(self):
            return {2: 1} | dict.fromkeys(range(3, 12, 2), 2)

    monkeypatch.setattr(faces, "Tracker", Restless)
    ran = run("faces", clip_two_people_mp4, "--out", tmp_path / "crops", "--frames", "3")
    names = sorted(path.name for path in (tmp_path / "crops").glob("*.png"))
    assert names == [f"two-people_f{index:06d}_p{person}.png" for index in (0, 29, 59) for person in (1, 2)]
    with (tmp_path / "crops" / "faces.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert sorted(row["name"] for row in table) == names
    assert all(row["name"].endswith(f"_p{row['person']}.png") for row in table)
    assert "6 faces of 2 people" in ran.out
    assert "Perhaps no face" not in ran.out


def test_what_may_be_no_face_is_said(
    run: Run, astronaut_png: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    from faceproof import faces

    real = faces.FaceDetector.detect
    monkeypatch.setattr(
        faces.FaceDetector,
        "detect",
        lambda self, image, **how: [replace(face, score=0.9) for face in real(self, image, **how)],
    )
    ran = run("faces", astronaut_png, "--out", tmp_path / "crops")
    assert "Perhaps no face: person 1. The face search is less sure than 0.95" in ran.out
