"""What the arms of experiments did, file by file, in one SQLite table."""

from __future__ import annotations

import time
from dataclasses import astuple, dataclass
from pathlib import Path

from faceproof.detectors.catalog import home
from faceproof.ops.sqlite_file import SqliteFile
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
    """One file scored by one arm. ``score`` is None where nobody was judged, ``fake`` where the verdict is neither FAKE nor
    REAL; ``seconds`` None after a failure; ``time`` is seconds since 1970."""

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
        fake = {Verdict.FAKE: True, Verdict.REAL: False}.get(outcome.verdict)
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
        self._file = SqliteFile(path or home() / "experiments" / "trials.db", _SCHEMA)
        self.path = self._file.path

    def add(self, *trials: Trial) -> None:
        with self._file.open() as base:
            base.executemany("INSERT INTO trials VALUES (?,?,?,?,?,?,?,?,?)", [astuple(trial) for trial in trials])

    def of(self, experiment: str, arm: str | None = None) -> list[Trial]:
        """An experiment's trials in the order they were added."""
        with self._file.open() as base:
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
