"""Frames nobody needs are not decoded, and nobody can tell."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faceproof.media import DecodeStats, Frame, Limits, probe, read_frames, videos
from faceproof.media.skipping import (
    ResetSearch,
    Skipping,
    hevc_picture,
    is_av1_key,
    is_disposable,
    is_idr,
    is_vp9_key,
    nal_length,
)

MakeVideo = Callable[..., Path]
# GOPs of ten frames; IDRs that frames before them in the order of showing may not pass; and half the frames open GOPs.
WAYS = {
    "closed": {"bf": "3", "g": "10", "crf": "18"},
    "pyramid": {"bf": "5", "g": "30", "crf": "18", "x264-params": "b-pyramid=normal:b-adapt=0"},
    "open": {"bf": "3", "g": "12", "crf": "18", "x264-params": "open-gop=1"},
    "no-b": {"bf": "0", "g": "15", "crf": "18"},
}


@pytest.fixture(scope="module", params=[(way, ending) for way in WAYS for ending in ("mp4", "mkv", "ts")])
def clip(
    request: pytest.FixtureRequest,
    make_video: MakeVideo,
    clip_frames: list[np.ndarray],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    way, ending = request.param
    path = tmp_path_factory.mktemp("skipping") / f"{way}.{ending}"
    return make_video(path, [frame[::2, ::2] for frame in clip_frames[:60]], options=WAYS[way])


def same(one: list[Frame], other: list[Frame]) -> None:
    assert [frame.index for frame in one] == [frame.index for frame in other]
    for a, b in zip(one, other, strict=True):
        assert a.time == b.time
        assert np.array_equal(a.image, b.image)


def test_any_choice_of_frames_is_that_of_a_full_decode(clip: Path) -> None:
    info, whole = probe(clip), list(read_frames(clip))
    assert len(whole) == 60
    rng = np.random.default_rng(0)
    choices = [
        sorted(rng.choice(60, size, replace=False).tolist()) for size in (1, 2, 3, 5, 9, 20, 40) for _ in range(3)
    ]
    for wanted in [[0], [59], [58, 59], [29, 30, 31], *choices]:
        stats = DecodeStats()
        same(list(read_frames(info, wanted, stats=stats)), [whole[index] for index in wanted])
        assert stats.frames_failed == 0
        assert wanted[-1] + 1 <= stats.frames_decoded + stats.frames_skipped <= 60
    for sampling in ("2", "7", "every:9"):
        frames = list(read_frames(info, sampling))
        same(frames, [whole[frame.index] for frame in frames])


def sent(path: Path, wanted: list[int], monkeypatch: pytest.MonkeyPatch) -> int:
    """How many frames the decoder was given in the last pass."""
    passes: list[int] = []
    pictures = videos.decoded_pictures

    def counting(*given: object, **how: object) -> object:
        passes.append(0)
        for found in pictures(*given, **how):  # type: ignore[arg-type]
            passes[-1] += 1
            yield found

    with monkeypatch.context() as patch:
        patch.setattr(videos, "decoded_pictures", counting)
        stats = DecodeStats()
        assert [frame.index for frame in read_frames(path, wanted, stats=stats)] == wanted
    assert len(passes) == 1
    assert stats.frames_decoded == passes[0]
    return passes[0]


def test_what_nobody_needs_is_not_decoded(
    make_video: MakeVideo, clip_frames: list[np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = [frame[::2, ::2] for frame in clip_frames]
    short = make_video(tmp_path / "short.mp4", small, options={"bf": "3", "g": "10", "crf": "18", "sc_threshold": "0"})
    assert sent(short, [5, 85], monkeypatch) <= 14  # of the first and the ninth ten
    options = {"bf": "3", "g": "250", "crf": "18", "x264-params": "b-adapt=0:b-pyramid=none:scenecut=0"}
    long = make_video(tmp_path / "long.mp4", small, options=options)
    assert 20 <= sent(long, [0, 88], monkeypatch) <= 30  # three of four frames are B-frames without dependants
    assert sent(long, list(range(90)), monkeypatch) == 90


def meets_damage_as_in_full(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sparse, full = DecodeStats(), DecodeStats()
    for sampling in ("6", "every:4", "45"):
        ours = list(read_frames(path, sampling, stats=sparse))
        with monkeypatch.context() as patch:
            patch.setattr(Skipping, "pays", staticmethod(lambda *_: False))
            theirs = list(read_frames(path, sampling, stats=full))
        same(ours, theirs)
        assert full.frames_failed > 0
        assert sparse == full  # from the first damage on, nothing is skipped


def test_damage_is_met_as_in_a_full_decode(
    make_video: MakeVideo, clip_frames: list[np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_video(
        tmp_path / "clip.mp4", [f[::2, ::2] for f in clip_frames], options={"bf": "3", "g": "30", "crf": "18"}
    )
    content = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        spots = [(p.pos, p.size) for p in container.demux(video=0) if p.size and not p.is_keyframe and p.size > 40]
    at, size = max(spots[8:20], key=lambda spot: spot[1])  # a frame that others are predicted from
    content[at + 8 : at + size] = bytes(255 - byte for byte in content[at + 8 : at + size])
    path.write_bytes(content)
    meets_damage_as_in_full(path, monkeypatch)


def test_units_tell_what_depends_on_them(make_video: MakeVideo, clip_frames: list[np.ndarray], tmp_path: Path) -> None:
    options = {"bf": "3", "g": "30", "crf": "18", "x264-params": "b-adapt=0:b-pyramid=none"}
    kinds = {}
    for ending in ("mp4", "ts"):
        path = make_video(tmp_path / f"clip.{ending}", [f[::2, ::2] for f in clip_frames[:40]], options=options)
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            length = nal_length(stream)
            assert length == (4 if ending == "mp4" else 0)
            packets = [packet for packet in container.demux(stream) if packet.size]
            kinds[ending] = [(is_idr(packet, length), is_disposable(packet, length)) for packet in packets]
    assert kinds["mp4"] == kinds["ts"]
    assert [place for place, (idr, _) in enumerate(kinds["mp4"]) if idr] == [0, 30]
    assert 25 <= sum(disposable for _, disposable in kinds["mp4"]) <= 30


class _Packet(bytes):
    """As much of a packet as the bytes of it."""


@pytest.mark.parametrize("data", [b"", b"\0", b"\0\0\0\x09", b"\0\0\0\x02\x65", b"\0\0\1", b"\0\0\0\0" * 5])
@pytest.mark.parametrize("length", [0, 2, 4])
def test_a_packet_without_a_whole_unit_is_needed(data: bytes, length: int) -> None:
    assert not is_disposable(_Packet(data), length)
    assert hevc_picture(_Packet(data), length) is None
    assert not is_vp9_key(_Packet(data))
    assert not is_av1_key(_Packet(data))


# -- codecs beside H.264 ----------------------------------------------------------------------------------------

X265 = "log-level=none:pools=none:frame-threads=1:scenecut=0"
OTHERS: dict[str, tuple[str, str, dict[str, str]]] = {
    "hevc-closed.mp4": ("libx265", "yuv420p", {"x265-params": f"{X265}:keyint=12:bframes=3:open-gop=0"}),
    "hevc-open.mp4": ("libx265", "yuv420p", {"x265-params": f"{X265}:keyint=12:min-keyint=12:bframes=4:open-gop=1"}),
    "hevc-open.ts": ("libx265", "yuv420p", {"x265-params": f"{X265}:keyint=15:min-keyint=15:bframes=3:open-gop=1"}),
    "hevc-leading.mkv": (
        "libx265",
        "yuv420p",
        {"x265-params": f"{X265}:keyint=12:min-keyint=12:bframes=3:b-adapt=0:open-gop=0:radl=2"},
    ),
    "hevc-no-b.mkv": ("libx265", "yuv420p", {"x265-params": f"{X265}:keyint=20:bframes=0"}),
    "hevc-long.mp4": ("libx265", "yuv420p", {"x265-params": f"{X265}:keyint=250:bframes=4:b-adapt=0"}),
    "hevc-layers.mp4": (
        "libx265",
        "yuv420p10le",
        {"x265-params": f"{X265}:keyint=24:bframes=7:b-adapt=0:temporal-layers=3"},
    ),
    "vp9.webm": ("libvpx-vp9", "yuv420p", {"g": "12", "crf": "30", "deadline": "realtime", "cpu-used": "8"}),
    "vp9-hidden.mp4": (
        "libvpx-vp9",
        "yuv420p",
        {"g": "20", "crf": "30", "b": "0", "cpu-used": "8", "auto-alt-ref": "1", "lag-in-frames": "12"},
    ),
    "av1.mp4": ("libsvtav1", "yuv420p", {"g": "16", "preset": "12", "svtav1-params": "lp=1"}),
    "av1-open.mkv": ("libsvtav1", "yuv420p", {"preset": "12", "svtav1-params": "lp=1:keyint=16:irefresh-type=1"}),
}
# The most that are decoded for frames 2 and 87 of 90.
MOST = {
    "hevc-closed.mp4": 16,
    "hevc-open.mp4": 20,
    "hevc-open.ts": 20,
    "hevc-leading.mkv": 20,
    "hevc-no-b.mkv": 12,
    "hevc-long.mp4": 40,
    "hevc-layers.mp4": 30,
    "vp9.webm": 10,
    "vp9-hidden.mp4": 12,
    "av1.mp4": 30,
    "av1-open.mkv": 90,
}


@contextmanager
def ordinary_priority() -> Iterator[None]:
    """SVT-AV1 run by root makes the process a real-time one: all tests after it would starve the rest."""
    yield
    if hasattr(os, "sched_setscheduler"):
        for task in Path("/proc/self/task").iterdir():
            with suppress(ProcessLookupError):  # threads end
                os.sched_setscheduler(int(task.name), os.SCHED_OTHER, os.sched_param(0))
        assert os.sched_getscheduler(0) == os.SCHED_OTHER


@pytest.fixture(scope="module", params=OTHERS)
def other(
    request: pytest.FixtureRequest,
    make_video: MakeVideo,
    clip_frames: list[np.ndarray],
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, list[Frame]]:
    codec, pixels, options = OTHERS[request.param]
    if codec not in av.codecs_available:
        pytest.skip(f"no {codec}")
    path = tmp_path_factory.mktemp("others") / request.param
    with ordinary_priority():
        make_video(path, [frame[::2, ::2] for frame in clip_frames], codec=codec, pix_fmt=pixels, options=options)
    whole = list(read_frames(path))
    assert [frame.index for frame in whole] == list(range(90))
    return path, whole


@settings(max_examples=15, deadline=None)
@given(wanted=st.sets(st.integers(0, 89), min_size=1, max_size=12).map(sorted))
def test_any_choice_of_other_codecs_is_that_of_a_full_decode(
    other: tuple[Path, list[Frame]], wanted: list[int]
) -> None:
    path, whole = other
    stats = DecodeStats()
    same(list(read_frames(path, wanted, stats=stats)), [whole[index] for index in wanted])
    assert stats.frames_failed == 0
    assert wanted[-1] + 1 <= stats.frames_decoded + stats.frames_skipped <= 90


def test_other_codecs_leave_out_what_nobody_needs(
    other: tuple[Path, list[Frame]], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = other
    assert sent(path, [2, 87], monkeypatch) <= MOST[path.name]
    assert sent(path, list(range(90)), monkeypatch) == 90


@pytest.mark.skipif("libx265" not in av.codecs_available, reason="no libx265")
def test_damage_in_hevc_is_met_as_in_a_full_decode(
    make_video: MakeVideo, clip_frames: list[np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec, _, options = OTHERS["hevc-long.mp4"]
    path = make_video(tmp_path / "clip.mp4", [f[::2, ::2] for f in clip_frames], codec=codec, options=options)
    content = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        stored = [(p.pos, p.size, hevc_picture(p, 4)) for p in container.demux(video=0) if p.size]
    at, size, _ = [spot for spot in stored if spot[2] is not None and spot[2].kind == 1][5]
    content[at + 6 : at + size] = bytes(255 - byte for byte in content[at + 6 : at + size])
    path.write_bytes(content)
    meets_damage_as_in_full(path, monkeypatch)


@pytest.mark.skipif("libx265" not in av.codecs_available, reason="no libx265")
def test_hevc_whose_units_leave_a_doubt_is_decoded_whole(
    make_video: MakeVideo, clip_frames: list[np.ndarray], tmp_path: Path
) -> None:
    codec, _, options = OTHERS["hevc-closed.mp4"]
    path = make_video(tmp_path / "clip.mp4", [f[::2, ::2] for f in clip_frames[:30]], codec=codec, options=options)

    def found(change: Callable[[int, bytes], bytes], moved: int = 0) -> tuple[bool, int]:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            search = ResetSearch(stream)
            for place, packet in enumerate(p for p in container.demux(stream) if p.size):
                tick = packet.pts + (moved if place == 1 else 0)
                search.add(_Packet(change(place, bytes(packet))), tick)
        resets = search.found()
        return resets.trusted, len(resets.ticks)

    def unit(*content: int) -> bytes:
        return len(content).to_bytes(4, "big") + bytes(content)

    grain, sets = unit(39 << 1, 1, 19, 0), unit(34 << 1, 1, 0)
    assert found(lambda _, data: data) == (True, 3)
    assert not found(lambda place, data: grain + data if not place else data)[0]
    assert not found(lambda place, data: sets + data if place == 5 else data)[0]
    assert not found(lambda place, data: sets + data if not place else data)[0]  # later ones come without
    assert not found(lambda place, data: data[:5] if place == 5 else data)[0]
    assert not found(lambda place, data: data + data if place == 5 else data)[0]  # in more than one slice
    assert found(lambda _, data: data, moved=10**9) == (True, 0)  # shown after frames that reset everything


def _tags(flv: Path) -> list[bytearray]:
    content, at, tags = flv.read_bytes(), 13, []
    while at + 11 <= len(content):
        end = at + 11 + int.from_bytes(content[at + 1 : at + 4], "big")
        tags.append(bytearray(content[at:end]))
        at = end + 4
    return tags


def test_settings_that_change_on_the_way_are_not_left_out(
    make_video: MakeVideo, clip_frames: list[np.ndarray], tmp_path: Path
) -> None:
    """A live recording whose encoder was set anew says so once. The colours tell: nothing else fails where it is missed."""
    parts = [
        make_video(
            tmp_path / f"{offset}.flv",
            clip_frames[:40],
            rate=20,
            options={"bf": "2", "g": "10", "crf": "18", "x264-params": f"chroma-qp-offset={offset}"},
        )
        for offset in (12, -12)
    ]
    content = parts[0].read_bytes()[:13]
    for place, part in enumerate(parts):
        for tag in _tags(part):
            if (tag[0] == 18 and place) or (tag[0] == 9 and tag[12] == 2):
                continue  # what the file is, and the end of the sequence
            tag[4:7] = (int.from_bytes(tag[4:7], "big") + 2000 * place).to_bytes(3, "big")
            content += bytes(tag) + len(tag).to_bytes(4, "big")
    path = tmp_path / "joined.flv"
    path.write_bytes(content)
    info, whole = probe(path), {frame.index: frame for frame in read_frames(path)}
    assert len(whole) == 80
    for sampling in ("3", [75], [15, 79]):
        chosen = list(read_frames(info, sampling))
        same(chosen, [whole[frame.index] for frame in chosen])


def test_vp9_and_av1_keys_are_told_by_their_first_bits() -> None:
    assert is_vp9_key(_Packet(b"\x82"))
    assert is_vp9_key(_Packet(b"\xb1"))  # profile 3
    assert not any(is_vp9_key(_Packet(bytes([first]))) for first in (0x80, 0x86, 0x8A, 0x88, 0xB2, 0x42))
    sequence, key = b"\x0a\x01\x00", b"\x32\x01\x10"
    assert is_av1_key(_Packet(b"\x12\x00" + sequence + key))
    assert is_av1_key(_Packet(sequence + b"\x36\x00\x01\x10"))  # with an extension
    assert not is_av1_key(_Packet(key))  # which sequence?
    for first in (0x00, 0x30, 0x90):  # hidden, of frames before, shown anew
        assert not is_av1_key(_Packet(sequence + b"\x32\x01" + bytes([first])))


def test_damage_gives_the_same_pixels_every_time(
    make_video: MakeVideo, clip_frames: list[np.ndarray], tmp_path: Path
) -> None:
    """Decoding threads read on in frames that another one gave up, as far as it had come by chance."""
    small = [frame[::2, ::2] for frame in clip_frames]
    path = make_video(tmp_path / "clip.mp4", small, options={"bf": "2", "g": "45", "crf": "18"})
    whole = path.read_bytes()
    told = set()
    for seed in range(6):
        content, draw = bytearray(whole), np.random.default_rng(seed)
        for place in draw.integers(len(whole) // 4, len(whole) * 3 // 4, 3):
            content[place] ^= 1 << int(draw.integers(8))
        path.write_bytes(content)
        limits = Limits(threads=4)
        info = probe(path, limits=limits)
        readings = [{f.index: f.image.tobytes() for f in read_frames(info, "all", limits=limits)} for _ in range(4)]
        assert all(one == readings[0] for one in readings), seed
        for frame in read_frames(info, "9", limits=limits):
            assert frame.image.tobytes() == readings[0][frame.index], (seed, frame.index)
        told.add(len(readings[0]))
    assert told != {len(clip_frames)}, "nothing was damaged"
