"""Evidence of several files that an earlier scan wrote: what of it still stands is kept, and not scanned for again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from faceproof.batch import ScanOptions
from faceproof.detectors.catalog import DEFAULT_DETECTOR
from faceproof.detectors.ensemble import fingerprint
from faceproof.errors import EvidenceError, MediaError, OutputError
from faceproof.evidence.arrivals import mark_of
from faceproof.evidence.custody import place_for
from faceproof.evidence.verification import read_manifest, read_report, verify
from faceproof.judge import shown_path
from faceproof.media import Limits
from faceproof.media.files import open_regular, sha256_of
from faceproof.results import Report

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

_REMEDY = "Evidence is never overwritten: choose another folder."


def kept_reports(
    files: Sequence[Path],
    base: Path,
    options: ScanOptions,
    *,
    key: Ed25519PublicKey | None = None,
    resume: bool = True,
) -> dict[Path, Report]:
    """Of ``files``, those whose evidence below ``base`` stands and is of the scan that ``options`` ask for, with its report.

    key: whose signature it must bear, None where any or none will do. Only files that seem to have evidence are read.

    Raises :class:`OutputError` when something else is where evidence would go (also what is kept, without ``resume``), so
    that nothing is scanned in vain, and :class:`faceproof.errors.UnknownDetectorError`.
    """
    if base.exists() and not base.is_dir():
        raise OutputError(f"{base} is a file", remedy="Name a folder.")
    found: dict[Path, Report] = {}
    wanted = fingerprint(options.detector or DEFAULT_DETECTOR)
    for path in files:
        place = _place(path, base)
        if place is None or not _is_taken(place):
            continue
        if not resume:
            raise OutputError(f"{place} exists", remedy=_REMEDY)
        try:
            _, manifest = read_manifest(place)
        except EvidenceError as error:
            raise OutputError(f"{place} exists and is no evidence of this version", remedy=_REMEDY) from error
        if manifest.detector.spec_sha256 != wanted or _asked(manifest.settings) != _asked(asdict(options)):
            raise OutputError(
                f"{place} holds the evidence of another scan: another detector or other options", remedy=_REMEDY
            )
        if not verify(place, key=key).stands:
            raise OutputError(
                f"the evidence in {place} does not stand as it should",
                remedy=f"`faceproof verify` says why. {_REMEDY}",
            )
        report = read_report(place)
        media = report.media.model_copy(update={"path": shown_path(path)})  # where the file lies now
        found[path] = report.model_copy(update={"media": media})
    return found


class Standing:
    """What evidence stands for files that arrive one by one: asked before each is scanned.

    ``base``, ``options``, ``key``: as for :func:`kept_reports`.
    """

    def __init__(self, base: Path, options: ScanOptions, *, key: Ed25519PublicKey | None = None) -> None:
        self._base, self._options, self._key = base, options, key
        self._known: dict[Path, tuple[int, int]] = {}

    def look_through(self, files: Sequence[Path]) -> int:
        """How many of ``files`` have theirs; they are not read again while they stay as they are. Raises as
        :func:`kept_reports`."""
        marks = {path: mark for path in files if (mark := mark_of(path)) is not None}
        for path in kept_reports(list(marks), self._base, self._options, key=self._key):
            self._known[path] = marks[path]
        return len(self._known)

    def knows(self, path: Path) -> bool:
        """Whether :meth:`look_through` found it, and it is still the file that it was."""
        return path in self._known and self._known[path] == mark_of(path)

    def has(self, path: Path) -> bool:
        """Whether the file has its evidence. Raises as :func:`kept_reports`."""
        return bool(kept_reports([path], self._base, self._options, key=self._key))


def _place(path: Path, base: Path) -> Path | None:
    """Where a file's evidence goes, None where there is none for any file of its name or it cannot be read."""
    name = Path(shown_path(path)).name
    if not any(base.glob(f"{place_for(base, name, '').name}*")):
        return None
    try:
        with open_regular(path) as file:
            return place_for(base, name, sha256_of(file, path))
    except MediaError:
        return None  # the scan will say why


def _is_taken(place: Path) -> bool:
    try:
        return place.exists() and (not place.is_dir() or any(place.iterdir()))
    except OSError as error:
        raise OutputError(f"cannot look into {place}: {error.strerror}") from error


def _asked(settings: dict[str, object]) -> object:
    """Options as JSON keeps them, but for the detector, of which its fingerprint tells more, and what changes no score."""
    told = {name: value for name, value in settings.items() if name not in ("detector", "threads")}
    return json.loads(json.dumps(told | {"limits": told.get("limits") or asdict(Limits())}))
