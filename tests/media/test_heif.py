"""HEIC pictures, made here: what comes out is what went in, once upright."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from faceproof.errors import MediaCorruptError, MediaLimitError, MediaUnsupportedError
from faceproof.evidence.metadata import read_metadata
from faceproof.media import Limits, probe, read_frames
from tests.media.heif_files import heic, needs_heif

pytestmark = needs_heif


@pytest.fixture(autouse=True)
def _decoder() -> None:
    pytest.importorskip("pi_heif")


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    """uint8 [96, 128, 3], different at every edge."""
    return ramps(96, 128)


def ramps(height: int, width: int) -> np.ndarray:
    down, across = np.mgrid[:height, :width]
    return np.stack([across, down, (across + down) // 2], axis=2).astype(np.uint8)


def only(path: Path) -> np.ndarray:
    (frame,) = read_frames(path, "32")
    info = probe(path)
    assert frame.image.shape == (info.height, info.width, 3)
    assert frame.image.flags.c_contiguous
    assert frame.image.flags.writeable
    assert (info.kind, info.codec, info.frame_count, info.several) == ("image", "heif", 1, False)
    return frame.image


def alike(image: np.ndarray, wanted: np.ndarray) -> bool:
    return image.shape == wanted.shape and bool(np.abs(image.astype(int) - wanted.astype(int)).max() <= 4)


def exif_of(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x0110] = "Telephone 15"
    content = exif.tobytes()
    return content.removeprefix(b"Exif\0\0")


@pytest.mark.parametrize("brand", [b"heic", b"mif1"])
def test_a_telephones_picture_is_read(brand: bytes, photo: np.ndarray, tmp_path: Path) -> None:
    (tmp_path / "IMG_1.HEIC").write_bytes(heic([[photo]], brand=brand))
    assert alike(only(tmp_path / "IMG_1.HEIC"), photo)


def test_all_tiles_make_the_picture(tmp_path: Path) -> None:
    large = ramps(128, 192)
    tiles = [[large[y : y + 64, x : x + 64] for x in (0, 64, 128)] for y in (0, 64)]
    (tmp_path / "tiled.heic").write_bytes(heic(tiles, size=(180, 120)))
    assert alike(only(tmp_path / "tiled.heic"), large[:120, :180])


@pytest.mark.parametrize("turn", range(4))
@pytest.mark.parametrize("mirror", [None, 0, 1])
@pytest.mark.parametrize("repeated", [False, True])
def test_it_is_turned_once_whether_exif_repeats_it_or_not(
    turn: int, mirror: int | None, repeated: bool, photo: np.ndarray, tmp_path: Path
) -> None:
    exif = exif_of((1, 8, 3, 6)[turn]) if repeated else b""
    (tmp_path / "turned.heic").write_bytes(heic([[photo]], turn=turn, mirror=mirror, exif=exif))
    wanted = np.rot90(photo, turn)
    wanted = wanted if mirror is None else np.flip(wanted, mirror)
    assert alike(only(tmp_path / "turned.heic"), wanted)


def test_exif_alone_turns_nothing(photo: np.ndarray, tmp_path: Path) -> None:
    # ISO/IEC 23008-12: what the file's own properties say holds, and they say nothing.
    (tmp_path / "flat.heic").write_bytes(heic([[photo]], exif=exif_of(6)))
    assert alike(only(tmp_path / "flat.heic"), photo)


def test_what_exif_says_reaches_the_evidence(photo: np.ndarray, tmp_path: Path) -> None:
    (tmp_path / "a.heic").write_bytes(heic([[photo]], exif=exif_of(1)))
    assert read_metadata(probe(tmp_path / "a.heic"), Limits()).exif["Model"] == "Telephone 15"


def test_the_cap_on_pixels_holds(photo: np.ndarray, tmp_path: Path) -> None:
    (tmp_path / "a.heic").write_bytes(heic([[photo]]))
    with pytest.raises(MediaLimitError, match="128x96"):
        probe(tmp_path / "a.heic", limits=Limits(max_pixels=128 * 96 - 1))


def test_another_coding_is_said_to_be_one(photo: np.ndarray, tmp_path: Path) -> None:
    (tmp_path / "a.heic").write_bytes(heic([[photo]], brand=b"mif1", item=b"j2k1"))
    with pytest.raises(MediaUnsupportedError, match="HEIF") as caught:
        probe(tmp_path / "a.heic")
    assert "JPEG" in caught.value.remedy


def test_damage_is_a_typed_error_or_a_picture(
    photo: np.ndarray, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    whole = heic([[photo]])
    path = tmp_path / "damaged.heic"
    for share in (0.02, 0.1, 0.5, 0.95):
        path.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(MediaCorruptError):
            list(read_frames(path))
    random = np.random.default_rng(5)
    for turn in range(60):
        content = bytearray(whole)
        for at in random.integers(12, 900 if turn % 2 else len(content), 8):
            content[at] = random.integers(256)
        path.write_bytes(content)
        try:
            (frame,) = read_frames(path, limits=Limits(max_pixels=1_000_000))
            assert frame.image.ndim == 3
        except (MediaCorruptError, MediaLimitError, MediaUnsupportedError) as error:
            assert error.remedy  # noqa: PT017
    assert capfd.readouterr() == ("", "")


def test_without_the_extra_the_message_names_it(
    photo: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "phone.jpg").write_bytes(heic([[photo]]))
    monkeypatch.setitem(sys.modules, "pi_heif", None)
    with pytest.raises(MediaUnsupportedError, match="HEIC") as caught:
        probe(tmp_path / "phone.jpg")
    assert "pip install 'faceproof[heif]'" in caught.value.remedy
    assert "JPEG" in caught.value.remedy
