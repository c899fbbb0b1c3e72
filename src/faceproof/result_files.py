"""Results on disk: JSON for one file, JSON Lines or CSV for many, and a half-done folder scan that can go on."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from faceproof.errors import MediaError, OutputError
from faceproof.results import FailedInput, Report

Outcome = Report | FailedInput

CSV_COLUMNS = (
    "path",
    "verdict",
    "reason",
    "score",
    "confidence",
    "people",
    "faces",
    "frames_analyzed",
    "frames_failed",
    "duration",
    "detector",
    "detector_version",
    "weights_sha256",
    "error",
    "message",
)


def most_suspicious_first(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """Scored files by falling score, then those without a score, then those that failed; ties by path."""

    def key(outcome: Outcome) -> tuple[int, float, str]:
        if isinstance(outcome, FailedInput):
            return (2, 0.0, outcome.path)
        if outcome.score is None:
            return (1, 0.0, outcome.media.path)
        return (0, -outcome.score, outcome.media.path)

    return sorted(outcomes, key=key)


def csv_row(outcome: Outcome) -> dict[str, Any]:
    """One file as the columns of :data:`CSV_COLUMNS`."""
    if isinstance(outcome, FailedInput):
        return {"path": outcome.path, "error": outcome.error, "message": outcome.message}
    return {
        "path": outcome.media.path,
        "verdict": outcome.verdict.value,
        "reason": outcome.reason.value if outcome.reason else "",
        "score": "" if outcome.score is None else f"{outcome.score:.6f}",
        "confidence": "" if outcome.confidence is None else f"{outcome.confidence:.6f}",
        "people": len(outcome.tracks),
        "faces": outcome.metrics.total_faces_detected,
        "frames_analyzed": outcome.frames_analyzed,
        "frames_failed": outcome.frames_failed,
        "duration": "" if outcome.media.duration is None else f"{outcome.media.duration:.3f}",
        "detector": outcome.detector.name,
        "detector_version": outcome.detector.version,
        "weights_sha256": outcome.detector.weights_sha256,
    }


def as_csv(outcomes: Iterable[Outcome]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, CSV_COLUMNS, lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows(csv_row(outcome) for outcome in outcomes)
    return out.getvalue()


def as_json(outcome: Outcome) -> str:
    return outcome.model_dump_json(indent=2) + "\n"


def as_json_lines(outcomes: Iterable[Outcome]) -> str:
    return "".join(outcome.model_dump_json() + "\n" for outcome in outcomes)


def check_place(path: Path) -> None:
    """Raises :class:`OutputError` when a file could not be written there, before hours are spent on what goes into it."""
    if path.is_dir():
        raise OutputError(f"{str(path)!r} is a folder", remedy="Name a file in it.")
    folder = (path.resolve() if path.is_symlink() else path).parent
    if not folder.is_dir():
        raise OutputError(f"cannot write {str(path)!r}: there is no folder {str(folder)!r}", remedy="Make it first.")
    if not os.access(path if path.exists() and not path.is_file() else folder, os.W_OK):
        raise OutputError(f"cannot write {str(path)!r}: the folder {str(folder)!r} cannot be written to")


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A fresh name beside ``path`` to write to; renamed to it at the end, removed when anything goes wrong.

    It keeps the ending, by which writers tell formats, and begins with a dot. A symbolic link stays one. Whoever fills the
    file sees to it that it is on disk. Raises :class:`OutputError` when the disk, the folder or its permissions stand in
    the way.
    """
    target = path.resolve() if path.is_symlink() else path
    fresh = target.with_name(f".{target.stem[:60]}.{os.getpid()}.new{target.suffix}")
    try:
        try:
            yield fresh
            fresh.replace(target)
        except BaseException:
            fresh.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise OutputError(f"cannot write {str(path)!r}: {error.strerror or error}") from error


def write_whole(path: Path, text: str) -> None:
    """Write a file so that it is either the old one or the whole new one. Raises :class:`OutputError`.

    A device or a pipe (``/dev/null``, ``/dev/stdout``) is written to, never replaced by a file. A symbolic link stays one.
    """
    if path.exists() and not path.is_file():
        try:
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror}") from error
        return
    with whole_file(path) as fresh, fresh.open("w", encoding="utf-8", newline="") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


class Journal:
    """The outcomes of a folder scan as they come, beside the file they will end in, so that a stopped scan can go on.

    The first line names the scan's settings; a journal of other settings is not continued but started anew.
    """

    def __init__(self, target: Path, settings: dict[str, Any]) -> None:
        self.path = target.with_name(f"{target.name}.partial")
        self.settings = settings
        self.done: dict[str, Outcome] = {}
        self._read()
        try:
            self._file = self.path.open("a" if self.done else "w", encoding="utf-8", newline="")
        except OSError as error:
            raise OutputError(f"cannot write {self.path}: {error.strerror}") from error
        if not self.done:
            self._line(json.dumps({"settings": settings}))

    def _read(self) -> None:
        try:
            lines = self.path.read_text(encoding="utf-8").split("\n")
        except FileNotFoundError:
            return
        except (OSError, UnicodeDecodeError):
            return
        try:
            if json.loads(lines[0]).get("settings") != self.settings:
                return
        except (ValueError, AttributeError):
            return
        # What follows the last line break was cut off in mid-write and is done again.
        for line in lines[1:-1]:
            outcome = _parse(line)
            if isinstance(outcome, Report):
                self.done[outcome.media.path] = outcome
        if self.done:
            kept = [json.dumps({"settings": self.settings}), *(o.model_dump_json() for o in self.done.values())]
            write_whole(self.path, "\n".join(kept) + "\n")

    def standing(self, paths: Iterable[Path]) -> dict[Path, Outcome]:
        """Of these files, those whose outcome is here and that are still, byte for byte, what was judged."""
        from faceproof.judge import shown_path

        found: dict[Path, Outcome] = {}
        for path in paths:
            outcome = self.done.get(shown_path(path))
            if isinstance(outcome, Report) and _is_as_judged(path, outcome):
                found[path] = outcome
        return found

    def add(self, outcome: Outcome) -> None:
        self._line(outcome.model_dump_json())

    def _line(self, text: str) -> None:
        try:
            self._file.write(text + "\n")
            self._file.flush()
        except OSError as error:
            raise OutputError(f"cannot write {self.path}: {error.strerror}") from error

    def close(self) -> None:
        self._file.close()

    def discard(self) -> None:
        """The scan is complete and its result written: the journal has served."""
        self.close()
        self.path.unlink(missing_ok=True)


def _is_as_judged(path: Path, report: Report) -> bool:
    """Whether a file's bytes are those of the report. A path says little: another folder, or another day, may hold another
    file under it."""
    from faceproof.media.files import open_regular, sha256_of

    try:
        with open_regular(path) as file:
            if os.fstat(file.fileno()).st_size != report.media.size_bytes:
                return False
            return sha256_of(file, path) == report.media.sha256
    except MediaError:
        return False  # the scan will say why


def _parse(line: str) -> Outcome | None:
    for kind in (Report, FailedInput):
        try:
            return kind.model_validate_json(line)
        except ValidationError:
            continue
    return None
