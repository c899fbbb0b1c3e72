from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, features

from faceproof.errors import MediaCorruptError, MediaLimitError, MediaUnsupportedError
from faceproof.media import DecodeStats, Limits, probe, read_frames


def only(path: Path) -> np.ndarray:
    """The one frame of a picture, checked for what every frame promises."""
    stats = DecodeStats()
    (frame,) = read_frames(path, "32", stats=stats)
    info = probe(path)
    assert (frame.index, frame.time) == (0, 0.0)
    assert (stats.frames_decoded, stats.frames_failed) == (1, 0)
    assert frame.image.dtype == np.uint8
    assert frame.image.flags.c_contiguous
    assert frame.image.flags.writeable
    assert frame.image.shape == (info.height, info.width, 3)
    assert (info.kind, info.fps, info.duration, info.frame_count) == ("image", None, None, 1)
    return frame.image


@pytest.fixture
def photo(astronaut: np.ndarray) -> Image.Image:
    return Image.fromarray(astronaut).resize((96, 64))


pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")

LOSSLESS = [("PNG", {}), ("BMP", {}), ("TIFF", {}), ("WEBP", {"lossless": True}), ("TIFF", {"compression": "tiff_lzw"})]


@pytest.mark.parametrize(("kind", "options"), LOSSLESS)
def test_lossless_pictures_come_back_bit_for_bit(kind: str, options: dict, photo: Image.Image, tmp_path: Path) -> None:
    photo.save(tmp_path / "picture", kind, **options)
    assert np.array_equal(only(tmp_path / "picture"), np.asarray(photo))
    assert probe(tmp_path / "picture").codec == kind.lower()


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "GIF", "AVIF"])
def test_lossy_pictures_come_back_alike(kind: str, photo: Image.Image, tmp_path: Path) -> None:
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    photo.save(tmp_path / "picture", kind, **({} if kind == "GIF" else {"quality": 95}))
    difference = np.abs(only(tmp_path / "picture").astype(int) - np.asarray(photo).astype(int))
    assert difference.mean() < 8


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation_stands_the_picture_up(
    orientation: int, kind: str, photo: Image.Image, tmp_path: Path
) -> None:
    undo = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    stored = photo if undo is None else photo.transpose(undo)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "picture", kind, exif=exif, **({"quality": 95} if kind in ("JPEG", "WEBP") else {}))
    image = only(tmp_path / "picture")
    assert image.shape == (64, 96, 3)
    assert np.abs(image.astype(int) - np.asarray(photo).astype(int)).mean() < 8
    turns = {3: 180, 4: 180, 5: 90, 6: 90, 7: 270, 8: 270}
    assert probe(tmp_path / "picture").rotation == turns.get(orientation, 0)


def test_nonsense_exif_is_ignored(photo: Image.Image, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 99
    photo.save(tmp_path / "a.png", exif=exif)
    photo.save(tmp_path / "b.png", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    for name in ("a.png", "b.png"):
        assert np.array_equal(only(tmp_path / name), np.asarray(photo))


def test_grey_becomes_three_equal_channels(photo: Image.Image, tmp_path: Path) -> None:
    for mode in ("L", "1"):
        photo.convert(mode).save(tmp_path / "grey.png")
        image = only(tmp_path / "grey.png")
        assert (image == image[:, :, :1]).all()
        assert np.array_equal(image[:, :, 0], np.asarray(photo.convert(mode).convert("L")))


@pytest.mark.parametrize("name", ["deep.png", "deep.tif"])
def test_sixteen_bit_grey_is_scaled_not_clipped(name: str, tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 256 * 8).astype(np.uint16).reshape(8, 256)
    Image.fromarray(ramp).save(tmp_path / name)
    image = only(tmp_path / name)
    assert np.array_equal(image[:, :, 1], np.rint(ramp / 257).astype(np.uint8))
    assert (image.min(), image.max()) == (0, 255)


def test_a_dark_sixteen_bit_picture_stays_dark(tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 8), 2570, np.uint16)).save(tmp_path / "dark.png")
    assert (only(tmp_path / "dark.png") == 10).all()


def _png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_sixteen_bit_colour_is_scaled(tmp_path: Path) -> None:
    values = [(0, 32768, 65535), (2570, 5140, 65280)]
    rows = b"\0" + b"".join(struct.pack(">3H", *pixel) for pixel in values)
    (tmp_path / "rgb48.png").write_bytes(_png(2, 1, 16, 2, rows))
    expected = np.array(values) / 257
    assert np.abs(only(tmp_path / "rgb48.png")[0] - expected).max() <= 1


@pytest.mark.parametrize("white", [1.0, 255.0, 65535.0])
def test_float_grey_is_scaled_by_its_range(white: float, tmp_path: Path) -> None:
    ramp = np.linspace(0, white, 64, dtype=np.float32).reshape(8, 8)
    ramp[0, 1] = np.nan
    Image.fromarray(ramp).save(tmp_path / "float.tif")
    image = only(tmp_path / "float.tif")
    assert (image[0, 0, 0], image[0, 1, 0], image[-1, -1, 0]) == (0, 0, 255)
    assert abs(int(image[4, 0, 0]) - 130) <= 1


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_lies_over_mid_grey(mode: str, tmp_path: Path) -> None:
    layer = Image.new("RGBA", (40, 20), (200, 200, 200, 255))
    layer.paste((200, 200, 200, 0), (20, 0, 40, 20))
    options = {}
    if mode == "P":
        layer = Image.new("P", (40, 20), 1)
        layer.putpalette([9, 9, 9, 200, 200, 200])
        layer.paste(0, (20, 0, 40, 20))
        options = {"transparency": 0}
    elif mode == "LA":
        layer = layer.convert("LA")
    layer.save(tmp_path / "alpha.png", **options)
    image = only(tmp_path / "alpha.png")
    assert (image[:, :20] == 200).all()
    assert (image[:, 20:] == 128).all()


def test_alpha_that_hides_nothing_changes_nothing(photo: Image.Image, tmp_path: Path) -> None:
    photo.convert("RGBA").save(tmp_path / "opaque.png")
    assert np.array_equal(only(tmp_path / "opaque.png"), np.asarray(photo))


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_keeps_its_colours(kind: str, photo: Image.Image, tmp_path: Path) -> None:
    photo.convert("CMYK").save(tmp_path / "cmyk", kind, **({"quality": 95} if kind == "JPEG" else {}))
    assert np.abs(only(tmp_path / "cmyk").astype(int) - np.asarray(photo).astype(int)).mean() < 6


def test_a_profile_that_does_not_fit_is_ignored(photo: Image.Image, tmp_path: Path) -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for profile in (srgb, b"not a profile"):
        photo.convert("CMYK").save(tmp_path / "cmyk.jpg", quality=95, icc_profile=profile)
        assert np.abs(only(tmp_path / "cmyk.jpg").astype(int) - np.asarray(photo).astype(int)).mean() < 6


def test_lab_becomes_rgb(photo: Image.Image, tmp_path: Path) -> None:
    lab = ImageCms.profileToProfile(
        photo, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    assert lab is not None
    lab.save(tmp_path / "lab.tif")
    assert np.abs(only(tmp_path / "lab.tif").astype(int) - np.asarray(photo).astype(int)).mean() < 6


def test_one_pixel_is_a_picture(tmp_path: Path) -> None:
    Image.new("RGB", (1, 1), (1, 2, 3)).save(tmp_path / "dot.png")
    assert only(tmp_path / "dot.png").tolist() == [[[1, 2, 3]]]


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    (tmp_path / "bomb.png").write_bytes(_png(60_000, 60_000, 8, 2, b"\0" * 1000))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for limits in (Limits(), Limits(max_pixels=3_000_000_000)):
            with pytest.raises(MediaLimitError, match="60000x60000"):
                probe(tmp_path / "bomb.png", limits=limits)
            with pytest.raises(MediaLimitError):
                list(read_frames(tmp_path / "bomb.png", limits=limits))


def test_the_cap_on_pixels_is_settable(astronaut_png: Path, tmp_path: Path) -> None:
    with pytest.raises(MediaLimitError, match="512x512"):
        probe(astronaut_png, limits=Limits(max_pixels=512 * 512 - 1))
    assert probe(astronaut_png, limits=Limits(max_pixels=512 * 512)).width == 512
    Image.new("1", (20_000, 10_000)).save(tmp_path / "large.png")  # more than Pillow itself opens
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert probe(tmp_path / "large.png", limits=Limits(max_pixels=200_000_000)).width == 20_000


def test_a_truncated_picture_is_corrupt_not_half_grey(damaged: dict[str, Path]) -> None:
    stats = DecodeStats()
    assert probe(damaged["truncated_jpg"]).kind == "image"
    with pytest.raises(MediaCorruptError, match="does not decode"):
        list(read_frames(damaged["truncated_jpg"], stats=stats))
    assert (stats.frames_decoded, stats.frames_failed) == (0, 1)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "AVIF"])
def test_damage_anywhere_is_a_typed_error_or_a_picture(
    kind: str, photo: Image.Image, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    buffer = io.BytesIO()
    photo.save(buffer, kind)
    whole = buffer.getvalue()
    path = tmp_path / "damaged"
    random = np.random.default_rng(3)
    for turn in range(40):
        content = bytearray(whole[: random.integers(16, len(whole))] if turn % 2 else whole)
        for at in random.integers(12, len(content), 8):
            content[at] = random.integers(256)
        path.write_bytes(content)
        try:
            (frame,) = read_frames(path, limits=Limits(max_pixels=1_000_000))
            assert frame.image.ndim == 3
        except (MediaCorruptError, MediaLimitError, MediaUnsupportedError) as error:
            assert error.remedy  # noqa: PT017
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("brand", [b"avif", b"mif1"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_avif_is_turned_once(orientation: int, brand: bytes, photo: Image.Image, tmp_path: Path) -> None:
    if not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    exif = Image.Exif()
    exif[0x0112] = orientation
    turns = {1: 0, 3: 2, 6: 1, 8: 3}[orientation]
    stored = Image.fromarray(np.ascontiguousarray(np.rot90(np.asarray(photo), turns)))
    buffer = io.BytesIO()
    stored.save(buffer, "AVIF", exif=exif, quality=95)  # writes irot, and EXIF beside it
    content = buffer.getvalue()
    assert b"irot" in content or orientation == 1
    # Some programs put the general brand first and name the coding among the others.
    (tmp_path / "a.avif").write_bytes(content[:8] + brand + content[12:])
    assert np.abs(only(tmp_path / "a.avif").astype(int) - np.asarray(photo).astype(int)).mean() < 8
