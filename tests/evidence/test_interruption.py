"""Ctrl-C and a full disk, from outside: what was asked for is there as a whole, or nothing of it is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from faceproof.evidence.verification import verify
from tests.conftest import write_video
from tests.evidence.made_reports import made_report, toy_detector, wave
from tests.programs import started
from tests.toy_detector import write_toy_detector

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="signals and limits are set as Linux has them")

LIMITED = """
import resource, signal
from faceproof.cli import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
main()
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    write_toy_detector(home, pivot=0.3)
    return home


def interrupted_when(process: subprocess.Popen[str], folder: Path) -> str:
    """Send Ctrl-C as soon as anything appears in ``folder``; what the process said on its error stream."""
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline and not os.listdir(folder):
        time.sleep(0.002)
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    return process.communicate(timeout=100)[1]


def test_an_interrupted_overlay_leaves_nothing(home: Path, clip_frames: list[np.ndarray], tmp_path: Path) -> None:
    large = [np.kron(frame, np.ones((3, 3, 1), np.uint8)) for frame in clip_frames[:30]]
    clip = write_video(tmp_path / "clip.mp4", [*large, *large, *large], options={"crf": "30"})
    report = tmp_path / "report.json"
    detector = toy_detector()
    boxes = {1: (330.0, 180.0, 630.0, 570.0)}
    made = made_report(clip, detector, scores=wave, boxes=lambda index: boxes, every=10)
    report.write_text(made.model_dump_json())
    out = tmp_path / "out"
    out.mkdir()
    process = started(home, "overlay", clip, "--from", report, "-d", "toy", "-o", out / "overlay.mp4")
    said = interrupted_when(process, out)
    assert process.returncode == 130, said
    assert "Traceback" not in said
    assert os.listdir(out) == []


def test_interrupted_evidence_is_whole_or_not_there(home: Path, clip_mp4: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    process = started(home, "scan", clip_mp4, "-d", "toy", "--frames", "6", "--evidence", out / "case")
    said = interrupted_when(process, out)
    assert "Traceback" not in said
    assert process.returncode in (0, 130)
    assert os.listdir(out) in ([], ["case"])
    if (out / "case").exists():
        assert verify(out / "case").stands


@pytest.mark.parametrize("words", [("--report", "page.html"), ("--evidence", "case"), ("--json", "report.json")])
def test_on_a_full_disk_the_verb_says_so_and_leaves_nothing(
    words: tuple[str, str], home: Path, clip_mp4: Path, tmp_path: Path
) -> None:
    frames = "all" if words[0] == "--json" else "6"  # the report itself must be larger than the disk
    out = tmp_path / "out"
    out.mkdir()
    process = started(
        home, "scan", clip_mp4, "-d", "toy", "--frames", frames, words[0], out / words[1], program=LIMITED
    )
    said = process.communicate(timeout=100)[1]
    assert process.returncode not in (0, 130)
    assert "cannot write" in said
    assert "Traceback" not in said
    assert os.listdir(out) == []
