"""Frames nobody needs are not decoded, and nobody can tell."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from faceproof.media import DecodeStats, Frame, probe, read_frames, videos
from faceproof.media.skipping import Skipping, is_disposable, is_idr, nal_length

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

    def counting(*given: object) -> object:
        passes.append(0)
        for found in pictures(*given):  # type: ignore[arg-type]
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
    sparse, full = DecodeStats(), DecodeStats()
    for sampling in ("6", "every:4", "45"):
        ours = list(read_frames(path, sampling, stats=sparse))
        with monkeypatch.context() as patch:
            patch.setattr(Skipping, "pays", staticmethod(lambda *_: False))
            theirs = list(read_frames(path, sampling, stats=full))
        same(ours, theirs)
        assert full.frames_failed > 0
        assert sparse == full  # from the first damage on, nothing is skipped


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
