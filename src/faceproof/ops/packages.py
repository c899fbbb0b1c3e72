"""A detector as something that can be handed on: spec, weights, card and licence with their checksums, signed.

A package is a folder: ``spec.toml``, the weights it names, ``card.md``, ``package.json`` (every file's size and sha256) and
``package.sig`` (Ed25519 over the exact bytes of ``package.json``). The golden rows in the spec are what it must answer.
"""

from __future__ import annotations

import hashlib
import shutil
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from faceproof.detectors.catalog import InstalledSpec
from faceproof.detectors.spec import DetectorSpec, read_spec, spec_sha256
from faceproof.diagnosis import examine_detector
from faceproof.errors import EvidenceError, OutputError, WeightsError
from faceproof.evidence.signing import Signature, fingerprint, public_key_of, sign, signature_fits
from faceproof.result_files import write_whole

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

RECORD, SEAL, SPEC, CARD = "package.json", "package.sig", "spec.toml", "card.md"


class PackagedFile(BaseModel):
    """One file of a package."""

    model_config = ConfigDict(extra="forbid")

    name: str
    size: int
    sha256: str


class PackageRecord(BaseModel):
    """``package.json``: what the package is, and every other file in it."""

    model_config = ConfigDict(extra="forbid")

    schema_version: Literal[1] = 1
    name: str
    version: str
    spec_sha256: str
    licence_weights: str
    licence_code: str
    commercial: bool
    golden_rows: int
    files: list[PackagedFile]


def pack(installed: InstalledSpec, out: Path, *, key: Ed25519PrivateKey | None = None, card: str = "") -> PackageRecord:
    """Write a package of an installed detector into the new folder ``out``; signed when there is a ``key``.

    Raises :class:`WeightsError` for a detector whose weights are missing or altered, :class:`OutputError` when the folder
    exists already or cannot be written.
    """
    from faceproof.detectors.catalog import weights_path

    spec = installed.spec
    weights = weights_path(installed)
    try:
        out.mkdir(parents=True)
        # One file, whatever it was split into: parts are how a repository stores it, not what it is.
        text = installed.source.read_text(encoding="utf-8")
        name = spec.weights.file or f"{spec.name}.onnx"
        shutil.copyfile(weights, out / name)
        for row in spec.golden:
            if not row.asset.startswith("pattern:"):
                shutil.copyfile(installed.source.parent / row.asset, out / row.asset)
        (out / SPEC).write_text(_in_one_file(text, spec, name), encoding="utf-8")
        (out / CARD).write_text(card or _card(spec), encoding="utf-8")
        files = [
            PackagedFile(name=path.name, size=path.stat().st_size, sha256=_sha256(path))
            for path in sorted(out.iterdir())
        ]
        packed = read_spec(out / SPEC)
        record = PackageRecord(
            name=spec.name,
            version=spec.version,
            spec_sha256=spec_sha256(packed),
            licence_weights=spec.licence.weights,
            licence_code=spec.licence.code,
            commercial=spec.licence.commercial,
            golden_rows=len(spec.golden),
            files=files,
        )
        content = record.model_dump_json(indent=2) + "\n"
        write_whole(out / RECORD, content)
        if key is not None:
            write_whole(out / SEAL, sign(content.encode(), key).model_dump_json(indent=2) + "\n")
    except FileExistsError as error:
        raise OutputError(f"{out} exists already", remedy="Name a new folder.") from error
    except OSError as error:
        raise OutputError(f"cannot write {error.filename or out}: {error.strerror}") from error
    return record


def _in_one_file(text: str, spec: DetectorSpec, name: str) -> str:
    """The spec's own text when it stands alone; otherwise rewritten, with what it borrowed from others filled in."""
    own = tomllib.loads(text)
    if own.get("weights", {}).get("file") == name and spec.weights.sha256 == own["weights"].get("sha256"):
        return text
    from faceproof.detectors.spec_text import spec_to_toml

    whole = spec.weights.model_copy(update={"file": name, "parts": ()})
    return spec_to_toml(spec.model_copy(update={"weights": whole}))


def _card(spec: DetectorSpec) -> str:
    commercial = "allowed" if spec.licence.commercial else "not allowed"
    calibrated = spec.calibration.data or "nothing; its scores are not calibrated"
    return (
        f"# {spec.name} {spec.version}\n\n{spec.summary}\n\n"
        f"- Weights: {spec.licence.weights}, code: {spec.licence.code}; commercial use {commercial}\n"
        f"- Origin: {spec.licence.origin}\n"
        f"- Calibrated on: {calibrated}\n"
    )


class Verified(BaseModel):
    """A package that is what it says. ``signer`` is the key's fingerprint, None without a signature."""

    model_config = ConfigDict(extra="forbid")

    record: PackageRecord
    signer: str | None


def verify(folder: Path, *, trusted: Iterable[str] | None = None, golden: bool = True) -> Verified:
    """Check a package: signature, every file, nothing besides, the spec, and (with ``golden``) its known answers.

    ``trusted`` are fingerprints of keys; with any given, the package must be signed by one of them. Raises
    :class:`EvidenceError` or :class:`WeightsError` that says which file or answer is wrong.
    """
    try:
        content = (folder / RECORD).read_bytes()
        record = PackageRecord.model_validate_json(content)
    except (OSError, ValidationError) as error:
        raise EvidenceError(
            f"{folder} is not a detector package", remedy="It needs a readable package.json."
        ) from error
    signer = _signer(folder, content)
    keys = None if trusted is None else set(trusted)
    if keys is not None and signer not in keys:
        said = f"signed by {signer}, which is not trusted" if signer else "not signed"
        raise EvidenceError(f"{record.name} {record.version} is {said}", remedy="Get it from a source you trust.")
    _check_files(folder, record)
    spec = read_spec(folder / SPEC)
    if (spec.name, spec.version, spec_sha256(spec)) != (record.name, record.version, record.spec_sha256):
        raise EvidenceError(f"the spec in {folder} is not the one package.json speaks of", remedy="Pack it again.")
    if golden:
        for finding in examine_detector(InstalledSpec(spec, folder, folder / SPEC, "user")):
            if finding.state == "wrong":
                raise WeightsError(f"{finding.subject}: {finding.detail}", remedy=finding.remedy)
    return Verified(record=record, signer=signer)


def _signer(folder: Path, content: bytes) -> str | None:
    try:
        seal = Signature.model_validate_json((folder / SEAL).read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise EvidenceError(f"{folder / SEAL} cannot be read", remedy="Get the package again.") from error
    if not signature_fits(content, seal):
        raise EvidenceError(f"the signature of {folder} does not fit: it was altered", remedy="Get the package again.")
    return fingerprint(public_key_of(seal))


def _check_files(folder: Path, record: PackageRecord) -> None:
    listed = {file.name: file for file in record.files}
    if any(Path(name).name != name or name in (RECORD, SEAL) for name in listed):
        raise EvidenceError(f"{folder} lists a file outside itself", remedy="Do not use this package.")
    present = {path.name for path in folder.iterdir()} - {RECORD, SEAL}
    if present != set(listed):
        odd = ", ".join(sorted(present ^ set(listed)))
        raise EvidenceError(f"{folder} does not hold exactly the files it lists: {odd}", remedy="Get it again.")
    for name, file in listed.items():
        path = folder / name
        if path.is_symlink() or not path.is_file() or _sha256(path) != file.sha256:
            raise EvidenceError(f"{path} was altered", remedy="Get the package again.")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def trusted_keys(folder: Path) -> set[str]:
    """Fingerprints of the public keys in a folder (``*.pub``, ``*.pem``). Raises :class:`EvidenceError` for others."""
    from faceproof.evidence.signing import load_public_key

    return {fingerprint(load_public_key(path)) for path in [*folder.glob("*.pub"), *folder.glob("*.pem")]}
