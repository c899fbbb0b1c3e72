"""Frames put aside on the way are the frames another reading gives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faceproof.media import DecodeStats, Frame, Sampling, SetAside, probe, read_frames

MakeVideo = Callable[..., Path]


def by_rule(indices: list[int]) -> Sampling:
    return Sampling("near", given=tuple(indices))


def same(one: list[Frame], other: list[Frame]) -> None:
    assert [(frame.index, frame.time) for frame in one] == [(frame.index, frame.time) for frame in other]
    assert all(np.array_equal(a.image, b.image) for a, b in zip(one, other, strict=True))


@settings(max_examples=25, deadline=None)
@given(choice=st.sets(st.integers(0, 89), min_size=2, max_size=30), data=st.data())
def test_two_readings_in_one(clip_mp4: Path, choice: set[int], data: st.DataObject) -> None:
    info = probe(clip_mp4)
    own = sorted(data.draw(st.sets(st.sampled_from(sorted(choice)), min_size=1)))
    rest = sorted(choice - set(own))
    aside = SetAside(rest)
    same(list(read_frames(info, by_rule(own), aside=aside)), list(read_frames(info, by_rule(own))))
    assert aside.complete
    same(list(aside.frames()), list(read_frames(info, by_rule(rest))))
    assert list(aside.frames()) == []


@pytest.mark.parametrize("what", ["garbage", "truncated"])
def test_every_frame_that_decodes_comes_once_from_a_damaged_video(what: str, damaged: dict[str, Path]) -> None:
    info = probe(damaged[what])
    whole = {frame.index: frame for frame in read_frames(info)}
    for step in (1, 2, 3, 7):
        every = list(range(0, 90, step))
        aside, stats = SetAside(every[::2]), DecodeStats()
        found = [*read_frames(info, by_rule(every[1::2]), aside=aside, stats=stats), *aside.frames()]
        assert len({frame.index for frame in found}) == len(found)
        same(found, [whole[frame.index] for frame in found])
        at_once = {frame.index for frame in read_frames(info, by_rule(every))}
        assert {frame.index for frame in found} == at_once
        assert stats.frames_failed > 0


def test_the_last_frame_that_decodes_stands_in_although_it_was_put_aside(clip_mp4: Path, tmp_path: Path) -> None:
    content = bytearray(clip_mp4.read_bytes())
    with av.open(str(clip_mp4)) as container:
        places = sorted((packet.pos, packet.size) for packet in container.demux(video=0) if packet.size)
    for place, size in places[60:]:
        content[place : place + size] = bytes(size)
    path = tmp_path / "damaged-end.mp4"
    path.write_bytes(content)
    info = probe(path)
    last = max(frame.index for frame in read_frames(info))
    assert last < 89
    aside = SetAside([last])
    assert [frame.index for frame in read_frames(info, by_rule([0, 89]), aside=aside)] == [0, last]
    assert list(aside.frames()) == []


def test_what_does_not_fit_is_left_to_another_reading(clip_mp4: Path) -> None:
    info = probe(clip_mp4)
    picture = info.width * info.height * 3 // 2
    for most, complete in ((picture - 1, False), (2 * picture, False), (40 * picture, True)):
        aside = SetAside(range(0, 80, 4), most)
        assert len(list(read_frames(info, by_rule([41, 89]), aside=aside))) == 2
        assert aside.complete is complete
        assert len(list(aside.frames())) == (20 if complete else 0)


def test_a_reading_that_was_left_is_not_complete(clip_mp4: Path) -> None:
    aside = SetAside([5, 60])
    frames = read_frames(clip_mp4, by_rule([10, 89]), aside=aside)
    assert next(frames).index == 10
    frames.close()  # type: ignore[attr-defined]
    assert not aside.complete


def test_animations_and_pictures_leave_it_to_another_reading(
    clip_frames: list[np.ndarray], astronaut_png: Path, tmp_path: Path
) -> None:
    from PIL import Image

    first, *others = [Image.fromarray(frame) for frame in clip_frames[:4]]
    first.save(tmp_path / "moving.gif", save_all=True, append_images=others, duration=40)
    for path in (tmp_path / "moving.gif", astronaut_png):
        aside = SetAside([1, 2])
        assert [frame.index for frame in read_frames(path, by_rule([0]), aside=aside)] == [0]
        assert not aside.complete
