"""``run_job``: the only way the service scans, whichever engine calls it.

The lease is renewed by a thread of its own for as long as the attempt runs. An attempt that loses its lease,
because its process was stopped for too long or its job was cancelled, stops and writes nothing.
"""

from __future__ import annotations

import math
import os
import re
import resource
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from faceproof.errors import DeviceError, EvidenceError, FaceproofError, MediaError, OutputError
from faceproof.events import EventName, ProgressEvent
from faceproof.service import jobs
from faceproof.service.confinement import allow_cpu_seconds, is_beyond_cpu_limit
from faceproof.service.jobs import Claim, Fault
from faceproof.service.site import Site
from faceproof.service.tables import Job, Medium

if TYPE_CHECKING:
    from faceproof.detectors.detector import Crop, Detector, FloatArray
    from faceproof.results import Report

log = structlog.get_logger()

PROGRESS_EVERY = 0.5
CURVE_POINTS = 60

_loaded: dict[str, Detector] = {}


class StoppedError(Exception):
    """The job was cancelled, deleted or taken over."""


class FileGoneError(FaceproofError):
    """The file of a job is not where it was kept: a restored database without its files, a volume that is not mounted."""

    code = "file_gone"
    default_remedy = "Send the file again; if it happens again, the operator has to look at the server's storage."


def run_job(site: Site, worker: str, job_id: str | None = None) -> str | None:
    """Claim the job named, or the next in turn, and bring it to an end. Returns its id, None when nothing waits."""
    claimed = jobs.claim(site.store, worker, lease=site.settings.lease, job_id=job_id)
    if claimed is None:
        return None
    with site.store.read() as session:
        job = session.get(Job, claimed.job_id)
    if job is None:
        return claimed.job_id
    words = structlog.contextvars.bound_contextvars(job=job.id, attempt=claimed.attempt, request=job.correlation)
    with words, Heartbeat(site, claimed) as heartbeat:
        started = time.perf_counter()
        try:
            allow_cpu_seconds(site.settings.cpu_seconds)
            outcome = _attempt(site, claimed, job, heartbeat)
        except StoppedError:
            outcome = "stopped"
        except (OutputError, DeviceError) as error:
            # The machine's fault, not the file's: room may come back, and another worker may have the device.
            jobs.retry(site.store, claimed, _fault(error, job), attempts=site.settings.attempts)
            outcome = error.code
        except FaceproofError as error:
            jobs.fail(site.store, claimed, _fault(error, job))
            outcome = error.code
        except MemoryError:
            fault = Fault("memory", "the file needs more memory than a worker may use", "Send a smaller copy.")
            jobs.fail(site.store, claimed, fault)
            outcome = fault.code
        except Exception:
            # A mistake in the program: never a score. The job is tried again and then fails in the open.
            log.exception("attempt broke")
            fault = Fault("internal", "the service made a mistake on this file", "Report it with the job's id.")
            jobs.retry(site.store, claimed, fault, attempts=site.settings.attempts)
            outcome = fault.code
        clear_up(site, job)
        log.info("attempt ended", outcome=outcome, kind=job.kind, seconds=round(time.perf_counter() - started, 3))
    return claimed.job_id


def clear_up(site: Site, job: Job) -> None:
    """Delete what an attempt wrote for a job that was erased meanwhile: whoever erased it could not know of that."""
    shown = job.parent_id or job.id
    with site.store.read() as session:
        erased = session.get(Job, shown) is None
    if erased:
        site.files.delete(f"evidence/{shown}")


@contextmanager
def _kept(site: Site, job: Job) -> Iterator[Path]:
    """The job's file as a local path. Raises :class:`FileGoneError`."""
    with ExitStack() as stack:
        try:
            path = stack.enter_context(site.files.local(f"media/{job.media_id}"))
        except FileNotFoundError as error:
            raise FileGoneError("the file is no longer where it was kept") from error
        yield path


def _fault(error: FaceproofError, job: Job) -> Fault:
    """The error in words for whoever uploaded the file: its own name instead of where it lies here."""
    message = error.message
    if job.media_id:
        message = re.sub(rf"'[^']*{job.media_id}'|\S*{job.media_id}\S*", lambda _: f"‘{job.file_name}’", message)
    return Fault(error.code, message, error.remedy)


def _attempt(site: Site, claimed: Claim, job: Job, heartbeat: Heartbeat) -> str:
    if job.media_id is None:
        from faceproof.service.fetch import fetch_medium

        job.media_id = fetch_medium(site, job)
    if job.kind == "overlay":
        return _draw_overlay(site, claimed, job, heartbeat)
    return _scan(site, claimed, job, heartbeat)


def _scan(site: Site, claimed: Claim, job: Job, heartbeat: Heartbeat) -> str:
    from faceproof.batch import ScanOptions
    from faceproof.media import Limits
    from faceproof.ops.drift import signals_of
    from faceproof.scanning import scan
    from faceproof.service.artifacts import make_evidence

    detector = _detector(site, job.detector)
    settings = site.settings
    options = ScanOptions(
        detector=job.detector,
        frames=job.options.get("frames", "auto"),
        faces=job.options.get("faces", "thorough"),
        device=settings.device,
        limits=Limits(
            max_pixels=settings.max_pixels, max_duration=settings.max_duration, threads=settings.threads or None
        ),
        threads=settings.threads or None,
    )
    listener = _Listener(site, claimed, heartbeat)
    with _kept(site, job) as path:
        report = scan(
            path,
            detector=_watched(detector, listener),
            frames=options.frames,
            faces=options.faces,
            limits=options.limits,
            threads=options.threads,
            media_id=job.id,
            on_event=listener,
        )
        report.media.path = job.file_name
        if job.options.get("evidence", True):
            listener.stage("evidence")
            try:
                make_evidence(site.files, job.id, path, report, detector, options)
            except (EvidenceError, MediaError) as error:
                # The verdict stands without pictures; the page says that there are none.
                log.warning("no evidence", code=error.code)
    heartbeat.check()
    sums = {"scan_seconds": report.processing_time, "media_seconds": report.media.duration or 0.0}
    sums["frames"] = report.frames_analyzed
    if not jobs.finish(
        site.store,
        claimed,
        report=report.model_dump_json(),
        verdict=report.verdict.value,
        score=report.score,
        sums=sums,
        facts={
            "version": report.detector.version,
            "seconds": report.processing_time,
            # Kilobytes on Linux.
            "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "signals": signals_of(report),
        },
    ):
        raise StoppedError
    return report.verdict.value


def _draw_overlay(site: Site, claimed: Claim, job: Job, heartbeat: Heartbeat) -> str:
    from faceproof.service.artifacts import make_overlay

    assert job.parent_id is not None
    report = stored_report(site, job.parent_id)
    if report is None:
        raise StoppedError
    with _kept(site, job) as path:
        make_overlay(site.files, job.parent_id, path, report, _detector(site, job.detector))
    heartbeat.check()
    if not jobs.finish_other(site.store, claimed):
        raise StoppedError
    return "drawn"


def stored_report(site: Site, job_id: str) -> Report | None:
    """The report of a job that is done."""
    from faceproof.results import Report
    from faceproof.service.tables import Result

    with site.store.read() as session:
        found = session.get(Result, job_id)
    return Report.model_validate_json(found.report) if found else None


def _detector(site: Site, name: str) -> Detector:
    """Loaded once in each worker process."""
    if name not in _loaded:
        settings = site.settings
        _loaded[name] = site.detectors.load(name, device=settings.device, threads=settings.threads or None)
    return _loaded[name]


def _watched(detector: Detector, listener: _Listener) -> Detector:
    """The same detector, its scores shown to the listener as they come."""
    from faceproof.detectors.detector import Detector
    from faceproof.detectors.ensemble import Ensemble

    class Watched(Detector):
        def score(self, crops: Sequence[Crop]) -> FloatArray:
            scores = super().score(crops)
            listener.scores.extend(float(p) for p in scores)
            return scores

    class WatchedEnsemble(Ensemble):
        def votes(self, *crops_and_failed: Any) -> Any:
            votes = super().votes(*crops_and_failed)
            listener.scores.extend(p for p in map(self.fuse_votes, votes) if math.isfinite(p))
            return votes

    if isinstance(detector, Ensemble):
        return WatchedEnsemble(detector.ensemble, detector.voices, detector.absent)
    return Watched(detector.spec, detector.network)


@dataclass
class _Listener:
    """Turns a scan's events into rows, at most one every :data:`PROGRESS_EVERY` seconds."""

    site: Site
    claimed: Claim
    heartbeat: Heartbeat
    scores: list[float] = field(default_factory=list)
    _written: float = 0.0
    _last: dict[str, object] = field(default_factory=dict)

    def __call__(self, event: ProgressEvent) -> None:
        self.heartbeat.check()
        if event.event is not EventName.FRAME_ANALYSIS_PROGRESS:
            return
        details = event.data.details
        self._last = {
            "progress": event.data.progress,
            "total": event.data.total,
            "faces": details["faces_detected_so_far"],
            "now": details["current_frame_faces"],
        }
        now = time.monotonic()
        if now - self._written >= PROGRESS_EVERY:
            self._written = now
            self._send("faces")

    def stage(self, name: str) -> None:
        """The frames are done; what follows has no count."""
        self._send(name)

    def _send(self, stage: str) -> None:
        data = {"stage": stage, **self._last, "curve": curve(self.scores)}
        if not jobs.progress(self.site.store, self.claimed, lease=self.site.settings.lease, data=data):
            raise StoppedError


def curve(scores: Sequence[float]) -> list[float]:
    """At most :data:`CURVE_POINTS` numbers that show how the scores ran: the highest of each equal stretch."""
    count = min(len(scores), CURVE_POINTS)
    edges = [len(scores) * i // count for i in range(count + 1)] if count else []
    return [round(max(scores[a:b]), 3) for a, b in pairwise(edges)]


class Heartbeat:
    """Renews the lease while the block runs, and ends the process when the attempt exceeds its time."""

    def __init__(self, site: Site, claimed: Claim) -> None:
        self._site = site
        self._claimed = claimed
        self._over = threading.Event()
        self._lost = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="faceproof-heartbeat", daemon=True)

    def __enter__(self) -> Heartbeat:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def check(self) -> None:
        """Raise :class:`StoppedError` when the job is no longer ours."""
        if self._lost.is_set():
            raise StoppedError

    def _beat(self) -> None:
        from sqlalchemy.exc import SQLAlchemyError

        settings = self._site.settings
        ends = time.monotonic() + settings.job_time
        while not self._over.wait(min(settings.lease / 4, 2.0)):
            try:
                if time.monotonic() > ends or is_beyond_cpu_limit():
                    self._end_process(time.monotonic() > ends)
                if not jobs.keep_alive(self._site.store, self._claimed, lease=settings.lease):
                    self._lost.set()
                    return
            except (SQLAlchemyError, OutputError):
                # The database is away. The lease decides: when it runs out, another attempt may begin.
                log.warning("heartbeat missed")

    def _end_process(self, by_clock: bool) -> None:
        code, what = ("time", "time") if by_clock else ("cpu_time", "processor time")
        fault = Fault(code, f"the file took more {what} than a job may use", "Send a shorter piece, or fewer frames.")
        jobs.fail(self._site.store, self._claimed, fault)
        log.error("attempt ended by force", outcome=code)
        # The main thread is stuck in a codec and cannot be interrupted; a new process takes its place.
        os._exit(70)


def insert_medium(site: Site, *, sha256: str, size: int, mime: str) -> Medium:
    """A row for a file about to be kept; its id is the file's name."""
    from faceproof.service.tables import new_id

    return Medium(id=new_id(), sha256=sha256, size=size, mime=mime, created_at=time.time())
