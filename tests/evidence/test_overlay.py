"""The overlay is the same film: every frame at its own time, the sound untouched, boxes where the report says."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from faceproof.errors import EvidenceError, NoVideoStreamError, OptionError, OutputError
from faceproof.evidence import encoding, overlay
from faceproof.evidence.overlay import TRACK_COLOURS, paths_of, write_overlay
from faceproof.results import Report
from tests.conftest import pan_and_zoom
from tests.evidence.made_reports import made_report, toy_detector, wave

DETECTOR = toy_detector()


def frames_of(path: Path) -> list[av.VideoFrame]:
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


def times_of(path: Path) -> list[Fraction]:
    return [frame.pts * frame.time_base for frame in frames_of(path)]


def overlaid(path: Path, folder: Path, **options: object) -> Path:
    report = made_report(path, DETECTOR, scores=wave)
    return write_overlay(report, path, folder / "out.mp4", detector=DETECTOR, **options).path  # type: ignore[arg-type]


def test_every_frame_keeps_its_time(clip_mp4: Path, tmp_path: Path) -> None:
    out = overlaid(clip_mp4, tmp_path)
    assert times_of(out) == times_of(clip_mp4)
    with av.open(str(out)) as container:
        assert container.streams.video[0].average_rate == Fraction(30000, 1001)
        assert container.streams.video[0].codec_context.name == "h264"


def test_variable_frame_rates_stay_variable(clip_vfr_mkv: Path, tmp_path: Path) -> None:
    assert times_of(overlaid(clip_vfr_mkv, tmp_path)) == times_of(clip_vfr_mkv)


@pytest.mark.parametrize("kind", ["mov", "mkv", "webm", "avi", "avi_h264", "mjpeg", "ts"])
def test_any_container_can_be_drawn_on(kind: str, clip_variants: dict[str, Path], tmp_path: Path) -> None:
    path = clip_variants[kind]
    times = np.asarray([float(t) for t in times_of(overlaid(path, tmp_path))])
    assert len(times) == 90
    assert np.abs(np.diff(times) - 1001 / 30000).max() < 0.0011
    assert times[0] == pytest.approx(0, abs=0.1)


def test_the_sound_is_copied_bit_for_bit(clip_mp4: Path, tmp_path: Path) -> None:
    def sound(path: Path) -> list[tuple[int, bytes]]:
        with av.open(str(path)) as container:
            return [(p.pts, bytes(p)) for p in container.demux(container.streams.audio[0]) if p.size]

    assert sound(overlaid(clip_mp4, tmp_path)) == sound(clip_mp4)


def test_sound_that_mp4_cannot_hold_is_encoded_anew(clip_frames: list[np.ndarray], tmp_path: Path) -> None:
    path = tmp_path / "pcm.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        sound = container.add_stream("pcm_s16le", rate=16000, layout="mono")
        for frame in clip_frames[:15]:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        container.mux(stream.encode(None))
        wave_form = (np.sin(np.arange(8000) * 0.2) * 9000).astype(np.int16)
        audio = av.AudioFrame.from_ndarray(wave_form[None], format="s16", layout="mono")
        audio.sample_rate, audio.pts = 16000, 0
        container.mux(sound.encode(audio))
        container.mux(sound.encode(None))
    with av.open(str(overlaid(path, tmp_path))) as container:
        assert container.streams.audio[0].codec_context.name == "aac"
        heard = sum(frame.samples for frame in container.decode(audio=0))
    assert heard == pytest.approx(8000, abs=2200)


def test_browsers_can_start_before_the_end_is_loaded(clip_mp4: Path, tmp_path: Path) -> None:
    content = overlaid(clip_mp4, tmp_path).read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")


def test_a_video_without_sound(clip_two_people_mp4: Path, tmp_path: Path) -> None:
    with av.open(str(overlaid(clip_two_people_mp4, tmp_path))) as container:
        assert not container.streams.audio
        assert container.streams.video[0].frames == 60


@pytest.mark.parametrize(
    ("size", "codec", "pix_fmt", "expected"),
    [
        ((360, 640), "libx264", "yuv420p", (360, 640)),
        ((321, 243), "libvpx-vp9", "yuv420p", (322, 244)),
        ((241, 251), "ffv1", "yuv444p", (242, 252)),
        ((64, 48), "libx264", "yuv420p", (320, 240)),
        ((16, 16), "libx264", "yuv420p", (240, 240)),
        ((1280, 32), "libx264", "yuv420p", (1280, 32)),
    ],
)
def test_portrait_odd_and_tiny(
    size: tuple[int, int],
    codec: str,
    pix_fmt: str,
    expected: tuple[int, int],
    astronaut: np.ndarray,
    make_video: Callable[..., Path],
    tmp_path: Path,
) -> None:
    options = {"deadline": "realtime", "cpu-used": "8"} if codec == "libvpx-vp9" else None
    frames = pan_and_zoom(astronaut, 4, size)
    path = make_video(tmp_path / "in.mkv", frames, codec=codec, pix_fmt=pix_fmt, options=options)
    box = (size[0] * 0.3, size[1] * 0.3, size[0] * 0.6, size[1] * 0.7)
    report = made_report(path, DETECTOR, every=2, boxes=lambda index: {1: box}, scores=wave)
    written = write_overlay(report, path, tmp_path / "out.mp4", detector=DETECTOR, heat=True)
    assert written.width == expected[0]
    assert written.height - expected[1] in range(24, 100)
    assert written.frames == len(frames_of(written.path)) == 4


def test_a_lying_video_stands_up(clip_rotated_mp4: Path, tmp_path: Path) -> None:
    frame = frames_of(overlaid(clip_rotated_mp4, tmp_path))[0]
    assert frame.rotation == 0
    assert frame.width < frame.height


def test_boxes_lie_where_the_report_says_and_the_rest_is_untouched(
    astronaut: np.ndarray, make_video: Callable[..., Path], tmp_path: Path
) -> None:
    path = make_video(tmp_path / "still.mp4", [pan_and_zoom(astronaut, 1, (640, 480))[0]] * 6, options={"crf": "10"})
    box = (100.0, 260.0, 220.0, 400.0)
    report = made_report(path, DETECTOR, every=1, boxes=lambda index: {2: box}, scores=lambda i, t: 0.75)
    out = write_overlay(report, path, tmp_path / "out.mp4").path
    before, after = (frames_of(p)[3].to_ndarray(format="rgb24").astype(int) for p in (path, out))
    left_edge = after[300:380, 101]
    assert np.abs(left_edge - TRACK_COLOURS[1]).mean() < 40
    away = (slice(420, 470), slice(300, 600))
    assert np.abs(before[away] - after[away]).mean() < 4
    bar = after[after.shape[0] - 6, 600]
    assert abs(bar[0] - 191) < 25
    assert abs(bar[1] - 64) < 25


def test_boxes_move_between_samples_and_vanish_where_nothing_was_seen(clip_mp4: Path) -> None:
    def boxes(index: int) -> dict[int, tuple[float, float, float, float]]:
        return {1: (index, 0, index + 50, 50)} if index <= 30 else {}

    one = paths_of(made_report(clip_mp4, DETECTOR, every=10, boxes=boxes, scores=wave))[0]
    place = one.at(5 * 1001 / 30000)
    assert place is not None
    assert place[0][0] == pytest.approx(5, abs=0.01)
    assert one.at(1.15) is not None
    assert one.at(1.3) is None


def test_one_place_has_one_box_when_a_face_was_numbered_anew_for_a_moment(clip_mp4: Path) -> None:
    # Somebody walks past: the man behind is given another number in one sampled frame.
    def boxes(index: int) -> dict[int, tuple[float, float, float, float]]:
        return {2 if index == 30 else 1: (100 + index / 5, 60, 200 + index / 5, 190)}

    paths = paths_of(made_report(clip_mp4, DETECTOR, every=5, boxes=boxes, scores=wave))
    for tenth in range(30):
        drawn = [path.track.id for path in paths if path.at(tenth / 10 + 0.01) is not None]
        assert len(drawn) == 1, (tenth, drawn)
    assert [path.track.id for path in paths if path.at(30 * 1001 / 30000) is not None] == [2]


def test_a_missed_look_leaves_no_gap_where_nobody_else_was_seen(clip_mp4: Path) -> None:
    def boxes(index: int) -> dict[int, tuple[float, float, float, float]]:
        far = (250.0, 10.0, 290.0, 60.0)
        return {2: far} if index == 30 else {1: (100 + index, 60, 200 + index, 190), 2: far}

    one = paths_of(made_report(clip_mp4, DETECTOR, every=5, boxes=boxes, scores=wave))[0]
    place = one.at(30 * 1001 / 30000)
    assert place is not None
    assert place[0][0] == pytest.approx(130, abs=0.1)


@pytest.mark.parametrize(("kind", "size"), [("GIF", (321, 243)), ("WEBP", (320, 240)), ("PNG", (1000, 720))])
def test_an_animation_is_drawn_on_as_a_video(
    kind: str, size: tuple[int, int], astronaut: np.ndarray, tmp_path: Path
) -> None:
    frames = [Image.fromarray(frame) for frame in pan_and_zoom(astronaut, 6, size)]
    path = tmp_path / "moving"
    durations = [40, 200, 80, 80, 120, 100]
    frames[0].save(path, kind, save_all=True, append_images=frames[1:], duration=durations, lossless=True)
    report = made_report(path, DETECTOR, every=2, boxes=lambda i: {1: (40.0, 60.0, 90.0, 120.0)}, scores=wave)
    written = write_overlay(report, path, tmp_path / "out.mp4", detector=DETECTOR, heat=True)
    assert [float(t) for t in times_of(written.path)] == pytest.approx([0, 0.04, 0.24, 0.32, 0.4, 0.52])
    drawn = frames_of(written.path)[5].to_ndarray(format="rgb24").astype(int)
    away = (slice(size[1] - 60, size[1] - 8), slice(100, size[0] - 1))
    assert np.abs(drawn[away] - np.asarray(frames[5]).astype(int)[away]).mean() < 6


def test_without_a_face_no_score_is_invented(clip_noface_mp4: Path, tmp_path: Path) -> None:
    report = made_report(clip_noface_mp4, DETECTOR, boxes=lambda index: {})
    written = write_overlay(report, clip_noface_mp4, tmp_path / "out.mp4")
    frame = frames_of(written.path)[20].to_ndarray(format="rgb24").astype(int)
    assert np.abs(frame[-5, -5] - 0x8A).max() < 12


def test_heat_is_laid_over_the_face_only_on_demand(clip_mp4: Path, tmp_path: Path) -> None:
    report = made_report(clip_mp4, DETECTOR, scores=wave)
    plain = write_overlay(report, clip_mp4, tmp_path / "plain.mp4").path
    heated = write_overlay(report, clip_mp4, tmp_path / "heated.mp4", detector=DETECTOR, heat=True).path
    a, b = (frames_of(p)[42].to_ndarray(format="rgb24").astype(int) for p in (plain, heated))
    assert np.abs(a - b)[90:180, 120:200].mean() > 10
    assert np.abs(a - b)[200:, :60].mean() < 3
    with pytest.raises(OptionError):
        write_overlay(report, clip_mp4, tmp_path / "x.mp4", heat=True)


def test_vp9_where_h264_is_missing(clip_mp4: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = av.codec.Codec

    def without_h264(name: str, mode: str) -> object:
        if name == "libx264":
            raise ValueError("no such encoder")
        return real(name, mode)

    monkeypatch.setattr(encoding.av.codec, "Codec", without_h264)
    report = made_report(clip_mp4, DETECTOR, scores=wave)
    written = write_overlay(report, clip_mp4, tmp_path / "out.mp4")
    assert written.encoder == "libvpx-vp9"
    assert times_of(written.path) == times_of(clip_mp4)


def test_webm_is_vp9_and_opus(clip_mp4: Path, tmp_path: Path) -> None:
    report = made_report(clip_mp4, DETECTOR, scores=wave)
    written = write_overlay(report, clip_mp4, tmp_path / "out.webm")
    with av.open(str(written.path)) as container:
        assert container.streams.video[0].codec_context.name in ("vp9", "libvpx-vp9")
        assert container.streams.audio[0].codec_context.name in ("opus", "libopus")


def test_what_cannot_be_drawn_on_is_refused(clip_mp4: Path, clip_noface_mp4: Path, astronaut_png: Path) -> None:
    report = made_report(clip_mp4, DETECTOR, scores=wave)
    with pytest.raises(NoVideoStreamError):
        write_overlay(report, astronaut_png, astronaut_png.with_name("x.mp4"))
    with pytest.raises(EvidenceError):
        write_overlay(report, clip_noface_mp4, clip_noface_mp4.with_name("x.mp4"))
    with pytest.raises(OptionError):
        write_overlay(report, clip_mp4, clip_mp4)
    with pytest.raises(OptionError):
        write_overlay(report, clip_mp4, clip_mp4.with_name("x.gif"))
    with pytest.raises(OutputError):
        write_overlay(report, clip_mp4, clip_mp4.with_name("no such folder") / "x.mp4")


def test_a_truncated_video_is_drawn_as_far_as_it_goes(damaged: dict[str, Path], tmp_path: Path) -> None:
    report = made_report(damaged["truncated"], DETECTOR, scores=wave)
    written = write_overlay(report, damaged["truncated"], tmp_path / "out.mp4")
    assert 20 < written.frames < 90


def test_interrupted_nothing_remains(clip_mp4: Path, tmp_path: Path) -> None:
    report = made_report(clip_mp4, DETECTOR, scores=wave)

    def stop(done: int, total: int | None) -> None:
        raise KeyboardInterrupt

    old = tmp_path / "out.mp4"
    old.write_bytes(b"what was there before")
    with pytest.raises(KeyboardInterrupt):
        write_overlay(report, clip_mp4, old, on_progress=stop)
    assert old.read_bytes() == b"what was there before"
    assert os.listdir(tmp_path) == ["out.mp4"]


FULL = """
import resource, signal, sys
from pathlib import Path
from faceproof.errors import OutputError
from faceproof.evidence.overlay import write_overlay
from faceproof.results import Report
clip, report, out = map(Path, sys.argv[1:])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    write_overlay(Report.model_validate_json(report.read_text()), clip, out)
except OutputError as error:
    print("refused:", error.message)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits of file size are set as Linux has them")
def test_on_a_full_disk_nothing_remains(clip_mp4: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    report.write_text(made_report(clip_mp4, DETECTOR, scores=wave).model_dump_json())
    out = tmp_path / "out" / "overlay.mp4"
    out.parent.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", FULL, clip_mp4, report, out], capture_output=True, text=True, timeout=120, check=False
    )
    assert "refused: cannot write" in done.stdout, done.stderr
    assert os.listdir(out.parent) == []


def test_colours_of_people_are_told_apart() -> None:
    assert len(set(overlay.TRACK_COLOURS)) == len(overlay.TRACK_COLOURS)


def words_drawn(report: Report, path: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The labels of every frame."""
    frames: list[list[str]] = []
    real_label, real_frame = overlay.label, overlay._Drawing.frame

    def frame(self: overlay._Drawing, picture: overlay.UprightPicture) -> object:
        frames.append([])
        return real_frame(self, picture)

    def label(text: str, *rest: object) -> object:
        frames[-1].append(text)
        return real_label(text, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(overlay._Drawing, "frame", frame)
    monkeypatch.setattr(overlay, "label", label)
    write_overlay(report, path, out)
    return frames


def test_the_bar_says_the_highest_number_on_a_face(
    clip_mp4: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One rises while the other falls: between samples the highest of both is less than at either sample.
    two = {1: (110.0, 60.0, 210.0, 190.0), 2: (10.0, 10.0, 90.0, 110.0)}
    report = made_report(
        clip_mp4, DETECTOR, boxes=lambda i: two, scores=lambda i, track: 0.9 if (i // 5 + track) % 2 else 0.1
    )
    for words in words_drawn(report, clip_mp4, tmp_path / "out.mp4", monkeypatch)[:80]:
        numbers = [float(word.split()[-1]) for word in words]
        assert len(numbers) == 3
        assert numbers[-1] == max(numbers[:-1]), words


def test_between_frames_far_apart_nothing_is_said(
    clip_mp4: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = made_report(clip_mp4, DETECTOR, every=60, scores=wave)
    drawn = words_drawn(report, clip_mp4, tmp_path / "out.mp4", monkeypatch)
    assert drawn[30] == ["Frame Suspicion: not looked at"]
    assert len(drawn[0]) == len(drawn[60]) == 2
