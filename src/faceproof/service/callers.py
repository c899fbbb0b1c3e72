"""Who is calling, what they may do, and how often."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any

import limits
import limits.errors
import limits.storage
import limits.strategies
import sqlalchemy as sa
from fastapi import Depends, Request
from itsdangerous import BadSignature, URLSafeTimedSerializer
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from faceproof.service import keys
from faceproof.service.problems import Problem
from faceproof.service.settings import Settings
from faceproof.service.site import Site
from faceproof.service.tables import Job, Key, Usage

COOKIE = "faceproof_session"
SESSION_AGE = 12 * 3600
LOCAL = "local"
KEY_HEADERS = ("x-api-key", "authorization")
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")


@dataclass(frozen=True)
class Caller:
    """Whoever sent a request. ``owner`` is the key's id; ``csrf`` the token pages must send back, for sessions."""

    owner: str
    scopes: frozenset[str]
    jobs_per_day: int | None = None
    bytes_per_day: int | None = None
    csrf: str | None = None

    def may(self, scope: str) -> bool:
        return scope in self.scopes or "admin" in self.scopes

    def sees(self, job: Job) -> bool:
        return job.owner == self.owner or "admin" in self.scopes


class Doorkeeper:
    """Signs sessions, checks keys and counts requests."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._signer = URLSafeTimedSerializer(site.secret.decode(), salt="session")
        settings = site.settings
        self._limiter = limits.strategies.FixedWindowRateLimiter(_rate_storage(settings))
        self._spare = limits.strategies.FixedWindowRateLimiter(limits.storage.MemoryStorage())
        self._rates = {
            "any": limits.parse(settings.rate),
            "upload": limits.parse(settings.upload_rate),
            "sign_in": limits.parse(settings.sign_in_rate),
        }

    def limit(self, what: str, who: str) -> None:
        """Count one request. Raises :class:`Problem` 429 when ``who`` has had enough."""
        item = self._rates[what]
        try:
            refused, ends = self._count(self._limiter, item, what, who)
        except limits.errors.StorageError:
            # Redis is away: each server counts for itself until it is back.
            refused, ends = self._count(self._spare, item, what, who)
        if refused:
            wait = str(max(1, int(ends - time.time()) + 1))
            raise Problem(429, "rate", "too many requests", f"Wait {wait} s.", headers={"Retry-After": wait})

    def _count(
        self, limiter: limits.strategies.RateLimiter, item: limits.RateLimitItem, what: str, who: str
    ) -> tuple[bool, float]:
        """Whether this request is one too many, and when the window ends (seconds since 1970)."""
        if limiter.hit(item, what, who):
            return False, 0.0
        return True, limiter.get_window_stats(item, what, who).reset_time

    def sign_in(self, presented: str) -> str | None:
        """The cookie for a valid key, or None."""
        key = keys.identify(self._site.store, presented.strip())
        return self._signer.dumps({"key": key.id, "nonce": secrets.token_hex(8)}) if key else None

    def csrf(self, cookie: str) -> str:
        """The token that belongs to a session's cookie."""
        return hmac.new(self._site.secret, b"csrf:" + cookie.encode(), hashlib.sha256).hexdigest()

    def answers_at_once(self, request: Request) -> bool:
        """Whether :meth:`identify` and :meth:`limit` need neither the database nor the network."""
        local = not self._site.settings.needs_keys and not any(name in request.headers for name in KEY_HEADERS)
        return local and not self._site.settings.broker

    def identify(self, request: Request) -> Caller | None:
        """The caller by key, by session, or as the one person at this machine; None when nothing is presented."""
        presented = request.headers.get("x-api-key") or _bearer(request.headers.get("authorization"))
        if presented is not None:
            key = keys.identify(self._site.store, presented)
            return _caller_of(key) if key else None
        cookie = request.cookies.get(COOKIE)
        if self._site.settings.needs_keys:
            return self._by_cookie(cookie) if cookie else None
        _require_same_origin(request)
        return Caller(LOCAL, frozenset(keys.SCOPES))

    def _by_cookie(self, cookie: str) -> Caller | None:
        try:
            content = self._signer.loads(cookie, max_age=SESSION_AGE)
        except BadSignature:
            return None
        key = keys.find(self._site.store, str(content.get("key")))
        return _caller_of(key, csrf=self.csrf(cookie)) if key else None


def _caller_of(key: Key, csrf: str | None = None) -> Caller:
    return Caller(key.id, frozenset(key.scopes.split(",")), key.jobs_per_day, key.bytes_per_day, csrf)


def _bearer(header: str | None) -> str | None:
    scheme, _, token = (header or "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def _rate_storage(settings: Settings) -> limits.storage.Storage:
    if not settings.broker.startswith(("redis://", "rediss://")):
        return limits.storage.MemoryStorage()
    made = limits.storage.storage_from_string(
        settings.broker, wrap_exceptions=True, socket_connect_timeout=1.0, socket_timeout=1.0
    )
    assert isinstance(made, limits.storage.Storage)
    return made


def _require_same_origin(request: Request) -> None:
    """Refuse what a browser was made to send by another site. Programs send none of these headers."""
    if request.method in SAFE_METHODS:
        return
    origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site")
    foreign = origin is not None and origin.partition("://")[2] != request.headers.get("host")
    if foreign or site not in (None, "same-origin", "none"):
        raise Problem(403, "cross_site", "this request comes from another site", "Use this service's own page.")


def _require_csrf(request: Request, caller: Caller) -> None:
    if caller.csrf is None or request.method in SAFE_METHODS:
        return
    _require_same_origin(request)
    if not hmac.compare_digest(request.headers.get("x-csrf-token", "").encode(), caller.csrf.encode()):
        raise Problem(403, "csrf", "the page's token is missing or old", "Reload the page and try again.")


def site_of(request: Request) -> Site:
    found: Site = request.app.state.site
    return found


async def _the_site(request: Request) -> Site:
    """As a dependency. One that is not ``async`` would be run in a thread, for each request."""
    return site_of(request)


def door_of(request: Request) -> Doorkeeper:
    found: Doorkeeper = request.app.state.door
    return found


def needs(scope: str, rate: str = "any") -> Callable[[Request], Awaitable[Caller]]:
    """A dependency: the caller, who has ``scope`` and is within ``rate``. Runs in a thread where it asks the database."""

    async def dependency(request: Request) -> Caller:
        if door_of(request).answers_at_once(request):
            return check(request)
        return await run_in_threadpool(check, request)

    def check(request: Request) -> Caller:
        door = door_of(request)
        caller = door.identify(request)
        if caller is None:
            door.limit("any", request.client.host if request.client else "unknown")
            wrong = any(name in request.headers for name in KEY_HEADERS)
            raise Problem(
                401,
                "key",
                "that API key is not known here, or was revoked" if wrong else "an API key is needed",
                "Send it as X-API-Key; the operator makes one with `faceproof keys create`.",
                headers={"WWW-Authenticate": "Bearer"},
            )
        _require_csrf(request, caller)
        door.limit(rate, caller.owner)
        if not caller.may(scope):
            raise Problem(403, "scope", f"this key may not {scope}", "Ask the operator for a key with that scope.")
        return caller

    return dependency


Reader = Annotated[Caller, Depends(needs("read"))]
Uploader = Annotated[Caller, Depends(needs("scan", "upload"))]
Labeller = Annotated[Caller, Depends(needs("label"))]
Deleter = Annotated[Caller, Depends(needs("delete"))]
TheSite = Annotated[Site, Depends(_the_site)]


@dataclass
class Spent:
    """Jobs and bytes of an owner that are accepted but not booked yet."""

    jobs: int = 0
    size: int = 0


def check_quota(session: Session, caller: Caller, more: Spent, size: int) -> None:
    """Raises :class:`Problem` 429 when ``size`` bytes beside what is booked and ``more`` exceed the caller's day."""
    if caller.jobs_per_day is None and caller.bytes_per_day is None:
        return
    now = time.time()
    used: Any = session.execute(
        sa.select(Usage.jobs, Usage.size).where(Usage.owner == caller.owner, Usage.day == int(now // 86400))
    ).one_or_none()
    jobs, spent = (used.jobs + more.jobs, used.size + more.size) if used else (more.jobs, more.size)
    over = (caller.jobs_per_day is not None and jobs + 1 > caller.jobs_per_day) or (
        caller.bytes_per_day is not None and spent + size > caller.bytes_per_day
    )
    if over:
        wait = str(int(86400 - now % 86400) + 1)
        raise Problem(
            429, "quota", "this key's quota for today is used up", "It starts anew at midnight UTC.",
            headers={"Retry-After": wait},
        )  # fmt: skip
