"""C2PA content credentials: what a camera, an editor or a generator signed into the file. Read offline, never fetched.

Absent means absent: most genuine files carry none.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from faceproof.media.files import open_regular

# Digital source types that say a generator made (part of) the picture; see the IPTC news codes.
_GENERATED = {
    "trainedAlgorithmicMedia": "all",
    "compositeWithTrainedAlgorithmicMedia": "part",
    "compositeSynthetic": "part",
    "algorithmicMedia": "all",
}
# Certificates are checked for form and signature; whom to trust is the reader's decision, and nothing is downloaded.
_SETTINGS = {"verify": {"remote_manifest_fetch": False, "ocsp_fetch": False, "verify_trust": True}}
_UNTRUSTED = "signingCredential.untrusted"


class ContentCredentials(BaseModel):
    """What the file's C2PA manifest says.

    status: ``absent``; ``valid`` (signature and content agree); ``invalid`` (the file or the manifest was changed after
    signing); ``unreadable``; ``not_checked`` (the reader is not installed).
    trusted: whether the signer is on the reader's trust list. generated: whether an action or assertion says that a
    generator made ``all`` or ``part`` of it, None where nothing says so.
    """

    model_config = ConfigDict(extra="forbid")

    status: Literal["absent", "valid", "invalid", "unreadable", "not_checked"]
    signer: str | None = None
    issuer: str | None = None
    signed_at: str | None = None
    trusted: bool | None = None
    generator: str | None = None
    title: str | None = None
    actions: list[str] = Field(default_factory=list)
    generated: Literal["all", "part"] | None = None
    ingredients: list[str] = Field(default_factory=list)
    problems: list[str] = Field(default_factory=list)
    note: str | None = None


def read_credentials(path: Path) -> ContentCredentials:
    """Read and check the manifest inside ``path``. Never raises for what is in the file, never uses the network."""
    try:
        import c2pa
    except ImportError:
        return ContentCredentials(status="not_checked", note="pip install 'faceproof[evidence]' reads them.")
    context = c2pa.Context(c2pa.Settings.from_dict(_SETTINGS))
    try:
        with open_regular(path) as file, c2pa.Reader(None, file, context=context) as reader:
            state = str(reader.get_validation_state())
            return _described(json.loads(reader.json()), state)
    except c2pa.C2paError as error:
        words = str(error)
        if "ManifestNotFound" in type(error).__name__ or "ManifestNotFound" in words or "NotSupported" in words:
            return ContentCredentials(status="absent")
        return ContentCredentials(status="unreadable", note=words[:300])
    except (ValueError, KeyError, TypeError) as error:
        return ContentCredentials(status="unreadable", note=f"{type(error).__name__}: {str(error)[:200]}")


def _described(store: dict[str, Any], state: str) -> ContentCredentials:
    manifest = store["manifests"][store["active_manifest"]]
    signature = manifest.get("signature_info") or {}
    failures = [str(item.get("code")) for item in _results(store).get("failure", [])]
    actions = [action for item in manifest.get("assertions", []) for action in _actions(item)]
    software = (manifest.get("claim_generator_info") or [{}])[0]
    return ContentCredentials(
        status="invalid" if state == "Invalid" else "valid",
        signer=signature.get("common_name"),
        issuer=signature.get("issuer"),
        signed_at=signature.get("time"),
        trusted=_UNTRUSTED not in failures,
        generator=" ".join(str(software[k]) for k in ("name", "version") if software.get(k))
        or manifest.get("claim_generator"),
        title=manifest.get("title"),
        actions=list(dict.fromkeys(str(action.get("action")) for action in actions))[:50],
        generated=_generated(manifest, actions),
        ingredients=[str(item.get("title") or "untitled") for item in manifest.get("ingredients", [])][:50],
        problems=[code for code in failures if code != _UNTRUSTED][:50],
    )


def _results(store: dict[str, Any]) -> dict[str, Any]:
    return dict((store.get("validation_results") or {}).get("activeManifest") or {})


def _actions(assertion: dict[str, Any]) -> list[dict[str, Any]]:
    if not str(assertion.get("label", "")).startswith("c2pa.actions"):
        return []
    data = assertion.get("data")
    found = data.get("actions") if isinstance(data, dict) else None
    return [action for action in found or [] if isinstance(action, dict)]


def _generated(manifest: dict[str, Any], actions: list[dict[str, Any]]) -> Literal["all", "part"] | None:
    kinds = [str(action.get("digitalSourceType", "")).rpartition("/")[2] for action in actions]
    for item in manifest.get("assertions", []):
        data = item.get("data")
        if isinstance(data, dict) and "digitalSourceType" in data:
            kinds.append(str(data["digitalSourceType"]).rpartition("/")[2])
    shares = {_GENERATED[kind] for kind in kinds if kind in _GENERATED}
    return "all" if "all" in shares else "part" if shares else None
