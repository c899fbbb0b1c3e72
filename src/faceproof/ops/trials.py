"""What the arms of experiments did, file by file, in one SQLite table."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path

from faceproof.detectors.catalog import home
from faceproof.errors import OutputError
from faceproof.results import FailedInput, Report, Verdict

_SCHEMA = """
CREATE TABLE IF NOT EXISTS trials (
    experiment TEXT NOT NULL, arm TEXT NOT NULL, key TEXT NOT NULL, sha256 TEXT NOT NULL,
    score REAL, fake INTEGER, failed INTEGER NOT NULL, seconds REAL, time REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS trials_of ON trials (experiment, arm);
"""


@dataclass(frozen=True)
class Trial:
    """One file scored by one arm. ``score`` and ``fake`` are None without an opinion; ``seconds`` None after a failure;
    ``time`` is seconds since 1970."""

    experiment: str
    arm: str
    key: str
    sha256: str
    score: float | None
    fake: bool | None
    failed: bool
    seconds: float | None
    time: float

    @classmethod
    def of(cls, experiment: str, arm: str, key: str, outcome: Report | FailedInput) -> Trial:
        if isinstance(outcome, FailedInput):
            return cls(experiment, arm, key, "", None, None, True, None, time.time())
        fake = None if outcome.score is None else outcome.verdict is Verdict.FAKE
        return cls(
            experiment,
            arm,
            key,
            outcome.media.sha256,
            outcome.score,
            fake,
            False,
            outcome.processing_time,
            time.time(),
        )


class TrialStore:
    """Trials on disk; processes may add at the same time. Raises :class:`OutputError` when it cannot write."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or home() / "experiments" / "trials.db"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot write {self.path}: {error.strerror}") from error
        with self._open() as base:
            base.executescript(_SCHEMA)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            base = sqlite3.connect(self.path, timeout=30)
            try:
                with base:
                    yield base
            finally:
                base.close()
        except sqlite3.Error as error:
            raise OutputError(f"cannot use {self.path}: {error}") from error

    def add(self, *trials: Trial) -> None:
        with self._open() as base:
            base.executemany("INSERT INTO trials VALUES (?,?,?,?,?,?,?,?,?)", [astuple(trial) for trial in trials])

    def of(self, experiment: str, arm: str | None = None) -> list[Trial]:
        """An experiment's trials in the order they were added."""
        with self._open() as base:
            rows = base.execute(
                "SELECT * FROM trials WHERE experiment = ? AND (? IS NULL OR arm = ?) ORDER BY rowid",
                (experiment, arm, arm),
            ).fetchall()
        return [_trial(*row) for row in rows]


def _trial(
    experiment: str,
    arm: str,
    key: str,
    sha256: str,
    score: float | None,
    fake: int | None,
    failed: int,
    seconds: float | None,
    when: float,
) -> Trial:
    return Trial(experiment, arm, key, sha256, score, None if fake is None else bool(fake), bool(failed), seconds, when)
