"""API keys: made, rotated and revoked by the operator; only hashes of them are kept.

A key is ``fp_<id>_<secret>``. The secret has 256 random bits, so one round of SHA-256 hides it as well as a slow hash.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Iterable

import sqlalchemy as sa

from faceproof.errors import OptionError
from faceproof.service import audit
from faceproof.service.store import Store
from faceproof.service.tables import Key

SCOPES = ("scan", "read", "label", "delete", "metrics", "admin")
DEFAULT_SCOPES = ("scan", "read", "label", "delete")
GRACE = 86400.0


def hash_secret(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def create(
    store: Store,
    name: str,
    *,
    scopes: Iterable[str] = DEFAULT_SCOPES,
    jobs_per_day: int | None = None,
    bytes_per_day: int | None = None,
) -> tuple[str, str]:
    """Make a key. Returns its id and the whole key, which is shown this once. Raises :class:`OptionError`."""
    chosen = sorted(set(scopes))
    unknown = [scope for scope in chosen if scope not in SCOPES]
    if unknown or not chosen:
        raise OptionError(f"no such scope: {', '.join(unknown) or 'none given'}", remedy=f"Use {', '.join(SCOPES)}.")
    key_id, secret = secrets.token_hex(5), secrets.token_urlsafe(32)
    with store.write() as session:
        session.add(
            Key(
                id=key_id,
                name=name[:200],
                secret_hash=hash_secret(secret),
                scopes=",".join(chosen),
                jobs_per_day=jobs_per_day,
                bytes_per_day=bytes_per_day,
                created_at=time.time(),
            )
        )
        audit.record(session, "operator", "key.create", key_id, scopes=chosen)
    return key_id, f"fp_{key_id}_{secret}"


def rotate(store: Store, key_id: str, *, grace: float = GRACE) -> str:
    """Give a key a new secret; the old one works for ``grace`` more seconds. Returns the new key."""
    secret = secrets.token_urlsafe(32)
    with store.write() as session:
        key = session.get(Key, key_id)
        if key is None or key.revoked_at is not None:
            raise OptionError(f"no active key {key_id!r}", remedy="`faceproof keys list` shows them.")
        key.previous_hash, key.previous_until = key.secret_hash, time.time() + grace
        key.secret_hash = hash_secret(secret)
        audit.record(session, "operator", "key.rotate", key_id, grace=grace)
    return f"fp_{key_id}_{secret}"


def revoke(store: Store, key_id: str) -> None:
    """End a key and the sessions signed in with it, at once."""
    with store.write() as session:
        key = session.get(Key, key_id)
        if key is None:
            raise OptionError(f"no key {key_id!r}", remedy="`faceproof keys list` shows them.")
        key.revoked_at = time.time()
        audit.record(session, "operator", "key.revoke", key_id)


def everyone(store: Store) -> list[Key]:
    """All keys, the newest first."""
    with store.read() as session:
        return list(session.scalars(sa.select(Key).order_by(Key.created_at.desc())))


def identify(store: Store, presented: str) -> Key | None:
    """The active key that was presented, or None."""
    parts = presented.split("_", 2)
    if (
        len(parts) != 3
        or parts[0] != "fp"
        or len(presented) > 200
        or not (presented.isascii() and presented.isprintable())
    ):
        return None
    with store.read() as session:
        key = session.get(Key, parts[1])
    hashed = hash_secret(parts[2])
    if key is None or key.revoked_at is not None:
        return None
    if hmac.compare_digest(hashed, key.secret_hash):
        return key
    if key.previous_hash and key.previous_until and key.previous_until > time.time():
        return key if hmac.compare_digest(hashed, key.previous_hash) else None
    return None


def find(store: Store, key_id: str) -> Key | None:
    """The active key of that id, for sessions signed in with it."""
    with store.read() as session:
        key = session.get(Key, key_id)
    return key if key is not None and key.revoked_at is None else None
