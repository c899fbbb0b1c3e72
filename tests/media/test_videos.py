from __future__ import annotations

import os
import pickle
import shutil
from array import array
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from faceproof.errors import (
    MediaCorruptError,
    MediaEmptyError,
    MediaError,
    MediaLimitError,
    MediaUnsupportedError,
    NoVideoStreamError,
    OptionError,
)
from faceproof.media import DecodeStats, Frame, Limits, MediaInfo, probe, read_frames
from faceproof.media.facts import Timeline
from faceproof.media.videos import _is_shown

NTSC = Fraction(30000, 1001)
MakeVideo = Callable[..., Path]
VARIANTS = ["mov", "mkv", "webm", "avi", "avi_h264", "mjpeg", "ts"]


def which(image: np.ndarray, originals: Sequence[np.ndarray]) -> int:
    """The original a decoded frame looks most like."""
    errors = [float(np.abs(image.astype(np.int16) - original).mean()) for original in originals]
    assert min(errors) < 12
    return int(np.argmin(errors))


def check(frames: Sequence[Frame], originals: Sequence[np.ndarray]) -> None:
    """Each frame is what its index says, and all are as promised."""
    for frame in frames:
        near = range(max(0, frame.index - 3), min(len(originals), frame.index + 4))
        assert which(frame.image, [originals[i] for i in near]) == frame.index - near.start
        assert frame.image.dtype == np.uint8
        assert frame.image.flags.c_contiguous
        assert frame.image.flags.writeable
    indices = [frame.index for frame in frames]
    assert indices == sorted(set(indices))


# -- what a video is --------------------------------------------------------------------------------------------


def test_probe_says_what_the_video_is(clip_mp4: Path) -> None:
    info = probe(clip_mp4)
    assert (info.kind, info.width, info.height, info.rotation) == ("video", 320, 240, 0)
    assert (info.fps, info.frame_count, info.codec) == (NTSC, 90, "h264")
    assert info.duration == pytest.approx(90 * 1001 / 30000)
    assert info.container.startswith("mov,mp4")
    assert info.bit_rate is not None
    assert info.path == clip_mp4


def test_media_info_travels_between_processes(clip_mp4: Path) -> None:
    info = probe(clip_mp4)
    copy = pickle.loads(pickle.dumps(info))
    assert copy == info
    assert hash(copy) == hash(info)
    assert len(list(read_frames(copy, "3"))) == 3


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_container_gives_the_same_frames(
    variant: str, clip_variants: dict[str, Path], clip_frames: list[np.ndarray]
) -> None:
    info = probe(clip_variants[variant])
    assert (info.width, info.height, info.frame_count, info.fps) == (320, 240, 90, NTSC)
    stats = DecodeStats()
    frames = list(read_frames(info, stats=stats))
    assert [frame.index for frame in frames] == list(range(90))
    assert [frame.time for frame in frames] == pytest.approx([i * 1001 / 30000 for i in range(90)], abs=1e-3)
    assert info.duration == pytest.approx(90 * 1001 / 30000, abs=2e-3)
    assert (stats.frames_decoded, stats.frames_failed) == (90, 0)
    check(frames[::6], clip_frames)


def test_b_frames_come_in_the_order_of_showing(clip_mp4: Path, clip_frames: list[np.ndarray]) -> None:
    with av.open(str(clip_mp4)) as container:
        stored = [packet.pts for packet in container.demux(video=0) if packet.size]
    assert stored != sorted(stored)
    check(list(read_frames(clip_mp4)), clip_frames)


def test_variable_frame_rate_keeps_its_times(clip_vfr_mkv: Path, clip_frames: list[np.ndarray]) -> None:
    frames = list(read_frames(clip_vfr_mkv))
    assert [frame.time for frame in frames] == pytest.approx([(i * 20 + i * i) / 1000 for i in range(60)], abs=1e-3)
    check(frames, clip_frames[:60])
    sparse = list(read_frames(clip_vfr_mkv, "4"))
    assert [frame.index for frame in sparse] == [0, 19, 39, 59]
    assert sparse[2].time == pytest.approx((39 * 20 + 39 * 39) / 1000, abs=1e-3)


@pytest.mark.parametrize("start", [0, 40, 5000])
def test_times_start_at_the_first_frame(
    start: int, make_video: MakeVideo, clip_frames: list[np.ndarray], tmp_path: Path
) -> None:
    path = make_video(
        tmp_path / "late.mkv",
        clip_frames[:10],
        pts=[start + 40 * i for i in range(10)],
        time_base=Fraction(1, 1000),
        options={"bf": "2"},
    )
    frames = list(read_frames(path))
    assert [frame.index for frame in frames] == list(range(10))
    assert [frame.time for frame in frames] == pytest.approx([0.04 * i for i in range(10)], abs=1e-3)


def test_times_before_zero_count_from_the_first_too() -> None:
    timeline = Timeline(array("q", [-90, -60, -30, 0, 30]), Fraction(1, 30), by_position=False)
    assert [timeline.time(i) for i in range(5)] == [0, 1, 2, 3, 4]


def moved(source: Path, target: Path, seconds: int) -> bytes:
    """The same transport stream, its clock set forward."""
    with av.open(str(source)) as given, av.open(str(target), "w", format="mpegts") as made:
        old = given.streams.video[0]
        stream = made.add_stream_from_template(old)
        for packet in given.demux(old):
            if packet.dts is not None and packet.pts is not None:
                shift = round(seconds / packet.time_base)
                packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, stream
                made.mux(packet)
    return target.read_bytes()


@pytest.mark.parametrize(
    ("ending", "codec", "first", "clock"),
    [("ts", "libx264", 60, 0), ("ts", "libx264", 60, 1000), ("ts", "libx264", 10, 20), ("mpg", "mpeg2video", 60, 0)],
)
def test_of_recordings_joined_end_to_end_all_are_seen(
    ending: str,
    codec: str,
    first: int,
    clock: int,
    make_video: MakeVideo,
    clip_frames: list[np.ndarray],
    tmp_path: Path,
) -> None:
    """Each begins its clock anew, or it jumps by hours; ``clock``: seconds by which the first one's is ahead."""
    shots = clip_frames[:first], clip_frames[::-1][:30]
    options = {"bf": "2", "g": "12"} | ({"qmax": "4"} if codec == "mpeg2video" else {"crf": "18"})
    parts = [
        make_video(tmp_path / f"{i}.{ending}", shot, codec=codec, rate=30, options=options)
        for i, shot in enumerate(shots)
    ]
    head = moved(parts[0], tmp_path / "moved.ts", clock) if clock else parts[0].read_bytes()
    path = tmp_path / f"joined.{ending}"
    path.write_bytes(head + parts[1].read_bytes())
    info, stats = probe(path), DecodeStats()
    frames = list(read_frames(info, stats=stats))
    assert (info.frame_count, stats) == (first + 30, DecodeStats(frames_decoded=first + 30))
    check(frames, [*shots[0], *shots[1]])
    times = [frame.time for frame in frames]
    assert times == pytest.approx([i / 30 for i in range(first + 30)], abs=2 / 30)
    assert [f.index for f in read_frames(info, "9")] == [int(i) for i in np.linspace(0, first + 29, 9, dtype=np.int64)]


def test_a_raw_stream_without_times_is_counted(
    make_video: MakeVideo, clip_frames: list[np.ndarray], tmp_path: Path
) -> None:
    path = make_video(tmp_path / "raw.h264", clip_frames[:20], options={"bf": "2"}, rate=25)
    info = probe(path)
    frames = list(read_frames(info))
    assert (info.frame_count, info.fps) == (20, 25)
    assert [frame.time for frame in frames] == pytest.approx([i / 25 for i in range(20)])
    check(frames, clip_frames[:20])


def test_a_lying_display_matrix_stands_the_video_up(clip_rotated_mp4: Path, clip_frames: list[np.ndarray]) -> None:
    info = probe(clip_rotated_mp4)
    assert (info.width, info.height, info.rotation) == (180, 240, 90)
    check(list(read_frames(info)), [frame[:, 70:250] for frame in clip_frames[:10]])


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("degrees", [0, 90, 180, -90])
def test_all_turns_and_mirrors_follow_ffmpeg(
    degrees: int, mirrored: bool, make_video: MakeVideo, clip_frames: list[np.ndarray], tmp_path: Path
) -> None:
    path = make_video(tmp_path / "turned.mp4", clip_frames[:2], rotation=degrees, hflip=mirrored)
    (stored,) = (f.to_ndarray(format="rgb24") for f in list(av.open(str(path)).decode(video=0))[:1])
    matrix = np.eye(2)
    turn = np.deg2rad(-degrees)  # FFmpeg's matrix turns by -degrees in a picture whose y points down
    matrix = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    if mirrored:
        matrix = matrix @ np.diag([-1.0, 1.0])
    (frame, *_) = read_frames(path)
    height, width = stored.shape[:2]
    for x, y in ((10, 20), (300, 30), (50, 200), (160, 120)):  # follow single pixels to where they are shown
        centred = np.array([x - (width - 1) / 2, y - (height - 1) / 2])
        moved = centred @ matrix
        size = np.array([frame.image.shape[1], frame.image.shape[0]])
        to = np.rint(moved + (size - 1) / 2).astype(int)
        assert np.array_equal(frame.image[to[1], to[0]], stored[y, x])


def test_pixels_that_are_not_square_stay_as_stored(
    make_video: MakeVideo, clip_frames: list[np.ndarray], tmp_path: Path
) -> None:
    path = make_video(tmp_path / "wide.mp4", clip_frames[:3], sample_aspect_ratio=Fraction(4, 3))
    assert (probe(path).width, probe(path).height) == (320, 240)
    assert next(iter(read_frames(path))).image.shape == (240, 320, 3)


@pytest.mark.parametrize("colour", [(255, 0, 0), (0, 255, 0), (0, 0, 255), (250, 250, 250)])
@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv444p"])
def test_channels_are_red_green_blue(
    colour: tuple[int, int, int], pix_fmt: str, make_video: MakeVideo, tmp_path: Path
) -> None:
    plain = np.full((48, 64, 3), colour, np.uint8)
    path = make_video(tmp_path / "plain.mp4", [plain] * 2, pix_fmt=pix_fmt, options={"crf": "1"})
    for frame in read_frames(path):
        assert np.abs(frame.image.astype(int) - plain).max() <= 8


def test_colours_are_those_opencv_gives(clip_mp4: Path) -> None:
    """The published detectors were trained and measured on frames read through OpenCV."""
    capture = cv2.VideoCapture(str(clip_mp4))
    for frame in read_frames(clip_mp4, range(10)):
        found, theirs = capture.read()
        assert found
        assert np.abs(frame.image.astype(int) - theirs[:, :, ::-1]).max() <= 1
    capture.release()


@pytest.mark.parametrize("size", [(34, 50), (2, 2), (16, 1042)])
def test_odd_strides_are_cut_off(size: tuple[int, int], make_video: MakeVideo, tmp_path: Path) -> None:
    width, height = size
    ramp = np.repeat(np.linspace(0, 255, width).astype(np.uint8)[None, :, None], height, 0).repeat(3, 2)
    path = make_video(tmp_path / "odd.mkv", [np.ascontiguousarray(ramp)] * 2, codec="ffv1", pix_fmt="bgr0")
    for frame in read_frames(path):
        assert np.array_equal(frame.image, ramp)


def test_one_frame_is_a_video(make_video: MakeVideo, clip_frames: list[np.ndarray], tmp_path: Path) -> None:
    path = make_video(tmp_path / "one.mp4", clip_frames[:1])
    assert probe(path).frame_count == 1
    for sampling in ("all", "1", "32", "every:5", [0]):
        assert [frame.index for frame in read_frames(path, sampling)] == [0]


def test_vp8_frames_that_are_never_shown_do_not_count() -> None:
    class Packet(bytes):
        is_discard = False

        @property
        def size(self) -> int:
            return len(self)

    assert _is_shown("vp8", Packet(b"\x10\0"))
    assert not _is_shown("vp8", Packet(b"\x01\0"))
    assert _is_shown("h264", Packet(b"\x01\0"))
    assert not _is_shown("h264", Packet(b""))


def test_trimmed_frames_are_neither_counted_nor_shown(
    clip_mp4: Path, clip_frames: list[np.ndarray], tmp_path: Path
) -> None:
    """An edit list that starts in the middle of a group of pictures, as phones write when they trim."""
    path = tmp_path / "trimmed.mp4"
    with av.open(str(clip_mp4)) as source, av.open(str(path), "w") as target:
        video = source.streams.video[0]
        stream = target.add_stream_from_template(video)
        for packet in source.demux(video):
            if packet.dts is not None:
                packet.pts -= 10 * 1001  # ten frames before zero: the muxer writes an edit that skips them
                packet.dts -= 10 * 1001
                packet.stream = stream
                target.mux(packet)
    info = probe(path)
    stats = DecodeStats()
    frames = list(read_frames(info, stats=stats))
    assert len(frames) == info.frame_count == stats.frames_decoded
    assert stats.frames_failed == 0
    first = which(frames[0].image, clip_frames[:20])
    assert first == 10
    assert [frame.time for frame in frames] == pytest.approx([i * 1001 / 30000 for i in range(len(frames))], abs=1e-3)
    assert which(frames[30].image, clip_frames[25:45]) + 25 == 30 + first


# -- sampling ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampling", ["1", "2", "7", "32", "89", "90", "1000", "every:1", "every:10", "every:200"])
def test_sampled_frames_are_those_of_the_whole(sampling: str, clip_mp4: Path) -> None:
    whole = {frame.index: frame for frame in read_frames(clip_mp4)}
    number = sampling.removeprefix("every:")
    every = sampling != number
    wanted = range(0, 90, int(number)) if every else np.unique(np.linspace(0, 89, int(number), dtype=int))
    frames = list(read_frames(clip_mp4, sampling))
    assert [frame.index for frame in frames] == list(wanted)
    for frame in frames:
        assert frame.time == whole[frame.index].time
        assert np.array_equal(frame.image, whole[frame.index].image)


def test_given_indices_are_exact(clip_mp4: Path) -> None:
    stats = DecodeStats(5, 5)
    assert [frame.index for frame in read_frames(clip_mp4, [40, 3, 3], stats=stats)] == [3, 40]
    assert (stats.frames_decoded + stats.frames_skipped, stats.frames_failed) == (41, 0)
    assert [frame.index for frame in read_frames(clip_mp4, [89, 90, 5000])] == [89]
    assert list(read_frames(clip_mp4, [5000])) == []
    assert list(read_frames(clip_mp4, [])) == []


def test_a_wrong_sampling_fails_before_anything_is_opened(tmp_path: Path) -> None:
    with pytest.raises(OptionError):
        read_frames(tmp_path / "nothing", "every:0")


def test_a_file_changed_since_it_was_probed_is_counted_again(
    clip_mp4: Path, clip_vfr_mkv: Path, tmp_path: Path
) -> None:
    path = tmp_path / "clip"
    shutil.copy(clip_mp4, path)
    info = probe(path)
    shutil.copy(clip_vfr_mkv, path)
    assert [frame.index for frame in read_frames(info, "2")] == [0, 59]


def test_info_made_by_hand_is_enough(clip_mp4: Path) -> None:
    known = probe(clip_mp4)
    fields = {name: getattr(known, name) for name in MediaInfo.__dataclass_fields__ if name != "timeline"}
    assert [frame.index for frame in read_frames(MediaInfo(**fields), "2")] == [0, 89]


# -- damage -----------------------------------------------------------------------------------------------------


def test_of_a_truncated_video_the_rest_is_read_and_the_loss_counted(
    damaged: dict[str, Path], clip_frames: list[np.ndarray]
) -> None:
    info = probe(damaged["truncated"])
    assert info.frame_count == 90
    stats = DecodeStats()
    frames = list(read_frames(info, stats=stats))
    assert 20 < len(frames) < 60
    assert stats.frames_decoded == len(frames)
    assert stats.frames_decoded + stats.frames_failed == 90
    check(frames, clip_frames)


def test_sampling_a_truncated_video_spreads_over_what_is_there(
    damaged: dict[str, Path], clip_frames: list[np.ndarray]
) -> None:
    last = [frame.index for frame in read_frames(damaged["truncated"])][-1]
    stats = DecodeStats()
    frames = list(read_frames(damaged["truncated"], "8", stats=stats))
    assert len(frames) == 8
    assert (frames[0].index, frames[-1].index) == (0, last)
    assert stats.frames_decoded + stats.frames_failed == 90
    check(frames, clip_frames)


def test_frames_behind_a_damaged_spot_keep_their_place(damaged: dict[str, Path], clip_frames: list[np.ndarray]) -> None:
    stats = DecodeStats()
    frames = list(read_frames(damaged["garbage"], stats=stats))
    assert stats.frames_failed > 0
    assert stats.frames_decoded + stats.frames_failed == 90
    present = {frame.index for frame in frames}
    lost = sorted(set(range(90)) - present)
    assert len(lost) == stats.frames_failed
    check([frame for frame in frames if frame.index >= 60], clip_frames)  # from the next key frame on
    # A lost frame asked for by rule is replaced by the next whole one; asked for by name it is left out.
    assert [frame.index for frame in read_frames(damaged["garbage"], [0, lost[0], 89])] == [0, 89]
    ruled = [frame.index for frame in read_frames(damaged["garbage"], "90")]
    assert ruled == sorted(present)
    stand_in = min(index for index in present if index > lost[0])
    assert stand_in in [frame.index for frame in read_frames(damaged["garbage"], f"every:{lost[0]}")]


def test_a_damaged_beginning_is_skipped(clip_mp4: Path, clip_frames: list[np.ndarray], tmp_path: Path) -> None:
    content = bytearray(clip_mp4.read_bytes())
    with av.open(str(clip_mp4)) as container:
        keys = [packet.pos for packet in container.demux(video=0) if packet.size and packet.is_keyframe]
    assert len(keys) >= 2
    content[keys[0] : keys[1]] = bytes(keys[1] - keys[0])
    path = tmp_path / "no-beginning.mp4"
    path.write_bytes(content)
    stats = DecodeStats()
    frames = list(read_frames(path, "1", stats=stats))
    assert len(frames) == 1
    assert frames[0].index >= 20
    assert stats.frames_failed == frames[0].index
    assert list(read_frames(path, [0])) == []
    check(list(read_frames(path))[10:], clip_frames)


WRONG = {
    "header_only": MediaCorruptError,
    "no_index": MediaCorruptError,
    "empty": MediaEmptyError,
    "no_frames": MediaEmptyError,
    "text": MediaUnsupportedError,
    "noise": MediaUnsupportedError,
    "audio_only": NoVideoStreamError,
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_said(what: str, damaged: dict[str, Path]) -> None:
    for use in (probe, lambda path: list(read_frames(path))):
        with pytest.raises(MediaError) as caught:
            use(damaged[what])
        assert type(caught.value) is WRONG[what]
        assert caught.value.remedy


def test_a_video_of_which_nothing_decodes_is_corrupt(clip_mp4: Path, tmp_path: Path) -> None:
    content = bytearray(clip_mp4.read_bytes())
    body = content.index(b"mdat") + 4
    content[body:] = bytes(len(content) - body)
    (tmp_path / "zeros.mp4").write_bytes(content)
    with pytest.raises(MediaCorruptError) as caught:
        probe(tmp_path / "zeros.mp4")
    assert caught.value.remedy


@pytest.mark.timeout(60)
@pytest.mark.parametrize("variant", ["mp4", *VARIANTS])
def test_damage_anywhere_ends_in_frames_or_a_typed_error(
    variant: str,
    clip_mp4: Path,
    clip_variants: dict[str, Path],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    whole = ({"mp4": clip_mp4} | clip_variants)[variant].read_bytes()
    random = np.random.default_rng(11)
    path = tmp_path / "damaged"
    for turn in range(12):
        content = bytearray(whole[: random.integers(100, len(whole))] if turn % 3 == 2 else whole)
        spots = (8, 200, 3)[turn % 3]
        for at in random.integers(12 if turn < 6 else len(content) // 8, len(content), spots):
            content[at] = random.integers(256)
        path.write_bytes(content)
        stats = DecodeStats()
        try:
            info = probe(path)
            frames = [(frame.index, frame.time) for frame in read_frames(info, stats=stats)]
        except MediaError as error:
            assert error.remedy  # noqa: PT017
            continue
        assert len(frames) == stats.frames_decoded > 0
        assert stats.frames_decoded + stats.frames_failed >= (info.frame_count or 0)
        assert [index for index, _ in frames] == sorted({index for index, _ in frames})
        assert [time for _, time in frames] == sorted(time for _, time in frames)
    assert capfd.readouterr() == ("", "")


# -- untrusted files --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["list.m3u8", "list.mp4", "list.ffconcat"])
@pytest.mark.parametrize(
    "text",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{path}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile '{path}'\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period/></MPD>',
    ],
    ids=["hls", "concat", "sdp", "dash"],
)
def test_files_that_point_to_other_files_are_refused(name: str, text: str, clip_mp4: Path, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text.format(path=clip_mp4))
    with pytest.raises(MediaUnsupportedError):
        probe(tmp_path / name)


def test_a_picture_on_a_record_sleeve_is_no_video(clip_frames: list[np.ndarray], damaged: dict[str, Path]) -> None:
    path = damaged["audio_only"].with_name("sleeve.m4a")
    with av.open(str(damaged["audio_only"])) as source, av.open(str(path), "w", format="mp4") as target:
        sound = target.add_stream_from_template(source.streams.audio[0])
        art = target.add_stream("mjpeg", rate=1)
        art.width, art.height, art.pix_fmt = 320, 240, "yuvj420p"
        art.disposition = av.stream.Disposition.attached_pic
        target.mux(art.encode(av.VideoFrame.from_ndarray(clip_frames[0], format="rgb24")))
        target.mux(art.encode(None))
        for packet in source.demux(audio=0):
            if packet.dts is not None:
                packet.stream = sound
                target.mux(packet)
    with av.open(str(path)) as container:
        assert [stream.type for stream in container.streams.video] == ["video"]
    with pytest.raises(NoVideoStreamError):
        probe(path)


def test_the_cap_on_pixels(clip_mp4: Path) -> None:
    tight = Limits(max_pixels=320 * 240 - 1)
    for use in (lambda: probe(clip_mp4, limits=tight), lambda: list(read_frames(clip_mp4, limits=tight))):
        with pytest.raises(MediaLimitError, match="320x240"):
            use()
    with pytest.raises(MediaLimitError):
        list(read_frames(probe(clip_mp4), limits=tight))


@pytest.mark.parametrize("variant", ["mkv", "ts", "avi"])
def test_the_cap_on_duration(variant: str, clip_variants: dict[str, Path]) -> None:
    with pytest.raises(MediaLimitError, match="over the limit of 2 s"):
        probe(clip_variants[variant], limits=Limits(max_duration=2))
    assert probe(clip_variants[variant], limits=Limits(max_duration=3.1)).frame_count == 90


def test_a_stream_that_outgrows_its_header_is_refused(
    make_video: MakeVideo, clip_frames: list[np.ndarray], tmp_path: Path
) -> None:
    """Two raw streams behind each other: the header says 160 x 120, half-way it becomes 2560 x 1920."""
    small = [np.ascontiguousarray(frame[::2, ::2]) for frame in clip_frames[:5]]
    large = [np.zeros((1920, 2560, 3), np.uint8)] * 2
    first = make_video(tmp_path / "small.h264", small, rate=25).read_bytes()
    second = make_video(tmp_path / "large.h264", large, rate=25).read_bytes()
    path = tmp_path / "grows.h264"
    path.write_bytes(first + second)
    assert probe(path).width == 160
    sizes = [frame.image.shape[:2] for frame in read_frames(path)]
    assert sizes == [(120, 160)] * 5 + [(1920, 2560)] * 2
    with pytest.raises(MediaLimitError, match="2560x1920"):
        list(read_frames(path, limits=Limits(max_pixels=3_000_000)))
    stats = DecodeStats()  # far over: the decoder itself refuses, and the frames count as failed
    assert 0 < len(list(read_frames(path, limits=Limits(max_pixels=160 * 120), stats=stats))) <= 5
    assert stats.frames_decoded + stats.frames_failed == 7


def test_a_codec_nobody_needs_is_refused(make_video: MakeVideo, clip_frames: list[np.ndarray], tmp_path: Path) -> None:
    path = make_video(tmp_path / "old.avi", clip_frames[:2], codec="asv1")
    with pytest.raises(MediaUnsupportedError, match="asv1"):
        probe(path)


# -- streaming --------------------------------------------------------------------------------------------------


def _resident() -> int:
    """Bytes of memory this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_memory_does_not_grow_with_length(make_video: MakeVideo, clip_frames: list[np.ndarray], tmp_path: Path) -> None:
    small = [np.ascontiguousarray(frame[::2, ::2]) for frame in clip_frames]
    path = make_video(
        tmp_path / "long.mp4", (small[i % 90] for i in range(4000)), options={"preset": "ultrafast", "g": "250"}
    )
    before = None
    number = 0
    for frame in read_frames(path):
        number += 1
        if frame.index == 400:  # the decoder's pools and threads stand by now
            before = _resident()
    assert number == 4000
    assert before is not None
    assert _resident() - before < 24e6  # the frames alone would be 200 MB


def test_a_reader_left_half_way_closes_its_file(clip_mp4: Path) -> None:
    folder = Path("/proc/self/fd")
    if not folder.exists():
        pytest.skip("needs /proc")
    open_before = len(os.listdir(folder))
    for _ in range(5):
        frames = read_frames(clip_mp4)
        next(frames)
        frames.close()  # type: ignore[attr-defined]
    assert len(os.listdir(folder)) <= open_before


def test_readers_in_threads_do_not_disturb_each_other(clip_mp4: Path, clip_variants: dict[str, Path]) -> None:
    paths = [clip_mp4, clip_variants["webm"], clip_variants["avi"]] * 3

    def digest(path: Path) -> list[int]:
        return [int(frame.image.sum()) for frame in read_frames(path, "10")]

    alone = [digest(path) for path in paths[:3]] * 3
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(digest, paths)) == alone
