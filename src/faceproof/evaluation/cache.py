"""Reports already made, so that a stopped evaluation goes on and a second one of the same detector costs nothing.

A report is filed under everything that decides it: the media's sha256, the spec's and the weights' sha256, the sampling,
the face search, the precision and the version of Faceproof. Failures are never kept: they may pass.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from faceproof import __version__
from faceproof.batch import ScanOptions
from faceproof.detectors.spec import DetectorSpec, spec_sha256
from faceproof.errors import MediaError, OutputError
from faceproof.media.files import open_regular, sha256_of
from faceproof.results import Report


def default_folder() -> Path:
    """The platform's cache folder for scores. Not created here."""
    import platformdirs

    return Path(platformdirs.user_cache_dir("faceproof", appauthor=False)) / "scores"


def media_sha256(path: Path) -> str | None:
    """The file's hash, None when it cannot be read (the scan will say why)."""
    try:
        with open_regular(path, max_bytes=None) as file:
            return sha256_of(file, path)
    except MediaError:
        return None


@dataclass(frozen=True)
class ScoreCache:
    """Reports of one detector under one set of options, in a folder of their own below ``folder``."""

    folder: Path
    spec: DetectorSpec
    options: ScanOptions

    @property
    def place(self) -> Path:
        """Where this detector's reports lie: its name, its spec's hash and its weights'."""
        weights = self.spec.weights.sha256 or "none"
        return self.folder / f"{self.spec.name}-{spec_sha256(self.spec)[:12]}-{weights[:12]}"

    def _file(self, media: str) -> Path:
        options = self.options
        settings = (
            f"{options.frames}|{options.faces}|{options.precision}|{options.device}|{options.limits}|{__version__}"
        )
        return self.place / f"{media}-{hashlib.sha256(settings.encode()).hexdigest()[:12]}.json.gz"

    def get(self, media: str) -> Report | None:
        """The report of the media with this hash, None when there is none or it is damaged."""
        try:
            return Report.model_validate_json(gzip.decompress(self._file(media).read_bytes()))
        except (OSError, EOFError, zlib.error, ValidationError):
            # Not there, or damaged: the next report takes its place.
            return None

    def put(self, media: str, report: Report) -> None:
        """Keep a report; it is there whole or not at all. Raises :class:`OutputError`."""
        file = self._file(media)
        fresh = file.with_name(f"{file.name}.{os.getpid()}.new")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            fresh.write_bytes(gzip.compress(report.model_dump_json().encode(), compresslevel=1, mtime=0))
            fresh.replace(file)
        except OSError as error:
            with suppress(OSError):
                fresh.unlink()
            raise OutputError(f"cannot keep scores in {file.parent}: {error.strerror}") from error
