"""Animated pictures (GIF, WebP, APNG, AVIF) as the short videos they are, through Pillow.

FFmpeg is not asked: it does not read all of them, and lays nothing under what is transparent. Pictures of an animation are
made from the ones before, so reading one decodes all up to it, and times are known once all were decoded.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image

from faceproof.errors import MediaCorruptError, MediaLimitError
from faceproof.media.facts import DecodeStats, Frame, Limits, Timeline
from faceproof.media.files import shown
from faceproof.media.pictures import DAMAGE, open_picture, reason_of, upright_rgb
from faceproof.media.sampling import Sampling

_MILLISECOND = Fraction(1, 1000)
# Browsers show pictures that ask for no more than this (milliseconds) for a tenth of a second.
_HASTY, _USUAL = 10, 100


@dataclass(frozen=True)
class AnimationSurvey:
    fps: Fraction
    duration: float
    timeline: Timeline


def survey(file: BinaryIO, path: Path, limits: Limits) -> AnimationSurvey:
    """Decode every picture once: how many there are, and when each is shown.

    Raises :class:`MediaCorruptError` when the first does not decode, :class:`MediaLimitError` for what lasts too long.
    """
    image = _opened(file, path, limits)
    ticks = array("q")
    end = missing = 0
    try:
        for picture in _pictures(image):
            ticks.append(end)
            end += _milliseconds(picture)
            if end > limits.max_duration * 1000:
                raise MediaLimitError(
                    f"{shown(path)} lasts {end / 1000:.0f} s or more, over the limit of {limits.max_duration:g} s"
                )
    except MemoryError as error:
        raise MediaLimitError(f"{shown(path)} does not fit into memory") from error
    except (Image.DecompressionBombError, *DAMAGE) as error:
        if not ticks:
            raise MediaCorruptError(f"no picture of {shown(path)} decodes ({reason_of(error)})") from error
        missing = max(1, _promised(image) - len(ticks))
    if not ticks:
        raise MediaCorruptError(f"the animation {shown(path)} holds no picture")
    return AnimationSurvey(
        Fraction(len(ticks) * 1000, end), end / 1000, Timeline(ticks, _MILLISECOND, by_position=False, missing=missing)
    )


def read(
    file: BinaryIO, path: Path, timeline: Timeline, sampling: Sampling, limits: Limits, stats: DecodeStats
) -> Iterator[Frame]:
    """The wanted pictures, each laid over those before as a browser shows it; see ``faceproof.media.read_frames``."""
    total = len(timeline.ticks)
    wanted = sampling.indices(total)
    if not wanted:
        return
    place = 0
    pictures = _pictures(_opened(file, path, limits))
    try:
        for index, picture in enumerate(pictures):
            stats.frames_decoded += 1
            if index == wanted[place]:
                yield Frame(index, timeline.time(index), upright_rgb(picture))
                place += 1
            if place == len(wanted):
                break
    except MemoryError as error:
        raise MediaLimitError(f"{shown(path)} does not fit into memory") from error
    except (Image.DecompressionBombError, *DAMAGE) as error:
        # Not so when it was surveyed: the file changed since.
        if stats.frames_decoded == 0:
            raise MediaCorruptError(f"no picture of {shown(path)} decodes ({reason_of(error)})") from error
    finally:
        if place < len(wanted) or wanted[-1] >= total - 1:
            stats.frames_failed = max(0, total + timeline.missing - stats.frames_decoded)


def _opened(file: BinaryIO, path: Path, limits: Limits) -> Image.Image:
    image = open_picture(file, path, limits)
    assert image is not None, "only what was surveyed as an animation comes here"
    return image


def _pictures(image: Image.Image) -> Iterator[Image.Image]:
    """The picture object again and again, each time with the next picture loaded. Raises one of DAMAGE."""
    # An APNG may begin with a picture for programs that know no APNG, which is no part of the animation.
    for place in count(1 if getattr(image, "default_image", False) else 0):
        try:
            image.seek(place)
        except EOFError:
            return
        image.load()
        yield image


def _milliseconds(picture: Image.Image) -> int:
    asked: Any = picture.info.get("duration", 0)
    time = round(asked) if isinstance(asked, int | float) and asked < 2**31 else 0
    return time if time > _HASTY else _USUAL


def _promised(image: Image.Image) -> int:
    """How many pictures the header tells of; 0 where only a walk to the damage would."""
    if image.format == "GIF":
        return 0
    skipped = 1 if getattr(image, "default_image", False) else 0
    return int(getattr(image, "n_frames", 0)) - skipped
