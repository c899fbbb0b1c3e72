from __future__ import annotations

import hashlib
import os
import socket
from pathlib import Path

import pytest

from faceproof.errors import (
    FaceproofError,
    MediaEmptyError,
    MediaLimitError,
    MediaNotFoundError,
    MediaPermissionError,
    MediaUnsupportedError,
)
from faceproof.media import Limits, is_media_name, probe, read_frames, walk

ODD_NAMES = [
    "with space.mp4",
    "line\nbreak.mp4",
    "-y",
    "--help.mp4",
    "http:example.mp4",
    "concat:a|b.mp4",
    "file:x.mp4",
    "pipe:0",
    "%03d.mp4",
    "frame-*.png",
    "clip.txt",
    "no extension",
    "глаз.mp4",
    'it\'s "quoted".mp4',
    os.fsdecode(b"bytes-\xff\xfe.mp4"),
]


@pytest.mark.parametrize("name", ODD_NAMES, ids=ascii)
def test_a_name_is_only_a_name(name: str, clip_mp4: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / name).write_bytes(clip_mp4.read_bytes())
    monkeypatch.chdir(tmp_path)  # so that the name stands alone, without a folder before it
    info = probe(name)
    assert (info.kind, info.frame_count) == ("video", 90)
    assert [frame.index for frame in read_frames(name, "2")] == [0, 89]


def test_content_decides_not_the_name(clip_mp4: Path, astronaut_png: Path, tmp_path: Path) -> None:
    (tmp_path / "picture.mp4").write_bytes(astronaut_png.read_bytes())
    (tmp_path / "video.png").write_bytes(clip_mp4.read_bytes())
    assert probe(tmp_path / "picture.mp4").kind == "image"
    assert probe(tmp_path / "video.png").kind == "video"


def test_sha256_and_size_are_those_of_the_file(clip_mp4: Path) -> None:
    info = probe(clip_mp4)
    content = clip_mp4.read_bytes()
    assert (info.sha256, info.size_bytes) == (hashlib.sha256(content).hexdigest(), len(content))


def _raises(path: Path, kind: type[FaceproofError], part: str) -> None:
    with pytest.raises(kind) as caught:
        probe(path)
    assert type(caught.value) is kind
    assert part in caught.value.message
    assert caught.value.remedy
    with pytest.raises(kind):
        list(read_frames(path))


def test_a_missing_path(tmp_path: Path) -> None:
    _raises(tmp_path / "nobody.mp4", MediaNotFoundError, "does not exist")


def test_a_file_used_as_a_folder(clip_mp4: Path) -> None:
    _raises(clip_mp4 / "inside.mp4", MediaNotFoundError, "does not exist")


def test_a_name_that_is_too_long(tmp_path: Path) -> None:
    _raises(tmp_path / ("x" * 5000), MediaNotFoundError, "too long")


def test_a_name_with_a_nul() -> None:
    with pytest.raises(MediaNotFoundError):
        probe("a\0b.mp4")


def test_a_broken_symlink(tmp_path: Path) -> None:
    (tmp_path / "link.mp4").symlink_to(tmp_path / "gone.mp4")
    _raises(tmp_path / "link.mp4", MediaNotFoundError, "symbolic link")


def test_a_symlink_to_itself(tmp_path: Path) -> None:
    (tmp_path / "loop.mp4").symlink_to(tmp_path / "loop.mp4")
    _raises(tmp_path / "loop.mp4", MediaNotFoundError, "symbolic link")


def test_a_folder(tmp_path: Path) -> None:
    _raises(tmp_path, MediaUnsupportedError, "folder")


@pytest.mark.timeout(20)
def test_a_pipe_nobody_writes_to_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    _raises(tmp_path / "pipe.mp4", MediaUnsupportedError, "not a regular file")


def test_a_device() -> None:
    _raises(Path("/dev/zero"), MediaUnsupportedError, "not a regular file")


def test_a_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # socket paths are short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("s")
        _raises(Path("s"), MediaUnsupportedError, "not a regular file")


def test_no_permission(clip_mp4: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "secret.mp4"
    path.write_bytes(clip_mp4.read_bytes())
    path.chmod(0)
    if os.access(path, os.R_OK):  # root may read everything: let the system say no as it would to others

        def refuse(*args: object, **kwargs: object) -> int:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(os, "open", refuse)
    _raises(path, MediaPermissionError, "may not be read")


def test_an_empty_file(damaged: dict[str, Path]) -> None:
    _raises(damaged["empty"], MediaEmptyError, "is empty")


def test_the_cap_on_bytes(clip_mp4: Path) -> None:
    with pytest.raises(MediaLimitError, match="bytes"):
        probe(clip_mp4, limits=Limits(max_bytes=1000))


def test_messages_show_odd_names_on_one_line(tmp_path: Path) -> None:
    with pytest.raises(MediaNotFoundError) as caught:
        probe(tmp_path / "a\nb\x1b[31m\udcff.mp4")
    assert str(caught.value).isprintable()


def test_media_names() -> None:
    assert all(is_media_name(name) for name in ("a.MP4", Path("x/b.jpeg"), "c.webm", "-d.TIFF"))
    assert not any(is_media_name(name) for name in ("a.txt", "mp4", ".mp4", "a.mp4.part"))


def test_walk_finds_media_in_order_and_skips_the_rest(tmp_path: Path) -> None:
    for name in ("b.mp4", "a.jpg", "notes.txt", ".hidden.mp4", "sub/c.png", ".cache/d.mp4", "sub/deep/e.mov"):
        path = tmp_path / "folder" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    folder = tmp_path / "folder"
    found = [str(path.relative_to(folder)) for path in walk([folder])]
    assert found == ["a.jpg", "b.mp4", "sub/c.png", "sub/deep/e.mov"]


def test_walk_gives_what_was_named_whatever_its_name(tmp_path: Path) -> None:
    hidden = tmp_path / ".odd.bin"
    hidden.write_bytes(b"x")
    missing = tmp_path / "missing.mp4"
    assert list(walk([hidden, missing, hidden])) == [hidden, missing]


@pytest.mark.timeout(20)
def test_walk_ends_in_a_loop_of_links(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.mp4").write_bytes(b"x")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    assert list(walk([tmp_path])) == [tmp_path / "a" / "x.mp4"]
    found = list(walk([tmp_path / "a", tmp_path]))
    assert [path.resolve() for path in found] == [(tmp_path / "a" / "x.mp4").resolve()]
