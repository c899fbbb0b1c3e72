"""Bad input is named and counted, never silently dropped."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict, Field

EXAMPLES_KEPT = 5

EXPLANATIONS = {
    "unknown_label": "the label is neither real nor fake",
    "duplicate_row": "the same path, frame and track stands there more than once; the first row was kept",
    "conflicting_rows": "the same path, frame and track stands there with other labels or scores; all were left out",
    "missing_file": "the file does not exist",
    "missing_path": "the row names no path",
    "nan_score": "the score is missing or not a number; the row counts as not assessed",
    "bad_frame": "the frame or track number is not a whole number; the row was left out",
    "failed": "the detector could not judge the file",
    "unlabelled_file": "the folder layout gives this file no label; it was left out",
    "mixed_labels": "rows of one file carry different labels; the file was left out",
}


class Problem(BaseModel):
    """One kind of bad input: how many rows or files it touched and the first few of them."""

    model_config = ConfigDict(extra="forbid")

    kind: str
    count: int
    examples: list[str] = Field(default_factory=list)

    @property
    def sentence(self) -> str:
        what = EXPLANATIONS.get(self.kind, self.kind.replace("_", " "))
        shown = ", ".join(self.examples) + (", …" if self.count > len(self.examples) else "")
        return f"{self.count:,} × {what}" + (f": {shown}" if shown else "")


class ProblemLog:
    """Collects problems while rows are read. ``bool(log)`` is true when there was any."""

    def __init__(self, problems: Iterable[Problem] = ()) -> None:
        self._problems = {problem.kind: problem.model_copy(deep=True) for problem in problems}

    def add(self, kind: str, *where: str, count: int | None = None) -> None:
        """Record ``count`` (by default ``len(where)``) cases of ``kind``; only the first few ``where`` are kept."""
        number = len(where) if count is None else count
        if number == 0:
            return
        problem = self._problems.setdefault(kind, Problem(kind=kind, count=0))
        problem.count += number
        room = EXAMPLES_KEPT - len(problem.examples)
        problem.examples.extend(printable(place) for place in where[:room])

    def __bool__(self) -> bool:
        return bool(self._problems)

    @property
    def problems(self) -> list[Problem]:
        return list(self._problems.values())

    def __getitem__(self, kind: str) -> int:
        return self._problems[kind].count if kind in self._problems else 0


def printable(text: str) -> str:
    """``text`` with control characters and undecodable bytes escaped, so that a file name cannot forge a report line."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode() for char in text
    )
