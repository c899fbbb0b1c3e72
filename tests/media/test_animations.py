"""Animated pictures are short videos: all their pictures count, each at its time."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, features

from faceproof.errors import MediaCorruptError, MediaLimitError, MediaUnsupportedError
from faceproof.media import DecodeStats, Limits, probe, read_frames

KINDS: dict[str, dict[str, Any]] = {"GIF": {}, "PNG": {}, "WEBP": {"lossless": True}, "AVIF": {"quality": 100}}
COLOURS = [(250, 0, 0), (0, 250, 0), (0, 0, 250), (240, 240, 0), (0, 240, 240)]

if not features.check("avif"):
    del KINDS["AVIF"]


def pictures(number: int = 5) -> list[Image.Image]:
    """Each of one colour, with a mark that wanders: no picture equals the one before."""
    made = []
    for place in range(number):
        picture = Image.new("RGB", (32, 24), COLOURS[place % len(COLOURS)])
        picture.paste((255, 255, 255), (place % 28, 4, place % 28 + 4, 8))
        made.append(picture)
    return made


def animation(kind: str, durations: list[int] | int, number: int = 5, **options: Any) -> bytes:
    first, *others = pictures(number)
    buffer = io.BytesIO()
    first.save(buffer, kind, save_all=True, append_images=others, duration=durations, **KINDS[kind], **options)
    return buffer.getvalue()


def about(image: np.ndarray, colour: tuple[int, int, int]) -> bool:
    return bool(np.abs(image[12:].astype(int) - np.array(colour)).max() < 12)


@pytest.mark.parametrize("kind", KINDS)
def test_every_picture_comes_at_its_time(kind: str, tmp_path: Path) -> None:
    (tmp_path / "moving").write_bytes(animation(kind, [40, 120, 200, 40, 100]))
    info = probe(tmp_path / "moving")
    assert (info.kind, info.animation, info.several) == ("video", True, False)
    assert (info.frame_count, info.duration, info.fps) == (5, 0.5, Fraction(10))
    assert (info.width, info.height, info.codec, info.bit_rate) == (32, 24, kind.lower(), None)
    stats = DecodeStats()
    frames = list(read_frames(info, "all", stats=stats))
    assert [(frame.index, frame.time) for frame in frames] == [(0, 0.0), (1, 0.04), (2, 0.16), (3, 0.36), (4, 0.4)]
    assert all(about(frame.image, colour) for frame, colour in zip(frames, COLOURS, strict=True))
    assert all(frame.image.flags.writeable and frame.image.flags.c_contiguous for frame in frames)
    assert (stats.frames_decoded, stats.frames_failed) == (5, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_any_sampling_gives_the_very_frames_of_all(kind: str, tmp_path: Path) -> None:
    (tmp_path / "moving").write_bytes(animation(kind, 50, 12))
    whole = {frame.index: frame.image for frame in read_frames(tmp_path / "moving")}
    for sampling in ("3", "every:5", "40", [1, 7, 30], [11]):
        found = list(read_frames(tmp_path / "moving", sampling))
        wanted = {"3": [0, 5, 11], "every:5": [0, 5, 10], "40": [*range(12)]}
        assert [frame.index for frame in found] == (
            wanted[sampling] if isinstance(sampling, str) else [i for i in sampling if i < 12]
        )
        assert all(np.array_equal(frame.image, whole[frame.index]) for frame in found)


@settings(max_examples=25, deadline=None)
@given(durations=st.lists(st.integers(0, 60_000), min_size=2, max_size=6))
def test_times_are_the_sums_of_what_browsers_show(
    durations: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("sums") / "a.webp"
    path.write_bytes(animation("WEBP", durations, len(durations)))
    shown = [time if time > 10 else 100 for time in durations]
    info = probe(path)
    assert info.duration == sum(shown) / 1000
    assert [frame.time for frame in read_frames(info)] == [sum(shown[:i]) / 1000 for i in range(len(shown))]


def test_pictures_that_ask_for_no_time_are_shown_as_browsers_do(tmp_path: Path) -> None:
    (tmp_path / "a.gif").write_bytes(animation("GIF", 0))
    assert probe(tmp_path / "a.gif").duration == 0.5


def test_a_picture_beside_the_animation_is_no_part_of_it(tmp_path: Path) -> None:
    cover, *others = pictures(4)
    cover.save(tmp_path / "a.png", save_all=True, append_images=others, duration=50, default_image=True)
    info = probe(tmp_path / "a.png")
    assert (info.frame_count, info.duration) == (3, 0.15)
    assert about(next(iter(read_frames(info))).image, COLOURS[1])


def test_what_is_transparent_lies_over_the_picture_before_or_mid_grey(tmp_path: Path) -> None:
    first = Image.new("RGBA", (32, 24), (0, 0, 0, 0))
    first.paste((250, 0, 0, 255), (0, 0, 16, 24))
    second = Image.new("RGBA", (32, 24), (0, 0, 0, 0))
    second.paste((0, 250, 0, 255), (8, 0, 16, 24))
    first.save(tmp_path / "a.png", save_all=True, append_images=[second], duration=50, disposal=0, blend=1)
    one, two = (frame.image for frame in read_frames(tmp_path / "a.png"))
    assert (one[0, 4].tolist(), one[0, 20].tolist()) == ([250, 0, 0], [128, 128, 128])
    assert [two[0, x].tolist() for x in (4, 12, 20)] == [[250, 0, 0], [0, 250, 0], [128, 128, 128]]


@pytest.mark.parametrize("kind", KINDS)
def test_one_picture_is_no_animation(kind: str, tmp_path: Path) -> None:
    pictures(1)[0].save(tmp_path / "still", kind, **KINDS[kind])
    info = probe(tmp_path / "still")
    assert (info.kind, info.animation, info.duration) == ("image", False, None)


def test_pages_are_no_animation(tmp_path: Path) -> None:
    first, *others = pictures(3)
    first.save(tmp_path / "pages.tif", save_all=True, append_images=others)
    info = probe(tmp_path / "pages.tif")
    assert (info.kind, info.several) == ("image", True)
    (frame,) = read_frames(info)
    assert about(frame.image, COLOURS[0])


def test_the_caps_hold(tmp_path: Path) -> None:
    path = tmp_path / "a.gif"
    path.write_bytes(animation("GIF", 1000))
    assert probe(path, limits=Limits(max_duration=5)).duration == 5
    with pytest.raises(MediaLimitError, match="over the limit of 4 s"):
        probe(path, limits=Limits(max_duration=4))
    with pytest.raises(MediaLimitError, match="32x24"):
        probe(path, limits=Limits(max_pixels=700))


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_of_a_cut_off_animation_the_rest_counts_as_failed(kind: str, tmp_path: Path) -> None:
    whole = animation(kind, 100, 8)
    path = tmp_path / "cut"
    path.write_bytes(whole[: int(len(whole) * 0.6)])
    try:
        info = probe(path)
    except (MediaCorruptError, MediaUnsupportedError):
        assert kind == "WEBP"  # whose decoder wants the whole file
        return
    stats = DecodeStats()
    frames = list(read_frames(info, "all", stats=stats))
    assert 1 <= len(frames) < 8
    assert all(about(frame.image, COLOURS[frame.index % 5]) for frame in frames)
    assert info.frame_count == len(frames) + stats.frames_failed
    assert stats.frames_failed == (8 - len(frames) if kind == "PNG" else 1)


@pytest.mark.parametrize("kind", KINDS)
def test_damage_anywhere_is_a_typed_error_or_frames(
    kind: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    whole = animation(kind, 50)
    random = np.random.default_rng(7)
    path = tmp_path / "damaged"
    for turn in range(40):
        content = bytearray(whole[: random.integers(16, len(whole))] if turn % 2 else whole)
        for at in random.integers(12, len(content), 4):
            content[at] = random.integers(256)
        path.write_bytes(content)
        try:
            for frame in read_frames(path, limits=Limits(max_pixels=1_000_000)):
                assert frame.image.ndim == 3
        except (MediaCorruptError, MediaLimitError, MediaUnsupportedError) as error:
            assert error.remedy  # noqa: PT017
    assert capfd.readouterr() == ("", "")
