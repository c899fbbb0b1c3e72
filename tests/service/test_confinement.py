"""Workers may use so much and no more, whatever they run on."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROBE = """
import mmap, os, sys
from faceproof.service.confinement import confine
from faceproof.service.settings import Settings
before = os.nice(0)
confine(Settings.read({}, device=sys.argv[1], memory="2GiB", threads=1))
import cv2
print(cv2.getNumThreads(), os.nice(0) - before)
try:
    # What a driver does: addresses that nobody has written to yet.
    mmap.mmap(-1, 8 << 30, prot=0)
    print("reserved")
except OSError:
    print("not reserved")
try:
    bytearray(3 << 30)
    print("given")
except MemoryError:
    print("refused")
"""


@pytest.mark.parametrize(("device", "reserved"), [("cpu", "not reserved"), ("cuda", "reserved")])
def test_memory_is_bounded_with_and_without_an_accelerator(device: str, reserved: str) -> None:
    done = subprocess.run([sys.executable, "-c", PROBE, device], capture_output=True, text=True, check=True)
    threads, first, second = done.stdout.splitlines()
    assert threads == "1 10"
    assert (first, second) == (reserved, "refused")
