"""Compiled networks kept between processes, so that a cold start need not compile.

One file for each network, engine version, setting and CPU. Its first line holds the outputs' names and the sha256 of the
rest: OpenVINO's own cache reads back flipped bits as weights and scores with them, and a score must rest on
checked weights only. Whatever does not fit is compiled anew.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from faceproof.runtime.cpu import cpu_flags, cpu_name

MOST_BYTES = 1 << 30


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


def place_of(network: Path, engine: str, settings: Mapping[str, str]) -> Path | None:
    """Where the compiled form of a network file is kept, or None when nothing is."""
    folder = cache_folder()
    if folder is None:
        return None
    digest = hashlib.sha256(json.dumps([engine, dict(settings), cpu_name(), sorted(cpu_flags())]).encode())
    try:
        # An IR keeps its numbers in a file beside it.
        for part in (network, network.with_suffix(".bin")) if network.suffix == ".xml" else (network,):
            digest.update(part.read_bytes())
    except OSError:
        return None
    return folder / f"{digest.hexdigest()}.network"


def read(place: Path | None) -> tuple[tuple[str, ...], bytes] | None:
    """The outputs' names and the compiled network, or None when it is not there or not as it was written."""
    if place is None:
        return None
    try:
        with place.open("rb") as file:
            facts = json.loads(file.readline())
            content = file.read()
        names, digest = tuple(str(name) for name in facts["outputs"]), facts["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if hashlib.sha256(content).hexdigest() != digest:
        return None
    with suppress(OSError):
        os.utime(place)  # used now, so the last to go
    return names, content


def write(place: Path, outputs: tuple[str, ...], content: bytes) -> None:
    """Keep a compiled network. A full or read-only disk only costs the next process its time."""
    head = json.dumps({"outputs": outputs, "sha256": hashlib.sha256(content).hexdigest()})
    fresh = place.with_suffix(f".{os.getpid()}.partial")
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
