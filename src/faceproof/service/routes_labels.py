"""REST: what people found out about files, and what it says about the detectors."""

from __future__ import annotations

from fastapi import APIRouter

from faceproof.ops.labels import precision_recall
from faceproof.service import labels
from faceproof.service.callers import Labeller, Reader, TheSite
from faceproof.service.problems import documented, not_found
from faceproof.service.routes_jobs import find_job
from faceproof.service.views import FeedbackView, LabelRequest, LabelView, view_label

router = APIRouter(prefix="/v1", tags=["labels"])


@router.put("/jobs/{job_id}/label", summary="Say what a file turned out to be", responses=documented(404, 409, 422))
def give_label(job_id: str, caller: Labeller, site: TheSite, said: LabelRequest) -> LabelView:
    job = find_job(site, caller, job_id)
    return view_label(labels.give(site, caller, job, said.truth, said.note))


@router.get("/jobs/{job_id}/label", summary="Your label of a job's file", responses=documented(404))
def get_label(job_id: str, caller: Reader, site: TheSite) -> LabelView:
    known = labels.find(site, caller, find_job(site, caller, job_id))
    if known is None:
        raise not_found()
    return view_label(known)


@router.delete("/jobs/{job_id}/label", status_code=204, summary="Take your label back", responses=documented(404))
def withdraw_label(job_id: str, caller: Labeller, site: TheSite) -> None:
    if not labels.withdraw(site, caller, find_job(site, caller, job_id)):
        raise not_found()


@router.get("/feedback", summary="Precision and recall by week, on the labelled files", responses=documented())
def get_feedback(caller: Reader, site: TheSite) -> FeedbackView:
    """Yours; everybody's for keys with the scope admin."""
    found = labels.gather(site, None if caller.may("admin") else caller.owner)
    return FeedbackView(weeks=precision_recall(found.scans), files=len(found.truths), disputed=found.disputed)
