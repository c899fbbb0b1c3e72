"""`faceproof watch` and `cam`: judging what arrives."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from faceproof.cli.evidence import DetectorName, Device, Frames, Precision, options_of, read_key

if TYPE_CHECKING:
    from faceproof.evidence.live import LivePerson, LiveState


def watch(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder to watch, with all below it.")],
    existing: Annotated[bool, typer.Option("--existing", help="Scan what lies there already, too.")] = False,
    json_lines: Annotated[
        Path | None, typer.Option("--jsonl", metavar="FILE", help="Append one report a line to this file.")
    ] = None,
    evidence: Annotated[
        Path | None,
        typer.Option("--evidence", metavar="DIR", help="Keep the evidence of every file below this folder."),
    ] = None,
    key: Annotated[
        Path | None, typer.Option("--key", metavar="FILE", help="Sign evidence with this Ed25519 key.")
    ] = None,
    detector: DetectorName = None,
    frames: Frames = "auto",
    device: Device = "auto",
    precision: Precision = "auto",
) -> None:
    """Scan every picture and video that arrives in a folder, until Ctrl-C.

    With --evidence, files whose evidence stands already, and is of the same detector and options, are not scanned again.
    """
    from faceproof.batch import scan_one
    from faceproof.cli.outlets import nobody_reads
    from faceproof.cli.places import EvidenceFolders, check_targets
    from faceproof.cli.terminal import failure, one_line, out_console, print_error, print_report, say
    from faceproof.errors import FaceproofError, OptionError, OutputError
    from faceproof.evidence.arrivals import arrivals
    from faceproof.evidence.custody import folder_for, write_evidence
    from faceproof.evidence.gathering import gather
    from faceproof.evidence.kept import Standing
    from faceproof.media import walk
    from faceproof.results import FailedInput

    options = options_of(detector, frames, device, precision)
    if key is not None and evidence is None:
        raise OptionError("--key signs evidence", remedy="Add --evidence DIR.")
    check_targets({"--jsonl": json_lines})
    signing = read_key(key)
    earlier = EvidenceFolders()
    arriving = arrivals(folder, existing=existing)
    standing = None
    if evidence is not None:
        standing = Standing(evidence, options, key=signing.public_key() if signing is not None else None)
        here = [path for path in walk([folder]) if not _is_ours(path, evidence)] if existing else []
        here = [path for path in here if not earlier.hold(path)]
        if known := standing.look_through(here):
            say(f"{known} of {len(here)} have their evidence in {one_line(str(evidence))}: not scanned again.")
    ready = options.load()
    say(f"Watching {one_line(str(folder))} with {ready.spec.name} {ready.spec.version}; Ctrl-C ends it.")
    for path in arriving:
        if evidence is not None and standing is not None:
            if _is_ours(path, evidence) or standing.knows(path):
                continue
            try:
                if standing.has(path):
                    say(f"{one_line(str(path))} has its evidence: not scanned again.")
                    continue
            except OutputError as error:
                print_error(f"{path}: {error.message}", error.remedy)
                continue
        if earlier.hold(path):
            continue
        outcome = scan_one(path, ready, options)
        if json_lines is not None:
            try:
                with json_lines.open("a", encoding="utf-8") as file:
                    file.write(outcome.model_dump_json() + "\n")
            except OSError as error:
                raise OutputError(f"cannot write {json_lines}: {error.strerror}") from error
        if isinstance(outcome, FailedInput):
            print_error(failure(outcome), outcome.remedy)
            continue
        print_report(out_console(), outcome)
        if evidence is None and json_lines is None and nobody_reads():
            return
        if evidence is not None:
            try:
                kept = gather(outcome, ready, path, options=options)
                write_evidence(kept, folder_for(evidence, outcome), key=signing)
            except FaceproofError as error:
                print_error(f"{outcome.media.path}: {error.message}", error.remedy)


def _is_ours(path: Path, evidence: Path) -> bool:
    """Whether it is a picture of the evidence that we wrote, which is no file that arrived."""
    return path.absolute().is_relative_to(evidence.absolute())


def cam(
    source: Annotated[str, typer.Argument(metavar="[N|rtsp://...|FILE]", help="Camera number, stream or file.")] = "0",
    window: Annotated[float, typer.Option(min=0.5, help="Seconds that a person's running score rests on.")] = 5.0,
    seconds: Annotated[
        float | None, typer.Option(min=0.1, help="Stop after so many seconds.", show_default="until Ctrl-C")
    ] = None,
    detector: DetectorName = None,
    device: Device = "auto",
    precision: Precision = "auto",
) -> None:
    """Show a running verdict for every person in front of a camera.

    Frames that arrive while one is being judged are dropped, so what is shown is never late. It is a help for whoever sits
    there, no evidence: record, and scan the file. Whoever leaves the picture and comes back is a new person here.
    """
    import time

    from faceproof.cli.outlets import nobody_reads
    from faceproof.cli.terminal import out_console
    from faceproof.evidence.live import judge_live, live_frames

    ready = options_of(detector, "auto", device, precision).load()
    frames = live_frames(source)
    started = time.monotonic()
    console = out_console()
    last = None
    with _live(console) as show:
        for state in judge_live(frames, ready, window=window):
            last = state
            show(state)
            if nobody_reads():
                break
            if seconds is not None and time.monotonic() - started >= seconds:
                break
    if last is not None:
        console.print(
            f"{last.judged} frames judged, {last.dropped} dropped, {last.fps:.1f} a second, "
            f"{last.latency * 1000:.0f} ms behind"
        )
        console.print("Running scores are no verdict: record, and scan the file.")


@contextmanager
def _live(console: Any) -> Iterator[Any]:
    """A table that refreshes on a terminal; elsewhere a line a second."""
    import time

    from rich.console import Group
    from rich.live import Live
    from rich.table import Table
    from rich.text import Text

    from faceproof.cli.terminal import COLOURS
    from faceproof.results import Verdict
    from faceproof.wording import HEADLINES, REASONS

    def said_of(person: LivePerson) -> str:
        unsure = person.verdict is Verdict.NOT_ASSESSED and person.reason is not None
        return REASONS[person.reason] if unsure and person.reason else HEADLINES[person.verdict]

    def table(state: LiveState) -> Group:
        grid = Table.grid(padding=(0, 2))
        for person in state.people:
            score = "–" if person.score is None else f"{person.score:.2f}"
            grid.add_row(f"person {person.track}", score, Text(said_of(person), style=COLOURS[person.verdict]))
        if not state.people:
            grid.add_row("nobody in view")
        pace = f"{state.fps:.1f} a second, {state.latency * 1000:.0f} ms behind, {state.dropped} dropped"
        return Group(grid, Text(pace, style="dim"))

    if console.is_terminal:
        with Live(console=console, auto_refresh=False) as view:
            yield lambda state: view.update(table(state), refresh=True)
        return
    said = -1.0

    def line(state: LiveState) -> None:
        nonlocal said
        if time.monotonic() - said >= 1:
            said = time.monotonic()
            people = "; ".join(
                f"person {p.track} {'–' if p.score is None else f'{p.score:.2f}'} {said_of(p).lower()}"
                for p in state.people
            )
            console.print(f"{state.time:.1f} s  {people or 'nobody in view'}  {state.fps:.1f} a second", soft_wrap=True)

    yield line
