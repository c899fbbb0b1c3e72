"""Seconds per stage, whoever spends them."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from faceproof.stopwatch import Stopwatch


def test_a_stage_adds_up_over_its_threads() -> None:
    with Stopwatch() as watch:

        def work(_: int) -> None:
            with watch("score"):
                time.sleep(0.02)

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(work, range(4)))
        with watch("probe"):
            pass
    assert set(watch.seconds) == {"score", "probe"}
    assert watch.seconds["score"] >= 0.08 > watch.seconds["probe"]


def test_a_stage_that_fails_is_counted_too() -> None:
    watch = Stopwatch()

    @watch("decode")
    def fail() -> None:
        time.sleep(0.01)
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        fail()
    assert watch.seconds["decode"] >= 0.01
