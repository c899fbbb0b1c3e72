"""The evidence folder: everything a reader needs to see, keep and check a verdict, written as a whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
from dataclasses import asdict
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from faceproof import __version__
from faceproof.errors import OutputError
from faceproof.evidence import texts
from faceproof.evidence.gathering import Evidence
from faceproof.evidence.heatmap import blend
from faceproof.evidence.page import page
from faceproof.evidence.signing import sign
from faceproof.result_files import as_json
from faceproof.results import DetectorFacts, Report

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

MANIFEST, SIGNATURE = "manifest.json", "manifest.sig"
_LIBRARIES = ("numpy", "opencv-python-headless", "av", "pillow", "openvino", "onnxruntime")


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class FileEntry(_Model):
    """One file of the folder."""

    sha256: str
    size: int


class JudgedMedia(_Model):
    """The file that was judged; it is not part of the folder."""

    name: str
    sha256: str
    size_bytes: int | None


class Manifest(_Model):
    """``manifest.json``. ``files`` names everything in the folder but the manifest and its signature, by POSIX path.

    ``made`` is this machine's own clock in UTC; ``settings`` are the scan's options, enough to repeat it.
    """

    schema_version: Literal["1.0"] = "1.0"
    faceproof_version: str
    made: datetime
    media: JudgedMedia
    detector: DetectorFacts
    spec: dict[str, Any]
    settings: dict[str, Any]
    command: str
    environment: dict[str, str]
    files: dict[str, FileEntry]


def write_evidence(evidence: Evidence, folder: Path, *, key: Ed25519PrivateKey | None = None) -> Path:
    """Write the evidence folder and return its path.

    It is made under another name beside ``folder`` and renamed when complete and on disk; whatever goes wrong, nothing
    half-written remains. Raises :class:`OutputError` when ``folder`` exists and is not empty, or cannot be written.
    """
    check_free(folder)
    fresh = folder.with_name(f".{folder.name[:60]}.{os.getpid()}.new")
    try:
        try:
            fresh.mkdir(parents=True)
            _fill(fresh, evidence, key)
            if folder.exists():
                folder.rmdir()
            fresh.replace(folder)
            _sync(folder.parent)
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise
    except OSError as error:
        raise OutputError(f"cannot write {folder}: {error.strerror or error}") from error
    return folder


def folder_for(base: Path, report: Report) -> Path:
    """Where one of several files' evidence goes."""
    return place_for(base, Path(report.media.path).name, report.media.sha256)


def place_for(base: Path, name: str, sha256: str) -> Path:
    """``base/NAME-12 digits of its sha256``."""
    plain = "".join(c if c.isalnum() or c in "-_." else "_" for c in name)[:60].lstrip(".")
    return base / f"{plain or 'file'}-{sha256[:12]}"


def check_free(folder: Path) -> None:
    """Raises :class:`OutputError` when a folder is in use: evidence is never written over."""
    try:
        taken = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
    except OSError as error:
        raise OutputError(f"cannot look into {folder}: {error.strerror}") from error
    if taken:
        raise OutputError(
            f"{folder} exists and is not empty", remedy="Evidence is never overwritten: choose another folder."
        )


def _fill(folder: Path, evidence: Evidence, key: Ed25519PrivateKey | None) -> None:
    contents: dict[str, bytes] = {
        "report.json": as_json(evidence.report).encode(),
        "report.html": page(evidence).encode(),
        "provenance.json": (evidence.provenance.model_dump_json(indent=2) + "\n").encode(),
        "README.txt": texts.README.format(
            version=__version__, time=evidence.made.strftime("%Y-%m-%d %H:%M UTC")
        ).encode(),
    }
    for moments in evidence.shown.moments.values():
        for moment in moments:
            name = f"person-{moment.track}-frame-{moment.index:06d}"
            contents[f"crops/{name}.png"] = _png(moment.crop)
            if moment.heat is not None:
                contents[f"heatmaps/{name}.png"] = _png(blend(moment.crop, moment.heat.heat))
                contents[f"heatmaps/{name}.heat.png"] = _png(np.round(moment.heat.heat * 255).astype(np.uint8))
    for name, content in contents.items():
        _write(folder / name, content)
    manifest = _manifest(evidence, contents).encode()
    _write(folder / MANIFEST, manifest)
    if key is not None:
        _write(folder / SIGNATURE, (sign(manifest, key).model_dump_json(indent=2) + "\n").encode())
    for place in (folder / "crops", folder / "heatmaps", folder):
        if place.is_dir():
            _sync(place)


def _manifest(evidence: Evidence, contents: dict[str, bytes]) -> str:
    media = evidence.report.media
    manifest = Manifest(
        faceproof_version=__version__,
        made=evidence.made,
        media=JudgedMedia(name=evidence.name, sha256=media.sha256, size_bytes=media.size_bytes),
        detector=evidence.report.detector,
        spec=evidence.spec.model_dump(mode="json"),
        settings=settings_of(evidence),
        command=evidence.command(),
        environment=_environment(),
        files={
            name: FileEntry(sha256=hashlib.sha256(content).hexdigest(), size=len(content))
            for name, content in sorted(contents.items())
        },
    )
    return json.dumps(manifest.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n"


def settings_of(evidence: Evidence) -> dict[str, Any]:
    """The scan's options as JSON keeps them, as they were asked for."""
    options = asdict(evidence.options)
    return {**options, "detector": evidence.report.detector.name}


def _environment() -> dict[str, str]:
    found = {"python": platform.python_version(), "system": platform.platform(), "machine": platform.machine()}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _png(image: npt.NDArray[np.uint8]) -> bytes:
    """uint8 RGB ``[h, w, 3]`` or grey ``[h, w]`` as PNG."""
    _, encoded = cv2.imencode(".png", image[..., ::-1] if image.ndim == 3 else image)
    return encoded.tobytes()


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(exist_ok=True)
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    """Make new names in a folder last through a power cut, where the system can."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
