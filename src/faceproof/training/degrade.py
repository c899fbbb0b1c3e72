"""What a camera, an encoder and an upload do to a face: the same to the real and the fake of a pair.

The order follows a real clip: optics and sensor (blur, noise, exposure), perhaps an earlier file
(JPEG), then the video encoder. For the encoder the faces of a group are laid out as tiles of one
mosaic, a few slightly shifted frames of it go through real H.264, H.265 or MPEG-4 by PyAV, and one
decoded frame, often a P or B frame, is cut apart again: about a millisecond a face.
All pictures are RGB uint8.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from typing import Any

import cv2
import numpy as np

from faceproof.training.selfblend import jpeg, shift_colour

_DECODERS = {"libx264": "h264", "libx265": "hevc", "mpeg4": "mpeg4"}
#: Pixels of slack around a tile that the shifting frames move in.
SLACK = 16


@dataclass(frozen=True)
class DegradeOptions:
    """How hard the pictures are treated; all probabilities are per group of pairs."""

    codec: float = 0.85
    crf: tuple[float, float] = (18.0, 40.0)
    tile: tuple[int, int] = (96, 320)
    codecs: dict[str, float] = field(default_factory=lambda: {"libx264": 0.8, "libx265": 0.1, "mpeg4": 0.1})
    jpeg: float = 0.35
    blur: float = 0.3
    noise: float = 0.25


@cache
def available_codecs() -> tuple[str, ...]:
    """Video encoders of this machine's PyAV that we use; empty, with a warning, where PyAV is missing."""
    try:
        import av
    except ImportError:
        warnings.warn(
            "PyAV is not installed: pairs get JPEG instead of video compression and the weights will be worse on videos. "
            "Install it with: pip install av",
            stacklevel=2,
        )
        return ()
    return tuple(name for name in ("libx264", "libx265", "mpeg4") if name in av.codecs_available)


def codec_round_trip(frames: np.ndarray, codec: str, crf: float, keep: int, preset: str = "veryfast") -> np.ndarray:
    """Encode `frames` (uint8 `[T, H, W, 3]`, H and W even) and return decoded frame number `keep`, `[H, W, 3]`.

    Raises RuntimeError when the encoder gives back too few frames.
    """
    decoded = _transcode(frames, codec, crf, preset)
    if len(decoded) <= keep:
        raise RuntimeError(f"{codec} returned {len(decoded)} of {len(frames)} frames")
    return decoded[keep].to_ndarray(format="rgb24")


def transcode(frames: np.ndarray, codec: str, crf: float, preset: str = "veryfast") -> np.ndarray:
    """All of `frames` (uint8 `[T, H, W, 3]`, H and W even) through an encoder and back.

    Raises RuntimeError when the encoder gives back fewer frames than it was fed.
    """
    decoded = _transcode(frames, codec, crf, preset)
    if len(decoded) != len(frames):
        raise RuntimeError(f"{codec} returned {len(decoded)} of {len(frames)} frames")
    return np.stack([frame.to_ndarray(format="rgb24") for frame in decoded])


def _transcode(frames: np.ndarray, codec: str, crf: float, preset: str) -> list[Any]:
    """Encode and decode. `crf` is the x264 scale (0 to 51) for every codec; MPEG-4 gets the quantiser that looks alike."""
    import av

    # codec to codec, no container: a muxer is slower and refuses some packet orders
    height, width = frames.shape[1:3]
    encoder = av.CodecContext.create(codec, "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
    encoder.time_base, encoder.framerate = Fraction(1, 25), Fraction(25)
    encoder.thread_count = 1  # one encoder per loader worker is already parallel
    if codec == "libx264":
        # on pictures this small x264's macroblock tree gives other bytes from run to run: it must not decide what a net sees
        encoder.options = {"crf": f"{crf:.1f}", "preset": preset, "x264-params": "mbtree=0"}
    elif codec == "libx265":
        encoder.options = {
            "crf": f"{crf + 2:.1f}",
            "preset": "ultrafast",
            "x265-params": "log-level=none:pools=none:frame-threads=1",
        }
    else:
        quantiser = int(np.clip(2 + (crf - 18) * 0.9, 2, 31))
        encoder.options = {"qmin": str(quantiser), "qmax": str(quantiser)}
    packets = []
    for number, picture in enumerate(frames):
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame.pts, frame.time_base = number, encoder.time_base
        packets += encoder.encode(frame)
    packets += encoder.encode(None)
    decoder = av.CodecContext.create(_DECODERS[codec], "r")
    decoder.thread_count = 1
    decoded = [frame for packet in packets for frame in decoder.decode(packet)]
    return decoded + decoder.decode(None)


def sensor(images: list[np.ndarray], rng: np.random.Generator, options: DegradeOptions) -> list[np.ndarray]:
    """Blur, exposure, noise and an earlier JPEG, identical for every picture of the list (one pair)."""
    if rng.random() < options.blur:
        if rng.random() < 0.75:
            sigma = rng.uniform(0.3, 1.6)
            images = [cv2.GaussianBlur(image, (0, 0), sigma) for image in images]
        else:
            kernel = motion_kernel(int(rng.integers(3, 8)), rng.uniform(0, 180))
            images = [cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REFLECT_101) for image in images]
    if rng.random() < 0.5:
        state = rng.bit_generator.state
        coloured = []
        for image in images:
            rng.bit_generator.state = state
            coloured.append(shift_colour(image, rng, 0.8))
        images = coloured
    if rng.random() < options.noise:
        noise = rng.normal(0, rng.uniform(1, 7), (*images[0].shape[:2], 1)).astype(np.float32)
        if rng.random() < 0.5:  # chroma noise is coarser than luma noise in every phone
            height, width = images[0].shape[:2]
            colour = rng.normal(0, rng.uniform(1, 5), (height // 2, width // 2, 3)).astype(np.float32)
            noise = noise + cv2.resize(colour, (width, height), interpolation=cv2.INTER_LINEAR)
        images = [np.clip(image + noise, 0, 255).astype(np.uint8) for image in images]
    if rng.random() < options.jpeg * 0.6:
        quality = int(rng.uniform(40, 95))
        images = [jpeg(image, quality) for image in images]
    return images


def motion_kernel(length: int, angle: float) -> np.ndarray:
    """A straight motion blur of `length` pixels at `angle` degrees, float32 `[length, length]`, sum 1."""
    kernel = np.zeros((length, length), np.float32)
    kernel[length // 2] = 1.0
    turn = cv2.getRotationMatrix2D(((length - 1) / 2, (length - 1) / 2), angle, 1.0)
    kernel = cv2.warpAffine(kernel, turn, (length, length))
    return kernel / max(float(kernel.sum()), 1e-6)


def film(tiles: np.ndarray, rng: np.random.Generator, options: DegradeOptions) -> tuple[np.ndarray, np.ndarray]:
    """Send a group through one encoder: uint8 `[N, side + SLACK, side + SLACK, 3]` → `[N, side, side, 3]`.

    Tiles `2k` and `2k + 1` must be the real and the fake of pair k: they move alike. Returns the
    decoded tiles and the offset (x, y) at which each was cut, int `[N, 2]`, to cut masks the same way.
    """
    count, padded = tiles.shape[:2]
    side = padded - SLACK
    # Without encoders asked for, PyAV is not: the pictures are the same where it is not installed.
    codecs = [name for name in available_codecs() if name in options.codecs] if options.codec else list(options.codecs)
    start = rng.integers(0, SLACK + 1, (count // 2, 2))
    if not codecs or rng.random() >= options.codec:
        offsets = np.repeat(start, 2, 0)
        still = np.stack([t[y : y + side, x : x + side] for t, (x, y) in zip(tiles, offsets, strict=True)])
        if rng.random() < max(options.jpeg, 0.8 if not codecs else 0.0):
            quality = int(rng.uniform(30, 95))
            still = np.stack([jpeg(image, quality) for image in still])
        return still, offsets
    odds = np.array([options.codecs[name] for name in codecs], np.float64)
    codec = str(rng.choice(codecs, p=odds / odds.sum()))
    length = int(rng.integers(1, 5))
    speed = rng.normal(0, 1.2, (count // 2, 2))
    # real and fake share a column, which of them is on top is drawn: the edge of the frame, and what the deblocking
    # filter carries over from the neighbour, must not tell them apart
    columns = count // 2
    on_top = rng.integers(0, 2, columns)
    frames = np.empty((length, 2 * side, columns * side, 3), np.uint8)
    track = np.clip(np.round(start[None] + speed[None] * np.arange(length)[:, None, None]), 0, SLACK).astype(int)
    for t in range(length):
        for k in range(columns):
            x, y = track[t, k]
            for row in (0, 1):
                tile = tiles[2 * k + (row ^ on_top[k]), y : y + side, x : x + side]
                frames[t, row * side : (row + 1) * side, k * side : (k + 1) * side] = tile
    if length > 1 and rng.random() < 0.6:  # a little sensor noise, or every P frame is a pure copy
        grain = rng.integers(-2, 3, (*frames.shape[:3], 1), dtype=np.int16)
        grain[:, side:] = grain[:, :side]
        frames = np.clip(frames + grain, 0, 255).astype(np.uint8)
    keep = int(rng.integers(0, length))
    preset = str(rng.choice(["ultrafast", "superfast", "veryfast", "faster"], p=[0.15, 0.3, 0.35, 0.2]))
    decoded = codec_round_trip(frames, codec, draw_crf(rng, options), keep, preset)
    if rng.random() < 0.15:  # re-uploaded: encoded twice
        decoded = codec_round_trip(
            decoded[None], "libx264" if "libx264" in codecs else codec, draw_crf(rng, options), 0
        )
    out = np.empty((count, side, side, 3), np.uint8)
    for k in range(columns):
        for row in (0, 1):
            out[2 * k + (row ^ on_top[k])] = decoded[row * side : (row + 1) * side, k * side : (k + 1) * side]
    return out, np.repeat(track[keep], 2, 0)


def draw_crf(rng: np.random.Generator, options: DegradeOptions) -> float:
    """Constant rate factor of one encoding, skewed to the clear end: a quarter lies in the upper two fifths.

    Evenly drawn factors leave half of the forgeries invisible even to a perfect judge, and a net learns slowly
    from answers nobody could know.
    """
    low, high = options.crf
    return float(low + (high - low) * rng.random() ** 1.6)


def draw_tile(rng: np.random.Generator, options: DegradeOptions) -> int:
    """Side of a group's tiles in pixels: log-uniform in `options.tile`, a multiple of 16 (the macroblock)."""
    low, high = np.log(options.tile[0]), np.log(options.tile[1])
    return max(16, round(float(np.exp(rng.uniform(low, high))) / 16) * 16)


def fit(image: np.ndarray, size: int, rng: np.random.Generator | None = None) -> np.ndarray:
    """Resize a square picture to `size`: area going down, cubic going up; with `rng`, now and then another kernel."""
    side = image.shape[0]
    if side == size:
        return image
    kernel = cv2.INTER_AREA if side > size else cv2.INTER_CUBIC
    if rng is not None and rng.random() < 0.3:
        kernel = int(rng.choice([cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_AREA]))
    return cv2.resize(image, (size, size), interpolation=kernel)
