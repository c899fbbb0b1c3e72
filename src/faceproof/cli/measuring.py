"""What the measuring verbs share: checks of options, lines on the terminal, progress, exit codes."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from faceproof.cli import EXIT_SOME_FAILED

if TYPE_CHECKING:
    from faceproof.evaluation.runs import Announce, DetectorRun
    from faceproof.evaluation.soundness import Finding

EXIT_UNSOUND = 3

Data = Annotated[
    Path,
    typer.Argument(metavar="DATA", help="A dataset's folder, a manifest CSV, or any tool's scores (CSV, Parquet)."),
]
Detector = Annotated[str | None, typer.Option("--detector", "-d", metavar="NAME", help="Which detector.")]
Layout = Annotated[str, typer.Option(metavar="NAME", help="The folder's layout; auto looks for each dataset's marks.")]
Jobs = Annotated[int, typer.Option("--jobs", "-j", min=1, help="Files scanned at the same time.")]
Threads = Annotated[int | None, typer.Option(min=1, help="Cores for each of them; by default they share all.")]
Bootstraps = Annotated[int, typer.Option(min=0, help="Resamples for the 95 % intervals; 0 leaves them out.")]
Seed = Annotated[int, typer.Option(help="Seed of the resamples.")]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="DIR", help="Write JSON, Markdown, HTML, drawings and scores here."),
]
Cache = Annotated[Path | None, typer.Option(metavar="DIR", help="Where scores are kept; the user's cache by default.")]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Scan everything anew and keep nothing.")]
Robustness = Annotated[
    str, typer.Option(metavar="LIST", help="Degradations to sweep, for instance jpeg,h264, or all.", show_default=False)
]
RobustnessFiles = Annotated[
    int, typer.Option(min=1, help="Fakes of each method to sweep, and as many reals as all together.")
]
Alarms = Annotated[
    float | None,
    typer.Option("--max-false-alarms", metavar="RATE", help="Fit a band for this rate, for instance 0.01."),
]
Frames = Annotated[str, typer.Option(metavar="S", help="auto, a count such as 32, every:K, or all.")]
Split = Annotated[str | None, typer.Option(metavar="NAME", help="Only rows of this split.")]


def needs_extra() -> None:
    """Raise :class:`MissingExtraError` unless the packages of the ``evaluate`` extra are there."""
    from importlib.util import find_spec

    from faceproof.errors import MissingExtraError

    if any(find_spec(name) is None for name in ("sklearn", "scipy", "pandas", "pyarrow", "matplotlib")):
        raise MissingExtraError.of("Evaluation", "evaluate")


def one_of(option: str, value: str, known: tuple[str, ...]) -> None:
    """Raise :class:`OptionError` for a word that an option does not take."""
    from faceproof.errors import OptionError

    if value not in known:
        raise OptionError(f"{option} cannot be {value!r}", remedy=f"Use {' or '.join(known)}.")


def check_rates(option: str, *rates: float | None) -> None:
    """Raise :class:`OptionError` for a rate that is not above 0 and below 1."""
    from faceproof.errors import OptionError

    for rate in rates:
        if rate is not None and not 0 < rate < 1:
            raise OptionError(f"{option} cannot be {rate:g}", remedy="Give a share above 0 and below 1, such as 0.01.")


def degradations(text: str) -> tuple[str, ...]:
    """The names in a comma-separated list; none of them for "none". Raises :class:`OptionError` for an unknown one."""
    from faceproof.evaluation.robustness import cells_of

    names = tuple(name.strip() for name in text.split(",") if name.strip() not in ("", "none"))
    cells_of([name for name in names if name != "all"])
    return names


def check_writable(folder: Path) -> None:
    """Make the folder that results will go to, before the work of making them.

    Raises :class:`faceproof.errors.OutputError`.
    """
    from faceproof.errors import OutputError
    from faceproof.evaluation.runs import make_folder

    make_folder(folder)
    if not os.access(folder, os.W_OK):
        raise OutputError(f"cannot write into {folder}", remedy="Choose a folder you may write to.")


def cache_folder(chosen: Path | None, none: bool) -> Path | None:
    """Where scores are kept, None for nowhere."""
    from faceproof.evaluation.cache import default_folder

    return None if none else chosen or default_folder()


def detector_run(
    detector: str | None, frames: str, jobs: int, threads: int | None, cache: Path | None, no_cache: bool
) -> DetectorRun:
    """How to run a detector over media, from the options that every verb has for it."""
    from faceproof.batch import ScanOptions
    from faceproof.evaluation.runs import DetectorRun

    options = ScanOptions(detector=detector, frames=frames, threads=threads)
    return DetectorRun(options, jobs=jobs, cache=cache_folder(cache, no_cache))


def name_of(data: Path) -> str:
    """What to call the data on a page: its own name, not the way to it."""
    return data.resolve().name


def command_line() -> str:
    """This command, word for word."""
    return shlex.join(["faceproof", *sys.argv[1:]])


def show(text: str) -> None:
    """A line of the result."""
    from faceproof.cli.terminal import one_line, out_console

    out_console().print(one_line(text), soft_wrap=True)


def say(text: str) -> None:
    """A line about what was done."""
    from faceproof.cli import terminal

    terminal.say(terminal.one_line(text))


def print_evaluation(found: Any) -> None:
    """An evaluation in a few lines."""
    from faceproof.evaluation.limits import failures
    from faceproof.evaluation.report import summary

    show(f"{found.name} on {found.data}")
    show(summary(found))
    base = found.main.base_rate
    if base is not None:
        show(
            f"Calling every file fake would get accuracy {base.always_fake_accuracy:.3f}, average precision "
            f"{base.chance_average_precision:.3f}."
        )
    for part in found.slices:
        if part.by in ("dataset", "method"):
            show(f"  {part.name:<40} AUROC {part.auroc}  ({part.scored} of {part.files} files)")
    for sentence in failures(found):
        show(f"- {sentence.replace('**', '')}")
    print_findings(found.findings)
    for problem in found.problems:
        say(problem.sentence)


def print_findings(findings: list[Finding]) -> None:
    """One line per finding, its code at the end."""
    for finding in findings:
        show(f"{finding.severity.value}: {finding.message} [{finding.code}]")


def finish(findings: list[Finding], *, problems: int, strict: bool) -> None:
    """Leave with the exit code that says what was wrong."""
    if strict and any(finding.severity.value == "error" for finding in findings):
        raise typer.Exit(EXIT_UNSOUND)
    if problems:
        raise typer.Exit(EXIT_SOME_FAILED)


@contextmanager
def progress(*, kept: bool = True) -> Iterator[Announce]:
    """A bar per stage on a terminal, a line per stage in a pipe. ``kept`` says whether Ctrl-C loses nothing."""
    from faceproof.cli.terminal import error_console, one_line

    console = error_console()
    try:
        if console.is_terminal:
            with _bars(console) as announce:
                yield announce
        else:
            yield lambda stage: console.print(one_line(stage))
    except KeyboardInterrupt:
        say("Stopped. What is finished is kept: the same command goes on from here." if kept else "Stopped.")
        raise


@contextmanager
def _bars(console: Any) -> Iterator[Announce]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from faceproof.cli.terminal import one_line

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:

        def start(stage: str) -> Any:
            task = progress.add_task(one_line(stage), total=None)
            return lambda done, total, path: progress.update(task, completed=done, total=total)

        yield start
