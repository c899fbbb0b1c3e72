"""What workers do is seen by every server: time, memory, failures and drift, from the job table."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from service_under_test import ended, job_row, make_clip, make_settings, submit

from faceproof.errors import OptionError
from faceproof.ops.drift import Reference
from faceproof.service import jobs, watch
from faceproof.service.app import make_app
from faceproof.service.site import Site
from faceproof.service.watch import Watch


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "LOOK_EVERY", 0.0)


def end_a_job(site: Site, *, code: str = "", seconds: float = 0.2, signals: dict[str, float] | None = None) -> None:
    with site.store.write() as session:
        jobs.enqueue(session, job := job_row())
    claimed = jobs.claim(site.store, "w", lease=30, job_id=job.id)
    assert claimed is not None
    if code:
        jobs.fail(site.store, claimed, jobs.Fault(code, "", ""))
        return
    facts: dict[str, Any] = {"version": "1.0", "seconds": seconds, "memory": 10**8, "signals": signals or {}}
    assert jobs.finish(site.store, claimed, report="{}", verdict="REAL", score=0.1, sums={"frames": 1}, facts=facts)


def test_a_scan_by_a_worker_is_measured_and_exported(tmp_path: Path) -> None:
    with TestClient(make_app(make_settings(tmp_path, workers=1))) as client:
        job = ended(client, submit(client, make_clip(1))["id"])
        report = client.get(f"/v1/jobs/{job['id']}/report.json").json()
        text = client.get("/metrics").text
        lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
        assert float(lines['faceproof_inference_seconds_sum{model="fake"}']) == pytest.approx(report["processing_time"])
        assert lines['faceproof_inferences_total{model="fake",outcome="success"}'] == "1.0"
        assert float(lines['faceproof_peak_memory_bytes{model="fake"}']) > 3e7


def test_each_scan_counts_once_and_broken_uploads_are_no_failures(site: Site) -> None:
    seen = Watch(site)
    for _ in range(3):
        end_a_job(site)
        seen.look()
    end_a_job(site, code="worker_died")
    end_a_job(site, code="corrupt")
    seen.look()
    seen.look()
    numbers = seen.monitor.get_performance_report()["models"]["fake"]
    assert (numbers["total"], numbers["outcomes"], numbers["error_rate"]) == (3, 4, 0.25)
    assert numbers["memory"] == 10**8


def test_what_ended_before_this_start_is_not_counted_again(site: Site) -> None:
    end_a_job(site)
    time.sleep(0.01)
    seen = Watch(site)
    seen.look()
    assert seen.monitor.get_performance_report()["models"] == {}


def test_a_shift_is_told_once_and_windows_survive_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = np.random.default_rng(0)
    path = tmp_path / "reference.json"
    Reference(detector="fake", version="1.0", scans=400, values={"score": drawn.uniform(0.0, 0.5, 400).tolist()}).save(
        path
    )
    opened = Site.open(make_settings(tmp_path / "data", workers=0, drift_reference=str(path)))
    told: list[dict[str, Any]] = []
    monkeypatch.setattr(watch, "tell", lambda alert, _webhook: told.append(alert))
    try:
        for number in range(200):  # before this start: the first part of the window
            end_a_job(opened, signals={"score": 0.5 + number % 40 / 100})
        seen = Watch(opened)
        assert told == []
        for number in range(100):
            end_a_job(opened, signals={"score": 0.5 + number % 40 / 100})
        seen.look()
        seen.look()
        assert [(alert["type"], alert["signal"]) for alert in told] == [("drift", "score")]
        names = {metric.name for metric in seen.collect()}
        assert {"faceproof_drift_alarm", "faceproof_inference_seconds"} <= names
    finally:
        opened.close()


def test_slow_models_are_told_once(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[dict[str, Any]] = []
    monkeypatch.setattr(watch, "tell", lambda alert, _webhook: told.append(alert))
    seen = Watch(site)
    for _ in range(2):
        for _ in range(20):
            end_a_job(site, seconds=100.0)
        seen.look()
    assert [(alert["type"], alert["model"], alert["value"]) for alert in told] == [("inference_time", "fake", 100.0)]


def test_a_reference_that_is_none_stops_the_start(tmp_path: Path) -> None:
    opened = Site.open(make_settings(tmp_path, workers=0, drift_reference=str(tmp_path / "none.json")))
    with pytest.raises(OptionError, match="not a drift reference"):
        Watch(opened)
    opened.close()
