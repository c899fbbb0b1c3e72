"""Words about people: whom a verdict is about, and nothing said twice."""

from __future__ import annotations

import pytest

from faceproof import wording
from faceproof.results import Reason, Report, TrackScore, Verdict

from .ops.made_reports import made_report


def report_of(*verdicts: Verdict) -> Report:
    """A report of people with these verdicts, scored from .99 down; the file's is the most suspicious."""
    report = made_report("clip.mp4", 0.5)
    first = report.tracks[0]
    report.tracks = [
        first.model_copy(update={"id": number, "verdict": verdict, "score": 1 - number / 100})
        for number, verdict in enumerate(verdicts, 1)
    ]
    order = [Verdict.FAKE, Verdict.INCONCLUSIVE, Verdict.REAL]
    report.verdict = min(verdicts, key=order.index)
    report.reason = Reason.INSIDE_BAND if report.verdict is Verdict.INCONCLUSIVE else None
    return report


F, U, R = Verdict.FAKE, Verdict.INCONCLUSIVE, Verdict.REAL


@pytest.mark.parametrize(
    ("verdicts", "begins"),
    [
        ((F,), "Signs of manipulation in person 1"),
        ((F, R, F), "Signs of manipulation in person 1 and person 3"),
        ((F,) * 40, "Signs of manipulation in person 1, person 2, person 3, person 4, person 5 and 35 more"),
        ((R, U, R), "Cannot tell about person 2: the score lies"),
        ((U, U), "Cannot tell: the score lies"),
        ((R, R), "No sign of manipulation found"),
    ],
)
def test_a_headline_says_whom_it_is_about(verdicts: tuple[Verdict, ...], begins: str) -> None:
    assert wording.headline(report_of(*verdicts)).startswith(begins)


def test_an_undecided_score_is_told_once() -> None:
    report = report_of(U)
    said = f"{wording.headline(report)}. {wording.second_line(report)}"
    assert wording.REMEDIES[Reason.INSIDE_BAND] in said
    assert wording.SECOND_LINES[U] not in said


@pytest.mark.parametrize("reason", list(Reason))
def test_a_person_not_judged_is_one_person_and_to_judge_is_said_once(reason: Reason) -> None:
    track: TrackScore = (
        report_of(U).tracks[0].model_copy(update={"verdict": Verdict.NOT_ASSESSED, "reason": reason, "score": None})
    )
    line = wording.track_line(track)
    assert line.startswith("not judged: ")
    assert "to judge" not in line
