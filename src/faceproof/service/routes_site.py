"""REST: detectors, statistics, health and metrics."""

from __future__ import annotations

import sqlalchemy as sa
from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST
from sqlalchemy.exc import SQLAlchemyError

from faceproof.service import jobs
from faceproof.service.callers import Reader, TheSite, needs
from faceproof.service.metrics import Metrics
from faceproof.service.problems import documented
from faceproof.service.site import Site
from faceproof.service.tables import Counter, Job
from faceproof.service.views import DetectorView, HealthView, StatsView, view_detector

router = APIRouter(tags=["service"])

LEAST_FREE = 100_000_000


@router.get("/v1/detectors", summary="Detectors that can be asked for", responses=documented())
def list_detectors(caller: Reader, site: TheSite) -> list[DetectorView]:
    return [view_detector(spec, site.detectors.default) for spec in site.detectors.specs()]


@router.get("/v1/stats", summary="How many jobs stand where", responses=documented())
def get_stats(caller: Reader, site: TheSite) -> StatsView:
    counted = sa.select(Job.state, sa.func.count()).where(Job.kind == "scan").group_by(Job.state)
    if not caller.may("admin"):
        counted = counted.where(Job.owner == caller.owner)
    with site.store.read() as session:
        by_state = {row[0]: row[1] for row in session.execute(counted)}
        waiting = jobs.queued(session)
        totals = {row.name: row.value for row in session.scalars(sa.select(Counter))} if caller.may("admin") else None
    return StatsView(jobs=by_state, queue=waiting, totals=totals)


@router.get("/healthz", summary="Whether the server answers")
def healthz() -> HealthView:
    return HealthView(status="ok")


@router.get(
    "/readyz",
    summary="Whether the server can take work",
    response_model=HealthView,
    responses={503: {"model": HealthView, "description": "Not ready; `checks` says why."}},
)
def readyz(site: TheSite) -> Response:
    checks = examine(site)
    view = HealthView(status="ok" if all(v == "ok" for v in checks.values()) else "not_ready", checks=checks)
    return JSONResponse(view.model_dump(), status_code=200 if view.status == "ok" else 503)


def examine(site: Site) -> dict[str, str]:
    """Each thing a server needs, and ``ok`` or what is wrong with it."""
    checks = {"database": "ok", "files": "ok", "detector": "ok"}
    try:
        with site.store.read() as session:
            session.execute(sa.text("SELECT 1"))
    except SQLAlchemyError:
        checks["database"] = "does not answer"
    free = site.files.free()
    if free is not None and free < LEAST_FREE:
        checks["files"] = "less than 100 MB left"
    names = [spec.name for spec in site.detectors.specs()]
    if site.detectors.default not in names:
        checks["detector"] = f"{site.detectors.default} has no weights"
    return checks


@router.get(
    "/metrics",
    summary="Prometheus metrics",
    response_class=Response,
    responses=documented(also={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}),
    dependencies=[Depends(needs("metrics"))],
)
def get_metrics(request: Request) -> Response:
    metrics: Metrics = request.app.state.metrics
    return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST)
