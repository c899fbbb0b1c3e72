"""`faceproof ensemble`, `models`, `drift`, `labels`, `ab`, `fleet` and `benchmark-against`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from faceproof.cli import models, watching

if TYPE_CHECKING:
    from faceproof.batch import ScanOptions
    from faceproof.detectors.ensemble import EnsembleSpec

_ensemble = typer.Typer(no_args_is_help=True, help="Several detectors as one: look, check, fit.")
_fleet = typer.Typer(no_args_is_help=True, help="Scan a storage with workers on many machines.")


def register(app: typer.Typer) -> None:
    app.add_typer(_ensemble, name="ensemble")
    models.register(app)
    watching.register(app)
    app.add_typer(_fleet, name="fleet")
    app.command(name="benchmark-against")(benchmark_against)


@_ensemble.command("list")
def list_() -> None:
    """The installed ensembles and their members."""
    from faceproof.cli.terminal import out_console
    from faceproof.detectors.ensemble import list_ensembles

    for spec in list_ensembles():
        names = ", ".join(f"{member.name} × {member.weight:g}" for member in spec.members)
        out_console().print(f"{spec.name} {spec.version}  {spec.method}: {names}")


@_ensemble.command()
def check(file: Annotated[Path, typer.Argument(metavar="TOML", help="An ensemble's file.")]) -> None:
    """Read an ensemble, load its members and say who can score."""
    from faceproof.cli.terminal import out_console
    from faceproof.detectors.ensemble import load_ensemble

    loaded = load_ensemble(_spec(str(file)))
    for voice in loaded.voices:
        out_console().print(f"ok      {voice.name}, weight {voice.member.weight:g}")
    for name, why in loaded.absent.items():
        out_console().print(f"absent  {name}: {why}")
    if loaded.absent:
        raise typer.Exit(1)


def _spec(name: str) -> EnsembleSpec:
    from faceproof.detectors.ensemble import find_ensemble, read_ensemble
    from faceproof.errors import UnknownDetectorError

    if name.endswith(".toml"):
        return read_ensemble(Path(name))
    found = find_ensemble(name)
    if found is None:
        raise UnknownDetectorError(
            f"no ensemble is called {name!r}", remedy="`faceproof ensemble list` shows them; or name a TOML file."
        )
    return found


@_ensemble.command()
def fit(
    ensemble: Annotated[str, typer.Argument(metavar="ENSEMBLE", help="An ensemble's name or TOML file.")],
    manifest: Annotated[Path, typer.Argument(help="Files with labels: a manifest CSV or a dataset's folder.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="TOML", help="Where the fitted ensemble goes.")],
    name: Annotated[str | None, typer.Option(help="The fitted ensemble's name; the old one by default.")] = None,
    split: Annotated[str | None, typer.Option(help="Only rows of this split.")] = None,
    frames: Annotated[str, typer.Option(metavar="S", help="auto, a count, every:K or all.")] = "auto",
) -> None:
    """Learn the members' weights by logistic regression on files whose truth is known."""
    from faceproof.batch import ScanOptions, scan_one
    from faceproof.cli.terminal import out_console
    from faceproof.detectors.ensemble import load_ensemble
    from faceproof.errors import DatasetError
    from faceproof.evaluation.runs import open_manifest
    from faceproof.ops.stacking import ensemble_toml, fit_stacked, stacked_spec
    from faceproof.result_files import write_whole
    from faceproof.results import Report

    plain = _spec(ensemble)
    if plain.stacked is not None:
        plain = plain.model_copy(update={"method": "weighted_average", "stacked": None})
    loaded = load_ensemble(plain)
    if loaded.absent:
        raise DatasetError(f"members cannot score: {', '.join(loaded.absent)}", remedy="Install their weights first.")
    files = open_manifest(manifest).only(split=split)
    scores: dict[str, list[float | None]] = {voice.name: [] for voice in loaded.voices}
    labels, groups = [], []
    for entry in files.entries:
        outcome = scan_one(entry.path, loaded, ScanOptions(frames=frames))
        if not isinstance(outcome, Report) or outcome.ensemble is None:
            continue
        for member in outcome.ensemble.members:
            scores[member.name].append(member.score)
        labels.append(entry.label)
        groups.append(entry.source_video or str(entry.path))
    found = fit_stacked(scores, labels, groups, data=manifest.name)
    write_whole(out, ensemble_toml(stacked_spec(plain, found.model, name=name)))
    console = out_console()
    for member_name, auroc in found.member_auroc.items():
        console.print(f"{auroc:.3f}  {member_name}, weight {found.model.coefficients[member_name]:+.3f}")
    console.print(f"{found.auroc:.3f}  together (AUROC on {found.files} files, cross-validated by source)")
    if found.left_out:
        console.print(f"{found.left_out} files were left out: not every member has an opinion on them")
    console.print(f"Written: {out}")


@_fleet.command()
def scan(
    url: Annotated[str, typer.Argument(metavar="URL", help="s3://bucket/folder, gs://…, or a shared folder.")],
    broker: Annotated[str, typer.Option(metavar="URL", help="redis://host:port/0, which the workers listen on.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help=".parquet, .csv or .jsonl.")],
    detector: Annotated[str | None, typer.Option("--detector", "-d", metavar="NAME")] = None,
    frames: Annotated[str, typer.Option(metavar="S", help="auto, a count, every:K or all.")] = "auto",
    ahead: Annotated[int, typer.Option(min=1, help="Files handed out at a time.")] = 256,
    lease: Annotated[
        float, typer.Option(min=1, help="Seconds until a vanished worker's file is handed out again.")
    ] = 900,
) -> None:
    """Hand the files out, take the answers in, and write one row a file. Stopped at any point, it goes on."""
    from faceproof.batch import ScanOptions

    scan_with_fleet(url, broker, out, ScanOptions(detector=detector, frames=frames), ahead=ahead, lease=lease)


def scan_with_fleet(
    url: str, broker: str, out: Path, options: ScanOptions, *, ahead: int = 256, lease: float = 900
) -> None:
    """The verb behind `fleet scan` and `scan --broker`."""
    from faceproof.cli.terminal import error_console, out_console
    from faceproof.ops.fleet import scan_fleet

    console = error_console()

    def show(done: int, total: int) -> None:
        console.print(f"\r{done} of {total}", end="")

    on_row = show if console.is_terminal else None
    found = scan_fleet(url, broker, out, options, ahead=ahead, lease=lease, on_row=on_row)
    for host, numbers in sorted(found["hosts"].items()):
        out_console().print(f"{numbers['files_per_second']:8.2f} files/s  {host} ({numbers['files']:.0f} files)")
    out_console().print(
        f"{found['files']} files, {found['failed']} failed, in {found['seconds']:.1f} s. Written: {out}"
    )
    if found["failed"]:
        raise typer.Exit(1)


@_fleet.command()
def worker(
    broker: Annotated[str, typer.Option(metavar="URL", help="redis://host:port/0.")],
    processes: Annotated[int, typer.Option(min=1, help="Files scanned at the same time.")] = 1,
    lease: Annotated[float, typer.Option(min=1, help="As the coordinator's.")] = 900,
) -> None:
    """Scan what coordinators hand out, until told to stop."""
    from faceproof.ops.fleet import work

    work(broker, processes=processes, lease=lease)


def benchmark_against(
    baseline: Annotated[str, typer.Argument(metavar="NAME", help="A detector, or an architecture such as xception.")],
    detector: Annotated[str | None, typer.Option("--detector", "-d", metavar="NAME")] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Faces timed in each round.")] = 20,
    threads: Annotated[int | None, typer.Option(min=1, help="Cores; all by default.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Everything measured, as JSON.")] = False,
) -> None:
    """Measure a detector and a baseline side by side on this machine: time, memory, size."""
    from faceproof.cli.terminal import out_console
    from faceproof.ops.benchmark import benchmark_against as measure

    found = measure(baseline, detector, repeats=repeats, threads=threads)
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    console = out_console()
    for one in (found["model"], found["baseline"]):
        console.print(
            f"{one['inference_time'] * 1000:8.1f} ms a face  {one['throughput']:7.1f} faces/s  "
            f"{one['memory'] / 1e6:6.0f} MB memory  {one['file_size'] / 1e6:6.1f} MB file  {one['name']} "
            f"({one['input_size']} px, {one['parameters'] / 1e6:.1f} M parameters)"
        )
    times = found["comparison"]
    console.print(
        f"{times['speed_improvement']:.2f}× faster, {times['memory_efficiency']:.2f}× less memory, "
        f"{times['size_ratio']:.2f}× smaller file"
    )
