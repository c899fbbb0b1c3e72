"""The web application: routes, pages, and around every answer an id, a clock and the headers that keep browsers safe."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import structlog
from fastapi import FastAPI
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from faceproof import __version__
from faceproof.service import pages, routes_jobs, routes_labels, routes_results, routes_site
from faceproof.service.callers import Doorkeeper
from faceproof.service.description import complete
from faceproof.service.housekeeping import Housekeeping
from faceproof.service.intake import Intake
from faceproof.service.metrics import Metrics
from faceproof.service.problems import answer, answer_mistake, answer_problems
from faceproof.service.settings import Settings
from faceproof.service.site import Site
from faceproof.service.watch import Watch
from faceproof.service.worker import Crew

log = structlog.get_logger()

PROBES = ("/healthz", "/readyz")
WEB = Path(__file__).parent / "web"

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src 'self' blob:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": CSP,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}

DESCRIPTION = """Says for each person in a picture or video how likely the face was swapped, re-enacted or blended,
where and when, and says plainly when it cannot tell.

A `score` is P(fake) in [0, 1]; it is evidence, not proof. Errors are RFC 9457 problem details with a `remedy`."""


def make_app(settings: Settings) -> FastAPI:
    """The application. Starting it opens the site and, without a broker, hires the worker processes."""

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        site = Site.open(settings)
        app.state.site = site
        app.state.door = Doorkeeper(site)
        app.state.problem_page = pages.problem_page
        watch = Watch(site)
        app.state.metrics = Metrics(site, watch)
        housekeeping = Housekeeping(site, watch=watch)
        housekeeping.start()
        intake = Intake(site)
        app.state.intake = intake
        intake.start()
        crew = Crew(site, 0 if settings.broker else settings.workers)
        app.state.crew = crew
        crew.start()
        try:
            yield
        finally:
            intake.stop()
            crew.stop()
            housekeeping.stop()
            site.close()

    app = FastAPI(
        title="Faceproof",
        version=__version__,
        description=DESCRIPTION,
        lifespan=life,
        # Their pages load scripts from elsewhere; /openapi.json is what tools read.
        docs_url=None,
        redoc_url=None,
    )
    answer_problems(app)
    complete(app)
    for router in (routes_jobs.router, routes_results.router, routes_labels.router, routes_site.router, pages.router):
        app.include_router(router)
    app.mount("/static", _Unmixed(directory=WEB / "static"), name="static")
    app.add_middleware(_KnownHosts, allowed_hosts=settings.allowed_hosts)
    app.add_middleware(Envelope)
    return app


class _Unmixed(StaticFiles):
    """Asks browsers to ask each time (the answer is mostly 304): after an upgrade no old script may meet a new page."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        answer = super().file_response(*args, **kwargs)
        answer.headers["Cache-Control"] = "no-cache"
        return answer


class _KnownHosts:
    """Starlette's check of the Host header; whoever is refused is told what would let them in.

    Probes of containers and clusters ask by address, and what they are told is no secret.
    """

    def __init__(self, app: ASGIApp, allowed_hosts: list[str]) -> None:
        self._app = app
        self._check = TrustedHostMiddleware(self._known, allowed_hosts, www_redirect=False)

    async def _known(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"]["host_known"] = True
        await self._app(scope, receive, send)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in PROBES:
            await self._app(scope, receive, send)
            return

        async def sent(message: Message) -> None:
            if "host_known" in scope["state"]:
                await send(message)

        await self._check(scope, receive, sent)
        if "host_known" not in scope["state"]:
            remedy = "Use the name the operator gave this server; FACEPROOF_HOSTS lists the names it answers to."
            refused = answer(Request(scope), 400, "host", "this server is not known by that name", remedy)
            await refused(scope, receive, send)


class Envelope:
    """Gives every request an id, measures it, logs one line, adds the safety headers and answers for mistakes."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = dict(scope["headers"]).get(b"x-request-id", b"").decode("latin-1")
        request_id = given if re.fullmatch(r"[A-Za-z0-9_-]{1,64}", given, re.ASCII) else secrets.token_hex(8)
        scope.setdefault("state", {})["request_id"] = request_id
        started = time.perf_counter()
        status, begun = 500, False

        async def sent(message: Message) -> None:
            nonlocal status, begun
            if message["type"] == "http.response.start":
                begun = True
                status = message["status"]
                present = {name.lower() for name, _ in message["headers"]}
                extra = {**_HEADERS, "x-request-id": request_id}
                message["headers"] = [
                    *message["headers"],
                    *((k.encode(), v.encode()) for k, v in extra.items() if k.encode() not in present),
                ]
                self._measure(scope, status, time.perf_counter() - started)
            await send(message)

        with structlog.contextvars.bound_contextvars(request=request_id):
            try:
                await self._app(scope, receive, sent)
            except Exception:
                log.exception("request broke")
                if begun:
                    raise
                await answer_mistake(Request(scope))(scope, receive, sent)
            finally:
                seconds = round(time.perf_counter() - started, 4)
                log.info("request", method=scope["method"], route=_route(scope), status=status, seconds=seconds)

    def _measure(self, scope: Scope, status: int, seconds: float) -> None:
        metrics: Metrics | None = getattr(scope["app"].state, "metrics", None) if "app" in scope else None
        if metrics is not None:
            metrics.requests.labels(scope["method"], _route(scope), str(status)).inc()
            metrics.seconds.labels(scope["method"], _route(scope)).observe(seconds)


def _route(scope: Scope) -> str:
    """The route's pattern: ids and names in addresses never reach logs or metrics."""
    return str(getattr(scope.get("route"), "path", None) or "none")
