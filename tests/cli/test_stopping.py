"""SIGTERM, from outside: what was begun is removed, and whoever worked along ends too."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import write_video
from tests.programs import started
from tests.toy_detector import write_toy_detector

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="signals and /proc are as Linux has them")

SLOW_DISK = """
import os, time
os.fsync = lambda descriptor: time.sleep(100)
from faceproof.cli import main
main()
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    write_toy_detector(home)
    return home


def wait_until(true: object, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not true() and process.poll() is None and time.monotonic() < deadline:  # type: ignore[operator]
        time.sleep(0.005)


def test_a_result_half_written_is_removed(home: Path, astronaut_png: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    process = started(home, "scan", astronaut_png, "-d", "toy", "--json", out / "report.json", program=SLOW_DISK)
    wait_until(lambda: os.listdir(out), process)
    assert [name.startswith(".") for name in os.listdir(out)] == [True]
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 143, said
    assert "Traceback" not in said
    assert os.listdir(out) == []


def test_a_second_one_kills(home: Path, astronaut_png: Path, tmp_path: Path) -> None:
    deaf = SLOW_DISK.replace("import os, time", "import os, time, pathlib").replace(
        "from faceproof", "pathlib.Path.unlink = lambda *_, **__: time.sleep(100)\nfrom faceproof", 1
    )
    process = started(home, "scan", astronaut_png, "-d", "toy", "--json", tmp_path / "report.json", program=deaf)
    wait_until(lambda: os.listdir(tmp_path), process)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGTERM


def children(pid: int) -> list[int]:
    try:
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def alive(pid: int) -> bool:
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_scanning_processes_end_too(
    home: Path, clip_frames: list[np.ndarray], tmp_path: Path, number: signal.Signals, code: int
) -> None:
    """In the middle of files that take minutes; Ctrl-C, which they do not hear, waited for them."""
    files = [tmp_path / f"{number}.mp4" for number in range(4)]
    write_video(files[0], clip_frames * 60, options={"preset": "ultrafast"})
    for file in files[1:]:
        file.write_bytes(files[0].read_bytes())
    words = ["scan", *files, "-d", "toy", "--frames", "all", "-j", 2]
    process = started(home, *words, program="from faceproof.cli import program; program()")
    wait_until(lambda: len(children(process.pid)) >= 3, process)  # one of them is multiprocessing's own
    time.sleep(3)
    workers = children(process.pid)
    assert workers
    process.send_signal(number)
    _, said = process.communicate(timeout=30)
    assert process.returncode == code, said
    assert "Traceback" not in said
    deadline = time.monotonic() + 20
    while any(alive(one) for one in workers) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not any(alive(one) for one in workers)
