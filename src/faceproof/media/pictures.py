"""Pictures, through Pillow; those of telephones (HEIC) through libheif, where the extra ``heif`` is installed.

HEIC and AVIF say themselves how they are to be turned. EXIF repeats it, for programs that read only that, so it is not
heard a second time.
"""

from __future__ import annotations

import io
import logging
import struct
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    ExifTags,
    GifImagePlugin,
    Image,
    ImageCms,
    ImageFile,
    JpegImagePlugin,
    MpoImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from faceproof.brands import BRANDS_WITHIN, picture_in_boxes
from faceproof.errors import MediaCorruptError, MediaLimitError, MediaUnsupportedError
from faceproof.media.facts import Limits
from faceproof.media.files import shown

# Importing a plugin registers its format. They are called one by one and not through Image.open, which would try
# every format Pillow knows and hold a cap on pixels that belongs to the whole process.
_PLUGINS = (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    JpegImagePlugin,
    MpoImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)
# Pillow remarks on damaged metadata; to whoever scans a folder that is noise between the results.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
logging.getLogger("PIL").addHandler(logging.NullHandler())

_SIGNATURES: tuple[tuple[str, int, bytes], ...] = (
    ("JPEG", 0, b"\xff\xd8\xff"),
    ("PNG", 0, b"\x89PNG\r\n\x1a\n"),
    ("WEBP", 8, b"WEBP"),
    ("BMP", 0, b"BM"),
    ("TIFF", 0, b"II\x2a\x00"),
    ("TIFF", 0, b"MM\x00\x2a"),
    ("TIFF", 0, b"II\x2b\x00"),
    ("TIFF", 0, b"MM\x00\x2b"),
    ("GIF", 0, b"GIF87a"),
    ("GIF", 0, b"GIF89a"),
)
# Formats whose files may be animations: pictures with times. Several pictures in a TIFF or a HEIC are pages.
_ANIMATED = frozenset({"GIF", "PNG", "WEBP", "AVIF"})

# What Pillow's plugins and libheif raise on damaged files.
DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    AttributeError,
    OverflowError,
    ZeroDivisionError,
    NotImplementedError,
    RuntimeError,
    struct.error,
    zlib.error,
)

_GREY = 128  # mid-grey: the shade that stands out least beside an unknown cut-out

# EXIF orientation: degrees clockwise to upright (the mirroring comes on top).
_TURNS = {3: 180, 4: 180, 5: 90, 6: 90, 7: 270, 8: 270}


@dataclass(frozen=True)
class PictureSurvey:
    width: int
    height: int
    codec: str
    rotation: int
    several: bool
    animated: bool


def survey(file: BinaryIO, path: Path, limits: Limits) -> PictureSurvey | None:
    """Read a picture's header. None when the first bytes are not those of a picture."""
    image = open_picture(file, path, limits)
    if image is None:
        return None
    orientation = _orientation(image)
    width, height = image.size
    if orientation >= 5 and not _turns_itself(image):
        width, height = height, width
    codec = (image.format or "").lower()
    several = _holds_several(image)
    animated = several and image.format in _ANIMATED
    return PictureSurvey(width, height, codec, _TURNS.get(orientation, 0), several and not animated, animated)


def _holds_several(image: Image.Image) -> bool:
    """Whether a second picture follows. What JPEGs carry besides (depth, previews) are no pictures to judge."""
    if image.format in ("JPEG", "MPO"):
        return False
    try:
        return bool(getattr(image, "is_animated", False))
    except DAMAGE:
        return False  # what follows is broken; the first one may be whole


def load(file: BinaryIO, path: Path, limits: Limits) -> NDArray[np.uint8]:
    """Decode a picture: uint8 [H, W, 3], RGB, upright, C-contiguous."""
    image = open_picture(file, path, limits)
    if image is None:
        raise MediaUnsupportedError(f"{shown(path)} is not a picture")
    try:
        image.load()
        check_pixels(image.size, path, limits)  # libheif may find another size than the header's
        upright = upright_rgb(image)
    except Image.DecompressionBombError as error:
        raise _too_many_pixels(path, image.size, limits) from error
    except MemoryError as error:
        raise MediaLimitError(f"{shown(path)} does not fit into memory") from error
    except DAMAGE as error:
        if image.format == "HEIF" and _is_other_coding(error):
            raise _unknown_coding(path) from error
        raise MediaCorruptError(f"the picture {shown(path)} does not decode ({reason_of(error)})") from error
    return upright


def upright_rgb(image: Image.Image) -> NDArray[np.uint8]:
    """A loaded picture as uint8 [H, W, 3], RGB, upright, C-contiguous, of its own memory."""
    pixels = _to_rgb(image)
    upright = pixels if _turns_itself(image) else _turn(pixels, _orientation(image))
    return np.require(upright, requirements=["C", "W"])


def open_picture(file: BinaryIO, path: Path, limits: Limits) -> ImageFile.ImageFile | None:
    """Read a picture's header; None when the first bytes are not those of a picture.

    Raises :class:`MediaUnsupportedError`, :class:`MediaCorruptError`, and :class:`MediaLimitError` above the cap on pixels.
    """
    file.seek(0)
    head = file.read(BRANDS_WITHIN)
    file.seek(0)
    name: str | None = picture_in_boxes(head) or next(
        (name for name, at, mark in _SIGNATURES if head[at : at + len(mark)] == mark), None
    )
    if name is None:
        return None
    factory, accept = _heif(path) if name == "HEIF" else Image.OPEN[name]
    try:
        if accept is not None and accept(head) is not True:
            raise MediaUnsupportedError(f"this build of Pillow cannot open {name} pictures such as {shown(path)}")
        image = factory(file, "")
    except Image.DecompressionBombError as error:
        raise MediaLimitError(f"{shown(path)} has more pixels than Pillow opens") from error
    except DAMAGE as error:
        if name == "HEIF" and _is_other_coding(error):
            raise _unknown_coding(path) from error
        raise MediaCorruptError(f"the header of the picture {shown(path)} is damaged ({reason_of(error)})") from error
    check_pixels(image.size, path, limits)
    if min(image.size) < 1:
        raise MediaCorruptError(f"the picture {shown(path)} has no pixels")
    return image


_Opener = tuple[Callable[..., ImageFile.ImageFile], Callable[[bytes], bool | str] | None]


def _heif(path: Path) -> _Opener:
    """What opens HEIF pictures. It is not entered among Pillow's formats, which belong to the whole process."""
    try:
        import pi_heif

        pi_heif.libheif_version()  # raises the ImportError that a missing shared library made
    except ImportError as error:
        raise MediaUnsupportedError(
            f"{shown(path)} is a HEIC picture, and the package that opens those is not installed",
            remedy="Run `pip install 'faceproof[heif]'`, or save it as JPEG and scan that; keep the original.",
        ) from error
    return pi_heif.HeifImageFile, None


def _is_other_coding(error: Exception) -> bool:
    """Whether libheif found nothing that it decodes (HEIF may hold JPEG 2000, VVC, ...), rather than a broken picture."""
    return any(word in str(error).lower() for word in ("unsupported feature", "not identified"))


def _unknown_coding(path: Path) -> MediaUnsupportedError:
    return MediaUnsupportedError(
        f"{shown(path)} is a HEIF picture coded as nothing that can be read here",
        remedy="Save it as JPEG or PNG and scan that; keep the original.",
    )


def check_pixels(size: tuple[int, int], path: Path, limits: Limits) -> None:
    """Raises :class:`MediaLimitError` when a picture of this width and height is over the cap."""
    if size[0] * size[1] > limits.max_pixels:
        raise _too_many_pixels(path, size, limits)


def _too_many_pixels(path: Path, size: tuple[int, int], limits: Limits) -> MediaLimitError:
    return MediaLimitError(f"{shown(path)} has {size[0]}x{size[1]} pixels, over the limit of {limits.max_pixels}")


def reason_of(error: Exception) -> str:
    """What a decoder had to say, in one line."""
    return " ".join(str(error).split()) or type(error).__name__


def _turns_itself(image: Image.Image) -> bool:
    """Pillow gives TIFF pictures upright, and their size too."""
    return image.format == "TIFF"


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except DAMAGE:
        return 1  # damaged EXIF says nothing; the pixels may still be whole
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _turn(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels


def _to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    """Any mode Pillow knows to uint8 [H, W, 3]."""
    if image.mode.startswith("I") or image.mode == "F":
        grey = _to_eight_bits(np.asarray(image), image)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.mode in ("CMYK", "LAB"):
        return np.asarray(_through_profile(image))
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        layer = image.convert("RGBA")
        if layer.getchannel("A").getextrema() == (255, 255):  # says it may be transparent but is not
            return np.asarray(layer.convert("RGB"))
        ground = Image.new("RGBA", layer.size, (_GREY, _GREY, _GREY, 255))
        return np.asarray(Image.alpha_composite(ground, layer).convert("RGB"))
    return np.asarray(image.convert("RGB"))


def _to_eight_bits(values: NDArray[np.generic], image: Image.Image) -> NDArray[np.uint8]:
    """Scale deep grey by the range of its type, so that what was black stays black and nothing clips."""
    deep = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    top = float(deep.max(initial=0.0))
    if image.mode == "F":
        white = next((white for white in (1.0, 255.0, 65535.0) if top <= white), top)
    elif image.mode == "I" and top > 65535:
        white = float(2**31 - 1)
    else:
        white = float(2 ** _bits(image) - 1)
    return np.asarray(np.rint(np.clip(deep / white, 0.0, 1.0) * 255), dtype=np.uint8)


def _bits(image: Image.Image) -> int:
    """Bits of a grey sample: 16, unless a TIFF says 12 and keeps them in 16."""
    tags = getattr(image, "tag_v2", {})
    return 12 if tags.get(TiffImagePlugin.BITSPERSAMPLE) == (12,) else 16


def _through_profile(image: Image.Image) -> Image.Image:
    """CMYK or Lab to RGB by the embedded profile; without a usable one, by Pillow's plain formula."""
    profile = image.info.get("icc_profile")
    if profile:
        try:
            converted = ImageCms.profileToProfile(
                image, ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB"), outputMode="RGB"
            )
        except (ImageCms.PyCMSError, *DAMAGE):
            converted = None  # the profile is broken or for another kind of image
        if converted is not None:
            return converted
    if image.mode == "LAB":
        converted = ImageCms.profileToProfile(
            image, ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
        if converted is not None:
            return converted
    return image.convert("RGB")
