"""REST: submitting, listing, watching, cancelling and deleting jobs."""

from __future__ import annotations

import re
from typing import Annotated, Any

import sqlalchemy as sa
from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from faceproof.errors import FaceproofError
from faceproof.results import Verdict
from faceproof.service import audit, housekeeping, jobs, submission, wishes
from faceproof.service.callers import Caller, Deleter, Reader, TheSite, Uploader
from faceproof.service.intake import Intake
from faceproof.service.problems import Problem, documented, not_found
from faceproof.service.site import Site
from faceproof.service.streams import follow
from faceproof.service.submission import Submission, Submitted
from faceproof.service.tables import Job, State, new_id
from faceproof.service.uploads import receive
from faceproof.service.views import AgainRequest, BatchItem, BatchView, FaultView, JobPage, JobView, view_job

router = APIRouter(prefix="/v1", tags=["jobs"])

_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)
_ONE = sa.select(Job.__table__).where(Job.id == sa.bindparam("job"))

_OPTIONS: dict[str, Any] = {
    "detector": {"type": "string", "description": "A name of GET /v1/detectors; the default one otherwise."},
    "frames": {"type": "string", "description": "auto, a count such as 32, every:K, or all.", "default": "auto"},
    "faces": {"type": "string", "enum": ["thorough", "fast"], "default": "thorough"},
    "evidence": {"type": "boolean", "description": "Make pictures and the HTML report.", "default": True},
    "priority": {"type": "integer", "minimum": -9, "maximum": 9, "description": "Above 0 needs the scope admin."},
    "keep": {"type": "string", "description": "Erase after this time, e.g. 12h; at most the server's own."},
    "webhook": {"type": "string", "format": "uri", "description": "Called, signed, when the job has ended."},
    "fresh": {"type": "boolean", "description": "Judge again even where the same result is here.", "default": False},
}


def form_schema(files: dict[str, Any], *, required: list[str]) -> dict[str, Any]:
    """The OpenAPI description of a multipart form that is read as a stream."""
    schema = {"type": "object", "properties": {**files, **_OPTIONS}, "required": required}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


_FILE: dict[str, Any] = {"type": "string", "format": "binary"}
_URL: dict[str, Any] = {"type": "string", "format": "uri", "description": "Instead of a file, where enabled."}

_EVENT: dict[str, Any] = {
    "type": "object",
    "description": "`state` at every change of state, `progress` twice a second at most while running.",
    "properties": {
        "id": {"type": "string"},
        "event": {"type": "string", "enum": ["state", "progress"]},
        "data": {"type": "string", "contentMediaType": "application/json"},
        "retry": {"type": "integer"},
    },
    "examples": [{"id": "17", "event": "state", "data": '{"state": "done", "verdict": "REAL", "score": 0.08}'}],
}

IdempotencyKey = Annotated[
    str | None,
    Header(min_length=1, max_length=200, description="Repeating a request with the same key does it once."),
]


def find_job(site: Site, caller: Caller, job_id: str) -> Job:
    """The caller's job. Raises :class:`Problem` 404, also for someone else's."""
    if not _ID.fullmatch(job_id):
        raise not_found()
    with site.store.read() as session:
        job = session.get(Job, job_id)
    found: Job = _theirs(caller, job)
    return found


def look_at_job(site: Site, caller: Caller, job_id: str) -> JobView:
    """As :func:`find_job`, only to show it: by far the most frequent question, so the row is taken as it is."""
    if not _ID.fullmatch(job_id):
        raise not_found()
    with site.store.engine.connect() as connection:
        row = connection.execute(_ONE, {"job": job_id}).one_or_none()
    return view_job(_theirs(caller, row))


def _theirs(caller: Caller, job: Any) -> Any:
    if job is None or job.kind != "scan" or not caller.sees(job):
        raise not_found()
    return job


def answer_submitted(submitted: Submitted) -> Response:
    view = view_job(submitted.job, reused=submitted.reused)
    headers = {"Location": f"/v1/jobs/{view.id}"}
    if submitted.replayed:
        headers["Idempotent-Replayed"] = "true"
    return shown(view, status=200 if submitted.reused else 202, headers=headers)


def shown(view: BaseModel, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """The view as JSON, written once."""
    return Response(view.model_dump_json(), status, headers, media_type="application/json")


async def _the_intake(request: Request) -> Intake:
    found: Intake = request.app.state.intake
    return found


TheIntake = Annotated[Intake, Depends(_the_intake)]


@router.post(
    "/jobs",
    status_code=202,
    summary="Submit a picture or video",
    response_model=JobView,
    responses=documented(
        413,
        415,
        422,
        507,
        also={200: {"model": JobView, "description": "The same file and settings are here already."}},
    ),
    openapi_extra=form_schema({"file": _FILE, "url": _URL}, required=[]),
)
async def submit_job(
    request: Request, caller: Uploader, site: TheSite, intake: TheIntake, idempotency_key: IdempotencyKey = None
) -> Response:
    received = await receive(request, site.files, most_bytes=site.settings.max_upload, most_files=1, first=intake.room)

    def prepare() -> Submission:
        form = received.form()
        wish = wishes.read_wish(site, caller, form.fields)
        upload = form.uploads[0] if form.uploads else None
        said = request.state.request_id
        return submission.make_submission(site, caller, wish, upload, token=idempotency_key, correlation=said)

    try:
        return answer_submitted(await intake.take(prepare))
    finally:
        received.discard()


@router.post(
    "/batch",
    status_code=202,
    summary="Submit several files at once",
    response_model=BatchView,
    responses=documented(413, 415, 422, 507),
    openapi_extra=form_schema({"file": {"type": "array", "items": _FILE}}, required=["file"]),
)
async def submit_batch(request: Request, caller: Uploader, site: TheSite, intake: TheIntake) -> Response:
    received = await receive(
        request,
        site.files,
        most_bytes=site.settings.max_upload,
        most_files=site.settings.max_batch,
        first=intake.room,
    )

    def submit() -> Response:
        form = received.form()
        batch = new_id()
        if not form.uploads:
            raise Problem(422, "file", "the form holds no file", "Send each file as a form field `file`.")
        wish = wishes.read_wish(site, caller, form.fields)
        wishes.require_public(site, wish)
        items = []
        for upload in form.uploads:
            item = BatchItem(file_name=upload.file_name)
            try:
                said = request.state.request_id
                made = submission.make_submission(site, caller, wish, upload, batch=batch, correlation=said)
                done = submission.submit(site, made)
                item.job = view_job(done.job, reused=done.reused)
            except FaceproofError as error:
                code = error.problem_code if isinstance(error, Problem) else error.code
                item.error = FaultView(code=code, message=error.message, remedy=error.remedy)
            items.append(item)
        return shown(BatchView(batch=batch, items=items), status=202)

    try:
        return await run_in_threadpool(submit)
    finally:
        received.discard()


@router.get("/jobs", summary="List jobs, the newest first", responses=documented(422))
def list_jobs(
    caller: Reader,
    site: TheSite,
    state: Annotated[State | None, Query()] = None,
    verdict: Annotated[Verdict | None, Query()] = None,
    q: Annotated[str | None, Query(max_length=200, description="Part of a file's name.")] = None,
    batch: Annotated[str | None, Query(pattern="^[0-9a-f]{32}$")] = None,
    after: Annotated[str | None, Query(pattern="^[0-9a-f]{32}$", description="`next` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> JobPage:
    found = search(site, caller, state=state, verdict=verdict, q=q, batch=batch, after=after, limit=limit + 1)
    more = len(found) > limit
    items = [view_job(job) for job in found[:limit]]
    return JobPage(items=items, next=items[-1].id if more else None)


def search(
    site: Site,
    caller: Caller,
    *,
    state: State | None = None,
    verdict: Verdict | None = None,
    q: str | None = None,
    batch: str | None = None,
    after: str | None = None,
    limit: int = 50,
) -> list[Job]:
    """The caller's jobs that fit, the newest first."""
    wanted = sa.select(Job).where(Job.kind == "scan")
    if not caller.may("admin"):
        wanted = wanted.where(Job.owner == caller.owner)
    if state is not None:
        wanted = wanted.where(Job.state == state)
    if verdict is not None:
        wanted = wanted.where(Job.verdict == verdict)
    if batch is not None:
        wanted = wanted.where(Job.batch_id == batch)
    if q:
        wanted = wanted.where(Job.file_name.icontains(q.replace("\0", ""), autoescape=True))
    with site.store.read() as session:
        if after is not None:
            last = session.get(Job, after)
            if last is None or not caller.sees(last):
                raise not_found()
            older = sa.tuple_(Job.created_at, Job.id) < sa.tuple_(sa.literal(last.created_at), sa.literal(last.id))
            wanted = wanted.where(older)
        return list(session.scalars(wanted.order_by(Job.created_at.desc(), Job.id.desc()).limit(limit)))


@router.get("/jobs/{job_id}", summary="One job", response_model=JobView, responses=documented(404))
async def get_job(job_id: str, caller: Reader, site: TheSite) -> Response:
    # Reading a row of SQLite takes less than handing it to a thread, and waits for no writer.
    if site.store.is_sqlite:
        return shown(look_at_job(site, caller, job_id))
    return shown(await run_in_threadpool(look_at_job, site, caller, job_id))


@router.delete(
    "/jobs/{job_id}", status_code=204, summary="Erase a job, its file and all evidence", responses=documented(404)
)
def delete_job(job_id: str, caller: Deleter, site: TheSite) -> None:
    job = find_job(site, caller, job_id)
    with site.store.write() as session:
        stored = session.get(Job, job.id)
        if stored is not None:
            jobs.cancel(session, stored)
    housekeeping.erase(site, [job.id], actor=caller.owner)


@router.post("/jobs/{job_id}/cancel", summary="Stop a job", responses=documented(404, 409))
def cancel_job(job_id: str, caller: Uploader, site: TheSite) -> JobView:
    job = find_job(site, caller, job_id)
    with site.store.write() as session:
        stored = session.get(Job, job.id, with_for_update=True)
        if stored is None:
            raise not_found()
        if stored.state != State.CANCELLED and not jobs.cancel(session, stored):
            raise Problem(409, "final", f"the job is {stored.state} already", "There is nothing left to stop.")
        audit.record(session, caller.owner, "job.cancel", job.id)
    return view_job(stored)


@router.post(
    "/jobs/{job_id}/again",
    status_code=202,
    summary="Judge the same file with another detector or other options",
    response_model=JobView,
    responses=documented(404, 409, 422, also={200: {"model": JobView, "description": "That result is here already."}}),
)
def judge_again(request: Request, job_id: str, caller: Uploader, site: TheSite, wanted: AgainRequest) -> Response:
    job = find_job(site, caller, job_id)
    fields = {"detector": job.detector, **{name: str(value) for name, value in job.options.items()}}
    fields |= {name: str(value) for name, value in wanted.model_dump(exclude_none=True).items()}
    if job.state in (State.FAILED, State.CANCELLED):
        fields["fresh"] = "true"
    wish = wishes.read_wish(site, caller, fields)
    wishes.require_public(site, wish)
    return answer_submitted(submission.submit_again(site, caller, job, wish, correlation=request.state.request_id))


@router.get(
    "/jobs/{job_id}/events",
    summary="Follow a job (server-sent events)",
    response_class=StreamingResponse,
    responses=documented(
        404,
        also={
            200: {
                "content": {"text/event-stream": {"schema": _EVENT}},
                "description": "state and progress",
            },
            204: {"description": "The job has ended and everything was sent."},
        },
    ),
)
async def follow_job(
    request: Request,
    job_id: str,
    caller: Reader,
    site: TheSite,
    last_event_id: Annotated[str | None, Header(max_length=20)] = None,
) -> Response:
    job = await run_in_threadpool(find_job, site, caller, job_id)
    seen = int(last_event_id) if last_event_id and re.fullmatch(r"\d{1,18}", last_event_id, re.ASCII) else 0
    return await follow(request, site, job.id, seen)
