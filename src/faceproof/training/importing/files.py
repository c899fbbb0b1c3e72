"""Opening a checkpoint that somebody else wrote, without running anything it asks for.

PyTorch files are unpickled with an allow-list of tensors, plain containers and numpy numbers; Keras files are read
with h5py alone. What a file is, is decided by its first bytes, never by its name.
"""

from __future__ import annotations

import pickle
import re
import struct
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from faceproof.errors import WeightsError

Kind = Literal["torch", "torch-legacy", "keras", "hdf5", "safetensors", "onnx"]

# Far above every published detector (B7 is 260 MB), far below what would fill a machine.
MOST_BYTES = 4 * 1024**3
MOST_RATIO = 200
_MOST_HEADER = 100_000_000  # safetensors' own limit

HOSTILE = "Do not trust it. Fetch the file from its authors."
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"


def sniff(path: Path) -> Kind:
    """What kind of checkpoint a file is. Raises :class:`WeightsError` that says what is wrong with it."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(512)
    except FileNotFoundError:
        raise WeightsError(f"no such file: {path}", remedy="Check the path.") from None
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror}", remedy="Check the path and permissions.") from error
    if head.startswith(_LFS_POINTER):
        stated = re.search(rb"size (\d+)", head)
        of = f" of a file of {int(stated[1]):,} bytes" if stated else ""
        raise WeightsError(
            f"{path.name} is a Git LFS pointer{of}, not the weights", remedy="Run `git lfs pull` where it came from."
        )
    if size == 0:
        raise WeightsError(f"{path.name} is empty", remedy="Fetch it again.")
    if size > MOST_BYTES:
        raise WeightsError(f"{path.name} has {size:,} bytes, more than any known detector", remedy="Check the file.")
    if head.startswith(b"PK\x03\x04"):
        return _kind_of_zip(path)
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return "hdf5"
    if len(head) > 9 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < _MOST_HEADER:
        return "safetensors"
    if head[:2] in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
        return "torch-legacy"
    if head[:1] == b"\x08" or path.suffix == ".onnx":
        return "onnx"
    if head.lstrip()[:1] == b"<":
        raise WeightsError(f"{path.name} is a web page, not weights", remedy="The download needs a login or a click.")
    raise WeightsError(
        f"{path.name} is no checkpoint Faceproof knows",
        remedy="It reads PyTorch (.pth, .pt, .tar), safetensors, .keras, .h5 and .onnx files.",
    )


def _kind_of_zip(path: Path) -> Kind:
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            check_members(members, path.name)
            damaged = archive.testzip()
    except (zipfile.BadZipFile, EOFError, OSError) as error:
        raise _cut_off(path) from error
    if damaged is not None:
        raise WeightsError(f"{path.name} is damaged at {damaged}", remedy="Fetch it again.")
    names = [member.filename for member in members]
    if "model.weights.h5" in names and "config.json" in names:
        return "keras"
    if any(name.endswith("/data.pkl") for name in names):
        return "torch"
    raise WeightsError(
        f"{path.name} is a zip archive without weights in it", remedy="If it was packed for transport, unpack it first."
    )


def check_members(members: list[zipfile.ZipInfo], name: str) -> None:
    """Raise for an archive that would leave its folder, unpack to far more than it is, or is encrypted."""
    for member in members:
        parts = PurePosixPath(member.filename.replace("\\", "/")).parts
        if ".." in parts or member.filename.startswith(("/", "\\")) or ":" in member.filename.partition("/")[0]:
            raise WeightsError(f"{name} holds the path {member.filename!r}, which leaves its folder", remedy=HOSTILE)
        if member.flag_bits & 1:
            raise WeightsError(f"{name} is encrypted", remedy="Unpack it with its password first.")
        if member.file_size > 1024**2 and member.file_size > MOST_RATIO * max(member.compress_size, 1):
            raise WeightsError(
                f"{name} unpacks {member.filename!r} to {member.file_size:,} bytes: a zip bomb", remedy=HOSTILE
            )
    total = sum(member.file_size for member in members)
    if total > MOST_BYTES:
        raise WeightsError(f"{name} unpacks to {total:,} bytes, more than any known detector", remedy="Check the file.")


def _cut_off(path: Path) -> WeightsError:
    return WeightsError(
        f"{path.name} is cut off or damaged ({path.stat().st_size:,} bytes)", remedy="Fetch it again from its source."
    )


def read_torch(path: Path, kind: Kind) -> Any:
    """What ``torch.save`` wrote, tensors on the CPU. Raises :class:`WeightsError`; runs no code from the file."""
    import warnings

    import torch

    try:
        with torch.serialization.safe_globals(_numpy_numbers()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickles that PyTorch did not write; what is refused is said below
            return torch.load(path, map_location="cpu", weights_only=True, mmap=kind == "torch")
    except pickle.UnpicklingError as error:
        if "Unsupported operand" in str(error) and _pickle_protocol(path) > 2:
            raise WeightsError(
                f"{path.name} is a pickle that PyTorch did not write; it was not run",
                remedy="Ask its author for `torch.save(model.state_dict(), …)`.",
            ) from error
        asked = re.search(r"GLOBAL ([\w.]+)|class ([\w.]+)", str(error))
        if asked:
            raise WeightsError(
                f"{path.name} asks to run {asked[1] or asked[2]} while loading; nothing was run",
                remedy="It holds more than weights. Ask its author for `model.state_dict()`, or convert it where you "
                "trust it.",
            ) from error
        raise _cut_off(path) from error
    except (EOFError, RuntimeError, ValueError, KeyError, OSError, IndexError, struct.error) as error:
        raise _cut_off(path) from error


def _pickle_protocol(path: Path) -> int:
    """The protocol of a bare pickle: PyTorch writes 2. 0 for what begins otherwise."""
    with path.open("rb") as file:
        head = file.read(2)
    return head[1] if len(head) == 2 and head[:1] == b"\x80" else 0


def _numpy_numbers() -> list[Any]:
    """numpy's number types, under their names before and after numpy 2: checkpoints store scores as such."""
    import numpy as np

    scalar = np._core.multiarray.scalar  # type: ignore[attr-defined]
    kinds = ("f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "b1")
    return [
        (scalar, "numpy.core.multiarray.scalar"),
        (scalar, "numpy._core.multiarray.scalar"),
        np.dtype,
        *(type(np.dtype(kind)) for kind in kinds),
    ]


def read_safetensors(path: Path) -> Any:
    """The tensors of a safetensors file. Raises :class:`WeightsError`."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise _cut_off(path) from error
