"""Ed25519 signatures over an evidence manifest, with keys as OpenSSL or ssh-keygen make them.

A signature says that who holds the key wrote this manifest. Whose key it is, readers must know from elsewhere.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from faceproof.errors import EvidenceError, MissingExtraError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

_HOW_TO = "Make one with `ssh-keygen -t ed25519 -f evidence_key` or `openssl genpkey -algorithm ed25519 -out key.pem`."
_LARGEST_KEY_FILE = 64 * 1024


class Signature(BaseModel):
    """``manifest.sig``. public_key and signature in base64; fingerprint as ``ssh-keygen -l`` shows it."""

    model_config = ConfigDict(extra="forbid")

    algorithm: str = "Ed25519"
    public_key: str
    fingerprint: str
    signature: str


def load_signing_key(path: Path, passphrase: Callable[[], str] | None = None) -> Ed25519PrivateKey:
    """Read a private key (PEM or OpenSSH). ``passphrase`` is asked only when the key is encrypted.

    Raises :class:`EvidenceError` when it cannot be read, is of another kind or the passphrase is wrong, and
    :class:`MissingExtraError` without the ``evidence`` extra.
    """
    _need_cryptography()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_ssh_private_key

    content = _content(path)
    load = load_ssh_private_key if b"OPENSSH PRIVATE KEY" in content else load_pem_private_key
    try:
        try:
            key = load(content, None)
        except TypeError:
            if passphrase is None:
                raise EvidenceError(f"the key {path} needs a passphrase", remedy="Give it when asked.") from None
            key = load(content, passphrase().encode())
        except ValueError as error:
            # OpenSSH keys report a missing passphrase this way.
            if "assword" not in str(error) or passphrase is None:
                raise
            key = load(content, passphrase().encode())
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise EvidenceError(f"{path} is not a private key that can be read: {error}", remedy=_HOW_TO) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise EvidenceError(f"{path} is not an Ed25519 key", remedy=_HOW_TO)
    return key


def load_public_key(path: Path) -> Ed25519PublicKey:
    """Read a public key (PEM, or a line of OpenSSH). Raises as :func:`load_signing_key`."""
    _need_cryptography()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key, load_ssh_public_key

    content = _content(path)
    load = load_ssh_public_key if content.startswith(b"ssh-") else load_pem_public_key
    try:
        key = load(content)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise EvidenceError(f"{path} is not a public key that can be read", remedy="Give the .pub file.") from error
    if not isinstance(key, Ed25519PublicKey):
        raise EvidenceError(f"{path} is not an Ed25519 key", remedy=_HOW_TO)
    return key


def sign(message: bytes, key: Ed25519PrivateKey) -> Signature:
    """Sign the exact bytes of a manifest."""
    public = key.public_key()
    return Signature(
        public_key=base64.b64encode(_raw(public)).decode(),
        fingerprint=fingerprint(public),
        signature=base64.b64encode(key.sign(message)).decode(),
    )


def signature_fits(message: bytes, signature: Signature) -> bool:
    """Whether the signature was made over these bytes with the private half of the key it names."""
    _need_cryptography()
    from cryptography.exceptions import InvalidSignature

    try:
        key = public_key_of(signature)
        key.verify(base64.b64decode(signature.signature, validate=True), message)
    except (InvalidSignature, EvidenceError, ValueError, binascii.Error):
        return False
    return signature.algorithm == "Ed25519" and fingerprint(key) == signature.fingerprint


def public_key_of(signature: Signature) -> Ed25519PublicKey:
    """The key a signature names. Raises :class:`EvidenceError` when it names none."""
    _need_cryptography()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        return Ed25519PublicKey.from_public_bytes(base64.b64decode(signature.public_key, validate=True))
    except (ValueError, binascii.Error) as error:
        raise EvidenceError("the signature names no Ed25519 key") from error


def fingerprint(key: Ed25519PublicKey) -> str:
    """``SHA256:…`` as ``ssh-keygen -l`` prints it, so that people can compare."""
    wire = b"\x00\x00\x00\x0bssh-ed25519\x00\x00\x00\x20" + _raw(key)
    return "SHA256:" + base64.b64encode(hashlib.sha256(wire).digest()).decode().rstrip("=")


def _raw(key: Ed25519PublicKey) -> bytes:
    return key.public_bytes_raw()


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_LARGEST_KEY_FILE)
    except OSError as error:
        raise EvidenceError(f"cannot read the key {path}: {error.strerror}", remedy=_HOW_TO) from error


def _need_cryptography() -> None:
    try:
        import cryptography  # noqa: F401
    except ImportError:
        raise MissingExtraError.of("Signing evidence", "evidence") from None
