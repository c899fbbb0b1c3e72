"""Freed memory goes back to the system."""

from __future__ import annotations

import platform
import threading
from pathlib import Path

import numpy as np
import pytest

from faceproof.runtime.memory import give_back


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has malloc_trim")
def test_what_threads_left_behind_goes_back() -> None:
    # The first free of a large block makes glibc keep such blocks from then on.
    np.ones(30_000_000, np.uint8)

    def work() -> None:
        kept = [np.ones(3_000_000, np.uint8) for _ in range(16)]
        pins.append(np.ones(1000, np.uint8))  # lies behind the blocks, so they are not given back on their own
        kept.clear()

    pins: list[np.ndarray] = []
    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    before = resident()
    assert give_back()
    assert before - resident() > 40_000_000
