"""The queue model obeys its own bound, finds the part that holds a fleet back, and knows the textbook cases."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faceproof.errors import OptionError
from faceproof.ops.fleet_model import FleetNumbers, bounds, simulate

NUMBERS = FleetNumbers(
    scan=2.0, spread=0.5, file_size=10e6, worker_line=125e6, storage=2.5e9, coordinator=800.0, broker=10_000.0
)


def test_a_few_workers_are_held_back_by_themselves_and_many_by_the_storage() -> None:
    assert bounds(NUMBERS, 10).bottleneck == "workers"
    assert bounds(NUMBERS, 10).files_per_second == pytest.approx(10 / 2.08)
    assert bounds(NUMBERS, 1000).bottleneck == "storage"
    assert bounds(NUMBERS, 1000).files_per_second == pytest.approx(250)


@pytest.mark.parametrize("workers", [1, 2, 100])
def test_workers_add_up_while_nothing_else_is_full(workers: int) -> None:
    played = simulate(NUMBERS, workers, 40 * workers, ahead=2 * workers)
    assert played.files_per_second == pytest.approx(bounds(NUMBERS, workers).files_per_second, rel=0.15)
    assert played.workers_busy > 0.8


def test_a_full_part_is_busy_and_more_workers_do_not_help() -> None:
    one, two = (simulate(NUMBERS, workers, 20_000, ahead=10_000) for workers in (1000, 2000))
    assert one.storage_busy > 0.9
    assert two.files_per_second == pytest.approx(one.files_per_second, rel=0.05)


def test_too_small_a_window_starves_workers() -> None:
    starved = simulate(NUMBERS, 100, 5000, ahead=10)
    assert starved.files_per_second < 0.2 * simulate(NUMBERS, 100, 5000, ahead=400).files_per_second


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 300), st.floats(0.1, 5), st.floats(1e5, 1e8), st.floats(5, 2000), st.integers(0, 99))
def test_no_run_beats_the_bound(workers: int, scan: float, size: float, coordinator: float, seed: int) -> None:
    numbers = FleetNumbers(scan, 0.0, size, 1e8, 1e9, coordinator, 1e5, start=0.0)
    played = simulate(numbers, workers, 500, ahead=1000, seed=seed)
    assert played.files_per_second <= bounds(numbers, workers).files_per_second * (1 + 1e-6)


def test_numbers_that_mean_nothing_are_refused() -> None:
    with pytest.raises(OptionError):
        FleetNumbers(0, 0, 1, 1, 1, 1, 1)
    with pytest.raises(OptionError):
        simulate(NUMBERS, 0, 1)
