"""Standard output whose reader went away, that is full, or closed: the rest is done, with the exit code of the work."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="pipes and /dev/full are as Linux has them")

PROGRAM = "from faceproof.cli import program; program()"
CLOSED = "import os; os.close(1); os.execv({0!r}, [{0!r}, '-c', {1!r}, *__import__('sys').argv[1:]])"


def unread() -> int:
    """The end to write to of a pipe that nobody reads."""
    read, write = os.pipe()
    os.close(read)
    return write


def ended(home: Path, *words: object, out: int | None, code: str = PROGRAM) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "FACEPROOF_HOME": str(home)}
    command = [sys.executable, "-c", code, *map(str, words)]
    try:
        return subprocess.run(command, stdout=out, stderr=subprocess.PIPE, text=True, check=False, env=environment)
    finally:
        if out is not None:
            os.close(out)


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["scan", "--help"], ["detectors", "list"], ["doctor"]])
def test_a_verb_that_nobody_reads_ends_as_if_it_had_been_read(toy_home, words):
    read = ended(toy_home, *words, out=os.open(os.devnull, os.O_WRONLY))
    alone = ended(toy_home, *words, out=unread())
    assert (alone.returncode, alone.stderr) == (read.returncode, read.stderr)


def test_what_else_was_asked_for_is_written(toy_home, astronaut_png, tmp_path):
    folder, report, page = tmp_path / "evidence", tmp_path / "report.json", tmp_path / "report.html"
    wanted = ["--evidence", folder, "--json", report, "--report", page]
    done = ended(toy_home, "scan", astronaut_png, "-d", "toy", *wanted, out=unread())
    assert done.returncode == 0, done.stderr
    assert "Broken" not in done.stderr
    assert "Exception" not in done.stderr
    assert done.stderr.count("Written: ") == 3
    assert (folder / "manifest.json").exists()
    assert report.exists()
    assert page.exists()


def test_exit_codes_are_those_of_the_work(toy_home, astronaut_png, tmp_path):
    assert ended(toy_home, "scan", tmp_path / "none.png", "-d", "toy", out=unread()).returncode == 1
    assert ended(toy_home, "scan", astronaut_png, "--frames", "some", out=unread()).returncode == 2
    found = ["scan", astronaut_png, "-d", "toy", "--json", "-", "--fail-on-fake"]
    read = ended(toy_home, *found, out=os.open(os.devnull, os.O_WRONLY))
    assert ended(toy_home, *found, out=unread()).returncode == read.returncode


def test_neither_stream_has_a_reader(toy_home, tmp_path):
    words = ["scan", str(tmp_path / "none.png"), "-d", "toy"]
    pipe = unread()
    environment = {**os.environ, "FACEPROOF_HOME": str(toy_home)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *words], stdout=pipe, stderr=pipe, check=False, env=environment
    )
    os.close(pipe)
    assert done.returncode == 1


@pytest.mark.parametrize("more", [[], ["--json", "-"], ["--csv", "-"]])
def test_a_full_disk_is_told_once_and_the_rest_is_written(toy_home, astronaut_png, tmp_path, more):
    page = tmp_path / "report.html"
    full = os.open("/dev/full", os.O_WRONLY)
    done = ended(toy_home, "scan", astronaut_png, "-d", "toy", "--report", page, *more, out=full)
    assert done.returncode == 1
    assert done.stderr.count("error: cannot write to standard output: No space left on device") == 1
    assert "Traceback" not in done.stderr
    assert page.exists()


def test_a_closed_output_takes_nothing_and_nothing_else_gets_its_number(toy_home, astronaut_png, tmp_path):
    report = tmp_path / "report.json"
    words = ["scan", astronaut_png, "-d", "toy", "--json", report]
    done = ended(toy_home, *words, out=None, code=CLOSED.format(sys.executable, PROGRAM))
    assert (done.returncode, done.stderr) == (0, f"Written: {report}\n")
    assert report.read_text().startswith("{")


@pytest.mark.parametrize("kept", [False, True])
def test_watching_ends_where_nobody_reads_and_nothing_is_kept(toy_home, astronaut_png, tmp_path, kept):
    folder, lines = tmp_path / "in", tmp_path / "reports.jsonl"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        (folder / name).write_bytes(astronaut_png.read_bytes())
    words = ["watch", str(folder), "--existing", "-d", "toy", *(["--jsonl", str(lines)] if kept else [])]
    environment = {**os.environ, "FACEPROOF_HOME": str(toy_home)}
    pipe = unread()
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *words], stdout=pipe, stderr=subprocess.PIPE, text=True, env=environment
    )
    os.close(pipe)
    try:
        if not kept:
            assert process.wait(timeout=120) == 0
            return
        deadline = time.monotonic() + 120
        while not (lines.exists() and lines.read_text().count("\n") == 2) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert lines.read_text().count("\n") == 2
        assert process.poll() is None
    finally:
        process.terminate()
        process.communicate(timeout=60)
