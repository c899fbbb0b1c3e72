"""Compiled networks kept between processes, so that a cold start need not compile.

One file for each network, engine version, setting and CPU. Its first line holds the outputs' names, how far the network is
in eight bits and the sha256 of the rest: OpenVINO's own cache reads back flipped bits as weights and scores with them, and
a score must rest on checked weights only. Whatever does not fit is compiled anew.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from faceproof.runtime.cpu import cpu_flags, cpu_name

MOST_BYTES = 1 << 30

EightBits = Literal["nothing", "weights", "activations"]


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """A compiled network as it was kept: its outputs' names, what of it is in eight bits, and the engine's own bytes, uint8
    ``[N]``, in memory that nobody else can change."""

    outputs: tuple[str, ...]
    eight_bits: EightBits
    content: npt.NDArray[np.uint8]


def cache_folder() -> Path | None:
    """``FACEPROOF_CACHE``, otherwise the platform's cache folder for the user; made when missing.

    None where nothing can be written there, or where ``FACEPROOF_CACHE`` is empty: then every process compiles.
    """
    chosen = os.environ.get("FACEPROOF_CACHE")
    if chosen is not None and not chosen:
        return None
    if chosen:
        folder = Path(chosen).expanduser()
    else:
        import platformdirs

        folder = Path(platformdirs.user_cache_dir("faceproof", appauthor=False))
    folder = folder / "compiled"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK) else None


def place_of(network: Path, engine: str, settings: Mapping[str, str], sha256: str | None = None) -> Path | None:
    """Where the compiled form of a network file is kept, or None when nothing is. ``sha256``: the file's, where the caller
    has just checked it."""
    folder = cache_folder()
    if folder is None:
        return None
    digest = hashlib.sha256(json.dumps([engine, dict(settings), cpu_name(), sorted(cpu_flags())]).encode())
    try:
        digest.update((sha256 or _sha256(network)).encode())
        if network.suffix == ".xml":  # an IR keeps its numbers in a file beside it
            digest.update(_sha256(network.with_suffix(".bin")).encode())
    except OSError:
        return None
    return folder / f"{digest.hexdigest()}.network"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read(place: Path | None) -> Kept | None:
    """The compiled network, or None when it is not there or not as it was written."""
    if place is None:
        return None
    try:
        with place.open("rb") as file:
            facts = json.loads(file.readline())
            # One large array is a few pages for the system; bytes that grow as they are read are copied and many thousands.
            content = np.empty(max(0, os.fstat(file.fileno()).st_size - file.tell()), np.uint8)
            if file.readinto(content.data) != len(content):
                return None
        names, digest = tuple(str(name) for name in facts["outputs"]), facts["sha256"]
        eight_bits = facts["eight_bits"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if hashlib.sha256(content.data).hexdigest() != digest or eight_bits not in get_args(EightBits):
        return None
    with suppress(OSError):
        os.utime(place)  # used now, so the last to go
    return Kept(names, eight_bits, content)


def write(place: Path, outputs: tuple[str, ...], eight_bits: EightBits, content: bytes) -> None:
    """Keep a compiled network. A full or read-only disk only costs the next process its time."""
    head = json.dumps({"outputs": outputs, "eight_bits": eight_bits, "sha256": hashlib.sha256(content).hexdigest()})
    # Two threads may compile one network at the same time.
    fresh = place.with_suffix(f".{os.getpid()}-{threading.get_ident()}.partial")
    try:
        fresh.write_bytes(head.encode() + b"\n" + content)
        fresh.replace(place)
        _forget_oldest(place.parent)
    except OSError:
        with suppress(OSError):
            fresh.unlink()


def _forget_oldest(folder: Path) -> None:
    kept = sorted(((entry.stat().st_mtime, entry.stat().st_size, entry) for entry in folder.iterdir()), reverse=True)
    total = 0
    for _, size, entry in kept:
        total += size
        if total > MOST_BYTES:
            entry.unlink(missing_ok=True)
