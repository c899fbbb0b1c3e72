"""A folder too large for one machine: workers on many hosts scan, one coordinator keeps exactly one row a file.

The coordinator lists the files, hands them out through Celery on Redis a bounded number at a time, and writes every answer
into a checkpoint (SQLite, one row a file by primary key) before it counts as done. Whoever crashes loses nothing: a worker's
file is delivered again, a coordinator that starts anew asks only for what its checkpoint lacks, and an answer that comes
twice replaces itself. A file that keeps killing its reader is given up after :data:`ATTEMPTS` deliveries and becomes a row.
"""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import Any

from faceproof.batch import Outcome, ScanOptions, scan_one
from faceproof.errors import (
    FaceproofError,
    MediaLimitError,
    MediaNotFoundError,
    MissingExtraError,
    OptionError,
    OutputError,
)
from faceproof.media import EXTENSIONS, Limits
from faceproof.ops.task_queue import make_celery
from faceproof.result_files import CSV_COLUMNS, csv_row
from faceproof.results import FailedInput

QUEUE, TASK = "faceproof-fleet", "faceproof.fleet.scan"
ATTEMPTS = 3
READER_DIED = "reader_died"
COLUMNS = (*CSV_COLUMNS, "host", "seconds")
_PIECE = 1 << 20


def list_media(url: str) -> list[str]:
    """Every picture and video under a place that fsspec knows (``s3://bucket/x``, ``gs://``, ``/folder``), sorted.

    Raises :class:`MediaNotFoundError` when there is no such place and :class:`MissingExtraError` for a scheme whose package
    is not installed.
    """
    filesystem, path = _storage(url)
    try:
        if filesystem.isfile(path):
            found = [path]
        elif filesystem.exists(path):
            found = filesystem.find(path)
        else:
            raise MediaNotFoundError(f"there is nothing at {url}")
    except FaceproofError:
        raise
    except Exception as error:  # each storage raises errors of its own
        raise MediaNotFoundError(f"cannot list {url}: {error}") from error
    wanted = (one for one in found if PurePosixPath(one).suffix.lower() in EXTENSIONS)
    return sorted(str(filesystem.unstrip_protocol(one)) for one in wanted)


def _storage(url: str) -> tuple[Any, str]:
    import fsspec  # type: ignore[import-untyped, unused-ignore]

    try:
        filesystem, path = fsspec.url_to_fs(url)
    except ImportError as error:
        raise MissingExtraError(f"{url} needs packages that are not installed", remedy=str(error)) from error
    except ValueError as error:
        raise OptionError(f"{url} is not a place that can be read: {error}") from error
    return filesystem, str(path)


@contextmanager
def local_copy(url: str, limits: Limits) -> Iterator[Path]:
    """The file itself where it lies on this machine, otherwise a temporary copy of at most ``limits.max_bytes``."""
    filesystem, path = _storage(url)
    if "file" in filesystem.protocol:
        yield Path(path)
        return
    with tempfile.TemporaryDirectory(prefix="faceproof-fleet-") as folder:
        target = Path(folder) / f"media{PurePosixPath(path).suffix}"
        size = 0
        try:
            with filesystem.open(path, "rb") as source, target.open("wb") as out:
                while piece := source.read(_PIECE):
                    size += len(piece)
                    if limits.max_bytes is not None and size > limits.max_bytes:
                        raise MediaLimitError(f"{url} is larger than {limits.max_bytes} bytes")
                    out.write(piece)
        except FaceproofError:
            raise
        except Exception as error:  # each storage raises errors of its own
            raise MediaNotFoundError(f"cannot fetch {url}: {error}") from error
        yield target


def make_app(broker: str, *, lease: float = 900.0) -> Any:
    """The Celery application of a fleet. ``lease``: seconds after which a file whose worker vanished is handed out again."""
    app = make_celery("faceproof-fleet", broker, queue=QUEUE, lease=lease, feature="Scanning with a fleet", extra="ops")

    @app.task(name=TASK, bind=True, max_retries=None)  # type: ignore[untyped-decorator, unused-ignore]
    def scan_file(task: Any, run: str, url: str, options: str) -> None:
        answers = _redis(broker)
        reading = Reading(answers, _key(run, "reading", url), lease)
        if not reading.begin():
            # Handed out twice: the lease ran out on a file that someone still reads. Only if they die is it our turn.
            raise task.retry(countdown=reading.silence)
        started = time.time()
        try:
            attempt = answers.incr(_key(run, "attempt", url))
            answers.expire(_key(run, "attempt", url), 7 * 86400)
            if attempt > ATTEMPTS:
                outcome: Outcome = FailedInput(
                    path=url,
                    error=READER_DIED,
                    message=f"the process that read this file was killed {ATTEMPTS} times",
                    remedy="The file may be damaged on purpose or need more memory than there is; treat it with care.",
                )
            else:
                outcome = scan_url(url, _options(options))
        finally:
            reading.end()
        row = {**csv_row(outcome), "path": url, "host": socket.gethostname(), "seconds": time.time() - started}
        answers.rpush(_key(run, "answers"), json.dumps(row))
        answers.expire(_key(run, "answers"), 7 * 86400)

    return app


class Reading:
    """Says in Redis, for as long as it is true, that somebody reads a file; a reader that dies falls silent.

    So a delivery that comes too early is told from a reader that was killed, and a slow machine from a deadly file.
    """

    def __init__(self, base: Any, key: str, lease: float) -> None:
        self._base, self._key = base, key
        self.silence = max(5.0, min(lease / 4, 30.0))
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="faceproof-reading", daemon=True)

    def begin(self) -> bool:
        """Whether nobody else reads it now; then it is ours until :meth:`end`."""
        if not self._base.set(self._key, 1, nx=True, px=int(self.silence * 1000)):
            return False
        self._thread.start()
        return True

    def end(self) -> None:
        self._over.set()
        self._thread.join()
        self._base.delete(self._key)

    def _beat(self) -> None:
        import redis

        while not self._over.wait(self.silence / 5):
            with suppress(redis.RedisError):  # the next beat may reach it again
                self._base.set(self._key, 1, px=int(self.silence * 1000))


def _key(run: str, *rest: str) -> str:
    return ":".join(("faceproof-fleet", run, *rest))


def _redis(broker: str) -> Any:
    import redis

    return redis.Redis.from_url(broker, socket_connect_timeout=5, health_check_interval=30)


_loaded: dict[str, Any] = {}


def scan_url(url: str, options: ScanOptions) -> Outcome:
    """Scan one file of a fleet; the detector is loaded once a process."""
    key = repr(options)
    if key not in _loaded:
        _loaded.clear()
        _loaded[key] = options.load()
    try:
        with local_copy(url, options.limits or Limits()) as path:
            return scan_one(path, _loaded[key], options)
    except FaceproofError as error:
        return FailedInput(path=url, error=error.code, message=error.message, remedy=error.remedy)


def _options(text: str) -> ScanOptions:
    values = json.loads(text)
    limits = values.pop("limits")
    return ScanOptions(**values, limits=None if limits is None else Limits(**limits))


def work(broker: str, *, processes: int = 1, lease: float = 900.0) -> None:
    """Be a worker until told to stop."""
    _check_broker(broker)
    app = make_app(broker, lease=lease)
    app.worker_main(["worker", "--queues", QUEUE, "--concurrency", str(processes), "--loglevel", "WARNING"])


def _check_broker(broker: str) -> None:
    try:
        import redis
    except ImportError:
        raise MissingExtraError.of("Scanning with a fleet", "ops") from None
    try:
        _redis(broker).ping()
    except (redis.RedisError, ValueError) as error:
        raise OptionError(
            f"cannot reach the broker {broker}: {error}",
            remedy="Check the address and that Redis runs; scans without --broker need none.",
        ) from error


class Checkpoint:
    """What a run has so far, beside the file it will end in. One row a file, whatever arrives how often.

    A checkpoint of other settings is not continued. Raises :class:`OutputError` when it cannot be used.
    """

    def __init__(self, out: Path, settings: str) -> None:
        self.path = out.with_name(f"{out.name}.partial.db")
        try:
            self._base = sqlite3.connect(self.path, timeout=30)
            self._base.execute("PRAGMA journal_mode = WAL")
            self._base.execute("CREATE TABLE IF NOT EXISTS about (run TEXT, settings TEXT)")
            self._base.execute("CREATE TABLE IF NOT EXISTS rows (path TEXT PRIMARY KEY, row TEXT, time REAL)")
            known = self._base.execute("SELECT run, settings FROM about").fetchone()
            if known is None or known[1] != settings:
                self._base.execute("DELETE FROM about")
                self._base.execute("DELETE FROM rows")
                known = (os.urandom(8).hex(), settings)
                self._base.execute("INSERT INTO about VALUES (?, ?)", known)
            self._base.commit()
        except sqlite3.Error as error:
            raise OutputError(f"cannot use {self.path}: {error}") from error
        self.run = str(known[0])

    def add(self, rows: list[dict[str, Any]]) -> None:
        with self._base:
            for row in rows:
                # A reader given up for dead may still answer: what it found stands, whichever comes first.
                put = "IGNORE" if row.get("error") == READER_DIED else "REPLACE"
                values = (row["path"], json.dumps(row), time.time())
                self._base.execute(f"INSERT OR {put} INTO rows VALUES (?, ?, ?)", values)

    def done(self) -> set[str]:
        return {path for (path,) in self._base.execute("SELECT path FROM rows")}

    def rows(self) -> list[dict[str, Any]]:
        """Every row, by path."""
        return [json.loads(row) for (row,) in self._base.execute("SELECT row FROM rows ORDER BY path")]

    def close(self, *, discard: bool = False) -> None:
        self._base.close()
        if discard:
            for suffix in ("", "-wal", "-shm"):
                self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)


def scan_fleet(
    url: str,
    broker: str,
    out: Path,
    options: ScanOptions,
    *,
    ahead: int = 256,
    lease: float = 900.0,
    on_row: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Scan everything under ``url`` with whatever workers listen on ``broker``, and write ``out``
    (``.parquet``, ``.csv`` or ``.jsonl``).

    At most ``ahead`` files are handed out at a time. Stopped at any point, the same call goes on where it was. Returns
    ``{"files", "failed", "hosts": {name: {"files", "files_per_second"}}, "seconds"}``.
    """
    if out.suffix not in (".parquet", ".csv", ".jsonl"):
        raise OptionError(f"{out} must end in .parquet, .csv or .jsonl")
    _check_broker(broker)
    files = list_media(url)
    if not files:
        raise OptionError(f"no pictures or videos in {url}", remedy="Name a place with media.")
    sent_options = json.dumps(asdict(options), sort_keys=True)
    checkpoint = Checkpoint(out, json.dumps({"url": url, "options": sent_options}))
    started = time.monotonic()
    try:
        _collect(files, checkpoint, broker, sent_options, ahead=ahead, lease=lease, on_row=on_row)
        wanted = set(files)
        rows = [row for row in checkpoint.rows() if row["path"] in wanted]
        _write(out, rows)
    except BaseException:
        checkpoint.close()
        raise
    checkpoint.close(discard=True)
    _redis(broker).delete(_key(checkpoint.run, "answers"))
    took = time.monotonic() - started
    hosts: dict[str, dict[str, float]] = {}
    for row in rows:
        host = hosts.setdefault(row["host"], {"files": 0, "busy_seconds": 0.0})
        host["files"] += 1
        host["busy_seconds"] += row["seconds"]
    for host in hosts.values():
        host["files_per_second"] = host["files"] / max(took, 1e-9)
    failed = sum(bool(row.get("error")) for row in rows)
    return {"files": len(rows), "failed": failed, "hosts": hosts, "seconds": took}


def _collect(
    files: list[str],
    checkpoint: Checkpoint,
    broker: str,
    options: str,
    *,
    ahead: int,
    lease: float,
    on_row: Callable[[int, int], None] | None,
) -> None:
    """Hand out and take in until the checkpoint has every file."""
    import redis

    app, answers = make_app(broker, lease=lease), _redis(broker)
    done = checkpoint.done()
    waiting = [file for file in reversed(files) if file not in done]
    finished, wanted = len(files) - len(waiting), set(waiting)
    out_since: dict[str, float] = {}
    try:
        while wanted:
            room = min(len(waiting), ahead - len(out_since))
            if room > 0:
                # One producer for all: opening one for each message costs more than sending it.
                with app.producer_or_acquire() as producer:
                    for _ in range(room):
                        _hand_out(app, checkpoint.run, file := waiting.pop(), options, producer)
                        out_since[file] = time.monotonic()
            rows = [json.loads(text) for text in _take(answers, _key(checkpoint.run, "answers"))]
            if rows:
                checkpoint.add(rows)
                fresh = {row["path"] for row in rows} & wanted
                wanted -= fresh
                finished += len(fresh)
                for row in rows:
                    out_since.pop(row["path"], None)
                if on_row is not None:
                    on_row(finished, len(files))
            # A message the broker lost with its memory is sent again; a scan done twice is one row.
            overdue = [file for file, since in out_since.items() if time.monotonic() - since > 2 * lease]
            for file in overdue:
                _hand_out(app, checkpoint.run, file, options)
                out_since[file] = time.monotonic()
    except redis.RedisError as error:
        raise OptionError(
            f"lost the broker {broker}: {error}", remedy="Start it again and run the same command: it goes on."
        ) from error
    finally:
        app.close()


def _hand_out(app: Any, run: str, file: str, options: str, producer: Any = None) -> None:
    app.send_task(TASK, args=(run, file, options), queue=QUEUE, producer=producer)


def _take(answers: Any, key: str) -> list[bytes]:
    """The answers that are there, after waiting up to a second for the first."""
    first = answers.blpop([key], timeout=1)
    if first is None:
        return []
    more = answers.lpop(key, 500) or []
    return [first[1], *more]


def _write(out: Path, rows: list[dict[str, Any]]) -> None:
    """One row a file, in order of path, as a whole or not at all."""
    import csv
    import io

    from faceproof.result_files import write_whole

    table = [{name: row.get(name, "") for name in COLUMNS} for row in rows]
    if out.suffix == ".jsonl":
        write_whole(out, "".join(json.dumps(row) + "\n" for row in table))
        return
    if out.suffix == ".csv":
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)
        write_whole(out, text.getvalue())
        return
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise MissingExtraError.of("Writing Parquet", "ops") from None
    numbers = {"score", "confidence", "duration", "seconds"}
    counts = {"people", "faces", "frames_analyzed", "frames_failed"}
    schema = pa.schema(
        [(name, pa.float64() if name in numbers else pa.int64() if name in counts else pa.string()) for name in COLUMNS]
    )
    typed = [
        {
            name: None
            if value == ""
            else float(value)
            if name in numbers
            else int(value)
            if name in counts
            else str(value)
            for name, value in row.items()
        }
        for row in table
    ]
    fresh = out.with_name(f"{out.name}.{os.getpid()}.new")
    try:
        pq.write_table(pa.Table.from_pylist(typed, schema=schema), fresh)
        fresh.replace(out)
    except OSError as error:
        raise OutputError(f"cannot write {out}: {error}") from error
