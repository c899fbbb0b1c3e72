"""Drift: the statistics equal SciPy's, planted shifts are found, quiet traffic stays quiet."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from faceproof.errors import OptionError
from faceproof.ops.drift import (
    NUMBERS,
    DriftMonitor,
    DriftRule,
    Reference,
    compare,
    ks,
    psi,
    signals_of,
    two_rates,
)

from .made_reports import made_report
from .traffic import scans


def reference(rng: np.random.Generator, number: int = 2000) -> Reference:
    values: dict[str, list[float]] = {name: [] for name in (*NUMBERS, "no_face")}
    for scan in scans(rng, number):
        for name, value in scan.items():
            values[name].append(value)
    return Reference(detector="toy", version="1.0", scans=number, values=values)


@given(st.integers(0, 10_000), st.integers(60, 400), st.integers(60, 400), st.floats(-1, 1))
@settings(max_examples=60, deadline=None)
def test_ks_is_scipys(seed: int, n: int, m: int, shift: float) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=n), rng.normal(shift, size=m)
    distance, p = ks(a, b)
    known = stats.ks_2samp(a, b, method="exact")
    assert distance == pytest.approx(known.statistic, abs=1e-12)
    assert p == pytest.approx(known.pvalue, abs=0.06)
    if known.pvalue < 0.01:
        assert 0.5 < p / max(known.pvalue, 1e-300) < 3 or known.pvalue < 1e-12


@given(st.integers(1, 300), st.integers(1, 300), st.data())
@settings(max_examples=40, deadline=None)
def test_two_rates_is_fishers_test(n: int, m: int, data: st.DataObject) -> None:
    a, b = data.draw(st.integers(0, n)), data.draw(st.integers(0, m))
    assert two_rates(a, n, b, m) == pytest.approx(stats.fisher_exact([[a, n - a], [b, m - b]]).pvalue, rel=1e-6)


def test_psi_worked() -> None:
    old = np.repeat(np.arange(10.0), 1000)
    assert psi(old, old) == pytest.approx(0, abs=1e-6)
    assert psi(old, old[old < 5]) > 1
    rng = np.random.default_rng(0)
    assert psi(rng.normal(size=5000), rng.normal(0.5, 1, size=5000)) == pytest.approx(0.25, abs=0.05)


def test_a_value_that_all_had_is_left_on_either_side() -> None:
    """Nine quantiles on one number made one edge, and whatever lay above it stood in its bin: no size, no alarm."""
    same = [1080.0] * 500
    values = dict.fromkeys(NUMBERS, same) | {"no_face": [0.0] * 500}
    known = Reference(detector="toy", version="1.0", scans=500, values=values)
    for now in (720.0, 2160.0):
        assert psi(same, [now] * 250) > 1
        (shift,) = compare(known, {"resolution": [now] * 250}, DriftRule())
        assert shift.alarm
    halves = [720.0] * 250 + [1080.0] * 250
    assert psi(halves, halves) < 0.01
    assert psi(halves, [720.0] * 125 + [900.0] * 125) > 1


@pytest.mark.parametrize(
    ("change", "signal"),
    [({"harder": 0.8}, "score"), ({"blur": 0.5}, "sharpness"), ({"no_face": 0.3}, "no_face")],
)
def test_a_planted_shift_is_found_within_500_scans(change: dict[str, float], signal: str) -> None:
    for seed in range(5):
        rng = np.random.default_rng(seed)
        monitor = DriftMonitor(reference(rng))
        for scan in scans(rng, 1000):
            assert not monitor.add_signals(scan)
        found: dict[str, int] = {}
        for place, scan in enumerate(scans(rng, 500, **change), 1):
            for shift in monitor.add_signals(scan):
                found.setdefault(shift.signal, place)
        assert signal in found, (seed, found)
        assert found[signal] <= 500


def test_quiet_weeks_stay_quiet() -> None:
    """Five weeks here; ``docs/operations.md`` states what many more gave."""
    rng = np.random.default_rng(11)
    alarms = 0
    rule = DriftRule(step=250)
    for _ in range(5):
        monitor = DriftMonitor(reference(rng), rule)
        for scan in scans(rng, rule.scans_per_week):
            alarms += len(monitor.add_signals(scan))
    assert alarms == 0


def test_the_level_of_a_look_holds() -> None:
    """Looks are false alarms no more often than their level says, at a level where one can count."""
    rng = np.random.default_rng(5)
    rule = DriftRule(window=100, step=100, scans_per_week=100, weekly_false_alarms=0.2, min_psi=0, min_rate_change=0)
    looks, false = 200, 0
    for _ in range(looks):
        old = reference(rng, 300)
        window: dict[str, list[float]] = {name: [] for name in old.values}
        for scan in scans(rng, 100):
            for name, value in scan.items():
                window[name].append(value)
        false += any(shift.alarm for shift in compare(old, window, rule))
    assert false / looks <= 0.2 + 3 * (0.2 * 0.8 / looks) ** 0.5


def test_an_alarm_is_raised_once() -> None:
    rng = np.random.default_rng(2)
    monitor = DriftMonitor(reference(rng))
    raised = [shift.signal for scan in scans(rng, 1500, harder=1.5) for shift in monitor.add_signals(scan)]
    assert raised.count("score") == 1
    assert monitor.active == {"score"}


def test_signals_of_a_report() -> None:
    assert signals_of(made_report(score=0.3, side=90, sharpness=20, bit_rate=500, height=480)) == {
        "score": 0.3,
        "face_side": 90,
        "sharpness": 20,
        "bit_rate": 500,
        "resolution": 480,
        "no_face": 0,
    }
    assert set(signals_of(made_report(score=None, bit_rate=None))) == {"resolution", "no_face"}


def test_a_reference_is_of_one_detector_and_can_be_kept(tmp_path: Path) -> None:
    reports = [made_report(f"{i}", i / 100) for i in range(100)]
    kept = Reference.of(reports, limit=60)
    assert kept.scans == 60
    kept.save(tmp_path / "r.json")
    assert Reference.load(tmp_path / "r.json") == kept
    with pytest.raises(OptionError):
        Reference.of([*reports, made_report(version="2.0")])
    with pytest.raises(OptionError):
        Reference.of(reports[:10])
    with pytest.raises(OptionError):
        DriftMonitor(kept).add(made_report(version="2.0"))
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(OptionError):
        Reference.load(tmp_path / "bad.json")


def test_rules_that_mean_nothing_are_refused() -> None:
    for wrong in ({"window": 10}, {"step": 0}, {"weekly_false_alarms": 0.0}, {"scans_per_week": 0}):
        with pytest.raises(OptionError):
            DriftRule(**wrong)  # type: ignore[arg-type]
