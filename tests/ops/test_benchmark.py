"""A benchmark measures; nothing in it is written down beforehand."""

from pathlib import Path

import pytest

from faceproof.errors import OptionError, UnknownDetectorError
from faceproof.ops import benchmark
from faceproof.ops.benchmark import benchmark_against, export_architecture

from ..toy_detector import write_toy_detector


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACEPROOF_HOME", str(tmp_path))
    write_toy_detector(tmp_path)


def test_a_real_architecture_is_measured_beside_a_detector(toy: None) -> None:
    found = benchmark_against("test_efficientnet", "toy", repeats=5, rounds=1, precision="fp32", threads=1)
    model, baseline, comparison = found["model"], found["baseline"], found["comparison"]
    assert (model["name"], model["input_size"]) == ("toy", 32)
    assert (baseline["name"], baseline["input_size"]) == ("test_efficientnet", 160)
    assert 90_000 < baseline["parameters"] < 110_000
    assert baseline["file_size"] > 3 * baseline["parameters"]
    assert 0 < model["inference_time"] < baseline["inference_time"] <= baseline["p95_inference_time"]
    assert comparison["speed_improvement"] == pytest.approx(baseline["inference_time"] / model["inference_time"])
    assert baseline["memory"] > model["memory"] >= 0
    assert found["machine"]["cores"] == 1


def test_a_slower_baseline_reads_slower(toy: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same numbers come out as went in, whatever they are."""
    runs = iter(benchmark._Run([s] * 4, [8 * s] * 2, m) for s, m in ((0.01, 100), (0.03, 400)) * 2)
    monkeypatch.setattr(benchmark, "_in_a_process", lambda *_: next(runs))
    comparison = benchmark_against("toy", "toy")["comparison"]
    assert comparison["speed_improvement"] == pytest.approx(3)
    assert comparison["throughput_improvement"] == pytest.approx(3)
    assert comparison["memory_efficiency"] == pytest.approx(4)
    assert comparison["size_ratio"] == pytest.approx(1)


def test_names_that_mean_nothing_are_refused(toy: None, tmp_path: Path) -> None:
    with pytest.raises(UnknownDetectorError, match="architecture"):
        benchmark_against("nobody-v9", "toy")
    with pytest.raises(OptionError):
        benchmark_against("toy", "toy", repeats=0)


@pytest.mark.slow
def test_xception_is_the_library_s_own(tmp_path: Path) -> None:
    made = export_architecture("xception", tmp_path)
    assert made is not None
    assert made.size == 299
    assert 20_000_000 < made.parameters < 22_000_000  # 22.9 M with its 1,000 classes
