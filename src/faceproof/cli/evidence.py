"""`faceproof explain`, `overlay` and `verify`, and what `scan --report` and `--evidence` write."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from faceproof.cli import EXIT_SOME_FAILED

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from faceproof.batch import ScanOptions
    from faceproof.detectors.detector import Detector
    from faceproof.evidence.moments import Shown
    from faceproof.results import Report

DetectorName = Annotated[
    str | None, typer.Option("--detector", "-d", metavar="NAME", help="Which detector; see `detectors list`.")
]
Frames = Annotated[str, typer.Option(metavar="S", help="auto, a count such as 32, every:K, or all.")]
_Stored = Annotated[
    Path | None,
    typer.Option("--from", metavar="JSON", help="Use this report of the same file instead of scanning it."),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, ...")]
Precision = Annotated[str, typer.Option(help="auto, fp32 or bf16.")]


def register(app: typer.Typer) -> None:
    from faceproof.cli.live import cam, watch

    for verb in (explain, overlay, verify, watch, cam):
        app.command(name=verb.__name__)(verb)


# -- for `scan` ---------------------------------------------------------------------------------------------------


def read_key(path: Path | None) -> Ed25519PrivateKey | None:
    """The signing key behind ``--key``, its passphrase asked for on the terminal when it has one."""
    if path is None:
        return None
    from faceproof.evidence.signing import load_signing_key

    return load_signing_key(
        path, passphrase=lambda: str(typer.prompt(f"Passphrase of {path}", hide_input=True, err=True))
    )


def keep(
    judged: Sequence[tuple[Path, Report]],
    options: ScanOptions,
    *,
    page: Path | None = None,
    folder: Path | None = None,
    key: Ed25519PrivateKey | None = None,
    detector: Detector | None = None,
    apart: bool | None = None,
    failed: list[Path] | None = None,
) -> list[Path]:
    """Write what ``scan --report PAGE`` and ``scan --evidence FOLDER`` ask for; returns what was written.

    ``judged`` pairs every scanned path with its report. One file's evidence goes into ``folder`` itself, that of several
    into a folder each below it; ``apart`` says that there were several, of which others failed. ``failed`` collects files
    that no evidence could be made of, which is then said, and the others get theirs.

    Raises :class:`faceproof.errors.OptionError` for a page of several files.
    """
    if (page is None and folder is None) or not judged:
        return []  # before anything is imported: most scans end here
    from faceproof.cli.terminal import one_line, print_error, say
    from faceproof.errors import EvidenceError, MediaError, OptionError
    from faceproof.evidence.custody import folder_for, write_evidence
    from faceproof.evidence.gathering import gather
    from faceproof.evidence.page import write_page

    if page is not None and len(judged) > 1:
        raise OptionError("--report writes one file's page", remedy="Use --evidence DIR for several files.")
    detector = detector or options.load()
    written: list[Path] = []
    apart = len(judged) > 1 if apart is None else apart
    try:
        for path, report in judged:
            if folder is not None and apart and folder_for(folder, report) in written:
                continue  # a copy of a file that has its evidence by now
            try:
                evidence = gather(report, detector, path, options=options)
            except (EvidenceError, MediaError) as error:
                if failed is None:
                    raise
                print_error(f"no evidence of {one_line(report.media.path)}: {error.message}", error.remedy)
                failed.append(path)
                continue
            if page is not None:
                write_page(evidence, page)
                written.append(page)
            if folder is not None:
                target = folder_for(folder, report) if apart else folder
                written.append(write_evidence(evidence, target, key=key))
    except (KeyboardInterrupt, SystemExit):
        if folder is not None and apart:
            say(f"{len(written)} of {len(judged)} have their evidence; run the same command again for the rest.")
        raise
    return written


# -- verbs --------------------------------------------------------------------------------------------------------


def explain(
    path: Annotated[Path, typer.Argument(metavar="PATH", readable=False, help="A picture or video.")],
    track: Annotated[
        list[int] | None, typer.Option("--track", "-t", metavar="N", help="Only this person; may be repeated.")
    ] = None,
    report_page: Annotated[
        Path | None, typer.Option("--report", metavar="FILE", help="Write the report as one HTML page.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="DIR", help="Write faces and heatmaps as PNG files.")
    ] = None,
    method: Annotated[
        str, typer.Option(help="auto, graph (the network's own map) or occlusion (any network, slower).")
    ] = "auto",
    stored: _Stored = None,
    detector: DetectorName = None,
    frames: Frames = "auto",
    device: Device = "auto",
    precision: Precision = "auto",
) -> None:
    """Show where in each face the suspicion lies, and when."""
    from faceproof.cli.places import check_targets
    from faceproof.cli.terminal import error_console, one_line, out_console, print_report
    from faceproof.errors import OptionError
    from faceproof.evidence.gathering import gather
    from faceproof.evidence.page import write_page

    if method not in ("auto", "graph", "occlusion"):
        raise OptionError(f"--method cannot be {method!r}", remedy="Use auto, graph or occlusion.")
    check_targets({"--report": report_page}, [path, *([stored] if stored is not None else [])])
    if out is not None and out.exists() and not out.is_dir():
        raise OptionError(f"--out is a folder, and {one_line(str(out))} is a file", remedy="Name a folder.")
    options = options_of(detector, frames, device, precision)
    report, ready = _judged(path, options, stored)
    chosen: Any = None if method == "auto" else method
    evidence = gather(report, ready, path, options=options, tracks=track, method=chosen)
    console = out_console()
    print_report(console, report)
    for line in hottest_lines(evidence.shown, video=report.media.kind == "video"):
        console.print(line, soft_wrap=True)
    if out is not None:
        _write_pictures(evidence.shown, out)
        error_console().print(f"Written: {out}")
    if report_page is not None:
        write_page(evidence, report_page)
        error_console().print(f"Written: {report_page}")


def overlay(
    path: Annotated[Path, typer.Argument(metavar="PATH", readable=False, help="A video.")],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="FILE", help="Video to write (.mp4, .mov, .mkv, .webm).", show_default=False
        ),
    ] = None,
    heat: Annotated[bool, typer.Option("--heat", help="Blend each face's heat into the picture.")] = False,
    stored: _Stored = None,
    detector: DetectorName = None,
    frames: Annotated[
        str | None, typer.Option(metavar="S", help="As for scan.", show_default="about six a second")
    ] = None,
    device: Device = "auto",
    precision: Precision = "auto",
) -> None:
    """Write the video again with boxes, scores and the suspicion curve drawn on it."""
    from faceproof import media
    from faceproof.cli.terminal import error_console
    from faceproof.evidence.encoding import no_pictures
    from faceproof.evidence.overlay import sampling_for_overlay, write_overlay

    info = media.probe(path)
    if info.kind == "image":
        raise no_pictures(path)
    options = options_of(detector, frames or sampling_for_overlay(info.fps), device, precision)
    report, ready = _judged(path, options, stored)
    target = out or Path(f"{path.stem}-overlay.mp4")
    with _bar() as show:
        written = write_overlay(
            report,
            path,
            target,
            detector=ready,
            heat=heat,
            frame_threshold=ready.spec.verdict.frame_threshold,
            on_progress=show,
        )
    error_console().print(f"Written: {written.path} ({written.frames} frames, {written.width}×{written.height})")


def verify(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", readable=False, help="A folder that `scan --evidence` wrote.")
    ],
    key: Annotated[
        Path | None, typer.Option("--key", metavar="FILE", help="The signer's public key, got from the signer.")
    ] = None,
    rescan: Annotated[bool, typer.Option("--rescan", help="Scan the judged file again and compare scores.")] = False,
    media: Annotated[
        Path | None, typer.Option("--media", metavar="FILE", help="Where the judged file lies now.")
    ] = None,
) -> None:
    """Check evidence: is it whole, who signed it, does the scan come out the same?

    Exit codes: 0 it stands, 1 it does not, or something that was asked for could not be checked.
    """
    from faceproof.cli.terminal import one_line, out_console, put
    from faceproof.evidence.signing import load_public_key
    from faceproof.evidence.verification import in_short, verify_all
    from faceproof.evidence.verification import verify as check

    public = load_public_key(key) if key else None
    found = verify_all(folder, media, key=public) if rescan else check(folder, key=public)
    console = out_console()
    for finding in found.findings:
        word = {True: "good", False: "BAD ", None: "note"}[finding.good]
        put(console, f"{word}  {one_line(finding.text)}", hang=6)
    put(console, in_short(found))
    if not (found.stands and found.complete):
        raise typer.Exit(EXIT_SOME_FAILED)


# -- shared -------------------------------------------------------------------------------------------------------


def options_of(detector: str | None, frames: str, device: str, precision: str) -> ScanOptions:
    from faceproof.batch import ScanOptions
    from faceproof.cli.usage import check_sampling
    from faceproof.errors import OptionError

    if precision not in ("auto", "fp32", "bf16"):
        raise OptionError(f"--precision cannot be {precision!r}", remedy="Use auto, fp32 or bf16.")
    check_sampling(frames)
    return ScanOptions(detector, frames, device, precision)  # type: ignore[arg-type]


def _judged(path: Path, options: ScanOptions, stored: Path | None) -> tuple[Report, Detector]:
    """A report of ``path``, scanned now or read from a file, and the detector it is from."""
    from dataclasses import replace

    from pydantic import ValidationError

    from faceproof.errors import EvidenceError
    from faceproof.results import Report
    from faceproof.scanning import scan

    if stored is None:
        detector = options.load()
        with _bar() as show:
            report = scan(
                path,
                detector=detector,
                frames=options.frames,
                faces=options.faces,
                on_event=lambda event: show(event.data.progress or 0, event.data.total),
            )
        return report, detector
    try:
        report = Report.model_validate_json(stored.read_bytes())
    except OSError as error:
        raise EvidenceError(f"cannot read {stored}: {error.strerror}", remedy="Check its path.") from error
    except ValidationError as error:
        raise EvidenceError(f"{stored} is not a report", remedy="Make one with `scan --json`.") from error
    return report, replace(options, detector=options.detector or report.detector.name).load()


def hottest_lines(shown: Shown, *, video: bool = True) -> list[str]:
    """Where each person's best face is hottest, in words, as seen by the viewer."""
    from faceproof.evidence.heatmap import place_in_words
    from faceproof.wording import clock

    lines = []
    for number, moments in shown.moments.items():
        best = next((moment for moment in moments if moment.best), None)
        if best is None or best.heat is None:
            continue
        who = f"person {number}" if number else "whole picture"
        when = f"at {clock(best.time)}, score {best.p_fake:.2f}: " if video else ""
        where = place_in_words(best.heat.heat)
        lines.append(f"  {who:<10}{when}{'heat ' if where.startswith('strongest') else ''}{where}")
    return lines


def _write_pictures(shown: Shown, out: Path) -> None:
    import cv2

    from faceproof.errors import OutputError
    from faceproof.evidence.heatmap import blend

    try:
        out.mkdir(parents=True, exist_ok=True)
        for moments in shown.moments.values():
            for moment in moments:
                name = f"person-{moment.track}-frame-{moment.index:06d}"
                pictures = {f"{name}.png": moment.crop}
                if moment.heat is not None:
                    pictures[f"{name}-heat.png"] = blend(moment.crop, moment.heat.heat)
                for file, image in pictures.items():
                    (out / file).write_bytes(cv2.imencode(".png", image[..., ::-1])[1].tobytes())
    except OSError as error:
        raise OutputError(f"cannot write {out}: {error.strerror}") from error


@contextmanager
def _bar() -> Iterator[Any]:
    """A bar of frames on a terminal, silence elsewhere; gives a function of (done, total)."""
    from faceproof.cli.terminal import error_console

    console = error_console()
    if not console.is_terminal:
        yield lambda done, total: None
        return
    from rich.progress import Progress

    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("frames", total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
