"""The detector and its face search come in side by side, and nothing but time changes."""

from pathlib import Path

import pytest

from faceproof.detectors.detector import load_detector
from faceproof.errors import UnknownDetectorError
from faceproof.loading import face_search, load_for_scanning, searches_at_once


def test_the_face_search_of_pictures_is_ready_with_the_detector() -> None:
    detector = load_for_scanning(threads=2)
    assert detector.spec == load_detector(threads=2).spec
    search = face_search(detector.spec.faces, "thorough", 2, searches_at_once("image", 2))
    assert search._searches[0].networks is not None


@pytest.mark.parametrize("name", ["clip.mp4", "CLIP.MOV"])
def test_a_video_has_its_own_face_search_read_in(name: str) -> None:
    detector = load_for_scanning(threads=2, faces="fast", path=Path(name))
    search = face_search(detector.spec.faces, "fast", 2, searches_at_once("video", 2))
    assert search._searches[-1].networks is not None


def test_an_unknown_name_is_told_once_and_as_ever() -> None:
    with pytest.raises(UnknownDetectorError):
        load_for_scanning("nobody", threads=2)


@pytest.mark.parametrize(
    ("kind", "threads", "expected"),
    [
        ("image", 8, 0),
        ("video", 1, 0),
        ("video", 2, 2),
        ("video", 3, 2),
        ("video", 4, 2),
        ("video", 8, 4),
        ("video", 64, 4),
    ],
)
def test_how_many_frames_are_searched_at_once(kind: str, threads: int, expected: int) -> None:
    assert searches_at_once(kind, threads) == expected  # type: ignore[arg-type]
