"""Nothing that is judged is written over, and evidence of earlier scans is not judged."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from .conftest import Run

TOY = ("--detector", "toy", "--frames", "4")


@pytest.fixture
def two(tmp_path: Path, astronaut_png: Path, astronaut_jpg: Path) -> tuple[Path, Path]:
    place = tmp_path / "desk"
    place.mkdir()
    return (
        Path(shutil.copy(astronaut_png, place / "first.png")),
        Path(shutil.copy(astronaut_jpg, place / "second.jpg")),
    )


@pytest.mark.parametrize("option", ["--json", "--csv", "--report"])
def test_a_forgotten_file_name_costs_no_picture(run: Run, two: tuple[Path, Path], option: str) -> None:
    first, second = two
    before = first.read_bytes()
    ran = run("scan", option, first, second, *TOY)
    assert ran.code == 2
    assert f"{option} would write over a picture or video" in " ".join(ran.err.split())
    assert first.read_bytes() == before


def test_a_page_never_replaces_the_video_it_explains(run: Run, clip_mp4: Path, tmp_path: Path) -> None:
    clip = Path(shutil.copy(clip_mp4, tmp_path / "clip.mp4"))
    before = clip.read_bytes()
    assert run("explain", clip, "-d", "toy", "--frames", "4", "--report", clip).code == 2
    assert clip.read_bytes() == before


def test_a_file_without_an_ending_is_not_written_over_either(run: Run, two: tuple[Path, Path]) -> None:
    bare = two[0].rename(two[0].with_suffix(""))
    before = bare.read_bytes()
    ran = run("scan", bare, *TOY, "--json", bare.parent / "." / bare.name)
    assert ran.code == 2
    assert "which it is made from" in " ".join(ran.err.split())
    assert bare.read_bytes() == before


def test_two_results_need_two_files(run: Run, two: tuple[Path, Path], tmp_path: Path) -> None:
    ran = run("scan", two[0], *TOY, "--json", tmp_path / "r", "--csv", tmp_path / "r")
    assert ran.code == 2
    assert "--json and --csv would both write" in " ".join(ran.err.split())
    assert not (tmp_path / "r").exists()
    assert run("scan", two[0], *TOY, "--json", "/dev/null", "--csv", "/dev/null").code == 0


def test_pictures_for_explain_need_a_folder(run: Run, two: tuple[Path, Path]) -> None:
    ran = run("explain", two[0], "-d", "toy", "--out", two[1])
    assert ran.code == 2
    assert "--out is a folder" in ran.err


def test_evidence_of_an_earlier_scan_is_passed_over(run: Run, two: tuple[Path, Path]) -> None:
    desk = two[0].parent
    assert run("scan", desk, *TOY, "--evidence", desk / "kept").code == 0
    pictures = list((desk / "kept").rglob("*.png"))
    assert pictures
    ran = run("scan", desk, *TOY)
    assert "2 files:" in ran.out
    assert "kept" not in ran.out
    assert f"Passed over {len(pictures)} pictures in evidence of earlier scans." in " ".join(ran.err.split())
    named = run("scan", pictures[0], *TOY)
    assert pictures[0].name in named.out, "whoever names one has it judged"


def test_an_empty_folder_is_told_what_to_do(run: Run, tmp_path: Path) -> None:
    ran = run("scan", tmp_path)
    assert ran.code == 2
    assert "Name a folder that holds some" in ran.err


def test_faces_of_two_videos_in_one_folder_are_said(run: Run, two: tuple[Path, Path], tmp_path: Path) -> None:
    first = run("faces", two[0], "--out", tmp_path / "crops")
    assert "another run" not in first.err
    assert "another run" not in run("faces", two[0], "--out", tmp_path / "crops").err
    ran = run("faces", two[1], "--out", tmp_path / "crops")
    assert "1 picture of another run" in " ".join(ran.err.split())
