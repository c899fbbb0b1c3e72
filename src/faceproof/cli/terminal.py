"""How results look in a terminal. Colours and bars only where somebody is watching; the words come from ``wording``."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from faceproof import wording
from faceproof.results import FailedInput, Report, TrackScore, Verdict

# Safe for colour-blind eyes; the words always say the same.
COLOURS = {
    Verdict.FAKE: "#D55E00",
    Verdict.REAL: "#0072B2",
    Verdict.INCONCLUSIVE: "#8A8A8A",
    Verdict.NOT_ASSESSED: "#8A8A8A",
}
_BARS = "▁▂▃▄▅▆▇█"
_CURVE_WIDTH = 16


def out_console() -> Console:
    """Results. Wide in a pipe, so that nothing is wrapped or cut."""
    console = Console(highlight=False, emoji=False, markup=False)
    return console if console.is_terminal else Console(highlight=False, emoji=False, markup=False, width=10_000)


def error_console() -> Console:
    """Progress and errors."""
    return Console(stderr=True, highlight=False, emoji=False, markup=False, soft_wrap=True)


def print_error(message: str, remedy: str) -> None:
    console = error_console()
    console.print(Text.assemble(("error: ", "bold"), one_line(message)))
    if remedy:
        console.print(Text(f"       {remedy}"))


def one_line(text: str) -> str:
    """Control characters shown, not obeyed: a file name must not move the cursor or forge a line."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def print_report(console: Console, report: Report, *, hint: str | None = None) -> None:
    """One file: its facts, a line per person, the verdict and what it does not mean."""
    console.print(
        Text.assemble((one_line(report.media.path), "bold"), "    ", wording.media_line(report)), soft_wrap=True
    )
    # Passers-by nobody could judge are counted in the note; they have lines only when there is nobody else.
    judged = [track for track in report.tracks if track.score is not None]
    for track in judged or report.tracks:
        console.print(_person_line(report, track), soft_wrap=True)
    line = Text()
    line.append(wording.headline(report), style=f"bold {COLOURS[report.verdict]}")
    if report.score is not None:
        line.append(f" (score {report.score:.2f})")
    line.append(f" · {report.processing_time:.1f} s · {report.detector.name} {report.detector.version}")
    console.print(line, soft_wrap=True)
    last = wording.second_line(report)
    console.print(Text(f"{last} {hint}" if hint else last, style="dim"), soft_wrap=True)
    if report.note:
        console.print(Text(report.note, style="dim"), soft_wrap=True)


def _person_line(report: Report, track: TrackScore) -> Text:
    line = Text("  ")
    line.append(f"{wording.person(track):<10}")
    if report.media.kind == "video":
        line.append(wording.span(track.start, track.end).ljust(12))
    line.append(f"{track.faces:>3} {'face ' if track.faces == 1 else 'faces'}  ")
    if report.media.kind == "video":
        # Whoever could not be judged has no score, in no picture either.
        bars = " " * _CURVE_WIDTH if track.score is None else curve(report, track.id)
        line.append(bars, style=COLOURS[track.verdict])
        line.append("  ")
    line.append("  –   " if track.score is None else f"{track.score:.2f}  ")
    line.append(wording.track_line(track), style=COLOURS[track.verdict])
    return line


def curve(report: Report, track: int) -> str:
    """One person's scores over the file's length in blocks; a space where the person is not seen."""
    times = [frame.time for frame in report.frame_predictions]
    start, span = times[0], max(times[-1] - times[0], 1e-9)
    highest: list[float | None] = [None] * _CURVE_WIDTH
    for frame in report.frame_predictions:
        for face in frame.faces:
            if face.track == track:
                place = min(int((frame.time - start) / span * _CURVE_WIDTH), _CURVE_WIDTH - 1)
                highest[place] = max(highest[place] or 0.0, face.p_fake)
    return "".join(" " if p is None else _BARS[min(int(p * len(_BARS)), len(_BARS) - 1)] for p in highest)


def print_table(console: Console, outcomes: Sequence[Report | FailedInput]) -> None:
    """Many files, already sorted: one line each, a summary, and failures with their remedies at the end."""
    reports = [outcome for outcome in outcomes if isinstance(outcome, Report)]
    failures = [outcome for outcome in outcomes if isinstance(outcome, FailedInput)]
    width = max((len(one_line(report.media.path)) for report in reports), default=0)
    for report in reports:
        line = Text(f"{'  – ' if report.score is None else f'{report.score:.2f}'}  ")
        line.append(one_line(report.media.path).ljust(min(width, 60)), style="bold")
        line.append(f"  {wording.headline(report)}", style=COLOURS[report.verdict])
        console.print(line, soft_wrap=True)
    counts = [
        f"{sum(report.verdict is verdict for report in reports)} {words}"
        for verdict, words in (
            (Verdict.FAKE, "with signs of manipulation"),
            (Verdict.REAL, "without"),
            (Verdict.INCONCLUSIVE, "undecided"),
            (Verdict.NOT_ASSESSED, "with nothing to judge"),
        )
    ]
    summary = f"{len(outcomes)} files: {', '.join(counts)}"
    if failures:
        summary += f", {len(failures)} failed"
    console.print(Text(summary, style="bold"), soft_wrap=True)
    for failure in failures:
        console.print(
            Text.assemble("failed  ", (one_line(failure.path), "bold"), f"  {one_line(failure.message)}"),
            soft_wrap=True,
        )
        console.print(Text(f"        {failure.remedy}", style="dim"), soft_wrap=True)
