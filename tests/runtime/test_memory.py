"""Freed memory goes back to the system."""

from __future__ import annotations

import platform
import subprocess
import sys
import textwrap

import pytest

# In a process of its own: what earlier tests left free would be taken first, and nothing new would come from the system.
_SCRIPT = """
    import threading
    from pathlib import Path

    import numpy as np

    from faceproof.runtime.memory import give_back

    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    # The first free of a large block makes glibc keep such blocks from then on.
    np.ones(30_000_000, np.uint8)
    pins = []

    def work():
        kept = [np.ones(3_000_000, np.uint8) for _ in range(16)]
        pins.append(np.ones(1000, np.uint8))  # lies behind the blocks, so they are not given back on their own
        kept.clear()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    before = resident()
    assert give_back()
    print(before - resident())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has malloc_trim")
def test_what_threads_left_behind_goes_back() -> None:
    command = [sys.executable, "-c", textwrap.dedent(_SCRIPT)]
    given = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    assert int(given) > 40_000_000
