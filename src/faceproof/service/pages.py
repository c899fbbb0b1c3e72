"""The web page: rendered here, brought to life by a little script that speaks the same REST API as everyone else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Form, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.templating import Jinja2Templates

from faceproof import wording
from faceproof.evidence.timeline import fine_clock
from faceproof.results import Report, Verdict
from faceproof.service import callers, labels
from faceproof.service.artifacts import read_words
from faceproof.service.callers import COOKIE, SESSION_AGE, Caller, TheSite, door_of
from faceproof.service.problems import Problem
from faceproof.service.routes_jobs import find_job, search
from faceproof.service.running import stored_report
from faceproof.service.site import Site
from faceproof.service.tables import Job, State
from faceproof.service.timeline import Lane, lanes
from faceproof.service.views import ago, view_detector

router = APIRouter(include_in_schema=False)

templates = Jinja2Templates(directory=Path(__file__).parent / "web" / "templates")
templates.env.trim_blocks = templates.env.lstrip_blocks = True
templates.env.filters["ago"] = ago
templates.env.filters["clock"] = wording.clock
templates.env.filters["fine_clock"] = fine_clock
templates.env.globals["wording"] = wording
templates.env.globals["Verdict"] = Verdict

VERDICT_CLASS = {
    Verdict.FAKE: "fake",
    Verdict.REAL: "real",
    Verdict.INCONCLUSIVE: "unsure",
    Verdict.NOT_ASSESSED: "unsure",
}
templates.env.globals["verdict_class"] = VERDICT_CLASS
STATE_WORDS = {
    State.QUEUED: "Waiting",
    State.RUNNING: "Being looked at",
    State.DONE: "Done",
    State.FAILED: "Could not be judged",
    State.CANCELLED: "Stopped",
}


# People named in the line below the verdict; all of them are in the strip beside the video.
MOST_NAMED = 3


def _caller(request: Request, scope: str = "read") -> Caller | None:
    """The caller of a page; None sends them to the sign-in page."""
    door = door_of(request)
    caller = door.identify(request)
    if caller is None:
        return None
    door.limit("any", caller.owner)
    if not caller.may(scope):
        raise Problem(403, "scope", f"this key may not {scope}", "Ask the operator for a key with that scope.")
    return caller


def _to_sign_in() -> RedirectResponse:
    return RedirectResponse("/sign-in", status_code=303)


def _page(request: Request, name: str, caller: Caller | None, values: Mapping[str, Any], status: int = 200) -> Response:
    site = callers.site_of(request)
    shared = {
        "caller": caller,
        "signed_in": caller is not None and caller.csrf is not None,
        "settings": site.settings,
        "state_words": STATE_WORDS,
        **values,
    }
    answer = templates.TemplateResponse(request, name, shared, status_code=status)
    answer.headers["Cache-Control"] = "no-store"
    return answer


def problem_page(request: Request, problem: Mapping[str, Any]) -> Response:
    """A problem in words, for whoever came with a browser."""
    try:
        caller = door_of(request).identify(request)
    except Problem:
        caller = None
    return _page(request, "problem.html", caller, {"problem": problem}, status=problem["status"])


@router.get("/", response_class=HTMLResponse)
def home(request: Request, site: TheSite) -> Response:
    caller = _caller(request)
    if caller is None:
        return _to_sign_in()
    recent = [_row(job) for job in search(site, caller, limit=6)]
    return _page(request, "home.html", caller, {"recent": recent, "detectors": _detectors(site)})


@router.get("/history", response_class=HTMLResponse)
def history(
    request: Request,
    site: TheSite,
    q: Annotated[str, Query(max_length=200)] = "",
    verdict: Annotated[str, Query(max_length=20)] = "",
    after: Annotated[str, Query(pattern="^([0-9a-f]{32})?$")] = "",
) -> Response:
    caller = _caller(request)
    if caller is None:
        return _to_sign_in()
    chosen = Verdict(verdict) if verdict in Verdict.__members__ else None
    failed = State.FAILED if verdict == "failed" else None
    found = search(site, caller, q=q, verdict=chosen, state=failed, after=after or None, limit=31)
    values = {"rows": [_row(job) for job in found[:30]], "q": q, "chosen": verdict, "verdicts": list(Verdict)}
    more = {"next": found[29].id if len(found) > 30 else None}
    return _page(request, "history.html", caller, {**values, **more})


@router.get("/detectors", response_class=HTMLResponse)
def detectors(request: Request, site: TheSite) -> Response:
    caller = _caller(request)
    if caller is None:
        return _to_sign_in()
    return _page(request, "detectors.html", caller, {"detectors": _detectors(site)})


@router.get("/jobs/{job_id}", response_class=HTMLResponse)
def job_page(request: Request, job_id: str, site: TheSite) -> Response:
    caller = _caller(request)
    if caller is None:
        return _to_sign_in()
    job = find_job(site, caller, job_id)
    report = stored_report(site, job.id) if job.state == State.DONE else None
    if report is None:
        return _page(request, "waiting.html", caller, {"job": job, "row": _row(job)})
    mine = labels.find(site, caller, job) if caller.may("label") else None
    values = {**_result(site, job, report), "detectors": _detectors(site), "label": mine}
    return _page(request, "result.html", caller, values)


@router.get("/compare/{first}/{second}", response_class=HTMLResponse)
def compare(request: Request, first: str, second: str, site: TheSite) -> Response:
    caller = _caller(request)
    if caller is None:
        return _to_sign_in()
    sides = []
    for job_id in (first, second):
        job = find_job(site, caller, job_id)
        report = stored_report(site, job.id)
        sides.append(_result(site, job, report) if report else {"job": job, "row": _row(job), "report": None})
    return _page(request, "compare.html", caller, {"sides": sides})


@router.get("/sign-in", response_class=HTMLResponse)
def sign_in_page(request: Request, site: TheSite) -> Response:
    if not site.settings.needs_keys:
        return RedirectResponse("/", status_code=303)
    return _page(request, "sign_in.html", None, {"wrong": False})


@router.post("/sign-in", response_class=HTMLResponse)
def sign_in(request: Request, site: TheSite, key: Annotated[str, Form(max_length=200)] = "") -> Response:
    door = door_of(request)
    door.limit("sign_in", request.client.host if request.client else "unknown")
    # A page elsewhere could otherwise sign someone in under a key of its own.
    origin = request.headers.get("origin")
    if origin not in (None, "null") and origin.partition("://")[2] != request.headers.get("host"):
        raise Problem(403, "cross_site", "this request comes from another site", "Use this service's own page.")
    cookie = door.sign_in(key)
    if cookie is None:
        return _page(request, "sign_in.html", None, {"wrong": True}, status=401)
    answer = RedirectResponse("/", status_code=303)
    secure = request.url.scheme == "https"
    answer.set_cookie(COOKIE, cookie, max_age=SESSION_AGE, httponly=True, secure=secure, samesite="strict", path="/")
    return answer


@router.post("/sign-out")
def sign_out(request: Request, csrf: Annotated[str, Form(max_length=200)] = "") -> Response:
    cookie = request.cookies.get(COOKIE)
    if cookie and csrf != door_of(request).csrf(cookie):
        raise Problem(403, "csrf", "the page's token is missing or old", "Reload the page and try again.")
    answer = RedirectResponse("/sign-in", status_code=303)
    answer.delete_cookie(COOKIE, path="/")
    return answer


def _detectors(site: Site) -> list[Any]:
    return [view_detector(spec, site.detectors.default) for spec in site.detectors.specs()]


def _row(job: Job) -> dict[str, Any]:
    """A job as lists show it."""
    verdict = Verdict(job.verdict) if job.verdict else None
    words = wording.HEADLINES[verdict] if verdict else STATE_WORDS[State(job.state)]
    return {"job": job, "words": words, "kind": VERDICT_CLASS[verdict] if verdict else job.state, "score": job.score}


def _result(site: Site, job: Job, report: Report) -> dict[str, Any]:
    drawn: list[Lane] = lanes(report)
    pictured = {name.rpartition("/")[2] for name, _ in site.files.names(f"evidence/{job.id}/faces")}
    heated = {name.rpartition("/")[2] for name, _ in site.files.names(f"evidence/{job.id}/heatmaps")}
    return {
        "job": job,
        "row": _row(job),
        "report": report,
        "kind": VERDICT_CLASS[report.verdict],
        "headline": wording.HEADLINES[report.verdict],
        "finding": finding(report),
        "second_line": wording.second_line(report),
        "lanes": drawn,
        "judged": any(lane.track.score is not None for lane in drawn),
        "length": drawn[0].length if drawn else report.media.duration or 0.0,
        "has_face": {lane.track.id: f"{lane.track.id}.jpg" in pictured for lane in drawn},
        "has_heat": {lane.track.id: f"{lane.track.id}.jpg" in heated for lane in drawn},
        "words": read_words(site.files, job.id, report),
        "has_preview": site.files.size(f"evidence/{job.id}/preview.jpg") is not None,
        "has_html": site.files.size(f"evidence/{job.id}/report.html") is not None,
    }


def finding(report: Report) -> str:
    """Who and when, or why not: the first half of the second line."""
    if report.verdict is Verdict.FAKE:
        return wording.when(report) or _accused(report)
    if report.reason is None:
        return ""
    text = wording.REASONS[report.reason]
    return f"{text[:1].upper()}{text[1:]}. {wording.when(report)}".strip()


def _accused(report: Report) -> str:
    """Who, in a picture, the most suspicious first."""
    accused = sorted((t for t in report.tracks if t.verdict is Verdict.FAKE), key=lambda t: -(t.score or 0.0))
    parts = [wording.person(track) for track in accused[:MOST_NAMED]]
    if len(accused) > MOST_NAMED:
        parts.append(f"{len(accused) - MOST_NAMED} more")
    text = wording.listed(parts)
    return f"{text[:1].upper()}{text[1:]}." if text else ""
