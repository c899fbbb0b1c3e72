"""Media made on the spot from scikit-image's astronaut (public domain): nothing is downloaded or committed.

All are made once per session, when first asked for. ``make_video`` writes more of them. PyAV is imported by what encodes:
the tests of networks run where it is not installed.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

# one test process a core already: two OpenMP threads each would spend their time waiting for each other
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import cv2
import numpy as np
import pytest
from hypothesis import settings
from PIL import Image
from skimage import data

if TYPE_CHECKING:
    from av import AudioStream
    from av.container import OutputContainer

# A busy machine is no fault of what is tested.
settings.register_profile("faceproof", deadline=None)
settings.load_profile("faceproof")

NTSC = Fraction(30000, 1001)
CLIP_FRAMES = 90  # three seconds
FACE = (225.0, 125.0)  # centre of the astronaut's face in the 512 x 512 picture

MakeVideo = Callable[..., Path]


def window(image: np.ndarray, centre: tuple[float, float], zoom: float, size: tuple[int, int]) -> np.ndarray:
    """Look at a picture through a window of the given size (width, height)."""
    width, height = size
    matrix = np.array(
        [[zoom, 0, width / 2 - zoom * centre[0]], [0, zoom, height / 2 - zoom * centre[1]]], dtype=np.float64
    )
    return cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def pan_and_zoom(image: np.ndarray, number: int, size: tuple[int, int] = (320, 240)) -> list[np.ndarray]:
    """The camera sways around the face and breathes in and out; the face stays in view and about 100 px high."""
    frames = []
    for i in range(number):
        turn = 2 * math.pi * i / 90
        centre = (FACE[0] + 25 * math.sin(turn), FACE[1] + 10 * math.cos(turn))
        frames.append(window(image, centre, 0.85 + 0.08 * math.sin(turn / 2), size))
    return frames


def write_video(
    path: Path,
    frames: Iterable[np.ndarray],
    *,
    codec: str = "libx264",
    rate: Fraction | int = NTSC,
    options: dict[str, str] | None = None,
    pix_fmt: str = "yuv420p",
    pts: Sequence[int] | None = None,
    time_base: Fraction | None = None,
    rotation: float | None = None,
    hflip: bool = False,
    audio: bool = False,
    container_options: dict[str, str] | None = None,
    container_format: str | None = None,
    sample_aspect_ratio: Fraction | None = None,
) -> Path:
    """Encode RGB frames. ``pts`` (with ``time_base``) gives a variable frame rate; ``rotation`` a display matrix."""
    import av

    with av.open(str(path), "w", format=container_format, options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.pix_fmt = pix_fmt
        stream.options = {"preset": "veryfast", **(options or {})} if codec == "libx264" else (options or {})
        stream.codec_context.thread_count = 1
        if time_base is not None:
            stream.codec_context.time_base = time_base
        if sample_aspect_ratio is not None:
            stream.codec_context.sample_aspect_ratio = sample_aspect_ratio
        sound = container.add_stream("aac", rate=16000, layout="mono") if audio else None
        count = 0
        for count, frame in enumerate(frames, 1):
            if count == 1:
                stream.height, stream.width = frame.shape[:2]
                if rotation is not None or hflip:
                    stream.set_display_rotation(rotation or 0, hflip=hflip)
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            if pts is not None:
                picture.pts, picture.time_base = pts[count - 1], time_base
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
        if sound is not None:
            _write_tone(container, sound, count / rate)
    return path


def _write_tone(container: OutputContainer, sound: AudioStream, seconds: Fraction | float) -> None:
    import av

    wave = (np.sin(np.arange(int(seconds * 16000)) * 0.17) * 8000).astype(np.int16)
    for start in range(0, len(wave) - 1023, 1024):
        frame = av.AudioFrame.from_ndarray(wave[None, start : start + 1024], format="s16", layout="mono")
        frame.sample_rate, frame.pts = 16000, start
        container.mux(sound.encode(frame))
    container.mux(sound.encode(None))


@pytest.fixture(scope="session")
def make_video() -> MakeVideo:
    """``write_video``, for tests that need a video of their own."""
    return write_video


@pytest.fixture(scope="session")
def media_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder all made media lie in."""
    return tmp_path_factory.mktemp("media")


@pytest.fixture(scope="session")
def astronaut() -> np.ndarray:
    """uint8 [512, 512, 3] RGB; one frontal face of about 100 x 130 px around (225, 125). Do not write to it."""
    image = np.ascontiguousarray(data.astronaut())
    image.setflags(write=False)
    return image


@pytest.fixture(scope="session")
def astronaut_png(astronaut: np.ndarray, media_dir: Path) -> Path:
    path = media_dir / "astronaut.png"
    Image.fromarray(astronaut).save(path)
    return path


@pytest.fixture(scope="session")
def astronaut_jpg(astronaut: np.ndarray, media_dir: Path) -> Path:
    path = media_dir / "astronaut.jpg"
    Image.fromarray(astronaut).save(path, quality=95)
    return path


@pytest.fixture(scope="session")
def clip_frames(astronaut: np.ndarray) -> list[np.ndarray]:
    """The 90 RGB frames of 320 x 240 that went into ``clip_mp4`` and its relatives, before encoding."""
    return pan_and_zoom(astronaut, CLIP_FRAMES)


@pytest.fixture(scope="session")
def clip_mp4(clip_frames: list[np.ndarray], media_dir: Path) -> Path:
    """H.264 with B-frames and AAC sound, 320 x 240, 90 frames at 30000/1001, index in front; one face all along."""
    path = media_dir / "clip.mp4"
    options = {"bf": "3", "g": "30", "crf": "18"}
    return write_video(path, clip_frames, options=options, audio=True, container_options={"movflags": "faststart"})


@pytest.fixture(scope="session")
def clip_two_people_mp4(astronaut: np.ndarray, media_dir: Path) -> Path:
    """480 x 240, 60 frames: the astronaut twice, the left face twice as large as the right one, never touching."""
    large, small = pan_and_zoom(astronaut, 60, (280, 240)), pan_and_zoom(astronaut, 60, (400, 480))
    frames = []
    for left, right in zip(large, small, strict=True):
        frame = np.full((240, 480, 3), 96, dtype=np.uint8)
        frame[:, :280] = left
        frame[:, 280:] = cv2.resize(right, (200, 240), interpolation=cv2.INTER_AREA)
        frames.append(frame)
    return write_video(media_dir / "two-people.mp4", frames, options={"crf": "18"})


@pytest.fixture(scope="session")
def clip_noface_mp4(media_dir: Path) -> Path:
    """320 x 240, 60 frames: a colour gradient that drifts, and nobody in it."""
    x, y = np.meshgrid(np.arange(320), np.arange(240))
    frames = [np.dstack([(x + 2 * i) % 256, y, (x // 2 + y // 2) % 256]).astype(np.uint8) for i in range(60)]
    return write_video(media_dir / "no-face.mp4", frames)


@pytest.fixture(scope="session")
def clip_variants(clip_frames: list[np.ndarray], media_dir: Path) -> dict[str, Path]:
    """The same 90 frames in other containers and codecs: mov, mkv, webm, avi (mpeg4), avi_h264, mjpeg, ts."""
    return {
        "mov": write_video(media_dir / "clip.mov", clip_frames),
        "mkv": write_video(media_dir / "clip.mkv", clip_frames, options={"bf": "3"}),
        "webm": write_video(
            media_dir / "clip.webm",
            clip_frames,
            codec="libvpx-vp9",
            options={"deadline": "realtime", "cpu-used": "8", "crf": "20", "b": "0"},
        ),
        "avi": write_video(media_dir / "clip.avi", clip_frames, codec="mpeg4", options={"bf": "2", "qmax": "4"}),
        "avi_h264": write_video(media_dir / "clip-h264.avi", clip_frames, options={"bf": "3"}),
        "mjpeg": write_video(
            media_dir / "clip-mjpeg.avi", clip_frames, codec="mjpeg", pix_fmt="yuvj420p", options={"qmax": "3"}
        ),
        "ts": write_video(media_dir / "clip.ts", clip_frames, options={"bf": "3"}),
    }


@pytest.fixture(scope="session")
def clip_vfr_mkv(clip_frames: list[np.ndarray], media_dir: Path) -> Path:
    """60 frames at uneven times: frame i at i * 20 + i * i milliseconds."""
    times = [i * 20 + i * i for i in range(60)]
    path = media_dir / "vfr.mkv"
    return write_video(path, clip_frames[:60], pts=times, time_base=Fraction(1, 1000), options={"bf": "2"})


@pytest.fixture(scope="session")
def clip_rotated_mp4(clip_frames: list[np.ndarray], media_dir: Path) -> Path:
    """Ten frames stored lying down (180 x 240 upright, 240 x 180 stored) with a display matrix that stands them up."""
    lying = [np.ascontiguousarray(np.rot90(frame[:, 70:250])) for frame in clip_frames[:10]]
    return write_video(media_dir / "rotated.mp4", lying, rotation=-90, options={"crf": "10"})


@pytest.fixture(scope="session")
def damaged(clip_mp4: Path, clip_frames: list[np.ndarray], media_dir: Path) -> dict[str, Path]:
    """Files that are not as they should be, by what is wrong with them.

    Some frames: truncated (index in front, second half cut off), garbage (noise in the middle).
    No frames: header_only, no_index (the index was at the end that is cut off), empty, text, noise, audio_only,
    no_frames, truncated_jpg.
    """
    whole = clip_mp4.read_bytes()
    noise = np.random.default_rng(7).integers(0, 256, 200_000, dtype=np.uint8).tobytes()
    middle = len(whole) // 2
    at_end = write_video(media_dir / "index-at-end.mp4", clip_frames[:30]).read_bytes()
    jpeg = media_dir / "whole.jpg"
    Image.fromarray(clip_frames[0]).save(jpeg)
    contents = {
        "truncated": ("truncated.mp4", whole[:middle]),
        "garbage": ("garbage.mp4", whole[:middle] + noise[:4000] + whole[middle + 4000 :]),
        "header_only": ("header-only.mp4", whole[:40]),
        "no_index": ("no-index.mp4", at_end[: at_end.rindex(b"moov") - 8]),
        "empty": ("empty.mp4", b""),
        "text": ("text.mp4", b"This is not a video, whatever its name says.\n" * 50),
        "noise": ("noise.mp4", noise),
        "truncated_jpg": ("truncated.jpg", jpeg.read_bytes()[: jpeg.stat().st_size // 2]),
    }
    paths = {}
    for key, (name, content) in contents.items():
        paths[key] = media_dir / name
        paths[key].write_bytes(content)
    import av

    paths["audio_only"] = media_dir / "audio-only.mp4"
    with av.open(str(paths["audio_only"]), "w") as container:
        _write_tone(container, container.add_stream("aac", rate=16000, layout="mono"), 1.0)
    paths["no_frames"] = media_dir / "no-frames.mp4"
    with av.open(str(paths["no_frames"]), "w", options={"movflags": "frag_keyframe+empty_moov"}) as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        container.start_encoding()
    return paths
