"""How the detectors do in this service, followed from the job table: speed, failures, memory, drift.

Workers write what a scan took and looked like into its row; every server reads the rows that are new. So each server knows
of all workers, wherever they run, and none of them is asked.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa
import structlog
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from faceproof.ops.alerts import Webhook, tell
from faceproof.ops.drift import DriftMonitor, Reference
from faceproof.ops.monitor import AlertLimits, PerformanceMonitor
from faceproof.service.site import Site
from faceproof.service.tables import Job, State

log = structlog.get_logger()

LOOK_EVERY = 5.0
# Clocks of machines differ, and a transaction may be seen a moment after the time it wrote down.
OVERLAP = 60.0
AT_ONCE = 1000
# What says something about the model or its machine. A broken upload says nothing about either.
FAILURES = ("internal", "worker_died", "memory", "cpu_time", "time", "output", "device", "network", "weights")


class Watch(Collector):
    """Feeds a :class:`PerformanceMonitor` and, where there is a reference, a :class:`DriftMonitor`. Safe between threads.

    Raises :class:`faceproof.errors.OptionError` for a reference that is none.
    """

    def __init__(self, site: Site) -> None:
        self._site = site
        limits = AlertLimits(memory_percent=None, cpu_percent=None)
        self.monitor = PerformanceMonitor(limits, memory=lambda: 0)
        reference = site.settings.drift_reference
        self.drift = DriftMonitor(Reference.load(Path(reference))) if reference else None
        self._webhook = Webhook(site.settings.alert_webhook) if site.settings.alert_webhook else None
        self._turn = threading.Lock()
        self._active: set[tuple[str, str]] = set()
        self._seen: dict[str, float] = {}
        self._since = time.time()
        self._looked = 0.0
        if self.drift is not None:
            self._fill_window(self.drift)

    def _fill_window(self, drift: DriftMonitor) -> None:
        """Go on with the scans from before this start, without raising their alarms again."""
        latest = (
            sa.select(Job.signals)
            .where(*_scans_of(drift), Job.finished_at <= self._since)
            .order_by(Job.finished_at.desc())
            .limit(drift.rule.window)
        )
        with self._site.store.read() as session:
            signals = list(session.scalars(latest))
        for one in reversed(signals):
            drift.add_signals(one or {})

    def look(self) -> None:
        """Take in what ended since the last look, and tell of alerts that are new. Quick when it was just called."""
        with self._turn:
            if time.monotonic() - self._looked < LOOK_EVERY:
                return
            self._looked = time.monotonic()
            alerts = self._take_in()
        for alert in alerts:
            tell(alert, self._webhook)

    def _take_in(self) -> list[dict[str, Any]]:
        alerts: list[dict[str, Any]] = []
        while True:
            rows = self._fresh()
            for row in rows:
                self._seen[row.id] = row.finished_at
                if row.state == State.DONE and row.seconds is not None:
                    self.monitor.observe(row.detector, row.seconds, memory=row.memory or 0)
                if row.state == State.DONE or row.error_code in FAILURES:
                    self.monitor.record_success(row.detector, row.state == State.DONE)
                drift = self.drift
                if drift and row.signals and (row.detector, row.version) == _named(drift):
                    alerts += [
                        {"type": "drift", "scans": drift.scans, **shift.model_dump()}
                        for shift in drift.add_signals(row.signals)
                    ]
            if len(rows) < AT_ONCE:
                break
        oldest = max(self._seen.values(), default=self._since) - OVERLAP
        self._since = max(self._since, oldest)
        self._seen = {job: at for job, at in self._seen.items() if at >= self._since}
        passed = self.monitor.check_alerts()
        alerts += [{**alert} for alert in passed if (alert["type"], alert["model"]) not in self._active]
        self._active = {(alert["type"], alert["model"]) for alert in passed}
        return alerts

    def _fresh(self) -> list[Any]:
        wanted = (
            sa.select(
                Job.id,
                Job.state,
                Job.detector,
                Job.version,
                Job.seconds,
                Job.memory,
                Job.signals,
                Job.error_code,
                Job.finished_at,
            )
            .where(Job.kind == "scan", Job.finished_at > self._since, Job.state.in_((State.DONE, State.FAILED)))
            .order_by(Job.finished_at)
            .limit(AT_ONCE + len(self._seen))
        )
        with self._site.store.read() as session:
            rows = session.execute(wanted).all()
        return [row for row in rows if row.id not in self._seen][:AT_ONCE]

    def describe(self) -> list[Metric]:
        return []  # keeps registration from asking the database

    def collect(self) -> Iterator[Metric]:
        """What Prometheus asks."""
        self.look()
        yield from self.monitor.collect()
        if self.drift is not None:
            yield from self.drift.collect()


def _named(drift: DriftMonitor) -> tuple[str, str]:
    return drift.reference.detector, drift.reference.version


def _scans_of(drift: DriftMonitor) -> tuple[sa.ColumnElement[bool], ...]:
    name, version = _named(drift)
    return (Job.kind == "scan", Job.state == State.DONE, Job.detector == name, Job.version == version)
