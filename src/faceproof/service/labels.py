"""What people found out about files that were judged here: kept beside the answers, so that they can be held against them.

One person's later word about a file replaces their earlier one, in every job of theirs that judged the same file.
"""

from __future__ import annotations

import shutil
import time
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

import sqlalchemy as sa

from faceproof.errors import OutputError
from faceproof.ops.labels import LabelledScan, Truth
from faceproof.results import Verdict
from faceproof.service import audit, jobs
from faceproof.service.callers import Caller
from faceproof.service.problems import Problem, not_found
from faceproof.service.site import Site
from faceproof.service.tables import FileLabel, Job, Medium, State

SUFFIXES = {
    "image/jpeg": "jpg",
    "video/quicktime": "mov",
    "video/x-matroska": "mkv",
    "video/x-msvideo": "avi",
    "video/mp2t": "ts",
    "video/mpeg": "mpg",
    "video/ogg": "ogv",
    "video/x-flv": "flv",
    "video/x-ms-wmv": "wmv",
}


def give(site: Site, caller: Caller, job: Job, truth: Truth, note: str) -> FileLabel:
    """Keep one label. Raises :class:`Problem` 409 for a job that gave no answer, 404 for one that is gone."""
    if job.state != State.DONE or job.media_id is None:
        raise Problem(409, "not_done", f"the job is {job.state}", "Only files that were judged can be labelled.")
    with site.store.write() as session:
        medium = session.get(Medium, job.media_id)
        if medium is None:  # erased a moment ago
            raise not_found()
        sha256 = medium.sha256
        same = sa.select(Job).join(Medium, Job.media_id == Medium.id)
        same = same.where(Medium.sha256 == sha256, Job.owner == job.owner, Job.kind == "scan", Job.state == State.DONE)
        judged = session.scalars(same).all()
        own = FileLabel.owner == caller.owner
        session.execute(sa.delete(FileLabel).where(own, FileLabel.sha256 == sha256))
        made = {one.id: _row(one, caller, sha256, truth, note) for one in judged}
        jobs.insert_rows(session, list(made.values()))
        audit.record(session, caller.owner, "job.label", job.id, truth=truth)
    return made[job.id]


def _row(job: Job, caller: Caller, sha256: str, truth: Truth, note: str) -> FileLabel:
    return FileLabel(
        job_id=job.id,
        owner=caller.owner,
        sha256=sha256,
        truth=truth,
        note=note,
        labelled_at=time.time(),
        detector=job.detector,
        version=job.version or "",
        verdict=job.verdict,
        score=job.score,
        judged_at=job.finished_at,
    )


def find(site: Site, caller: Caller, job: Job) -> FileLabel | None:
    """The caller's own label of a job's file."""
    with site.store.read() as session:
        return session.get(FileLabel, (job.id, caller.owner))


def withdraw(site: Site, caller: Caller, job: Job) -> bool:
    """Take the caller's label of a job's file back, wherever it stands. False when there is none."""
    with site.store.write() as session:
        known = session.get(FileLabel, (job.id, caller.owner))
        if known is None:
            return False
        session.execute(sa.delete(FileLabel).where(FileLabel.owner == caller.owner, FileLabel.sha256 == known.sha256))
        audit.record(session, caller.owner, "job.unlabel", job.id)
        return True


@dataclass(frozen=True)
class Feedback:
    """Answers whose files have an undisputed label, oldest first, the truth of each file by sha256, and how many files
    people disagree about."""

    scans: list[LabelledScan]
    truths: dict[str, Truth]
    disputed: int


def gather(site: Site, owner: str | None = None) -> Feedback:
    """What was labelled, by everyone or by one ``owner``. A scan's path is empty where its file was erased."""
    wanted = sa.select(FileLabel, Medium.id, Medium.mime).order_by(FileLabel.judged_at)
    wanted = wanted.outerjoin(Job, Job.id == FileLabel.job_id).outerjoin(Medium, Medium.id == Job.media_id)
    if owner is not None:
        wanted = wanted.where(FileLabel.owner == owner)
    with site.store.read() as session:
        rows = session.execute(wanted).all()
    said: dict[str, set[str]] = defaultdict(set)
    for label, _, _ in rows:
        said[label.sha256].add(label.truth)
    truths: dict[str, Truth] = {
        sha256: "fake" if "fake" in words else "real" for sha256, words in said.items() if len(words) == 1
    }
    scans: dict[str, LabelledScan] = {}
    for label, medium, mime in rows:
        if label.sha256 in truths:
            scans[label.job_id] = LabelledScan(
                sha256=label.sha256,
                truth=truths[label.sha256],
                detector=label.detector,
                version=label.version,
                time=label.judged_at,
                path=f"media/{medium}#{mime}" if medium else "",
                score=label.score,
                verdict=Verdict(label.verdict),
            )
    return Feedback(list(scans.values()), truths, len(said) - len(truths))


def copy_media(site: Site, feedback: Feedback, folder: Path) -> list[LabelledScan]:
    """Copy the labelled files that are still here into ``folder``, named by their sha256, so that retention does not take
    them from whoever trains on them. Returns the scans with their new paths.

    Raises :class:`OutputError` when ``folder`` cannot be written.
    """
    copied: dict[str, Path] = {}
    moved = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for scan in feedback.scans:
            name, _, mime = scan.path.partition("#")
            if name and scan.sha256 not in copied:
                target = folder / f"{scan.sha256}.{SUFFIXES.get(mime, mime.rpartition('/')[2])}"
                with site.files.local(name) as path:
                    shutil.copyfile(path, target)
                copied[scan.sha256] = target
            moved.append(replace(scan, path=str(copied.get(scan.sha256, ""))))
    except FileNotFoundError as error:
        raise OutputError(f"a labelled file is not where it was kept: {error}") from error
    except OSError as error:
        raise OutputError(f"cannot write {folder}: {error.strerror}") from error
    return moved
