"""Wrong usage is answered with what to type, and the help tells the truth."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from faceproof.cli import app
from faceproof.cli.usage import dash_remedy, flowing
from faceproof.media import Limits

from .conftest import Run


def said(text: str) -> str:
    return " ".join(text.split())


@pytest.fixture
def desk(tmp_path: Path, astronaut_jpg: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to type commands in."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(astronaut_jpg, tmp_path / "-dash.jpg")
    shutil.copy(astronaut_jpg, tmp_path / "face.jpg")
    return tmp_path


@pytest.mark.parametrize("words", [("-dash.jpg",), ("-dash.jpg", "face.jpg"), ("--json", "-", "-dash.jpg")])
def test_a_name_that_begins_with_a_dash(run: Run, desk: Path, words: tuple[str, ...]) -> None:
    ran = run("scan", *words)
    assert ran.code in (1, 2)
    assert "was read as options" in said(ran.err)
    assert "./-dash.jpg" in ran.err


def test_the_dash_is_only_told_where_there_is_such_a_file(desk: Path) -> None:
    assert "./-dash.jpg" in dash_remedy(["scan", "-dash.jpg"])
    assert dash_remedy(["scan", "--", "-dash.jpg"]) == ""
    assert dash_remedy(["scan", "-other.jpg", "-", "face.jpg"]) == ""


def test_a_file_where_a_verb_belongs(run: Run, desk: Path) -> None:
    ran = run("face.jpg")
    assert ran.code == 2
    assert "faceproof scan face.jpg" in ran.err
    assert "Did you mean 'scan'?" in said(run("scann", "face.jpg").err)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("scan", "-q", "face.jpg"), "no such option: -q"),
        (("scan", "--frame", "all", "face.jpg"), "--frames"),
        (("scan", "--jobs", "zero", "face.jpg"), "a whole number"),
        (("scan", "--max-minutes", "long", "face.jpg"), "it takes a number"),
        (("scan",), "Usage: faceproof scan"),
        (("faces", "face.jpg"), "Usage: faceproof faces"),
        (("labels", "lose"), "`faceproof labels --help`"),
    ],
)
def test_wrong_usage_is_two_plain_lines(run: Run, desk: Path, words: tuple[str, ...], told: str) -> None:
    ran = run(*words)
    assert ran.code == 2
    assert ran.out == ""
    assert ran.err.startswith("error: ")
    assert told in said(ran.err)
    assert "--help`" in said(ran.err)
    assert "╭" not in ran.err
    assert "Input should be" not in ran.err


def test_a_verb_without_words_shows_its_help_once(run: Run) -> None:
    ran = run("labels")
    assert ran.code == 2
    assert ran.out.count("Usage:") + ran.err.count("Usage:") == 1
    assert "error:" not in ran.err


def _verbs() -> list[str]:
    found = []
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        below = getattr(command, "commands", None)
        found += [f"{name} {one}" for one in below] if below else [name]
    return found


@pytest.mark.parametrize("verb", _verbs())
def test_help_names_no_python_type_behind_a_switch_and_swallows_no_default(run: Run, verb: str) -> None:
    ran = run(*verb.split(), "--help")
    assert ran.code == 0
    assert "<bool>" not in ran.out
    assert ".  ]" not in ran.out


def test_serve_tells_its_defaults(run: Run) -> None:
    shown = said(run("serve", "--help").out)
    for default in ("127.0.0.1", "8000", "faceproof-data", "7d", "faceproof-small"):
        assert f"[default: ({default})]" in shown


def test_scans_limits_are_those_that_the_help_names(run: Run) -> None:
    shown = said(run("scan", "--help").out)
    assert f"({Limits().max_pixels // 1_000_000} million)" in shown
    assert f"({Limits().max_duration / 60:g})" in shown


def test_paragraphs_of_help_break_where_the_terminal_ends(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert "some rows or files could not be used, 2 wrong usage" in run("evaluate", "--help").out


@given(st.lists(st.lists(st.text("abc ", min_size=1).filter(str.strip), min_size=1), min_size=1))
def test_flowing_keeps_words_and_paragraphs(paragraphs: list[list[str]]) -> None:
    flowed = flowing("\n\n".join("\n".join(lines) for lines in paragraphs))
    assert flowed is not None
    assert flowed.split("\n\n") == [" ".join(" ".join(lines).split()) for lines in paragraphs]
    assert flowing(flowed) == flowed


@pytest.mark.parametrize("verb", ["scan", "explain", "watch"])
def test_an_empty_name_is_not_the_folder_one_is_in(run: Run, desk: Path, verb: str) -> None:
    ran = run(verb, "")
    assert ran.code == 2
    assert "a name that was given is empty" in ran.err


def test_a_pattern_that_nothing_fits_is_told_as_one(run: Run, desk: Path) -> None:
    ran = run("scan", "*.webm")
    assert ran.code == 2
    assert "No name fits the pattern" in ran.err
    (desk / "why?.mp4").write_bytes(b"")
    assert "is empty" in run("scan", "why?.mp4").err, "a name may hold such signs"
    assert "does not exist" in run("scan", "*.webm", "gone.mp4").out, "the others go on"


@pytest.mark.parametrize("verb", ["scan", "explain", "overlay", "watch"])
def test_frames_that_are_none_are_answered_with_all_there_are(run: Run, desk: Path, clip_mp4: Path, verb: str) -> None:
    place = desk if verb == "watch" else clip_mp4
    ran = run(verb, place, "--frames", "twelve")
    assert ran.code == 2
    assert "Use auto, a count such as 32, every:10 or all." in said(ran.err)


def test_faces_has_no_auto_to_offer(run: Run, clip_mp4: Path, tmp_path: Path) -> None:
    ran = run("faces", clip_mp4, "--frames", "auto", "--out", tmp_path / "crops")
    assert ran.code == 2
    assert "Use a count such as 32, every:10 or all." in said(ran.err)


def test_a_file_that_may_not_be_read_keeps_nobody_else_from_being_judged(
    run: Run, desk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = os.access

    def access(path: str | Path, mode: int, **more: bool) -> bool:
        return Path(path).name != "secret.jpg" and known(path, mode, **more)

    (desk / "secret.jpg").write_bytes(
        b""
    )  # what is wrong with it, the scan says: also to those who may read everything
    monkeypatch.setattr(os, "access", access)
    ran = run("scan", "secret.jpg", "face.jpg", "--detector", "toy")
    assert ran.code == 1
    assert "failed  'secret.jpg'" in ran.out
    assert "2 files:" in ran.out


def test_a_group_with_a_way_of_its_own_keeps_it(run: Run, tmp_path: Path) -> None:
    """`train RECIPE` is short for `train run RECIPE`."""
    ran = run("train", "no-such-recipe", "--data", tmp_path, "--out", tmp_path / "run")
    assert ran.code != 0
    assert "no such command" not in ran.err
    assert "no-such-recipe" in ran.err
