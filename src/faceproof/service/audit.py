"""The audit log: who did what and when, each entry sealed by the hash of the one before.

The database refuses to change or delete entries. Someone who gets round that breaks the chain, which :func:`verify`
finds; someone who cuts off the end is found by comparing the last hash with one noted elsewhere.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from faceproof.service import jobs
from faceproof.service.store import Store
from faceproof.service.tables import AuditEntry

GENESIS = "0" * 64
_LOCK = 5231402
_LAST = sa.select(AuditEntry.seq, AuditEntry.hash).order_by(AuditEntry.seq.desc()).limit(1)


def seal(entry: AuditEntry) -> str:
    """SHA-256 over every field of an entry and the hash before it."""
    content = [entry.seq, entry.at, entry.actor, entry.action, entry.target, entry.details, entry.previous_hash]
    return hashlib.sha256(json.dumps(content, ensure_ascii=True, separators=(",", ":")).encode()).hexdigest()


@dataclass(frozen=True)
class Act:
    """Who did what to what. ``details`` hold no names, no faces, no addresses."""

    actor: str
    action: str
    target: str
    details: Mapping[str, Any] = field(default_factory=dict)


def record(session: Session, actor: str, action: str, target: str, **details: Any) -> None:
    """Append an entry within the caller's writing transaction, as its last step: on PostgreSQL others wait for its end."""
    record_all(session, [Act(actor, action, target, details)])


def record_all(session: Session, acts: Sequence[Act]) -> None:
    """As :func:`record`, several at once."""
    if session.get_bind().dialect.name == "postgresql":
        # SQLite has one writer anyway.
        session.execute(sa.text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
    last = session.connection().execute(_LAST).one_or_none()
    number, previous = (last.seq, last.hash) if last else (0, GENESIS)
    entries = []
    for act in acts:
        number += 1
        entry = AuditEntry(
            seq=number,
            at=time.time(),
            actor=act.actor,
            action=act.action,
            target=act.target,
            details=json.dumps(act.details, sort_keys=True),
            previous_hash=previous,
        )
        entry.hash = previous = seal(entry)
        entries.append(entry)
    jobs.insert_rows(session, entries)


@dataclass(frozen=True)
class Finding:
    """What :func:`verify` found: the number of entries, the last hash and, when the chain is broken, where and how."""

    entries: int
    head: str
    broken_at: int | None = None
    reason: str = ""

    @property
    def whole(self) -> bool:
        return self.broken_at is None


def verify(store: Store, *, head: str | None = None) -> Finding:
    """Walk the whole chain. ``head`` is a hash noted earlier that must still be in it."""
    previous, number, seen = GENESIS, 0, head is None or head == GENESIS
    with store.read() as session:
        for entry in session.scalars(sa.select(AuditEntry).order_by(AuditEntry.seq).execution_options(yield_per=1000)):
            number += 1
            if entry.seq != number:
                return Finding(number - 1, previous, number, f"entry {number} is missing")
            if entry.previous_hash != previous:
                return Finding(number - 1, previous, number, "does not follow the entry before it")
            if seal(entry) != entry.hash:
                return Finding(number - 1, previous, number, "its content does not match its hash")
            previous = entry.hash
            seen = seen or previous == head
    if not seen:
        return Finding(
            number, previous, number + 1, "the noted hash is not in the log: its end was cut off or rewritten"
        )
    return Finding(number, previous)
