"""Checking an evidence folder: is it whole, who signed it, and does the scan come out the same again?

The folder is hostile input: names in its manifest are never followed out of it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from faceproof.batch import ScanOptions
from faceproof.detectors.detector import Detector, load_detector
from faceproof.errors import EvidenceError, FaceproofError
from faceproof.evidence import texts
from faceproof.evidence.custody import MANIFEST, SIGNATURE, Manifest
from faceproof.evidence.signing import Signature, fingerprint, public_key_of, signature_fits
from faceproof.media import Limits, probe
from faceproof.results import Report
from faceproof.scanning import scan

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

SAME_PRECISION = 1e-3
OTHER_PRECISION = 5e-2
_LARGEST_MANIFEST = 64 << 20
# Every frame of two hours with two people in them is 200 MB.
_LARGEST_REPORT = 1 << 30


@dataclass(frozen=True)
class Finding:
    """One thing checked. ``good`` is None for what a reader must judge, such as a missing signature."""

    code: str
    good: bool | None
    text: str


@dataclass
class Verification:
    """All findings; the evidence stands when none of them is bad."""

    findings: list[Finding] = field(default_factory=list)

    @property
    def stands(self) -> bool:
        return all(finding.good is not False for finding in self.findings)

    @property
    def complete(self) -> bool:
        """Whether all that was asked for could be checked."""
        return all(finding.code != "not_repeated" for finding in self.findings)

    def add(self, code: str, good: bool | None, **words: Any) -> None:
        self.findings.append(Finding(code, good, texts.VERIFY[code].format(**words)))


def in_short(found: Verification) -> str:
    """What all findings come to: who wrote it is part of whether it stands."""
    codes = {finding.code for finding in found.findings}
    if not found.stands:
        return texts.VERIFY["falls"]
    if not found.complete:
        return texts.VERIFY["stands_so_far"]
    return texts.VERIFY[
        "stands" if "signed_known" in codes else "stands_unsigned" if "unsigned" in codes else "stands_by"
    ]


def verify(folder: Path, *, key: Ed25519PublicKey | None = None) -> Verification:
    """Check hashes and signature of an evidence folder. ``key`` is the signer's, when known from elsewhere.

    Raises :class:`EvidenceError` when there is no readable manifest.
    """
    found = Verification()
    content, manifest = read_manifest(folder)
    _check_files(folder, manifest, found)
    _check_signature(folder, content, key, found)
    return found


def verify_rescan(
    folder: Path, media: Path | None = None, *, detector: Detector | None = None, limits: Limits | None = None
) -> Verification:
    """Scan the judged file again with the manifest's settings and compare every score.

    ``media`` is where the file lies now; by default where the report says, or beside the folder. ``detector`` is the
    installed one of the report's name unless given. Raises what :func:`faceproof.scan` raises, and
    :class:`EvidenceError` when the file is not found or the report is not readable.
    """
    found = Verification()
    _, manifest = read_manifest(folder)
    before = read_report(folder)
    path = media or _find_media(folder, before)
    if probe(path, limits=limits or Limits()).sha256 != manifest.media.sha256:
        found.add("media_differs", False)
        return found
    found.add("media_same", True)
    options = _options(manifest)
    if detector is None:
        precision = manifest.detector.precision
        detector = load_detector(
            manifest.detector.name,
            device=options.device,
            precision=precision if precision in ("fp32", "bf16") else "auto",  # type: ignore[arg-type]
        )
    after = scan(path, detector=detector, frames=options.frames, faces=options.faces, limits=limits or options.limits)
    differing = [
        name
        for name, old, new in (
            ("its spec", before.detector.spec_sha256, after.detector.spec_sha256),
            ("its weights", before.detector.weights_sha256, after.detector.weights_sha256),
        )
        if old != new
    ]
    if differing:
        found.add("other_detector", False, what=" and ".join(differing))
    compare(before, after, found)
    return found


def verify_all(folder: Path, media: Path | None = None, *, key: Ed25519PublicKey | None = None) -> Verification:
    """:func:`verify` and then :func:`verify_rescan`. What keeps the scan from being repeated is a finding too, beside
    those made before; numbers of a folder that was changed are not worth a scan.

    Raises :class:`EvidenceError` when there is no readable manifest.
    """
    found = verify(folder, key=key)
    if not found.stands:
        found.add("not_repeated", None, why=texts.VERIFY["changed_before"], remedy="")
        return found
    try:
        found.findings += verify_rescan(folder, media).findings
    except FaceproofError as error:
        found.add("not_repeated", None, why=error.message, remedy=f". {error.remedy}" if error.remedy else "")
    return found


def compare(before: Report, after: Report, found: Verification) -> None:
    """Add what differs between two reports on one file: people, verdict, and the largest difference of any score."""
    tolerance = SAME_PRECISION
    if before.detector.precision != after.detector.precision:
        tolerance = OTHER_PRECISION
        found.add(
            "other_precision",
            None,
            before=before.detector.precision,
            after=after.detector.precision,
            tolerance=tolerance,
        )
    old, new = ({track.id: track.score for track in report.tracks} for report in (before, after))
    if old.keys() != new.keys():
        found.add("rescan_people", False, before=len(old), after=len(new))
    if before.verdict is not after.verdict:
        found.add("rescan_verdict", False, before=before.verdict.value, after=after.verdict.value)
    pairs = [(before.score, after.score), *((old[number], new[number]) for number in old.keys() & new.keys())]
    difference = max(_difference(a, b) for a, b in pairs)
    good = difference <= tolerance
    found.add("rescan_same" if good else "rescan_differs", good, difference=difference, tolerance=tolerance)


def _difference(a: float | None, b: float | None) -> float:
    if a is None or b is None:
        return 0.0 if a is b else 1.0
    return abs(a - b)


def read_manifest(folder: Path) -> tuple[bytes, Manifest]:
    """The manifest's exact bytes and what they say. Raises :class:`EvidenceError`."""
    content = _read(folder / MANIFEST)
    try:
        return content, Manifest.model_validate_json(content)
    except ValidationError as error:
        raise EvidenceError(
            f"{folder / MANIFEST} is not a manifest of this version of Faceproof: {error.error_count()} faults",
            remedy="It was changed, or written by a newer version.",
        ) from error


def _read(path: Path, most: int = _LARGEST_MANIFEST) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(most)
            if file.read(1):
                raise EvidenceError(
                    f"{path} has more than {most} bytes",
                    remedy="It is too large to be read here, and was perhaps changed.",
                )
            return content
    except OSError as error:
        raise EvidenceError(
            f"cannot read {path}: {error.strerror}", remedy="Give the folder that `scan --evidence` wrote."
        ) from error


def read_report(folder: Path) -> Report:
    """The report that is evidence here. Raises :class:`EvidenceError`."""
    try:
        return Report.model_validate_json(_read(folder / "report.json", _LARGEST_REPORT))
    except ValidationError as error:
        raise EvidenceError(f"{folder / 'report.json'} is not a report", remedy="It was changed.") from error


def _check_files(folder: Path, manifest: Manifest, found: Verification) -> None:
    good = 0
    for name, entry in manifest.files.items():
        path = _inside(folder, name)
        # The folder itself may be reached by a link; what is in it may not lead elsewhere.
        within = [] if path is None else [path, *(p for p in path.parents if p != folder and p.is_relative_to(folder))]
        if path is None or any(p.is_symlink() for p in within):
            found.add("changed", False, name=name)
        elif not path.is_file():
            found.add("missing", False, name=name)
        elif path.stat().st_size != entry.size or _sha256(path) != entry.sha256:
            found.add("changed", False, name=name)
        else:
            good += 1
    known = {*manifest.files, MANIFEST, SIGNATURE}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if (path.is_symlink() or not path.is_dir()) and name not in known:
            found.add("added", False, name=name)
    if good == len(manifest.files):
        found.add("whole", True, count=good)


def _inside(folder: Path, name: str) -> Path | None:
    """The path of a manifest's entry, None for a name that would lead out of the folder."""
    pure = PurePosixPath(name)
    if pure.is_absolute() or not pure.parts or ".." in pure.parts or "\\" in name or "\0" in name or ":" in name:
        return None
    return folder.joinpath(*pure.parts)


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise EvidenceError(f"cannot read {path}: {error.strerror}", remedy="Check its permissions.") from error


def _check_signature(folder: Path, manifest: bytes, key: Ed25519PublicKey | None, found: Verification) -> None:
    path = folder / SIGNATURE
    if not path.exists() and not path.is_symlink():
        if key is not None:
            found.add("no_signature_but_key", False)
        else:
            found.add("unsigned", None)
        return
    try:
        signature = Signature.model_validate_json(_read(path))
    except ValidationError:
        found.add("bad_signature", False)
        return
    if not signature_fits(manifest, signature):
        found.add("bad_signature", False)
    elif key is None:
        found.add("signed", True, fingerprint=signature.fingerprint)
        found.add("unknown_signer", None)
    elif fingerprint(key) != fingerprint(public_key_of(signature)):
        found.add("other_key", False, fingerprint=signature.fingerprint)
    else:
        found.add("signed_known", True, fingerprint=signature.fingerprint)


def _find_media(folder: Path, report: Report) -> Path:
    named = Path(report.media.path)
    for path in (named, folder.absolute().parent / named.name):
        if path.is_file():
            return path
    raise EvidenceError(f"the judged file {named.name!r} is not where it was", remedy="Say where it is: --media FILE.")


def _options(manifest: Manifest) -> ScanOptions:
    settings = dict(manifest.settings)
    limits = settings.pop("limits", None)
    try:
        return ScanOptions(**settings, limits=Limits(**limits) if limits else None)
    except TypeError as error:
        raise EvidenceError("the manifest's settings are of another version", remedy="Use that version.") from error
