"""The dashboard asks for metrics that exist."""

import json
import re
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest

from faceproof.ops.drift import DriftMonitor, Reference, Shift
from faceproof.ops.monitor import AlertLimits, PerformanceMonitor

ROOT = Path(__file__).parent.parent.parent
DASHBOARD = ROOT / "deploy" / "grafana" / "faceproof.json"


def test_every_metric_of_the_dashboard_is_exported() -> None:
    monitor = PerformanceMonitor(AlertLimits(memory_percent=0.0))
    monitor.observe("b4", 0.1)
    monitor.record_success("b4", True)
    drift = DriftMonitor(Reference(detector="b4", version="1", scans=1, values={}))
    drift.latest = [Shift(signal="score", p_value=1, size=0, before=0, now=0, samples=1)]
    registry = CollectorRegistry()
    registry.register(monitor)
    registry.register(drift)  # type: ignore[arg-type]
    exported = set(re.findall(r"^(faceproof_\w+)", generate_latest(registry).decode(), re.MULTILINE))
    service = (ROOT / "src" / "faceproof" / "service" / "metrics.py").read_text()
    exported |= set(re.findall(r'"(faceproof_\w+)"', service))
    asked = {
        name
        for panel in json.loads(DASHBOARD.read_text())["panels"]
        for target in panel["targets"]
        for name in re.findall(r"faceproof_\w+", target["expr"])
    }
    assert len(asked) >= 8
    assert asked <= exported


def test_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken
        assert max(x for x, _ in cells) < 24
        taken |= cells
