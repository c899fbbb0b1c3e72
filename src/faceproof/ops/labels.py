"""What people found out about files later, and what it says about the detector.

A label speaks of a file by its sha256. One person's later word replaces their earlier one; people who disagree make a file
disputed, and disputed files are counted but used for nothing.
"""

from __future__ import annotations

import csv
import io
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from faceproof.detectors.catalog import home
from faceproof.errors import OptionError
from faceproof.ops.comparison import wilson
from faceproof.ops.sqlite_file import SqliteFile
from faceproof.result_files import write_whole
from faceproof.results import Report, Verdict

Truth = Literal["fake", "real"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS labels (
    sha256 TEXT NOT NULL, truth TEXT NOT NULL, by TEXT NOT NULL, time REAL NOT NULL, note TEXT NOT NULL,
    PRIMARY KEY (sha256, by)
);
CREATE TABLE IF NOT EXISTS scans (
    sha256 TEXT NOT NULL, detector TEXT NOT NULL, version TEXT NOT NULL, time REAL NOT NULL,
    path TEXT NOT NULL, score REAL, verdict TEXT NOT NULL, PRIMARY KEY (sha256, detector, version)
);
"""


@dataclass(frozen=True)
class Label:
    """One person's word about one file. ``time`` is seconds since 1970."""

    sha256: str
    truth: Truth
    by: str = ""
    time: float = 0.0
    note: str = ""


@dataclass(frozen=True)
class LabelledScan:
    """A detector's answer about a file whose truth is known and undisputed."""

    sha256: str
    truth: Truth
    detector: str
    version: str
    time: float
    path: str
    score: float | None
    verdict: Verdict


class LabelStore:
    """Labels and the scans they speak of, in one SQLite file. Raises :class:`OutputError` when it cannot be used."""

    def __init__(self, path: Path | None = None) -> None:
        self._file = SqliteFile(path or home() / "labels.db", _SCHEMA)
        self.path = self._file.path

    def label(self, sha256: str, truth: str, *, by: str = "", note: str = "", when: float | None = None) -> Label:
        """Keep one label. Raises :class:`OptionError` for a truth other than fake and real, or no sha256."""
        if truth not in ("fake", "real"):
            raise OptionError(f"a label is fake or real, not {truth!r}")
        if len(sha256) != 64 or set(sha256) - set("0123456789abcdef"):
            raise OptionError(f"{sha256!r} is not a sha256 in hexadecimal")
        made = Label(sha256, "fake" if truth == "fake" else "real", by, time.time() if when is None else when, note)
        with self._file.open() as base:
            base.execute(
                "INSERT OR REPLACE INTO labels VALUES (?,?,?,?,?)",
                (made.sha256, made.truth, made.by, made.time, made.note),
            )
        return made

    def remember(self, report: Report, *, when: float | None = None) -> None:
        """Keep a scan's answer, so that a label that comes later can be held against it."""
        row = (
            report.media.sha256,
            report.detector.name,
            report.detector.version,
            time.time() if when is None else when,
            report.media.path,
            report.score,
            report.verdict.value,
        )
        with self._file.open() as base:
            base.execute("INSERT OR REPLACE INTO scans VALUES (?,?,?,?,?,?,?)", row)

    def truths(self) -> tuple[dict[str, Truth], set[str]]:
        """The undisputed labels by sha256, and the files people disagree about."""
        said: dict[str, set[Truth]] = defaultdict(set)
        with self._file.open() as base:
            for sha256, truth in base.execute("SELECT sha256, truth FROM labels"):
                said[sha256].add(truth)
        agreed = {sha256: next(iter(truths)) for sha256, truths in said.items() if len(truths) == 1}
        return agreed, set(said) - set(agreed)

    def labelled_scans(self, detector: str | None = None) -> list[LabelledScan]:
        """Every remembered scan whose file has an undisputed label, oldest first."""
        agreed, _ = self.truths()
        with self._file.open() as base:
            rows = base.execute(
                "SELECT sha256, detector, version, time, path, score, verdict FROM scans"
                " WHERE ? IS NULL OR detector = ? ORDER BY time",
                (detector, detector),
            ).fetchall()
        return [
            LabelledScan(row[0], agreed[row[0]], row[1], row[2], row[3], row[4], row[5], Verdict(row[6]))
            for row in rows
            if row[0] in agreed
        ]


class Rate(BaseModel):
    """A share with its 95 % Wilson interval; ``value`` None when nothing was counted."""

    model_config = ConfigDict(extra="forbid")

    hits: int
    of: int
    value: float | None
    low: float | None
    high: float | None

    @classmethod
    def count(cls, hits: int, of: int) -> Rate:
        if not of:
            return cls(hits=hits, of=of, value=None, low=None, high=None)
        low, high = wilson(hits, of)
        return cls(hits=hits, of=of, value=hits / of, low=low, high=high)


class Period(BaseModel):
    """How one detector did on the labelled files of one week. ``recall`` counts a fake without an opinion as missed;
    ``opinions`` is how many of the files got FAKE or REAL."""

    model_config = ConfigDict(extra="forbid")

    start: str
    detector: str
    version: str
    precision: Rate
    recall: Rate
    false_alarms: Rate
    opinions: Rate


def precision_recall(scans: Iterable[LabelledScan]) -> list[Period]:
    """Precision and recall week by week (from Monday, UTC), for every detector and version.

    Files are labelled because somebody looked at them: these numbers describe the files that people checked.
    """
    groups: dict[tuple[str, str, str], list[LabelledScan]] = defaultdict(list)
    for scan in scans:
        day = datetime.fromtimestamp(scan.time, UTC).date()
        monday = day - timedelta(days=day.weekday())
        groups[monday.isoformat(), scan.detector, scan.version].append(scan)
    periods = []
    for (start, detector, version), found in sorted(groups.items()):
        fakes = [scan for scan in found if scan.truth == "fake"]
        reals = [scan for scan in found if scan.truth == "real"]
        hit = sum(scan.verdict is Verdict.FAKE for scan in fakes)
        false = sum(scan.verdict is Verdict.FAKE for scan in reals)
        said = sum(scan.verdict in (Verdict.FAKE, Verdict.REAL) for scan in found)
        periods.append(
            Period(
                start=start,
                detector=detector,
                version=version,
                precision=Rate.count(hit, hit + false),
                recall=Rate.count(hit, len(fakes)),
                false_alarms=Rate.count(false, len(reals)),
                opinions=Rate.count(said, len(found)),
            )
        )
    return periods


def retraining_manifest(
    scans: Iterable[LabelledScan], truths: Mapping[str, Truth], out: Path, *, only_mistakes: bool = False
) -> tuple[int, int]:
    """Write the labelled files as a manifest for training: ``path,label,dataset,method,source_video,identity,split``.

    ``only_mistakes`` keeps the files on which the detector was wrong or had no opinion. A file appears once. Returns how
    many rows were written, and how many files were left out because they no longer lie where they were scanned.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("path", "label", "dataset", "method", "source_video", "identity", "split"))
    done: set[str] = set()
    rows = gone = 0
    for scan in scans:
        if scan.sha256 in done or scan.sha256 not in truths:
            continue
        wanted = Verdict.FAKE if truths[scan.sha256] == "fake" else Verdict.REAL
        if only_mistakes and scan.verdict is wanted:
            continue
        done.add(scan.sha256)
        if not Path(scan.path).is_file():
            gone += 1
            continue
        rows += 1
        source = scan.sha256[:16]
        writer.writerow((Path(scan.path).absolute(), truths[scan.sha256], "feedback", "", source, "", "train"))
    write_whole(out, text.getvalue())
    return rows, gone
