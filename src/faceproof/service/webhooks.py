"""Webhooks: a signed call to the address a job names, repeated until it is accepted or given up."""

from __future__ import annotations

import hashlib
import hmac
import json
import time

import sqlalchemy as sa
import structlog

from faceproof.service.outward import AddressError, request
from faceproof.service.site import Site
from faceproof.service.tables import Delivery, Job

log = structlog.get_logger()

# Seconds until the next try after each failed one: about a day in all.
PAUSES = (5.0, 30.0, 120.0, 600.0, 3600.0, 21600.0, 64800.0)
ANSWER_WITHIN = 10.0


def webhook_secret(secret: bytes, owner: str) -> str:
    """The secret a receiver checks signatures with: derived, so that nothing has to be kept."""
    return "whsec_" + hmac.new(secret, b"webhook:" + owner.encode(), hashlib.sha256).hexdigest()


def sign(secret: str, body: bytes, at: int) -> str:
    """The value of ``Faceproof-Signature``: ``t=<unix time>,v1=<HMAC-SHA256 of "<time>." + body, hexadecimal>``."""
    digest = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"


def deliver_due(site: Site, *, most: int = 20) -> int:
    """Make the calls that are due. Returns how many were tried."""
    now = time.time()
    with site.store.read() as session:
        due = sa.select(Delivery.id).where(Delivery.state == "waiting", Delivery.next_at <= now).limit(most)
        ids = list(session.scalars(due))
    return sum(_deliver(site, one) for one in ids)


def _deliver(site: Site, delivery_id: str) -> bool:
    now = time.time()
    with site.store.write() as session:
        delivery = session.scalars(
            sa.select(Delivery)
            .where(Delivery.id == delivery_id, Delivery.state == "waiting", Delivery.next_at <= now)
            .with_for_update(skip_locked=True)
        ).first()
        job = session.get(Job, delivery.job_id) if delivery else None
        if delivery is None or job is None:
            return False
        # Claimed before the call: were this process to die in it, the call is repeated, which receivers must bear.
        pause = PAUSES[min(delivery.attempt, len(PAUSES) - 1)]
        delivery.attempt += 1
        delivery.next_at = now + pause
        body = json.dumps(
            {
                "event": f"job.{job.state}",
                "job": {"id": job.id, "state": job.state, "verdict": job.verdict, "score": job.score}
                | ({"error": {"code": job.error_code, "message": job.error_message}} if job.error_code else {}),
            }
        ).encode()
        url, attempt, owner = delivery.url, delivery.attempt, job.owner
    answer, accepted = _call(site, delivery_id, url, body, owner)
    with site.store.write() as session:
        delivery = session.get(Delivery, delivery_id)
        if delivery is not None:
            delivery.last_answer = answer
            if accepted:
                delivery.state = "done"
            elif attempt > len(PAUSES):
                delivery.state = "dead"
    log.info("webhook called", delivery=delivery_id, attempt=attempt, outcome=answer)
    return True


def _call(site: Site, delivery_id: str, url: str, body: bytes, owner: str) -> tuple[str, bool]:
    headers = {
        "Content-Type": "application/json",
        "Faceproof-Delivery": delivery_id,
        "Faceproof-Signature": sign(webhook_secret(site.secret, owner), body, int(time.time())),
    }
    private = site.settings.private_addresses
    try:
        with request(
            "POST", url, timeout=ANSWER_WITHIN, private=private, body=body, headers=headers, redirects=0
        ) as answer:
            return f"HTTP {answer.status}", 200 <= answer.status < 300
    except AddressError as error:
        return error.message[:200], False
