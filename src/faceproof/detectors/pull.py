"""Fetching weights: by HTTPS, with a checksum, resumed where it broke off, and never when asked to stay offline.

Nothing is fetched without a checksum. Where the authors state none, the user must, from a copy he trusts.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from faceproof.detectors import catalog
from faceproof.detectors.catalog import InstalledSpec
from faceproof.detectors.ensemble import EnsembleMember, EnsembleSpec, find_ensemble, list_ensembles
from faceproof.errors import OptionError, OutputError, WeightsError

TIMEOUT = 30
_CHUNK = 1 << 20

# Called with the bytes that are there and, where the server tells, how many there will be.
Progress = Callable[[int, int | None], None]
Open = Callable[[urllib.request.Request], Any]


def offline() -> bool:
    """Whether ``FACEPROOF_OFFLINE`` forbids the network."""
    return os.environ.get("FACEPROOF_OFFLINE", "").lower() not in ("", "0", "false", "no")


@dataclass(frozen=True)
class Wanted:
    """One file to fetch: it becomes the detector ``name`` when it is imported as ``import_as``."""

    name: str
    import_as: str
    url: str
    sha256: str
    licence: str


def wanted(
    name: str, sha256: Mapping[str, str], *, url: str | None = None, replace: bool = False
) -> tuple[list[Wanted], list[str]]:
    """What must be fetched for the detector or ensemble ``name``, and which of its members are there already.

    ``name`` may also be a member's alone. ``sha256`` are the user's checksums by detector or member; ``url`` stands in
    for the record's, of a single one.
    Raises :class:`WeightsError` that names everything without an address or checksum, before anything is fetched.
    """
    joint = find_ensemble(name)
    if joint is None:
        asked = [_of_detector(name, url)]
        sha256 = {asked[0].name if key == name else key: digest for key, digest in sha256.items()}
    elif url is not None:
        raise OptionError(f"{name} has {len(joint.members)} members and one --url", remedy="Pull a member with --url.")
    else:
        asked = list(_of_members(joint))
    unknown = sorted(sha256.keys() - {one.name for one in asked})
    if unknown:
        raise OptionError(
            f"{name} has no member {', '.join(unknown)}", remedy=f"It has {', '.join(one.name for one in asked)}."
        )
    there = {installed.spec.name for installed in catalog.installed_specs() if installed.has_weights}
    ready = [one.name for one in asked if joint is not None and one.name in there and not replace]
    rest = [one for one in asked if one.name not in ready]
    addressless = [one for one in rest if not one.url]
    if addressless:
        first = addressless[0]
        raise WeightsError(
            f"nobody publishes the weights of {', '.join(one.name for one in addressless)} at an address Faceproof knows",
            remedy=f"Get them from {first.licence.partition(', ')[2]}, then run "
            f"`faceproof import FILE --as {first.import_as}`.",
        )
    found = [one if one.name not in sha256 else _with(one, sha256[one.name]) for one in rest]
    unchecked = [one for one in found if not one.sha256]
    if unchecked:
        first = unchecked[0]
        what, option, rename = first.url, "--sha256", ""
        if joint is not None:
            what = ", ".join(one.name for one in unchecked)
            option, rename = f"--sha256 {first.name}=HEX, once for each", f" --name {first.name}"
        raise WeightsError(
            f"the authors of {name} state no checksum for {what}",
            remedy=f"Give one you trust with {option}, or download it yourself and use "
            f"`faceproof import FILE --as {first.import_as}{rename}`.",
        )
    return found, ready


def _with(one: Wanted, sha256: str) -> Wanted:
    return Wanted(one.name, one.import_as, one.url, sha256.lower(), one.licence)


def _of_detector(name: str, url: str | None) -> Wanted:
    for joint in list_ensembles():
        for member in joint.members:
            if member.detector == name and (found := _of_member(member, url)) is not None:
                return found
    spec = catalog.find_spec(name).spec
    if spec.profile_of:
        spec = catalog.find_spec(spec.profile_of).spec
    address, stated = (url, None) if url else (spec.checkpoint.url, spec.checkpoint.sha256)
    return Wanted(spec.name, spec.name, address or "", stated or "", f"{spec.licence.weights}, {spec.licence.origin}")


def _of_members(joint: EnsembleSpec) -> Iterator[Wanted]:
    for name, member in {member.detector: member for member in joint.members}.items():
        yield _of_member(member, None) or _of_detector(name, None)


def _of_member(member: EnsembleMember, url: str | None) -> Wanted | None:
    """The file that becomes this member; None for a member that is a detector of its own."""
    given = member.checkpoint
    if given is None or member.import_as is None:
        return None
    licence = catalog.find_spec(member.import_as).spec.licence
    address, stated = (url, None) if url else (given.url, given.sha256)
    words = f"{licence.weights}, {licence.origin}"
    return Wanted(member.detector, member.import_as, address or "", stated or "", words)


def fetch(
    url: str,
    sha256: str,
    *,
    progress: Progress = lambda *_: None,
    stay_offline: bool = False,
    opener: Open | None = None,
) -> Path:
    """The file at ``url`` with that checksum, from the cache in the user's folder or from the network.

    A broken download is kept and resumed. Raises :class:`WeightsError` for a file of another checksum, which is
    thrown away, for a server's refusal, and for a missing file while offline.
    """
    if not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise OptionError(f"{sha256!r} is no SHA-256", remedy="It has 64 digits from 0-9 and a-f.")
    if urlsplit(url).scheme != "https":
        raise OptionError(f"{url} is not fetched: only https is")
    folder = catalog.home() / "downloads"
    done, partial = folder / sha256, folder / f"{sha256}.partial"
    if done.is_file() and _digest(done) == sha256:
        return done
    if stay_offline or offline():
        raise WeightsError(
            f"{url} is not in the cache, and Faceproof was told to stay offline",
            remedy="Fetch it elsewhere and use `faceproof import FILE --as NAME`.",
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _download(url, partial, progress, opener or _open)
        if _digest(partial) != sha256:
            found = _digest(partial)
            partial.unlink()
            raise WeightsError(
                f"what {urlsplit(url).netloc} sent has sha256 {found[:12]}…, not {sha256[:12]}…; it was thrown away",
                remedy="Check the checksum, or the address.",
            )
        partial.replace(done)
    except OSError as error:
        if isinstance(error, urllib.error.URLError | ConnectionError | TimeoutError | ssl.SSLError):
            raise _unreachable(url, error) from error
        raise OutputError(f"cannot write to {folder}: {error.strerror}") from error
    return done


def _download(url: str, partial: Path, progress: Progress, opener: Open) -> None:
    have = partial.stat().st_size if partial.is_file() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "faceproof"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        with opener(request) as answer:
            resumed = getattr(answer, "status", 200) == 206
            have = have if resumed else 0
            length = answer.headers.get("Content-Length")
            total = have + int(length) if length else None
            with partial.open("ab" if resumed else "wb") as file:
                while chunk := answer.read(_CHUNK):
                    file.write(chunk)
                    have += len(chunk)
                    progress(have, total)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:  # nothing left to send: the checksum decides
            return
        raise WeightsError(f"{url} answers {error.code} {error.reason}", remedy="Check the address.") from error
    except HTTPException as error:
        raise _unreachable(url, error) from error
    if total is not None and have < total:
        raise WeightsError(
            f"{url} broke off at {have:,} of {total:,} bytes", remedy="Run it again: it resumes where it stopped."
        )


def _open(request: urllib.request.Request) -> Any:
    class StayEncrypted(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
            if urlsplit(newurl).scheme != "https":
                raise urllib.error.URLError(f"redirected to {newurl}, which is not https")
            return super().redirect_request(req, fp, code, msg, headers, newurl)

    return urllib.request.build_opener(StayEncrypted).open(request, timeout=TIMEOUT)


def _unreachable(url: str, error: Exception) -> WeightsError:
    reason = getattr(error, "reason", None) or error
    return WeightsError(
        f"{urlsplit(url).netloc} cannot be reached: {reason}", remedy="Run it again later: it resumes where it stopped."
    )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remove(installed: InstalledSpec) -> Path:
    """Delete a detector that the user installed; the package's own stay. Returns the folder that is gone."""
    if installed.origin != "user":
        raise OptionError(
            f"{installed.spec.name} belongs to the package", remedy="Only imported and pulled detectors can be removed."
        )
    folder, models = installed.source.parent, catalog.user_models()
    if folder.is_symlink() or folder.parent.resolve() != models.resolve():
        raise OptionError(f"{folder} is not a folder of {models}", remedy="Remove it by hand.")
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise OutputError(f"cannot remove {folder}: {error.strerror}") from error
    return folder
