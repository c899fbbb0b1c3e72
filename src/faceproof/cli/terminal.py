"""How results look in a terminal. Colours and bars only where somebody is watching; the words come from ``wording``."""

from __future__ import annotations

import os
import shlex
from bisect import bisect_left
from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from faceproof import wording
from faceproof.detectors.calibration import on_one_scale
from faceproof.results import FailedInput, Reason, Report, TrackScore, Verdict

# Safe for colour-blind eyes; the words always say the same.
COLOURS = {
    Verdict.FAKE: "#D55E00",
    Verdict.REAL: "#0072B2",
    Verdict.INCONCLUSIVE: "#8A8A8A",
    Verdict.NOT_ASSESSED: "#8A8A8A",
}
_BARS = "▁▂▃▄▅▆▇█"
_CURVE_WIDTH = 16
# On narrower terminals lines are left to the terminal to break.
_NARROWEST = 40
_LONGEST_NAME = 60


def out_console() -> Console:
    """Results. Wide in a pipe, so that nothing is wrapped or cut."""
    console = Console(highlight=False, emoji=False, markup=False)
    return console if console.is_terminal else Console(highlight=False, emoji=False, markup=False, width=10_000)


def error_console() -> Console:
    """Progress and errors."""
    return Console(stderr=True, highlight=False, emoji=False, markup=False, soft_wrap=True)


def print_error(message: str, remedy: str) -> None:
    console = error_console()
    put(console, Text.assemble(("error: ", "bold"), one_line(message)), hang=7)
    if remedy:
        put(console, Text(f"       {remedy}"), hang=7)


def say(text: str) -> None:
    """A sentence beside the results, on standard error."""
    put(error_console(), Text(text))


def one_line(text: str) -> str:
    """Control characters shown, not obeyed: a file name must not move the cursor or forge a line."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def failure(outcome: FailedInput) -> str:
    """What is wrong with a file; its name stands there once."""
    return outcome.message if outcome.path in outcome.message else f"{outcome.path}: {outcome.message}"


def typed(path: str) -> str:
    """A path as one types it: quoted, and never taken for an option. What cannot be typed is written as bash reads it."""
    path = f"./{path}" if path.startswith("-") else path
    if path.isprintable():
        return shlex.quote(path)
    return f"$'{''.join(map(_escaped, path))}'"


def _escaped(character: str) -> str:
    if character in "\\'":
        return f"\\{character}"
    if character.isprintable() or character in "\n\t\r":
        return one_line(character)
    return "".join(f"\\x{byte:02x}" for byte in os.fsencode(character))


def put(console: Console, text: Text | str, *, hang: int = 0) -> None:
    """Print. On a terminal lines break between words and go on ``hang`` columns further in; a pipe gets them whole."""
    text = Text(text) if isinstance(text, str) else text
    if not console.is_terminal or console.width < _NARROWEST or text.cell_len <= console.width:
        console.print(text, soft_wrap=True)
        return
    broken = text.wrap(console, console.width - hang)
    for number, line in enumerate(broken):
        line.rstrip()
        console.print(Text(" " * hang).append_text(line) if number else line, soft_wrap=True)


def print_report(console: Console, report: Report, *, hint: bool = False) -> None:
    """One file: its facts, a line per person, the verdict and what it does not mean. ``hint``: with how to see where."""
    put(
        console,
        Text.assemble((one_line(report.media.path), "bold"), "    ", wording.media_line(report)),
        hang=4,
    )
    # Passers-by nobody could judge are counted in the note; they have lines only when there is nobody else.
    judged = [track for track in report.tracks if track.score is not None]
    shown = on_one_scale(report)
    for track in judged or report.tracks:
        put(console, _person_line(shown, track), hang=4)
    line = Text()
    line.append(wording.headline(report), style=f"bold {COLOURS[report.verdict]}")
    if report.score is not None:
        line.append(f" (score {report.score:.2f})")
    line.append(f" · {report.processing_time:.1f} s · {report.detector.name} {report.detector.version}")
    put(console, line)
    put(console, Text(wording.second_line(report), style="dim"))
    if report.note:
        put(console, Text(report.note, style="dim"))
    if hint and report.verdict in (Verdict.FAKE, Verdict.INCONCLUSIVE):
        # Whole, so that it can be copied.
        where = f"See where: faceproof explain {typed(report.media.path)} --report report.html"
        console.print(Text(where, style="dim"), soft_wrap=True)


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
    """One person's scores over the file's length in blocks; a space where the person is not seen. Where fewer frames were
    looked at than there are blocks, each block tells of the nearest."""
    times = [frame.time for frame in report.frame_predictions]
    start, span = times[0], max(times[-1] - times[0], 1e-9)
    looked: list[list[float | None]] = [[] for _ in range(_CURVE_WIDTH)]
    every: list[float | None] = []
    for frame in report.frame_predictions:
        p = max((face.p_fake for face in frame.faces if face.track == track), default=None)
        looked[min(int((frame.time - start) / span * _CURVE_WIDTH), _CURVE_WIDTH - 1)].append(p)
        every.append(p)
    blocks = []
    for place, scores in enumerate(looked):
        if not scores:
            scores = [every[_nearest(times, start + (place + 0.5) / _CURVE_WIDTH * span)]]
        p = max((one for one in scores if one is not None), default=None)
        blocks.append(" " if p is None else _BARS[min(int(p * len(_BARS)), len(_BARS) - 1)])
    return "".join(blocks)


def _nearest(times: Sequence[float], time: float) -> int:
    after = min(bisect_left(times, time), len(times) - 1)
    return after - 1 if after and time - times[after - 1] < times[after] - time else after


def print_table(console: Console, outcomes: Sequence[Report | FailedInput], *, hint: bool = False) -> None:
    """Many files, already sorted: one line each, failures with their remedies, a summary. ``hint``: with how to see
    where."""
    reports = [outcome for outcome in outcomes if isinstance(outcome, Report)]
    failures = [outcome for outcome in outcomes if isinstance(outcome, FailedInput)]
    room = min(_LONGEST_NAME, max(24, console.width // 2)) if console.is_terminal else None
    names = [_shortened(one_line(report.media.path), room) for report in reports]
    width = min(max(map(cell_len, names), default=0), _LONGEST_NAME)
    for report, name in zip(reports, names, strict=True):
        line = Text(f"{'  – ' if report.score is None else f'{report.score:.2f}'}  ")
        line.append(name + " " * (width - cell_len(name)), style="bold")
        line.append(f"  {_in_a_table(report)}", style=COLOURS[report.verdict])
        put(console, line, hang=6)
    for outcome in failures:
        put(console, Text.assemble("failed  ", (one_line(failure(outcome)), "bold")), hang=8)
        put(console, Text(f"        {outcome.remedy}", style="dim"), hang=8)
    # Last, where somebody looks after a long list.
    counts = [
        f"{count} {words}"
        for verdict, words in (
            (Verdict.FAKE, "with signs of manipulation"),
            (Verdict.REAL, "without"),
            (Verdict.INCONCLUSIVE, "undecided"),
            (Verdict.NOT_ASSESSED, "with nothing to judge"),
        )
        if (count := sum(report.verdict is verdict for report in reports)) or verdict is Verdict.FAKE
    ]
    if failures:
        counts.append(f"{len(failures)} failed")
    put(
        console,
        Text(f"{len(outcomes)} {'file' if len(outcomes) == 1 else 'files'}: {', '.join(counts)}", style="bold"),
    )
    if hint and any(report.verdict in (Verdict.FAKE, Verdict.INCONCLUSIVE) for report in reports):
        shows = "A score is evidence, not proof. See where: faceproof explain FILE --report report.html"
        put(console, Text(shows, style="dim"))


def _in_a_table(report: Report) -> str:
    """The verdict without the most common reason for none: what is undecided says so already."""
    return wording.HEADLINES[report.verdict] if report.reason is Reason.INSIDE_BAND else wording.headline(report)


def _shortened(name: str, room: int | None) -> str:
    """Long names keep their beginning and their end. ``room`` is in columns, of which Chinese characters take two."""
    if room is None or cell_len(name) <= room:
        return name
    end = room * 2 // 3
    return f"{set_cell_size(name, room - end - 1)}…{set_cell_size(name[::-1], end)[::-1]}"
