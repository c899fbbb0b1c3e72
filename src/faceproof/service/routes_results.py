"""REST: what came of a job: report, evidence, the medium itself with ranges, and pictures judged while you wait."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Annotated, Any

import anyio
from fastapi import APIRouter, Header, Request, Response
from fastapi.responses import FileResponse, JSONResponse, StreamingResponse
from starlette.concurrency import run_in_threadpool

from faceproof.results import Report
from faceproof.service import submission, wishes
from faceproof.service.callers import Reader, TheSite, Uploader
from faceproof.service.problems import Problem, documented, not_found
from faceproof.service.routes_jobs import TheIntake, find_job, form_schema, shown
from faceproof.service.site import Site
from faceproof.service.submission import Submission
from faceproof.service.tables import FINAL, Job, Medium, Result, State
from faceproof.service.uploads import receive
from faceproof.service.views import JobView, view_job

router = APIRouter(prefix="/v1", tags=["results"])

_NUMBER = re.compile(r"\d{1,9}", re.ASCII)


@router.post(
    "/images",
    summary="Judge one picture and wait for the answer",
    response_model=Report,
    responses=documented(
        413, 415, 422, 507, also={202: {"model": JobView, "description": "Not ready in time: follow the job."}}
    ),
    openapi_extra=form_schema({"file": {"type": "string", "format": "binary"}}, required=["file"]),
)
async def judge_image(request: Request, caller: Uploader, site: TheSite, intake: TheIntake) -> Response:
    received = await receive(request, site.files, most_bytes=site.settings.max_upload, most_files=1, first=intake.room)

    def prepare() -> Submission:
        form = received.form()
        upload = form.uploads[0] if form.uploads else None
        if upload is None:
            raise Problem(422, "file", "the form holds no file", "Send the picture as the form field `file`.")
        if upload.mime.startswith("video/"):
            raise Problem(415, "video", "this is a video", "Send videos to POST /v1/jobs.")
        wish = wishes.read_wish(site, caller, form.fields, priority=1)
        return submission.make_submission(site, caller, wish, upload, correlation=request.state.request_id)

    try:
        submitted = await intake.take(prepare)
    finally:
        received.discard()
    job = submitted.job
    ends = time.monotonic() + site.settings.wait
    while job.state not in FINAL and time.monotonic() < ends:
        await anyio.sleep(0.1)
        job = await run_in_threadpool(_fresh, site, job)
    if job.state == State.DONE:
        return await run_in_threadpool(_report_of, site, job)
    if job.state == State.FAILED:
        raise Problem(422, job.error_code or "failed", job.error_message or "", job.error_remedy or "")
    return shown(view_job(job), status=202)


def _fresh(site: Site, job: Job) -> Job:
    with site.store.read() as session:
        found = session.get(Job, job.id)
    if found is None:
        raise not_found()
    return found


def _report_of(site: Site, job: Job) -> Response:
    with site.store.read() as session:
        result = session.get(Result, job.id)
    if result is None:
        raise Problem(
            409, "not_done", f"the job is {job.state}", "Follow its events; a failed job says why in `error`."
        )
    return Response(result.report, media_type="application/json")


@router.get(
    "/jobs/{job_id}/report.json",
    summary="The report",
    response_model=Report,
    responses=documented(404, 409),
)
def get_report(job_id: str, caller: Reader, site: TheSite) -> Response:
    return _report_of(site, find_job(site, caller, job_id))


@router.get(
    "/jobs/{job_id}/report.html",
    summary="The report as one page to keep and print",
    response_class=Response,
    responses=documented(404, 409, also={200: {"content": {"text/html": {"schema": {"type": "string"}}}}}),
)
def get_report_page(request: Request, job_id: str, caller: Reader, site: TheSite) -> Response:
    job = find_job(site, caller, job_id)
    if job.state != State.DONE:
        return _report_of(site, job)
    answer = send_file(site, f"evidence/{job.id}/report.html", "text/html; charset=utf-8", None)
    # One file with its own styles and pictures inside; it may do nothing else.
    answer.headers["Content-Security-Policy"] = (
        "sandbox allow-scripts; default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'unsafe-inline'"
    )
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", job.file_name.rpartition(".")[0] or job.file_name)
    if "download" in request.query_params:
        answer.headers["Content-Disposition"] = f'attachment; filename="faceproof-{name[:80]}.html"'
    return answer


@router.get(
    "/jobs/{job_id}/overlay.mp4",
    summary="The video with what was found drawn in",
    response_class=Response,
    responses=documented(
        404,
        409,
        422,
        also={
            200: {"content": {"video/mp4": {"schema": {"type": "string", "format": "binary"}}}},
            202: {"description": "Being drawn; Retry-After says when to ask again."},
        },
    ),
)
def get_overlay(
    job_id: str, caller: Reader, site: TheSite, range: Annotated[str | None, Header(max_length=200)] = None
) -> Response:
    job = find_job(site, caller, job_id)
    if job.state != State.DONE:
        return _report_of(site, job)
    name = f"evidence/{job.id}/overlay.mp4"
    if site.files.size(name) is None:
        submission.request_overlay(site, job)
        return JSONResponse({"status": "drawing"}, status_code=202, headers={"Retry-After": "5"})
    return send_file(site, name, "video/mp4", range)


_JPEG: dict[int, Any] = {200: {"content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}}}}


@router.get(
    "/jobs/{job_id}/faces/{track}.jpg",
    summary="A person's most telling face",
    response_class=Response,
    responses=documented(404, also=_JPEG),
)
def get_face(job_id: str, track: str, caller: Reader, site: TheSite) -> Response:
    return _picture(site, find_job(site, caller, job_id), "faces", track)


@router.get(
    "/jobs/{job_id}/heatmaps/{track}.jpg",
    summary="The same face with what the detector saw",
    response_class=Response,
    responses=documented(404, also=_JPEG),
)
def get_heatmap(job_id: str, track: str, caller: Reader, site: TheSite) -> Response:
    return _picture(site, find_job(site, caller, job_id), "heatmaps", track)


@router.get(
    "/jobs/{job_id}/preview.jpg",
    summary="The picture as it was judged, for browsers",
    description="Upright, at most 1920 pixels wide and high. Made of pictures that browsers do not show as they were judged "
    "(HEIC, TIFF, AVIF, WebP); of others there is none, nor with `evidence=false`.",
    response_class=Response,
    responses=documented(404, also=_JPEG),
)
def get_preview(job_id: str, caller: Reader, site: TheSite) -> Response:
    return send_file(site, f"evidence/{find_job(site, caller, job_id).id}/preview.jpg", "image/jpeg", None)


def _picture(site: Site, job: Job, kind: str, track: str) -> Response:
    if not _NUMBER.fullmatch(track):
        raise not_found()
    return send_file(site, f"evidence/{job.id}/{kind}/{int(track)}.jpg", "image/jpeg", None)


@router.get(
    "/jobs/{job_id}/media",
    summary="The file that was judged",
    response_class=Response,
    responses=documented(
        404,
        also={
            200: {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}},
            206: {"description": "The ranges asked for."},
            416: {"description": "No such range."},
        },
    ),
)
def get_media(
    job_id: str, caller: Reader, site: TheSite, range: Annotated[str | None, Header(max_length=200)] = None
) -> Response:
    job = find_job(site, caller, job_id)
    with site.store.read() as session:
        medium = session.get(Medium, job.media_id) if job.media_id else None
    if medium is None:
        raise not_found()
    return send_file(site, f"media/{medium.id}", medium.mime, range)


def send_file(site: Site, name: str, mime: str, wanted: str | None) -> Response:
    """A stored file, or the one range of it that is ``wanted``; several at once are answered with the whole, as HTTP
    allows. Raises :class:`Problem` 404, and 416 for a range beyond the end."""
    headers = {"Cache-Control": "private, no-store", "Accept-Ranges": "bytes"}
    path = site.files.path(name)
    match = re.fullmatch(r"bytes=(\d{0,18})-(\d{0,18})", wanted or "", re.ASCII)
    ranged = match is not None and bool(match[1] or match[2])
    if path is not None and not wanted:
        return FileResponse(path, media_type=mime, headers=headers)
    size = site.files.size(name)
    if size is None:
        raise not_found()
    if match is None or not ranged:
        headers["Content-Length"] = str(size)
        return StreamingResponse(_chunks(site, name, 0, size), media_type=mime, headers=headers)
    start = int(match[1]) if match[1] else max(0, size - int(match[2]))
    end = min(int(match[2]), size - 1) if match[1] and match[2] else size - 1
    if start > end:
        words = ("the file has no such range", f"It has {size} bytes.")
        raise Problem(416, "range", *words, headers={"Content-Range": f"bytes */{size}"})
    headers |= {"Content-Range": f"bytes {start}-{end}/{size}", "Content-Length": str(end - start + 1)}
    content = _chunks(site, name, start, end - start + 1)
    return StreamingResponse(content, status_code=206, media_type=mime, headers=headers)


def _chunks(site: Site, name: str, start: int, count: int) -> Iterator[bytes]:
    yield from site.files.chunks(name, start, count)
