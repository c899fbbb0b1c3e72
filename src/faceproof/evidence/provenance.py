"""Where a file comes from, as far as it says so itself. A lane of its own: nothing here ever touches the score."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from faceproof.evidence import texts
from faceproof.evidence.credentials import ContentCredentials, read_credentials
from faceproof.evidence.frame_sizes import size_rhythm
from faceproof.evidence.metadata import Metadata, read_metadata
from faceproof.evidence.recompression import DOUBLE, jpeg_history
from faceproof.media import Limits, MediaInfo, probe
from faceproof.media.files import open_regular

# Encoders that converters and platforms leave behind, by how their mark begins.
_CONVERTERS = ("Lavf", "Lavc", "x264", "x265", "HandBrake", "Google", "vlc")


class Hint(BaseModel):
    """One thing about the file's way here. ``code`` is stable, ``text`` is for people."""

    model_config = ConfigDict(extra="forbid")

    code: str
    text: str


class Provenance(BaseModel):
    """All that the file says about its origin. Absent means absent, not suspicious."""

    model_config = ConfigDict(extra="forbid")

    size_bytes: int
    sha256: str
    sha1: str
    md5: str
    credentials: ContentCredentials
    metadata: Metadata
    hints: list[Hint] = Field(default_factory=list)


def read_provenance(path: str | os.PathLike[str] | MediaInfo, *, limits: Limits | None = None) -> Provenance:
    """Read the provenance lane of one file, offline. Raises :class:`faceproof.errors.MediaError` for what is no media."""
    limits = limits or Limits()
    info = path if isinstance(path, MediaInfo) else probe(path, limits=limits)
    metadata = read_metadata(info, limits)
    sha256, sha1, md5 = _digests(info.path)
    return Provenance(
        size_bytes=info.size_bytes,
        sha256=sha256,
        sha1=sha1,
        md5=md5,
        credentials=read_credentials(info.path),
        metadata=metadata,
        hints=_hints(info, metadata, limits),
    )


def _digests(path: Path) -> tuple[str, str, str]:
    """SHA-256 to rely on; SHA-1 and MD5 because older catalogues know files by them."""
    made = [hashlib.sha256(), hashlib.sha1(usedforsecurity=False), hashlib.md5(usedforsecurity=False)]
    with open_regular(path) as file:
        while piece := file.read(1 << 20):
            for digest in made:
                digest.update(piece)
    first, second, third = (digest.hexdigest() for digest in made)
    return first, second, third


def _hints(info: MediaInfo, metadata: Metadata, limits: Limits) -> list[Hint]:
    hints: list[Hint] = []

    def add(code: str, **numbers: object) -> None:
        hints.append(Hint(code=code, text=texts.HINTS[code].format(**numbers)))

    history = jpeg_history(info.path, limits) if info.kind == "image" else None
    if history is not None:
        quality, strength = history
        add("double_jpeg" if strength >= DOUBLE else "single_jpeg", quality=quality, strength=strength)
    is_video = info.kind == "video" and not info.animation
    rhythm = size_rhythm(info.path, limits) if is_video else None
    if rhythm is not None:
        add("double_video" if rhythm.tells else "no_rhythm", period=rhythm.period, chance=rhythm.chance)
    for track, count in enumerate(metadata.edit_lists, 1):
        if count:
            add("edit_list", track=track, count=count)
    converters = [encoder for encoder in metadata.encoders if encoder.startswith(_CONVERTERS)]
    if converters:
        add("encoder", encoder=", ".join(converters))
    if is_video and not any("creation" in key.lower() for key in metadata.container):
        add("no_creation_time")
    if metadata.has_thumbnail:
        add("thumbnail")
    return hints
