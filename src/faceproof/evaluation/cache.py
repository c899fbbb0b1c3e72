"""Reports already made, so that a stopped evaluation goes on and a second one of the same detector costs nothing.

A report is filed under everything that decides the scores of its faces: the media's sha256, the parts of the spec that
find, cut and score faces, the weights' sha256, the sampling, the face search, the precision and the version of
Faceproof. Calibration, bands, thresholds and aggregation are not part of it: where they have changed, the stored faces are
judged again. Only of videos sampled by ``auto`` they are, because there the verdict so far decides what is looked at
next. Failures are never kept: they may pass.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pydantic import ValidationError

from faceproof import __version__
from faceproof.batch import ScanOptions
from faceproof.detectors.ensemble import EnsembleSpec, fingerprint
from faceproof.detectors.spec import DetectorSpec, scoring_sha256, spec_sha256
from faceproof.errors import MediaError, OutputError
from faceproof.judge import judge_again
from faceproof.media.files import MediaKind, open_regular, sha256_of
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
    """Reports of one detector under one set of options, in a folder of their own below ``folder``. An ensemble's reports
    hold too little to be judged again: its whole record decides."""

    folder: Path
    spec: DetectorSpec | EnsembleSpec
    options: ScanOptions

    @cached_property
    def place(self) -> Path:
        """Where this detector's reports lie: its name and the hash of what scores faces."""
        spec = self.spec
        scoring = fingerprint(spec.name) if isinstance(spec, EnsembleSpec) else scoring_sha256(spec)
        return self.folder / f"{spec.name}-{scoring[:24]}"

    @cached_property
    def _judged_by(self) -> str | None:
        return None if isinstance(self.spec, EnsembleSpec) else spec_sha256(self.spec)

    @cached_property
    def _rules(self) -> str:
        rules = {"aggregate", "calibration", "verdict"}
        return self.spec.model_dump_json(include=rules, exclude={"verdict": {"fitted"}})

    @cached_property
    def _settings(self) -> str:
        options = self.options
        return f"{options.frames}|{options.faces}|{options.precision}|{options.device}|{options.limits}|{__version__}"

    def _file(self, media: str, kind: MediaKind) -> Path:
        settings = self._settings
        frames = self.spec.frames
        if kind == "video" and self.options.frames == "auto" and frames is not None and frames.sampling == "auto":
            # How many frames are looked at, and where, follows from the verdict so far.
            settings += f"|{self._rules}"
        return self.place / f"{media}-{hashlib.sha256(settings.encode()).hexdigest()[:12]}.json.gz"

    def get(self, media: str, kind: MediaKind) -> Report | None:
        """The report of the media with this hash, None when there is none or it is damaged. One that was judged by
        another rule than the spec's is judged again."""
        try:
            report = Report.model_validate_json(gzip.decompress(self._file(media, kind).read_bytes()))
        except (OSError, EOFError, zlib.error, ValidationError):
            # Not there, or damaged: the next report takes its place.
            return None
        if isinstance(self.spec, EnsembleSpec) or report.detector.spec_sha256 == self._judged_by:
            return report
        return judge_again(report, self.spec)

    def put(self, media: str, kind: MediaKind, report: Report) -> None:
        """Keep a report; it is there whole or not at all. Raises :class:`OutputError`."""
        file = self._file(media, kind)
        fresh = file.with_name(f"{file.name}.{os.getpid()}.new")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            fresh.write_bytes(gzip.compress(report.model_dump_json().encode(), compresslevel=1, mtime=0))
            fresh.replace(file)
        except OSError as error:
            with suppress(OSError):
                fresh.unlink()
            raise OutputError(f"cannot keep scores in {file.parent}: {error.strerror}") from error
