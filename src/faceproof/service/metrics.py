"""Prometheus: what this server measures itself, and the state of the queue as the table has it."""

from __future__ import annotations

import time
from collections.abc import Iterator

import sqlalchemy as sa
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from faceproof.service import tables
from faceproof.service.site import Site
from faceproof.service.tables import Delivery, FileLabel, Job, State
from faceproof.service.watch import Watch

_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0)


class Metrics:
    """One registry per server, so that several in one process do not mix."""

    def __init__(self, site: Site, watch: Watch) -> None:
        self.registry = CollectorRegistry()
        labels = ("method", "route", "status")
        self.requests = Counter("faceproof_http_requests", "Requests answered.", labels, registry=self.registry)
        self.seconds = Histogram(
            "faceproof_http_seconds",
            "Seconds until the answer began.",
            ("method", "route"),
            registry=self.registry,
            buckets=_BUCKETS,
        )
        self.registry.register(_Queue(site))
        self.registry.register(watch)

    def text(self) -> bytes:
        return generate_latest(self.registry)


class _Queue(Collector):
    def __init__(self, site: Site) -> None:
        self._site = site

    def describe(self) -> list[Metric]:
        return []  # keeps registration from asking the database

    def collect(self) -> Iterator[Metric]:
        with self._site.store.read() as session:
            by_state = {
                row[0]: row[1] for row in session.execute(sa.select(Job.state, sa.func.count()).group_by(Job.state))
            }
            oldest = session.scalar(sa.select(sa.func.min(Job.created_at)).where(Job.state == State.QUEUED))
            owed = {
                row[0]: row[1]
                for row in session.execute(sa.select(Delivery.state, sa.func.count()).group_by(Delivery.state))
            }
            answers = (FileLabel.detector, FileLabel.version, FileLabel.truth, FileLabel.verdict)
            labelled = session.execute(sa.select(*answers, sa.func.count()).group_by(*answers)).all()
            sums = {row.name: row.value for row in session.scalars(sa.select(tables.Counter))}
        jobs = GaugeMetricFamily("faceproof_jobs", "Jobs in the table.", labels=["state"])
        for state in State:
            jobs.add_metric([state.value], by_state.get(state.value, 0))
        yield jobs
        depth = GaugeMetricFamily("faceproof_queue_depth", "Jobs that wait for a worker.")
        depth.add_metric([], by_state.get(State.QUEUED.value, 0))
        yield depth
        age = GaugeMetricFamily("faceproof_queue_oldest_seconds", "How long the oldest waiting job has waited.")
        age.add_metric([], time.time() - oldest if oldest else 0.0)
        yield age
        hooks = GaugeMetricFamily("faceproof_webhooks", "Webhook calls by state.", labels=["state"])
        for name in ("waiting", "done", "dead"):
            hooks.add_metric([name], owed.get(name, 0))
        yield hooks
        known = ["detector", "version", "truth", "verdict"]
        labels = GaugeMetricFamily("faceproof_labels", "Labels by what was answered and what is true.", labels=known)
        for *names, count in labelled:
            labels.add_metric(names, count)
        yield labels
        total = CounterMetricFamily("faceproof_sum", "Sums since the start, by name.", labels=["name"])
        for name, value in sorted(sums.items()):
            total.add_metric([name], value)
        yield total
