"""What the REST API shows: the JSON models, with examples."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from faceproof import wording
from faceproof.detectors.spec import DetectorSpec
from faceproof.ops.labels import Period
from faceproof.results import Verdict
from faceproof.service.tables import FileLabel, Job, State

JOB_ID_EXAMPLE = "8f14e45fceea167a5a36dedd4bea2543"
JOB_EXAMPLE: dict[str, Any] = {
    "id": JOB_ID_EXAMPLE,
    "state": "done",
    "file_name": "clip.mp4",
    "detector": "faceproof-small",
    "options": {"frames": "auto", "faces": "thorough"},
    "batch": None,
    "created_at": "2025-03-01T10:00:00Z",
    "started_at": "2025-03-01T10:00:01Z",
    "finished_at": "2025-03-01T10:00:04Z",
    "expires_at": "2025-03-08T10:00:00Z",
    "attempt": 1,
    "progress": {"frames": 32, "of": 32, "faces": 64},
    "verdict": "FAKE",
    "score": 0.86,
    "headline": "Signs of manipulation",
    "error": None,
    "reused": False,
    "links": {"self": f"/v1/jobs/{JOB_ID_EXAMPLE}", "page": f"/jobs/{JOB_ID_EXAMPLE}"},
}


class _View(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ProgressView(_View):
    """How far a running job has come: frames looked at, frames planned, faces found."""

    frames: int | None
    of: int | None
    faces: int | None


class FaultView(_View):
    """Why a job failed."""

    code: str = Field(examples=["no_video_stream"])
    message: str
    remedy: str


class JobView(_View):
    """One job. ``score`` is P(fake) in [0, 1] and null without an opinion; ``headline`` is the verdict in words."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [JOB_EXAMPLE]},
    )

    id: str
    state: State
    file_name: str
    detector: str
    options: dict[str, Any]
    batch: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    expires_at: datetime
    attempt: int
    progress: ProgressView | None
    verdict: Verdict | None
    score: float | None
    headline: str | None
    error: FaultView | None
    reused: bool = False
    links: dict[str, str]


class JobPage(_View):
    """Some jobs, the newest first; ``next`` is the ``after`` of the following page."""

    items: list[JobView]
    next: str | None = None


class BatchItem(_View):
    """One file of a batch: the job it became, or why it became none."""

    file_name: str
    job: JobView | None = None
    error: FaultView | None = None


class BatchView(_View):
    """The files of one batch request, in the order sent."""

    batch: str
    items: list[BatchItem]


class AgainRequest(_View):
    """Judge the same file once more, with what is given changed."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"detector": "faceproof-small"}]})

    detector: str | None = Field(default=None, max_length=80)
    frames: str | None = Field(default=None, max_length=20)
    faces: Literal["thorough", "fast"] | None = None


class LabelRequest(_View):
    """What a file turned out to be, and how that is known."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"truth": "fake", "note": "the uploader admitted it"}]}
    )

    truth: Literal["fake", "real"]
    note: str = Field(default="", max_length=500, pattern=r"^[^\x00]*$")


class LabelView(_View):
    """One label beside the answer it speaks of. ``right`` is whether the verdict was; null where it was no opinion."""

    job: str = Field(examples=[JOB_ID_EXAMPLE])
    truth: Literal["fake", "real"]
    note: str
    labelled_at: datetime
    detector: str
    verdict: Verdict
    score: float | None
    right: bool | None


class FeedbackView(_View):
    """How detectors did on the files that somebody labelled, week by week; ``disputed`` files count for nothing."""

    weeks: list[Period]
    files: int
    disputed: int


class DetectorView(_View):
    """A detector that can be asked for by name. Scores inside ``band``, where it has one, get no verdict; worse material
    may have a wider one, which its report names."""

    name: str = Field(examples=["faceproof-small"])
    version: str
    summary: str
    media: list[str]
    default: bool
    calibrated: bool
    threshold: float
    band: tuple[float, float] | None
    commercial_use: bool
    weights_licence: str
    origin: str


class StatsView(_View):
    """Jobs of this key by state and, for keys with the scope admin, sums over everything since the start."""

    jobs: dict[str, int]
    queue: int
    totals: dict[str, float] | None


class HealthView(_View):
    """Whether the server answers, or is ready; ``checks`` names what is wrong."""

    status: Literal["ok", "not_ready"]
    checks: dict[str, str] = Field(default_factory=dict)


def moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def view_job(job: Job, *, reused: bool = False) -> JobView:
    """A row as the API shows it."""
    verdict = Verdict(job.verdict) if job.verdict else None
    here = f"/v1/jobs/{job.id}"
    links = {"self": here, "events": f"{here}/events", "media": f"{here}/media", "page": f"/jobs/{job.id}"}
    if job.state == State.DONE:
        links |= {"report": f"{here}/report.json", "html": f"{here}/report.html", "overlay": f"{here}/overlay.mp4"}
    fault = None
    if job.error_code:
        fault = FaultView(code=job.error_code, message=job.error_message or "", remedy=job.error_remedy or "")
    progress = None
    if job.frames_done is not None:
        progress = ProgressView(frames=job.frames_done, of=job.frames_total, faces=job.faces_seen)
    return JobView(
        id=job.id,
        state=State(job.state),
        file_name=job.file_name,
        detector=job.detector,
        options=job.options,
        batch=job.batch_id,
        created_at=datetime.fromtimestamp(job.created_at, UTC),
        started_at=moment(job.started_at),
        finished_at=moment(job.finished_at),
        expires_at=datetime.fromtimestamp(job.expires_at, UTC),
        attempt=job.attempt,
        progress=progress,
        verdict=verdict,
        score=job.score,
        headline=wording.HEADLINES[verdict] if verdict else None,
        error=fault,
        reused=reused,
        links=links,
    )


def view_label(label: FileLabel) -> LabelView:
    verdict = Verdict(label.verdict)
    said = {Verdict.FAKE: "fake", Verdict.REAL: "real"}.get(verdict)
    return LabelView(
        job=label.job_id,
        truth="fake" if label.truth == "fake" else "real",
        note=label.note,
        labelled_at=datetime.fromtimestamp(label.labelled_at, UTC),
        detector=label.detector,
        verdict=verdict,
        score=label.score,
        right=None if said is None else said == label.truth,
    )


def view_detector(spec: DetectorSpec, default: str) -> DetectorView:
    return DetectorView(
        name=spec.name,
        version=spec.version,
        summary=spec.summary,
        media=list(spec.media),
        default=spec.name == default,
        calibrated=spec.calibration.method != "none",
        threshold=spec.verdict.threshold,
        band=spec.verdict.band,
        commercial_use=spec.licence.commercial,
        weights_licence=spec.licence.weights,
        origin=spec.licence.origin,
    )


def ago(seconds: float) -> str:
    """just now, 5 min ago, 3 h ago, 2 d ago: for people."""
    past = max(0.0, time.time() - seconds)
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if past >= size:
            return f"{int(past // size)} {unit} ago"
    return "just now"
