"""How fast, how often wrong and how heavy each model is, as measured while it works.

Nothing here is assumed: a model that was never timed has no numbers.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any, TypedDict

import numpy as np

from faceproof.errors import OptionError
from faceproof.events import EventName, ProgressEvent, listening
from faceproof.results import FailedInput, Report

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


class Alert(TypedDict):
    """One limit that was passed. ``model`` is empty for limits of the whole process."""

    type: str
    model: str
    value: float
    limit: float


@dataclass(frozen=True)
class AlertLimits:
    """When :meth:`PerformanceMonitor.check_alerts` speaks up; None never does.

    ``inference_seconds`` bounds the 95th percentile; ``error_rate`` the share of failures, 0 to 1; ``memory_percent``
    and ``cpu_percent`` are of the whole machine. A model speaks from ``min_samples`` measurements on.
    """

    inference_seconds: float | None = 60.0
    error_rate: float | None = 0.05
    memory_percent: float | None = 90.0
    cpu_percent: float | None = None
    min_samples: int = 20


@dataclass
class _Track:
    """What is known of one model. ``seconds`` and ``outcomes`` are the latest; the counters are of all time."""

    seconds: deque[float]
    outcomes: deque[bool]
    ends: deque[float]
    count: int = 0
    total_seconds: float = 0.0
    successes: int = 0
    failures: int = 0
    buckets: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))
    peak_memory: int = 0


class PerformanceMonitor:
    """Times models. Safe to use from many threads; a timer belongs to the thread that started it.

    ``window``: how many of the latest measurements percentiles and rates are taken over.
    ``memory``: gives the process's resident bytes; by default psutil's. ``clock``: seconds, never backwards.
    """

    def __init__(
        self,
        limits: AlertLimits | None = None,
        *,
        window: int = 1000,
        clock: Callable[[], float] = time.perf_counter,
        memory: Callable[[], int] | None = None,
    ) -> None:
        self.limits = limits or AlertLimits()
        self._window = window
        self._clock = clock
        self._memory = memory or resident_bytes
        self._lock = threading.Lock()
        self._started: dict[tuple[int, str], float] = {}
        self._models: dict[str, _Track] = {}

    def start_timer(self, model: str) -> None:
        """Start timing ``model`` in this thread; starting again restarts."""
        with self._lock:
            self._started[threading.get_ident(), model] = self._clock()

    def end_timer(self, model: str) -> float:
        """Seconds since :meth:`start_timer`, kept as a measurement. Raises :class:`OptionError` without a start."""
        now = self._clock()
        with self._lock:
            started = self._started.pop((threading.get_ident(), model), None)
        if started is None:
            raise OptionError(f"no timer of {model!r} runs in this thread", remedy="Call start_timer first.")
        self.observe(model, now - started)
        return now - started

    @contextmanager
    def timing(self, model: str) -> Iterator[None]:
        """Time a block and record whether it raised."""
        self.start_timer(model)
        try:
            yield
        except BaseException:
            self.end_timer(model)
            self.record_success(model, False)
            raise
        self.end_timer(model)
        self.record_success(model, True)

    def observe(self, model: str, seconds: float, *, memory: int | None = None) -> None:
        """Keep one measurement taken elsewhere; ``memory`` in bytes where it was taken in another process."""
        resident = self._memory() if memory is None else memory
        with self._lock:
            track = self._track(model)
            track.seconds.append(seconds)
            track.ends.append(self._clock())
            track.count += 1
            track.total_seconds += seconds
            track.buckets[int(np.searchsorted(BUCKETS, seconds))] += 1
            track.peak_memory = max(track.peak_memory, resident)

    def record_success(self, model: str, success: bool) -> None:
        """Keep whether one use of ``model`` succeeded."""
        with self._lock:
            track = self._track(model)
            track.outcomes.append(success)
            if success:
                track.successes += 1
            else:
                track.failures += 1

    def record(self, outcome: Report | FailedInput, *, model: str | None = None) -> None:
        """Keep one scan: its time and its success. ``model`` names the detector of a scan that failed."""
        if isinstance(outcome, Report):
            self.observe(model or outcome.detector.name, outcome.processing_time)
            self.record_success(model or outcome.detector.name, True)
        else:
            self.record_success(model or "", False)

    def on_event(self, event: ProgressEvent) -> None:
        """Keep what a scan's last event says: its time and its success. Fits ``scan(..., on_event=monitor.on_event)``."""
        if event.event is EventName.ANALYSIS_COMPLETE:
            self.observe(event.data.model_name, float(event.data.details["processing_time"]))
        if event.event is not EventName.FRAME_ANALYSIS_PROGRESS:
            self.record_success(event.data.model_name, event.event is EventName.ANALYSIS_COMPLETE)

    def watching(self) -> AbstractContextManager[None]:
        """Keep every scan of this process while the block runs, whoever starts it."""
        return listening(self.on_event)

    def _track(self, model: str) -> _Track:
        if model not in self._models:
            window = self._window
            self._models[model] = _Track(deque(maxlen=window), deque(maxlen=window), deque(maxlen=window))
        return self._models[model]

    def get_performance_report(self) -> dict[str, Any]:
        """``{"models": {name: numbers}, "process": numbers}``; times in seconds, memory in bytes, rates 0 to 1.

        ``throughput`` is measurements a second over the window's span. What was never measured is None.
        """
        with self._lock:
            models = {name: _numbers(track) for name, track in self._models.items()}
        return {"models": models, "process": {"memory": self._memory()}}

    def check_alerts(self) -> list[Alert]:
        """The limits that are passed now, worst first."""
        report = self.get_performance_report()["models"]
        alerts: list[Alert] = []

        def compare(kind: str, model: str, value: float | None, limit: float | None) -> None:
            if value is not None and limit is not None and value > limit:
                alerts.append(Alert(type=kind, model=model, value=value, limit=limit))

        for name, numbers in report.items():
            if numbers["samples"] >= self.limits.min_samples:
                compare("inference_time", name, numbers["p95_inference_time"], self.limits.inference_seconds)
            if numbers["outcomes"] >= self.limits.min_samples:
                compare("error_rate", name, numbers["error_rate"], self.limits.error_rate)
        if self.limits.memory_percent is not None or self.limits.cpu_percent is not None:
            memory_percent, cpu_percent = machine_load()
            compare("memory", "", memory_percent, self.limits.memory_percent)
            compare("cpu", "", cpu_percent, self.limits.cpu_percent)
        return sorted(alerts, key=lambda alert: -alert["value"] / max(alert["limit"], 1e-9))

    def collect(self) -> Iterator[Any]:
        """What a Prometheus registry asks: ``REGISTRY.register(monitor)`` exports everything measured."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        seconds = HistogramMetricFamily("faceproof_inference_seconds", "Time of one use of a model.", labels=["model"])
        outcomes = CounterMetricFamily(
            "faceproof_inferences", "Uses of a model by outcome.", labels=["model", "outcome"]
        )
        memory = GaugeMetricFamily("faceproof_peak_memory_bytes", "Peak resident memory seen.", labels=["model"])
        alerts = GaugeMetricFamily("faceproof_alert", "1 while a limit is passed.", labels=["type", "model"])
        with self._lock:
            for name, track in self._models.items():
                below = np.cumsum(track.buckets)
                edges = [*map(str, BUCKETS), "+Inf"]
                pairs = [(edge, int(count)) for edge, count in zip(edges, below, strict=True)]
                seconds.add_metric([name], buckets=pairs, sum_value=track.total_seconds)
                outcomes.add_metric([name, "success"], track.successes)
                outcomes.add_metric([name, "failure"], track.failures)
                memory.add_metric([name], track.peak_memory)
        for alert in self.check_alerts():
            alerts.add_metric([alert["type"], alert["model"]], 1)
        yield from (seconds, outcomes, memory, alerts)


def _numbers(track: _Track) -> dict[str, Any]:
    seconds = np.asarray(track.seconds)
    span = track.ends[-1] - track.ends[0] + track.seconds[0] if len(seconds) else 0.0
    p50, p95, p99 = np.percentile(seconds, (50, 95, 99)) if len(seconds) else (None, None, None)
    return {
        "average_inference_time": float(seconds.mean()) if len(seconds) else None,
        "p50_inference_time": None if p50 is None else float(p50),
        "p95_inference_time": None if p95 is None else float(p95),
        "p99_inference_time": None if p99 is None else float(p99),
        "throughput": len(seconds) / span if span > 0 else None,
        "error_rate": 1 - sum(track.outcomes) / len(track.outcomes) if track.outcomes else None,
        "memory": track.peak_memory or None,
        "samples": len(seconds),
        "outcomes": len(track.outcomes),
        "total": track.count,
    }


def resident_bytes() -> int:
    """This process's resident memory in bytes."""
    import psutil  # type: ignore[import-untyped, unused-ignore]

    return int(psutil.Process().memory_info().rss)


def machine_load() -> tuple[float, float]:
    """Memory and processor in use on this machine, in percent; the processor since the last call."""
    import psutil  # type: ignore[import-untyped, unused-ignore]

    return float(psutil.virtual_memory().percent), float(psutil.cpu_percent(interval=None))
