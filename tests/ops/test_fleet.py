"""Fleets on a real Redis: exactly one row a file, whoever is killed when."""

import contextlib
import csv
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from faceproof.batch import ScanOptions
from faceproof.errors import MediaNotFoundError, OptionError
from faceproof.media import Limits
from faceproof.ops import fleet
from faceproof.ops.fleet import Checkpoint, Reading, list_media, local_copy, scan_fleet

from ..servers import free_port
from ..toy_detector import write_toy_detector

HERE = Path(__file__).parent
OPTIONS = ScanOptions(detector="toy", precision="fp32", threads=1)


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed; run scripts/test-services.sh")
    port = free_port()
    command = [
        program,
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--dir",
        tmp_path_factory.mktemp("redis"),
    ]
    process = subprocess.Popen([str(part) for part in command], stdout=subprocess.DEVNULL)
    try:
        import redis

        url = f"redis://127.0.0.1:{port}/0"
        with redis.Redis.from_url(url) as client:
            for _ in range(100):
                try:
                    client.ping()
                    break
                except redis.ConnectionError:
                    time.sleep(0.05)
        yield url
    finally:
        process.terminate()
        process.wait()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FACEPROOF_HOME", str(tmp_path / "home"))
    write_toy_detector(tmp_path / "home")
    return tmp_path


@pytest.fixture
def media(home: Path, astronaut_png: Path) -> Path:
    folder = home / "media"
    (folder / "deep").mkdir(parents=True)
    face = Image.open(astronaut_png).crop((100, 20, 350, 270))
    for number in range(10):
        face.save(folder / ("deep" if number % 2 else "") / f"{number:02d}.png")
    (folder / "broken.jpg").write_bytes(b"no picture")
    (folder / "notes.txt").write_text("no media")
    return folder


Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a script of this folder in a process group of its own; everything still running at the end is killed."""
    running: list[subprocess.Popen[bytes]] = []

    def call(script: str, *arguments: object) -> "subprocess.Popen[bytes]":
        command = [sys.executable, str(HERE / script), *map(str, arguments)]
        running.append(subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL))
        return running[-1]

    yield call
    for process in running:
        kill(process)


def kill(process: "subprocess.Popen[bytes]") -> None:
    """As a power cut would."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def rows_in(partial: Path) -> int:
    if not partial.exists():
        return 0
    with sqlite3.connect(partial) as base:
        try:
            return int(base.execute("SELECT count(*) FROM rows").fetchone()[0])
        except sqlite3.OperationalError:
            return 0
        finally:
            base.rollback()


def wait_for(condition: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def test_one_row_a_file_whoever_is_killed(home: Path, media: Path, redis_url: str, start: Start) -> None:
    (media / "kills.png").write_bytes((media / "00.png").read_bytes())
    out = home / "results.parquet"
    partial = home / "results.parquet.partial.db"
    first = start("fleet_worker.py", redis_url, 1)
    coordinator = start("fleet_run.py", media, redis_url, out)
    wait_for(lambda: rows_in(partial) >= 3)
    kill(first)
    kill(coordinator)
    assert not out.exists()
    kept = rows_in(partial)
    assert kept >= 3
    start("fleet_worker.py", redis_url, 2)
    seen: list[tuple[int, int]] = []
    summary = scan_fleet(str(media), redis_url, out, OPTIONS, ahead=4, lease=8, on_row=lambda *n: seen.append(n))
    assert seen[0][0] > kept - 1  # it went on, it did not start anew
    table = pq.read_table(out).to_pylist()
    assert [row["path"] for row in table] == list_media(str(media))
    assert len(table) == 12
    by_name = {Path(row["path"]).name: row for row in table}
    assert by_name["kills.png"]["error"] == "reader_died"
    assert by_name["broken.jpg"]["error"]
    assert {by_name[f"{n:02d}.png"]["verdict"] for n in range(10)} <= {"FAKE", "REAL", "INCONCLUSIVE"}
    assert (summary["files"], summary["failed"]) == (12, 2)
    (host,) = summary["hosts"].values()
    assert host["files"] == 12
    assert host["files_per_second"] > 0
    assert not partial.exists()


def test_a_broker_that_is_away_is_said_and_nothing_is_touched(home: Path, media: Path) -> None:
    with pytest.raises(OptionError, match="cannot reach the broker") as caught:
        scan_fleet(str(media), f"redis://127.0.0.1:{free_port()}/0", home / "r.csv", OPTIONS)
    assert "without --broker" in caught.value.remedy
    assert list(home.glob("r.csv*")) == []


def test_places(home: Path, media: Path, redis_url: str) -> None:
    assert len(list_media(str(media))) == 11
    assert list_media(str(media / "00.png")) == [f"file://{media / '00.png'}"]
    with pytest.raises(MediaNotFoundError):
        list_media(str(home / "nowhere"))
    with pytest.raises(OptionError):
        list_media("nothing://here")
    for out in (home / "r.txt", home / "r"):
        with pytest.raises(OptionError):
            scan_fleet(str(media), redis_url, out, OPTIONS)


def test_files_elsewhere_are_fetched_within_limits(home: Path, media: Path) -> None:
    import fsspec

    storage = fsspec.filesystem("memory")
    storage.pipe("/bucket/a/00.png", (media / "00.png").read_bytes())
    storage.pipe("/bucket/a/notes.txt", b"")
    (url,) = list_media("memory://bucket/a")
    with local_copy(url, Limits()) as path:
        assert path.read_bytes() == (media / "00.png").read_bytes()
        assert path.suffix == ".png"
    assert not path.exists()
    assert fleet.scan_url(url, OPTIONS).model_dump()["verdict"] in ("FAKE", "REAL")
    small = ScanOptions(detector="toy", precision="fp32", limits=Limits(max_bytes=10))
    refused = fleet.scan_url(url, small).model_dump()
    assert (refused["path"], refused["error"]) == (url, "limit")
    assert fleet.scan_url("memory://bucket/gone.png", OPTIONS).model_dump()["error"] == "not_found"


def test_a_checkpoint_keeps_one_row_a_file(tmp_path: Path) -> None:
    out = tmp_path / "r.csv"
    first = Checkpoint(out, "settings")
    first.add([{"path": "a", "score": 1}, {"path": "a", "score": 2}, {"path": "b"}])
    first.close()
    again = Checkpoint(out, "settings")
    assert (again.run, again.done()) == (first.run, {"a", "b"})
    assert again.rows() == [{"path": "a", "score": 2}, {"path": "b"}]
    again.close()
    other = Checkpoint(out, "other settings")
    assert other.done() == set()
    assert other.run != first.run
    other.close(discard=True)
    assert list(tmp_path.iterdir()) == []


def test_a_reader_given_up_for_dead_never_replaces_a_verdict(tmp_path: Path) -> None:
    dead, judged = {"path": "a", "error": "reader_died"}, {"path": "a", "verdict": "REAL"}
    for order in ((judged, dead), (dead, judged)):
        checkpoint = Checkpoint(tmp_path / "r.csv", "settings")
        for row in order:
            checkpoint.add([row])
        assert checkpoint.rows() == [judged]
        checkpoint.close(discard=True)


def test_a_slow_reader_is_not_a_dead_one(redis_url: str) -> None:
    """A file whose lease runs out is delivered again; that alone must not count against it."""
    import redis

    with redis.Redis.from_url(redis_url) as base:
        first, second = Reading(base, "file", lease=8), Reading(base, "file", lease=8)
        assert first.begin()
        time.sleep(first.silence + 1)  # longer than a dead one would be believed
        assert not second.begin()
        first.end()
        assert second.begin()
        second.end()
        dead = Reading(base, "file", lease=8)
        assert base.set("file", 1, px=300)  # one that fell silent
        wait_for(dead.begin, seconds=10)
        dead.end()


def test_rows_are_written_as_csv_too(tmp_path: Path) -> None:
    fleet._write(tmp_path / "r.csv", [{"path": "a", "score": "0.5", "host": "h", "seconds": 1.5}])
    (row,) = csv.DictReader((tmp_path / "r.csv").read_text().splitlines())
    assert (row["path"], row["score"], row["seconds"], row["error"]) == ("a", "0.5", "1.5", "")
