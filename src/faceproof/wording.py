"""The words people read, in one place, so that they can be translated and never contradict each other.

No word here claims more than a verdict carries: a score is evidence, not proof, and REAL only means that nothing was found.
"""

from __future__ import annotations

from faceproof.results import Reason, Report, TrackScore, Verdict

HEADLINES = {
    Verdict.FAKE: "Signs of manipulation",
    Verdict.REAL: "No sign of manipulation found",
    Verdict.INCONCLUSIVE: "Cannot tell",
    Verdict.NOT_ASSESSED: "Nothing to judge",
}

SECOND_LINES = {
    Verdict.FAKE: "A score is evidence, not proof.",
    Verdict.REAL: "This does not prove that it is genuine: forgeries this detector was not made for can pass.",
    Verdict.INCONCLUSIVE: "The evidence points neither way clearly enough.",
    Verdict.NOT_ASSESSED: "No score was given.",
}

REASONS = {
    Reason.NO_FACE: "no face was found",
    Reason.FACES_TOO_SMALL: "the faces are too small to judge",
    Reason.FACES_TOO_BLURRED: "the faces are too blurred to judge",
    Reason.TOO_FEW_FACES: "the face is seen in too few frames to judge",
    Reason.INSIDE_BAND: "the score lies in the range where the detector is often wrong",
    Reason.MEMBERS_DISAGREE: "the detectors asked disagree",
}

REMEDIES = {
    Reason.NO_FACE: "If there is one, try a larger or upright copy, or --faces thorough.",
    Reason.FACES_TOO_SMALL: "A copy of higher resolution would help.",
    Reason.FACES_TOO_BLURRED: "A sharper or less compressed copy would help.",
    Reason.TOO_FEW_FACES: "More frames would help: --frames all.",
    Reason.INSIDE_BAND: "A less compressed original, or a second detector, would help.",
    Reason.MEMBERS_DISAGREE: "Look at each detector's own result.",
}


def clock(seconds: float) -> str:
    """0:07, 12:05, 1:02:09."""
    whole = int(seconds)
    hours, rest = divmod(whole, 3600)
    minutes, left = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{left:02d}" if hours else f"{minutes}:{left:02d}"


def person(track: TrackScore) -> str:
    return f"person {track.id}" if track.id else "whole picture"


def headline(report: Report) -> str:
    """The verdict in one sentence: who and when for FAKE, why for the outcomes without an opinion."""
    text = HEADLINES[report.verdict]
    if report.verdict is Verdict.FAKE:
        named = [person(t) for t in report.tracks if t.verdict is Verdict.FAKE]
        if named:
            text += " in " + listed(named)
    elif report.reason is not None:
        text += f": {REASONS[report.reason]}"
    return text


def second_line(report: Report) -> str:
    """What the verdict does not mean, and what would help."""
    text = SECOND_LINES[report.verdict]
    if report.verdict in (Verdict.INCONCLUSIVE, Verdict.NOT_ASSESSED) and report.reason is not None:
        text += f" {REMEDIES[report.reason]}"
    return text


def track_line(track: TrackScore) -> str:
    """What was seen in one person, for the end of their line."""
    if track.verdict is Verdict.FAKE:
        when = ", ".join(_span(s.start, s.end) for s in track.suspicious[:3])
        return f"signs of manipulation{f' {when}' if when and track.end > track.start else ''}"
    if track.verdict is Verdict.REAL:
        return "no sign of manipulation found"
    if track.verdict is Verdict.INCONCLUSIVE:
        return "cannot tell"
    return f"not judged: {REASONS[track.reason]}" if track.reason else "not judged"


def _span(start: float, end: float) -> str:
    first, last = clock(start), clock(end)
    return first if first == last else f"{first}–{last}"


def listed(words: list[str]) -> str:
    """a; a and b; a, b and c."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} and {words[-1]}"
