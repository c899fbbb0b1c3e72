"""`faceproof scan`."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from faceproof.cli import EXIT_FAKE_FOUND, EXIT_SOME_FAILED

if TYPE_CHECKING:
    from rich.progress import Progress

    from faceproof.batch import Outcome, ScanOptions
    from faceproof.events import EventSink
    from faceproof.results import Report


# Headings in --help.
_RESULTS, _LOOKING, _MACHINES = "Results", "What is looked at", "Machines"


def register(app: typer.Typer) -> None:
    app.command(name="scan")(scan)


def scan(
    paths: Annotated[
        list[Path],
        # A file that cannot be read is a failed file like others, and does not keep the rest from being judged.
        typer.Argument(
            metavar="PATH", readable=False, help="Pictures, videos or folders; with --broker also s3://bucket."
        ),
    ],
    json_file: Annotated[
        Path | None,
        typer.Option(
            "--json",
            metavar="FILE",
            help="Write the report as JSON; JSON Lines for several files; - is stdout.",
            rich_help_panel=_RESULTS,
        ),
    ] = None,
    csv_file: Annotated[
        Path | None,
        typer.Option(
            "--csv", metavar="FILE", help="Write one row a file as CSV; - is stdout.", rich_help_panel=_RESULTS
        ),
    ] = None,
    report_page: Annotated[
        Path | None,
        typer.Option(
            "--report", metavar="FILE", help="Write one file's report as one HTML page.", rich_help_panel=_RESULTS
        ),
    ] = None,
    evidence: Annotated[
        Path | None,
        typer.Option(
            "--evidence",
            metavar="DIR",
            help="Keep report, faces, heatmaps and hashes for others to verify.",
            rich_help_panel=_RESULTS,
        ),
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option(
            "--key", metavar="FILE", help="Sign the evidence with this Ed25519 key.", rich_help_panel=_RESULTS
        ),
    ] = None,
    fail_on_fake: Annotated[
        bool,
        typer.Option(
            "--fail-on-fake",
            help="Exit with 3 when any file shows signs of manipulation.",
            rich_help_panel=_RESULTS,
        ),
    ] = False,
    detector: Annotated[
        str | None,
        typer.Option(
            "--detector", "-d", metavar="NAME", help="Which detector; see `detectors list`.", rich_help_panel=_LOOKING
        ),
    ] = None,
    frames: Annotated[
        str,
        typer.Option(metavar="S", help="auto, a count such as 32, every:K, or all.", rich_help_panel=_LOOKING),
    ] = "auto",
    faces: Annotated[
        str,
        typer.Option(
            metavar="HOW",
            help="thorough, or fast: follows faces between searches; may miss small ones.",
            rich_help_panel=_LOOKING,
        ),
    ] = "thorough",
    jobs: Annotated[
        int,
        typer.Option(
            "--jobs", "-j", min=1, metavar="N", help="Files scanned at the same time.", rich_help_panel=_LOOKING
        ),
    ] = 1,
    no_resume: Annotated[
        bool,
        typer.Option(
            "--no-resume",
            help="Scan all of a folder anew, whatever of it was done before.",
            rich_help_panel=_LOOKING,
        ),
    ] = False,
    max_pixels: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Refuse pictures and frames of more pixels.",
            show_default="100 million",
            rich_help_panel=_LOOKING,
        ),
    ] = None,
    max_minutes: Annotated[
        float | None,
        typer.Option(min=0.01, metavar="N", help="Refuse longer videos.", show_default="240", rich_help_panel=_LOOKING),
    ] = None,
    device: Annotated[str, typer.Option(metavar="D", help="auto, cpu, cuda, ...", rich_help_panel=_MACHINES)] = "auto",
    precision: Annotated[
        str, typer.Option(metavar="P", help="auto, fp32 or bf16.", rich_help_panel=_MACHINES)
    ] = "auto",
    runtime: Annotated[
        str,
        typer.Option(
            metavar="R",
            help="auto, openvino, onnx, torch, or triton://host:port/model.",
            rich_help_panel=_MACHINES,
        ),
    ] = "auto",
    broker: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Let `fleet worker`s scan, as `fleet scan` does.", rich_help_panel=_MACHINES),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="FILE", help="With --broker: .parquet, .csv or .jsonl.", rich_help_panel=_MACHINES
        ),
    ] = None,
) -> None:
    """Judge pictures, videos and folders: for each person how likely the face was manipulated, and when.

    Several files are listed most suspicious first. With --json, a scan of a folder that was stopped goes on where it was.

    Exit codes: 0 done, 1 some input failed, 2 wrong usage, 3 signs of manipulation found (with --fail-on-fake).
    """
    from faceproof import media
    from faceproof.batch import ScanOptions
    from faceproof.cli.evidence import keep, read_key
    from faceproof.cli.places import EvidenceFolders, check_targets, tell_passed_over
    from faceproof.cli.terminal import (
        error_console,
        failure,
        one_line,
        out_console,
        print_error,
        print_report,
        print_table,
        say,
    )
    from faceproof.cli.usage import check_patterns, check_sampling
    from faceproof.errors import OptionError
    from faceproof.result_files import as_csv, as_json, as_json_lines, most_suspicious_first, write_whole
    from faceproof.results import FailedInput, Report, Verdict

    if precision not in ("auto", "fp32", "bf16"):
        raise OptionError(f"--precision cannot be {precision!r}", remedy="Use auto, fp32 or bf16.")
    if faces not in ("thorough", "fast"):
        raise OptionError(f"--faces cannot be {faces!r}", remedy="Use thorough or fast.")
    check_sampling(frames)
    check_patterns(paths)
    to_stdout = [name for name in (json_file, csv_file) if str(name) == "-"]
    if len(to_stdout) > 1:
        raise OptionError("only one of --json and --csv can be -", remedy="Give the other a file.")
    if key is not None and evidence is None:
        raise OptionError("--key signs evidence", remedy="Add --evidence DIR.")
    default = media.Limits()
    limits = media.Limits(
        max_pixels=max_pixels or default.max_pixels,
        max_duration=max_minutes * 60 if max_minutes else default.max_duration,
    )
    options = ScanOptions(detector, frames, device, precision, faces, limits, runtime=runtime)  # type: ignore[arg-type]
    elsewhere = [address for path in paths if (address := _address(path))]
    if broker is not None or out is not None or elsewhere:
        _hand_out(elsewhere or list(map(str, paths)), broker, out, options)
        return
    single = len(paths) == 1 and not paths[0].is_dir()
    passed_over: list[Path] = []
    files = list(media.walk(paths, passed_over=passed_over))
    if evidence is not None and not single:
        # Our own pictures, where evidence is kept in the folder that is scanned.
        ours = evidence.absolute()
        files = [path for path in files if not path.absolute().is_relative_to(ours)]
        passed_over = [path for path in passed_over if not path.absolute().is_relative_to(ours)]
    # Nor those of earlier scans: a heatmap over a face would be judged as a person.
    earlier, named = EvidenceFolders(), set(paths)
    kept_before = [path for path in files if path not in named and earlier.hold(path)]
    if kept_before:
        files = [path for path in files if path in named or not earlier.hold(path)]
        passed_over = [path for path in passed_over if not earlier.hold(path)]
    if report_page is not None and len(files) > 1:
        raise OptionError("--report writes one file's page", remedy="Use --evidence DIR for several files.")
    signing_key = read_key(key)
    if not files:
        tell_passed_over(passed_over, len(kept_before))
        raise OptionError(
            f"no pictures or videos in {', '.join(map(str, paths))}",
            remedy="Name a folder that holds some, or a file itself, whatever its name.",
        )

    # Before the scan: its result must not be lost to a folder that is not there, nor what is scanned to its result.
    check_targets({"--json": json_file, "--csv": csv_file, "--report": report_page}, paths)
    before: dict[Path, Report] = {}
    if evidence is not None and len(files) == 1:
        from faceproof.evidence.custody import check_free

        check_free(evidence)
    elif evidence is not None:
        from faceproof.evidence.kept import kept_reports

        public = signing_key.public_key() if signing_key is not None else None
        before = kept_reports(files, evidence, options, key=public, resume=not no_resume)
        if before:
            say(
                f"{len(before)} of {len(files)} have their evidence in {one_line(str(evidence))}: "
                "taken from there, not scanned again (for a new scan choose another folder)."
            )
    target = json_file if json_file is not None and str(json_file) != "-" and not single else None
    fresh = [path for path in files if path not in before]
    judged: list[tuple[Path, Outcome]] = list(before.items())
    judged += _run(fresh, options, jobs, target, resume=not no_resume) if fresh else []
    ordered = most_suspicious_first(outcome for _, outcome in judged)
    reports = [(path, outcome) for path, outcome in judged if isinstance(outcome, Report) and path not in before]

    if json_file is not None:
        text = as_json(ordered[0]) if single else as_json_lines(ordered)
        _write(json_file, text, write_whole)
    if csv_file is not None:
        _write(csv_file, as_csv(ordered), write_whole)
    if not to_stdout:
        console = out_console()
        only = ordered[0] if single else None
        if isinstance(only, Report):
            print_report(console, only, hint=report_page is None and evidence is None)
        elif only is None:
            print_table(console, ordered, hint=report_page is None and evidence is None)
            tell_passed_over(passed_over, len(kept_before))
    if to_stdout or single:
        for outcome in ordered:
            if isinstance(outcome, FailedInput):
                print_error(failure(outcome), outcome.remedy)
    without: list[Path] | None = None if len(files) == 1 else []
    kept = keep(
        reports, options, page=report_page, folder=evidence, key=signing_key, apart=len(files) > 1, failed=without
    )
    if target is not None:
        # Not before: where writing evidence is stopped, the same command scans nothing again.
        _journal_path(target).unlink(missing_ok=True)
    for written in (json_file, csv_file, *kept):
        if written is not None and str(written) != "-":
            error_console().print(f"Written: {one_line(str(written))}")

    if fail_on_fake and any(isinstance(o, Report) and o.verdict is Verdict.FAKE for o in ordered):
        raise typer.Exit(EXIT_FAKE_FOUND)
    if without or any(isinstance(outcome, FailedInput) for outcome in ordered):
        raise typer.Exit(EXIT_SOME_FAILED)


def _address(path: Path) -> str | None:
    """The address that was typed, where it is one (``s3://bucket/x``): as a path it has lost a slash."""
    match = re.fullmatch(r"([a-z][a-z0-9+.-]+):/(.*)", str(path))
    if match is None or path.exists():
        return None
    return f"file:///{match[2]}" if match[1] == "file" else f"{match[1]}://{match[2]}"


def _hand_out(places: list[str], broker: str | None, out: Path | None, options: ScanOptions) -> None:
    """``scan PLACE --broker URL --out FILE`` is ``fleet scan``."""
    from faceproof.cli.ops import scan_with_fleet
    from faceproof.errors import OptionError

    if broker is None and re.match(r"https?://", places[0]):
        raise OptionError(
            f"{places[0]} is an address, not a file",
            remedy="Download it first (from a browser, or yt-dlp for a post), then scan the file.",
        )
    if broker is None:
        what = f"{places[0]} is not on this machine" if out is None else "--out belongs to --broker"
        raise OptionError(
            what, remedy="Start `faceproof fleet worker`s and add --broker redis://host:port/0 and --out FILE."
        )
    if out is None or len(places) != 1:
        raise OptionError("--broker takes one place and --out FILE", remedy="For instance --out results.parquet.")
    scan_with_fleet(places[0], broker, out, options)


def _write(path: Path, text: str, write_whole: Any) -> None:
    if str(path) == "-":
        sys.stdout.write(text)
        sys.stdout.flush()
    else:
        write_whole(path, text)


def _journal_path(target: Path) -> Path:
    return target.with_name(f"{target.name}.partial")


def _run(
    files: list[Path], options: ScanOptions, jobs: int, target: Path | None, *, resume: bool
) -> list[tuple[Path, Outcome]]:
    """Scan what a journal beside ``target`` does not hold yet."""
    from faceproof.batch import scan_many
    from faceproof.cli.terminal import error_console, one_line, print_table, say
    from faceproof.result_files import Journal, most_suspicious_first

    journal: Journal | None = None
    outcomes: list[tuple[Path, Outcome]] = []
    if target is not None:
        if not resume:
            _journal_path(target).unlink(missing_ok=True)
        journal = Journal(target, _settings(options))
        known = journal.standing(files)
        if known:
            outcomes = list(known.items())
            files = [path for path in files if path not in known]
            say(f"Going on: {len(known)} of {len(known) + len(files)} are done already (--no-resume starts over)")
    try:
        with _progress(len(files)) as (progress, on_event):
            task = progress.add_task("", total=len(files)) if progress is not None and len(files) > 1 else None
            for path, outcome in scan_many(files, options, jobs=jobs, on_event=on_event):
                outcomes.append((path, outcome))
                if journal is not None:
                    journal.add(outcome)
                if progress is not None and task is not None:
                    progress.update(task, advance=1, description=one_line(path.name)[:40])
    except (KeyboardInterrupt, SystemExit):  # the latter is what SIGTERM raises
        if journal is not None:
            kept = "1 result is" if len(outcomes) == 1 else f"{len(outcomes)} results are"
            say(f"{kept} kept; run the same command again to go on.")
        elif outcomes:
            # Nobody wrote them down: what is known by now is shown.
            print_table(error_console(), most_suspicious_first(outcome for _, outcome in outcomes))
            say("Stopped. With --json FILE a stopped scan goes on where it was.")
        raise
    finally:
        if journal is not None:
            journal.close()
    return outcomes


def _settings(options: ScanOptions) -> dict[str, Any]:
    """What a half-done scan must share with the one that continues it."""
    from faceproof.detectors.catalog import DEFAULT_DETECTOR
    from faceproof.detectors.ensemble import fingerprint

    spec = fingerprint(options.detector or DEFAULT_DETECTOR)
    return {
        "spec": spec,
        "frames": options.frames,
        "faces": options.faces,
        "precision": options.precision,
        "runtime": options.runtime,
    }


@contextmanager
def _progress(count: int) -> Iterator[tuple[Progress | None, EventSink | None]]:
    """A bar on a terminal, silence in a pipe. For a single file it counts frames, for several it counts files."""
    from faceproof.cli.terminal import error_console

    console = error_console()
    if not console.is_terminal:
        yield None, None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from faceproof.events import EventName, ProgressEvent

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        if count > 1:
            yield progress, None
            return
        task = progress.add_task("frames", total=None)

        def show(event: ProgressEvent) -> None:
            if event.event is EventName.FRAME_ANALYSIS_PROGRESS:
                people = event.data.details["faces_detected_so_far"]
                progress.update(
                    task, completed=event.data.progress, total=event.data.total, description=f"frames, {people} faces"
                )

        yield progress, show
