"""How results look on a terminal of any width."""

from __future__ import annotations

import io
import os
import subprocess

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from faceproof import wording
from faceproof.cli import terminal
from faceproof.cli.terminal import curve, one_line, print_report, print_table, typed
from faceproof.results import FaceScore, FailedInput, FrameScore, Report

from ..ops.made_reports import made_report

FACE = FaceScore(box=(0, 0, 90, 90), track=1, p_fake=0.5, detection_score=0.9, side=90, sharpness=80)


def looked_at(seen: list[bool]) -> Report:
    """A report on as many sampled frames, person 1 in those that say so."""
    report = made_report("a long name of a clip, as telephones and people give them.mp4", 0.5)
    report.frame_predictions = [
        FrameScore(index=i, time=i / 7, score=0.5, prediction="REAL", faces=[FACE] if here else [])
        for i, here in enumerate(seen)
    ]
    return report


def told(report: Report, width: int, *, many: bool = False) -> list[str]:
    console = Console(
        file=io.StringIO(), width=width, force_terminal=True, color_system=None, highlight=False, markup=False
    )
    if many:
        print_table(
            console, [report, FailedInput(path="a.mp4", error="empty", message="'a.mp4' is empty", remedy="No.")]
        )
    else:
        print_report(console, report, hint=False)
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


@pytest.mark.parametrize("width", [40, 60, 80, 120])
@pytest.mark.parametrize("many", [False, True])
def test_lines_break_between_words_only(width: int, many: bool) -> None:
    report = looked_at([True] * 30)
    whole = set(" ".join(told(report, 1000, many=many)).split())
    lines = told(report, width, many=many)
    assert all(len(line) <= width for line in lines if " " in line.strip())
    assert set(" ".join(lines).split()) <= whole | {word for word in " ".join(lines).split() if "…" in word}


def test_verdicts_stand_below_each_other_whatever_the_names_are_written_in() -> None:
    names = ["a.mp4", "漢字漢字.mp4", "ünïcödé.mp4", "人" * 50 + ".mp4"]
    console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None, highlight=False)
    reports = [made_report(name, 0.5) for name in names]
    print_table(console, reports)
    lines = console.file.getvalue().splitlines()[: len(names)]  # type: ignore[attr-defined]
    words = wording.HEADLINES[reports[0].verdict]
    assert len({cell_len(line[: line.index(words)]) for line in lines}) == 1
    assert "…" in lines[3]
    assert all(cell_len(line) <= 80 for line in lines)


@pytest.mark.parametrize("width", [40, 80])
def test_what_is_said_beside_results_breaks_between_words(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None, markup=False)
    monkeypatch.setattr(terminal, "error_console", lambda: console)
    sentence = (
        "Passed over 1 file whose names are not those of pictures or videos; name a file itself to have it opened."
    )
    terminal.say(sentence)
    terminal.print_error(sentence, sentence)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert all(len(line) <= width for line in lines)
    assert " ".join(" ".join(lines).split()) == f"{sentence} error: {sentence} {sentence}"


@given(st.lists(st.booleans(), min_size=1, max_size=40))
def test_a_curve_has_gaps_only_where_nobody_was_seen(seen: list[bool]) -> None:
    blocks = curve(looked_at(seen), 1)
    assert len(blocks) == 16
    if all(seen):
        assert " " not in blocks
    if not any(seen):
        assert blocks.isspace()
    assert (blocks[0] != " ") or not seen[0]


def test_an_error_names_its_file_once() -> None:
    assert "\n".join(told(looked_at([True]), 200, many=True)).count("a.mp4") == 1


@pytest.mark.parametrize(("path", "shown"), [("-x.mp4", "./-x.mp4"), ("a b.mp4", "'a b.mp4'"), ("a.mp4", "a.mp4")])
def test_a_path_is_shown_as_it_is_typed(path: str, shown: str) -> None:
    assert typed(path) == shown


@settings(deadline=None, max_examples=60)  # a process each
@given(
    st.text(st.characters(exclude_characters="\0"), min_size=1).map(
        lambda text: os.fsdecode(text.encode("utf-8", "replace"))
    )
)
@example("new\nline.jpg")
@example("it's \\ \x1b[2J.mp4")
@example(os.fsdecode(b"caf\xe9.mp4"))
@example("\u200d\N{GRINNING FACE}.png")
def test_bash_reads_a_path_as_it_is(path: str) -> None:
    shown = typed(path)
    assert one_line(shown) == shown, "nothing in it moves the cursor"
    environment = {"LC_ALL": "C.UTF-8"}
    read = subprocess.run(["bash", "-c", f"printf %s {shown}"], capture_output=True, check=True, env=environment).stdout
    assert read == os.fsencode(f"./{path}" if path.startswith("-") else path)
