"""What happens to pictures and videos on their way to whoever has to judge them.

Each degradation turns a run of uint8 RGB frames ``[H, W, 3]`` into another one, the same every time. ``codec`` ones
need frames that follow each other; all others treat each frame alone.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import av
import cv2
import numpy as np
import numpy.typing as npt

Frame = npt.NDArray[np.uint8]
Frames = list[Frame]
FPS = 25


@dataclass(frozen=True)
class Degradation:
    """One kind of damage. ``severities`` run from mild to severe in ``unit``; ``words`` puts one into words; ``apply``
    takes frames and a severity.

    ``codec`` ones end in H.264: ``apply`` then gives the frames as decoded, and ``encode`` the clip itself.
    """

    name: str
    title: str
    unit: str
    words: str
    severities: tuple[float, ...]
    apply: Callable[[Sequence[Frame], float], Frames]
    encode: Callable[[Sequence[Frame], float], bytes] | None = None


def jpeg(frames: Sequence[Frame], quality: float) -> Frames:
    """JPEG at a libjpeg ``quality`` of 1 to 100."""
    return [_jpeg(frame, quality) for frame in frames]


def _jpeg(frame: Frame, quality: float) -> Frame:
    _, data = cv2.imencode(".jpg", frame[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, int(quality)])
    return _u8(np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))[:, :, ::-1])


def encode_h264(frames: Sequence[Frame], crf: float) -> bytes:
    """An MP4 of the frames at constant rate factor ``crf``, 25 frames a second. Odd sides lose their last row or column."""
    height, width = (side - side % 2 for side in frames[0].shape[:2])
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"crf": f"{crf:g}", "preset": "veryfast"}
        stream.codec_context.thread_count = 1
        for frame in frames:
            pixels = np.ascontiguousarray(frame[:height, :width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def decode(data: bytes) -> Frames:
    """All frames of a clip in memory."""
    with av.open(io.BytesIO(data)) as container:
        return [frame.to_ndarray(format="rgb24").astype(np.uint8) for frame in container.decode(video=0)]


def h264(frames: Sequence[Frame], crf: float) -> Frames:
    """H.264 and back."""
    return decode(encode_h264(frames, crf))


def downscale(frames: Sequence[Frame], factor: float) -> Frames:
    """Fewer pixels: both sides times ``factor``; faces shrink with them."""
    height, width = frames[0].shape[:2]
    size = max(16, round(width * factor)), max(16, round(height * factor))
    return [_u8(cv2.resize(frame, size, interpolation=cv2.INTER_AREA)) for frame in frames]


def blur(frames: Sequence[Frame], sigma: float) -> Frames:
    """Gaussian blur, ``sigma`` in pixels."""
    return [_u8(cv2.GaussianBlur(frame, (0, 0), sigma)) for frame in frames]


def noise(frames: Sequence[Frame], sigma: float) -> Frames:
    """Gaussian noise of ``sigma`` 8-bit levels, of its own in every channel and frame."""
    noisy = []
    for number, frame in enumerate(frames):
        grain = np.random.default_rng(number).normal(0, sigma, frame.shape)
        noisy.append(_u8(frame + grain))
    return noisy


def gain(frames: Sequence[Frame], factor: float) -> Frames:
    """Light times ``factor``, clipped."""
    return [_u8(frame.astype(np.float32) * factor) for frame in frames]


def crop(frames: Sequence[Frame], share: float) -> Frames:
    """``share`` of the frame cut off on every side."""
    height, width = frames[0].shape[:2]
    top, left = int(height * share), int(width * share)
    return [np.ascontiguousarray(frame[top : height - top, left : width - left]) for frame in frames]


def recapture(frames: Sequence[Frame], strength: float) -> Frames:
    """Filmed off a screen: the frame as stripes of red, green and blue, seen slightly turned by a camera whose pixels do
    not match the screen's, so that moiré appears; then the camera's own blur and JPEG. ``strength`` 1 to 4."""
    return [_recapture(frame, strength) for frame in frames]


def _recapture(frame: Frame, strength: float) -> Frame:
    height, width = frame.shape[:2]
    contrast, angle = 0.25 * strength, 0.5 + 0.6 * strength
    screen = cv2.resize(frame, (width * 3, height * 3), interpolation=cv2.INTER_NEAREST).astype(np.float32)
    stripes = np.full((3, 3), 1 - contrast, np.float32)
    np.fill_diagonal(stripes, 1 + contrast)
    mask = np.tile(stripes, (width, 1))[None, :, :]
    rows = np.where(np.arange(height * 3) % 3 == 2, 1 - contrast / 2, 1 + contrast / 4).astype(np.float32)
    screen *= mask * rows[:, None, None]
    matrix = cv2.getRotationMatrix2D((width * 1.5, height * 1.5), angle, 0.345)
    matrix[:, 2] += (width / 2 - width * 1.5, height / 2 - height * 1.5)
    seen = cv2.warpAffine(screen, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    seen = cv2.GaussianBlur(seen, (0, 0), 0.4 + 0.1 * strength)
    return _jpeg(_u8(seen), 95 - 8 * strength)


def encode_chain(frames: Sequence[Frame], generations: float) -> bytes:
    """Shared again and again: every generation is scaled to about three quarters and back and encoded at CRF 28."""
    height, width = frames[0].shape[:2]
    data = b""
    for generation in range(int(generations)):
        factor = 0.75 - 0.03 * generation
        small = downscale(frames, factor)
        frames = [_u8(cv2.resize(frame, (width, height), interpolation=cv2.INTER_LINEAR)) for frame in small]
        data = encode_h264(frames, 28)
        frames = decode(data)
    return data


def chain(frames: Sequence[Frame], generations: float) -> Frames:
    """:func:`encode_chain`, decoded."""
    return decode(encode_chain(frames, generations))


def encode_lossless(frames: Sequence[Frame]) -> bytes:
    """A Matroska clip (FFV1) that decodes to exactly these frames."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="matroska") as container:
        stream = container.add_stream("ffv1", rate=FPS)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "bgr0"
        stream.codec_context.thread_count = 1
        for frame in frames:
            opaque = cv2.cvtColor(frame, cv2.COLOR_RGB2BGRA)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(opaque, format="bgra").reformat(format="bgr0")))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def _u8(image: npt.NDArray[np.generic]) -> Frame:
    return np.ascontiguousarray(np.clip(np.rint(np.asarray(image, np.float32)), 0, 255).astype(np.uint8))


DEGRADATIONS: dict[str, Degradation] = {
    item.name: item
    for item in (
        Degradation("jpeg", "JPEG", "quality", "quality {:g}", (90, 70, 50, 40, 30), jpeg),
        Degradation("h264", "H.264", "CRF", "CRF {:g}", (18, 23, 28, 34, 40), h264, encode_h264),
        Degradation("downscale", "Downscaling", "× size", "{:g} of the size", (0.75, 0.5, 0.35, 0.25, 0.15), downscale),
        Degradation("blur", "Blur", "px sigma", "sigma {:g} px", (0.5, 1, 2, 3, 4), blur),
        Degradation("noise", "Noise", "levels sigma", "sigma {:g} levels", (3, 7, 12, 20, 30), noise),
        Degradation("dark", "Darker", "× light", "{:g} of the light", (0.75, 0.5, 0.35, 0.2), gain),
        Degradation("bright", "Brighter", "× light", "{:g} times the light", (1.25, 1.5, 2, 2.5), gain),
        Degradation("crop", "Cropping", "of each side", "{:g} off each side", (0.05, 0.1, 0.15, 0.2, 0.3), crop),
        Degradation("recapture", "Filmed off a screen", "strength", "strength {:g}", (1, 2, 3, 4), recapture),
        Degradation("chain", "Shared again and again", "generations", "{:g} times", (1, 2, 3, 4), chain, encode_chain),
    )
}
"""Every degradation by name, in the order of reports."""
