"""The monitor reports what it measured, and nothing else."""

import threading
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from faceproof.detectors.detector import Detector
from faceproof.detectors.spec import parse_spec
from faceproof.errors import MediaError, OptionError
from faceproof.events import EventName, ProgressEvent
from faceproof.ops.monitor import AlertLimits, PerformanceMonitor
from faceproof.results import FailedInput
from faceproof.runtime import FakeNetwork
from faceproof.scanning import scan

from ..detectors.test_spec import MINIMAL


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def monitor_of(seconds: list[float], limits: AlertLimits | None = None) -> PerformanceMonitor:
    clock = Clock()
    monitor = PerformanceMonitor(limits or AlertLimits(memory_percent=None), clock=clock, memory=lambda: 1_000_000)
    for value in seconds:
        monitor.start_timer("b4")
        clock.now += value
        assert monitor.end_timer("b4") == pytest.approx(value)
        monitor.record_success("b4", True)
    return monitor


def test_the_document_example() -> None:
    report = monitor_of([0.1, 0.2, 0.3]).get_performance_report()
    assert report["models"]["b4"]["average_inference_time"] == pytest.approx(0.2)
    assert report["models"]["b4"]["p50_inference_time"] == pytest.approx(0.2)
    assert report["models"]["b4"]["throughput"] == pytest.approx(3 / 0.6)
    assert report["models"]["b4"]["error_rate"] == 0
    assert report["models"]["b4"]["memory"] == 1_000_000


def test_what_was_never_measured_has_no_number() -> None:
    monitor = PerformanceMonitor()
    assert monitor.get_performance_report()["models"] == {}
    monitor.record_success("b4", False)
    numbers = monitor.get_performance_report()["models"]["b4"]
    assert numbers["average_inference_time"] is None
    assert numbers["throughput"] is None
    assert numbers["error_rate"] == 1


def test_alerts_name_type_value_and_limit() -> None:
    limits = AlertLimits(inference_seconds=0.5, error_rate=0.1, memory_percent=None, min_samples=5)
    monitor = monitor_of([0.1] * 4, limits)
    assert monitor.check_alerts() == []
    monitor = monitor_of([0.1] * 4 + [2.0] * 4, limits)
    for _ in range(4):
        monitor.record_success("b4", False)
    alerts = {alert["type"]: alert for alert in monitor.check_alerts()}
    assert set(alerts) == {"inference_time", "error_rate"}
    assert alerts["inference_time"]["value"] == pytest.approx(2.0)
    assert alerts["error_rate"]["limit"] == 0.1
    assert alerts["error_rate"]["value"] == pytest.approx(4 / 12)


def test_memory_of_the_machine_is_measured() -> None:
    alerts = PerformanceMonitor(AlertLimits(memory_percent=0.0)).check_alerts()
    assert [alert["type"] for alert in alerts] == ["memory"]
    assert 0 < alerts[0]["value"] <= 100


def test_a_timer_belongs_to_its_thread() -> None:
    monitor = PerformanceMonitor()
    with pytest.raises(OptionError):
        monitor.end_timer("b4")
    caught: list[BaseException] = []

    def other() -> None:
        try:
            monitor.end_timer("b4")
        except OptionError as error:
            caught.append(error)

    monitor.start_timer("b4")
    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert caught
    monitor.end_timer("b4")


def test_a_block_that_raises_counts_as_failed() -> None:
    monitor = PerformanceMonitor()

    def fail() -> None:
        raise ValueError

    with pytest.raises(ValueError), monitor.timing("b4"):
        fail()
    monitor.record(FailedInput(path="a", error="corrupt", message="m", remedy="r"), model="b4")
    numbers = monitor.get_performance_report()["models"]["b4"]
    assert (numbers["error_rate"], numbers["samples"], numbers["outcomes"]) == (1, 1, 2)


def test_prometheus_reads_the_same_numbers() -> None:
    registry = CollectorRegistry()
    registry.register(monitor_of([0.02, 0.2, 400.0]))
    families = {f.name: f for f in text_string_to_metric_families(generate_latest(registry).decode())}
    samples = {(s.name, s.labels.get("le", "")): s.value for s in families["faceproof_inference_seconds"].samples}
    assert samples["faceproof_inference_seconds_count", ""] == 3
    assert samples["faceproof_inference_seconds_sum", ""] == pytest.approx(400.22)
    assert samples["faceproof_inference_seconds_bucket", "0.25"] == 2
    assert samples["faceproof_inference_seconds_bucket", "300.0"] == 2
    assert samples["faceproof_inference_seconds_bucket", "+Inf"] == 3
    assert {s.labels["outcome"]: s.value for s in families["faceproof_inferences"].samples}["success"] == 3


def test_the_window_forgets_but_the_counters_do_not() -> None:
    monitor = PerformanceMonitor(window=10)
    for i in range(25):
        monitor.observe("b4", float(i))
    numbers = monitor.get_performance_report()["models"]["b4"]
    assert (numbers["samples"], numbers["total"]) == (10, 25)
    assert numbers["p50_inference_time"] == pytest.approx(19.5)


def test_every_scan_of_the_process_is_heard_while_it_is_watched(astronaut_png: Path, damaged: dict[str, Path]) -> None:
    spec = parse_spec(MINIMAL).model_copy(update={"name": "heard"})
    detector = Detector(spec, FakeNetwork())
    monitor = PerformanceMonitor(memory=lambda: 1)
    own: list[ProgressEvent] = []
    with monitor.watching():
        report = scan(astronaut_png, detector=detector, on_event=own.append)
        with pytest.raises(MediaError):
            scan(damaged["text"], detector=detector)
    scan(astronaut_png, detector=detector)
    numbers = monitor.get_performance_report()["models"]["heard"]
    assert numbers["average_inference_time"] == report.processing_time
    assert (numbers["outcomes"], numbers["error_rate"]) == (2, 0.5)
    assert own[-1].event is EventName.ANALYSIS_COMPLETE
